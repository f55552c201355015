"""Cleaning finds planted mislabels, keeps the rest, and says where it cannot decide."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kryptonite.core.errors import ConfigError, DataError
from kryptonite.data.audit.cleaning import (
    DROP,
    KEEP,
    MOVE,
    CleanConfig,
    clean_table,
    find_mislabels,
)
from kryptonite.data.audit.cleaning_sheet import draw_cleaning_sheet
from kryptonite.data.audit.mislabel import plant_mislabels

pytestmark = pytest.mark.slow

LENGTH = 64


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def population(people=30, photos=12, spread=0.75, seed=0):
    """Photos scattered around their identities on the sphere: label, embeddings."""
    generator = np.random.default_rng(seed)
    centres = unit(generator.normal(size=(people, LENGTH)))
    label = np.repeat(np.array([f"{person:04d}" for person in range(people)], object), photos)
    return label, unit(
        np.repeat(centres, photos, 0)
        + spread / LENGTH**0.5 * generator.normal(size=(len(label), LENGTH))
    )


def find(label, embeddings, synthetic=None, config=None):
    return find_mislabels(
        label, embeddings, np.zeros(len(label), bool) if synthetic is None else synthetic, config
    )


def unchanged(embeddings):
    return embeddings


def lifted(embeddings):
    """Adds a common direction, which lifts non-mated cosines to 0.8 as in some recognisers."""
    return unit(embeddings + 2 * unit(np.ones(LENGTH)))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("scale", [unchanged, lifted])
@pytest.mark.parametrize("spread", [0.75, 1.4])
def test_find_mislabels_finds_planted_mislabels_and_restores_their_identity(share, scale, spread):
    label, embeddings = population(people=40, spread=spread)
    noisy, planted = plant_mislabels(label, np.zeros(len(label), bool), share, seed=1)
    found = find(noisy, scale(embeddings))
    taken = (found["action"] != KEEP).to_numpy()
    assert taken[planted].mean() > 0.9 and planted[taken].mean() > 0.9
    moved = (found["action"] == MOVE).to_numpy()
    assert (found["label"].to_numpy() == label)[moved].mean() > 0.95
    assert moved[planted].mean() > (0.95 if spread < 1 else 0.5)
    assert (found.loc[taken, "probability"] >= 0.9).all()


@pytest.mark.parametrize("photos", [2, 3, 12])
def test_find_mislabels_keeps_everything_when_the_data_is_clean(photos):
    label, embeddings = population(photos=photos)
    found = find(label, embeddings)
    assert (
        (found["action"] == KEEP).all()
        and (found["label"] == label).all()
        and (found["reason"] == "looks like its folder").all()
    )


@pytest.mark.parametrize("spread", [3, 1e6])
@pytest.mark.parametrize("photos", [4, 12])
def test_find_mislabels_keeps_everything_when_the_recogniser_is_too_weak(spread, photos):
    label, embeddings = population(photos=photos, spread=spread)
    noisy, _ = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=1)
    assert (find(noisy, embeddings)["action"] == KEEP).all()


def test_find_mislabels_takes_fewer_photos_when_more_certainty_is_required():
    label, embeddings = population(spread=1.5)
    noisy, planted = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=1)
    taken = [
        (find(noisy, embeddings, config=CleanConfig(certain))["action"] != KEEP).to_numpy()
        for certain in (0.6, 0.9, 0.999)
    ]
    assert taken[0].sum() > taken[1].sum() > taken[2].sum() > 0
    assert (
        not (taken[2] & ~planted).any()
        and not (taken[1] & ~taken[0]).any()
        and not (taken[2] & ~taken[1]).any()
    )


def test_find_mislabels_drops_photos_that_resemble_nobody():
    label, embeddings = population()
    noisy, _ = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=1)
    strays = np.flatnonzero(noisy == label)[:200:40]
    embeddings[strays] = unit(np.random.default_rng(5).normal(size=(len(strays), LENGTH)))
    found = find(noisy, embeddings).loc[strays]
    assert (found["action"] == DROP).all() and (found["label"] == label[strays]).all()
    assert (found["reason"] == "unlike its folder, with no certain match elsewhere").all()


def test_find_mislabels_keeps_photos_when_there_is_too_little_to_compare():
    label, embeddings = population()
    label[0] = "alone"
    label[12], label[24] = "pair", "pair"  # of two people
    label[36:38] = "right pair"
    found = find(label, embeddings)
    assert (found["action"] == KEEP).all() and found["own"].isna().sum() == 1
    assert found.at[0, "reason"] == "the only photo in its folder: nothing to compare it with"
    assert (
        found.loc[[12, 24], "reason"] == "undecided: too few similar photos in this folder"
    ).all()
    assert found.at[36, "reason"].startswith("looks like its folder and like folder 0003")


def test_find_mislabels_keeps_a_folder_of_two_people_when_neither_has_another():
    label, embeddings = population()
    folder = np.flatnonzero(label == "0002")
    # Six photos of somebody who has no other folder.
    embeddings[folder[:6]] = population(people=1, seed=9)[1][:6]
    label[folder[11]] = "0005"  # a mislabel whose right folder is ambiguous
    embeddings[folder[5]] = embeddings[0]  # a photo in the folder that shows neither person
    found = find(label, embeddings)
    rest = np.setdiff1d(folder, folder[[5, 11]])
    assert set(found.loc[rest, "community"]) == {5} and found.loc[rest, "core"].all()
    assert (
        found.loc[rest, "reason"]
        == "undecided: this folder holds several people with about equally many photos"
    ).all()
    assert (found.loc[rest, "action"] == KEEP).all()
    assert found.at[folder[11], "action"] != MOVE
    assert found.at[folder[5], "action"] == MOVE and found.at[folder[5], "label"] == "0000"


def test_find_mislabels_moves_one_of_two_people_when_they_have_another_folder():
    label, embeddings = population()
    guests, hosts = np.flatnonzero(label == "0003")[:6], np.flatnonzero(label == "0004")[:6]
    kept = (label != "0004") | np.isin(np.arange(len(label)), hosts)
    label[guests] = "0004"
    found = find(label[kept], embeddings[kept]).set_index(np.flatnonzero(kept))
    assert (found.loc[guests, "action"] == MOVE).all() and (
        found.loc[guests, "label"] == "0003"
    ).all()
    assert (found.loc[hosts, "action"] == KEEP).all() and (
        found.loc[hosts, "reason"] == "looks like its folder"
    ).all()


def test_find_mislabels_reports_two_folders_of_one_person():
    label, embeddings = population()
    label[np.flatnonzero(label == "0003")[:6]] = "again"
    found = find(label, embeddings)
    assert (found["action"] == KEEP).all()
    assert (
        found.loc[label == "again", "reason"]
        == "looks like its folder and like folder 0003: the same person?"
    ).all()
    assert (
        found.loc[label == "0003", "reason"]
        == "looks like its folder and like folder again: the same person?"
    ).all()
    assert found["reason"].str.contains("the same person").sum() == 12


def test_find_mislabels_keeps_a_poor_photo_of_the_right_person():
    label, embeddings = population()
    embeddings[5] = unit(0.5 * embeddings[5] + unit(np.random.default_rng(3).normal(size=LENGTH)))
    found = find(label, embeddings)
    assert found.at[5, "own"] < found["own"].quantile(0.01) and found.at[5, "action"] == KEEP


def test_find_mislabels_keeps_and_ignores_synthetic_images():
    label, embeddings = population()
    synthetic = np.arange(len(label)) % 12 == 3
    elsewhere = np.where(synthetic, np.roll(label, 12), label)
    found = find(elsewhere, embeddings, synthetic)
    assert (found["action"] == KEEP).all() and (found["label"] == elsewhere).all()
    assert (found.loc[synthetic, "reason"] == "synthetic: stays with the person it imitates").all()
    without = find(label[~synthetic], embeddings[~synthetic])
    pd.testing.assert_frame_equal(found[~synthetic].reset_index(drop=True), without)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(12, 6), (5, 30)]))
def test_find_mislabels_is_unchanged_when_rows_are_shuffled_or_people_renamed(seed, size):
    generator = np.random.default_rng(seed)
    label, embeddings = population(*size, spread=1.2, seed=seed)
    noisy, _ = plant_mislabels(label, np.zeros(len(label), bool), 0.15, seed)
    found = find(noisy, embeddings)
    order = generator.permutation(len(label))
    pd.testing.assert_frame_equal(
        find(noisy[order], embeddings[order]), found.loc[order].reset_index(drop=True)
    )
    names = dict(
        zip(
            np.unique(label),
            generator.permutation([f"person {n}" for n in range(size[0])]).tolist(),
            strict=True,
        )
    )
    renamed = find(np.array([names[name] for name in noisy], object), embeddings)
    assert renamed["action"].tolist() == found["action"].tolist()
    assert renamed["label"].tolist() == found["label"].map(names).tolist()


def test_find_mislabels_repeats_to_the_bit():
    label, embeddings = population(spread=1.2)
    noisy, _ = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=1)
    pd.testing.assert_frame_equal(
        find(noisy, embeddings), find(noisy, embeddings), check_exact=True
    )


def test_clean_table_relabels_moved_photos_and_omits_dropped_ones():
    label, embeddings = population()
    noisy, planted = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=3)
    images = pd.DataFrame(
        {"label": noisy, "path": np.arange(len(label)).astype(str), "is_synthetic": False}
    )
    before = images.copy()
    cleaned = clean_table(images, embeddings)
    right = dict(zip(images["path"], label, strict=True))
    assert (cleaned["label"] == cleaned["path"].map(right)).mean() > 0.99 > (noisy == label).mean()
    assert (
        list(cleaned.columns) == list(images.columns)
        and len(cleaned) >= len(images) - planted.sum()
    )
    assert list(cleaned.index) == list(range(len(cleaned)))
    pd.testing.assert_frame_equal(images, before)


def test_find_mislabels_raises_typed_errors_when_input_is_wrong():
    label, embeddings = population(people=2)
    with pytest.raises(DataError, match="only 2"):
        find(label, embeddings)
    with pytest.raises(DataError, match="one length"):
        find(label, embeddings[1:])
    with pytest.raises(ConfigError, match="certain"):
        CleanConfig(certain=0.2)


def test_draw_cleaning_sheet_grows_when_something_is_found(tmp_path):
    label, embeddings = population(people=6, photos=5)
    label = np.array([f"$\\frac{each}$" for each in label])  # no formula
    noisy, _ = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=3)
    paths = []
    for row in range(len(label)):
        paths.append(str(tmp_path / f"{row}.png"))
        Image.fromarray(np.full((16, 16, 3), row, np.uint8)).save(paths[-1])
    images = pd.DataFrame({"label": noisy, "path": paths, "is_synthetic": False})
    heights = []
    for labels in (noisy, label):
        images["label"] = labels
        draw_cleaning_sheet(tmp_path / "sheet.png", images, find(labels, embeddings), each=3)
        heights.append(Image.open(tmp_path / "sheet.png").height)
    assert heights[0] > heights[1]
    assert not list(tmp_path.glob(".sheet*"))
