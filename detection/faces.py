"""What the aligner gives."""

from dataclasses import dataclass

import numpy as np

from kryptonite.core.crops import Crops, CropTemplate

FOUND = "found"
FOUND_SMALL = "found_small"  # at the smaller face size
FOUND_PADDED = "found_padded"  # after padding: the photo was a tight crop
CENTRE_CROP = "centre_crop"  # not found: a failure to acquire, counted wherever it is used
UNREADABLE = "unreadable"  # not an image; only the cache, which reads files, gives it


@dataclass(frozen=True)
class AlignedFaces:
    """One face from each of N images.

    Args:
        crops: Per template uint8, N×S×S×3, RGB.
        landmarks: float32, N×5×2, x and y in pixels of the image: left eye, right eye, nose, left and right mouth corner, as seen.
        boxes: float32, N×4, x1, y1, x2, y2 in pixels of the image.
        confidence: float32, N, the detector's probability of 'face', 0..1; 0 for a centre crop.
        status: N of this module's constants.
    """

    crops: dict[CropTemplate, np.ndarray]
    landmarks: np.ndarray
    boxes: np.ndarray
    confidence: np.ndarray
    status: list[str]

    def crops_for(self, template: CropTemplate) -> Crops:
        """The batch cut to one template."""
        return Crops(self.crops[template], template)
