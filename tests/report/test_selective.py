"""What the report shows of withheld decisions."""

import numpy as np
import pytest

from kryptonite.metrics.selective import selective_rates
from kryptonite.report.selective import SHARES, SelectiveDecisions, selective_figures
from tests.report.population import scored_pairs


@pytest.fixture
def decisions():
    """Decisions whose certainty is their distance from the threshold, less a half."""
    scored = scored_pairs()
    score, limit = scored.scores["llr"], scored.thresholds["llr"]
    pairs = scored.pairs
    return SelectiveDecisions(
        scored.kind,
        pairs["label_a"],
        pairs["label_b"],
        score >= limit,
        np.abs(score - limit) - 0.5,
        0.2,
    )


def test_selective_figures_measures_the_rule_and_the_most_certain_decisions(decisions):
    figures = selective_figures(decisions, 30)
    rule = selective_rates(decisions.kind, decisions.accepted, decisions.surplus >= 0)
    assert {name: figures["rule"][name] for name in rule} == rule and figures["share"] == 0.2
    assert [row["coverage"] for row in figures["rows"]] == pytest.approx(SHARES)
    errors = [row["error"] for row in figures["rows"]]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.7 * errors[0]
    for row in [figures["rule"], *figures["rows"]]:
        for name, (low, high) in row["intervals"].items():
            assert low <= row[name] <= high, name
    low, high = figures["aurc_interval"]
    assert low < figures["aurc"] < high < errors[0]


def test_selective_figures_curve_meets_the_rows(decisions):
    figures = selective_figures(decisions, 30)
    at = {round(point["coverage"], 2): point for point in figures["curve"]}
    for share, row in zip(SHARES, figures["rows"], strict=True):
        assert at[share]["error"] == pytest.approx(row["error"])
        assert at[share]["low"] <= at[share]["error"] <= at[share]["high"]
