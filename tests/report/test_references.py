"""Figures by the number of references."""

import numpy as np
import pytest

from kryptonite.metrics.error_rates import pair_metrics
from kryptonite.report.references import ReferenceScores, ScoredTrials, reference_figures


@pytest.fixture
def scored():
    """Scores whose noise falls with the number of references."""
    generator = np.random.default_rng(0)
    kind = np.repeat(["same", "different", "synthetic"], 200)
    identity = generator.integers(0, 20, 600).astype(str)
    claimed = np.where(kind == "different", np.roll(identity, 1), identity)
    clear = np.select([kind == "same", kind == "different"], [2.0, -2.0], 0.0)
    trials = [
        ScoredTrials(
            count,
            forged,
            {name: generator.normal(clear, 2 / np.sqrt(count)) for name in ("system", "alone")},
            1.0,
            None,
        )
        for count, forged in ((1, 0), (5, 0), (5, 1))
    ]
    return ReferenceScores(kind, identity, claimed, trials)


def test_reference_figures_measures_each_number_and_its_change(scored):
    figures = reference_figures(scored, 50)
    assert figures["trials"] == {"same": 200, "different": 200, "synthetic": 200}
    assert figures["people"] == 20
    rows = [(row["references"], row["forged"]) for row in figures["rows"]]
    assert rows == [(1, 0), (5, 0), (5, 1)]
    for row, trial in zip(figures["rows"], scored.trials, strict=True):
        expected = pair_metrics(scored.kind, trial.scores["system"], 1.0)
        assert {name: row["system"][name] for name in expected} == expected
        low, high = row["system"]["intervals"]["spf_eer"]
        assert low <= row["system"]["spf_eer"] <= high
        assert "iapar" not in row["alone"]
    first, second, _ = (row["system"] for row in figures["rows"])
    assert first["change"] == 0 and first["change_interval"] == (0, 0)
    assert second["change"] == second["spf_eer"] - first["spf_eer"]
    assert second["change_interval"][1] < 0
