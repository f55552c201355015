"""Error rates against values by hand, naive loops, the platform's formula and other tools."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_curve

from kryptonite.core.errors import MetricError
from kryptonite.metrics.error_rates import (
    detector_metrics,
    eer,
    eer_challenge,
    eer_threshold,
    error_curves,
    fmr_threshold,
    pair_metrics,
)
from kryptonite.metrics.kinds import KINDS

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "metrics.json").read_text(encoding="utf-8")
)

# Few distinct values, so that there are many ties.
SCORES = arrays(np.float64, st.integers(2, 40), elements=st.integers(-5, 5).map(float))


def naive_eer(label, score):
    """Mean of FNMR and FMR at the threshold where they are closest, trying every threshold.

    Of several such thresholds the highest counts.
    """
    best = None
    for threshold in [np.inf, *sorted(set(score), reverse=True)]:
        accepted = [s >= threshold for s in score]
        fmr = sum(a for a, y in zip(accepted, label, strict=True) if not y) / sum(
            not y for y in label
        )
        fnmr = sum(not a for a, y in zip(accepted, label, strict=True) if y) / sum(
            bool(y) for y in label
        )
        if best is None or abs(fnmr - fmr) < best[0] - 1e-12:
            best = abs(fnmr - fmr), (fnmr + fmr) / 2, threshold
    return best[1], best[2]


@given(SCORES, st.randoms(use_true_random=False))
def test_eer_equals_naive_loop(score, random):
    label = np.array([random.random() < 0.5 for _ in score])
    label[0], label[1] = True, False
    value, _ = naive_eer(label, score)
    assert eer(label, score) == pytest.approx(value, abs=1e-9)


def test_eer_challenge_returns_fnr_at_the_nearest_point():
    # Falling thresholds give (FMR, FNMR): … (0, .2), (⅓, .2), (⅓, 0) …; the second is closest.
    label = np.array([1, 1, 1, 1, 0, 1, 0, 0])
    score = np.array([9, 8, 7, 6, 5, 4, 3, 2.0])
    fpr, tpr, _ = roc_curve(label, score)
    assert (
        eer_challenge(label, score)
        == (1 - tpr)[np.nanargmin(np.abs(1 - tpr - fpr))]
        == pytest.approx(0.2)
    )
    assert eer(label, score) == pytest.approx((0.2 + 1 / 3) / 2)


def test_eer_is_0_when_scores_separate_and_1_when_they_are_inverted():
    label, score = np.array([1, 1, 0, 0]), np.array([4.0, 3, 2, 1])
    assert eer(label, score) == 0
    assert eer(label, -score) == 1


def test_eer_is_one_half_when_scores_are_constant():
    label, score = np.array([1, 0, 1, 0]), np.zeros(4)
    assert eer(label, score) == 0.5
    assert eer_challenge(label, score) == 1  # the platform's takes the first of two ends


@given(SCORES)
def test_eer_threshold_reproduces_the_rates_of_its_point(score):
    label = np.arange(len(score)) % 2 == 0
    threshold = eer_threshold(label, score)
    assert np.isfinite(threshold)
    accepted = score >= threshold
    thresholds, fmr, fnmr = error_curves(label, score)
    row = int(np.flatnonzero(thresholds == threshold)[0])
    assert fmr[row] == pytest.approx(accepted[~label].mean())
    assert fnmr[row] == pytest.approx(1 - accepted[label].mean())


@given(SCORES)
def test_eer_is_unchanged_when_scores_are_rescaled(score):
    label = np.arange(len(score)) % 3 == 0
    assert eer(label, score) == pytest.approx(eer(label, 2 * score + 7))


@pytest.mark.parametrize(
    ("label", "score", "message"),
    [
        ([1, 1], [0.1, 0.2], "both classes"),
        ([0, 0], [0.1, 0.2], "both classes"),
        ([0, 1], [0.1, np.nan], "not finite"),
        ([0, 1], [0.1, np.inf], "score 1 is not finite"),
        ([0, 1], [-np.inf, 0.1], "score 0 is not finite"),
        ([], [], "both classes"),
        ([0, 1, 1], [0.1, 0.2], "one length"),
    ],
)
def test_rates_raise_metric_error_when_undefined(label, score, message):
    for metric in (eer, eer_challenge, eer_threshold):
        with pytest.raises(MetricError, match=message):
            metric(np.array(label), np.array(score, float))


def test_pair_metrics_uses_the_pairs_that_each_rate_names():
    kind = np.array(["same"] * 4 + ["different"] * 4 + ["synthetic"] * 4)
    # The scores separate different people, but not forgeries.
    score = np.array([8, 7, 6, 5, 4, 3, 2, 1, 8, 7, 6, 5], float)
    figures = pair_metrics(kind, score)
    assert figures["sv_eer"] == 0
    assert figures["spf_eer"] == 0.5
    assert figures["eer"] == figures["sasv_eer"] == eer(kind == "same", score)
    assert "spf_eer" not in pair_metrics(kind[:8], score[:8])
    with pytest.raises(MetricError, match="unknown kinds"):
        pair_metrics(np.array(["same", "alien"]), np.array([1.0, 0.0]))


# Every kind occurs at least once.
KIND_ARRAYS = st.lists(st.sampled_from(KINDS), min_size=1, max_size=30).map(
    lambda kinds: np.array([*KINDS, *kinds])
)


@given(KIND_ARRAYS, st.data())
def test_pair_metrics_equal_naive_loops(kind, data):
    score = data.draw(arrays(np.float64, len(kind), elements=st.integers(-3, 3).map(float)))
    threshold = data.draw(st.sampled_from([-9.0, -1.0, 0.5, 3.0, 9.0]))
    figures = pair_metrics(kind, score, threshold)

    def rate(name, at):
        return np.mean([s >= at for s in score[kind == name]])

    points = [np.inf, *sorted(set(score), reverse=True)]
    fmr, iapar, fnmr = (
        rate("different", threshold),
        rate("synthetic", threshold),
        1 - rate("same", threshold),
    )
    expected = {
        "fmr": fmr,
        "iapar": iapar,
        "fnmr": fnmr,
        "riapar": iapar + fnmr,
        "a_dcf": (0.9 * fnmr + 0.5 * fmr + 1.0 * iapar) / 0.9,
        "min_a_dcf": min(
            0.9 * (1 - rate("same", t)) + 0.5 * rate("different", t) + rate("synthetic", t)
            for t in points
        )
        / 0.9,
        "min_dcf": min(0.05 * (1 - rate("same", t)) + 0.95 * rate("different", t) for t in points)
        / 0.05,
        "fnmr_at_fmr_1e2": min(1 - rate("same", t) for t in points if rate("different", t) <= 0.01),
        **{
            f"bscer_at_macer_{end}": min(
                1 - rate("same", t) for t in points if rate("synthetic", t) <= macer
            )
            for end, macer in (("1e1", 0.1), ("5e2", 0.05), ("1e2", 0.01))
        },
        "auc": np.mean(
            [(a > b) + 0.5 * (a == b) for a in score[kind == "same"] for b in score[kind != "same"]]
        ),
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    for name, other in (("sv_eer", "different"), ("spf_eer", "synthetic")):
        chosen = (kind == "same") | (kind == other)
        assert figures[name] == pytest.approx(naive_eer(kind[chosen] == "same", score[chosen])[0])


@pytest.mark.parametrize("case", GOLDEN["cases"].values(), ids=GOLDEN["cases"].keys())
def test_pair_metrics_equal_those_of_other_tools(case):
    kind = np.concatenate([np.full(len(scores), name) for name, scores in case["scores"].items()])
    score = np.concatenate(list(case["scores"].values()))
    bob, pyeer, adcf, sklearn = (
        case["oracles"][name] for name in ("bob.measure", "pyeer", "a_dcf", "scikit-learn")
    )
    figures = pair_metrics(kind, score, bob["threshold"], llr=score)
    assert figures["eer"] == pytest.approx(bob["eer"])
    assert figures["sv_eer"] == pytest.approx(pyeer["eer"])
    assert figures["fnmr_at_fmr_1e2"] == pytest.approx(pyeer["fmr100"])
    assert figures["fnmr_at_fmr_1e3"] == pytest.approx(pyeer["fmr1000"])
    assert figures["min_a_dcf"] == pytest.approx(adcf["min_a_dcf"])
    assert figures["auc"] == pytest.approx(sklearn["auc"])
    assert figures["min_cllr"] == pytest.approx(sklearn["min_cllr"])
    assert figures["cllr"] == pytest.approx(bob["cllr"])
    counts = (kind == "different").sum(), (kind == "synthetic").sum()
    pooled = (figures["fmr"] * counts[0] + figures["iapar"] * counts[1]) / sum(counts)
    assert [pooled, figures["fnmr"]] == pytest.approx(bob["farfrr_at_threshold"])


def test_fmr_threshold_is_the_lowest_that_keeps_the_fmr():
    kind = np.repeat(["same", "different"], [50, 200])
    score = np.random.default_rng(0).normal(np.where(kind == "same", 2.0, 0.0))
    for wanted, allowed in ((0.01, 2), (0.004, 0), (0.1, 20)):
        threshold = fmr_threshold(kind, score, wanted)
        below = np.sort(score)[np.searchsorted(np.sort(score), threshold) - 1]
        assert (score[kind == "different"] >= threshold).sum() <= allowed
        assert (score[kind == "different"] >= below).sum() > allowed or below in score[
            kind == "same"
        ]
    with pytest.raises(MetricError, match="different people"):
        fmr_threshold(np.array(["same", "synthetic"]), np.array([1.0, 0.0]), 0.01)


def test_pair_metrics_bscer_equals_values_by_hand():
    # Ten attacks: MACER 10% lets one pass, so that accepting starts at 9; 5% and 1% let none.
    kind = np.array(["same"] * 4 + ["synthetic"] * 10)
    figures = pair_metrics(kind, np.array([9.0, 9.5, 8.5, 11.0, 10.0, 8.8, *range(1, 9)]))
    assert figures["bscer_at_macer_1e1"] == 1 / 4
    assert figures["bscer_at_macer_5e2"] == figures["bscer_at_macer_1e2"] == 3 / 4
    assert not {"sv_eer", "min_a_dcf"} & figures.keys()


@pytest.mark.parametrize("case", GOLDEN["cases"].values(), ids=GOLDEN["cases"].keys())
def test_pair_metrics_bscer_equals_that_read_from_the_curve_of_scikit_learn(case):
    scores = case["scores"]
    attacks, bona_fide = scores["synthetic"], scores["same"]
    label = np.repeat([1, 0], [len(bona_fide), len(attacks)])
    macer, passed, _ = roc_curve(label, [*bona_fide, *attacks], drop_intermediate=False)
    kind = np.where(label == 1, "same", "synthetic")
    figures = pair_metrics(kind, np.array([*bona_fide, *attacks]))
    for end, most in (("1e1", 0.1), ("5e2", 0.05), ("1e2", 0.01)):
        expected = (1 - passed)[macer <= most].min()
        assert figures[f"bscer_at_macer_{end}"] == pytest.approx(expected)


def test_pair_metrics_cllr_equals_value_by_hand():
    kind = np.array(["same", "same", "different"])

    def cllr(*llr):
        return pair_metrics(kind, np.array([2.0, 1.0, 0.0]), llr=np.array(llr))["cllr"]

    assert cllr(0.0, 0.0, 0.0) == pytest.approx(1)  # carries no information
    mated = np.mean([np.log2(1 + np.exp(-1.0)), np.log2(1 + np.exp(-2.0))])
    assert cllr(1.0, 2.0, -0.5) == pytest.approx((mated + np.log2(1 + np.exp(-0.5))) / 2)


@given(SCORES, st.data())
def test_pair_metrics_cllr_equals_naive_loop_and_is_at_least_min_cllr(llr, data):
    others = st.lists(st.sampled_from(KINDS), min_size=len(llr) - 2, max_size=len(llr) - 2)
    kind = np.array(["same", "synthetic", *data.draw(others)])
    figures = pair_metrics(kind, llr, llr=llr)
    bits = [
        np.mean([np.log2(1 + np.exp(sign * one)) for one in llr[chosen]])
        for sign, chosen in ((-1, kind == "same"), (1, kind != "same"))
    ]
    assert figures["cllr"] == pytest.approx(np.mean(bits))
    assert figures["min_cllr"] <= figures["cllr"] + 1e-12


def test_pair_metrics_min_cllr_is_0_when_scores_separate():
    figures = pair_metrics(np.array(["same", "same", "different"]), np.array([2.0, 1.0, 0.0]))
    assert figures["min_cllr"] == pytest.approx(0, abs=1e-12) and "cllr" not in figures


def test_detector_metrics_reports_apcer_per_species():
    synthetic = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    log_odds = np.array([2.0, -1.0, -2.0, 0.0, -3.0, -1.0, 1.0, -2.0])
    figures = detector_metrics(
        synthetic, log_odds, ["swap", "swap", "blend", "blend", "", "", "", ""]
    )
    assert (
        figures["apcer_swap"]
        == figures["apcer_blend"]
        == figures["apcer_max"]
        == figures["apcer"]
        == 0.5
    )
    assert figures["bpcer"] == 0.25
    one = detector_metrics(synthetic, log_odds, ["swap", "blend", "blend", "swap", "", "", "", ""])
    assert (one["apcer_swap"], one["apcer_blend"], one["apcer_max"]) == (0, 1, 1)


def test_detector_metrics_equal_values_by_hand():
    synthetic = np.array([0] * 20 + [1] * 20, bool)
    log_odds = np.concatenate([np.arange(20), np.arange(20) + 10.0])
    figures = detector_metrics(synthetic, log_odds)
    # At APCER ≤ 5% one of the twenty attacks (score 10) may be missed, so the threshold is 11 and
    # nine bona fide photos (11…19) are flagged.
    assert figures["bpcer20"] == pytest.approx(9 / 20)
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in log_odds[20:] for b in log_odds[:20]])
    assert figures["auc"] == pytest.approx(wins)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_pair_metrics_are_unchanged_when_pairs_are_shuffled(seed):
    generator = np.random.default_rng(seed)
    kind = generator.permutation(np.repeat(["same", "different", "synthetic"], 20))
    score = generator.normal(kind == "same").round(1)
    order = generator.permutation(len(kind))
    assert pair_metrics(kind, score, 0.5) == pytest.approx(
        pair_metrics(kind[order], score[order], 0.5)
    )
