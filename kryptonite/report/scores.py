"""Report the error rates of scores from elsewhere: figures as plain numbers, and one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.core.errors import MetricError
from kryptonite.core.files import write_text
from kryptonite.metrics.error_rates import (
    ADCF_COSTS,
    ADCF_PRIORS,
    DCF_PRIOR,
    eer_threshold,
    fmr_threshold,
)
from kryptonite.metrics.kinds import KINDS
from kryptonite.report import plots
from kryptonite.report.analysis import (
    FMRS,
    RULE_OF_30,
    SystemScores,
    error_points,
    fmr_name,
    operating_points,
    paired_gains,
    reliability_bins,
)
from kryptonite.report.page import environment

# Error rates of which the page shows how far they lie below those of the matcher alone.
GAINS = ("eer", "sv_eer", "spf_eer", "fnmr_at_fmr_1e2", "fnmr_at_fmr_1e3", "min_a_dcf")
FEW_PEOPLE = 30  # below this many the bootstrap's intervals are too narrow


@dataclass(frozen=True)
class ScoreSettings:
    """How scores from elsewhere are measured.

    Args:
        alone: Name of the system that is the matcher alone, with which all others are compared;
            None compares none.
        fmrs: FMRs, 0..1, at which thresholds are stated. Rates at a threshold are those at the
            first of them where a system has none of its own.
        resamples: Bootstrap resamples over identities behind each interval.
    """

    alone: str | None = None
    fmrs: Sequence[float] = FMRS
    resamples: int = 1000


def compute_score_findings(scored: SystemScores, settings: ScoreSettings) -> dict[str, Any]:
    """Computes all figures of the report.

    Args:
        scored: The scored pairs; mated pairs and pairs of one other kind at least.
        settings: How they are measured.

    Returns:
        `systems`: per system `pair_metrics` with `intervals`, `at` and `threshold` (the operating
        point of its rates). `alone`, and `gains`: per other system and metric of `GAINS` its
        `gain` over the matcher alone and the gain's `interval` on the same resampled identities.
        `species`: per kind of forgery its `pairs` and the figures of the `systems` on these and all
        mated pairs. `thresholds`: per system its `operating_points`. `reliability`: bins of the
        systems whose scores are likelihood ratios. `curves`, `counts`, `costs`, `warnings`.

    Raises:
        MetricError: There are no mated pairs or no others, or no system is called `alone`.
    """
    alone = settings.alone
    if alone is not None and alone not in scored.scores:
        raise MetricError(f"there are no scores {alone!r}; there are {', '.join(scored.scores)}")
    points = {name: _operating_point(scored, name, settings.fmrs) for name in scored.scores}
    fixed = replace(scored, thresholds={name: threshold for name, (_, threshold) in points.items()})
    measured = {name: fixed.measure(name, settings.resamples) for name in scored.scores}
    systems = {
        name: {**figures, "at": points[name][0], "threshold": points[name][1]}
        for name, (figures, _) in measured.items()
    }
    species = [
        {
            "species": name,
            "pairs": pairs,
            "systems": {
                system: fixed.measure(system, settings.resamples, rows)[0]
                for system in scored.scores
            },
        }
        for name, pairs, rows in scored.forgeries()
    ]
    people = int(pd.unique(pd.concat([scored.pairs["label_a"], scored.pairs["label_b"]])).size)
    counts = {kind: int((scored.kind == kind).sum()) for kind in KINDS}
    return {
        "systems": systems,
        "alone": alone,
        "gains": {
            name: _gains(measured[alone], each)
            for name, each in measured.items()
            if alone not in (None, name)
        },
        "species": species,
        "thresholds": {
            name: operating_points(scored, name, settings.resamples, settings.fmrs)
            for name in scored.scores
        },
        "reliability": {
            name: reliability_bins(scored.kind == "same", llr) for name, llr in scored.llrs.items()
        },
        "curves": {name: error_points(scored.kind, score) for name, score in scored.scores.items()},
        "counts": {"pairs": counts, "people": people},
        "costs": {
            "a_dcf": {
                "priors": dict(zip(KINDS, ADCF_PRIORS, strict=True)),
                "costs": dict(zip(KINDS, ADCF_COSTS, strict=True)),
            },
            "min_dcf": {"prior": DCF_PRIOR, "costs": [1.0, 1.0]},
        },
        "warnings": _warnings(counts, people, settings.fmrs),
    }


def _operating_point(scored: SystemScores, system: str, fmrs: Sequence[float]) -> tuple[str, float]:
    """A system's own threshold, or that of the first FMR, or, where no score reaches it, of the
    EER: its name and its value."""
    kind, score = scored.kind, scored.scores[system]
    if system in scored.thresholds:
        return scored.own_threshold, scored.thresholds[system]
    if (kind == "different").any() and fmrs:
        threshold = fmr_threshold(kind, score, fmrs[0])
        if np.isfinite(threshold):
            return fmr_name(fmrs[0]), threshold
    return "EER here", eer_threshold(kind == "same", score)


def _gains(alone: tuple, system: tuple) -> dict[str, Any]:
    (figures_alone, draws_alone), (figures, draws) = alone, system
    names = [name for name in GAINS if name in figures]
    ends = paired_gains(draws_alone, draws, names)
    return {
        name: {"gain": figures_alone[name] - figures[name], "interval": ends[name]}
        for name in names
    }


def _warnings(counts: dict[str, int], people: int, fmrs: Sequence[float]) -> list[str]:
    found = []
    for kind, missing in (
        ("different", "SV-EER, FMR, a-DCF and thresholds at an FMR"),
        ("synthetic", "SPF-EER, IAPAR, RIAPAR, BSCER and a-DCF"),
    ):
        if not counts[kind]:
            found.append(f"There are no pairs of the kind {kind}, hence no {missing}.")
    if people < FEW_PEOPLE:
        found.append(
            f"The pairs show {people} people: a bootstrap over so few gives intervals that are too "
            "narrow."
        )
    unsure = [fmr_name(fmr) for fmr in fmrs if 0 < counts["different"] * fmr < RULE_OF_30]
    if unsure:
        found.append(
            f"{counts['different']} non-mated pairs are too few to measure {', '.join(unsure)} "
            f"(that takes {RULE_OF_30} false accepts)."
        )
    return found


def write_score_page(
    target: Path, scored: SystemScores, findings: dict[str, Any], provenance: dict[str, Any]
) -> None:
    """Writes the HTML.

    Args:
        target: File to write.
        scored: The scored pairs.
        findings: What `compute_score_findings` computed from them.
        provenance: scores, scores_sha256, pairs, pairs_sha256, resamples, command, made, versions.
    """
    # The page's plots let one system stand out: the first that is not the matcher alone.
    first = next((name for name in scored.scores if name != findings["alone"]), findings["alone"])
    present = [kind for kind in KINDS[1:] if findings["counts"]["pairs"][kind]]
    write_text(
        target,
        environment()
        .get_template("scores.html")
        .render(
            **findings,
            title=f"Kryptonite: {provenance['scores']}",
            provenance=provenance,
            gain_metrics=GAINS,
            plots={
                "det": {kind: plots.det_plot(findings["curves"], kind, first) for kind in present},
                "histograms": {
                    name: plots.histogram(
                        scored.kind, score, findings["systems"][name]["threshold"], name
                    )
                    for name, score in scored.scores.items()
                },
                "reliability": {
                    name: plots.reliability_plot(bins, "‘accept’")
                    for name, bins in findings["reliability"].items()
                },
            },
        ),
    )
