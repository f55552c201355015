"""Cached crops as a torch data set."""

import numpy as np
import torch

from kryptonite.nn.train.datasets import CropDataset


def test_a_crop_comes_channels_first_with_its_row_and_in_memory_of_its_own():
    kept = {key: np.full((4, 4, 3), value, np.uint8) for key, value in (("a", 1), ("b", 2))}
    kept["b"][0, 1] = (7, 8, 9)
    crops = CropDataset(["a", "b"], kept.__getitem__)
    pixels, row = crops[1]
    assert len(crops) == 2 and row == 1
    assert (
        pixels.shape == (3, 4, 4)
        and pixels.dtype == torch.uint8
        and pixels[:, 0, 1].tolist() == [7, 8, 9]
    )
    assert crops.pixels(1) is kept["b"]
    pixels.zero_()
    assert kept["b"].any()
