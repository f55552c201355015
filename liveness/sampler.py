"""Class-balanced batches, paired by identity or not, with forgeries made on the fly."""

from abc import abstractmethod

import numpy as np

from kryptonite.core.errors import DataError
from kryptonite.core.groups import rows_by_group
from kryptonite.liveness.forgeries import Draw, draw_forgeries
from kryptonite.nn.train.batches import RankedBatches


class BalancedBatches(RankedBatches[Draw]):
    """Batches of `pairs` bona fide images, each followed by a synthetic one of its group.

    An epoch deals every image of a group's more frequent class once, and repeats those of the rarer
    class as needed. Groups with one class only are left out (`left_out` counts their images). In a
    fraction of the pairs, a forgery (`liveness.forgeries`) replaces the synthetic image.

    Args:
        group: N, group of each row.
        synthetic: N bool.
        pairs: Pairs per batch.
        seed: Seeds the draws.
        forgeries: Fraction of the pairs with a forgery, 0..1.

    Raises:
        DataError: No group has images of both classes.
    """

    missing: str  # what the DataError reports as missing

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
        self._both = []
        for rows in rows_by_group(group):
            bona_fide, forged = rows[~synthetic[rows]], rows[synthetic[rows]]
            if len(bona_fide) and len(forged):
                self._both.append((bona_fide, forged))
        if not self._both:
            raise DataError(f"the detector cannot be trained: {self.missing}")
        self._rows, self._pairs, self._forgeries = len(group), pairs, forgeries
        self.left_out = len(group) - sum(
            len(bona_fide) + len(forged) for bona_fide, forged in self._both
        )

    @abstractmethod
    def sources(self, bona_fide: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Chooses the row each pair's forgery would be made of, given each pair's bona fide row."""

    def count(self) -> int:
        """Returns the number of batches in an epoch.

        Pairs that do not fill a last batch are dropped; another epoch's shuffle takes others.
        """
        pairs = sum(max(len(bona_fide), len(forged)) for bona_fide, forged in self._both)
        return max(1, pairs // self._pairs)

    def draw(self, generator: np.random.Generator) -> list[list[Draw]]:
        """Draws one epoch: each pair's bona fide image, then its synthetic image or forgery."""
        pairs = []
        for bona_fide, forged in self._both:
            number = max(len(bona_fide), len(forged))
            sides = [_cycle(rows, number, generator) for rows in (bona_fide, forged)]
            pairs.append(np.stack(sides, 1))
        first, second = generator.permutation(np.concatenate(pairs)).T
        synthetic = [Draw(row) for row in second.tolist()]
        if self._forgeries:
            # Evenly spaced, so that every batch has its fraction of forgeries, to within one.
            steps = np.floor(self._forgeries * np.arange(len(first) + 1) + generator.random())
            chosen = np.flatnonzero(np.diff(steps) > 0)
            sources = self.sources(first, generator)[chosen]
            forgeries = draw_forgeries(sources, self._rows, generator)
            for pair, forgery in zip(chosen, forgeries, strict=True):
                synthetic[pair] = forgery
        dealt = list(zip(map(Draw, first.tolist()), synthetic, strict=True))
        return [
            [draw for pair in dealt[start : start + self._pairs] for draw in pair]
            for start in range(0, self.count() * self._pairs, self._pairs)
        ]


class PairedBatches(BalancedBatches):
    """Batches that pair bona fide and synthetic images of the same person.

    Neither identity nor class frequency then separates the two. A forgery is made of the very photo
    it is paired with. Images of people with one class only are left out.

    Args:
        group: N, identity of each row.
        synthetic: N bool.
        pairs: Pairs per batch.
        seed: Seeds the draws.
        forgeries: Fraction of the pairs with a forgery instead of the `k_` image, 0..1.

    Raises:
        DataError: No identity has images of both classes.
    """

    missing = "no training identity has both genuine and synthetic (k_) images"

    def sources(self, bona_fide: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Chooses the pair's own bona fide photo."""
        return bona_fide


class UnpairedBatches(BalancedBatches):
    """Batches balanced by class alone: the baseline for `PairedBatches`. No image is left out.

    Args:
        synthetic: N bool.
        pairs: Bona fide images per batch, and as many synthetic ones.
        seed: Seeds the draws.
        forgeries: Fraction of the synthetic images that forgeries replace, 0..1.

    Raises:
        DataError: All images are of one class.
    """

    missing = "there are no genuine or no synthetic (k_) training images"

    def __init__(self, synthetic: np.ndarray, pairs: int, seed: int, forgeries: float = 0.0):
        super().__init__(np.zeros(len(synthetic)), synthetic, pairs, seed, forgeries)

    def sources(self, bona_fide: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Chooses the epoch's bona fide photos in another order, to keep a forgery from its own."""
        return generator.permutation(bona_fide)


def _cycle(rows: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """Draws `number` rows from successive complete shuffles."""
    rounds = -(-number // len(rows))
    return np.concatenate([generator.permutation(rows) for _ in range(rounds)])[:number]
