"""Pair protocols hold the pairs they name, once each, and survive a round trip through a file."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.errors import DataError
from kryptonite.data.pairs import (
    PairConfig,
    images_in_pairs,
    load_pairs,
    make_pairs,
    pair_rows,
    save_pairs,
)


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
def test_make_pairs_draws_distinct_pairs_of_the_named_kinds(people, photos, forged, count, seed):
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


def test_make_pairs_follows_the_configuration_whatever_the_order_of_rows():
    images = table()
    config = PairConfig(count=60, same=0.2, different=0.8, synthetic=0.0)
    pairs = make_pairs(images, config)
    assert pairs["kind"].value_counts().to_dict() == {"different": 48, "same": 12}
    pd.testing.assert_frame_equal(make_pairs(images.sample(frac=1, random_state=1), config), pairs)
    assert not make_pairs(images, PairConfig(count=60, seed=1)).equals(
        make_pairs(images, PairConfig(count=60, seed=2))
    )


def test_make_pairs_raises_data_error_when_the_composition_is_impossible():
    with pytest.raises(DataError, match="sum to 1"):
        make_pairs(table(), PairConfig(same=0.5, different=0.5, synthetic=0.5))
    with pytest.raises(DataError, match="'synthetic'"):
        make_pairs(table(forged=0), PairConfig())
    with pytest.raises(DataError, match="'different'"):
        make_pairs(table(people=1), PairConfig())


def test_load_pairs_restores_saved_pairs_and_follows_the_root(tmp_path):
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
def test_load_pairs_names_file_and_row_when_damaged(tmp_path, old, new, message):
    pairs = make_pairs(table(), PairConfig(count=40)).sort_values(
        "kind", key=lambda kind: kind != "same", ignore_index=True
    )
    pairs["pair_id"] = [f"{n:08d}" for n in range(len(pairs))]
    save_pairs(tmp_path / "pairs.csv", pairs, "/root")
    text = (tmp_path / "pairs.csv").read_text().replace(old, new, 1)
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(DataError, match=rf"pairs\.csv, {message}"):
        load_pairs(tmp_path / "pairs.csv", "/root")


def test_images_in_pairs_and_pair_rows_find_the_images_of_every_pair():
    images = table()
    pairs = make_pairs(images, PairConfig(count=12))
    shown = images_in_pairs(pairs, images)
    assert set(shown["path"]) == {*pairs["path_a"], *pairs["path_b"]}
    assert list(shown.index) == list(range(len(shown)))
    rows = pair_rows(pairs, shown)
    for side, name in enumerate(("path_a", "path_b")):
        assert shown["path"].to_numpy()[rows[:, side]].tolist() == pairs[name].tolist()
