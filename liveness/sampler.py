"""Batches that pair genuine and synthetic images of the same person."""

import numpy as np

from common.errors import DataError
from training.batches import RankedBatches


class PairedBatches(RankedBatches):
    """Batches of `pairs` genuine images, each with a `k_` image of the same person.

    What tells the two apart is then neither who is on them nor how often a class occurs. An epoch deals every image of a person's more
    frequent class once, and those of the rarer class as often as that takes. Images of people who have one class only have no partner and
    are left out (`left_out` counts them).

    Args:
        person: N, identity of each row.
        synthetic: N bool.
        pairs: Pairs per batch.
        seed: Of the draws.

    Raises:
        DataError: Nobody has images of both classes.
    """

    def __init__(self, person: np.ndarray, synthetic: np.ndarray, pairs: int, seed: int):
        super().__init__(seed)
        person, synthetic = np.asarray(person), np.asarray(synthetic).astype(bool)
        rows = np.arange(len(person))
        self._both = []
        for one in np.unique(person):
            genuine, forged = rows[(person == one) & ~synthetic], rows[(person == one) & synthetic]
            if len(genuine) and len(forged):
                self._both.append((genuine, forged))
        if not self._both:
            raise DataError("the detector cannot be trained: no training identity has both genuine and synthetic (k_) images")
        self._pairs = pairs
        self.left_out = len(rows) - sum(len(genuine) + len(forged) for genuine, forged in self._both)

    def count(self) -> int:
        """Batches in an epoch; the pairs that do not fill a last batch wait for another epoch's shuffle."""
        return max(1, sum(max(len(genuine), len(forged)) for genuine, forged in self._both) // self._pairs)

    def draw(self, generator: np.random.Generator) -> list[list[int]]:
        """Draws one epoch."""
        pairs = []
        for genuine, forged in self._both:
            number = max(len(genuine), len(forged))
            pairs.append(np.stack([_cycle(genuine, number, generator), _cycle(forged, number, generator)], 1))
        shuffled = generator.permutation(np.concatenate(pairs))
        return [shuffled[start * self._pairs : (start + 1) * self._pairs].ravel().tolist() for start in range(self.count())]


def _cycle(rows: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """`number` rows: whole shuffles one after the other."""
    rounds = -(-number // len(rows))
    return np.concatenate([generator.permutation(rows) for _ in range(rounds)])[:number]
