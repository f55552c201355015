"""Splits and pair protocols."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.errors import DataError
from kryptonite.data.pairs import PairConfig, load_pairs, make_pairs, save_pairs
from kryptonite.data.split import split_hash, split_identities


def table(people=10, photos=5, forged=3):
    rows = [
        (
            f"p{p}",
            f"/root/p{p}/{'k_' if synthetic else ''}{n}.jpg",
            "val",
            synthetic,
            "swap" if synthetic else "",
        )
        for p in range(people)
        for synthetic, count in ((False, photos), (True, forged))
        for n in range(count)
    ]
    return pd.DataFrame(rows, columns=["label", "path", "split", "is_synthetic", "species"])


@settings(max_examples=25)
@given(
    st.integers(2, 8), st.integers(2, 5), st.integers(1, 4), st.integers(4, 200), st.integers(0, 99)
)
def test_pairs_are_what_they_say(people, photos, forged, count, seed):
    images = table(people, photos, forged)
    pairs = make_pairs(images, PairConfig(count=count, seed=seed))
    facts = images.set_index("path")
    a, b = facts.loc[pairs["path_a"]], facts.loc[pairs["path_b"]]
    same_person = a["label"].to_numpy() == b["label"].to_numpy()
    forgeries = a["is_synthetic"].to_numpy().astype(int) + b["is_synthetic"].to_numpy()
    kind = pairs["kind"].to_numpy()
    assert np.array_equal(kind == "same", same_person & (forgeries == 0))
    assert np.array_equal(kind == "different", ~same_person)
    assert (
        np.array_equal(kind == "synthetic", forgeries == 1)
        and same_person[kind == "synthetic"].all()
    )
    assert (pairs["label"] == (kind == "same")).all()
    assert ((pairs["species"] == "swap") == (kind == "synthetic")).all()
    unordered = {frozenset(pair) for pair in zip(pairs["path_a"], pairs["path_b"], strict=True)}
    assert len(unordered) == len(pairs) and all(len(pair) == 2 for pair in unordered)
    assert len(pairs) <= count + 1
    shares = pairs["kind"].value_counts(normalize=True)
    assert abs(shares.get("same", 0) - 0.5) <= 1.5 / len(pairs)


def test_composition_is_configurable_and_order_of_rows_does_not_matter():
    images = table()
    config = PairConfig(count=60, same=0.2, different=0.8, synthetic=0.0)
    pairs = make_pairs(images, config)
    assert pairs["kind"].value_counts().to_dict() == {"different": 48, "same": 12}
    pd.testing.assert_frame_equal(make_pairs(images.sample(frac=1, random_state=1), config), pairs)
    assert not make_pairs(images, PairConfig(count=60, seed=1)).equals(
        make_pairs(images, PairConfig(count=60, seed=2))
    )


def test_impossible_compositions_are_errors():
    with pytest.raises(DataError, match="sum to 1"):
        make_pairs(table(), PairConfig(same=0.5, different=0.5, synthetic=0.5))
    with pytest.raises(DataError, match="'synthetic'"):
        make_pairs(table(forged=0), PairConfig())
    with pytest.raises(DataError, match="'different'"):
        make_pairs(table(people=1), PairConfig())


def test_frozen_pairs_come_back_and_move_with_the_data(tmp_path):
    pairs = make_pairs(table(), PairConfig(count=40))
    save_pairs(tmp_path / "pairs.csv", pairs, "/root")
    pd.testing.assert_frame_equal(load_pairs(tmp_path / "pairs.csv", "/root"), pairs)
    moved = load_pairs(tmp_path / "pairs.csv", "/elsewhere")
    assert moved["path_a"].tolist() == [
        path.replace("/root", "/elsewhere") for path in pairs["path_a"]
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("same", "sane", "row 1: kind"),
        ("00000001", "00000000", "row 2: pair_id"),
        (",same,1", ",same,0", "row 1: label"),
    ],
)
def test_damaged_pairs_name_file_and_row(tmp_path, old, new, message):
    pairs = make_pairs(table(), PairConfig(count=40)).sort_values(
        "kind", key=lambda kind: kind != "same", ignore_index=True
    )
    pairs["pair_id"] = [f"{n:08d}" for n in range(len(pairs))]
    save_pairs(tmp_path / "pairs.csv", pairs, "/root")
    text = (tmp_path / "pairs.csv").read_text().replace(old, new, 1)
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(DataError, match=rf"pairs\.csv, {message}"):
        load_pairs(tmp_path / "pairs.csv", "/root")


@given(
    st.sets(st.text("abc123", min_size=1, max_size=4), min_size=2, max_size=40),
    st.floats(0.01, 0.99),
    st.integers(0, 9),
)
def test_a_split_is_a_partition_by_person_whatever_the_order(people, fraction, seed):
    split = split_identities(sorted(people), fraction, seed)
    assert set(split) == people and set(split.values()) == {"train", "val"}
    assert split == split_identities(sorted(people, reverse=True), fraction, seed)


def test_split_refuses_what_cannot_be_split():
    with pytest.raises(DataError):
        split_identities(["a", "a"], 0.5, 0)
    for fraction in (0, 1):
        with pytest.raises(DataError):
            split_identities(["a", "b"], fraction, 0)


def test_split_hash_sees_who_is_where_but_not_where_the_data_lies():
    images = table()
    assert split_hash(images) == split_hash(
        images.sample(frac=1).assign(path=images["path"].str.replace("/root", "/mnt"))
    )
    other = images.copy()
    other.loc[0, "split"] = "train"
    assert split_hash(other) != split_hash(images)
