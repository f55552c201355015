"""What corruptions cost and what each part of training adds: from evidence per cell to tidy rows and ranked tables."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.metrics.bootstrap import intervals
from kryptonite.report.analysis import ScoredPairs

CLEAN = "clean"
BASE = "base"
TABLE, ORIGIN = "ablation.csv", "origin.json"  # in an ablation's folder
METRICS = ("eer", "sv_eer", "spf_eer", "fnmr", "fmr", "iapar")


@dataclass(frozen=True)
class Cell:
    """A system under one corruption.

    Args:
        variant: How it was trained; `base` is the run itself.
        corruption: Name, or `clean`.
        severity: 0 for `clean`, else 1..3.
        scored: The pairs with the scores this cell gave them.
    """

    variant: str
    corruption: str
    severity: int
    scored: ScoredPairs


@dataclass(frozen=True)
class Row:
    """A line of ablation.csv; rates lie in 0..1.

    Args:
        variant: See `Cell`.
        corruption: See `Cell`.
        severity: See `Cell`.
        system: Name of the fusion; `none` is recognition alone, `detector` the detector alone.
        species: Kind of forgery the synthetic pairs are restricted to; empty for all pairs.
        metric: One of `METRICS`.
        value: The figure.
        low: Of its 95% interval.
        high: Likewise.
        change: Against the reference: of a corruption the same variant on clean images, of a variant the base.
        change_low: Of the 95% interval of the difference, on the same resampled people.
        change_high: Likewise.
    """

    variant: str
    corruption: str
    severity: int
    system: str
    species: str
    metric: str
    value: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


def tidy(cells: Iterable[Cell], resamples: int) -> pd.DataFrame:
    """Measures every cell; one row per variant, corruption, severity, system, species and metric: columns of `Row`.

    Args:
        cells: Clean cells before corrupted ones, the base before other variants.
        resamples: Of the bootstrap.
    """
    clean: dict[tuple[str, str, str], Any] = {}
    rows = []
    for cell in cells:
        scored = cell.scored
        species = scored.pairs["species"].to_numpy().astype(str)
        parts = {"": np.ones(len(species), bool)}
        if cell.corruption == CLEAN:  # by kind of forgery too
            parts |= {
                name: (scored.kind == "same") | (species == name)
                for name in sorted(set(species) - {""})
            }
        for system in scored.scores:
            for part, chosen in parts.items():
                measured = scored.measure(system, resamples, chosen)
                if cell.corruption == CLEAN:
                    clean[cell.variant, system, part] = measured
                reference = clean[
                    (BASE if cell.corruption == CLEAN else cell.variant), system, part
                ]
                rows += _rows(cell, system, part, measured, reference)
    return pd.DataFrame(rows, columns=[field.name for field in fields(Row)])


def _rows(cell: Cell, system: str, species: str, measured: tuple, reference: tuple) -> list[Row]:
    (figures, draws), (before, before_draws) = measured, reference
    spans = intervals(
        {name: draws[name] - before_draws[name] for name in METRICS if name in figures}
    )
    return [
        Row(
            cell.variant,
            cell.corruption,
            cell.severity,
            system,
            species,
            name,
            figures[name],
            *figures["intervals"][name],
            figures[name] - before[name],
            *span,
        )
        for name, span in spans.items()
    ]


def rank_corruptions(table: pd.DataFrame, system: str) -> list[dict[str, Any]]:
    """Corruptions by the EER that the base system's worst severity adds, worst first, with what then happens at the stored threshold."""
    base = _of(table, variant=BASE, system=system, species="")
    ranked = []
    for (corruption, severity), part in base[base["corruption"] != CLEAN].groupby(
        ["corruption", "severity"], sort=False
    ):
        by_metric = part.set_index("metric")
        figures = {name: by_metric.loc[name].to_dict() for name in by_metric.index}
        ranked.append({"corruption": corruption, "severity": int(severity), **figures})
    worst: dict[str, dict[str, Any]] = {}
    for row in ranked:
        if (
            row["corruption"] not in worst
            or row["eer"]["value"] > worst[row["corruption"]]["eer"]["value"]
        ):
            worst[row["corruption"]] = row
    return sorted(worst.values(), key=lambda row: -row["eer"]["change"])


