"""Write the report of a run: one HTML file that opens offline."""

import base64
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kryptonite.core.files import write_text
from kryptonite.core.images import read_rgb
from kryptonite.report import plots
from kryptonite.report.ablation import Ablation
from kryptonite.report.analysis import BASELINE, ScoredPairs, worst_pairs
from kryptonite.report.page import KIND_TITLES, environment, system_title
from kryptonite.report.quality import FACTS
from kryptonite.report.robustness import robustness_section
from kryptonite.report.transfer import WORSE, Row, summary

WORST = 12  # pairs shown per kind of error
FAILURES = 12  # images shown in which no face was found
THUMBNAIL = 128  # longest side, pixels


@dataclass(frozen=True)
class ReportInputs:
    """What the report of a run is made from.

    Args:
        scored: The scored pairs; thumbnails are read from their image files.
        findings: The figures that `report.analysis.compute_findings` computed from them.
        provenance: Where the figures come from: run, recognition, liveness, pairs, pairs_sha256,
            data_root, split_hash, seeds, resamples, command, made, device, versions.
        warnings: Caveats, shown before any figure.
        unreadable: Number of pairs left out because an image cannot be read.
        withheld: Kinds of forgery that do not occur in training.
        ablation: The run's ablation; None where there is none.
        transfer: The run on other sources and kinds of forgery; empty where nobody measured it.
        references: What `report.references.reference_figures` computed; None where the run is not
            calibrated for several references, or too few people have enough photos.
        selective: What `report.selective.selective_figures` computed; None where the run has no
            rule for which decisions to withhold.
    """

    scored: ScoredPairs
    findings: dict[str, Any]
    provenance: dict[str, Any]
    warnings: list[str]
    unreadable: int = 0
    withheld: Collection[str] = ()
    ablation: Ablation | None = None
    transfer: Sequence[Row] = ()
    references: dict[str, Any] | None = None
    selective: dict[str, Any] | None = None


def write_report(target: Path, inputs: ReportInputs) -> None:
    """Writes the HTML.

    Args:
        target: File to write.
        inputs: What the page shows.
    """
    scored, findings = inputs.scored, inputs.findings
    failed = scored.images.loc[scored.images["failed"], "path"].head(FAILURES)
    points = [point for each in findings["thresholds"].values() for point in each]
    html = (
        environment()
        .get_template("report.html")
        .render(
            **findings,
            title=f"Kryptonite: {inputs.provenance['run']}",
            provenance=inputs.provenance,
            warnings=inputs.warnings,
            unreadable=inputs.unreadable,
            withheld=inputs.withheld,
            ablation=robustness_section(inputs.ablation) if inputs.ablation else None,
            transfer=_transfer(inputs.transfer) if inputs.transfer else None,
            references=inputs.references,
            selective=inputs.selective,
            worst=_worst(scored),
            failures=[thumbnail(path) for path in failed],
            unsure=not all(point["sure"] for point in points),
            plots=_plots(inputs),
        )
    )
    write_text(target, html)


def thumbnail(path: str) -> str:
    """Shrinks an image file and encodes it as the address of an `<img>`."""
    image = Image.fromarray(read_rgb(path))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _plots(inputs: ReportInputs) -> dict[str, Any]:
    scored, findings, selective = inputs.scored, inputs.findings, inputs.selective
    curves, acquired = findings["curves"], scored.pairs["acquired"].to_numpy()
    return {
        "det_different": plots.det_plot(curves, "different", scored.chosen),
        "det_synthetic": plots.det_plot(curves, "synthetic", scored.chosen),
        "histograms": {
            name: plots.histogram(
                scored.kind[acquired],
                scored.scores[name][acquired],
                scored.thresholds[name],
                f"score of {system_title(name)}",
            )
            for name in dict.fromkeys([scored.chosen, BASELINE, "detector"])
        },
        "reliability": {
            name: plots.reliability_plot(bins, "‘accept’" if name == "pairs" else "‘synthetic’")
            for name, bins in findings["reliability"].items()
        },
        "groups": {
            fact: plots.group_plot(_named(groups), f"{fact} ({FACTS[fact][0]})")
            for fact, groups in findings["groups"].items()
        },
        "risk_coverage": selective
        and plots.risk_coverage_plot(selective["curve"], selective["rule"]),
    }


def _transfer(rows: Sequence[Row]) -> dict[str, Any]:
    """Returns everything that `templates/transfer.html` shows."""
    measured = [row for row in rows if row.verdict]
    return {
        "rows": rows,
        "summary": summary(rows),
        "worse": WORSE,
        "incomplete": len(measured) < len(rows),
        "gains": plots.gain_plot(measured) if measured else None,
    }


def _worst(scored: ScoredPairs) -> dict[str, dict[str, Any]]:
    return {
        title: {
            "total": len(table),
            "shown": [_pair(row) for row in table.head(WORST).itertuples()],
        }
        for title, table in worst_pairs(scored, len(scored.pairs)).items()
    }


def _pair(row: Any) -> dict[str, Any]:
    def probability(log_odds: float) -> str:
        return f"{1 / (1 + np.exp(-log_odds)):.0%}"

    kind = KIND_TITLES[row.kind]
    return {
        "pair_id": row.pair_id,
        "a": thumbnail(row.path_a),
        "b": thumbnail(row.path_b),
        "kind": f"{kind} ({row.species})" if row.kind == "synthetic" and row.species else kind,
        "score": row.score,
        "similarity": row.similarity,
        "synthetic_a": probability(row.log_odds_a),
        "synthetic_b": probability(row.log_odds_b),
    }


def _named(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds to each group its range of values as `name`."""

    def border(value: float) -> str:
        return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}"

    def name(group: dict[str, Any]) -> str:
        if group["from"] is None:
            return f"≤ {border(group['to'])}"
        if group["to"] is None:
            return f"> {border(group['from'])}"
        return f"{border(group['from'])}–{border(group['to'])}"

    return [{**group, "name": name(group)} for group in groups]
