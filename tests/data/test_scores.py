"""Scores from elsewhere are joined to their pairs by id; what is wrong is named by file and row."""

import numpy as np
import pytest

from kryptonite.core.errors import DataError
from kryptonite.data.scores import read_scored_pairs

PAIRS = """pair_id,label_a,label_b,synthetic_a,synthetic_b,kind,label,species
00000001,ann,ann,0,0,same,1,
00000002,ann,bob,0,0,different,0,
x-3,bob,bob,0,1,synthetic,0,swap
"""


@pytest.fixture
def read(tmp_path):
    def read(scores, pairs=PAIRS):
        (tmp_path / "scores.csv").write_text(scores)
        (tmp_path / "pairs.csv").write_text(pairs)
        return read_scored_pairs(tmp_path / "scores.csv", tmp_path / "pairs.csv")

    return read


def test_read_scored_pairs_joins_every_column_by_id_whatever_the_order(read):
    pairs, scores = read("Pair_ID;Mine;theirs;kind\nx-3;0.5;3;?\n1.0;1e-1;1;?\n2;-2;2;?\n")
    assert pairs["kind"].tolist() == ["same", "different", "synthetic"]
    assert list(scores) == ["mine", "theirs"]  # kind is a column of the pairs' own table
    assert np.array_equal(scores["mine"], [0.1, -2, 0.5])
    assert np.array_equal(scores["theirs"], [1, 2, 3])


def test_read_scored_pairs_reads_frozen_pairs_when_their_photos_are_elsewhere(read):
    frozen = PAIRS.replace("\n", ",a.jpg,b.jpg\n").replace(
        "species,a.jpg,b.jpg", "species,path_a,path_b"
    )
    assert read("pair_id,s\n1,1\n2,2\nx-3,3\n", frozen)[1]["s"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            "pair_id,s\n1,1\nx-3,3\n",
            r"scores\.csv: has no row for pair 00000002 of .*pairs\.csv, row 2",
        ),
        ("pair_id,s\n1,1\n2,2\nx-3,3\n2.0,5\n", r"scores\.csv, row 4: pair 00000002 occurs twice"),
        (
            "pair_id,s\n1,1\n9,2\nx-3,3\n",
            r"scores\.csv, row 2: pair 00000009 is not in .*pairs\.csv",
        ),
        (
            "pair_id,s\n1,1\n2,nan\nx-3,3\n",
            r"scores\.csv, row 2: s must be a finite number, got 'nan'",
        ),
        ("pair_id,s\n1,inf\n2,2\nx-3,3\n", r"row 1: s must be a finite number, got 'inf'"),
        ("pair_id,s,t\n1,1,1\n2,2,\nx-3,3,3\n", r"row 2: t must be a finite number, got ''"),
        ("pair_id,s\n1,1\n2,2\nx-3,high\n", r"row 3: s must be a finite number, got 'high'"),
        ("pair_id\n1\n2\nx-3\n", r"scores\.csv: has no column of scores"),
        ("pair_id,s\n", r"scores\.csv: contains no pairs"),
        ("pair_id,s\n,1\n", r"scores\.csv, row 1: pair_id is empty"),
    ],
)
def test_read_scored_pairs_names_file_and_row_when_scores_are_wrong(read, scores, message):
    with pytest.raises(DataError, match=message):
        read(scores)
