"""Cross-fitting over identities: each pair's score comes from a fit without its identities."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from kryptonite.core.errors import ConfigError, DataError, MetricError
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import fit_fuser

_SEED = 0  # of the assignment of identities to folds


class Scorer(Protocol):
    """What a fit on pairs gives."""

    def score(self, evidence: Evidence) -> np.ndarray:
        """Scores pairs."""


@dataclass(frozen=True)
class CrossFitted:
    """One fuser per block of pairs, fitted on pairs of other identities.

    Args:
        block: N indices into `fusers`, one per pair.
        fusers: One per block.
    """

    block: np.ndarray
    fusers: list[Scorer]

    def score(self, evidence: Evidence) -> np.ndarray:
        """Scores the pairs that were cross-fitted, in the same order: float32, N.

        Args:
            evidence: The evidence of the fit, or other evidence on the same pairs.

        Raises:
            DataError: The number of pairs differs.
        """
        if len(evidence.similarity) != len(self.block):
            raise DataError(
                f"cross-fitted for {len(self.block)} pairs, "
                f"asked to score {len(evidence.similarity)}"
            )
        scores = np.empty(len(self.block), np.float32)
        for number, fuser in enumerate(self.fusers):
            rows = self.block == number
            scores[rows] = fuser.score(evidence.rows(rows))
        return scores


def cross_fit(
    name: str,
    evidence: Evidence,
    kind: np.ndarray,
    identity_a: np.ndarray,
    identity_b: np.ndarray,
    folds: int = 5,
) -> CrossFitted:
    """Cross-fits one of `fusers.FUSERS`; see `cross_fit_by`."""
    return cross_fit_by(partial(fit_fuser, name), evidence, kind, identity_a, identity_b, folds)


def cross_fit_by(
    fit: Callable[[Evidence, np.ndarray], Scorer],
    evidence: Evidence,
    kind: np.ndarray,
    identity_a: np.ndarray,
    identity_b: np.ndarray,
    folds: int = 5,
) -> CrossFitted:
    """Deals identities into folds and fits one fuser per combination of folds in a pair.

    A pair's fuser is fitted on all pairs that share no fold with it, so no identity is in both.

    Args:
        fit: Fits a fuser on the evidence on pairs and their kinds.
        evidence: N pairs.
        kind: N of 'same', 'different', 'synthetic'.
        identity_a: N identities on the first image.
        identity_b: N identities on the second image.
        folds: Number of folds.

    Raises:
        ConfigError: Unknown fuser, or fewer than three folds: a pair of two identities may exclude
            two of them.
        MetricError: A fit lacks a kind of pair; use more folds or more identities.
    """
    if folds < 3:
        raise ConfigError(f"cross-fitting needs at least 3 folds, got {folds}")
    kind = np.asarray(kind)
    identities, codes = np.unique(
        np.concatenate([identity_a, identity_b]).astype(str), return_inverse=True
    )
    fold_of = np.random.default_rng(_SEED).permutation(len(identities)) % folds
    first, second = fold_of[codes[: len(kind)]], fold_of[codes[len(kind) :]]
    low, high = np.minimum(first, second), np.maximum(first, second)
    fold_pairs, block = np.unique(np.stack([low, high], 1), axis=0, return_inverse=True)
    fusers = []
    for one, other in fold_pairs:
        disjoint = ~np.isin(low, [one, other]) & ~np.isin(high, [one, other]) & evidence.acquired
        if len(set(kind[disjoint])) < len(set(kind)):
            raise MetricError(
                f"cross-fitting {len(identities)} identities in {folds} folds leaves one fit "
                "without some kind of pair; it needs more validation identities "
                "(data.val_fraction) or more folds (fusion.folds)"
            )
        fusers.append(fit(evidence.rows(disjoint), kind[disjoint]))
    return CrossFitted(block.ravel(), fusers)
