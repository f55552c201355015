"""Which decisions are withheld: uncertain ones, as many as asked; no refusal is accepted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.errors import ConfigError, MetricError
from kryptonite.fusion.abstention import fit_abstention
from kryptonite.fusion.calibration import fit_calibration
from kryptonite.fusion.evidence import REFUSED
from kryptonite.fusion.verifier import STORED, Verifier

SHARES = st.floats(0, 0.9)
LIMITS = st.floats(-4, 8)
FEW = settings(max_examples=20)  # every example fits


def drawn(count=400, seed=0):
    """Scores of mated pairs around 3, of others around 0."""
    generator = np.random.default_rng(seed)
    kind = generator.choice(["same", "different", "synthetic"], count)
    return kind, generator.normal(np.where(kind == "same", 3.0, 0.0), 1.5)


def verifier_of(limit, share, seed=0):
    rule = fit_abstention(*drawn(seed=seed), {STORED: limit}, share)
    return Verifier(None, limit, abstention=rule)


@FEW
@given(LIMITS, SHARES)
def test_fit_abstention_withholds_the_least_certain_decisions_as_a_loop_finds_them(limit, share):
    kind, score = drawn()
    calibrate = fit_calibration(kind == "same", score)
    odds = sorted(float(calibrate(s)) if s >= limit else -float(calibrate(s)) for s in score)
    verifier = verifier_of(limit, share)
    withheld = verifier.surplus(score, STORED) < 0
    assert withheld.sum() == int(share * len(score) * (1 + 1e-9))
    assert verifier.abstention.least[STORED] == pytest.approx(odds[withheld.sum()])


@FEW
@given(LIMITS, SHARES, SHARES)
def test_a_larger_share_withholds_more_decisions_and_gives_no_other(limit, one, other):
    _, score = drawn()
    few, many = (
        verifier_of(limit, share).surplus(score, STORED) < 0 for share in sorted((one, other))
    )
    assert (few <= many).all()


@FEW
@given(LIMITS, SHARES, st.integers(1, 9))
def test_withheld_scores_lie_between_two_limits_around_the_threshold(limit, share, seed):
    """So that what is still accepted reached the threshold by more, and was accepted before."""
    _, score = drawn(seed=seed)
    score = np.sort(np.append(score, limit))
    withheld = np.flatnonzero(verifier_of(limit, share).surplus(score, STORED) < 0)
    if len(withheld):
        assert np.array_equal(withheld, np.arange(withheld[0], withheld[-1] + 1))
        above = score[withheld[-1] + 1 :]
        assert (above >= limit).all()
        assert (score[: withheld[0]] < limit).all()


def test_fit_abstention_withholds_what_lies_between_the_threshold_and_even_odds():
    """At a strict threshold, refusals just below it are less certain than any acceptance."""
    kind, score = drawn(4000)
    even = -np.divide(*np.array(list(vars(fit_calibration(kind == "same", score)).values()))[::-1])
    strict = even + 2
    verifier = Verifier(None, strict, abstention=fit_abstention(kind, score, {STORED: strict}, 0.1))
    near = np.array([strict - 0.01, even + 0.01, strict, even - 3])
    low, _, accepted, refused = verifier.surplus(near, STORED)
    assert low < 0 < accepted and refused > 0
    assert verifier.abstention.certainty(near, strict)[:2].max() < 0


def test_fit_abstention_leaves_pairs_without_a_face_out_and_never_withholds_them():
    kind, score = drawn()
    missing = np.arange(len(score)) % 3 == 0
    refused = np.where(missing, REFUSED, score)
    rule = fit_abstention(kind, refused, {STORED: 1.0}, 0.2)
    assert rule == fit_abstention(kind[~missing], score[~missing], {STORED: 1.0}, 0.2)
    verifier = Verifier(None, 1.0, abstention=rule)
    assert np.array_equal(verifier.surplus(refused, STORED) == np.inf, missing)


def test_fit_abstention_withholds_none_of_equal_certainty():
    kind = np.array(["same", "different"] * 20)
    verifier = Verifier(None, 0.5, abstention=fit_abstention(kind, np.ones(40), {STORED: 0.5}, 0.2))
    assert (verifier.surplus(np.ones(40), STORED) == 0).all()


def test_fit_abstention_raises_when_there_are_no_mated_pairs():
    with pytest.raises(MetricError, match="both classes"):
        fit_abstention(np.array(["different"] * 5), np.arange(5.0), {STORED: 1.0}, 0.2)


def test_surplus_raises_when_run_has_no_rule_or_threshold():
    verifier = verifier_of(1.0, 0.2)
    score = np.zeros(1)
    with pytest.raises(ConfigError, match="trained by an older version"):
        replace(verifier, abstention=None).surplus(score, STORED)
    with pytest.raises(ConfigError, match="trained by an older version"):
        replace(verifier, at_fmr={"fmr=0.1": 0.0}).surplus(score, "fmr=0.1")
    with pytest.raises(ConfigError, match="unknown threshold"):
        verifier.surplus(score, "fmr=0.2")
