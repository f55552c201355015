"""Cut an aligned crop to another template, without the photo."""

import numpy as np

from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.detection.warp import estimate_similarity, template_points, warp


def recrop_matrix(source: CropTemplate, target: CropTemplate) -> np.ndarray:
    """Scaling and shift from one template's crop to another's, in pixels: float64, 2×3."""
    return estimate_similarity(template_points(source), template_points(target))


def recrop(crops: Crops, target: CropTemplate) -> Crops:
    """Cuts crops to another template.

    Beyond the source crop its mirror image continues it, as in `detection.warp.warp`.
    """
    if crops.template == target:
        return crops
    matrix = recrop_matrix(crops.template, target)
    pixels = [warp(crop, matrix, target.size) for crop in crops.pixels]
    return Crops(
        np.stack(pixels) if pixels else np.zeros((0, target.size, target.size, 3), np.uint8), target
    )


def widest(templates: list[CropTemplate]) -> CropTemplate:
    """The template to cut all others from: the one with the widest margin, then the largest."""
    return max(templates, key=lambda template: (template.margin, template.size))
