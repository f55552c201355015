"""The report: one HTML file that opens offline, and the same figures as JSON."""

import base64
import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kryptonite.core.files import write_text
from kryptonite.core.images import read_rgb
from kryptonite.report import plots
from kryptonite.report.analysis import ScoredPairs, worst_pairs
from kryptonite.report.page import TITLES, environment
from kryptonite.report.quality import FACTS
from kryptonite.report.robustness import robustness_section
from kryptonite.robustness.table import Ablation

KINDS = {"same": "same person", "different": "different people"}
WORST = 12  # pairs shown of each kind of error
FAILURES = 12  # images shown in which no face was found
THUMBNAIL = 128  # pixels


def write_report(
    target: Path,
    scored: ScoredPairs,
    findings: dict[str, Any],
    provenance: dict[str, Any],
    warnings: list[str],
    unreadable: int = 0,
    withheld: Collection[str] = (),
    ablation: Ablation | None = None,
) -> None:
    """Writes the HTML.

    Args:
        target: File to write.
        scored: The pairs; their images are read for the picture rows.
        findings: What `report.analysis.compute_findings` gave for them.
        provenance: What made the figures: run, recognition, liveness, pairs, pairs_sha256, data_root, split_hash, seeds, resamples,
            command, made, device, versions.
        warnings: Told before any figure.
        unreadable: Pairs that are in no figure.
        withheld: Kinds of forgery that training never saw.
        ablation: What `ablate.py` left, where it was run.
    """
    titles = {name: TITLES.get(name, name) for name in scored.scores}
    shown = list(dict.fromkeys([scored.chosen, "none", "detector"]))
    acquired = scored.pairs["acquired"].to_numpy()
    worst = {
        title: {
            "total": len(table),
            "shown": [_pair(row) for row in table.head(WORST).itertuples()],
        }
        for title, table in worst_pairs(scored, len(scored.pairs)).items()
    }
    failed = scored.images.loc[scored.images["failed"], "path"].head(FAILURES)
    curves = findings["curves"]
    drawn = {
        "det_different": plots.det_plot(curves, "different", scored.chosen, titles),
        "det_synthetic": plots.det_plot(curves, "synthetic", scored.chosen, titles),
        "histograms": {
            name: plots.histogram(
                scored.kind[acquired],
                scored.scores[name][acquired],
                scored.thresholds[name],
                f"score of {titles[name]}",
            )
            for name in shown
        },
        "reliability": {
            name: plots.reliability_plot(bins, "‘accept’" if name == "pairs" else "‘synthetic’")
            for name, bins in findings["reliability"].items()
        },
        "groups": {
            fact: plots.group_plot(_named(groups), f"{fact} ({FACTS[fact][0]})")
            for fact, groups in findings["groups"].items()
        },
    }
    page = environment().get_template("report.html")
    html = page.render(
        **findings,
        title=f"Kryptonite: {provenance['run']}",
        titles=titles,
        provenance=provenance,
        warnings=warnings,
        unreadable=unreadable,
        withheld=withheld,
        ablation=robustness_section(ablation) if ablation else None,
        worst=worst,
        failures=[thumbnail(path) for path in failed],
        unsure=not all(
            point["sure"] for points in findings["thresholds"].values() for point in points
        ),
        plots=drawn,
    )
    write_text(target, html)


def thumbnail(path: str) -> str:
    """An image file, shrunk, as the address of an `<img>`."""
    image = Image.fromarray(read_rgb(path))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _pair(row: Any) -> dict[str, Any]:
    def synthetic(log_odds: float) -> str:
        return f"{1 / (1 + np.exp(-log_odds)):.0%}"

    return {
        "pair_id": row.pair_id,
        "a": thumbnail(row.path_a),
        "b": thumbnail(row.path_b),
        "what": {"same": "same person", "different": "different people"}.get(
            row.kind, f"synthetic ({row.species})" if row.species else "synthetic"
        ),
        "score": row.score,
        "similarity": row.similarity,
        "synthetic_a": synthetic(row.log_odds_a),
        "synthetic_b": synthetic(row.log_odds_b),
    }


def _named(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def border(value: float) -> str:
        return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}"

    def name(group: dict[str, Any]) -> str:
        if group["from"] is None:
            return f"≤ {border(group['to'])}"
        return (
            f"> {border(group['from'])}"
            if group["to"] is None
            else f"{border(group['from'])}–{border(group['to'])}"
        )

    return [{**group, "name": name(group)} for group in groups]
