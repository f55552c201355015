"""Batch samplers that draw anew each epoch and share their batches out among the processes of a distributed run."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from kryptonite.nn.train.ranks import ranks


class RankedBatches(Sampler[list[int]], ABC):
    """Batches of row numbers.

    Every process draws the same list of batches from (seed, epoch) and takes its own share of it; shares are equally long, since DDP waits
    for the slowest. `nn.train.fit` calls `set_epoch`, so that a resumed run draws what the uninterrupted one would have.

    Args:
        seed: Of the draws.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self._epoch = 0

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> list[list[int]]:
        """Draws the batches of one epoch, for all processes together."""

    @abstractmethod
    def count(self) -> int:
        """Number of batches `draw` gives."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration draws."""
        self._epoch = epoch

    def __len__(self) -> int:
        return max(1, self.count() // ranks()[1])

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = ranks()
        batches = self.draw(np.random.default_rng([self.seed, self._epoch]))
        # Fewer batches than processes: they go round again.
        share = [batches[index % len(batches)] for index in range(rank, len(self) * world, world)]
        return iter(share)
