"""submission.csv: every pair once, sorted, finite; joined by id rather than by position."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryptonite.core.errors import DataError
from kryptonite.data.submission import join, read_ground_truth, read_submission, write_submission


def test_write_submission_sorts_ids_of_eight_digits(tmp_path):
    write_submission(
        tmp_path / "s.csv",
        ["00000002", "00000000", "00000001"],
        np.array([0.25, -1.5, 3e-8], np.float32),
    )
    assert (
        tmp_path / "s.csv"
    ).read_text() == "pair_id,similarity\n00000000,-1.5\n00000001,2.99999989e-08\n00000002,0.25\n"


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20)
)
def test_read_submission_restores_every_float32(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("s") / "s.csv"
    write_submission(path, [f"{n:08d}" for n in range(len(scores))], np.array(scores, np.float32))
    assert np.array_equal(
        read_submission(path)["similarity"].to_numpy(np.float32), np.array(scores, np.float32)
    )


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        (["00000000", "00000000"], [1, 2], "row 2: pair_id occurs twice"),
        (["00000000", "1"], [1, 2], "row 2: pair_id is not a number"),
        (["00000000", "00000001"], [1, np.nan], "row 2: similarity is not a finite number"),
        (["00000000", "00000001"], [np.inf, 1], "row 1: similarity is not a finite number"),
        ([], [], "no pairs"),
    ],
)
def test_write_submission_keeps_the_old_file_when_scores_are_wrong(tmp_path, ids, scores, message):
    (tmp_path / "s.csv").write_text("old")
    with pytest.raises(DataError, match=message):
        write_submission(tmp_path / "s.csv", ids, np.array(scores, float))
    assert (tmp_path / "s.csv").read_text() == "old"


def test_readers_pad_ids_and_name_the_row_when_it_is_wrong(tmp_path):
    (tmp_path / "s.csv").write_text("pair_id,similarity\n7,0.5\n12,abc\n")
    with pytest.raises(DataError, match=r"s\.csv, row 2: similarity"):
        read_submission(tmp_path / "s.csv")
    (tmp_path / "s.csv").write_text("pair_id,similarity\n7,0.5\n")
    assert read_submission(tmp_path / "s.csv")["pair_id"].tolist() == ["00000007"]
    (tmp_path / "g.csv").write_text("pair_id,label\n7,2\n")
    with pytest.raises(DataError, match=r"g\.csv, row 1: label"):
        read_ground_truth(tmp_path / "g.csv")
    (tmp_path / "g.csv").write_text("pair,label\n7,1\n")
    with pytest.raises(DataError, match="column pair_id is missing"):
        read_ground_truth(tmp_path / "g.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,1\n", "has no row for pair 00000001"),
        ("0,1\n1,1\n2,1\n", "not in the ground truth: 00000002"),
    ],
)
def test_join_raises_data_error_when_pairs_are_missing_or_surplus(tmp_path, rows, message):
    (tmp_path / "g.csv").write_text("pair_id,label\n0,1\n1,0\n")
    (tmp_path / "s.csv").write_text("pair_id,similarity\n" + rows)
    with pytest.raises(DataError, match=message):
        join(read_ground_truth(tmp_path / "g.csv"), read_submission(tmp_path / "s.csv"), "s.csv")


def score(folder, *extra):
    command = [
        sys.executable,
        "eer.py",
        "--public_test_url",
        str(folder / "g.csv"),
        "--public_prediction_url",
        str(folder / "s.csv"),
        *extra,
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_eer_script_joins_by_id_when_a_submission_is_shuffled(tmp_path):
    (tmp_path / "g.csv").write_text(
        "pair_id,label,kind\n0,1,same\n1,0,different\n2,1,same\n3,0,synthetic\n"
    )
    (tmp_path / "s.csv").write_text(
        "pair_id,similarity\n00000003,0.75\n00000000,0.8\n00000002,0.7\n00000001,0.1\n"
    )
    done = score(tmp_path)
    assert done.returncode == 0
    assert "EER 0.500000 (platform)" in done.stdout and "pairs 4" in done.stdout
    assert "SV-EER 0.000000" in done.stdout and "SPF-EER 0.250000" in done.stdout
    (tmp_path / "s.csv").write_text("pair_id,similarity\n00000003,0.9\n")
    done = score(tmp_path)
    assert (
        done.returncode == 2
        and "has no row for pair" in done.stderr
        and "Traceback" not in done.stderr
    )
