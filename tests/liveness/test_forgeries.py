"""Forgeries made on the fly: what they look like, what the loss takes them for, and that they repeat."""

import itertools

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from kryptonite.core.crops import CropTemplate, InputSpec
from kryptonite.core.errors import ConfigError, DataError
from kryptonite.data.forgery import FORGERIES, face_mask, self_blend
from kryptonite.detection.warp import estimate_similarity, template_points, warp
from kryptonite.liveness.config import LivenessConfig
from kryptonite.liveness.forgeries import ForgedCrops, targets
from kryptonite.liveness.sampler import PairedBatches
from kryptonite.liveness.train import DetectorModule, train_detector
from kryptonite.nn.train.config import AugmentConfig, FitConfig
from kryptonite.nn.weights import BackboneConfig

TEMPLATE = CropTemplate(112, 0.2)
POINTS = np.array(
    [[58.0, 66], [102, 64], [80, 88], [62, 110], [100, 109]]
)  # about where a generated face's landmarks lie
PERSON = np.array(["ann", "ann", "bob", "bob"])
SYNTHETIC = np.array([False, True, False, True])  # rows 0 and 2 are genuine
ROWS = len(PERSON)


@pytest.fixture(scope="module")
def crops(faces):
    matrix = estimate_similarity(POINTS, template_points(TEMPLATE))
    return {str(row): warp(face, matrix, TEMPLATE.size) for row, face in enumerate(faces[:ROWS])}


@pytest.fixture
def forged(crops):
    """Makes the data set of four crops with the given kinds of forgery."""
    return lambda *kinds: ForgedCrops(
        list(crops), crops.__getitem__, PERSON, SYNTHETIC, TEMPLATE, kinds
    )


def change(a, b):
    return np.abs(a.astype(int) - b).mean(2)


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forgery_differs_from_its_crop_inside_the_face_and_equals_it_at_the_rim(
    kind, forged, crops
):
    inside = face_mask(template_points(TEMPLATE), 112, 112, 0.7) > 0
    outside = face_mask(template_points(TEMPLATE), 112, 112, 1.6) == 0
    around = crops[
        "2" if kind == "face_swap" else "0"
    ]  # a swap puts the face of row 0 into the only other person's crop
    differences = []
    for draw in range(1, 9):
        pixels = forged(kind).pixels(ROWS * draw)
        assert pixels.shape == (112, 112, 3) and pixels.dtype == np.uint8
        differences.append(change(pixels, around)[inside].mean())
        assert change(pixels, around)[outside].mean() < 0.3
    assert min(differences) > 0.5 and np.mean(differences) > 2


def test_a_swap_shows_its_own_person_in_anothers_crop(forged, crops):
    pixels = forged("face_swap").pixels(ROWS + 0)
    inside = face_mask(template_points(TEMPLATE), 112, 112, 0.7) > 0

    def likeness(other):
        return np.corrcoef(pixels.mean(2)[inside], crops[other].mean(2)[inside])[0, 1]

    assert likeness("0") > likeness("2")


def test_a_row_is_read_as_it_is(forged, crops):
    for row in range(ROWS):
        pixels, number = forged("self_blend")[row]
        assert number == row and np.array_equal(pixels.permute(1, 2, 0).numpy(), crops[str(row)])


def test_a_number_always_gives_the_same_forgery_and_another_number_another(forged):
    first, again = forged("self_blend", "resynthesis"), forged("self_blend", "resynthesis")
    numbers = [2 + ROWS * draw for draw in range(1, 13)]
    once, twice = (
        [first.pixels(number) for number in numbers],
        [again.pixels(number) for number in reversed(numbers)][::-1],
    )
    assert all(np.array_equal(a, b) for a, b in zip(once, twice, strict=True))
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations(once, 2))


def test_all_kinds_asked_for_come_up(crops, monkeypatch):
    made = []
    for name in ("self_blend", "face_swap", "resynthesise"):
        monkeypatch.setattr(
            f"kryptonite.liveness.forgeries.{name}",
            lambda photo, *rest, name=name, **named: made.append(name) or photo,
        )

    def kinds(*asked):
        made.clear()
        data = ForgedCrops(list(crops), crops.__getitem__, PERSON, SYNTHETIC, TEMPLATE, asked)
        for draw in range(1, 31):
            data.pixels(ROWS * draw)
        return set(made)

    assert kinds(*FORGERIES) == {"self_blend", "face_swap", "resynthesise"}
    assert (
        kinds("self_blend") == {"self_blend"}
        and kinds("resynthesis") == {"resynthesise"}
        and kinds("face_swap") == {"face_swap"}
    )


def test_self_blending_spans_slight_and_plain_tints(forged, crops, monkeypatch):
    inside = face_mask(template_points(TEMPLATE), 112, 112, 0.6) > 0

    def tint(colour):
        blends = [
            self_blend(crops["0"], template_points(TEMPLATE), np.random.default_rng(seed), colour)
            for seed in range(12)
        ]
        return np.mean(
            [np.ptp((blend.astype(float) - crops["0"])[inside].mean(0)) for blend in blends]
        )

    assert tint(0.0) < 2 < tint(0.5) < tint(1.0)
    asked = []
    monkeypatch.setattr(
        "kryptonite.liveness.forgeries.self_blend",
        lambda photo, *_, colour: asked.append(colour) or photo,
    )
    for draw in range(1, 41):
        forged("self_blend").pixels(ROWS * draw)
    assert 0 <= min(asked) < 0.2 and 0.8 < max(asked) <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forgery_kinds": ["self_blend", "magic"]}, "'magic'; there are face_swap"),
        ({"forgery_kinds": []}, "at least one"),
        ({"forgeries": 1.5}, r"0\.\.1"),
        ({"forgeries": -0.1}, r"0\.\.1"),
    ],
)
def test_what_cannot_be_is_told_by_the_configuration(settings, message):
    with pytest.raises(ConfigError, match=message):
        LivenessConfig(**settings)


