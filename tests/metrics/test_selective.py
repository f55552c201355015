"""Risk-coverage figures against loops over the decisions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryptonite.core.errors import MetricError
from kryptonite.metrics.kinds import KINDS
from kryptonite.metrics.selective import (
    COVERAGES,
    RankedDecisions,
    error_name,
    selective_rates,
)


def decisions(count=60, seed=0):
    """Decisions of few distinct certainties, some infinite; weights are small whole numbers."""
    generator = np.random.default_rng(seed)
    kind = generator.choice(KINDS, count)
    accepted = (kind == "same") ^ (generator.random(count) < 0.3)
    certainty = generator.choice([0.0, 0.5, 1.0, 2.0, np.inf], count)
    return kind, accepted, certainty, generator.integers(0, 3, count).astype(float)


@given(st.integers(0, 50))
def test_curve_equals_a_loop_over_the_distinct_certainties(seed):
    kind, accepted, certainty, weight = decisions(seed=seed)
    wrong = accepted != (kind == "same")
    coverage, error = RankedDecisions(wrong, certainty).curve(weight)
    for row, least in enumerate(sorted(set(certainty), reverse=True)):
        given_mass = wrong_mass = 0.0
        for one, bad, mass in zip(certainty, wrong, weight, strict=True):
            if one >= least:
                given_mass += mass
                wrong_mass += mass * bad
        assert coverage[row] == pytest.approx(given_mass / weight.sum())
        assert error[row] == pytest.approx(wrong_mass / given_mass)
    assert (np.diff(coverage) >= 0).all() and coverage[-1] == 1


def test_aurc_is_the_mean_error_over_every_coverage_when_certainties_differ():
    generator = np.random.default_rng(0)
    wrong, certainty = generator.random(40) < 0.3, generator.normal(size=40)
    order = np.argsort(-certainty)
    errors = [wrong[order[: count + 1]].mean() for count in range(40)]
    figures = RankedDecisions(wrong, certainty).figures()
    assert figures["aurc"] == pytest.approx(np.mean(errors))
    for coverage in COVERAGES:
        count = int(np.ceil(coverage * 40 - 1e-6))
        assert figures[error_name(coverage)] == pytest.approx(errors[count - 1])


def test_aurc_is_lowest_when_wrong_decisions_are_the_least_certain():
    wrong = np.arange(20) < 5
    best, worst = (
        RankedDecisions(wrong, sign * np.arange(20)).figures()["aurc"] for sign in (1, -1)
    )
    flat = RankedDecisions(wrong, np.zeros(20)).figures()["aurc"]
    assert best < flat < worst and flat == 0.25


def test_weights_equal_repeated_pairs():
    kind, accepted, certainty, weight = decisions(seed=3)
    times = weight.astype(int)
    wrong = accepted != (kind == "same")
    repeated = RankedDecisions(np.repeat(wrong, times), np.repeat(certainty, times)).figures()
    assert RankedDecisions(wrong, certainty).figures(weight) == pytest.approx(repeated)
    chosen = certainty > 0.5
    assert selective_rates(kind, accepted, chosen, weight) == pytest.approx(
        selective_rates(*(np.repeat(each, times) for each in (kind, accepted, chosen)))
    )


def test_selective_rates_equal_a_loop():
    kind, accepted, certainty, _ = decisions(seed=1)
    chosen = certainty >= 1.0
    rates = selective_rates(kind, accepted, chosen)
    rows = list(zip(kind.tolist(), accepted.tolist(), chosen.tolist(), strict=True))
    shown = [(name, yes) for name, yes, shown in rows if shown]
    mated = [yes for name, yes in shown if name == "same"]
    others = [yes for name, yes in shown if name != "same"]
    assert rates["coverage"] == len(shown) / len(rows)
    assert rates["error"] == (mated.count(False) + others.count(True)) / len(shown)
    fnmr = mated.count(False) / len(mated)
    assert rates["fnmr"] == fnmr
    assert rates["half_total_error"] == (fnmr + others.count(True) / len(others)) / 2
    for name, rate in (("different", "fmr"), ("synthetic", "iapar")):
        of_kind = [yes for each, yes in shown if each == name]
        assert rates[rate] == of_kind.count(True) / len(of_kind)
    for name in KINDS:
        told = [shown for each, _, shown in rows if each == name]
        assert rates[f"withheld_{name}"] == told.count(False) / len(told)


def test_selective_rates_omits_what_the_given_decisions_do_not_tell():
    kind, accepted, *_ = decisions()
    rates = selective_rates(kind, accepted, kind == "same")
    assert {"fnmr", "error", "coverage"} <= rates.keys()
    assert not {"fmr", "iapar", "half_total_error"} & rates.keys()
    assert rates["withheld_same"] == 0 and rates["withheld_synthetic"] == 1


@pytest.mark.parametrize("certainty", [[], [1.0, np.nan]])
def test_ranked_decisions_raises_when_certainties_are_missing(certainty):
    with pytest.raises(MetricError, match="known certainty"):
        RankedDecisions(np.zeros(len(certainty), bool), np.array(certainty))
