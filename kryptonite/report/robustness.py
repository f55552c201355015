"""Prepare the robustness section of the report: an ablation's rankings and plots."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.core.files import write_text
from kryptonite.report import plots
from kryptonite.report.ablation import (
    BASE,
    CLEAN,
    Ablation,
    rank_corruptions,
    rank_fusions,
    rank_variants,
    unseen_species,
)
from kryptonite.report.analysis import BASELINE
from kryptonite.report.page import environment, system_title


def robustness_section(ablation: Ablation) -> dict[str, Any]:
    """Returns everything that `templates/ablation.html` shows."""
    table, origin = ablation.table, ablation.origin
    chosen, variants = origin["chosen"], origin["variants"]
    left_out = {
        name: variant["left_out"] for name, variant in variants.items() if variant["left_out"]
    }
    systems = {name: system_title(name) for name in table["system"].unique()}
    trainings = {
        BASE: "the run itself",
        **{name: variant["title"] for name, variant in variants.items()},
    }
    eer = table[(table["metric"] == "eer") & (table["species"] == "")]
    base = eer[eer["variant"] == BASE]
    return {
        "chosen": chosen,
        "variants": variants,
        "corruptions": origin["corruptions"],
        "counts": origin["counts"],
        "pairs": origin["provenance"]["pairs"],
        "resamples": origin["provenance"]["resamples"],
        "ranked_corruptions": rank_corruptions(table, chosen),
        "ranked_fusions": rank_fusions(table),
        "ranked_variants": rank_variants(table, chosen),
        "unseen": unseen_species(table, chosen, left_out),
        "heat_systems": _heat(base, "system", systems),
        "heat_variants": (
            _heat(eer[eer["system"] == chosen], "variant", trainings) if variants else None
        ),
        "lines": _lines(base, chosen),
    }


def write_robustness(target: Path, ablation: Ablation) -> None:
    """Writes the robustness section as a page of its own.

    Args:
        target: HTML file to write.
        ablation: The ablation to show.
    """
    origin = ablation.origin
    html = (
        environment()
        .get_template("robustness.html")
        .render(
            title=f"Kryptonite robustness: {origin['provenance']['run']}",
            ablation=robustness_section(ablation),
            provenance=origin["provenance"],
            warnings=origin["warnings"],
        )
    )
    write_text(target, html)


def _heat(rows: pd.DataFrame, column: str, titles: dict[str, str]) -> str:
    """Draws the mean EER over severities: corruptions as rows, systems or variants as columns."""
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


def _lines(rows: pd.DataFrame, chosen: str) -> dict[str, str]:
    """Draws the EER against severity per corruption, for the chosen system and each branch alone;
    leaves out corruptions with a single severity."""
    present = set(rows["system"])
    systems = [name for name in dict.fromkeys([chosen, BASELINE, "detector"]) if name in present]
    clean = rows[rows["corruption"] == CLEAN]
    drawn = {}
    for corruption, part in rows[rows["corruption"] != CLEAN].groupby("corruption", sort=False):
        if part["severity"].nunique() < 2:
            continue
        points = pd.concat([clean, part]).set_index("system")[["severity", "value", "low", "high"]]
        lines = {
            system_title(name): points.loc[[name]].to_numpy(np.float64).tolist() for name in systems
        }
        drawn[corruption] = plots.severity_plot(lines, corruption)
    return drawn
