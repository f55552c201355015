"""What makes a photo hard: size, light, sharpness and pose of the face, measured."""

import cv2
import numpy as np
import pandas as pd

# Name, unit, and which end is the harder one for a matcher.
FACTS = {
    "face size": ("px", min),
    "brightness": ("of 255", min),
    "sharpness": ("log10 Laplacian variance", min),
    "yaw": ("nose offset / eye distance", max),
}


def quality_facts(crops: np.ndarray, boxes: np.ndarray, landmarks: np.ndarray) -> pd.DataFrame:
    """Measures faces.

    Args:
        crops: uint8, N×S×S×3, RGB, aligned: brightness and sharpness are taken at one scale for all faces.
        boxes: N×4, x1, y1, x2, y2 in pixels of the photo.
        landmarks: N×5×2 pixels of the photo: left eye, right eye, nose, mouth corners.

    Returns:
        Columns of `FACTS`: side of the box in pixels; mean grey level, 0..255; log10 of the variance of the Laplacian (Pech-Pacheco et al.
        2000); how far the nose tip stands off the middle between the eyes, along the eye axis, in eye distances: 0 looks straight ahead.
    """
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    axis = landmarks[:, 1] - landmarks[:, 0]
    distance = np.maximum(np.linalg.norm(axis, axis=1), 1e-6)
    nose = landmarks[:, 2] - landmarks[:, :2].mean(1)
    return pd.DataFrame(
        {
            "face size": np.sqrt(
                np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 0)
            ),
            "brightness": np.array([image.mean() for image in grey]),
            "sharpness": np.log10(
                [max(cv2.Laplacian(image, cv2.CV_64F).var(), 1e-3) for image in grey]
            ),
            "yaw": np.abs((nose * axis).sum(1)) / distance**2,
        }
    )


def pair_facts(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Facts of pairs: those of the harder of the two photos, fact by fact."""
    harder = {min: np.minimum, max: np.maximum}
    return pd.DataFrame(
        {
            name: harder[end](first[name].to_numpy(), second[name].to_numpy())
            for name, (_, end) in FACTS.items()
        }
    )


def thirds(values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Deals values into three groups by their terciles.

    Returns:
        N of 0, 1, 2, rising with the value, and the two borders.
    """
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return (values > low).astype(int) + (values > high), (float(low), float(high))
