"""Figures and page of scores from elsewhere, against the metrics themselves."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from kryptonite.core.errors import MetricError
from kryptonite.metrics.bootstrap import PairScores, pair_draws
from kryptonite.metrics.error_rates import fmr_threshold, pair_metrics
from kryptonite.report.analysis import SystemScores
from kryptonite.report.scores import ScoreSettings, compute_score_findings, write_score_page
from tests.report.population import scored_pairs

SETTINGS = ScoreSettings("mine", (0.1, 0.01), resamples=40)
PROVENANCE = {
    "scores": "s<1>.csv",
    "scores_sha256": "0123456789abcdef",
    "pairs": "p.csv",
    "pairs_sha256": "fedcba9876543210",
    "resamples": 40,
    "command": "kryptonite evaluate --scores",
    "made": "today",
    "versions": {"numpy": "9.9"},
}


@pytest.fixture(scope="module")
def scored():
    drawn = scored_pairs(pairs=400)
    scores = {"mine": drawn.scores["none"], "better": drawn.scores["llr"]}
    return SystemScores(drawn.pairs, scores, {"better": scores["better"]}, {"mine": 0.5})


@pytest.fixture(scope="module")
def findings(scored):
    return compute_score_findings(scored, SETTINGS)


def test_compute_score_findings_are_complete_json_of_the_metrics(scored, findings):
    json.dumps(findings, allow_nan=False)
    threshold = fmr_threshold(scored.kind, scored.scores["better"], 0.1)
    better = findings["systems"]["better"]
    assert (better["at"], better["threshold"]) == ("FMR 10%", threshold)
    assert findings["systems"]["mine"]["at"] == "given"
    expected = pair_metrics(
        scored.kind, scored.scores["better"], threshold, scored.scores["better"]
    )
    assert {name: better[name] for name in expected} == pytest.approx(expected)
    assert set(expected) <= set(better["intervals"])
    assert "cllr" in better and "cllr" not in findings["systems"]["mine"]
    assert findings["costs"]["a_dcf"]["costs"] == {"same": 1, "different": 10, "synthetic": 20}


def test_compute_score_findings_gives_paired_intervals_of_gains(scored, findings):
    assert list(findings["gains"]) == ["better"]
    gain = findings["gains"]["better"]["spf_eer"]
    systems = findings["systems"]
    assert gain["gain"] == pytest.approx(systems["mine"]["spf_eer"] - systems["better"]["spf_eer"])
    draws = [
        pair_draws(
            PairScores(scored.pairs["label_a"], scored.pairs["label_b"], scored.kind, score), 40
        )["spf_eer"]
        for score in scored.scores.values()
    ]
    assert gain["interval"] == pytest.approx(np.quantile(draws[0] - draws[1], [0.025, 0.975]))


def test_compute_score_findings_measures_each_forgery_alone(scored, findings):
    species = scored.pairs["species"].to_numpy()
    assert [row["species"] for row in findings["species"]] == ["blend", "swap"]
    for row in findings["species"]:
        assert row["pairs"] == (species == row["species"]).sum()
        accepted = scored.scores["mine"][species == row["species"]] >= 0.5
        assert row["systems"]["mine"]["iapar"] == pytest.approx(accepted.mean())


def test_compute_score_findings_does_without_a_kind_of_pair_and_says_so(scored, tmp_path):
    rows = scored.kind != "synthetic"
    fewer = SystemScores(
        scored.pairs[rows].reset_index(drop=True),
        {"mine": scored.scores["mine"][rows]},
        {},
        {},
    )
    findings = compute_score_findings(fewer, ScoreSettings(resamples=20))
    figures = findings["systems"]["mine"]
    assert not {"spf_eer", "iapar", "a_dcf"} & figures.keys() and "sv_eer" in figures
    assert findings["species"] == [] and findings["gains"] == {}
    assert any("no pairs of the kind synthetic" in each for each in findings["warnings"])
    assert all("iapar" not in point for point in findings["thresholds"]["mine"])
    write_score_page(tmp_path / "page.html", fewer, findings, PROVENANCE)
    assert (tmp_path / "page.html").read_text().count("data:image/svg+xml") == 2


def test_compute_score_findings_takes_the_eer_threshold_when_no_score_reaches_the_fmr(scored):
    score = scored.scores["mine"].copy()
    score[np.flatnonzero(scored.kind == "different")[:1]] = 99.0
    ruined = replace(scored, scores={"mine": score}, llrs={}, thresholds={})
    findings = compute_score_findings(ruined, ScoreSettings(fmrs=(0.001,), resamples=20))
    assert findings["systems"]["mine"]["at"] == "EER here"
    assert findings["thresholds"]["mine"][-1]["threshold"] is None
    assert any("too few to measure FMR 0.1%" in each for each in findings["warnings"])


def test_compute_score_findings_raises_when_nothing_is_called_alone(scored):
    with pytest.raises(MetricError, match="'theirs'.*mine, better"):
        compute_score_findings(scored, ScoreSettings("theirs"))


def test_write_score_page_shows_every_figure_in_one_file(scored, findings, tmp_path):
    write_score_page(tmp_path / "page.html", scored, findings, PROVENANCE)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:|#)", html) and "<script" not in html
    assert html.count("data:image/svg+xml") == 2 + 2 + 1
    for figures in findings["systems"].values():
        for name in ("sv_eer", "spf_eer", "riapar", "bscer_at_macer_5e2"):
            assert f"{figures[name]:.1%}" in html
    gain = findings["gains"]["better"]["spf_eer"]["gain"]
    assert f"{100 * gain:+.1f}" in html and "s&lt;1&gt;.csv" in html
    assert "0.05 (synthetic)" in html and "20.0 (synthetic)" in html
