"""Cleaning finds planted mislabels, leaves the rest alone, depends on nothing but the photos, and says where it cannot tell."""

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

LENGTH = 64


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def population(people=30, photos=12, spread=0.75, seed=0):
    """Photos scattered about their people on the sphere: label, embeddings."""
    generator = np.random.default_rng(seed)
    centres = unit(generator.normal(size=(people, LENGTH)))
    label = np.repeat(np.array([f"{person:04d}" for person in range(people)], object), photos)
    return label, unit(
        np.repeat(centres, photos, 0)
        + spread / LENGTH**0.5 * generator.normal(size=(len(label), LENGTH))
    )


def judge(label, embeddings, synthetic=None, config=None):
    return find_mislabels(
        label, embeddings, np.zeros(len(label), bool) if synthetic is None else synthetic, config
    )


def as_it_is(embeddings):
    return embeddings


def lifted(embeddings):
    """A common direction lifts all cosines, as it does with some recognisers: strangers' from 0 to 0.8."""
    return unit(embeddings + 2 * unit(np.ones(LENGTH)))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("scale", [as_it_is, lifted])
@pytest.mark.parametrize("spread", [0.75, 1.4])
def test_planted_mislabels_are_found_and_sent_home(share, scale, spread):
    label, embeddings = population(people=40, spread=spread)
    noisy, planted = plant_mislabels(label, np.zeros(len(label), bool), share, seed=1)
    found = judge(noisy, scale(embeddings))
    taken = (found["action"] != KEEP).to_numpy()
    assert taken[planted].mean() > 0.9 and planted[taken].mean() > 0.9
    moved = (found["action"] == MOVE).to_numpy()
    assert (found["label"].to_numpy() == label)[moved].mean() > 0.95
    assert moved[planted].mean() > (0.95 if spread < 1 else 0.5)
    assert (found.loc[taken, "probability"] >= 0.9).all()


@pytest.mark.parametrize("photos", [2, 3, 12])
def test_a_clean_population_is_left_alone(photos):
    label, embeddings = population(photos=photos)
    found = judge(label, embeddings)
    assert (
        (found["action"] == KEEP).all()
        and (found["label"] == label).all()
        and (found["reason"] == "looks like its folder").all()
    )


@pytest.mark.parametrize("spread", [3, 1e6])
@pytest.mark.parametrize("photos", [4, 12])
def test_a_recogniser_that_cannot_tell_people_apart_changes_nothing(spread, photos):
    label, embeddings = population(photos=photos, spread=spread)
    noisy, _ = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=1)
    assert (judge(noisy, embeddings)["action"] == KEEP).all()


def test_more_certainty_takes_less():
    label, embeddings = population(spread=1.5)
    noisy, planted = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=1)
    taken = [
        (judge(noisy, embeddings, config=CleanConfig(certain))["action"] != KEEP).to_numpy()
        for certain in (0.6, 0.9, 0.999)
    ]
    assert taken[0].sum() > taken[1].sum() > taken[2].sum() > 0
    assert (
        not (taken[2] & ~planted).any()
        and not (taken[1] & ~taken[0]).any()
        and not (taken[2] & ~taken[1]).any()
    )


def test_among_mislabels_a_stranger_to_all_is_dropped():
    label, embeddings = population()
    noisy, _ = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=1)
    strays = np.flatnonzero(noisy == label)[:200:40]
    embeddings[strays] = unit(np.random.default_rng(5).normal(size=(len(strays), LENGTH)))
    found = judge(noisy, embeddings).loc[strays]
    assert (found["action"] == DROP).all() and (found["label"] == label[strays]).all()
    assert (found["reason"] == "unlike its folder, and like nobody else for certain").all()


def test_single_photos_and_pairs_are_kept_with_the_reason():
    label, embeddings = population()
    label[0] = "alone"
    label[12], label[24] = "pair", "pair"  # of two people
    label[36:38] = "right pair"
    found = judge(label, embeddings)
    assert (found["action"] == KEEP).all() and found["own"].isna().sum() == 1
    assert found.at[0, "reason"] == "the only photo of its folder: nothing to compare it with"
    assert (
        found.loc[[12, 24], "reason"]
        == "too few photos of its folder look alike: whose it is is not told"
    ).all()
    assert found.at[36, "reason"].startswith("looks like its folder and like folder 0003")


def test_a_folder_of_two_people_without_folders_of_their_own_is_kept_and_receives_nothing():
    label, embeddings = population()
    folder = np.flatnonzero(label == "0002")
    embeddings[folder[:6]] = population(people=1, seed=9)[1][
        :6
    ]  # six photos of somebody who has no other folder
    label[folder[11]] = "0005"  # a mislabel whose right place is in doubt
    embeddings[folder[5]] = embeddings[0]  # and one in there that shows neither
    found = judge(label, embeddings)
    rest = np.setdiff1d(folder, folder[[5, 11]])
    assert set(found.loc[rest, "community"]) == {5} and found.loc[rest, "core"].all()
    assert (
        found.loc[rest, "reason"]
        == "its folder holds several people about equally often: whose it is is not told"
    ).all()
    assert (found.loc[rest, "action"] == KEEP).all()
    assert found.at[folder[11], "action"] != MOVE
    assert found.at[folder[5], "action"] == MOVE and found.at[folder[5], "label"] == "0000"


