"""Calibrates raw scores to log-likelihood ratios (Brümmer & du Preez 2006)."""

from dataclasses import dataclass

import numpy as np

from kryptonite.core.errors import MetricError


@dataclass(frozen=True)
class Calibration:
    """LLR = slope · score + intercept, natural logarithm.

    Args:
        slope: At least 0, so that calibration never reverses the order of scores.
        intercept: LLR of score 0.
    """

    slope: float
    intercept: float

    def __call__(self, score: np.ndarray) -> np.ndarray:
        return self.slope * np.asarray(score, np.float64) + self.intercept


def fit_llr(target: np.ndarray, features: np.ndarray) -> tuple[float, ...]:
    """Fits LLR = slopes · features + intercept by logistic regression.

    Both classes are weighted to equal mass, which turns the log-odds into a log-likelihood ratio.

    Args:
        target: N bool, true for the class that the LLR favours.
        features: N×F, each expected to be higher for that class. A slope is never negative: where
            the data say otherwise it is 0.

    Returns:
        F slopes, then the intercept.

    Raises:
        MetricError: A class is missing.
    """
    # Imported here because scoring fits nothing and starts a second sooner without scikit-learn.
    from sklearn.linear_model import LogisticRegression

    target, features = np.asarray(target).astype(bool), np.asarray(features, np.float64)
    if not target.any() or target.all():
        raise MetricError("calibration needs both classes among the validation pairs")
    centre, deviation = features.mean(0), np.where(features.std(0) > 0, features.std(0), 1.0)
    scaled = (features - centre) / deviation
    used = np.ones(features.shape[1], bool)
    while used.any():
        model = LogisticRegression(C=100.0, class_weight="balanced").fit(scaled[:, used], target)
        if (model.coef_[0] >= 0).all():
            break
        used[np.flatnonzero(used)[model.coef_[0] < 0]] = False
    slopes = np.zeros(len(used))
    if not used.any():
        return (*slopes.tolist(), 0.0)
    slopes[used] = model.coef_[0] / deviation[used]
    return (*slopes.tolist(), float(model.intercept_[0] - slopes @ centre))


def fit_calibration(target: np.ndarray, score: np.ndarray) -> Calibration:
    """Fits the calibration of one score; see `fit_llr`."""
    return Calibration(*fit_llr(target, np.asarray(score, np.float64)[:, None]))
