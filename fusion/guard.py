"""Keeps the spoof evidence from refusing genuine pairs, in every source of genuine photos."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from kryptonite.fusion.cross import CrossFitted, Scorer, cross_fit
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import RHO_GRID, Fuser, NonLinearLLR, RecognitionAlone

FitT = TypeVar("FitT", bound=Scorer)

FMRS = (0.1, 0.01, 0.001)  # false match rates whose thresholds a run offers by name
# Fewer false matches do not place a threshold. Exact in floating point: 0.001 × 10,000 is 10.
_FALSE_MATCHES = 10


@dataclass(frozen=True)
class GenuinePairs:
    """Pairs of bona fide photos of one source.

    Args:
        mated: Pairs of one person.
        non_mated: Pairs of different people; at least one.
    """

    mated: Evidence
    non_mated: Evidence

    def fnmr(self, fuser: Fuser, threshold: float) -> float:
        """Fraction of the mated pairs that a threshold refuses, 0..1; 0 without mated pairs."""
        scores = fuser.score(self.mated)
        return float((scores < threshold).mean()) if len(scores) else 0.0


def threshold_at_fmr(fuser: Fuser, sources: Sequence[GenuinePairs], fmr: float) -> float:
    """Finds the lowest threshold at which no source exceeds a false match rate.

    Args:
        fuser: Scores pairs.
        sources: One or more.
        fmr: Largest fraction of a source's non-mated pairs, 0..1, that may reach the threshold.
    """
    return max(_lowest(fuser.score(source.non_mated), fmr) for source in sources)


def named_thresholds(fuser: Fuser, sources: Sequence[GenuinePairs]) -> dict[str, float]:
    """Finds the thresholds at the rates of `FMRS` that every source has pairs enough to resolve.

    Args:
        fuser: Scores pairs.
        sources: One or more.

    Returns:
        Thresholds of `threshold_at_fmr` by names such as `fmr=0.001`, from the laxest.
    """
    pairs = min(len(source.non_mated.similarity) for source in sources)
    return {
        f"fmr={fmr:g}": threshold_at_fmr(fuser, sources, fmr)
        for fmr in FMRS
        if fmr * pairs >= _FALSE_MATCHES
    }


def guard(fuser: Fuser, sources: Sequence[GenuinePairs], fmr: float, cost: float) -> Fuser:
    """Lowers the weight of the spoof evidence until it costs no source too many mated pairs.

    Only `llr` has such a weight: ρ, the prior of a forgery. Other fusions are returned as they are.

    Args:
        fuser: Fitted fuser.
        sources: One or more.
        fmr: False match rate of the threshold, 0..1.
        cost: Largest rise of the FNMR over that of recognition alone at the same FMR, 0..1; a
            source may lose one mated pair whatever the cost.

    Returns:
        The fuser with the largest ρ of `RHO_GRID`, not above its own, that keeps to the cost in
        every source; with the smallest if none does.
    """
    if not isinstance(fuser, NonLinearLLR):
        return fuser
    alone = RecognitionAlone()
    threshold = threshold_at_fmr(alone, sources, fmr)
    # A source of few pairs may lose one: a single pair must not decide the weight.
    allowed = [
        source.fnmr(alone, threshold) + max(cost, 1 / max(len(source.mated.similarity), 1))
        for source in sources
    ]
    candidates = [
        replace(fuser, rho=rho) for rho in sorted(RHO_GRID, reverse=True) if rho <= fuser.rho
    ]
    for candidate in candidates:
        threshold = threshold_at_fmr(candidate, sources, fmr)
        rates = [source.fnmr(candidate, threshold) for source in sources]
        if all(rate <= most for rate, most in zip(rates, allowed, strict=True)):
            return candidate
    return candidates[-1]


def cross_fit_as(
    fuser: Fuser,
    evidence: Evidence,
    kind: np.ndarray,
    identity_a: np.ndarray,
    identity_b: np.ndarray,
    folds: int,
) -> CrossFitted:
    """Cross-fits a guarded fuser; every fit has the weight of the spoof evidence that it has.

    Args:
        fuser: What `guard` returned; its stored threshold holds for this weight alone.
        evidence: As for `fusion.cross.cross_fit`, like all that follow.
        kind: N kinds.
        identity_a: N identities.
        identity_b: N identities.
        folds: Number of folds.
    """
    crossed = cross_fit(fuser.name, evidence, kind, identity_a, identity_b, folds)
    return replace(crossed, fusers=[guarded_as(fuser, each) for each in crossed.fusers])


def guarded_as(fuser: Fuser, other: FitT) -> FitT:
    """Gives another fit the weight of the spoof evidence of a guarded fuser of the same class."""
    if not isinstance(fuser, NonLinearLLR):
        return other
    return replace(other, rho=fuser.rho)  # type: ignore[type-var]


def _lowest(scores: np.ndarray, fmr: float) -> float:
    """The number just above the highest score that must not be accepted."""
    ranked = np.sort(scores)[::-1]
    allowed = int(fmr * len(ranked) * (1 + 1e-9))
    if allowed >= len(ranked):
        return float(ranked[-1])
    return float(np.nextafter(ranked[allowed], np.float32(np.inf)))
