"""The embedded data: forgeries change the face and nothing else, and the folders are what the challenge's are."""

import hashlib

import numpy as np
import pytest

from kryptonite.core.errors import ConfigError, DataError
from kryptonite.core.images import read_rgb
from kryptonite.data.demo import SIDE, DemoConfig, write_demo
from kryptonite.data.forgery import (
    FORGERIES,
    face_mask,
    face_swap,
    match_colour,
    resynthesise,
    self_blend,
)
from kryptonite.data.layouts import load_folders, load_test_pairs
from kryptonite.data.submission import read_ground_truth

POINTS = np.array([[58.0, 66], [102, 64], [80, 88], [62, 110], [100, 109]])
TINY = DemoConfig(people=3, test_people=3, photos=5, forgeries=3, pairs=60)


def everywhere(photos):
    """In the aligner's place: the same landmarks in every photo."""
    return [POINTS for _ in photos]


def forge(kind, photo, other, seed=0):
    generator = np.random.default_rng(seed)
    if kind == "face_swap":
        return face_swap(photo, POINTS, other, POINTS + 3)
    return (self_blend if kind == "self_blend" else resynthesise)(photo, POINTS, generator)


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forgery_changes_the_face_and_leaves_the_rest(kind, faces):
    forged = forge(kind, faces[0], faces[1])
    assert forged.shape == faces[0].shape and forged.dtype == np.uint8
    change = np.abs(forged.astype(int) - faces[0]).mean(2)
    inside = face_mask(POINTS, SIDE, SIDE, 0.7) > 0
    outside = face_mask(POINTS, SIDE, SIDE, 1.6) == 0
    assert change[inside].mean() > 2
    assert change[outside].mean() < 0.2


def test_a_swap_shows_the_donor_in_the_photos_colours(faces):
    donor = faces[1] // 2  # taken in the dark
    swapped = face_swap(faces[0], POINTS, donor, POINTS)
    inside = face_mask(POINTS, SIDE, SIDE, 0.8) > 0

    def likeness(a, b):
        return np.corrcoef(a.mean(2)[inside], b.mean(2)[inside])[0, 1]

    assert likeness(swapped, donor) > likeness(swapped, faces[0])
    gap = [
        np.abs(each[inside].mean(0) - faces[0][inside].mean(0)).max() for each in (swapped, donor)
    ]
    assert gap[0] < 0.5 * gap[1]


def test_colours_are_matched_within_the_mask(faces):
    mask = face_mask(POINTS, SIDE, SIDE)
    matched = match_colour(faces[1], faces[0], mask)
    gap = [
        np.abs(each[mask > 0].mean(0) - faces[0][mask > 0].mean(0)).max()
        for each in (faces[1], matched)
    ]
    assert gap[1] < 4 or gap[1] < 0.3 * gap[0]


def test_resynthesis_leaves_a_periodic_trace(faces):
    photo = faces[0]
    forged = resynthesise(photo, POINTS, np.random.default_rng(1))

    def peak(image):
        patch = image[60:120, 50:110].mean(2)
        spectrum = np.abs(np.fft.rfft2(patch - patch.mean()))
        return max(spectrum[0, 60 // stride] / (np.median(spectrum) + 1e-9) for stride in (5, 6))

    assert peak(forged) > 3 * peak(photo)


def test_chance_decides_by_the_generator_alone(faces):
    for kind in ("self_blend", "resynthesis"):
        assert np.array_equal(forge(kind, faces[0], None, 3), forge(kind, faces[0], None, 3))
        assert not np.array_equal(forge(kind, faces[0], None, 3), forge(kind, faces[0], None, 4))


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return hashlib.sha256(
        b"".join(str(path.relative_to(root)).encode() + path.read_bytes() for path in files)
    ).hexdigest()


def test_the_folders_are_the_challenges(tmp_path):
    assert write_demo(tmp_path / "demo", TINY, everywhere)
    images = load_folders(tmp_path / "demo")
    assert (
        images["label"].nunique() == 3
        and len(images) == 3 * 8
        and images["is_synthetic"].sum() == 9
    )
    assert images.groupby("label")["is_synthetic"].sum().tolist() == [3, 3, 3]
    pairs, truth = load_test_pairs(tmp_path / "demo"), read_ground_truth(tmp_path / "demo/gt.csv")
    assert pairs["pair_id"].tolist() == truth["pair_id"].tolist()
    assert (truth["label"] == (truth["kind"] == "same")).all()
    assert set(truth.loc[truth["kind"] == "synthetic", "species"]) == set(
        FORGERIES
    )  # the withheld kind is among the tests
    assert all(
        read_rgb(path).shape == (SIDE, SIDE, 3)
        for path in [*images["path"], *pairs["path_a"], *pairs["path_b"]]
    )


def test_it_repeats_by_seed_is_kept_when_there_and_replaced_when_other(tmp_path):
    write_demo(tmp_path / "one", TINY, everywhere)
    write_demo(tmp_path / "two", TINY, everywhere)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert not write_demo(tmp_path / "one", TINY, everywhere)
    (tmp_path / "one/gt.csv").write_text("interrupted")
    (tmp_path / "one/demo.json").unlink()
    (tmp_path / "one/unfinished").touch()
    assert write_demo(tmp_path / "one", TINY, everywhere)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_no_training_image_is_of_the_withheld_kind(tmp_path, monkeypatch):
    made = []
    from kryptonite.data import demo

    forge_one = demo._Studio.forge
    monkeypatch.setattr(
        demo._Studio,
        "forge",
        lambda self, kind, *rest: made.append(kind) or forge_one(self, kind, *rest),
    )
    write_demo(tmp_path / "demo", TINY, everywhere)
    training, test = made[: TINY.people * TINY.forgeries], made[TINY.people * TINY.forgeries :]
    assert TINY.withheld not in training and TINY.withheld in test


def test_foreign_folders_and_unknown_kinds_are_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("")
    with pytest.raises(DataError, match="left alone"):
        write_demo(tmp_path / "mine", TINY, everywhere)
    with pytest.raises(ConfigError, match="face_swap"):
        write_demo(tmp_path / "new", DemoConfig(withheld="magic"), everywhere)


def test_a_person_without_a_findable_face_is_drawn_again(tmp_path):
    calls = []

    def first_fails(photos):
        calls.append(len(photos))
        return [None if len(calls) == 1 and n == 1 else POINTS for n in range(len(photos))]

    write_demo(tmp_path / "demo", TINY, first_fails)
    assert len(calls) == TINY.people + TINY.test_people + 1
    assert len(load_folders(tmp_path / "demo")) == 24
