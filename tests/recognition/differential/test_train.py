"""Fine-tuning the differential detector: initial scores, pairs compared, gradients, files."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from kryptonite.core.crops import Crops, CropTemplate, InputSpec
from kryptonite.nn.train.config import AugmentConfig, FitConfig
from kryptonite.nn.train.datasets import Batch
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.config import ComparisonConfig
from kryptonite.recognition.differential.comparer import Comparer
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.differential.features import FeatureBatch
from kryptonite.recognition.differential.train import DifferentialInputs, DifferentialModule
from kryptonite.recognition.pairs import ValidationPairs
from kryptonite.recognition.recogniser import Recogniser
from tests.tiny import BACKBONE

IDENTITY = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 3])
SYNTHETIC = np.array([0, 0, 0, 1, 1, 0, 0, 1, 0, 1], bool)
NO_AUGMENT = AugmentConfig(0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def parts():
    """A recogniser, a detector on its features, twenty crops, and the module that tunes both."""
    torch.manual_seed(0)
    made = build_backbone(BACKBONE, 16)
    recogniser = Recogniser(
        made.network, made.blueprint, InputSpec(CropTemplate(32)), "scratch", "cpu"
    )
    crops = Crops(
        np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), CropTemplate(32)
    )
    rows = np.arange(10), np.arange(10, 20)
    mated = np.arange(10) % 2 == 0
    comparer = Comparer.fit(
        ComparisonConfig(networks=2, hidden=4, epochs=3),
        recogniser.extract_maps(crops),
        *rows,
        mated,
    )
    detector = DifferentialDetector(recogniser.channels, comparer)
    config = ComparisonConfig(networks=2, hidden=4, augment=NO_AUGMENT)
    module = DifferentialModule(
        config, recogniser, comparer, ValidationPairs(np.stack(rows, 1), mated)
    )
    module.log = lambda *_, **__: None
    return recogniser, detector, crops, module


def as_batch(crops, rows):
    return Batch(
        torch.from_numpy(crops.pixels[: len(rows)].transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(IDENTITY[rows]),
        torch.from_numpy(SYNTHETIC[rows]),
        torch.tensor(rows),
    )


def test_differential_module_starts_with_the_detectors_scores(parts):
    recogniser, detector, crops, module = parts
    module.eval()
    rows = np.arange(10), np.arange(10, 20)
    expected = detector.score(recogniser.extract_maps(crops), *rows)
    with torch.inference_mode():
        features = module.extract(torch.from_numpy(crops.pixels).permute(0, 3, 1, 2).float() / 255)
        logits = module.comparer(*(features.select(torch.from_numpy(side)) for side in rows))
    # Scoring reads cells in half precision.
    assert logits.numpy() == pytest.approx(expected, abs=0.02)


def test_differential_module_gives_every_weight_a_gradient_and_leaves_detector_alone(parts):
    _, detector, crops, module = parts
    module.train()
    module.training_step(as_batch(crops, list(range(10))), 0).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    comparer = detector.comparer
    assert all(parameter.grad is None for parameter in comparer.parameters())
    assert module.comparer.training and not comparer.training


@pytest.mark.parametrize("rows", [list(range(10)), [0, 0, 1, 3], [8, 0, 5]])
def test_differential_module_compares_pairs_of_naive_loop_with_equal_class_weights(
    parts, rows, monkeypatch
):
    *_, crops, module = parts
    expected = []
    for one in range(len(rows)):
        for other in range(one + 1, len(rows)):
            a, b = rows[one], rows[other]
            if a != b and IDENTITY[a] == IDENTITY[b] and not (SYNTHETIC[a] and SYNTHETIC[b]):
                expected.append((one, other))
    compared = []

    def undecided(one: FeatureBatch, other: FeatureBatch) -> torch.Tensor:
        compared.extend(
            zip(one.embeddings[:, 0].tolist(), other.embeddings[:, 0].tolist(), strict=True)
        )
        return torch.zeros(len(one.embeddings))

    places = torch.arange(len(rows)).float()[:, None]
    monkeypatch.setattr(module, "extract", lambda _: FeatureBatch(places, places, places))
    monkeypatch.setattr(module.comparer, "forward", undecided)
    loss = module.training_step(as_batch(crops, rows), 0)
    assert compared == expected
    classes = {bool(SYNTHETIC[rows[one]] or SYNTHETIC[rows[other]]) for one, other in expected}
    # A batch without pairs has a loss of 0, not NaN.
    assert float(loss) == pytest.approx(0.5 * math.log(2) * len(classes))


def test_differential_detector_saves_and_loads_its_backbone(parts, tmp_path):
    recogniser, detector, crops, _ = parts
    torch.manual_seed(1)
    made = build_backbone(BACKBONE, 16)
    own = Recogniser(made.network, made.blueprint, recogniser.spec, "tuned", "cpu")
    DifferentialDetector(detector.channels, detector.comparer, own).save(tmp_path)
    loaded = DifferentialDetector.load(tmp_path, "cpu")
    assert np.array_equal(loaded.backbone.embed(crops), own.embed(crops))
    assert loaded.backbone.source == "tuned"
    detector.save(tmp_path / "plain")
    assert DifferentialDetector.load(tmp_path / "plain").backbone is None


def tables():
    """Training images, validation images, and one validation pair of every kind."""
    train = pd.DataFrame(
        [("ann", "a0", False), ("ann", "k0", True), ("bob", "b0", False)],
        columns=["label", "key", "is_synthetic"],
    )
    val = pd.DataFrame(
        [("cid", "c0", False), ("cid", "c1", False), ("cid", "k1", True), ("dan", "d0", False)],
        columns=["label", "key", "is_synthetic"],
    )
    val = val.assign(path=val["key"] + ".jpg")
    pairs = pd.DataFrame(
        [
            ("c0.jpg", "c1.jpg", "cid", "cid", "same"),
            ("c0.jpg", "d0.jpg", "cid", "dan", "different"),
            ("c0.jpg", "k1.jpg", "cid", "cid", "synthetic"),
        ],
        columns=["path_a", "path_b", "label_a", "label_b", "kind"],
    )
    return train, val, pairs


def test_differential_inputs_select_mated_and_synthetic_pairs_when_fine_tuning():
    train, val, pairs = tables()
    inputs = DifferentialInputs.select(ComparisonConfig(fit=FitConfig(epochs=1)), train, val, pairs)
    assert inputs.images["identity"].tolist() == [0, 0, 1]
    assert inputs.val_pairs["kind"].tolist() == ["same", "synthetic"]
    assert inputs.val_images["key"].tolist() == ["c0", "c1", "k1"]


def test_differential_inputs_select_no_pairs_when_not_fine_tuning(tmp_path):
    train, val, pairs = tables()
    for name in ("model.safetensors", "model.json"):
        (tmp_path / name).write_text(name)
    config = ComparisonConfig()
    inputs = DifferentialInputs.select(config, train, val, pairs)
    assert inputs.val_pairs.empty and inputs.val_images.empty
    other = DifferentialInputs.select(config, train, val, pairs[:1])
    assert inputs.fingerprint(config, {}, tmp_path) == other.fingerprint(config, {}, tmp_path)
