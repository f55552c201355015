"""Reads labelled pairs that somebody's own face matcher has scored."""

from pathlib import Path

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.data.csv_tables import parse_labels, read_table, refuse_blanks, refuse_rows
from kryptonite.data.table_paths import resolve_paths
from kryptonite.metrics.kinds import KINDS

COLUMNS = ["path_a", "path_b", "label_a", "label_b", "similarity"]
_MATED = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def read_calibration(path: Path | str, root: Path | str) -> pd.DataFrame:
    """Reads a calibration table.

    Args:
        path: CSV with `COLUMNS`: both photos, the identities on them, and the matcher's similarity,
            higher for one person. Besides, `kind`, one of `metrics.kinds.KINDS`, or `label`, 1 for
            two genuine photos of one person and 0 for all other pairs: such a pair of one identity
            then holds a synthetic image.
        root: Folder that paths may be relative to.

    Returns:
        `COLUMNS` and `kind`, with absolute paths and numbers as similarity.

    Raises:
        DataError: Names file and row: a column or value is missing, a kind or label is unknown or
            contradicts the identities, a pair stands there twice, a similarity is not a finite
            number; or most photos do not exist.
    """
    table = read_table(path, COLUMNS, verbatim=["path_a", "path_b"])
    if table.empty:
        raise DataError(f"{path}: contains no pairs")
    refuse_blanks(path, table, COLUMNS)
    for name in ("label_a", "label_b"):
        table[name] = parse_labels(path, table[name])
    one_person = table["label_a"] == table["label_b"]
    kind = _kinds(path, table, one_person)
    for wrong, what in (
        ((kind == "same") & ~one_person, "a mated pair shows two people: label_a, label_b differ"),
        (
            (kind == "different") & one_person,
            "a pair of different people has one identity: label_a, label_b are equal",
        ),
    ):
        refuse_rows(path, wrong, what)
    similarity = pd.to_numeric(table["similarity"], errors="coerce").astype(float)
    refuse_rows(path, ~np.isfinite(similarity), "similarity is not a finite number")
    both = [*table["path_a"], *table["path_b"]]
    found = resolve_paths(both, Path(root), Path(path))
    table = table.assign(
        path_a=found[: len(table)],
        path_b=found[len(table) :],
        similarity=similarity,
        kind=kind,
    )
    unordered = pd.Series(
        [tuple(sorted(pair)) for pair in zip(table["path_a"], table["path_b"], strict=True)]
    )
    refuse_rows(path, unordered.duplicated(), "the same two photos stand there twice")
    return table[[*COLUMNS, "kind"]]


def _kinds(path: Path | str, table: pd.DataFrame, one_person: pd.Series) -> pd.Series:
    """Takes the kind of each pair from `kind`, else from `label` and the identities."""
    if "kind" not in table and "label" not in table:
        raise DataError(
            f"{path}: column kind or label is missing; found {', '.join(table.columns)}"
        )
    mated = None
    if "label" in table:
        mated = table["label"].str.lower().map(_MATED)
        refuse_rows(path, mated.isna(), "label must be 0 or 1")
    if "kind" not in table:
        others = np.where(one_person, "synthetic", "different")
        return pd.Series(np.where(mated.astype(bool), "same", others))
    kind = table["kind"].str.lower()
    refuse_rows(path, ~kind.isin(KINDS), "kind must be one of " + ", ".join(KINDS))
    if mated is not None:
        refuse_rows(path, (kind == "same") != mated.astype(bool), "label contradicts kind")
    return kind
