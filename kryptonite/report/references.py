"""Measure a run's error rates by the number of references that a probe is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kryptonite.metrics.bootstrap import PairScores, intervals, pair_draws
from kryptonite.metrics.error_rates import pair_metrics


@dataclass(frozen=True)
class ScoredTrials:
    """Scores of the same N probes against some number of references.

    Args:
        references: Their number.
        forged: How many of them are forgeries of the claimed person.
        scores: Maps `system` (the chosen fusion) and `alone` (the cosine) to N scores.
        threshold: Of the chosen fusion for this number.
        llr: N natural-log likelihood ratios that the chosen fusion's scores are; None if they are
            none.
    """

    references: int
    forged: int
    scores: dict[str, np.ndarray]
    threshold: float
    llr: np.ndarray | None


@dataclass(frozen=True)
class ReferenceScores:
    """Probes scored against several numbers of references.

    Args:
        kind: N kinds.
        identity: N identities on the probe.
        claimed: N identities that it is claimed to show.
        trials: First those against one reference.
    """

    kind: np.ndarray
    identity: np.ndarray
    claimed: np.ndarray
    trials: Sequence[ScoredTrials]


def reference_figures(scored: ReferenceScores, resamples: int) -> dict[str, Any]:
    """Computes what the report shows.

    Args:
        scored: The scored trials.
        resamples: Number of bootstrap draws over identities behind each interval.

    Returns:
        `trials`, their number by kind, `people`, the number of people claimed, and `rows`: per
        number of references `references`, `forged`, and for `system` and `alone` the figures of
        `pair_metrics` with their 95% `intervals`, `change`, how far the SPF-EER lies above that of
        one reference on the same trials, and its `change_interval`.
    """
    rows: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    for trial in scored.trials:
        row: dict[str, Any] = {"references": trial.references, "forged": trial.forged}
        for name, score in trial.scores.items():
            own = name == "system"
            more = (trial.threshold, trial.llr) if own else (None, None)
            figures = pair_metrics(scored.kind, score, *more)
            draws = pair_draws(
                PairScores(scored.identity, scored.claimed, scored.kind, score, *more), resamples
            )
            start, start_draws = first.setdefault(name, (figures["spf_eer"], draws["spf_eer"]))
            change = intervals({"spf_eer": draws["spf_eer"] - start_draws})["spf_eer"]
            row[name] = {
                **figures,
                "intervals": intervals(draws),
                "change": figures["spf_eer"] - start,
                "change_interval": change,
            }
        rows.append(row)
    kinds, counts = np.unique(scored.kind, return_counts=True)
    return {
        "trials": dict(zip(kinds.tolist(), counts.tolist(), strict=True)),
        "people": len(np.unique(scored.claimed)),
        "rows": rows,
    }
