"""A crop of a crop equals the crop of the photo, up to the second resampling."""

import numpy as np

from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.recrop import recrop, recrop_matrix, widest
from kryptonite.detection.warp import template_points

WIDE, NARROW = CropTemplate(224, 0.2), CropTemplate(112, 0.0)


def test_recrop_matrix_maps_template_to_template():
    matrix = recrop_matrix(WIDE, NARROW)
    moved = template_points(WIDE) @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(moved, template_points(NARROW), atol=1e-3)
    assert np.allclose(matrix[:, :2], matrix[0, 0] * np.eye(2), atol=1e-6)  # no rotation


def test_recrop_shows_what_crop_of_photo_shows(faces):
    aligned = Aligner(AlignerConfig(device="cpu"), [WIDE, NARROW])(faces[:3])
    again = recrop(aligned.crops_for(WIDE), NARROW)
    assert (
        again.template == NARROW
        and again.pixels.shape == (3, 112, 112, 3)
        and again.pixels.dtype == np.uint8
    )
    difference = np.abs(again.pixels.astype(int) - aligned.crops[NARROW])
    assert difference.mean() < 3
    misplaced = np.abs(np.roll(again.pixels, 3, axis=2).astype(int) - aligned.crops[NARROW])
    assert difference.mean() < 0.5 * misplaced.mean()


def test_recrop_keeps_crops_when_template_is_the_same_and_accepts_empty_batch():
    crops = Crops(np.zeros((2, 112, 112, 3), np.uint8), NARROW)
    assert recrop(crops, NARROW) is crops
    assert recrop(Crops(np.zeros((0, 224, 224, 3), np.uint8), WIDE), NARROW).pixels.shape == (
        0,
        112,
        112,
        3,
    )


def test_widest_picks_widest_margin_then_largest_size():
    assert widest([NARROW, WIDE]) == WIDE
    assert widest([CropTemplate(112, 0.0), CropTemplate(224, 0.0)]) == CropTemplate(224, 0.0)
