"""Training of the synthetic-image detector: what it reads, pairs and learns from."""

import numpy as np
import pandas as pd
import pytest
import torch

from kryptonite.core.crops import Crops, CropTemplate, InputSpec
from kryptonite.liveness.config import LivenessConfig
from kryptonite.liveness.detector import Detector
from kryptonite.liveness.train import DetectorModule, LivenessInputs, train_detector
from kryptonite.nn.train.config import AugmentConfig, FitConfig
from kryptonite.nn.train.datasets import Batch
from kryptonite.nn.train.job import TrainingJob
from kryptonite.nn.weights import BackboneConfig, build_timm


class Certain(torch.nn.Module):
    """Calls every crop synthetic, with log-odds of 5."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.tensor(5.0))

    def forward(self, images):
        return self.bias.expand(len(images), 1)


def test_detector_module_takes_the_class_from_the_sample(monkeypatch):
    network = Certain()
    module = DetectorModule(
        LivenessConfig(augment=AugmentConfig(0, 0, 0, 0, 0)), network, InputSpec(CropTemplate(32))
    )
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    crops, same = torch.zeros((2, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 0])

    def step(*synthetic):
        network.zero_grad()
        loss = module.training_step(Batch(crops, same, torch.tensor(synthetic), same), 0)
        loss.backward()
        return float(loss.detach()), float(network.bias.grad)

    right, wrong = np.log1p(np.exp(-5.0)), np.log1p(np.exp(5.0))
    assert step(True, True) == pytest.approx((right, -1 / (1 + np.exp(5))), rel=1e-3)
    assert step(False, True)[0] == pytest.approx((right + wrong) / 2, rel=1e-3)
    assert step(False, False) == pytest.approx((wrong, 1 / (1 + np.exp(-5))), rel=1e-3)


@pytest.mark.parametrize("paired", [True, False])
def test_train_detector_reads_and_pairs_crops_as_configured(paired, tmp_path, monkeypatch):
    """No `k_` crop is read in training when forgeries replace them all; otherwise every one is."""
    generator = np.random.default_rng(0)
    people = pd.DataFrame(
        [(f"p{n}", f"{'kg'[genuine]}{n}", not genuine) for n in range(4) for genuine in (1, 0)]
    )
    people.columns = ["label", "key", "is_synthetic"]
    people["source"] = 0
    noise = {key: generator.integers(0, 255, (32, 32, 3), dtype=np.uint8) for key in people["key"]}
    val = people.assign(key="v" + people["key"])
    seen, step = [], DetectorModule.training_step

    def spy(module, batch, index):
        seen.extend(zip(*(part.view(-1, 2).tolist() for part in batch[1:]), strict=True))
        return step(module, batch, index)

    monkeypatch.setattr(DetectorModule, "training_step", spy)

    def train(name, forgeries):
        """Trains and returns the keys of the training crops read."""
        keys = []

        def read(key):
            keys.append(key)
            return noise[key.removeprefix("v")]

        config = LivenessConfig(
            BackboneConfig("test_efficientnet", "scratch"),
            CropTemplate(32, 0.2),
            pairs_per_batch=4,
            paired=paired,
            forgeries=forgeries,
            fit=FitConfig(epochs=2, workers=0, accelerator="cpu"),
        )
        seen.clear()
        job = TrainingJob(read, tmp_path / name, name)
        train_detector(config, LivenessInputs.select(config, people, val), job)
        return [key for key in keys if not key.startswith("v")]

    plain = train("plain", 0.0)
    assert {key for key in plain if key[0] == "k"} == {"k0", "k1", "k2", "k3"}
    assert len(seen) == 8
    for identity, synthetic, rows in seen:
        assert identity == [row // 2 for row in rows]
        assert synthetic == [False, True]
    assert all(a == b for (a, b), *_ in seen) == paired
    assert not [key for key in train("forged", 1.0) if key[0] == "k"]
    assert len(seen) == 8 and all(synthetic == [False, True] for _, synthetic, _ in seen)
    assert 0 < sum(key[0] == "k" for key in train("half", 0.5)) < 8


def test_liveness_inputs_fingerprint_covers_both_tables_and_the_settings():
    table = pd.DataFrame(
        [("ann", "a0", False, 0), ("ann", "k0", True, 0)],
        columns=["label", "key", "is_synthetic", "source"],
    )
    changed = table.assign(key=["a1", "k0"])
    config = LivenessConfig()
    prints = {
        LivenessInputs.select(settings, train, val).fingerprint(settings, faces)
        for train, val, settings, faces in (
            (table, table, config, {}),
            (changed, table, config, {}),
            (table, changed, config, {}),
            (table, table, LivenessConfig(seed=1), {}),
            (table, table, config, {"min_face": 1}),
        )
    }
    assert len(prints) == 5


def test_detector_module_scores_as_detector_does():
    """Two normalisations or channel orders, in training and in scoring, would show here."""
    torch.manual_seed(0)
    made = build_timm(BackboneConfig("test_efficientnet", "scratch"), 1)
    template = CropTemplate(32, 0.2)
    spec = InputSpec(template, "RGB", (0.2, 0.4, 0.6), (0.1, 0.2, 0.3))
    detector = Detector(made.network, made.blueprint, spec, "scratch", "cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    module = DetectorModule(LivenessConfig(), detector.network, spec).eval()
    with torch.inference_mode():
        images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float() / 255
        trained = module.logits(images).numpy()
    assert detector.log_odds(Crops(pixels, template)) == pytest.approx(trained, abs=1e-5)
