"""Every fuser: fit, order, symmetry; the non-linear one against its formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.errors import ConfigError, MetricError
from kryptonite.fusion.evidence import REFUSED, Evidence
from kryptonite.fusion.fusers import FUSERS, NonLinearLLR, fit_fuser
from kryptonite.metrics.error_rates import pair_metrics
from tests.fusion.population import draw


def fitted(name, **drawn):
    """A fuser fitted on drawn pairs."""
    pairs = draw(**drawn)
    return fit_fuser(name, pairs.evidence, pairs.kind)


FITTED = {name: fitted(name) for name in FUSERS}


@pytest.mark.parametrize("name", [name for name in FUSERS if name not in ("none", "detector")])
def test_fuser_beats_recognition_alone_on_unseen_pairs(name):
    pairs = draw(seed=2)
    fused = pair_metrics(pairs.kind, fitted(name, seed=1).score(pairs.evidence))
    alone = pair_metrics(pairs.kind, pairs.similarity)
    assert fused["eer"] < 0.67 * alone["eer"]
    assert alone["spf_eer"] == pytest.approx(0.5, abs=0.05)


# Holds by construction for these; a regression guarantees nothing.
@pytest.mark.parametrize("name", ["detector", "product", "gate", "calibrated_sum", "llr"])
@settings(max_examples=30)
@given(similarity=st.floats(-0.9, 0.9), odds=st.floats(-8, 8), more=st.floats(0.01, 5))
def test_fuser_never_raises_score_when_an_image_looks_more_synthetic(name, similarity, odds, more):
    plain, worse = FITTED[name].score(
        Evidence(np.array([similarity] * 2), np.array([-1.0] * 2), np.array([odds, odds + more]))
    )
    assert worse <= plain + 1e-5


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["llr", "calibrated_sum"])
def test_fuser_keeps_the_order_of_similarities_when_the_detectors_are_uninformative(name, seed):
    pairs = draw(count=2000, seed=seed)
    generator = np.random.default_rng(seed)
    noise = Evidence(pairs.similarity, *generator.normal(0, 2, (3, len(pairs.kind))))
    # The similarity must say nothing of forgeries here, or it would be evidence on its own.
    scores = fit_fuser(name, noise, pairs.kind).combine(noise)
    assert (np.diff(scores[np.argsort(noise.similarity)]) >= 0).all()


def test_nonlinear_llr_computes_its_formula():
    fuser = NonLinearLLR(
        10.0,
        -3.0,
        2.0,
        genuine_similarity_slope=4.0,
        genuine_comparison_slope=3.0,
        genuine_intercept=0.5,
        rho=0.3,
    )
    similarity, odds_a, odds_b = (
        np.array([0.7, 0.1, 0.6]),
        np.array([-3.0, -3.0, 4.0]),
        np.array([-2.0, -1.0, -3.0]),
    )
    comparison = np.array([1.0, 0.0, -1.0])
    identity = 10 * similarity - 3
    # The lower of both images' bona fide evidence counts.
    bona_fide = 2 * -np.maximum(odds_a, odds_b) + 4 * similarity + 3 * comparison + 0.5
    expected = -np.log(0.7 * np.exp(-identity) + 0.3 * np.exp(-bona_fide))
    assert fuser.score(Evidence(similarity, odds_a, odds_b, comparison)) == pytest.approx(
        expected, rel=1e-5
    )


def drawn_evidence():
    """Pairs with all four kinds of evidence."""
    pairs = draw(400)
    comparison = np.random.default_rng(5).normal(np.where(pairs.kind == "synthetic", -1.0, 1.0))
    evidence = Evidence(pairs.similarity, pairs.log_odds_a, pairs.log_odds_b, comparison)
    return evidence, pairs.kind


@pytest.mark.parametrize(
    ("name", "joined"),
    [
        ("llr", lambda fuser, identity, genuine: np.exp([-identity, -genuine]).T @ (
            1 - fuser.rho, fuser.rho
        )),
        ("multinomial", lambda _, identity, genuine: np.exp([-identity, -genuine]).T @ (0.5, 0.5)),
        ("calibrated_sum", lambda _, identity, genuine: np.exp(-identity - genuine)),
    ],
)  # fmt: skip
def test_parts_give_the_likelihood_ratio_of_the_score(name, joined):
    evidence, kind = drawn_evidence()
    fuser = fit_fuser(name, evidence, kind)
    parts = fuser.parts(evidence)
    terms = parts.detector + parts.similarity + parts.differential_detector
    expected = -np.log(joined(fuser, parts.recognition, terms))
    assert fuser.llr(fuser.combine(evidence)) == pytest.approx(expected)


@pytest.mark.parametrize("slope", [0.0, 4.0])
def test_parts_of_nonlinear_llr_are_zero_where_a_branch_is_undecided(slope):
    fuser = NonLinearLLR(10.0, -3.0, 2.0, slope, 3.0, 0.5)
    undecided = Evidence(*np.zeros((4, 1)))
    parts = fuser.parts(undecided)
    assert parts.recognition == [-3] and parts.differential_detector == [0]
    # The intercept is the similarity's where it has a term, else the detector's.
    assert (parts.detector, parts.similarity) == (([0], [0.5]) if slope else ([0.5], [0]))
    moved = fuser.parts(Evidence(np.array([0.25]), np.array([-1]), np.array([-2]), np.array([2])))
    assert moved.recognition == [-0.5] and moved.differential_detector == [6]
    assert (moved.detector, moved.similarity) == (([2], [1.5]) if slope else ([2.5], [0]))


@pytest.mark.parametrize("name", ["none", "detector"])
def test_parts_are_none_when_the_fusion_has_one_branch(name):
    assert FITTED[name].parts(draw(10).evidence) is None


@pytest.mark.parametrize("name", [name for name in FUSERS if name not in ("none", "detector")])
def test_forgery_tells_forgeries_from_different_people(name):
    pairs = draw(seed=2)
    refused = pairs.kind != "same"
    odds = FITTED[name].forgery(pairs.evidence)
    forged = (pairs.kind == "synthetic")[refused]
    assert ((odds[refused] > 0) == forged).mean() > 0.9
    assert (FITTED["none"].forgery(pairs.evidence) < 0).all()
    assert (FITTED["detector"].forgery(pairs.evidence) > 0).all()


def test_nonlinear_llr_stays_finite_when_evidence_is_extreme():
    fuser = NonLinearLLR(50.0, 0.0, 50.0, 50.0, 50.0, 0.0, 0.5)
    odds = np.array([-500.0, 500.0])
    assert np.isfinite(fuser.score(Evidence(np.array([1.0, -1.0]), odds, odds))).all()


def test_nonlinear_llr_uses_similarity_when_forgeries_keep_part_of_identity():
    generator = np.random.default_rng(0)
    kind = np.repeat(["same", "different", "synthetic"], 400)
    similarity = generator.normal(
        np.select([kind == "same", kind == "different"], [0.6, 0.0], 0.4), 0.1
    )
    odds = generator.normal(size=(2, 1200))  # an uninformative detector
    evidence = Evidence(similarity, *odds)
    fuser = fit_fuser("llr", evidence, kind)
    fused, alone = (pair_metrics(kind, score) for score in (fuser.score(evidence), similarity))
    assert fuser.genuine_similarity_slope > 0
    assert fused["eer"] <= alone["eer"] + 0.01


@pytest.mark.parametrize("name", ["llr", "multinomial"])
def test_fuser_uses_comparison_score_when_informative(name):
    pairs = draw()
    odds = np.random.default_rng(1).normal(size=len(pairs.kind))  # an uninformative detector
    comparison = np.random.default_rng(2).normal(
        np.where(pairs.kind == "synthetic", -2.0, 2.0), 1.0
    )
    without = Evidence(pairs.similarity, odds, odds)
    compared = Evidence(pairs.similarity, odds, odds, comparison)
    fuser, blind = (fit_fuser(name, each, pairs.kind) for each in (compared, without))
    spf_eer = pair_metrics(pairs.kind, fuser.score(compared))["spf_eer"]
    assert spf_eer < 0.1
    assert pair_metrics(pairs.kind, blind.score(without))["spf_eer"] > 0.4
    # Without a comparison in the fit it has no weight, and zeros stand for a missing one.
    zeros = Evidence(pairs.similarity, odds, odds, np.zeros(len(odds)))
    assert np.array_equal(blind.score(without), blind.score(zeros))
    assert np.allclose(blind.score(compared), blind.score(without))


def test_nonlinear_llr_keeps_rho_in_the_middle_when_it_makes_no_difference():
    """The scores of several fits then share one scale."""
    assert {fitted("llr", seed=seed).rho for seed in range(4)} == {0.5}


@pytest.mark.parametrize("name", FUSERS)
def test_fuser_refuses_and_ignores_pairs_when_no_face_was_found(name):
    pairs = draw(600)
    similarity, odds_a, odds_b, kind, *_ = pairs
    found = np.random.default_rng(3).random(600) < 0.8
    wild = [np.where(found, values, 1e6) for values in (similarity, odds_a, -odds_b)]
    evidence = Evidence(*wild, acquired=found)
    fuser = fit_fuser(name, evidence, kind)
    clean = Evidence(similarity[found], odds_a[found], -odds_b[found])
    assert fuser == fit_fuser(name, clean, kind[found])
    score = fuser.score(evidence)
    assert (score[~found] == REFUSED).all() and (score[found] > REFUSED).all()
    assert np.array_equal(score[found], fuser.score(evidence.rows(found)))
    assert (fuser.score(pairs.evidence) > REFUSED).all()
    llr = fuser.llr(score)
    assert llr is None or ((llr[~found] == 0).all() and np.isfinite(llr).all())


def test_fit_fuser_raises_when_name_is_unknown():
    pairs = draw(100)
    with pytest.raises(ConfigError, match="llr"):
        fit_fuser("magic", pairs.evidence, pairs.kind)


@pytest.mark.parametrize("name", ["llr", "multinomial"])
def test_fit_fuser_raises_when_a_kind_of_pair_is_missing(name):
    with pytest.raises(MetricError):
        fit_fuser(name, draw(100).evidence, np.full(100, "same"))
