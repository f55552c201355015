"""Fits a run's fusion again with other log-odds, and measures it against recognition alone."""

from collections.abc import Sequence

import pandas as pd

from benchmarks.transfer import gain_text, is_worse
from kryptonite.fusion.verifier import Verifier
from kryptonite.metrics.kinds import KINDS
from kryptonite.report import transfer
from kryptonite.runs.config import FusionConfig
from kryptonite.runs.fuse import ValidationPairs, fit_verifier

COLUMNS = ["left_out", *transfer.COLUMNS, "held_out"]
HEAD = (
    "| left out | source | forgery | SPF-EER alone | fused | gain | mated refused alone | fused "
    "| held out |"
)


def with_log_odds(pairs: pd.DataFrame, log_odds: pd.Series) -> pd.DataFrame:
    """Replaces the log-odds of pairs' images; drops pairs with an image that has none.

    Args:
        pairs: Columns key_a and key_b.
        log_odds: By the images' keys, some of which may repeat.
    """
    of_key = log_odds[~log_odds.index.duplicated()]
    known = pairs[pairs["key_a"].isin(of_key.index) & pairs["key_b"].isin(of_key.index)]
    sides = {f"log_odds_{side}": of_key[known[f"key_{side}"]].to_numpy() for side in "ab"}
    return known.assign(**sides)


def refit_fusion(
    log_odds: pd.Series, val: ValidationPairs, config: FusionConfig
) -> dict[str, Verifier] | None:
    """Fits recognition `alone` and the run's fusion, `fused`, on images that have log-odds.

    Weights, guard and thresholds are fitted as in training.

    Args:
        log_odds: Of the validation images to fit on, by key.
        val: All validation pairs.
        config: The run's fusion.

    Returns:
        The systems; None if a kind of pairs is missing among the frozen pairs of these images.
    """
    pairs = with_log_odds(val.pairs, log_odds)
    if set(pairs["kind"]) != set(KINDS):
        return None
    genuine = [with_log_odds(each, log_odds) for each in val.genuine]
    genuine = [each for each in genuine if len(each)]
    names = {"alone": "none", "fused": config.name}
    return {which: fit_verifier(name, pairs, genuine, config) for which, name in names.items()}


def line(row: dict) -> str:
    """A row of unseen_pairs.csv as Markdown."""
    alone, fused, *refused = (
        f"{100 * row[f'{metric}_{which}']:.1f}%"
        for metric in ("spf_eer", "fnmr")
        for which in ("alone", "fused")
    )
    cells = [row["left_out"], row["source"], row["forgery"], alone, fused, gain_text(row)]
    return f"| {' | '.join([*cells, *refused, 'yes' if row['held_out'] else ''])} |"


def summary(rows: Sequence[dict]) -> str:
    """Names the held-out cell with the lowest gain, and the cells that fusion makes worse."""
    held_out = [row for row in rows if row["held_out"]]
    worst = min(held_out, key=lambda row: row["spf_eer_gain"])
    worse = [_name(row) for row in rows if is_worse(row)]
    return (
        f"Lowest gain in SPF-EER of {len(held_out)} held-out cells with pairs: {_name(worst)}: "
        f"{worst['spf_eer_alone']:.1%} alone, {worst['spf_eer_fused']:.1%} fused, "
        f"gain {gain_text(worst)}.\n"
        f"Fusion is worse than recognition alone, in EER or SPF-EER beyond the interval, in "
        f"{len(worse) or 'none'} of {len(rows)} cells{': ' if worse else ''}{'; '.join(worse)}."
    )


def _name(row: dict) -> str:
    return f"{row['source']}, {row['forgery']}, left out {row['left_out']}"
