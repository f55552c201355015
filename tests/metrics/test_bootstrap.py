"""Intervals against a bootstrap that repeats the pairs themselves."""

import numpy as np
import pytest

from kryptonite.core.errors import MetricError
from kryptonite.metrics.bootstrap import (
    PairScores,
    detector_intervals,
    intervals,
    measure_pairs,
    pair_draws,
    pair_intervals,
    share_interval,
)
from kryptonite.metrics.error_rates import detector_metrics, pair_metrics


def population(people, seed=0):
    generator = np.random.default_rng(seed)
    a = generator.integers(0, people, 600)
    same = generator.random(600) < 0.5
    b = np.where(same, a, (a + 1 + generator.integers(0, people - 1, 600)) % people)
    kind = np.where(same, np.where(generator.random(600) < 0.3, "synthetic", "same"), "different")
    # Some people are easier to recognise than others, which makes their pairs dependent.
    easy = generator.normal(size=people)
    score = generator.normal(
        np.select([kind == "same", kind == "synthetic"], [2.0, 1.0], 0.0) + easy[a]
    )
    return a.astype(str), b.astype(str), kind, score


def test_pair_intervals_contain_the_figure_and_widen_when_pairs_share_people():
    a, b, kind, score = population(30)
    figures = pair_metrics(kind, score)
    by_person = pair_intervals(PairScores(a, b, kind, score), resamples=200)
    unique = np.arange(len(a)).astype(str)
    by_pair = pair_intervals(PairScores(unique, unique, kind, score), resamples=200)
    for name, (low, high) in by_person.items():
        assert low <= figures[name] <= high, name
    assert np.diff(by_person["eer"]) > 1.3 * np.diff(by_pair["eer"])


def test_pair_intervals_equal_naive_resampling():
    a, b, kind, score = population(8)
    # The same draws, but with pairs repeated instead of weighted.
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
    found = pair_intervals(PairScores(a, b, kind, score, 0.8), resamples=20, seed=3)
    assert set(found) == set(values[0])
    for name in set(found) - {"eer_challenge"}:
        assert found[name] == pytest.approx(
            tuple(np.quantile([value[name] for value in values], [0.025, 0.975]))
        ), name


def test_detector_intervals_equal_naive_resampling():
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
    found = detector_intervals(person, synthetic, log_odds, species, resamples=15, seed=1)
    for name in values[0]:
        assert found[name] == pytest.approx(
            tuple(np.quantile([value[name] for value in values], [0.025, 0.975]))
        ), name


def test_pair_draws_repeat_by_seed_and_share_identities_between_systems():
    a, b, kind, score = population(8)
    scored = PairScores(a, b, kind, score)
    draws = pair_draws(scored, resamples=20, seed=3)
    for name, values in pair_draws(scored, resamples=20, seed=3).items():
        assert np.array_equal(values, draws[name])
    assert not np.array_equal(pair_draws(scored, resamples=20, seed=4)["eer"], draws["eer"])
    # Rescaled scores rank the same pairs equally, so every draw agrees.
    rescaled = PairScores(a, b, kind, 2 * score + 1)
    assert np.array_equal(pair_draws(rescaled, resamples=20, seed=3)["eer"], draws["eer"])


def test_measure_pairs_puts_intervals_beside_the_metrics():
    a, b, kind, score = population(8)
    scored = PairScores(a, b, kind, score, 0.8, score)
    measured = measure_pairs(scored, 20)
    assert measured.pop("intervals") == pair_intervals(scored, 20)
    assert measured == pair_metrics(kind, score, 0.8, score)


def test_intervals_ignore_draws_that_lack_a_kind():
    draws = {"eer": np.array([np.nan, *np.linspace(0, 1, 101)])}
    assert intervals(draws, level=0.9)["eer"] == pytest.approx((0.05, 0.95))


def test_share_interval_equals_naive_resampling():
    generator = np.random.default_rng(0)
    identity, hit = generator.integers(0, 9, 60), generator.random(60) < 0.3
    names = np.unique(identity.astype(str))
    values = []
    for number in range(25):
        drawn = np.random.default_rng([2, number]).integers(0, len(names), len(names))
        rows = [row for name in names[drawn] for row in np.flatnonzero(identity == int(name))]
        values.append(hit[rows].mean())
    assert share_interval(identity, hit, resamples=25, seed=2) == pytest.approx(
        tuple(np.quantile(values, [0.025, 0.975]))
    )


def test_pair_intervals_raise_metric_error_when_no_draw_holds_every_kind():
    scored = PairScores(["a", "b"], ["a", "c"], ["same", "different"], [1.0, 0.0])
    with pytest.raises(MetricError, match="no bootstrap draw"):
        pair_intervals(scored, resamples=1, seed=0)
