"""The comparer: what recognisers see on the way, cosine_features against naive loops, and that it learns to tell what differs where."""

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1

from kryptonite.core.crops import Crops, CropTemplate, InputSpec
from kryptonite.core.errors import DataError, WeightsError
from kryptonite.nn.weights import BackboneConfig
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.config import ComparisonConfig
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.differential.features import CELLS, FeatureMaps, intermediates
from kryptonite.recognition.recogniser import Recogniser

SMALL = ComparisonConfig(networks=2, hidden=8, epochs=400, decay=0.1)


def seen(count=40, seed=0, channels=(3, 5)):
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
    """Pairs of nearly equal photos, of which every second differs in the middle of the face."""
    generator = np.random.default_rng(seed)
    first = seen(count, seed)
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


def test_it_finds_where_photos_differ_saves_and_loads_to_the_bit(tmp_path):
    comparer = DifferentialDetector.fit(SMALL, *paired(400, 0))
    photos, a, b, genuine = paired(200, 1)
    score = comparer(photos, a, b)
    assert score.dtype == np.float32 and ((score > 0) == genuine).mean() > 0.95
    assert np.allclose(
        comparer(photos, b, a), score, atol=1e-5
    )  # which photo comes first does not matter
    comparer.save(tmp_path)
    assert np.array_equal(DifferentialDetector.load(tmp_path)(photos, a, b), score)
    assert comparer(photos, a[:0], b[:0]).shape == (0,)


def test_agreements_are_those_of_a_naive_loop():
    photos = seen()
    a, b = np.array([0, 3, 5]), np.array([1, 3, 9])
    comparer = DifferentialDetector.fit(
        SMALL, photos, *np.array([[0, 1, 2, 3], [4, 5, 6, 7]]), np.array([True, False, True, False])
    )

    def standard(values):
        values = values.astype(np.float64)
        return (values - values.mean(0)) / values.std(0)

    def cosine(one, other):
        return one @ other / np.linalg.norm(one) / np.linalg.norm(other)

    pooled, cells = standard(photos.pooled), standard(photos.cells)
    for row, (one, other) in enumerate(zip(a, b, strict=True)):
        expected = [photos.embeddings[one] @ photos.embeddings[other]]
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
        assert comparer.features(photos, a, b)[row] == pytest.approx(expected, abs=2e-3)
    assert comparer.features(photos, a, b)[1] == pytest.approx(
        1.0, abs=1e-5
    )  # a photo agrees with itself everywhere


@pytest.mark.parametrize(
    ("name", "side", "outputs"),
    [
        ("test_efficientnet", 64, 16),
        ("edgenext_xx_small", 112, 32),
        ("test_vit", 160, 16),
        ("iresnet18", 112, 16),
    ],
)
def test_every_kind_of_backbone_shows_its_stages_and_the_same_embedding(name, side, outputs):
    torch.manual_seed(0)
    made = build_backbone(BackboneConfig(name, "scratch"), outputs)
    recogniser = Recogniser(
        made.network, made.blueprint, InputSpec(CropTemplate(side)), "scratch", "cpu"
    )
    crops = Crops(
        np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8),
        CropTemplate(side),
    )
    perception = recogniser.extract_maps(crops)
    assert np.allclose(perception.embeddings, recogniser.embed(crops), atol=1e-5)
    assert (
        perception.pooled.shape == (3, 2 * sum(perception.channels))
        and len(perception.channels) >= 3
    )
    assert perception.cells.shape[2:] == (CELLS, CELLS) and np.isfinite(perception.pooled).all()


def test_inception_shows_its_stages_too():
    network = InceptionResnetV1(pretrained=None).eval()
    with torch.inference_mode():
        output, maps = intermediates(network, torch.zeros(1, 3, 112, 112))
    assert output.shape == (1, 512) and [stage.shape[1] for stage in maps] == [256, 896, 1792, 1792]
    assert not network.repeat_1._forward_hooks  # nothing stays behind


def test_one_class_another_recogniser_and_damaged_files_are_typed_errors(tmp_path):
    photos, a, b, genuine = paired(40, 0)
    with pytest.raises(DataError, match="pairs of genuine photos and pairs with"):
        DifferentialDetector.fit(SMALL, photos, a, b, np.ones(40, bool))
    comparer = DifferentialDetector.fit(SMALL, photos, a, b, genuine)
    with pytest.raises(DataError, match="the recogniser has"):
        comparer(seen(channels=(4, 4)), a[:2], b[:2])
    comparer.save(tmp_path)
    (tmp_path / "comparer.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="no comparer"):
        DifferentialDetector.load(tmp_path)
