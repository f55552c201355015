"""Keeps the spoof evidence from refusing genuine pairs, in every source of genuine photos."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import RHO_GRID, Fuser, NonLinearLLR, RecognitionAlone


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


def guard(fuser: Fuser, sources: Sequence[GenuinePairs], fmr: float, cost: float) -> Fuser:
    """Lowers the weight of the spoof evidence until it costs no source too many mated pairs.

    Only `llr` has such a weight: ρ, the prior of a forgery. Other fusions are returned as they are.

    Args:
        fuser: Fitted fuser.
        sources: One or more.
        fmr: False match rate of the threshold, 0..1.
        cost: Largest rise of the FNMR over that of recognition alone at the same FMR, 0..1.

    Returns:
        The fuser with the largest ρ of `RHO_GRID`, not above its own, that keeps to the cost in
        every source; with the smallest if none does.
    """
    if not isinstance(fuser, NonLinearLLR):
        return fuser
    alone = RecognitionAlone()
    threshold = threshold_at_fmr(alone, sources, fmr)
    allowed = [source.fnmr(alone, threshold) + cost for source in sources]
    candidates = [
        replace(fuser, rho=rho) for rho in sorted(RHO_GRID, reverse=True) if rho <= fuser.rho
    ]
    for candidate in candidates:
        threshold = threshold_at_fmr(candidate, sources, fmr)
        rates = [source.fnmr(candidate, threshold) for source in sources]
        if all(rate <= most for rate, most in zip(rates, allowed, strict=True)):
            return candidate
    return candidates[-1]


def _lowest(scores: np.ndarray, fmr: float) -> float:
    """The number just above the highest score that must not be accepted."""
    ranked = np.sort(scores)[::-1]
    allowed = int(fmr * len(ranked) * (1 + 1e-9))
    if allowed >= len(ranked):
        return float(ranked[-1])
    return float(np.nextafter(ranked[allowed], np.float32(np.inf)))
