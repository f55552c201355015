"""Writes submission.csv atomically; reads submissions and ground truths with every check."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_path
from kryptonite.data.csv_tables import parse_pair_ids, read_table, refuse_blanks, refuse_rows


def write_submission(path: Path | str, pair_ids: Sequence[str], similarity: np.ndarray) -> None:
    """Writes `pair_id,similarity`, sorted by id.

    Raises:
        DataError: An id occurs twice or lacks eight digits, a score is not finite, or there are no
            pairs.
    """
    table = pd.DataFrame({"pair_id": list(pair_ids), "similarity": np.asarray(similarity)})
    _check(table, "similarity", str(path))
    with atomic_path(path) as temporary:
        # Nine significant digits restore every float32 exactly, so rounding creates no ties.
        table.sort_values("pair_id").to_csv(temporary, index=False, float_format="%.9g")


def read_submission(path: Path | str) -> pd.DataFrame:
    """Reads pair_id (eight digits, str) and similarity (float), rows in any order.

    Raises:
        DataError: Names file and row.
    """
    return _read(path, "similarity")


def read_ground_truth(path: Path | str) -> pd.DataFrame:
    """Reads pair_id, label (0 or 1) and, where present, kind.

    Raises:
        DataError: Names file and row.
    """
    table = _read(path, "label")
    wrong = ~table["label"].isin([0, 1])
    if wrong.any():
        value = table.loc[wrong, "label"].iloc[0]
        refuse_rows(path, wrong, f"label must be 0 or 1, got {value:g}")
    return table.assign(label=table["label"].astype(int))


def join(truth: pd.DataFrame, submission: pd.DataFrame, name: str) -> pd.DataFrame:
    """Joins both tables by pair_id; every pair must be in both.

    Args:
        truth: Column pair_id and others.
        submission: Column pair_id and others.
        name: Where the submission comes from, for messages.

    Raises:
        DataError: Names the submission and the first missing or surplus pair.
    """
    for table, other, problem in (
        (truth, submission, "has no row for pair"),
        (submission, truth, "has a pair that is not in the ground truth:"),
    ):
        unmatched = table.loc[~table["pair_id"].isin(other["pair_id"]), "pair_id"]
        if len(unmatched):
            raise DataError(f"{name}: {problem} {unmatched.iloc[0]} ({len(unmatched)} such pairs)")
    return truth.merge(submission, on="pair_id", validate="one_to_one")


def _read(path: Path | str, value: str) -> pd.DataFrame:
    table = read_table(path, ["pair_id", value])
    if table.empty:
        raise DataError(f"{path}: contains no pairs")
    refuse_blanks(path, table, ["pair_id"])
    numbers = pd.to_numeric(table[value].replace({"True": "1", "False": "0"}), errors="coerce")
    table = table.assign(
        **{value: numbers.astype(float), "pair_id": parse_pair_ids(path, table["pair_id"])}
    )
    _check(table, value, str(path))
    return table


def _check(table: pd.DataFrame, value: str, source: str) -> None:
    if table.empty:
        raise DataError(f"{source}: contains no pairs")
    for wrong, what in (
        (
            ~table["pair_id"].str.fullmatch(r"\d{8}"),
            "pair_id is not a number of up to eight digits",
        ),
        (table["pair_id"].duplicated(), "pair_id occurs twice"),
        (~np.isfinite(table[value]), f"{value} is not a finite number"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong.to_numpy()))
            raise DataError(f"{source}, row {row + 1}: {what} (pair {table['pair_id'].iloc[row]})")
