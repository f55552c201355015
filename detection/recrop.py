"""From one aligned crop to the crop of another template, without going back to the photo."""

import numpy as np

from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.detection.warp import estimate_similarity, template_points, warp


def recrop_matrix(source: CropTemplate, target: CropTemplate) -> np.ndarray:
    """The scaling and shift from pixels of one template's crop to another's: float64, 2×3."""
    return estimate_similarity(template_points(source), template_points(target))


def recrop(crops: Crops, target: CropTemplate) -> Crops:
    """Cuts crops anew; what the source does not show is continued as its mirror image, as `detection.warp.warp` does."""
    if crops.template == target:
        return crops
    matrix = recrop_matrix(crops.template, target)
    pixels = [warp(crop, matrix, target.size) for crop in crops.pixels]
    return Crops(
        np.stack(pixels) if pixels else np.zeros((0, target.size, target.size, 3), np.uint8), target
    )


def widest(templates: list[CropTemplate]) -> CropTemplate:
    """The template from which all others can be cut: the widest, and the finest of those."""
    return max(templates, key=lambda template: (template.margin, template.size))
