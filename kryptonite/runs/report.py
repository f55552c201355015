"""Assess a run on labelled pairs and write its report."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kryptonite.core.files import write_json
from kryptonite.data.csv_tables import read_table
from kryptonite.data.protocol import load_protocol
from kryptonite.report.ablation import read_ablation
from kryptonite.report.analysis import compute_findings
from kryptonite.report.html import ReportInputs, write_report
from kryptonite.report.references import reference_figures
from kryptonite.report.selective import selective_figures
from kryptonite.report.transfer import COLUMNS, Row, parse_transfer
from kryptonite.runs.assess import assess
from kryptonite.runs.checks import check_kinds
from kryptonite.runs.load import load
from kryptonite.runs.origin import check_own_pairs
from kryptonite.runs.provenance import provenance, shortcut_warnings, split_warnings
from kryptonite.runs.references import score_references
from kryptonite.runs.run_dir import RunDir
from kryptonite.runs.selective import decide_selectively


@dataclass(frozen=True)
class Protocol:
    """Labelled pairs and how they are to be assessed.

    Args:
        pairs_file: Frozen pairs or a ground truth; see `data.protocol.load_protocol`.
        data_root: Folder of their photos.
        cache: Folder of aligned crops and features, safe to delete.
        device: `auto`, `cpu` or `cuda`.
        resamples: Bootstrap resamples over identities behind the intervals.
    """

    pairs_file: Path | str
    data_root: Path | str
    cache: Path | str = ".cache/crops"
    device: str = "auto"
    resamples: int = 1000


def load_labelled(run: RunDir, protocol: Protocol) -> pd.DataFrame:
    """Loads the pairs to assess a run on.

    Args:
        run: Folder of the run.
        protocol: Says which pairs.

    Returns:
        Columns `data.pairs.PAIR_COLUMNS`.

    Raises:
        DataError: Names file and row; a kind of pair is missing; or the pairs are the run's own
            and not those its fusions were fitted on.
    """
    if os.path.abspath(protocol.pairs_file) == os.path.abspath(run.pairs):
        check_own_pairs(run)
    pairs = load_protocol(protocol.pairs_file, protocol.data_root)
    check_kinds(pairs["kind"], str(protocol.pairs_file))
    return pairs


def read_transfer(path: Path | str) -> list[Row]:
    """Reads the transfer.csv that benchmarks/transfer.py wrote.

    Raises:
        DataError: Names the file, and the row or the missing column.
    """
    return parse_transfer(read_table(path, COLUMNS), path)


def write_run_report(
    run: RunDir, protocol: Protocol, out: Path, transfer: Path | str | None = None
) -> dict[str, Any]:
    """Assesses a run and writes the report: `out` (HTML) and the same figures as JSON beside it.

    Args:
        run: Folder of a finished run.
        protocol: The pairs.
        out: HTML file to write.
        transfer: The run's transfer.csv; None leaves that section out.

    Returns:
        What the JSON holds.

    Raises:
        KryptoniteError: The run, the pairs, the images or the transfer.csv are wrong.
    """
    # Before minutes of scoring.
    cells = [] if transfer is None else read_transfer(transfer)
    pairs = load_labelled(run, protocol)
    pipeline = load(run.path, protocol.cache, protocol.device)
    assessment = assess(pipeline, run, pairs)
    scored, unreadable = assessment.scored, len(assessment.unreadable)
    findings = compute_findings(scored, protocol.resamples)
    trials = score_references(pipeline, run, assessment)
    references = reference_figures(trials, protocol.resamples) if trials else None
    decisions = decide_selectively(pipeline, run, assessment)
    selective = selective_figures(decisions, protocol.resamples) if decisions else None
    origin = provenance(run, protocol.pairs_file, protocol.data_root, protocol.resamples)
    warnings = [*assessment.warnings, *split_warnings(run), *shortcut_warnings(run)]
    known = set(run.read_images()["species"])
    withheld = sorted(set(scored.pairs["species"]) - known - {""}) if known - {""} else []
    ablation = read_ablation(run.ablation)
    inputs = ReportInputs(
        scored,
        findings,
        origin,
        warnings,
        unreadable,
        withheld,
        ablation,
        cells,
        references,
        selective,
    )
    write_report(out, inputs)
    whole = {
        **findings,
        "references": references,
        "cannot_say": selective,
        "withheld": withheld,
        "transfer": [{**asdict(cell), "verdict": cell.verdict} for cell in cells],
        "warnings": warnings,
        "unreadable_pairs": unreadable,
        "provenance": origin,
    }
    write_json(out.with_suffix(".json"), whole)
    return whole
