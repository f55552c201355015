"""Raw scores to log-likelihood ratios by logistic regression (Brümmer & du Preez 2006)."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from common.errors import MetricError


@dataclass(frozen=True)
class Calibration:
    """LLR = slope · score + intercept, natural logarithm.

    Args:
        slope: At least 0, so that calibration never turns the order of scores around.
        intercept: At equal priors.
    """

    slope: float
    intercept: float

    def __call__(self, score: np.ndarray) -> np.ndarray:
        return self.slope * np.asarray(score, np.float64) + self.intercept


def fit_calibration(target: np.ndarray, score: np.ndarray) -> Calibration:
    """Fits a calibration with both classes weighted to equal mass, which makes the log-odds a log-likelihood ratio.

    Args:
        target: N bool, true for the class the LLR speaks for.
        score: N.

    Raises:
        MetricError: A class is missing.
    """
    target, score = np.asarray(target).astype(bool), np.asarray(score, np.float64)
    if not target.any() or target.all():
        raise MetricError("calibration needs both classes on the validation pairs")
    centre, spread = score.mean(), score.std() or 1.0
    model = LogisticRegression(C=100.0, class_weight="balanced").fit(((score - centre) / spread)[:, None], target)
    slope = max(0.0, float(model.coef_[0, 0])) / spread
    intercept = float(model.intercept_[0]) - slope * centre if slope else 0.0
    return Calibration(slope, intercept)
