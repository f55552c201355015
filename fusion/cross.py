"""Cross-fitting over identities: every pair is scored by a fuser fitted on pairs of other people."""

from dataclasses import dataclass

import numpy as np

from kryptonite.core.errors import ConfigError, DataError, MetricError
from kryptonite.fusion.fuse import Evidence, Fuser, fit_fuser


@dataclass(frozen=True)
class CrossFitted:
    """One fuser per block of pairs, none of which has seen the people it scores.

    Args:
        block: N, which of the fusers scores each pair.
        fusers: By block.
    """

    block: np.ndarray
    fusers: list[Fuser]

    def score(self, evidence: Evidence) -> np.ndarray:
        """Scores the very pairs it was fitted for, in their order, from this or other evidence on them: float32, N.

        Raises:
            DataError: Not as many pairs.
        """
        if len(evidence.similarity) != len(self.block):
            raise DataError(
                f"cross-fitted for {len(self.block)} pairs, asked to score {len(evidence.similarity)}"
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
    seed: int = 0,
) -> CrossFitted:
    """Deals people into folds; the fuser of a pair is fitted on all pairs that share no fold with it, so that nobody is on both sides.

    Raises:
        ConfigError: No such name, or fewer than three folds (a pair of two people may block two).
        MetricError: A fit lacks a kind of pair; take fewer folds or more people.
    """
    if folds < 3:
        raise ConfigError(f"cross-fitting needs at least 3 folds, got {folds}")
    kind = np.asarray(kind)
    people, codes = np.unique(
        np.concatenate([identity_a, identity_b]).astype(str), return_inverse=True
    )
    fold_of = np.random.default_rng(seed).permutation(len(people)) % folds
    first, second = fold_of[codes[: len(kind)]], fold_of[codes[len(kind) :]]
    low, high = np.minimum(first, second), np.maximum(first, second)
    places, block = np.unique(np.stack([low, high], 1), axis=0, return_inverse=True)
    fusers = []
    for one, other in places:
        apart = ~np.isin(low, [one, other]) & ~np.isin(high, [one, other]) & evidence.acquired
        if len(set(kind[apart])) < len(set(kind)):
            raise MetricError(
                f"cross-fitting {len(people)} people in {folds} folds leaves a fit with no pair of some kind; "
                "it needs more validation people (data.val_fraction) or more folds (fusion.folds)"
            )
        fusers.append(fit_fuser(name, evidence.rows(apart), kind[apart]))
    return CrossFitted(block.ravel(), fusers)
