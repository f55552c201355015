"""Error rates against hand-made values, a naive loop, and the platform's own formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_curve

from common.errors import MetricError
from evaluation.metrics import bootstrap_interval, detector_metrics, eer, eer_challenge, eer_threshold, error_curves, spoof_aware_eers

SCORES = arrays(np.float64, st.integers(2, 40), elements=st.integers(-5, 5).map(float))  # few values: many ties


def naive_eer(label, score):
    """Mean of FNMR and FMR at the threshold where they are closest, by trying every threshold; among equals the highest threshold."""
    best = None
    for threshold in [np.inf, *sorted(set(score), reverse=True)]:
        accepted = [s >= threshold for s in score]
        fmr = sum(a for a, y in zip(accepted, label, strict=True) if not y) / sum(not y for y in label)
        fnmr = sum(not a for a, y in zip(accepted, label, strict=True) if y) / sum(bool(y) for y in label)
        if best is None or abs(fnmr - fmr) < best[0] - 1e-12:
            best = abs(fnmr - fmr), (fnmr + fmr) / 2, threshold
    return best[1], best[2]


@given(SCORES, st.randoms(use_true_random=False))
def test_eer_is_the_naive_loop(score, random):
    label = np.array([random.random() < 0.5 for _ in score])
    label[0], label[1] = True, False
    value, _ = naive_eer(label, score)
    assert eer(label, score) == pytest.approx(value, abs=1e-9)


def test_platform_figure_is_fnr_at_the_nearest_point():
    # Falling thresholds give (FMR, FNMR): … (0, .2), (⅓, .2), (⅓, 0) …; the second is the nearest pair.
    label = np.array([1, 1, 1, 1, 0, 1, 0, 0])
    score = np.array([9, 8, 7, 6, 5, 4, 3, 2.0])
    fpr, tpr, _ = roc_curve(label, score)
    assert eer_challenge(label, score) == (1 - tpr)[np.nanargmin(np.abs(1 - tpr - fpr))] == pytest.approx(0.2)
    assert eer(label, score) == pytest.approx((0.2 + 1 / 3) / 2)


def test_separated_scores_have_no_error_and_inverted_ones_nothing_else():
    label, score = np.array([1, 1, 0, 0]), np.array([4.0, 3, 2, 1])
    assert eer(label, score) == 0
    assert eer(label, -score) == 1


def test_constant_scores_are_a_coin():
    assert eer(np.array([1, 0, 1, 0]), np.zeros(4)) == 0.5


@given(SCORES)
def test_threshold_reproduces_the_curves_point(score):
    label = np.arange(len(score)) % 2 == 0
    threshold = eer_threshold(label, score)
    assert np.isfinite(threshold)
    accepted = score >= threshold
    thresholds, fmr, fnmr = error_curves(label, score)
    row = int(np.flatnonzero(thresholds == threshold)[0])
    assert fmr[row] == pytest.approx(accepted[~label].mean())
    assert fnmr[row] == pytest.approx(1 - accepted[label].mean())


@given(SCORES)
def test_a_monotone_change_of_scores_changes_nothing(score):
    label = np.arange(len(score)) % 3 == 0
    if label.all() or not label.any():
        return
    assert eer(label, score) == pytest.approx(eer(label, 2 * score + 7))


@pytest.mark.parametrize(
    ("label", "score", "message"),
    [
        ([1, 1], [0.1, 0.2], "both classes"),
        ([0, 0], [0.1, 0.2], "both classes"),
        ([0, 1], [0.1, np.nan], "not finite"),
        ([0, 1, 1], [0.1, 0.2], "one length"),
    ],
)
def test_undefined_rates_are_typed_errors(label, score, message):
    for metric in (eer, eer_challenge, eer_threshold):
        with pytest.raises(MetricError, match=message):
            metric(np.array(label), np.array(score, float))


def test_spoof_aware_rates_take_the_right_pairs():
    kind = np.array(["same"] * 4 + ["different"] * 4 + ["synthetic"] * 4)
    score = np.array([8, 7, 6, 5, 4, 3, 2, 1, 8, 7, 6, 5], float)  # different people are told apart, forgeries are not
    figures = spoof_aware_eers(kind, score)
    assert figures["sv_eer"] == 0
    assert figures["spf_eer"] == 0.5
    assert figures["eer"] == figures["sasv_eer"] == eer(kind == "same", score)
    assert "spf_eer" not in spoof_aware_eers(kind[:8], score[:8])
    with pytest.raises(MetricError, match="unknown kinds"):
        spoof_aware_eers(np.array(["same", "alien"]), np.array([1.0, 0.0]))


def test_detector_figures_by_hand():
    synthetic = np.array([0] * 20 + [1] * 20, bool)
    log_odds = np.concatenate([np.arange(20), np.arange(20) + 10.0])
    figures = detector_metrics(synthetic, log_odds)
    # At APCER ≤ 5% one of the twenty attacks (10) may be missed: threshold 11; nine bona fide photos (11…19) are flagged.
    assert figures["bpcer20"] == pytest.approx(9 / 20)
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in log_odds[20:] for b in log_odds[:20]])
    assert figures["auc"] == pytest.approx(wins)


def _population(people, seed=0):
    generator = np.random.default_rng(seed)
    a = generator.integers(0, people, 600)
    same = generator.random(600) < 0.5
    b = np.where(same, a, (a + 1 + generator.integers(0, people - 1, 600)) % people)
    kind = np.where(same, np.where(generator.random(600) < 0.3, "synthetic", "same"), "different")
    score = generator.normal(np.select([kind == "same", kind == "synthetic"], [2.0, 1.0], 0.0))
    return a.astype(str), b.astype(str), kind, score


def test_interval_holds_the_figure_and_narrows_with_more_people():
    few, many = (bootstrap_interval(*_population(people), resamples=200) for people in (6, 60))
    figures = spoof_aware_eers(*_population(60)[2:])
    for name, (low, high) in many.items():
        assert low <= figures[name] <= high
    assert few["eer"][1] - few["eer"][0] > many["eer"][1] - many["eer"][0]


def test_bootstrap_repeats_by_seed_and_equals_a_naive_resampling():
    a, b, kind, score = _population(8)
    assert bootstrap_interval(a, b, kind, score, resamples=20, seed=3) == bootstrap_interval(a, b, kind, score, resamples=20, seed=3)
    # The same draws, with the pairs repeated in fact instead of weighted.
    people = np.unique(np.concatenate([a, b]))
    generator, values = np.random.default_rng(3), []
    for _ in range(20):
        drawn = np.bincount(generator.integers(0, len(people), len(people)), minlength=len(people))
        times = dict(zip(people, drawn, strict=True))
        count = [times[x] if x == y else times[x] * times[y] for x, y in zip(a, b, strict=True)]
        rows = np.repeat(np.arange(len(a)), count)
        values.append(eer(kind[rows] == "same", score[rows]))
    low, high = bootstrap_interval(a, b, kind, score, resamples=20, seed=3)["eer"]
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_shuffled_pairs_give_the_same_figures(seed):
    *_, kind, score = _population(10)
    order = np.random.default_rng(seed).permutation(len(kind))
    assert spoof_aware_eers(kind, score) == pytest.approx(spoof_aware_eers(kind[order], score[order]))
