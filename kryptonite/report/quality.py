"""Measure what makes a photo hard to verify: size, brightness, sharpness and pose of the face."""

import cv2
import numpy as np
import pandas as pd

# Fact: its unit, and which extreme is harder to verify.
FACTS = {
    "face size": ("px", min),
    "brightness": ("of 255", min),
    "sharpness": ("log10 Laplacian variance", min),
    "yaw": ("nose offset / eye distance", max),
}


def quality_facts(crops: np.ndarray, boxes: np.ndarray, landmarks: np.ndarray) -> pd.DataFrame:
    """Measures faces.

    Args:
        crops: uint8, N×S×S×3, RGB. They must be aligned, so that brightness and sharpness are
            measured at one scale.
        boxes: N×4, x1, y1, x2, y2 in pixels of the photo.
        landmarks: N×5×2 pixels of the photo: left eye, right eye, nose, mouth corners.

    Returns:
        Columns of `FACTS`: `face size`, the side of a square as large as the box, in pixels;
        `brightness`, the mean grey level, 0..255; `sharpness`, log10 of the Laplacian's variance
        (Pech-Pacheco et al. 2000); `yaw`, the distance of the nose tip from the midpoint between
        the eyes, along the eye axis, in eye distances (0: the face looks straight ahead).
    """
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    axis = landmarks[:, 1] - landmarks[:, 0]
    distance = np.maximum(np.linalg.norm(axis, axis=1), 1e-6)
    nose = landmarks[:, 2] - landmarks[:, :2].mean(1)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return pd.DataFrame(
        {
            "face size": np.sqrt(np.maximum(area, 0)),
            "brightness": np.array([image.mean() for image in grey]),
            "sharpness": np.log10(
                [max(cv2.Laplacian(image, cv2.CV_64F).var(), 1e-3) for image in grey]
            ),
            "yaw": np.abs((nose * axis).sum(1)) / distance**2,
        }
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
