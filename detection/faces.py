"""The aligner's result."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kryptonite.core.crops import Crops, CropTemplate

FOUND = "found"
FOUND_SMALL = "found_small"  # in the second pass, for smaller faces
FOUND_PADDED = "found_padded"  # after padding: the photo is a tight crop
CENTRE_CROP = "centre_crop"  # no face: a failure to acquire, counted wherever it is used
UNREADABLE = "unreadable"  # not an image; set by the cache, which reads the files


@dataclass(frozen=True)
class AlignedFaces:
    """One face from each of N images.

    Args:
        crops: For each template uint8, N×S×S×3, RGB.
        landmarks: float32, N×5×2, x and y in pixels of the image: left eye, right eye, nose, left
            and right mouth corner, from the viewer's side.
        boxes: float32, N×4, x1, y1, x2, y2 in pixels of the image.
        confidence: float32, N, the cascade's probability of a face, 0..1; 0 for a centre crop.
        status: N of this module's constants.
    """

    crops: dict[CropTemplate, np.ndarray]
    landmarks: np.ndarray
    boxes: np.ndarray
    confidence: np.ndarray
    status: list[str]

    @classmethod
    def joined(cls, parts: "Sequence[AlignedFaces]") -> "AlignedFaces":
        """Concatenates faces, part after part; at least one part."""
        return cls(
            crops={
                template: np.concatenate([part.crops[template] for part in parts])
                for template in parts[0].crops
            },
            landmarks=np.concatenate([part.landmarks for part in parts]),
            boxes=np.concatenate([part.boxes for part in parts]),
            confidence=np.concatenate([part.confidence for part in parts]),
            status=[status for part in parts for status in part.status],
        )

    def crops_for(self, template: CropTemplate) -> Crops:
        """The crops of one template."""
        return Crops(self.crops[template], template)