def test_a_swap_needs_another_person(crops):
    with pytest.raises(DataError, match="two training identities"):
        ForgedCrops(
            list(crops),
            crops.__getitem__,
            np.array(["ann"] * 4),
            SYNTHETIC,
            TEMPLATE,
            ["face_swap"],
        )


def test_reading_processes_make_the_same_pixels(forged):
    # OpenCV's own threads have run in this process by then, which a forked reader must survive.
    cv2.GaussianBlur(np.zeros((1500, 1500, 3), np.uint8), (0, 0), 3)
    seen = []
    for workers in (0, 2):
        batches = PairedBatches(PERSON, SYNTHETIC, 2, 0, forgeries=1.0)
        loader = DataLoader(
            forged(*FORGERIES),
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        epochs = []
        for epoch in range(3):
            batches.set_epoch(epoch)
            epochs.append([(pixels, numbers.tolist()) for pixels, numbers in loader])
        seen.append(epochs)
    for alone, shared in zip(*seen, strict=True):
        assert all(
            a[1] == b[1] and torch.equal(a[0], b[0]) for a, b in zip(alone, shared, strict=True)
        )
    assert seen[0][0][0][1] != seen[0][1][0][1]  # a new epoch, new forgeries


def test_a_forgery_is_synthetic_whatever_it_is_made_of():
    numbers = torch.tensor([0, 1, 2, 3, ROWS, ROWS + 2, 9 * ROWS + 1, ROWS * 2**31 + 2])
    assert targets(numbers, torch.tensor(SYNTHETIC, dtype=torch.float32)).tolist() == [
        0,
        1,
        0,
        1,
        1,
        1,
        1,
        1,
    ]


class Certain(torch.nn.Module):
    """Takes every crop for synthetic, with log-odds of 5."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.tensor(5.0))

    def forward(self, images):
        return self.bias.expand(len(images), 1)


def test_the_loss_takes_forgeries_for_synthetic(monkeypatch):
    network = Certain()
    module = DetectorModule(
        LivenessConfig(augment=AugmentConfig(0, 0, 0, 0, 0)),
        network,
        InputSpec(CropTemplate(32)),
        SYNTHETIC,
        SYNTHETIC,
    )
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    pixels = torch.zeros((2, 3, 32, 32), dtype=torch.uint8)

    def step(*numbers):
        network.zero_grad()
        loss = module.training_step((pixels, torch.tensor(numbers)), 0)
        loss.backward()
        return float(loss.detach()), float(network.bias.grad)

    right, wrong = np.log1p(np.exp(-5.0)), np.log1p(np.exp(5.0))
    assert step(ROWS, ROWS + 2) == pytest.approx((right, -1 / (1 + np.exp(5))), rel=1e-3)
    assert step(0, ROWS)[0] == pytest.approx((right + wrong) / 2, rel=1e-3)
    assert step(0, 2) == pytest.approx((wrong, 1 / (1 + np.exp(-5))), rel=1e-3)


@pytest.mark.parametrize("paired", [True, False])
def test_training_deals_what_the_configuration_asks_for(paired, tmp_path, monkeypatch):
    """With forgeries in all places no `k_` crop is read in training; without them every one is."""
    generator = np.random.default_rng(0)
    people = pd.DataFrame(
        [(f"p{n}", f"{'kg'[genuine]}{n}", not genuine) for n in range(4) for genuine in (1, 0)]
    )
    people.columns = ["label", "key", "is_synthetic"]
    noise = {key: generator.integers(0, 255, (32, 32, 3), dtype=np.uint8) for key in people["key"]}
    val = people.assign(key="v" + people["key"])
    beside, step = [], DetectorModule.training_step

    def spy(module, batch, index):
        beside.extend(batch[1].view(-1, 2).tolist())
        return step(module, batch, index)

    monkeypatch.setattr(DetectorModule, "training_step", spy)

    def train(name, forgeries):
        read, config = (
            [],
            LivenessConfig(
                BackboneConfig("test_efficientnet", "scratch"),
                CropTemplate(32, 0.2),
                forgeries=forgeries,
            ),
        )
        config.paired, config.pairs_per_batch, config.fit = (
            paired,
            4,
            FitConfig(epochs=2, workers=0, accelerator="cpu"),
        )
        beside.clear()
        train_detector(
            config,
            people,
            val,
            lambda key: read.append(key) or noise[key.removeprefix("v")],
            tmp_path / name,
            name,
        )
        return [key for key in read if not key.startswith("v")]

    plain = train("plain", 0.0)
    assert {key for key in plain if key[0] == "k"} == {"k0", "k1", "k2", "k3"} and len(beside) == 8
    assert all(people["label"][a] == people["label"][b] for a, b in beside) == paired
    assert not [key for key in train("forged", 1.0) if key[0] == "k"]
    assert all(number >= len(people) for _, number in beside)
    assert 0 < sum(key[0] == "k" for key in train("half", 0.5)) < 8
