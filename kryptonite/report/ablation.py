"""Measure the cells of an ablation and rank corruptions, fusions and training variants."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.core.files import read_json
from kryptonite.metrics.bootstrap import Draws, intervals
from kryptonite.report.analysis import ScoredPairs

CLEAN = "clean"
BASE = "base"
TABLE, ORIGIN = "ablation.csv", "origin.json"  # files in an ablation's folder
Measured = tuple[dict[str, Any], Draws]  # figures of `ScoredPairs.measure`, and their draws
METRICS = ("eer", "sv_eer", "spf_eer", "fnmr", "fmr", "iapar")


@dataclass(frozen=True)
class Cell:
    """A training variant under one corruption.

    Args:
        variant: Name of the training variant; `base` is the run itself.
        corruption: Name of the corruption or attack, or `clean`.
        severity: 0 for `clean`, else 1..3.
        scored: The pairs with their scores under this corruption.
    """

    variant: str
    corruption: str
    severity: int
    scored: ScoredPairs


@dataclass(frozen=True)
class Row:
    """A row of ablation.csv; rates lie in 0..1.

    Args:
        variant: As in `Cell`.
        corruption: As in `Cell`.
        severity: As in `Cell`.
        system: Name of the fusion; `none` is recognition alone, `detector` the detector alone.
        species: Kind of forgery that the synthetic pairs are restricted to; empty for all pairs.
        metric: One of `METRICS`.
        value: The rate.
        low: Lower end of its 95% interval.
        high: Upper end of its 95% interval.
        change: Difference from the reference: for a corruption the same variant on clean images,
            for a variant on clean images the base.
        change_low: Lower end of the difference's 95% interval, on the same resampled identities.
        change_high: Upper end of that interval.
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


@dataclass(frozen=True)
class Ablation:
    """A finished ablation, as read from its folder.

    Args:
        table: Columns of `Row`.
        origin: `chosen` (fusion), `corruptions` (name to its description and its magnitude per
            severity), `variants` (name to `title` and `left_out`), `counts`, `warnings`,
            `provenance`.
    """

    table: pd.DataFrame
    origin: dict[str, Any]


def tidy(cells: Iterable[Cell], resamples: int) -> pd.DataFrame:
    """Measures every cell.

    Args:
        cells: The cells; clean ones before corrupted ones, the base before other variants.
        resamples: Number of bootstrap draws behind each interval.

    Returns:
        Columns of `Row`, one row per variant, corruption, severity, system, species and metric.
    """
    clean: dict[tuple[str, str, str], Measured] = {}
    rows = []
    for cell in cells:
        scored = cell.scored
        species = scored.pairs["species"].to_numpy().astype(str)
        subsets = {"": np.ones(len(species), bool)}
        if cell.corruption == CLEAN:  # per kind of forgery too
            subsets |= {
                name: (scored.kind == "same") | (species == name)
                for name in sorted(set(species) - {""})
            }
        for system in scored.scores:
            for subset, chosen in subsets.items():
                measured = scored.measure(system, resamples, chosen)
                if cell.corruption == CLEAN:
                    clean[cell.variant, system, subset] = measured
                variant = BASE if cell.corruption == CLEAN else cell.variant
                rows += _rows(cell, system, subset, measured, clean[variant, system, subset])
    return pd.DataFrame(rows, columns=[field.name for field in fields(Row)])


def _rows(
    cell: Cell, system: str, species: str, measured: Measured, reference: Measured
) -> list[Row]:
    (figures, draws), (before, before_draws) = measured, reference
    changes = intervals(
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
            *change,
        )
        for name, change in changes.items()
    ]


def rank_corruptions(table: pd.DataFrame, system: str) -> list[dict[str, Any]]:
    """Ranks corruptions by the EER that they add to a system of the base run.

    Args:
        table: As `tidy` returns it.
        system: The system to measure.

    Returns:
        Per corruption, largest rise first, `corruption`, the `severity` with the highest EER, and
        per metric its row there.
    """
    base = _select(table, variant=BASE, system=system, species="")
    cells = []
    for (corruption, severity), part in base[base["corruption"] != CLEAN].groupby(
        ["corruption", "severity"], sort=False
    ):
        cells.append({"corruption": corruption, "severity": int(severity), **_by_metric(part)})
    worst: dict[str, dict[str, Any]] = {}
    for cell in cells:
        known = worst.get(cell["corruption"])
        if known is None or cell["eer"]["value"] > known["eer"]["value"]:
            worst[cell["corruption"]] = cell
    return sorted(worst.values(), key=lambda cell: -cell["eer"]["change"])


def rank_fusions(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Ranks the systems of the base run by their mean EER over all corruptions.

    Returns:
        Per system, lowest mean first, `system`, `clean` (row of the EER on clean images), `mean`
        and `worst` (row of the highest EER).
    """
    base = _select(table, variant=BASE, metric="eer", species="")
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
    """Ranks training variants by the EER that they add on clean images.

    Args:
        table: As `tidy` returns it.
        system: The system to measure.

    Returns:
        Per variant, largest rise first, `variant`, per metric its row on clean images, and
        `corrupted_change`, the mean change of the EER over corruptions (None where there are none).
    """
    rows = []
    chosen = _select(table, system=system, species="")
    base = _select(chosen, variant=BASE, metric="eer").set_index(["corruption", "severity"])[
        "value"
    ]
    for variant, part in chosen[chosen["variant"] != BASE].groupby("variant", sort=False):
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
                **_by_metric(part[part["corruption"] == CLEAN]),
            }
        )
    return sorted(rows, key=lambda row: -row["eer"]["change"])


def unseen_species(
    table: pd.DataFrame, system: str, left_out: dict[str, str]
) -> list[dict[str, Any]]:
    """Compares the SPF-EER on a kind of forgery with it in training and without.

    Args:
        table: As `tidy` returns it.
        system: The system to measure.
        left_out: Maps a variant to the kind of forgery that its training lacked.

    Returns:
        Per variant in the table `species`, `seen` (row of the base) and `unseen` (row of the
        variant).
    """
    rows = []
    for variant, species in left_out.items():
        part = _select(
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


def _by_metric(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Maps the metric of each row to the row's other columns."""
    indexed = rows.set_index("metric")
    return {name: indexed.loc[name].to_dict() for name in indexed.index}


def _select(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """Keeps the rows whose columns have these values."""
    chosen = np.ones(len(table), bool)
    for column, value in wanted.items():
        chosen &= (table[column] == value).to_numpy()
    return table[chosen]


def read_ablation(folder: Path) -> Ablation | None:
    """Reads the ablation in a folder; None where there is no complete one.

    Raises:
        DataError: A file is damaged.
    """
    if not ((folder / TABLE).exists() and (folder / ORIGIN).exists()):
        return None
    try:
        table = pd.read_csv(
            folder / TABLE, keep_default_na=False, na_values=[""], dtype={"species": str}
        ).fillna({"species": ""})
        return Ablation(
            table[[field.name for field in fields(Row)]],
            read_json(folder / ORIGIN),
        )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder / TABLE} or {ORIGIN} is damaged ({error})") from error
