"""Cached crops as samples and batches with their labels."""

import sys

import numpy as np
import pandas as pd
import torch

from kryptonite.nn.train.batches import RankedBatches
from kryptonite.nn.train.datasets import (
    Batch,
    CropDataset,
    crop_loaders,
    number_identities,
    share_quietly,
)


def crops():
    """Two crops with keys a and b, and the arrays they are read from."""
    kept = {key: np.full((4, 4, 3), value, np.uint8) for key, value in (("a", 1), ("b", 2))}
    kept["b"][0, 1] = (7, 8, 9)
    images = pd.DataFrame(
        {"key": ["a", "b"], "label": ["zoe", "ann"], "is_synthetic": [False, True]}
    )
    return CropDataset(number_identities(images), kept.__getitem__), kept


def test_crop_dataset_returns_channels_first_crop_with_its_labels():
    dataset, _ = crops()
    crop, identity, synthetic, row = dataset[1]
    assert len(dataset) == 2
    assert crop.shape == (3, 4, 4) and crop.dtype == torch.uint8
    assert crop[:, 0, 1].tolist() == [7, 8, 9]
    assert (identity, synthetic, row) == (0, True, 1)
    assert dataset[0].identity == 1 and dataset[0].synthetic is False


def test_crop_dataset_leaves_cached_crop_alone_when_sample_changes():
    dataset, kept = crops()
    assert dataset.pixels(1) is kept["b"]
    dataset[1].crop.zero_()
    assert kept["b"].all()


def test_number_identities_numbers_labels_in_sorted_order():
    images = pd.DataFrame({"label": ["b", "a", "c", "a"]})
    assert number_identities(images)["identity"].tolist() == [1, 0, 2, 0]
    assert "identity" not in images


class Reversed(RankedBatches[int]):
    """One batch with both rows, the last first."""

    def count(self):
        return 1

    def draw(self, generator):
        return [[1, 0]]


def test_crop_loaders_batch_crops_with_their_labels():
    dataset, _ = crops()
    loaders = crop_loaders(dataset, Reversed(0), dataset, 0)
    for loader, rows in ((loaders.train, [1, 0]), (loaders.val, [0, 1])):
        (batch,) = loader
        assert isinstance(batch, Batch)
        assert batch.row.tolist() == rows
        assert batch.crop.shape == (2, 3, 4, 4) and batch.crop.dtype == torch.uint8
        assert batch.identity.tolist() == [dataset[row].identity for row in rows]
        assert batch.synthetic.dtype == torch.bool
        assert batch.synthetic.tolist() == [dataset[row].synthetic for row in rows]
        assert all(
            torch.equal(crop, dataset[row].crop) for crop, row in zip(batch.crop, rows, strict=True)
        )


def test_share_quietly_prints_no_error_of_a_reader_that_is_gone(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: shown.append(kind))
    share_quietly(0)
    for kind in (EOFError, ConnectionResetError, ValueError):
        sys.excepthook(kind, kind(), None)
    assert shown == [ValueError]