def test_of_two_people_in_a_folder_the_one_with_another_folder_is_sent_there():
    label, embeddings = population()
    guests, hosts = np.flatnonzero(label == "0003")[:6], np.flatnonzero(label == "0004")[:6]
    kept = (label != "0004") | np.isin(np.arange(len(label)), hosts)
    label[guests] = "0004"
    found = judge(label[kept], embeddings[kept]).set_index(np.flatnonzero(kept))
    assert (found.loc[guests, "action"] == MOVE).all() and (
        found.loc[guests, "label"] == "0003"
    ).all()
    assert (found.loc[hosts, "action"] == KEEP).all() and (
        found.loc[hosts, "reason"] == "looks like its folder"
    ).all()


def test_two_folders_of_one_person_are_reported_and_left():
    label, embeddings = population()
    label[np.flatnonzero(label == "0003")[:6]] = "again"
    found = judge(label, embeddings)
    assert (found["action"] == KEEP).all()
    assert (
        found.loc[label == "again", "reason"]
        == "looks like its folder and like folder 0003: one person twice?"
    ).all()
    assert (
        found.loc[label == "0003", "reason"]
        == "looks like its folder and like folder again: one person twice?"
    ).all()
    assert found["reason"].str.contains("twice").sum() == 12


def test_a_poor_photo_of_the_right_person_is_kept():
    label, embeddings = population()
    embeddings[5] = unit(0.5 * embeddings[5] + unit(np.random.default_rng(3).normal(size=LENGTH)))
    found = judge(label, embeddings)
    assert found.at[5, "own"] < found["own"].quantile(0.01) and found.at[5, "action"] == KEEP


def test_synthetic_images_stay_and_say_nothing():
    label, embeddings = population()
    synthetic = np.arange(len(label)) % 12 == 3
    elsewhere = np.where(synthetic, np.roll(label, 12), label)
    found = judge(elsewhere, embeddings, synthetic)
    assert (found["action"] == KEEP).all() and (found["label"] == elsewhere).all()
    assert (
        found.loc[synthetic, "reason"] == "synthetic: stays with the person it pretends to be"
    ).all()
    without = judge(label[~synthetic], embeddings[~synthetic])
    pd.testing.assert_frame_equal(found[~synthetic].reset_index(drop=True), without)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(12, 6), (5, 30)]))
def test_neither_the_order_of_rows_nor_the_names_of_people_matter(seed, size):
    generator = np.random.default_rng(seed)
    label, embeddings = population(*size, spread=1.2, seed=seed)
    noisy, _ = plant_mislabels(label, np.zeros(len(label), bool), 0.15, seed)
    found = judge(noisy, embeddings)
    order = generator.permutation(len(label))
    pd.testing.assert_frame_equal(
        judge(noisy[order], embeddings[order]), found.loc[order].reset_index(drop=True)
    )
    names = dict(
        zip(
            np.unique(label),
            generator.permutation([f"person {n}" for n in range(size[0])]).tolist(),
            strict=True,
        )
    )
    renamed = judge(np.array([names[name] for name in noisy], object), embeddings)
    assert renamed["action"].tolist() == found["action"].tolist()
    assert renamed["label"].tolist() == found["label"].map(names).tolist()


def test_the_same_photos_are_judged_the_same_to_the_bit():
    label, embeddings = population(spread=1.2)
    noisy, _ = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=1)
    pd.testing.assert_frame_equal(
        judge(noisy, embeddings), judge(noisy, embeddings), check_exact=True
    )


def test_a_cleaned_table_has_moved_photos_put_right_and_dropped_ones_left_out():
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


def test_too_few_people_and_nonsense_are_typed_errors():
    label, embeddings = population(people=2)
    with pytest.raises(DataError, match="only 2"):
        judge(label, embeddings)
    with pytest.raises(DataError, match="one length"):
        judge(label, embeddings[1:])
    with pytest.raises(ConfigError, match="certain"):
        CleanConfig(certain=0.2)


def test_the_sheet_is_drawn_whether_or_not_anything_is_found(tmp_path):
    label, embeddings = population(people=6, photos=5)
    noisy, _ = plant_mislabels(label, np.zeros(len(label), bool), 0.1, seed=3)
    paths = []
    for row in range(len(label)):
        paths.append(str(tmp_path / f"{row}.png"))
        Image.fromarray(np.full((16, 16, 3), row, np.uint8)).save(paths[-1])
    images = pd.DataFrame({"label": noisy, "path": paths, "is_synthetic": False})
    heights = []
    for labels in (noisy, label):
        images["label"] = labels
        draw_cleaning_sheet(tmp_path / "sheet.png", images, judge(labels, embeddings), each=3)
        heights.append(Image.open(tmp_path / "sheet.png").height)
    assert heights[0] > heights[1]
    assert not list(tmp_path.glob(".sheet*"))
