"""Splits partition identities; their hash covers content, not location."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryptonite.core.errors import DataError
from kryptonite.data.split import (
    alike_identities,
    alike_in_both,
    identities_in_both,
    split_hash,
    split_identities,
)

IDENTITIES = st.sets(st.text("abc123", min_size=1, max_size=4), min_size=2, max_size=40)


def table():
    rows = [
        (f"p{person}", f"/root/p{person}/{number}.jpg", "train" if person < 2 else "val", False)
        for person in range(4)
        for number in range(3)
    ]
    return pd.DataFrame(rows, columns=["label", "path", "split", "is_synthetic"])


@given(IDENTITIES, st.floats(0.01, 0.99), st.integers(0, 9))
def test_split_identities_partitions_whatever_the_order_and_repetition(people, fraction, seed):
    split = split_identities(sorted(people), fraction, seed)
    assert set(split) == people and set(split.values()) == {"train", "val"}
    assert split == split_identities(2 * sorted(people, reverse=True), fraction, seed)


@given(IDENTITIES, st.floats(0.01, 0.99), st.integers(0, 9))
def test_split_identities_holds_out_the_nearest_possible_number(people, fraction, seed):
    held_out = list(split_identities(people, fraction, seed).values()).count("val")
    possible = range(1, len(people))
    nearest = min(abs(count - fraction * len(people)) for count in possible)
    assert held_out in possible
    assert abs(held_out - fraction * len(people)) == pytest.approx(nearest)


def test_split_identities_depends_on_the_seed():
    people = [f"p{n}" for n in range(30)]
    assert split_identities(people, 0.5, 0) != split_identities(people, 0.5, 1)


def test_split_identities_raises_data_error_when_it_cannot_split():
    with pytest.raises(DataError, match="at least two people, got 1"):
        split_identities(["a", "a"], 0.5, 0)
    for fraction in (0, 1):
        with pytest.raises(DataError, match="between 0 and 1"):
            split_identities(["a", "b"], fraction, 0)


def test_split_hash_is_unchanged_when_rows_or_folders_move():
    images = table()
    moved = images.sample(frac=1, random_state=0)
    moved = moved.assign(path=moved["path"].str.replace("/root", "/mnt"))
    assert split_hash(images) == split_hash(moved)


@pytest.mark.parametrize(
    ("column", "value"),
    [("split", "val"), ("label", "p9"), ("path", "/root/p0/9.jpg"), ("is_synthetic", True)],
)
def test_split_hash_changes_when_content_changes(column, value):
    images = table()
    changed = images.copy()
    changed.loc[0, column] = value
    assert split_hash(changed) != split_hash(images)


def test_identities_in_both_lists_shared_labels_alone():
    train, val = (pd.DataFrame({"label": list(labels)}) for labels in ("cabba", "bxc"))
    assert identities_in_both(train, val) == ["b", "c"]
    assert identities_in_both(train, val[val["label"] == "x"]) == []


def test_alike_in_both_leaves_out_groups_of_one_side():
    train, val = ["5", "007", "7", "Anna"], ["000005", "anna", "ben", "BEN", "9"]
    found = alike_in_both(pd.DataFrame({"label": train}), pd.DataFrame({"label": val}))
    assert found == [["000005", "5"], ["Anna", "anna"]]


def test_alike_identities_groups_numbers_by_value_and_names_without_case():
    labels = ["5", "000005", "5.0", "50", "Anna", "anna", "ben", "0", "00", "5"]
    assert alike_identities(labels) == [["0", "00"], ["000005", "5", "5.0"], ["Anna", "anna"]]
