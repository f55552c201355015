"""The table of an ablation, its rankings, and its page."""

import json

import numpy as np
import pandas as pd
import pytest

from kryptonite.core.errors import DataError
from kryptonite.metrics.error_rates import pair_metrics
from kryptonite.report.ablation import (
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
from kryptonite.report.analysis import ScoredPairs
from kryptonite.report.robustness import robustness_section, write_robustness
from tests.report.population import scored_pairs


def worse(scored: ScoredPairs, noise: float, where=None) -> ScoredPairs:
    """Adds noise to the scores, of some pairs or of all."""
    generator = np.random.default_rng(1)
    added = noise * generator.normal(size=len(scored.pairs)) * (1 if where is None else where)
    return ScoredPairs(
        scored.pairs,
        {n: s + added for n, s in scored.scores.items()},
        {},
        scored.thresholds,
        scored.images,
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


def test_tidy_matches_the_metrics(table):
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


def test_tidy_compares_variants_with_their_own_clean_images_when_corrupted(table):
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


def test_rank_corruptions_puts_the_largest_rise_first_at_its_worst_severity(table):
    rows = rank_corruptions(table, "llr")
    assert [(row["corruption"], row["severity"]) for row in rows] == [("harsh", 3), ("mild", 3)]
    assert rows[0]["eer"]["change_low"] > 0


def test_rank_fusions_sorts_by_mean_eer(table):
    rows = rank_fusions(table)
    assert {row["system"] for row in rows} == {"none", "llr", "detector"}
    eer = table[(table["metric"] == "eer") & (table["species"] == "") & (table["variant"] == BASE)]
    for row in rows:
        part = eer[eer["system"] == row["system"]].set_index("corruption")["value"]
        assert row["clean"]["value"] == part[CLEAN]
        assert row["mean"] == pytest.approx(part.drop(CLEAN).mean())
        assert row["worst"]["value"] == part.drop(CLEAN).max()
    assert [row["mean"] for row in rows] == sorted(row["mean"] for row in rows)
    assert rows[0]["worst"]["corruption"] == "harsh"


def test_rank_variants_sorts_by_rise_on_clean_images(table):
    rows = rank_variants(table, "llr")
    assert [row["variant"] for row in rows] == ["unseen-swap", "seed"]
    assert rows[0]["eer"]["change"] > rows[1]["eer"]["change"]
    assert rows[0]["corrupted_change"] is None  # it has no corrupted cell
    eer = table[(table["metric"] == "eer") & (table["species"] == "") & (table["system"] == "llr")]
    harsh = eer[(eer["corruption"] == "harsh") & (eer["severity"] == 3)].set_index("variant")
    expected = harsh.loc["seed", "value"] - harsh.loc[BASE, "value"]
    assert rows[1]["corrupted_change"] == pytest.approx(expected)


def test_unseen_species_compares_on_the_pairs_of_that_forgery(table):
    (row,) = unseen_species(table, "llr", {"unseen-swap": "swap"})
    assert row["unseen"]["value"] > row["seen"]["value"] and row["unseen"]["change_low"] > 0
    assert unseen_species(table, "llr", {"unseen-blend": "blend"}) == []  # not in the table


def test_read_ablation_returns_what_write_robustness_draws(table, tmp_path):
    table.to_csv(tmp_path / TABLE, index=False)
    assert read_ablation(tmp_path) is None  # origin.json is missing
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
            "command": "kryptonite ablate",
        },
    }
    (tmp_path / ORIGIN).write_text(json.dumps(origin))
    ablation = read_ablation(tmp_path)
    pd.testing.assert_frame_equal(ablation.table, table, check_dtype=False)
    section = robustness_section(ablation)
    assert list(section["lines"]) == ["mild", "harsh"] and section["heat_variants"]
    write_robustness(tmp_path / "report.html", ablation)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (
        "another seed",
        "3: 6",
        "Corruptions ranked by the EER they add",
        "Systems ranked by their mean EER under corruption",
        "Training variants ranked by the EER they add",
        "Generators left out of training",
        'id="robustness"',
    ):
        assert text in html
    (tmp_path / ORIGIN).write_text("{")
    with pytest.raises(DataError, match=r"origin\.json"):
        read_ablation(tmp_path)
    (tmp_path / TABLE).write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"ablation\.csv"):
        read_ablation(tmp_path)
