"""Every fusion: fit, order, symmetry, save and load; the non-linear one against its formula."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.errors import ConfigError, DataError, MetricError
from kryptonite.fusion.calibration import fit_calibration
from kryptonite.fusion.cross import cross_fit
from kryptonite.fusion.fuse import (
    FUSERS,
    REFUSED,
    Evidence,
    NonLinearLLR,
    Verifier,
    fit_fuser,
    load_verifiers,
    save_verifiers,
)
from kryptonite.metrics.error_rates import pair_metrics


def evidence(count=3000, seed=0):
    """Two branches that each tell one thing: similarity the person, log-odds the forgery."""
    generator = np.random.default_rng(seed)
    kind = generator.choice(["same", "different", "synthetic"], count, p=[0.5, 0.25, 0.25])
    similarity = generator.normal(np.where(kind == "different", 0.1, 0.6), 0.12)
    odds_a = generator.normal(-2, 1.5, count)
    odds_b = generator.normal(np.where(kind == "synthetic", 2.0, -2.0), 1.5)
    flip = generator.random(count) < 0.5
    people = generator.integers(0, 40, count)
    others = np.where(kind == "different", (people + generator.integers(1, 40, count)) % 40, people)
    return (
        similarity,
        np.where(flip, odds_b, odds_a),
        np.where(flip, odds_a, odds_b),
        kind,
        people,
        others,
    )


def known(**settings):
    """The same as a fusion is fitted on: evidence and kinds."""
    similarity, odds_a, odds_b, kind, *_ = evidence(**settings)
    return Evidence(similarity, odds_a, odds_b), kind


@pytest.mark.parametrize("name", FUSERS)
def test_a_fusion_fits_scores_saves_and_loads_to_the_bit(name, tmp_path):
    similarity, odds_a, odds_b, kind, *_ = evidence()
    fuser = fit_fuser(name, Evidence(similarity, odds_a, odds_b), kind)
    score = fuser.score(Evidence(similarity, odds_a, odds_b))
    assert score.dtype == np.float32 and np.isfinite(score).all()
    save_verifiers(tmp_path / "fusion.json", name, {name: Verifier(fuser, 0.25)})
    chosen, verifiers = load_verifiers(tmp_path / "fusion.json")
    judge = verifiers[name]
    assert chosen == name and judge.threshold == 0.25
    assert np.array_equal(judge.fuser.score(Evidence(similarity, odds_a, odds_b)), score)
    assert np.array_equal(
        fuser.score(Evidence(similarity, odds_b, odds_a)), score
    )  # which image comes first does not matter


@pytest.mark.parametrize("name", [name for name in FUSERS if name not in ("none", "detector")])
def test_fusions_beat_recognition_alone_on_pairs_they_were_not_fitted_on(name):
    fuser = fit_fuser(name, *known(seed=1))
    similarity, odds_a, odds_b, kind, *_ = evidence(seed=2)
    fused = pair_metrics(kind, fuser.score(Evidence(similarity, odds_a, odds_b)))
    alone = pair_metrics(kind, similarity)
    assert fused["eer"] < 0.67 * alone["eer"]
    assert alone["spf_eer"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "name", ["detector", "product", "gate", "calibrated_sum", "llr"]
)  # by construction; a regression promises nothing
@settings(max_examples=30)
@given(similarity=st.floats(-0.9, 0.9), odds=st.floats(-8, 8), more=st.floats(0.01, 5))
def test_a_more_synthetic_image_never_raises_the_score(name, similarity, odds, more):
    fuser = FITTED[name]
    plain, worse = fuser.score(
        Evidence(np.array([similarity] * 2), np.array([-1.0] * 2), np.array([odds, odds + more]))
    )
    assert worse <= plain + 1e-5


FITTED = {name: fit_fuser(name, *known()) for name in FUSERS}


def test_nonlinear_fusion_is_its_formula():
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
    genuine = (
        2 * -np.maximum(odds_a, odds_b) + 4 * similarity + 3 * comparison + 0.5
    )  # the lower of both images' genuine evidence
    expected = -np.log(0.7 * np.exp(-identity) + 0.3 * np.exp(-genuine))
    assert fuser.score(Evidence(similarity, odds_a, odds_b, comparison)) == pytest.approx(
        expected, rel=1e-5
    )


def test_nonlinear_fusion_stays_finite_at_extremes():
    fuser = NonLinearLLR(50.0, 0.0, 50.0, 50.0, 50.0, 0.0, 0.5)
    assert np.isfinite(
        fuser.score(
            Evidence(np.array([1.0, -1.0]), np.array([-500.0, 500.0]), np.array([-500.0, 500.0]))
        )
    ).all()


def test_calibrated_scores_are_log_likelihood_ratios():
    # Two unit Gaussians at ±1: the true LLR of score x is 2x, whatever the share of each class.
    generator = np.random.default_rng(0)
    target = np.arange(40_000) < 10_000
    score = generator.normal(np.where(target, 1.0, -1.0))
    calibration = fit_calibration(target, score)
    assert calibration.slope == pytest.approx(2, rel=0.05)
    assert calibration.intercept == pytest.approx(0, abs=0.05)


def test_llr_fusion_uses_that_a_forgery_keeps_only_part_of_the_identity():
    generator = np.random.default_rng(0)
    kind = np.repeat(["same", "different", "synthetic"], 400)
    similarity = generator.normal(
        np.select([kind == "same", kind == "different"], [0.6, 0.0], 0.4), 0.1
    )
    odds = generator.normal(size=(2, 1200))  # a detector that knows nothing
    fuser = fit_fuser("llr", Evidence(similarity, *odds), kind)
    fused, alone = (
        pair_metrics(kind, score)
        for score in (fuser.score(Evidence(similarity, *odds)), similarity)
    )
    assert fuser.genuine_similarity_slope > 0
    assert fused["eer"] <= alone["eer"] + 0.01


@pytest.mark.parametrize("name", ["llr", "multinomial"])
def test_a_comparison_that_knows_is_listened_to_and_none_changes_nothing(name):
    similarity, odds_a, odds_b, kind, *_ = evidence()
    odds_a = odds_b = np.random.default_rng(1).normal(
        size=len(kind)
    )  # a detector that knows nothing
    comparison = np.random.default_rng(2).normal(np.where(kind == "synthetic", -2.0, 2.0), 1.0)
    without, with_it = (
        Evidence(similarity, odds_a, odds_b),
        Evidence(similarity, odds_a, odds_b, comparison),
    )
    deaf, fuser = (fit_fuser(name, each, kind) for each in (without, with_it))
    assert (
        pair_metrics(kind, fuser.score(with_it))["spf_eer"]
        < 0.1
        < 0.4
        < pair_metrics(kind, deaf.score(without))["spf_eer"]
    )
    assert np.array_equal(
        deaf.score(without), deaf.score(Evidence(similarity, odds_a, odds_b, np.zeros(len(kind))))
    )
    assert np.allclose(
        deaf.score(with_it), deaf.score(without)
    )  # what it never saw in fitting has no weight


def test_chance_does_not_choose_rho_anew_for_every_fit():
    """Where ρ makes no difference it stays in the middle, so that the scores of several fits are on one scale."""
    assert {fit_fuser("llr", *known(seed=seed)).rho for seed in range(4)} == {0.5}


def test_calibration_never_turns_the_order_around():
    target = np.array([True, True, False, False])
    assert fit_calibration(target, np.array([0.0, 1.0, 2.0, 3.0])).slope == 0
    with pytest.raises(MetricError):
        fit_calibration(np.ones(3, bool), np.arange(3.0))


def test_cross_fitting_never_scores_by_a_fit_on_the_same_people(monkeypatch):
    _, odds_a, odds_b, kind, people, others = evidence(1500)
    row = np.arange(1500.0)  # in the similarity's place: tells which pairs were used
    seen = np.zeros(1500, int)

    class Spy:
        def __init__(self, fitted_on):
            self.fitted_on = fitted_on

        def score(self, rows):
            held, fitted = rows.similarity.astype(int), self.fitted_on.similarity.astype(int)
            assert not {*people[held], *others[held]} & {*people[fitted], *others[fitted]}
            seen[held] += 1
            return np.zeros(len(held))

    monkeypatch.setattr("kryptonite.fusion.cross.fit_fuser", lambda name, rows, *_: Spy(rows))
    marked = Evidence(row, odds_a, odds_b)
    cross_fit("llr", marked, kind, people, others, folds=5).score(marked)
    assert (seen == 1).all()


@pytest.mark.parametrize("name", FUSERS)
def test_pairs_without_a_face_are_refused_and_nothing_is_learnt_from_them(name):
    similarity, odds_a, odds_b, kind, people, others = evidence(600)
    clean = Evidence(similarity, odds_a, odds_b)
    found = np.random.default_rng(3).random(600) < 0.8
    wild = [np.where(found, values, 1e6) for values in (similarity, odds_a, -odds_b)]
    marked = Evidence(*wild, acquired=found)
    fuser = fit_fuser(name, marked, kind)
    assert fuser == fit_fuser(
        name, Evidence(similarity[found], odds_a[found], -odds_b[found]), kind[found]
    )
    score = fuser.score(marked)
    assert (score[~found] == REFUSED).all() and (score[found] > REFUSED).all()
    assert np.array_equal(score[found], fuser.score(marked.rows(found)))
    llr = fuser.llr(score)
    assert llr is None or ((llr[~found] == 0).all() and np.isfinite(llr).all())
    crossed = cross_fit(name, marked, kind, people, others, folds=5).score(marked)
    assert (crossed[~found] == REFUSED).all() and (fuser.score(clean) > REFUSED).all()


@pytest.mark.parametrize("bad", [np.array([np.nan, 0.1]), np.array([0.1])])
def test_unfit_evidence_is_refused(bad):
    with pytest.raises(DataError):
        Evidence(bad, np.zeros(2), np.zeros(2))
    with pytest.raises(DataError):
        Evidence(np.zeros(2), np.zeros(2), np.zeros(2), comparison=bad)
    with pytest.raises(DataError, match="acquired"):
        Evidence(np.zeros(2), np.zeros(2), np.zeros(2), acquired=np.ones(3, bool))


def test_unknown_names_missing_kinds_and_damaged_files_are_typed_errors(tmp_path):
    similarity, odds_a, odds_b, kind, *_ = evidence(100)
    with pytest.raises(ConfigError, match="llr"):
        fit_fuser("magic", Evidence(similarity, odds_a, odds_b), kind)
    for name in ("llr", "multinomial"):
        with pytest.raises(MetricError):
            fit_fuser(name, Evidence(similarity, odds_a, odds_b), np.full(100, "same"))
    with pytest.raises(ConfigError, match="3 folds"):
        cross_fit("llr", Evidence(similarity, odds_a, odds_b), kind, kind, kind, folds=2)
    two = np.where(kind == "different", "b", "a")
    with pytest.raises(MetricError, match="more validation people"):
        cross_fit(
            "llr", Evidence(similarity, odds_a, odds_b), kind, np.full(100, "a"), two, folds=3
        )
    (tmp_path / "fusion.json").write_text(json.dumps({"chosen": "llr", "fusers": {}}))
    with pytest.raises(DataError, match=r"fusion\.json"):
        load_verifiers(tmp_path / "fusion.json")
