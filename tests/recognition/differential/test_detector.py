"""Feature maps of all backbones, pair features against naive loops, and the detector on them."""

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from safetensors.torch import save_file

from kryptonite.core.crops import Crops, CropTemplate, InputSpec
from kryptonite.core.errors import DataError, WeightsError
from kryptonite.nn.weights import BackboneConfig
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.config import ComparisonConfig
from kryptonite.recognition.differential.comparer import Comparer
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.differential.features import (
    FeatureBatch,
    feature_count,
    intermediates,
)
from kryptonite.recognition.differential.maps import CELLS, FeatureMaps
from kryptonite.recognition.recogniser import Recogniser

pytestmark = pytest.mark.slow

SMALL = ComparisonConfig(networks=2, hidden=8, epochs=400, decay=0.1)


def random_maps(count=40, seed=0, channels=(3, 5)):
    generator = np.random.default_rng(seed)
    embeddings = generator.standard_normal((count, 6)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    pooled = generator.standard_normal((count, 2 * sum(channels))).astype(np.float16)
    return FeatureMaps(
        embeddings,
        pooled,
        generator.standard_normal((count, 4, CELLS, CELLS)).astype(np.float16),
        channels,
    )


def paired(count, seed):
    """Pairs of nearly equal photos; every second pair differs in the middle of the face."""
    generator = np.random.default_rng(seed)
    first = random_maps(count, seed)
    cells = first.cells + generator.normal(0, 0.5, first.cells.shape)
    forged = np.arange(count) % 2 == 1
    cells[forged, :, 2:5, 2:5] = generator.standard_normal((forged.sum(), 4, 3, 3))
    other = FeatureMaps(first.embeddings, first.pooled, cells.astype(np.float16), first.channels)
    return (
        FeatureMaps.joined([first, other]),
        np.arange(count),
        np.arange(count, 2 * count),
        ~forged,
    )


def fit(maps, *pairs):
    """A detector trained on pairs of rows, which reads the features of the run's recogniser."""
    return DifferentialDetector(maps.channels, Comparer.fit(SMALL, maps, *pairs))


def test_differential_detector_finds_local_differences_and_loads_to_the_bit(tmp_path):
    detector = fit(*paired(400, 0))
    maps, a, b, bona_fide = paired(200, 1)
    score = detector.score(maps, a, b)
    assert score.dtype == np.float32 and ((score > 0) == bona_fide).mean() > 0.95
    # The order within a pair does not matter.
    assert np.allclose(detector.score(maps, b, a), score, atol=1e-5)
    detector.save(tmp_path)
    assert np.array_equal(DifferentialDetector.load(tmp_path).score(maps, a, b), score)
    assert detector.score(maps, a[:0], b[:0]).shape == (0,)


def test_differential_detector_drops_units_only_in_training_mode():
    maps, a, b, bona_fide = paired(40, 0)
    detector = fit(maps, a, b, bona_fide)
    first = detector.score(maps, a, b)
    assert np.array_equal(detector.score(maps, a, b), first)
    detector.comparer.train()
    assert not np.array_equal(detector.score(maps, a, b), first)


def test_differential_detector_features_equal_naive_loop():
    maps = random_maps()
    a, b = np.array([0, 3, 5]), np.array([1, 3, 9])
    comparer = Comparer.fit(
        SMALL, maps, *np.array([[0, 1, 2, 3], [4, 5, 6, 7]]), np.array([True, False, True, False])
    )

    def standard(values):
        values = values.astype(np.float64)
        return (values - values.mean(0)) / values.std(0)

    def cosine(one, other):
        return one @ other / np.linalg.norm(one) / np.linalg.norm(other)

    pooled, cells = standard(maps.pooled), standard(maps.cells)
    features = comparer.features(FeatureBatch.from_maps(maps, a), FeatureBatch.from_maps(maps, b))
    assert features.shape == (3, feature_count(maps.channels))
    for row, (one, other) in enumerate(zip(a, b, strict=True)):
        expected = [maps.embeddings[one] @ maps.embeddings[other]]
        expected += [
            cosine(pooled[one, part], pooled[other, part])
            for part in (slice(0, 3), slice(3, 6), slice(6, 11), slice(11, 16))
        ]
        for y in range(CELLS):
            for x in range((CELLS + 1) // 2):
                places = [(y, x), (y, CELLS - 1 - x)]
                expected.append(
                    np.mean([cosine(cells[one, :, i, j], cells[other, :, i, j]) for i, j in places])
                )
        assert features[row].numpy() == pytest.approx(expected, abs=2e-3)
    # A photo agrees with itself everywhere.
    assert features[1].numpy() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "side", "outputs"),
    [
        ("test_efficientnet", 64, 16),
        ("edgenext_xx_small", 112, 32),
        ("test_vit", 160, 16),
        ("iresnet18", 112, 16),
    ],
)
def test_recogniser_extracts_maps_with_the_same_embedding_from_any_backbone(name, side, outputs):
    torch.manual_seed(0)
    made = build_backbone(BackboneConfig(name, "scratch"), outputs)
    recogniser = Recogniser(
        made.network, made.blueprint, InputSpec(CropTemplate(side)), "scratch", "cpu"
    )
    crops = Crops(
        np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8),
        CropTemplate(side),
    )
    maps = recogniser.extract_maps(crops)
    assert np.allclose(maps.embeddings, recogniser.embed(crops), atol=1e-5)
    assert maps.pooled.shape == (3, 2 * sum(maps.channels)) and len(maps.channels) >= 3
    assert maps.cells.shape[2:] == (CELLS, CELLS) and np.isfinite(maps.pooled).all()


def test_intermediates_returns_all_stages_when_network_is_inception():
    network = InceptionResnetV1(pretrained=None).eval()
    with torch.inference_mode():
        output, maps = intermediates(network, torch.zeros(1, 3, 112, 112))
    assert output.shape == (1, 512) and [stage.shape[1] for stage in maps] == [256, 896, 1792, 1792]
    assert not network.repeat_1._forward_hooks  # all hooks are removed


def test_differential_detector_raises_typed_errors_when_inputs_or_files_are_wrong(tmp_path):
    maps, a, b, bona_fide = paired(40, 0)
    with pytest.raises(DataError, match="pairs of genuine photos and pairs with"):
        fit(maps, a, b, np.ones(40, bool))
    detector = fit(maps, a, b, bona_fide)
    with pytest.raises(DataError, match="the recogniser has"):
        detector.score(random_maps(channels=(4, 4)), a[:2], b[:2])
    detector.save(tmp_path)
    state = detector.comparer.state_dict()
    state.pop("bias_1")
    save_file(state, tmp_path / "comparer.safetensors")
    with pytest.raises(WeightsError, match="bias_1"):
        DifferentialDetector.load(tmp_path)
    (tmp_path / "comparer.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="no differential detector"):
        DifferentialDetector.load(tmp_path)
