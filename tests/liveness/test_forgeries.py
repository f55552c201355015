"""Forgeries made on the fly: their pixels, their class, and that they repeat."""

import itertools
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import ConfigError, DataError, WeightsError
from kryptonite.data.forgery import FORGERIES, face_mask, self_blend
from kryptonite.detection.warp import estimate_similarity, template_points, warp
from kryptonite.liveness.config import LivenessConfig
from kryptonite.liveness.forgeries import Draw, ForgedCrops, draw_forgeries
from kryptonite.liveness.sampler import PairedBatches
from kryptonite.nn.autoencoder import RoundTrip, build_networks, weight_files
from kryptonite.nn.train.datasets import CropDataset, collate

TEMPLATE = CropTemplate(112, 0.2)
# About where a generated face's landmarks lie.
POINTS = np.array([[58.0, 66], [102, 64], [80, 88], [62, 110], [100, 109]])
IDENTITY = np.array([0, 0, 1, 1])
SYNTHETIC = np.array([False, True, False, True])  # rows 0 and 2 are bona fide
ROWS = len(IDENTITY)


@pytest.fixture(scope="module")
def crops(faces):
    matrix = estimate_similarity(POINTS, template_points(TEMPLATE))
    return {str(row): warp(face, matrix, TEMPLATE.size) for row, face in enumerate(faces[:ROWS])}


def dataset(crops, identity=IDENTITY):
    images = pd.DataFrame({"key": list(crops), "identity": identity, "is_synthetic": SYNTHETIC})
    return CropDataset(images, crops.__getitem__)


@pytest.fixture
def forged(crops):
    """Makes the data set of four crops with the given kinds of forgery."""
    return lambda *kinds, **more: ForgedCrops(dataset(crops), settings(*kinds, **more))


def settings(*kinds, **more):
    return LivenessConfig(template=TEMPLATE, forgery_kinds=list(kinds), **more)


def forgery(row, number):
    """A forgery of a row as the sampler draws it when its generator gives `number`."""
    return Draw(row, row + ROWS * number)


def change(a, b):
    return np.abs(a.astype(int) - b).mean(2)


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_crops_change_the_face_and_keep_the_rim(kind, forged, crops):
    inside = face_mask(template_points(TEMPLATE), 112, 112, 0.7) > 0
    outside = face_mask(template_points(TEMPLATE), 112, 112, 1.6) == 0
    # A swap puts the face of row 0 into the only other person's crop.
    around = crops["2" if kind == "face_swap" else "0"]
    differences = []
    for number in range(1, 9):
        pixels = forged(kind).forge(forgery(0, number))
        assert pixels.shape == (112, 112, 3) and pixels.dtype == np.uint8
        differences.append(change(pixels, around)[inside].mean())
        assert change(pixels, around)[outside].mean() < 0.3
    assert min(differences) > 0.5 and np.mean(differences) > 2


def test_forged_crops_show_the_rows_person_in_another_crop_when_swapping(forged, crops):
    pixels = forged("face_swap").forge(forgery(0, 1))
    inside = face_mask(template_points(TEMPLATE), 112, 112, 0.7) > 0

    def likeness(other):
        return np.corrcoef(pixels.mean(2)[inside], crops[other].mean(2)[inside])[0, 1]

    assert likeness("0") > likeness("2")


@pytest.mark.parametrize("row", range(ROWS))
def test_forged_crops_return_crop_with_its_labels_when_draw_has_no_seed(row, forged, crops):
    sample = forged("self_blend")[Draw(row)]
    assert np.array_equal(sample.crop.permute(1, 2, 0).numpy(), crops[str(row)])
    assert sample[1:] == (IDENTITY[row], SYNTHETIC[row], row)


@pytest.mark.parametrize("number", [1, 9, 2**31 - 1])
@pytest.mark.parametrize("row", range(ROWS))
def test_forged_crops_label_forgery_synthetic_whatever_its_source(row, number, forged):
    data, draw = forged("self_blend"), forgery(row, number)
    sample = data[draw]
    assert np.array_equal(sample.crop.permute(1, 2, 0).numpy(), data.forge(draw))
    assert sample[1:] == (IDENTITY[row], True, row)


def test_draw_forgeries_takes_one_number_per_source_from_the_generator():
    sources = np.array([0, 2, 2, 3])
    draws = draw_forgeries(sources, ROWS, np.random.default_rng(5))
    numbers = np.random.default_rng(5).integers(1, 2**31, 4)
    assert draws == [forgery(*pair) for pair in zip(sources, numbers, strict=True)]
    assert len({draw.forgery_seed for draw in draws}) == 4


def test_forged_crops_repeat_forgery_by_seed_and_differ_between_seeds(forged):
    first, again = forged("self_blend", "resynthesis"), forged("self_blend", "resynthesis")
    draws = [forgery(2, number) for number in range(1, 13)]
    once, twice = (
        [first.forge(draw) for draw in draws],
        [again.forge(draw) for draw in reversed(draws)][::-1],
    )
    assert all(np.array_equal(a, b) for a, b in zip(once, twice, strict=True))
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations(once, 2))


