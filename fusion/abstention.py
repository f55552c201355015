"""Withholds the decisions that are least likely to be right (Chow 1970).

How likely a decision is to be right follows from the score alone: the photos' quality, what the
single branches say and the scores of mirrored photos add nothing to it
(`benchmarks/abstention.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kryptonite.fusion.calibration import Calibration, fit_calibration
from kryptonite.fusion.evidence import REFUSED


@dataclass(frozen=True)
class Abstention:
    """Which decisions are too uncertain to be given.

    A decision's *certainty* is the natural log-odds that it is right, mated and other pairs being
    equally frequent. It is low near the threshold, and between the threshold and the score at
    which both are equally probable, where it is below 0.

    Args:
        share: Of the decisions of the fit, 0..1, that are withheld.
        calibration: From scores to natural-log likelihood ratios of 'accept'.
        least: Maps the names of thresholds to the certainty below which a decision is withheld.
    """

    share: float
    calibration: Calibration
    least: Mapping[str, float]

    def certainty(self, score: np.ndarray, threshold: float) -> np.ndarray:
        """Gives the certainty of N decisions; infinite where a face is missing.

        Args:
            score: N scores.
            threshold: Scores that reach it are accepted.
        """
        score = np.asarray(score)
        llr = self.calibration(score)
        return np.where(score > REFUSED, np.where(score >= threshold, llr, -llr), np.inf)


def fit_abstention(
    kind: np.ndarray, score: np.ndarray, thresholds: Mapping[str, float], share: float
) -> Abstention:
    """Fits which decisions to withhold.

    Args:
        kind: N of 'same', 'different', 'synthetic'.
        score: N scores by a fit that has not seen these people; pairs without a face are left out.
        thresholds: Thresholds by name.
        share: Of the decisions at every threshold, 0..1, to withhold; fewer where scores are equal.

    Raises:
        MetricError: There are no mated pairs, or no others.
    """
    found = np.asarray(score) > REFUSED
    kind, score = np.asarray(kind)[found], np.asarray(score)[found]
    rule = Abstention(share, fit_calibration(kind == "same", score), {})
    # 0.2 × 40 is not quite 8 in floating point.
    row = min(int(share * len(score) * (1 + 1e-9)), len(score) - 1)
    least = {
        name: float(np.sort(rule.certainty(score, threshold))[row])
        for name, threshold in thresholds.items()
    }
    return Abstention(share, rule.calibration, least)
