"""Measure what makes a face hard to verify: size, brightness, sharpness and pose."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class FaceQuality:
    """What is measured of one face.

    Args:
        face_pixels: Side of a square as large as the face's box, in pixels of the photo.
        sharpness: Variance of the Laplacian of the grey levels, 0..255 (Pech-Pacheco et al. 2000).
        brightness: Mean grey level, 0..1.
        contrast: Standard deviation of the grey levels, 0..0.5.
        yaw: Distance of the nose tip from the midpoint between the eyes, along the eye axis, in eye
            distances; 0 where the face looks straight ahead.
    """

    face_pixels: float
    sharpness: float
    brightness: float
    contrast: float
    yaw: float


def measure_face(crop: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> FaceQuality:
    """Measures one face.

    Args:
        crop: uint8, S×S×3, RGB. It must be aligned, so that brightness and sharpness are measured
            at one scale.
        box: 4, x1, y1, x2, y2 in pixels of the photo.
        landmarks: 5×2 pixels of the photo: left eye, right eye, nose, mouth corners.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    axis = landmarks[1] - landmarks[0]
    distance = max(float(np.linalg.norm(axis)), 1e-6)
    nose = landmarks[2] - landmarks[:2].mean(0)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return FaceQuality(
        face_pixels=float(np.sqrt(max(area, 0))),
        sharpness=float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        brightness=float(grey.mean() / 255),
        contrast=float(grey.std() / 255),
        yaw=abs(float(nose @ axis)) / distance**2,
    )
