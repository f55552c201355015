"""Measure what a run gains by withholding its less certain decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kryptonite.metrics.bootstrap import intervals, weighted_draws
from kryptonite.metrics.selective import (
    COVERAGES,
    RankedDecisions,
    error_name,
    selective_rates,
)

SHARES = (1.0, 0.9, 0.8, 0.7)  # of the pairs, whose decisions are the most certain


@dataclass(frozen=True)
class SelectiveDecisions:
    """A run's decisions on labelled pairs, and how certain they are.

    Args:
        kind: N kinds.
        identity_a: N identities on the first image.
        identity_b: N identities on the second image.
        accepted: N bool, the decisions at the stored threshold.
        surplus: N, how far their certainty lies above the least; below 0 they are withheld.
        share: Of the decisions that the rule was fitted to withhold, 0..1.
    """

    kind: np.ndarray
    identity_a: Sequence | np.ndarray
    identity_b: Sequence | np.ndarray
    accepted: np.ndarray
    surplus: np.ndarray
    share: float


def selective_figures(decisions: SelectiveDecisions, resamples: int) -> dict[str, Any]:
    """Computes what the report shows.

    Args:
        decisions: The decisions.
        resamples: Number of bootstrap draws over identities behind each interval.

    Returns:
        `share`, as fitted; `rule` and `rows`: the figures of `selective_rates` with their 95%
        `intervals`, of the rule and of the most certain decisions by `SHARES`, at the lowest
        coverage that is no less; `aurc` with its `aurc_interval`; `curve`: `coverage`, `error` and
        its interval, `low` and `high`, at every one of `COVERAGES`.
    """
    identities = decisions.identity_a, decisions.identity_b
    ranked = RankedDecisions(decisions.accepted != (decisions.kind == "same"), decisions.surplus)
    figures = ranked.figures()
    limits = intervals(weighted_draws(*identities, ranked.figures, resamples))

    def rates(given: np.ndarray) -> dict[str, Any]:
        measure = partial(selective_rates, decisions.kind, decisions.accepted, given)
        draws = weighted_draws(*identities, measure, resamples)
        return {**measure(), "intervals": intervals(draws)}

    falling = np.sort(decisions.surplus)[::-1]
    cuts = [falling[int(np.ceil(share * len(falling) - 1e-9)) - 1] for share in SHARES]
    return {
        "share": decisions.share,
        "rule": rates(decisions.surplus >= 0),
        "rows": [rates(decisions.surplus >= cut) for cut in cuts],
        "aurc": figures["aurc"],
        "aurc_interval": limits["aurc"],
        "curve": [
            {
                "coverage": float(coverage),
                "error": figures[name],
                "low": limits[name][0],
                "high": limits[name][1],
            }
            for coverage in COVERAGES
            for name in [error_name(coverage)]
        ],
    }
