"""Batches of as many genuine as synthetic images: of the same person side by side, or of anybody."""

from abc import abstractmethod

import numpy as np

from kryptonite.core.errors import DataError
from kryptonite.liveness.forgeries import forgery_numbers
from kryptonite.nn.train.batches import RankedBatches


class BalancedBatches(RankedBatches):
    """Batches of `pairs` genuine images, each followed by a synthetic one of its group.

    An epoch deals every image of a group's more frequent class once, and those of the rarer class as often as that takes. Images of groups
    that have one class only have no partner and are left out (`left_out` counts them). In a share of the pairs a forgery made on the fly
    (`liveness.forgeries`) stands in for the synthetic image.

    Args:
        group: N, group of each row.
        synthetic: N bool.
        pairs: Pairs per batch.
        seed: Of the draws.
        forgeries: Shard of the pairs, 0..1.

    Raises:
        DataError: No group has images of both classes.
    """

    missing: str  # what a DataError says is missing

    def __init__(
        self,
        group: np.ndarray,
        synthetic: np.ndarray,
        pairs: int,
        seed: int,
        forgeries: float = 0.0,
    ):
        super().__init__(seed)
        group, synthetic = np.asarray(group), np.asarray(synthetic).astype(bool)
        rows = np.arange(len(group))
        self._both = []
        for one in np.unique(group):
            genuine, forged = rows[(group == one) & ~synthetic], rows[(group == one) & synthetic]
            if len(genuine) and len(forged):
                self._both.append((genuine, forged))
        if not self._both:
            raise DataError(f"the detector cannot be trained: {self.missing}")
        self._rows, self._pairs, self._forgeries = len(rows), pairs, forgeries
        self.left_out = len(rows) - sum(
            len(genuine) + len(forged) for genuine, forged in self._both
        )

    @abstractmethod
    def sources(self, genuine: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Chooses the row each pair's forgery would be made of, given the genuine row of each pair."""

    def count(self) -> int:
        """Batches in an epoch; the pairs that do not fill a last batch wait for another epoch's shuffle."""
        return max(
            1, sum(max(len(genuine), len(forged)) for genuine, forged in self._both) // self._pairs
        )

    def draw(self, generator: np.random.Generator) -> list[list[int]]:
        """Draws one epoch: of each pair the genuine row, then the synthetic row or the number of a forgery."""
        pairs = []
        for genuine, forged in self._both:
            number = max(len(genuine), len(forged))
            pairs.append(
                np.stack([_cycle(genuine, number, generator), _cycle(forged, number, generator)], 1)
            )
        shuffled = generator.permutation(np.concatenate(pairs))
        if self._forgeries:
            # Evenly spaced: every batch has its share of forgeries, to within one.
            steps = np.floor(self._forgeries * np.arange(len(shuffled) + 1) + generator.random())
            chosen = np.diff(steps) > 0
            shuffled[chosen, 1] = forgery_numbers(
                self.sources(shuffled[:, 0], generator)[chosen], self._rows, generator
            )
        return [
            shuffled[start * self._pairs : (start + 1) * self._pairs].ravel().tolist()
            for start in range(self.count())
        ]


class PairedBatches(BalancedBatches):
    """Batches that pair genuine and synthetic images of the same person; a forgery is made of the very photo it stands beside.

    What tells the two apart is then neither who is on them nor how often a class occurs. Images of people who have one class only are left
    out.

    Args:
        group: N, identity of each row.
        synthetic: N bool.
        pairs: Pairs per batch.
        seed: Of the draws.
        forgeries: Shard of the pairs, 0..1, whose `k_` image gives way to a forgery.

    Raises:
        DataError: Nobody has images of both classes.
    """

    missing = "no training identity has both genuine and synthetic (k_) images"

    def sources(self, genuine: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The genuine photo of the pair itself."""
        return genuine


class UnpairedBatches(BalancedBatches):
    """Batches balanced by class alone, whoever is on the images; nothing is left out. What `PairedBatches` is to be measured against.

    Args:
        synthetic: N bool.
        pairs: Genuine images per batch, and as many synthetic ones.
        seed: Of the draws.
        forgeries: Shard of the synthetic images, 0..1, that give way to forgeries.

    Raises:
        DataError: All images are of one class.
    """

    missing = "there are no genuine or no synthetic (k_) training images"

    def __init__(self, synthetic: np.ndarray, pairs: int, seed: int, forgeries: float = 0.0):
        super().__init__(np.zeros(len(synthetic)), synthetic, pairs, seed, forgeries)

    def sources(self, genuine: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The epoch's genuine photos in another order, so that a forgery is not beside its own photo."""
        return generator.permutation(genuine)


def _cycle(rows: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """`number` rows: whole shuffles one after the other."""
    rounds = -(-number // len(rows))
    return np.concatenate([generator.permutation(rows) for _ in range(rounds)])[:number]
