"""Fit a gate, a run's spoof check around somebody's own face matcher, and load it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.core.errors import MALFORMED, DataError, MetricError
from kryptonite.core.files import read_json, sha256_file, write_json
from kryptonite.data.calibration import read_calibration
from kryptonite.fusion.cross import cross_fit_by
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.matcher import CalibratedFuser
from kryptonite.fusion.verifier import finite
from kryptonite.inference.gate import MatcherGate, gate_evidence
from kryptonite.metrics.error_rates import pair_metrics
from kryptonite.report.analysis import FMRS, SystemScores
from kryptonite.report.scores import ScoreSettings, compute_score_findings, write_score_page
from kryptonite.runs.checks import check_kinds
from kryptonite.runs.circumstances import circumstances
from kryptonite.runs.load import load
from kryptonite.runs.origin import BRANCHES, describe_branches
from kryptonite.runs.run_dir import RunDir, seen_warnings
from kryptonite.runs.scores import PACKAGES

ALONE, GATED = "matcher", "gated"  # the systems of a gate's figures
FUSIONS = ("multinomial", "llr")  # those that a gate chooses from
SV_COST = 0.003  # by how much the SV-EER may exceed the matcher's own


@dataclass(frozen=True)
class GateSettings:
    """How a gate is fitted.

    Args:
        data_root: Folder that the calibration table's paths may be relative to.
        cache: Folder of aligned crops and features, safe to delete.
        device: `auto`, `cpu` or `cuda`.
        folds: Folds of the cross-fitting over identities.
        fmrs: FMRs, 0..1, of the thresholds; the first that the pairs resolve is the gate's own. An
            FMR is resolved if it allows at least one of the non-mated pairs.
        resamples: Bootstrap resamples over identities behind the intervals.
    """

    data_root: Path | str = "."
    cache: Path | str = ".cache/crops"
    device: str = "auto"
    folds: int = 5
    fmrs: Sequence[float] = FMRS
    resamples: int = 1000


def fit_gate(
    run: Path | str,
    calibration: Path | str,
    out: Path | str,
    settings: GateSettings = GateSettings(),
) -> dict[str, Any]:
    """Fits a gate on labelled pairs that a matcher has scored; writes it, and its report as HTML.

    All of `FUSIONS` are calibrated and cross-fitted over identities. Of those whose SV-EER is at
    most `SV_COST` above that of the matcher alone, the one with the lowest Cllr is refitted on all
    pairs; if there is none, the one with the lowest SV-EER. All figures are those of the
    cross-fitted scores, each of a fit without the pair's people. Pairs without a face in both
    photos are refused: no fit sees them, and their likelihood ratio counts as 0, no evidence either
    way.

    Args:
        run: Folder of a finished run.
        calibration: CSV; see `data.calibration.read_calibration`.
        out: The gate's file, JSON; the report lies beside it, as HTML.
        settings: How to fit.

    Returns:
        The figures that the file holds: `report.scores.compute_score_findings` of the `matcher`
        alone and `gated`, less the curves, whose `warnings` also say which photos the run's
        training saw; `fusion`; `fusions` (`cllr` and `sv_eer` of each); `refused` and `unreadable`
        (numbers of pairs); `provenance`.

    Raises:
        DataError: The run or the table is wrong, a kind of pair is missing, there are too few
            people to cross-fit, or the similarity is lower for pairs of one person.
    """
    folder, target = RunDir(Path(run)), Path(out)
    pairs = read_calibration(calibration, settings.data_root)
    check_kinds(pairs["kind"], str(calibration))
    _check_direction(pairs, calibration)
    pipeline = load(run, settings.cache, settings.device)
    table = gate_evidence(pipeline, pairs)
    readable = table["readable"].to_numpy()
    table = table[readable].reset_index(drop=True)
    check_kinds(table.loc[table["acquired"], "kind"], str(calibration))
    evidence, kind = Evidence.of(table), table["kind"].to_numpy().astype(str)

    llrs = {name: _cross_fitted(name, table, settings.folds, calibration) for name in FUSIONS}
    # A refused pair is no evidence either way, yet lies below every threshold.
    ratios = {name: np.where(evidence.acquired, llr, 0.0) for name, llr in llrs.items()}
    measured = {name: pair_metrics(kind, llrs[name], llr=ratios[name]) for name in FUSIONS}
    fusions = {
        name: {key: found[key] for key in ("cllr", "sv_eer")} for name, found in measured.items()
    }
    chosen = _choose(fusions, pair_metrics(kind, evidence.similarity)["sv_eer"])
    scored = SystemScores(
        table.assign(species=""),
        {ALONE: evidence.similarity, GATED: llrs[chosen]},
        {GATED: ratios[chosen]},
        {},
    )
    findings = compute_score_findings(
        scored, ScoreSettings(ALONE, settings.fmrs, settings.resamples)
    )
    findings["warnings"] += _warnings(folder, table)
    provenance = {
        "scores": str(calibration),
        "scores_sha256": sha256_file(calibration),
        "pairs": str(calibration),
        "pairs_sha256": sha256_file(calibration),
        **circumstances(settings.resamples, PACKAGES),
    }
    thresholds = _thresholds(findings["thresholds"][GATED], settings.fmrs)
    figures = {
        **{name: findings[name] for name in ("systems", "gains", "thresholds", "counts")},
        "warnings": findings["warnings"],
        "fusion": chosen,
        "fusions": fusions,
        "refused": int((~table["acquired"]).sum()),
        "unreadable": int((~readable).sum()),
        "provenance": provenance,
    }
    aligner = pipeline.extractor.cache.aligner
    write_json(
        target,
        {
            "fuser": CalibratedFuser.fit(chosen, evidence, kind).to_dict(),
            "thresholds": thresholds,
            BRANCHES: describe_branches(folder, aligner),
            "figures": figures,
        },
    )
    write_score_page(target.with_suffix(".html"), scored, findings, provenance)
    return figures


def load_gate(
    path: Path | str,
    run: Path | str,
    cache: Path | str = ".cache/crops",
    device: str = "auto",
    engine: str = "torch",
) -> MatcherGate:
    """Loads a gate.

    Args:
        path: File that `fit_gate` wrote.
        run: Folder of the run that it was fitted with, or of that run published.
        cache: As for `runs.load.load`.
        device: Likewise.
        engine: Likewise.

    Raises:
        DataError: The file is no gate, or was fitted with another run.
    """
    try:
        stored = read_json(path)
        fuser = CalibratedFuser.from_dict(stored["fuser"])
        thresholds = {name: finite(value) for name, value in stored["thresholds"].items()}
        needed = _needed(stored[BRANCHES])
        if not thresholds:
            raise ValueError("it has no thresholds")
    except (*MALFORMED, DataError) as error:
        raise DataError(f"{path}: not a gate ({error}); `kryptonite gate fit` makes one") from error
    pipeline = load(run, cache, device, engine)
    if needed != _needed(describe_branches(RunDir(Path(run)), pipeline.extractor.cache.aligner)):
        raise DataError(f"{path}: fitted with another run than {run}; fit it again with this one")
    return MatcherGate(pipeline, fuser, thresholds)


def _needed(branches: dict[str, Any]) -> dict[str, Any]:
    """What of `describe_branches` a gate depends on: the networks' weights and the aligner.

    The hash after each of weights is that of their description. Publishing rewrites the paths in
    those and in the settings, and leaves the images out.
    """
    networks = [name for name in ("recognition", "liveness", "comparison") if name in branches]
    return {"aligner": branches["aligner"], **{name: branches[name][::2] for name in networks}}


def _check_direction(pairs: pd.DataFrame, path: Path | str) -> None:
    """Refuses distances, which are lower for one person."""
    medians = pairs.groupby("kind")["similarity"].median()
    if medians["same"] <= medians["different"]:
        raise DataError(
            f"{path}: similarity is not higher for pairs of one person (median "
            f"{medians['same']:g}) than for pairs of two ({medians['different']:g}); of a distance "
            "give the negative"
        )


def _warnings(run: RunDir, table: pd.DataFrame) -> list[str]:
    """Says which photos the run has seen; a published run no longer tells."""
    if not run.images.exists():
        return []
    keys = pd.unique(pd.concat([table["key_a"], table["key_b"]]))
    return seen_warnings(run.count_seen(keys), len(keys), "gate")


def _cross_fitted(name: str, table: pd.DataFrame, folds: int, source: Path | str) -> np.ndarray:
    """Likelihood ratios, each of a fit without the pair's people; `REFUSED` without a face."""
    kind, first, second = (table[each].to_numpy() for each in ("kind", "label_a", "label_b"))
    evidence, fit = Evidence.of(table), partial(CalibratedFuser.fit, name)
    try:
        crossed = cross_fit_by(fit, evidence, kind, first, second, folds)
    except MetricError as error:
        people = pd.unique(pd.concat([table["label_a"], table["label_b"]])).size
        raise DataError(
            f"{source}: {people} people are too few to cross-fit in {folds} folds: without those "
            "of a pair some kind of pair is missing. Add pairs of other people"
        ) from error
    return crossed.score(evidence).astype(np.float64)


def _choose(fusions: dict[str, dict[str, float]], alone: float) -> str:
    """Names the fusion to keep; see `fit_gate`.

    Args:
        fusions: `cllr` and `sv_eer` of each.
        alone: SV-EER of the matcher alone.
    """
    harmless = [name for name, each in fusions.items() if each["sv_eer"] <= alone + SV_COST]
    if harmless:
        return min(harmless, key=lambda name: fusions[name]["cllr"])
    return min(fusions, key=lambda name: fusions[name]["sv_eer"])


def _thresholds(points: list[dict[str, Any]], fmrs: Sequence[float]) -> dict[str, float]:
    """Names the thresholds of the FMRs that the pairs resolve, and last that of the EER.

    Args:
        points: `operating_points` at the EER and at every FMR.
        fmrs: The FMRs, in the order of the points.
    """
    at_eer, *at_fmrs = points
    resolved = {
        f"fmr={fmr:g}": point["threshold"]
        for point, fmr in zip(at_fmrs, fmrs, strict=True)
        if point["threshold"] is not None and point["fmr"] > 0
    }
    return {**resolved, "eer": at_eer["threshold"]}
