"""One size and one compression for every photo, so that neither tells a genuine photo from a generated one."""

import io

import cv2
import numpy as np
from PIL import Image


def make_uniform(image: np.ndarray, side: int, quality: int) -> np.ndarray:
    """Brings a photo to a common size, then through a common encoder.

    The traces of an earlier, coarser JPEG outlive a finer one, and those of enlarging outlive everything: choose `quality` no higher than
    that of the poorest photos and `side` smaller than that of the smallest. A new size also moves the old grid of 8×8 blocks. What is
    thrown away is lost to the detector too, so there is a price: use it where `data.audit.shortcuts` finds a leak.

    Args:
        image: RGB uint8, H×W×3.
        side: Pixels of the longer side afterwards; 0 leaves the size.
        quality: Of JPEG with halved chroma (4:2:0), 1..100; 0 does not compress.

    Returns:
        RGB uint8, h×w×3.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width) if side else 1.0
    if scale != 1:
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(
            image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
    if quality:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        image = np.asarray(Image.open(buffer).convert("RGB"))
    return image
