"""Figures of the report, against naive computations."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryptonite.core.errors import MetricError
from kryptonite.fusion.evidence import REFUSED
from kryptonite.metrics.bootstrap import share_interval
from kryptonite.metrics.error_rates import eer, pair_metrics
from kryptonite.report.analysis import (
    compute_findings,
    operating_points,
    reliability_bins,
    worst_pairs,
)
from tests.report.population import refuse, scored_pairs


@pytest.fixture(scope="module")
def scored():
    return scored_pairs()


@pytest.fixture(scope="module")
def findings(scored):
    return compute_findings(scored, resamples=60)


def test_compute_findings_returns_complete_json(findings):
    json.dumps(findings, allow_nan=False)
    assert set(findings["systems"]) == {"none", "llr", "detector"}
    assert findings["counts"] == {
        "pairs": {"same": 300, "different": 150, "synthetic": 150},
        "images": 1200,
        "people": 24,
    }
    for figures in findings["systems"].values():
        for metric, (low, high) in figures["intervals"].items():
            assert low <= high and metric in figures


def test_compute_findings_measures_gain_on_the_same_identities(scored, findings):
    none, llr = findings["systems"]["none"], findings["systems"]["llr"]
    assert llr["gain"] == pytest.approx(none["eer"] - llr["eer"]) and none["gain"] == 0
    low, high = llr["gain_interval"]
    assert low <= llr["gain"] <= high and low > 0  # a clear gain
    # A paired difference has a narrower interval than two separate intervals imply.
    apart = np.diff(none["intervals"]["eer"]) + np.diff(llr["intervals"]["eer"])
    assert high - low < apart


def test_species_figures_measure_and_rank_each_forgery_alone(scored, findings):
    rows = findings["species"]
    assert [row["species"] for row in rows] == ["swap", "blend"] and sum(
        row["pairs"] for row in rows
    ) == 150
    species, kind = scored.pairs["species"].to_numpy(), scored.kind
    for row in rows:
        chosen = (kind == "same") | (species == row["species"])
        assert row["system"]["spf_eer"] == pytest.approx(
            eer(kind[chosen] == "same", scored.scores["llr"][chosen])
        )
        assert row["system"]["iapar"] == pytest.approx(
            (scored.scores["llr"][species == row["species"]] >= 1.0).mean()
        )


def test_group_figures_partition_the_pairs(scored, findings):
    for fact, groups in findings["groups"].items():
        assert sum(group["pairs"] for group in groups) == 600 and [
            group["pairs"] for group in groups
        ] == [200, 200, 200]
        inside = scored.pairs[fact] <= groups[0]["to"]
        assert groups[0]["system"]["eer"] == pytest.approx(
            eer(scored.kind[inside] == "same", scored.scores["llr"][inside])
        )


def test_operating_points_match_counting(scored):
    points = {point["at"]: point for point in operating_points(scored, "llr", resamples=20)}
    for point in points.values():
        accepted = scored.scores["llr"] >= point["threshold"]
        assert point["fmr"] == pytest.approx(accepted[scored.kind == "different"].mean())
        assert point["fnmr"] == pytest.approx((~accepted[scored.kind == "same"]).mean())
        assert point["iapar"] == pytest.approx(accepted[scored.kind == "synthetic"].mean())
    assert points["stored with the run"]["threshold"] == 1.0
    assert points["FMR 1%"]["fmr"] <= 0.01 and points["FMR 0.1%"]["fmr"] == 0
    assert (
        not points["FMR 0.1%"]["sure"] and points["EER here"]["sure"]
    )  # 150 pairs cannot resolve one in a thousand


def test_operating_points_have_no_threshold_when_no_score_reaches_the_fmr():
    scored = scored_pairs(pairs=200)
    scored.scores["llr"] = np.ones(200)
    point = next(
        point for point in operating_points(scored, "llr", resamples=5) if point["at"] == "FMR 1%"
    )
    assert point["threshold"] is None and "fnmr" not in point


def test_compute_findings_raises_when_a_kind_is_missing():
    scored = scored_pairs()
    scored.pairs.loc[scored.pairs["kind"] == "different", "kind"] = "synthetic"
    with pytest.raises(MetricError, match="different"):
        compute_findings(scored, 5)


def test_measure_gives_cllr_only_when_scores_are_likelihood_ratios(scored, findings):
    assert findings["systems"]["llr"]["cllr"] == pytest.approx(
        pair_metrics(scored.kind, scored.scores["llr"], llr=scored.scores["llr"])["cllr"]
    )
    assert "cllr" not in findings["systems"]["none"]
    assert findings["systems"]["llr"]["cllr"] >= findings["systems"]["llr"]["min_cllr"]


@given(st.lists(st.tuples(st.booleans(), st.floats(-8, 8)), min_size=2, max_size=60))
def test_reliability_bins_match_a_naive_loop(items):
    target = np.array([True, False, *(each for each, _ in items)])
    log_odds = np.array([0.0, 0.0, *(odds for _, odds in items)])
    bins = reliability_bins(target, log_odds)
    expected = []
    for number in range(10):
        mass = predicted = observed = 0.0
        for is_target, odds in zip(target, log_odds, strict=True):
            probability = 1 / (1 + np.exp(-odds))
            if min(int(probability * 10), 9) == number:
                weight = 0.5 / (target.sum() if is_target else (~target).sum())
                mass, predicted, observed = (
                    mass + weight,
                    predicted + weight * probability,
                    observed + weight * is_target,
                )
        if mass:
            expected.append(
                {"predicted": predicted / mass, "observed": observed / mass, "share": mass}
            )
    assert len(bins) == len(expected) and sum(each["share"] for each in bins) == pytest.approx(1)
    for found, wanted in zip(bins, expected, strict=True):
        assert found == pytest.approx(wanted)


def test_reliability_bins_lie_on_the_diagonal_when_probabilities_are_true():
    generator = np.random.default_rng(0)
    target = np.arange(40_000) < 20_000
    score = generator.normal(np.where(target, 1.0, -1.0))  # its true log-odds are 2·score
    for each in reliability_bins(target, 2 * score):
        assert each["observed"] == pytest.approx(each["predicted"], abs=0.03)


def test_worst_pairs_returns_errors_worst_first(scored):
    worst = worst_pairs(scored, 5)
    accepts, rejects = worst["false accepts"], worst["false rejects"]
    assert (
        (accepts["kind"] != "same").all()
        and (accepts["score"] >= 1.0).all()
        and accepts["score"].is_monotonic_decreasing
    )
    assert (
        (rejects["kind"] == "same").all()
        and (rejects["score"] < 1.0).all()
        and rejects["score"].is_monotonic_increasing
    )
    assert accepts["score"].iloc[0] == scored.scores["llr"][scored.kind != "same"].max()


def test_acquisition_counts_images_and_resamples_identities(scored, findings):
    assert findings["acquisition"]["count"] == 24 and findings["acquisition"][
        "rate"
    ] == pytest.approx(24 / 1200)
    low, high = findings["acquisition"]["interval"]
    assert low < 0.02 < high
    assert share_interval(
        np.array(["a", "a", "b"]), np.array([True, False, True]), resamples=50
    ) == pytest.approx((0.5, 1.0))


@pytest.fixture(scope="module")
def with_failures(scored):
    """Every seventh pair was refused because no face was found."""
    return refuse(scored, np.arange(600) % 7 == 0)


def test_compute_findings_counts_pairs_as_refused_when_not_acquired(scored, with_failures):
    findings = compute_findings(with_failures, resamples=10)
    acquired = with_failures.pairs["acquired"].to_numpy()
    assert findings["acquisition"]["pairs"] == (~acquired).sum() == 86
    for system, figures in findings["systems"].items():
        accepted = acquired & (scored.scores[system] >= scored.thresholds[system])
        assert figures["fmr"] == pytest.approx(accepted[scored.kind == "different"].mean())
        assert figures["fnmr"] == pytest.approx((~accepted[scored.kind == "same"]).mean())
        assert figures["iapar"] == pytest.approx(accepted[scored.kind == "synthetic"].mean())
        assert figures["fnmr"] >= (~acquired[scored.kind == "same"]).mean()
    assert sum(findings["counts"]["pairs"].values()) == 600


def test_operating_points_refuse_pairs_at_every_threshold_when_not_acquired(with_failures):
    mated = with_failures.kind == "same"
    refused = (~with_failures.pairs["acquired"][mated]).mean()
    for point in operating_points(with_failures, "llr", resamples=5):
        assert point["threshold"] > REFUSED and point["fnmr"] >= refused


def test_worst_pairs_leave_pairs_out_when_not_acquired(scored, with_failures):
    found, everything = worst_pairs(with_failures, 600), worst_pairs(scored, 600)
    for title in ("false accepts", "false rejects"):
        kept = everything[title][everything[title].index % 7 != 0]
        assert found[title]["acquired"].all() and len(kept) < len(everything[title])
        assert found[title]["pair_id"].tolist() == kept["pair_id"].tolist()
