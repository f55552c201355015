"""Cached crops as a torch data set."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from kryptonite.nn.train.batches import RankedBatches


class CropDataset(Dataset):
    """Crops by row number.

    Args:
        keys: Face-cache keys, one per row.
        read: Gives the uint8 S×S×3 RGB crop of a key.
    """

    def __init__(self, keys: Sequence[str], read: Callable[[str], np.ndarray]):
        self._keys = list(keys)
        self._read = read

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        """Gives the crop as uint8 3×S×S and its row."""
        # The copy makes the array writable, which torch needs, and its memory private to the worker.
        return torch.from_numpy(self.pixels(row).transpose(2, 0, 1).copy()), row

    def pixels(self, row: int) -> np.ndarray:
        """Gives the crop as it is cached: uint8, S×S×3, RGB."""
        return self._read(self._keys[row])


def crop_loaders(
    train: CropDataset, batches: RankedBatches, val: CropDataset, workers: int
) -> tuple[DataLoader, DataLoader]:
    """What `nn.train.fit.fit` reads: the training crops in these batches, and the whole validation set in order.

    Args:
        train: Crops to train on.
        batches: Numbers of `train`, batch by batch.
        val: Crops to validate on.
        workers: Processes that read crops.
    """
    return (
        DataLoader(
            train, batch_sampler=batches, num_workers=workers, persistent_workers=workers > 0
        ),
        DataLoader(val, batch_size=64, num_workers=workers),
    )
