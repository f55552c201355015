"""Batch samplers that redraw every epoch and divide batches among the processes of a run."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from torch.utils.data import Sampler

from kryptonite.nn.train.ranks import ranks

Item = TypeVar("Item")  # what the data set is indexed by


class RankedBatches(Sampler[list[Item]], ABC):
    """Batches of data set indices.

    Every process draws the same list of batches from (seed, epoch) and takes its own part of it.
    Parts are equally long, because DDP waits for the slowest process. `nn.train.fit` calls
    `set_epoch`, so a resumed run draws the same batches as an uninterrupted one.

    Args:
        seed: Seeds the draws.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self._epoch = 0

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> list[list[Item]]:
        """Draws the batches of one epoch, for all processes together."""

    @abstractmethod
    def count(self) -> int:
        """Returns the number of batches `draw` gives."""

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch the next iteration draws."""
        self._epoch = epoch

    def __len__(self) -> int:
        return max(1, self.count() // ranks()[1])

    def __iter__(self) -> Iterator[list[Item]]:
        rank, world = ranks()
        batches = self.draw(np.random.default_rng([self.seed, self._epoch]))
        # With fewer batches than processes, some batches are used twice.
        own = [batches[index % len(batches)] for index in range(rank, len(self) * world, world)]
        return iter(own)
