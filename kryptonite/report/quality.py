"""What makes a photo hard to verify, as the report groups pairs by it."""

import numpy as np
import pandas as pd

from kryptonite.core.quality import measure_face

# Fact: its unit, and which extreme is harder to verify.
FACTS = {
    "face size": ("px", min),
    "brightness": ("of 255", min),
    "sharpness": ("log10 Laplacian variance", min),
    "yaw": ("nose offset / eye distance", max),
}


def quality_facts(crops: np.ndarray, boxes: np.ndarray, landmarks: np.ndarray) -> pd.DataFrame:
    """Measures faces; see `core.quality`.

    Args:
        crops: uint8, N×S×S×3, RGB, aligned.
        boxes: N×4, x1, y1, x2, y2 in pixels of the photo.
        landmarks: N×5×2 pixels of the photo: left eye, right eye, nose, mouth corners.

    Returns:
        Columns of `FACTS`, in the units given there.
    """
    faces = [measure_face(*each) for each in zip(crops, boxes, landmarks, strict=True)]
    return pd.DataFrame(
        {
            "face size": [face.face_pixels for face in faces],
            "brightness": [255 * face.brightness for face in faces],
            "sharpness": [np.log10(max(face.sharpness, 1e-3)) for face in faces],
            "yaw": [face.yaw for face in faces],
        },
        dtype=np.float64,
    )


def pair_facts(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Returns the facts of pairs: fact by fact that of the harder photo.

    Args:
        first: N rows of `quality_facts` for the first photos.
        second: N rows for the second photos.
    """
    harder = {min: np.minimum, max: np.maximum}
    return pd.DataFrame(
        {
            name: harder[extreme](first[name].to_numpy(), second[name].to_numpy())
            for name, (_, extreme) in FACTS.items()
        }
    )


def thirds(values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Splits values into three groups at their terciles.

    Returns:
        The group of each value (N of 0, 1, 2, rising with the value), and both terciles.
    """
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return (values > low).astype(int) + (values > high), (float(low), float(high))
