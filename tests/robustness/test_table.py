"""What an ablation concludes from its cells."""

import json

import numpy as np
import pandas as pd
import pytest

from kryptonite.core.errors import DataError
from kryptonite.metrics.error_rates import pair_metrics
from kryptonite.report.analysis import ScoredPairs
from kryptonite.report.robustness import robustness_section, write_robustness
from kryptonite.robustness.table import (
    BASE,
    CLEAN,
    ORIGIN,
    TABLE,
    Cell,
    rank_corruptions,
    rank_fusions,
    rank_variants,
    read_ablation,
    tidy,
    unseen_species,
)
from tests.report.population import scored_pairs


def worse(scored: ScoredPairs, noise: float, where=None) -> ScoredPairs:
    """The same pairs with noisier scores."""
    generator = np.random.default_rng(1)
    added = noise * generator.normal(size=len(scored.pairs)) * (1 if where is None else where)
    return ScoredPairs(
        scored.pairs,
        scored.images,
        {n: s + added for n, s in scored.scores.items()},
        {},
        scored.thresholds,
        scored.chosen,
    )


@pytest.fixture(scope="module")
def table():
    scored = scored_pairs()
    swap = (scored.pairs["species"] == "swap").to_numpy()
    cells = [
        Cell(BASE, CLEAN, 0, scored),
        Cell("unseen-swap", CLEAN, 0, worse(scored, 4.0, swap)),
        Cell("seed", CLEAN, 0, worse(scored, 0.1)),
        *(
            Cell(BASE, name, severity, worse(scored, noise * severity))
            for name, noise in (("mild", 0.1), ("harsh", 2.0))
            for severity in (1, 3)
        ),
        Cell("seed", "harsh", 3, worse(scored, 6.0)),
    ]
    return tidy(cells, resamples=40)


def test_values_and_changes_are_those_of_the_metrics(table):
    scored = scored_pairs()
    clean, harsh = (
        pair_metrics(scored.kind, each.scores["llr"], 1.0) for each in (scored, worse(scored, 6.0))
    )
    row = table[
        (table["corruption"] == "harsh")
        & (table["severity"] == 3)
        & (table["system"] == "llr")
        & (table["variant"] == BASE)
    ]
    for _, each in row.iterrows():
        assert each["value"] == pytest.approx(harsh[each["metric"]])
        assert each["change"] == pytest.approx(harsh[each["metric"]] - clean[each["metric"]])
        assert (
            each["low"] <= each["value"] <= each["high"]
            and each["change_low"] <= each["change"] <= each["change_high"]
        )
    base = table[(table["variant"] == BASE) & (table["corruption"] == CLEAN)]
    assert (base["change"] == 0).all() and (base["change_low"] == 0).all()


def test_corrupted_variants_are_compared_with_their_own_clean_images(table):
    chosen = table[
        (table["variant"] == "seed")
        & (table["system"] == "llr")
        & (table["metric"] == "eer")
        & (table["species"] == "")
    ]
    clean, harsh = (chosen[chosen["corruption"] == name].iloc[0] for name in (CLEAN, "harsh"))
    assert (
        harsh["change"] == pytest.approx(harsh["value"] - clean["value"]) and clean["change"] != 0
    )


def test_what_hurts_most_comes_first_at_its_worst_severity(table):
    rows = rank_corruptions(table, "llr")
    assert [(row["corruption"], row["severity"]) for row in rows] == [("harsh", 3), ("mild", 3)]
    assert rows[0]["eer"]["change_low"] > 0


def test_systems_and_parts_are_ranked(table):
    systems = rank_fusions(table)
    assert [row["mean"] for row in systems] == sorted(row["mean"] for row in systems) and systems[
        0
    ]["worst"]["corruption"] == "harsh"
    parts = {row["variant"]: row for row in rank_variants(table, "llr")}
    assert list(parts) == ["unseen-swap", "seed"] and parts["seed"]["corrupted_change"] is not None
    assert parts["unseen-swap"]["corrupted_change"] is None


def test_an_unseen_generator_is_compared_on_its_own_pairs(table):
    (row,) = unseen_species(table, "llr", {"unseen-swap": "swap"})
    assert row["unseen"]["value"] > row["seen"]["value"] and row["unseen"]["change_low"] > 0
    assert unseen_species(table, "llr", {"unseen-blend": "blend"}) == []  # was not run


def test_an_ablation_is_read_back_and_drawn(table, tmp_path):
    table.to_csv(tmp_path / TABLE, index=False)
    assert read_ablation(tmp_path) is None  # half of it
    origin = {
        "chosen": "llr",
        "corruptions": {"mild": ["a little", "1", "2", "3"], "harsh": ["a lot", "4", "5", "6"]},
        "variants": {
            "seed": {"title": "another seed", "left_out": ""},
            "unseen-swap": {"title": "no swap", "left_out": "swap"},
        },
        "counts": {"pairs": 600, "images": 1200},
        "warnings": [],
        "provenance": {
            "run": "r",
            "pairs": "p.csv",
            "resamples": 40,
            "made": "today",
            "command": "python ablate.py",
        },
    }
    (tmp_path / ORIGIN).write_text(json.dumps(origin))
    ablation = read_ablation(tmp_path)
    pd.testing.assert_frame_equal(ablation.table, table, check_dtype=False)
    section = robustness_section(ablation)
    assert list(section["lines"]) == ["mild", "harsh"] and section["heat_variants"]
    write_robustness(tmp_path / "report.html", ablation)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in ("another seed", "3: 6", "A generator that training never saw", "What hurts most"):
        assert text in html
    (tmp_path / TABLE).write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"ablation\.csv"):
        read_ablation(tmp_path)
