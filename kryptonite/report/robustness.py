"""The robustness part of the report: tables and plots of an ablation."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.core.files import write_text
from kryptonite.report import plots
from kryptonite.report.page import TITLES, environment
from kryptonite.robustness.table import (
    BASE,
    CLEAN,
    Ablation,
    rank_corruptions,
    rank_fusions,
    rank_variants,
    unseen_species,
)


def robustness_section(ablation: Ablation) -> dict[str, Any]:
    """Everything that `templates/ablation.html` shows."""
    table, origin = ablation.table, ablation.origin
    chosen, variants = origin["chosen"], origin["variants"]
    titles = {name: TITLES.get(name, name) for name in table["system"].unique()}
    left_out = {
        name: variant["left_out"] for name, variant in variants.items() if variant["left_out"]
    }
    named = {
        BASE: "the run itself",
        **{name: variant["title"] for name, variant in variants.items()},
    }
    eer = table[(table["metric"] == "eer") & (table["species"] == "")]
    return {
        "chosen": chosen,
        "titles": titles,
        "variants": variants,
        "corruptions": origin["corruptions"],
        "counts": origin["counts"],
        "pairs": origin["provenance"]["pairs"],
        "resamples": origin["provenance"]["resamples"],
        "hurts": rank_corruptions(table, chosen),
        "systems": rank_fusions(table),
        "parts": rank_variants(table, chosen),
        "unseen": unseen_species(table, chosen, left_out),
        "heat_systems": _heat(eer[eer["variant"] == BASE], "system", titles),
        "heat_variants": _heat(eer[eer["system"] == chosen], "variant", named)
        if variants
        else None,
        "lines": _lines(eer[eer["variant"] == BASE], chosen, titles),
    }


def write_robustness(target: Path, ablation: Ablation) -> None:
    """Writes the part as a page of its own."""
    page = environment().get_template("robustness.html")
    origin = ablation.origin
    write_text(
        target,
        page.render(
            title=f"Kryptonite robustness: {origin['provenance']['run']}",
            ablation=robustness_section(ablation),
            provenance=origin["provenance"],
            warnings=origin["warnings"],
        ),
    )


def _heat(rows: pd.DataFrame, column: str, titles: dict[str, str]) -> str:
    """Mean EER over the severities: corruptions down, systems or variants across."""
    wide = rows.pivot_table(
        index="corruption", columns=column, values="value", aggfunc="mean", sort=False
    )
    wide = wide[[name for name in titles if name in wide.columns]]
    return plots.heat_map(
        wide.to_numpy(),
        list(wide.index),
        [titles[name] for name in wide.columns],
        "EER (%), mean over severities",
    )


def _lines(rows: pd.DataFrame, chosen: str, titles: dict[str, str]) -> dict[str, str]:
    """Per corruption the EER against severity, of the chosen system and of either branch alone; none where there is one severity only."""
    drawn = {}
    shown = [name for name in dict.fromkeys([chosen, "none", "detector"]) if name in titles]
    for corruption, part in rows[rows["corruption"] != CLEAN].groupby("corruption", sort=False):
        if part["severity"].nunique() < 2:
            continue
        whole = pd.concat([rows[rows["corruption"] == CLEAN], part]).set_index("system")[
            ["severity", "value", "low", "high"]
        ]
        lines = {titles[name]: whole.loc[[name]].to_numpy(np.float64).tolist() for name in shown}
        drawn[corruption] = plots.severity_plot(lines, corruption)
    return drawn
