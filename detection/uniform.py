"""Give every photo the same size and compression.

Neither then distinguishes genuine photos from generated ones.
"""

import io

import cv2
import numpy as np
from PIL import Image


def make_uniform(image: np.ndarray, side: int, quality: int) -> np.ndarray:
    """Resizes a photo to a common size, then encodes and decodes it as JPEG.

    Traces of a coarser JPEG survive a finer one, and traces of enlargement survive everything:
    choose `quality` no higher than that of the poorest photos and `side` smaller than the smallest
    photo. Resizing also moves the old grid of 8×8 blocks. The detector loses whatever this removes,
    so use it only where `data.audit.shortcuts` finds a leak.

    Args:
        image: RGB uint8, H×W×3.
        side: Longer side of the result in pixels; 0 keeps the size.
        quality: JPEG quality, 1..100, with halved chroma (4:2:0); 0 skips compression.

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
