"""The guard: what the spoof evidence may cost genuine pairs, and thresholds at an FMR."""

from dataclasses import replace

import numpy as np
import pytest

from kryptonite.fusion.cross import cross_fit
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import FUSERS, RHO_GRID, NonLinearLLR, RecognitionAlone, fit_fuser
from kryptonite.fusion.guard import (
    GenuinePairs,
    cross_fit_as,
    guard,
    named_thresholds,
    threshold_at_fmr,
)
from tests.fusion.population import draw

FMR = 0.01


def genuine(count=4000, seed=0, log_odds=-2.0):
    """Pairs of bona fide photos whose log-odds have the given mean."""
    generator = np.random.default_rng(seed)

    def pairs(similarity):
        odds = generator.normal(log_odds, 1.5, (2, count))
        return Evidence(generator.normal(similarity, 0.12, count), *odds)

    return GenuinePairs(pairs(0.6), pairs(0.1))


def fitted(name="llr"):
    pairs = draw(seed=1)
    return fit_fuser(name, pairs.evidence, pairs.kind)


@pytest.mark.parametrize("count", [1, 10, 999, 1000])
@pytest.mark.parametrize("fmr", [0.0, 0.001, 0.1, 1.0])
def test_threshold_at_fmr_is_the_lowest_that_keeps_to_it(count, fmr):
    similarity = np.random.default_rng(count).normal(size=count).clip(-1, 1)
    blank = np.zeros(count)
    source = GenuinePairs(Evidence(*np.zeros((3, 0))), Evidence(similarity, blank, blank))
    scores = RecognitionAlone().score(source.non_mated)
    threshold = threshold_at_fmr(RecognitionAlone(), [source], fmr)
    assert (scores >= threshold).mean() <= fmr
    # Every lower score as threshold accepts too many.
    lower = scores[scores < threshold]
    assert all((scores >= each).mean() > fmr for each in lower[-3:]) and np.isfinite(threshold)


@pytest.mark.parametrize(
    ("pairs", "names"),
    [
        (99, []),
        (100, ["fmr=0.1"]),
        (1000, ["fmr=0.1", "fmr=0.01"]),
        (10_000, ["fmr=0.1", "fmr=0.01", "fmr=0.001"]),
    ],
)
def test_named_thresholds_are_those_that_the_smallest_source_resolves(pairs, names):
    generator = np.random.default_rng(pairs)
    none = Evidence(*np.zeros((3, 0)))
    sources = [
        GenuinePairs(none, Evidence(generator.uniform(-1, 1, count), *np.zeros((2, count))))
        for count in (pairs, 12_000)
    ]
    alone = RecognitionAlone()
    thresholds = named_thresholds(alone, sources)
    assert list(thresholds) == names
    for name, threshold in thresholds.items():
        fmr = float(name.removeprefix("fmr="))
        assert threshold == threshold_at_fmr(alone, sources, fmr)
        for source in sources:
            assert (alone.score(source.non_mated) >= threshold).mean() <= fmr


def test_threshold_at_fmr_holds_in_the_source_with_most_false_matches():
    easy, hard = genuine(seed=1), genuine(seed=2)
    hard = replace(hard, non_mated=replace(hard.non_mated, similarity=hard.mated.similarity - 0.3))
    alone = RecognitionAlone()
    both = threshold_at_fmr(alone, [easy, hard], FMR)
    assert both == threshold_at_fmr(alone, [hard], FMR) > threshold_at_fmr(alone, [easy], FMR)


@pytest.mark.parametrize("cost", [0.005, 0.02, 0.1])
def test_guard_keeps_every_source_to_the_cost_with_the_largest_weight_that_does(cost):
    sources = [genuine(seed=1), genuine(seed=2, log_odds=0.0)]
    fuser = replace(fitted(), rho=0.99)
    chosen = guard(fuser, sources, FMR, cost)

    def costs(candidate):
        threshold = threshold_at_fmr(candidate, sources, FMR)
        plain = threshold_at_fmr(RecognitionAlone(), sources, FMR)
        return max(
            source.fnmr(candidate, threshold) - source.fnmr(RecognitionAlone(), plain)
            for source in sources
        )

    assert costs(chosen) <= cost < costs(fuser)
    assert replace(chosen, rho=fuser.rho) == fuser
    higher = [rho for rho in RHO_GRID if rho > chosen.rho]
    assert costs(replace(fuser, rho=higher[0])) > cost


def test_guard_does_not_raise_the_weight():
    fuser = replace(fitted(), rho=0.01)
    assert guard(fuser, [genuine()], FMR, 1.0) == fuser


def test_guard_takes_the_smallest_weight_when_none_keeps_to_the_cost():
    alarmed = genuine(log_odds=30.0)
    chosen = guard(fitted(), [alarmed], FMR, 0.0)
    assert isinstance(chosen, NonLinearLLR) and chosen.rho == min(RHO_GRID)


def test_cross_fit_as_gives_every_fit_the_weight_that_the_guard_left():
    pairs = draw(seed=1)
    people = pairs.identity_a, pairs.identity_b
    guarded = replace(fitted(), rho=1e-4)
    crossed = cross_fit_as(guarded, pairs.evidence, pairs.kind, *people, 5)
    plain = cross_fit("llr", pairs.evidence, pairs.kind, *people, 5)
    assert crossed.fusers == [replace(each, rho=1e-4) for each in plain.fusers]
    other = cross_fit_as(fitted("multinomial"), pairs.evidence, pairs.kind, *people, 5)
    assert other.fusers == cross_fit("multinomial", pairs.evidence, pairs.kind, *people, 5).fusers


@pytest.mark.parametrize("name", sorted(set(FUSERS) - {"llr"}))
def test_guard_leaves_fusions_without_a_weight_as_they_are(name):
    fuser = fitted(name)
    assert guard(fuser, [genuine(log_odds=5.0)], FMR, 0.0) is fuser


def test_genuine_pairs_refuse_nothing_when_there_are_no_mated_pairs():
    source = GenuinePairs(Evidence(*np.zeros((3, 0))), genuine().non_mated)
    assert source.fnmr(RecognitionAlone(), 2.0) == 0.0


def test_guard_lets_a_single_pair_of_a_small_source_decide_nothing():
    pairs = genuine(count=2000, log_odds=-8.0)
    one_alarm = Evidence(np.array([0.7, 0.7]), np.array([-8.0, 9.0]), np.array([-8.0, -8.0]))
    small = GenuinePairs(one_alarm, pairs.non_mated)
    fuser = fitted()
    assert guard(fuser, [pairs, small], FMR, 0.01) == fuser
    double = replace(one_alarm, log_odds_a=np.array([9.0, 9.0]))
    assert guard(fuser, [pairs, replace(small, mated=double)], FMR, 0.01).rho < fuser.rho