def rank_fusions(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Per system of the base run the EER on clean images, and its mean and worst over all corruptions, lowest mean first."""
    base = _of(table, variant=BASE, metric="eer", species="")
    rows = []
    for system, part in base.groupby("system", sort=False):
        corrupted = part[part["corruption"] != CLEAN]
        clean = part[part["corruption"] == CLEAN].iloc[0].to_dict()
        if corrupted.empty:
            continue
        worst = corrupted.loc[corrupted["value"].idxmax()].to_dict()
        rows.append(
            {
                "system": system,
                "clean": clean,
                "mean": float(corrupted["value"].mean()),
                "worst": worst,
            }
        )
    return sorted(rows, key=lambda row: row["mean"])


def rank_variants(table: pd.DataFrame, system: str) -> list[dict[str, Any]]:
    """Variants of training by the change of the EER on clean images, largest rise first; and the mean change over corruptions."""
    rows = []
    chosen = _of(table, system=system, species="")
    base = _of(chosen, variant=BASE, metric="eer").set_index(["corruption", "severity"])["value"]
    for variant, part in chosen[chosen["variant"] != BASE].groupby("variant", sort=False):
        clean = part[part["corruption"] == CLEAN].set_index("metric")
        corrupted = part[(part["corruption"] != CLEAN) & (part["metric"] == "eer")].set_index(
            ["corruption", "severity"]
        )["value"]
        change = (
            float((corrupted - base.reindex(corrupted.index)).mean()) if len(corrupted) else None
        )
        rows.append(
            {
                "variant": variant,
                "corrupted_change": change,
                **{name: clean.loc[name].to_dict() for name in clean.index},
            }
        )
    return sorted(rows, key=lambda row: -row["eer"]["change"])


def unseen_species(
    table: pd.DataFrame, system: str, left_out: dict[str, str]
) -> list[dict[str, Any]]:
    """SPF-EER of a kind of forgery when training saw it and when it did not.

    Args:
        table: As `tidy`.
        system: Whose figures.
        left_out: Variant to the kind of forgery that its training lacked.
    """
    rows = []
    for variant, species in left_out.items():
        part = _of(
            table, system=system, species=species, metric="spf_eer", corruption=CLEAN
        ).set_index("variant")
        if variant in part.index:
            rows.append(
                {
                    "species": species,
                    "seen": part.loc[BASE].to_dict(),
                    "unseen": part.loc[variant].to_dict(),
                }
            )
    return rows


def _of(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    chosen = np.ones(len(table), bool)
    for column, value in wanted.items():
        chosen &= (table[column] == value).to_numpy()
    return table[chosen]


@dataclass(frozen=True)
class Ablation:
    """What an ablation left in its folder.

    Args:
        table: Columns of `Row`.
        origin: `chosen` (fusion), `corruptions` (name to what it does and its magnitude per severity), `variants` (name to title and
            left_out), `counts`, `warnings`, `provenance`.
    """

    table: pd.DataFrame
    origin: dict[str, Any]


def read_ablation(folder: Path) -> Ablation | None:
    """Reads what `ablate.py` wrote; None where it has not.

    Raises:
        DataError: The table is damaged.
    """
    if not ((folder / TABLE).exists() and (folder / ORIGIN).exists()):
        return None
    try:
        table = pd.read_csv(
            folder / TABLE, keep_default_na=False, na_values=[""], dtype={"species": str}
        ).fillna({"species": ""})
        return Ablation(
            table[[field.name for field in fields(Row)]],
            json.loads((folder / ORIGIN).read_text(encoding="utf-8")),
        )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder / TABLE}: is no ablation table ({error})") from error
