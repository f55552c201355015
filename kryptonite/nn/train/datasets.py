"""Cached crops as a torch data set whose samples carry their labels."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from kryptonite.nn.train.batches import RankedBatches

VAL_BATCH = 64


class Sample(NamedTuple):
    """One crop with its labels.

    Args:
        crop: uint8, 3×S×S, RGB.
        identity: Who is on it, or whom a synthetic image imitates.
        synthetic: Whether it is generated or forged.
        row: Its row in the data set; a forgery has the row of the crop it was made from.
    """

    crop: torch.Tensor
    identity: int
    synthetic: bool
    row: int


class Batch(NamedTuple):
    """N samples as tensors: crop uint8 N×3×S×S, identity int64 N, synthetic bool N, row int64 N."""

    crop: torch.Tensor
    identity: torch.Tensor
    synthetic: torch.Tensor
    row: torch.Tensor


def collate(samples: list[Sample]) -> Batch:
    """Stacks samples into a batch."""
    return Batch(*default_collate(samples))


def number_identities(images: pd.DataFrame) -> pd.DataFrame:
    """Adds a column `identity` that numbers the labels from 0 in sorted order.

    Args:
        images: Column label.
    """
    return images.assign(identity=pd.factorize(images["label"], sort=True)[0])


def channels_first(pixels: np.ndarray) -> torch.Tensor:
    """Copies a uint8 S×S×3 crop into a tensor 3×S×S.

    The copy is writable, as torch requires, and private to the worker.
    """
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


class CropDataset(Dataset):
    """Crops of an image table, by row.

    Args:
        images: Columns key (of the face cache), identity, is_synthetic.
        read: Maps a key to its crop: uint8, S×S×3, RGB.
    """

    def __init__(self, images: pd.DataFrame, read: Callable[[str], np.ndarray]):
        self.identity = images["identity"].to_numpy()
        self.synthetic = images["is_synthetic"].to_numpy().astype(bool)
        self._keys = list(images["key"])
        self._read = read

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, row: int) -> Sample:
        """Reads the crop and the labels of a row."""
        return Sample(
            channels_first(self.pixels(row)),
            int(self.identity[row]),
            bool(self.synthetic[row]),
            row,
        )

    def pixels(self, row: int) -> np.ndarray:
        """Reads the crop of a row as cached: uint8, S×S×3, RGB."""
        return self._read(self._keys[row])


def crop_loader(samples: Dataset[Sample], workers: int, **dealt: Any) -> DataLoader:
    """Builds a loader of batches.

    Args:
        samples: What is read.
        workers: Number of processes that read; 0 reads in this one.
        dealt: How samples are dealt, as torch's `DataLoader` takes it.
    """
    return DataLoader(
        samples,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=share_quietly,
        **dealt,
    )


def share_quietly(_: int) -> None:
    """Prepares a loader's process: when the command ends first, it does not print that.

    A thread of it hands tensors over; a reader that vanishes meanwhile is an exception there.

    Args:
        _: The process's number.
    """
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, EOFError | OSError):
            show(kind, error, trace)

    sys.excepthook = hook


class Loaders(NamedTuple):
    """What `nn.train.fit.fit` reads.

    Args:
        train: Its batch sampler is a `RankedBatches`.
        val: The whole validation set in order, on every rank.
    """

    train: DataLoader
    val: DataLoader


def crop_loaders(
    train: Dataset[Sample], batches: RankedBatches, val: CropDataset, workers: int
) -> Loaders:
    """Builds the loaders of a branch.

    Args:
        train: Samples to train on.
        batches: Deals what `train` is indexed by.
        val: Crops to validate on.
        workers: Number of processes that read crops.
    """
    return Loaders(
        crop_loader(train, workers, batch_sampler=batches, persistent_workers=workers > 0),
        crop_loader(val, workers, batch_size=VAL_BATCH),
    )
