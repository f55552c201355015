"""Decide on assessed pairs, with the certainty of every decision."""

from dataclasses import dataclass, replace

import numpy as np

from kryptonite.fusion.abstention import fit_abstention
from kryptonite.fusion.cross import cross_fit_by
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import fit_fuser
from kryptonite.fusion.guard import guarded_as
from kryptonite.fusion.verifier import STORED, Verifier
from kryptonite.inference.pipeline import Pipeline
from kryptonite.report.selective import SelectiveDecisions
from kryptonite.runs.assess import Assessment
from kryptonite.runs.run_dir import RunDir


def decide_selectively(
    pipeline: Pipeline, run: RunDir, assessment: Assessment
) -> SelectiveDecisions | None:
    """Decides on assessed pairs at the stored threshold of the run's fusion.

    Pairs without a face in both images, which are always refused, are left out. Where the run has
    seen the images, the rule of which decisions to withhold is refitted together with the fusion,
    as in `assess`.

    Args:
        pipeline: The run, loaded.
        run: Its folder.
        assessment: What `assess` returned.

    Returns:
        None where the run has no such rule.
    """
    verifier, scored = pipeline.verifier, assessment.scored
    if verifier.abstention is None:
        return None
    score = scored.scores[scored.chosen]
    identities = scored.pairs["label_a"].to_numpy(), scored.pairs["label_b"].to_numpy()
    if assessment.cross_fitted:
        evidence = Evidence.of(scored.pairs)
        folds = run.read_config()["fusion"]["folds"]
        fit = _Refit(verifier)
        surplus = cross_fit_by(fit, evidence, scored.kind, *identities, folds).score(evidence)
    else:
        surplus = verifier.surplus(score, STORED)
    found = scored.pairs["acquired"].to_numpy()
    decisions = scored.kind, *identities, score >= verifier.threshold, surplus
    return SelectiveDecisions(*(each[found] for each in decisions), verifier.abstention.share)


@dataclass(frozen=True)
class _Surplus:
    """Maps evidence to how far a decision's certainty lies above the least."""

    verifier: Verifier

    def score(self, evidence: Evidence) -> np.ndarray:
        return self.verifier.surplus(self.verifier.fuser.score(evidence), STORED)


@dataclass(frozen=True)
class _Refit:
    """Fits a verifier's fusion and its rule on other pairs; the threshold stays."""

    verifier: Verifier

    def __call__(self, evidence: Evidence, kind: np.ndarray) -> _Surplus:
        own = self.verifier
        fuser = guarded_as(own.fuser, fit_fuser(own.fuser.name, evidence, kind))
        thresholds, share = {STORED: own.threshold}, own.abstention.share
        rule = fit_abstention(kind, fuser.score(evidence), thresholds, share)
        return _Surplus(replace(own, fuser=fuser, abstention=rule))