def test_forged_crops_make_every_kind_wanted(crops, monkeypatch):
    made = []
    for name in ("self_blend", "face_swap", "resynthesise"):
        monkeypatch.setattr(
            f"kryptonite.liveness.forgeries.{name}",
            lambda photo, *rest, name=name, **named: made.append(name) or photo,
        )

    def kinds(*wanted):
        made.clear()
        data = ForgedCrops(dataset(crops), settings(*wanted))
        for number in range(1, 31):
            data.forge(forgery(0, number))
        return set(made)

    assert kinds(*FORGERIES) == {"self_blend", "face_swap", "resynthesise"}
    assert kinds("self_blend") == {"self_blend"}
    assert kinds("resynthesis") == {"resynthesise"}
    assert kinds("face_swap") == {"face_swap"}


def test_forged_crops_span_slight_and_plain_tints_when_self_blending(forged, crops, monkeypatch):
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
    used = []
    monkeypatch.setattr(
        "kryptonite.liveness.forgeries.self_blend",
        lambda photo, *_, colour: used.append(colour) or photo,
    )
    for number in range(1, 41):
        forged("self_blend").forge(forgery(0, number))
    assert 0 <= min(used) < 0.2 and 0.8 < max(used) <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forgery_kinds": ["self_blend", "magic"]}, "'magic'; there are face_swap"),
        ({"forgery_kinds": []}, "at least one"),
        ({"forgeries": 1.5}, r"0\.\.1"),
        ({"forgeries": -0.1}, r"0\.\.1"),
    ],
)
def test_liveness_config_raises_config_error_when_a_value_is_impossible(settings, message):
    with pytest.raises(ConfigError, match=message):
        LivenessConfig(**settings)


def test_forged_crops_raise_data_error_when_a_swap_has_nobody_else(crops):
    with pytest.raises(DataError, match="two training identities"):
        ForgedCrops(dataset(crops, np.zeros(ROWS, int)), settings("face_swap"))


def test_forged_crops_are_the_same_when_worker_processes_read(forged):
    # OpenCV's own threads have run in this process before, which a forked worker must survive.
    cv2.GaussianBlur(np.zeros((1500, 1500, 3), np.uint8), (0, 0), 3)
    runs = []
    for workers in (0, 2):
        batches = PairedBatches(IDENTITY, SYNTHETIC, 2, 0, forgeries=1.0)
        loader = DataLoader(
            forged(*FORGERIES),
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=collate,
        )
        epochs = []
        for epoch in range(3):
            batches.set_epoch(epoch)
            epochs.append(list(loader))
        runs.append(epochs)
    for alone, parallel in zip(*runs, strict=True):
        for a, b in zip(alone, parallel, strict=True):
            assert all(torch.equal(part, other) for part, other in zip(a, b, strict=True))
    first, second = (
        {crop.numpy().tobytes() for crop in epoch[0].crop[1::2]} for epoch in runs[0][:2]
    )
    assert not first & second  # every epoch has forgeries of its own


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    """Weights under which a round trip is far from the identity, but the same every time."""
    folder = tmp_path_factory.mktemp("autoencoder")
    torch.manual_seed(0)
    for file, network in zip(weight_files(folder), build_networks(), strict=True):
        save_file(network.state_dict(), file)
    return folder


def test_forged_crops_decode_the_whole_crop_or_the_inner_face_when_an_autoencoder_is_given(
    crops, forged, autoencoder
):
    data = forged("self_blend", autoencoder=str(autoencoder))
    outside = face_mask(template_points(TEMPLATE), 112, 112, 2.0) == 0
    inside = face_mask(template_points(TEMPLATE), 112, 112, 0.6) > 0
    draws = [forgery(0, number) for number in range(1, 40)]
    made = [data.forge(draw) for draw in draws if data.kind(draw) == "autoencoder"]
    rims = [change(pixels, crops["0"])[outside].mean() for pixels in made]
    assert {data.kind(draw) for draw in draws} == {"self_blend", "autoencoder"}
    assert all(change(pixels, crops["0"])[inside].mean() > 5 for pixels in made)
    assert 0.2 < np.mean([rim < 1 for rim in rims]) < 0.8
    assert all(rim < 1 or rim > 5 for rim in rims)


def test_round_trip_keeps_size_and_content_when_sides_are_odd(autoencoder, crops):
    round_trip = RoundTrip.load(autoencoder)
    odd = crops["0"][:101, :83]
    padded = np.pad(odd, ((0, 3), (0, 5), (0, 0)), mode="edge")
    assert np.array_equal(round_trip(odd), round_trip(padded)[:101, :83])


def test_forged_crops_raise_weights_error_naming_the_file_when_it_is_missing(
    forged, autoencoder, tmp_path
):
    encoder, decoder = weight_files(autoencoder)
    shutil.copy(encoder, tmp_path)
    with pytest.raises(WeightsError, match=f"{decoder.name}: no such weights file"):
        forged("self_blend", autoencoder=str(tmp_path))
    shutil.copy(encoder, tmp_path / decoder.name)
    with pytest.raises(WeightsError, match=f"{decoder.name}: does not fit"):
        forged("self_blend", autoencoder=str(tmp_path))
