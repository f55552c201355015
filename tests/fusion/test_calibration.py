import numpy as np
import pytest

from kryptonite.core.errors import MetricError
from kryptonite.fusion.calibration import fit_calibration


def test_fit_calibration_gives_log_likelihood_ratios():
    # Two unit Gaussians at ±1: the true LLR of score x is 2x, whatever the share of each class.
    generator = np.random.default_rng(0)
    target = np.arange(40_000) < 10_000
    score = generator.normal(np.where(target, 1.0, -1.0))
    calibration = fit_calibration(target, score)
    assert calibration.slope == pytest.approx(2, rel=0.05)
    assert calibration.intercept == pytest.approx(0, abs=0.05)


def test_fit_calibration_gives_zero_slope_when_scores_are_reversed():
    target = np.array([True, True, False, False])
    assert fit_calibration(target, np.array([0.0, 1.0, 2.0, 3.0])).slope == 0


def test_fit_calibration_raises_when_a_class_is_missing():
    with pytest.raises(MetricError):
        fit_calibration(np.ones(3, bool), np.arange(3.0))
