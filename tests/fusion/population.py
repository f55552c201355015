"""Drawn pairs for the fusion tests."""

from typing import NamedTuple

import numpy as np

from kryptonite.fusion.evidence import Evidence


class Population(NamedTuple):
    """Pairs with known kinds: the similarity tells the identity, the log-odds the forgery."""

    similarity: np.ndarray
    log_odds_a: np.ndarray
    log_odds_b: np.ndarray
    kind: np.ndarray
    identity_a: np.ndarray
    identity_b: np.ndarray

    @property
    def evidence(self) -> Evidence:
        """The evidence alone."""
        return Evidence(self.similarity, self.log_odds_a, self.log_odds_b)


def draw(count: int = 3000, seed: int = 0) -> Population:
    """Draws pairs of 40 identities: half 'same', a quarter each 'different' and 'synthetic'."""
    generator = np.random.default_rng(seed)
    kind = generator.choice(["same", "different", "synthetic"], count, p=[0.5, 0.25, 0.25])
    similarity = generator.normal(np.where(kind == "different", 0.1, 0.6), 0.12)
    odds_a = generator.normal(-2, 1.5, count)
    odds_b = generator.normal(np.where(kind == "synthetic", 2.0, -2.0), 1.5)
    flip = generator.random(count) < 0.5
    identities = generator.integers(0, 40, count)
    others = (identities + generator.integers(1, 40, count)) % 40
    return Population(
        similarity,
        np.where(flip, odds_b, odds_a),
        np.where(flip, odds_a, odds_b),
        kind,
        identities,
        np.where(kind == "different", others, identities),
    )
