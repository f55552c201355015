"""Tuning the comparer: it starts as what it is, compares the right pairs, and every weight learns."""

import math

import numpy as np
import pytest
import torch

from kryptonite.core.crops import Crops, CropTemplate, InputSpec
from kryptonite.nn.train.config import AugmentConfig
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.config import ComparisonConfig
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.differential.features import FeatureBatch
from kryptonite.recognition.differential.train import DifferentialModule
from kryptonite.recognition.recogniser import Recogniser
from tests.tiny import BACKBONE

PERSON = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 3])
SYNTHETIC = np.array([0, 0, 0, 1, 1, 0, 0, 1, 0, 1], bool)
STILL = AugmentConfig(0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def parts():
    """A recogniser, a comparer on it, twenty crops, and the module that tunes both."""
    torch.manual_seed(0)
    made = build_backbone(BACKBONE, 16)
    recogniser = Recogniser(
        made.network, made.blueprint, InputSpec(CropTemplate(32)), "scratch", "cpu"
    )
    crops = Crops(
        np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), CropTemplate(32)
    )
    rows = np.arange(10), np.arange(10, 20)
    comparer = DifferentialDetector.fit(
        ComparisonConfig(networks=2, hidden=4, epochs=3),
        recogniser.extract_maps(crops),
        *rows,
        np.arange(10) % 2 == 0,
    )
    config = ComparisonConfig(networks=2, hidden=4, augment=STILL)
    module = DifferentialModule(
        config, recogniser, comparer, PERSON, SYNTHETIC, np.stack(rows, 1), np.arange(10) % 2 == 0
    )
    module.log = lambda *_, **__: None
    return recogniser, comparer, crops, module


def as_batch(crops, rows):
    return torch.from_numpy(crops.pixels[: len(rows)].transpose(0, 3, 1, 2).copy()), torch.tensor(
        rows
    )


def test_it_starts_as_the_comparer_it_is_given(parts):
    recogniser, comparer, crops, module = parts
    module.eval()
    rows = np.arange(10), np.arange(10, 20)
    expected = comparer(recogniser.extract_maps(crops), *rows)
    with torch.inference_mode():
        seen = module.view(torch.from_numpy(crops.pixels).permute(0, 3, 1, 2).float() / 255)
        said = module.logits(*(seen.rows(torch.from_numpy(side)) for side in rows))
    assert said.numpy() == pytest.approx(
        expected, abs=0.02
    )  # the comparer reads cells in half precision


def test_every_weight_learns(parts):
    *_, crops, module = parts
    module.train()
    module.training_step(as_batch(crops, list(range(10))), 0).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("rows", [list(range(10)), [0, 0, 1, 3], [8, 0, 5]])
def test_pairs_are_those_of_a_naive_loop_and_classes_weigh_alike(parts, rows, monkeypatch):
    *_, crops, module = parts
    expected = []
    for one in range(len(rows)):
        for other in range(one + 1, len(rows)):
            a, b = rows[one], rows[other]
            if a != b and PERSON[a] == PERSON[b] and not (SYNTHETIC[a] and SYNTHETIC[b]):
                expected.append((one, other))
    compared = []

    def undecided(one: FeatureBatch, other: FeatureBatch) -> torch.Tensor:
        compared.extend(
            zip(one.embeddings[:, 0].tolist(), other.embeddings[:, 0].tolist(), strict=True)
        )
        return torch.zeros(len(one.embeddings))

    places = torch.arange(len(rows)).float()[:, None]
    monkeypatch.setattr(module, "view", lambda _: FeatureBatch(places, places, places))
    monkeypatch.setattr(module, "logits", undecided)
    loss = module.training_step(as_batch(crops, rows), 0)
    assert compared == expected
    classes = {bool(SYNTHETIC[rows[one]] or SYNTHETIC[rows[other]]) for one, other in expected}
    assert float(loss) == pytest.approx(
        0.5 * math.log(2) * len(classes)
    )  # a batch without pairs has nothing to say, and no NaN


def test_a_network_of_its_own_is_saved_and_loaded_with_it(parts, tmp_path):
    recogniser, comparer, crops, _ = parts
    torch.manual_seed(1)
    made = build_backbone(BACKBONE, 16)
    own = Recogniser(made.network, made.blueprint, recogniser.spec, "tuned", "cpu")
    DifferentialDetector(comparer.tensors, comparer.channels, own).save(tmp_path)
    loaded = DifferentialDetector.load(tmp_path, "cpu")
    assert (
        np.array_equal(loaded.network.embed(crops), own.embed(crops))
        and loaded.network.source == "tuned"
    )
    comparer.save(tmp_path / "plain")
    assert DifferentialDetector.load(tmp_path / "plain").network is None
