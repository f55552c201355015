"""Intervals against a resampling that repeats the pairs in fact."""

import numpy as np
import pytest

from kryptonite.core.errors import MetricError
from kryptonite.metrics.bootstrap import detector_intervals, pair_intervals
from kryptonite.metrics.error_rates import detector_metrics, pair_metrics


def _population(people, seed=0):
    generator = np.random.default_rng(seed)
    a = generator.integers(0, people, 600)
    same = generator.random(600) < 0.5
    b = np.where(same, a, (a + 1 + generator.integers(0, people - 1, 600)) % people)
    kind = np.where(same, np.where(generator.random(600) < 0.3, "synthetic", "same"), "different")
    easy = generator.normal(
        size=people
    )  # some people are easier to tell than others, which makes their pairs dependent
    score = generator.normal(
        np.select([kind == "same", kind == "synthetic"], [2.0, 1.0], 0.0) + easy[a]
    )
    return a.astype(str), b.astype(str), kind, score


def test_interval_holds_the_figure_and_knows_that_pairs_share_people():
    a, b, kind, score = _population(30)
    figures = pair_metrics(kind, score)
    by_person = pair_intervals(a, b, kind, score, resamples=200)
    every_pair_its_own = np.arange(len(a)).astype(str)
    by_pair = pair_intervals(every_pair_its_own, every_pair_its_own, kind, score, resamples=200)
    for name, (low, high) in by_person.items():
        assert low <= figures[name] <= high, name
    assert np.diff(by_person["eer"]) > 1.3 * np.diff(by_pair["eer"])


def test_bootstrap_repeats_by_seed_and_equals_a_naive_resampling():
    a, b, kind, score = _population(8)
    assert pair_intervals(a, b, kind, score, resamples=20, seed=3) == pair_intervals(
        a, b, kind, score, resamples=20, seed=3
    )
    # The same draws, with the pairs repeated in fact instead of weighted.
    people = np.unique(np.concatenate([a, b]))
    values = []
    for number in range(20):
        drawn = np.bincount(
            np.random.default_rng([3, number]).integers(0, len(people), len(people)),
            minlength=len(people),
        )
        times = dict(zip(people, drawn, strict=True))
        count = [times[x] if x == y else times[x] * times[y] for x, y in zip(a, b, strict=True)]
        rows = np.repeat(np.arange(len(a)), count)
        values.append(pair_metrics(kind[rows], score[rows], 0.8))
    intervals = pair_intervals(a, b, kind, score, 0.8, resamples=20, seed=3)
    assert set(intervals) == set(values[0])
    for name in set(intervals) - {"eer_challenge"}:
        assert intervals[name] == pytest.approx(
            tuple(np.quantile([value[name] for value in values], [0.025, 0.975]))
        ), name


def test_detector_bootstrap_equals_a_naive_resampling():
    generator = np.random.default_rng(0)
    person, synthetic = generator.integers(0, 12, 200), generator.random(200) < 0.5
    species = np.where(synthetic, np.where(generator.random(200) < 0.5, "swap", "blend"), "")
    log_odds = generator.normal(np.where(synthetic, 0.7, -0.7)).round(1)
    names = np.unique(person.astype(str))
    values = []
    for number in range(15):
        drawn = np.bincount(
            np.random.default_rng([1, number]).integers(0, len(names), len(names)),
            minlength=len(names),
        )
        times = dict(zip(names, drawn, strict=True))
        rows = np.repeat(np.arange(200), [times[one] for one in person.astype(str)])
        values.append(detector_metrics(synthetic[rows], log_odds[rows], species[rows]))
    intervals = detector_intervals(person, synthetic, log_odds, species, resamples=15, seed=1)
    for name in values[0]:
        assert intervals[name] == pytest.approx(
            tuple(np.quantile([value[name] for value in values], [0.025, 0.975]))
        ), name


def test_no_interval_from_one_person():
    with pytest.raises(MetricError, match="no bootstrap draw"):
        pair_intervals(
            ["a", "b"], ["a", "c"], ["same", "different"], [1.0, 0.0], resamples=1, seed=0
        )
