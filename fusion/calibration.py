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


def fit_llr(target: np.ndarray, features: np.ndarray, least: float = 0.0) -> tuple[float, ...]:
    """Fits LLR = slopes · features + intercept by logistic regression.

    Both classes are weighted to equal mass, which turns the log-odds into a log-likelihood ratio.

    Args:
        target: N bool, true for the class that the LLR favours.
        features: N×F, each expected to be higher for that class. A slope is never negative: where
            the data say otherwise it is 0.
        least: Deviance by which a feature must improve the fit; the slope of one that does not is
            0 too, so that chance does not let an uninformative feature change any order.

    Returns:
        F slopes, then the intercept.

    Raises:
        MetricError: A class is missing.
    """
    target, features = np.asarray(target).astype(bool), np.asarray(features, np.float64)
    if not target.any() or target.all():
        raise MetricError("calibration needs both classes among the validation pairs")
    centre, deviation = features.mean(0), np.where(features.std(0) > 0, features.std(0), 1.0)
    scaled = (features - centre) / deviation
    used = np.ones(features.shape[1], bool)
    while used.any():
        coefficients, intercept, deviance = _fit_balanced(target, scaled[:, used])
        if (coefficients < 0).any():
            used[np.flatnonzero(used)[coefficients < 0]] = False
            continue
        losses = [
            _fit_balanced(target, scaled[:, used & (np.arange(len(used)) != each)])[2] - deviance
            for each in np.flatnonzero(used)
        ]
        if min(losses) >= least:
            break
        used[np.flatnonzero(used)[np.argmin(losses)]] = False
    slopes = np.zeros(len(used))
    if not used.any():
        return (*slopes.tolist(), 0.0)
    slopes[used] = coefficients / deviation[used]
    return (*slopes.tolist(), float(intercept - slopes @ centre))


def _fit_balanced(target: np.ndarray, scaled: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Fits a logistic regression with classes of equal mass: coefficients, intercept, deviance."""
    weights = np.where(target, 0.5 / target.mean(), 0.5 / (~target).mean())
    if not scaled.shape[1]:
        return np.zeros(0), 0.0, float(2 * np.log(2) * weights.sum())
    # Imported here because scoring fits nothing and starts a second sooner without scikit-learn.
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=100.0, class_weight="balanced").fit(scaled, target)
    margin = np.where(target, 1, -1) * model.decision_function(scaled)
    deviance = 2 * float(weights @ np.logaddexp(0, -margin))
    return model.coef_[0], float(model.intercept_[0]), deviance


def fit_calibration(target: np.ndarray, score: np.ndarray) -> Calibration:
    """Fits the calibration of one score; see `fit_llr`."""
    return Calibration(*fit_llr(target, np.asarray(score, np.float64)[:, None]))
