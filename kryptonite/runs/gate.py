"""Fit a gate, a run's spoof check around somebody's own face matcher, and load it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError, MetricError
from kryptonite.core.files import sha256_file
from kryptonite.data.calibration import read_calibration
from kryptonite.fusion.cross import CrossFitted
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import FUSERS, Fuser, fit_fuser
from kryptonite.fusion.guard import GenuinePairs, cross_fit_as, guard
from kryptonite.fusion.verifier import Verifier, load_origin, load_verifiers, save_verifiers
from kryptonite.inference.gate import MatcherGate, gate_evidence
from kryptonite.metrics.error_rates import pair_metrics
from kryptonite.report.analysis import FMRS, SystemScores
from kryptonite.report.scores import ScoreSettings, compute_score_findings, write_score_page
from kryptonite.runs.checks import check_kinds
from kryptonite.runs.circumstances import circumstances
from kryptonite.runs.load import load
from kryptonite.runs.origin import BRANCHES, describe_branches
from kryptonite.runs.run_dir import RunDir
from kryptonite.runs.scores import PACKAGES

ALONE, GATED = "alone", "gated"  # the systems of a gate's figures
FUSIONS = ("multinomial", "llr")  # those whose scores are likelihood ratios of all three kinds
# Of the guard: FMR of the threshold, and how many mated pairs the spoof evidence may cost there.
GUARD_FMR, GUARD_COST = 0.01, 0.005
_THRESHOLDS, _FIGURES = "thresholds", "figures"  # sections of a gate's file


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

    Both of `FUSIONS` are cross-fitted over identities, and the one with the lower Cllr is refitted
    on all pairs. All figures are those of the cross-fitted scores, each of a fit without the pair's
    people. Pairs without a face in both photos are refused: no fit sees them, and their likelihood
    ratio counts as 0, no evidence either way.

    Args:
        run: Folder of a finished run.
        calibration: CSV; see `data.calibration.read_calibration`.
        out: The gate's file, JSON; the report lies beside it, as HTML.
        settings: How to fit.

    Returns:
        The figures that the file holds: `report.scores.compute_score_findings` of the matcher
        `alone` and `gated`, less the curves, and `fusion`, `cllr` (per fusion), `refused` and
        `unreadable` (numbers of pairs), `provenance`.

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

    fusers = {name: _fit(name, evidence, kind) for name in FUSIONS}
    crossed = {
        name: _cross_fit(fuser, table, settings.folds, str(calibration))
        for name, fuser in fusers.items()
    }
    scores = {name: each.score(evidence) for name, each in crossed.items()}
    llrs = {name: FUSERS[name].llr(score) for name, score in scores.items()}
    cllr = {name: pair_metrics(kind, scores[name], llr=llrs[name])["cllr"] for name in FUSIONS}
    chosen = min(FUSIONS, key=cllr.__getitem__)
    # Refused pairs lie below every threshold, whatever their likelihood ratio.
    gated = np.where(table["acquired"], llrs[chosen], scores[chosen])
    scored = SystemScores(
        table.assign(species=""),
        {ALONE: table["similarity"].to_numpy(), GATED: gated},
        {GATED: llrs[chosen]},
        {},
    )
    findings = compute_score_findings(
        scored, ScoreSettings(ALONE, settings.fmrs, settings.resamples)
    )
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
        "cllr": cllr,
        "refused": int((~table["acquired"]).sum()),
        "unreadable": int((~readable).sum()),
        "provenance": provenance,
    }
    # The file's threshold is on the fusion's own scale, as in every file of fusions.
    own = next(iter(thresholds.values())) - (FUSERS[chosen].llr_offset or 0.0)
    save_verifiers(
        target,
        chosen,
        {chosen: Verifier(fusers[chosen], own)},
        {
            BRANCHES: describe_branches(folder, pipeline.extractor.cache.aligner),
            _THRESHOLDS: thresholds,
            _FIGURES: figures,
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
        run: Folder of the run that it was fitted with.
        cache: As for `runs.load.load`.
        device: Likewise.
        engine: Likewise.

    Raises:
        DataError: The file is no gate, or was fitted with another run.
    """
    name, verifiers = load_verifiers(path)
    origin = load_origin(path)
    thresholds = origin.get(_THRESHOLDS)
    if not isinstance(thresholds, dict) or BRANCHES not in origin:
        raise DataError(f"{path}: not a gate; `kryptonite gate fit` makes one")
    pipeline = load(run, cache, device, engine)
    if origin[BRANCHES] != describe_branches(RunDir(Path(run)), pipeline.extractor.cache.aligner):
        raise DataError(f"{path}: fitted with another run than {run}; fit it again with this one")
    return MatcherGate(pipeline, verifiers[name].fuser, thresholds)


def _check_direction(pairs: pd.DataFrame, path: Path | str) -> None:
    """Refuses distances, which are lower for one person."""
    medians = pairs.groupby("kind")["similarity"].median()
    if medians["same"] <= medians["different"]:
        raise DataError(
            f"{path}: similarity is not higher for pairs of one person (median "
            f"{medians['same']:g}) than for pairs of two ({medians['different']:g}); of a distance "
            "give the negative"
        )


def _fit(name: str, evidence: Evidence, kind: np.ndarray) -> Fuser:
    mated, non_mated = (
        evidence.rows((kind == each) & evidence.acquired) for each in ("same", "different")
    )
    fuser = fit_fuser(name, evidence, kind)
    return guard(fuser, [GenuinePairs(mated, non_mated)], GUARD_FMR, GUARD_COST)


def _cross_fit(fuser: Fuser, table: pd.DataFrame, folds: int, source: str) -> CrossFitted:
    columns = [table[name].to_numpy() for name in ("kind", "label_a", "label_b")]
    try:
        return cross_fit_as(fuser, Evidence.of(table), *columns, folds)
    except MetricError as error:
        people = pd.unique(pd.concat([table["label_a"], table["label_b"]])).size
        raise DataError(
            f"{source}: {people} people are too few to cross-fit in {folds} folds: without those "
            "of a pair some kind of pair is missing. Add pairs of other people"
        ) from error


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
