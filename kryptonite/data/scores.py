"""Reads scores from elsewhere: a table with one or several columns of scores, by pair id."""

from pathlib import Path

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.data.csv_tables import pair_id, read_table, refuse_blanks, refuse_rows
from kryptonite.data.pairs import PAIR_COLUMNS, read_protocol

# What error rates and their intervals need to know of a pair; its photos are not looked at.
LABEL_COLUMNS = [name for name in PAIR_COLUMNS if name not in ("path_a", "path_b")]


def read_scored_pairs(
    scores: Path | str, pairs: Path | str
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Reads labelled pairs and the scores that one or several systems give them.

    Args:
        scores: CSV with pair_id and a column of scores, higher for 'accept', per system; rows in
            any order. A submission is such a table. Columns of the pairs' own table are no scores.
        pairs: Frozen pairs or a ground truth, with `LABEL_COLUMNS`.

    Returns:
        The pairs' `LABEL_COLUMNS`, and per system its N scores in their order.

    Raises:
        DataError: Names file and row: a table is malformed, a pair stands there twice or in one of
            the two tables only, or a score is not a finite number.
    """
    table = read_protocol(pairs, LABEL_COLUMNS)
    scored = read_table(scores, ["pair_id"])
    if scored.empty:
        raise DataError(f"{scores}: contains no pairs")
    refuse_blanks(scores, scored, ["pair_id"])
    ids = scored["pair_id"].map(pair_id)
    ids = ids.where(ids != "", scored["pair_id"])
    _refuse_pair(scores, ids, ids.duplicated(), "occurs twice")
    _refuse_pair(scores, ids, ~ids.isin(table["pair_id"]), f"is not in {pairs}")
    missing = ~table["pair_id"].isin(ids)
    if missing.any():
        row = int(missing.to_numpy().argmax())
        raise DataError(
            f"{scores}: has no row for pair {table['pair_id'].iloc[row]} of {pairs}, row {row + 1} "
            f"({int(missing.sum())} such pairs)"
        )
    systems = [name for name in scored.columns if name not in PAIR_COLUMNS]
    if not systems:
        raise DataError(f"{scores}: has no column of scores beside {', '.join(scored.columns)}")
    order = pd.Index(ids).get_indexer(table["pair_id"])
    return table, {name: _numbers(scores, scored[name])[order] for name in systems}


def _refuse_pair(path: Path | str, ids: pd.Series, wrong: pd.Series, what: str) -> None:
    if wrong.any():
        refuse_rows(path, wrong, f"pair {ids[wrong].iloc[0]} {what} ({int(wrong.sum())} such rows)")


def _numbers(path: Path | str, texts: pd.Series) -> np.ndarray:
    numbers = pd.to_numeric(texts, errors="coerce").astype(float)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        refuse_rows(
            path, wrong, f"{texts.name} must be a finite number, got {texts[wrong].iloc[0]!r}"
        )
    return numbers.to_numpy()
