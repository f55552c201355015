"""Cut an aligned crop by the similarity transform of five landmarks, in one resampling."""

import math

import cv2
import numpy as np

from kryptonite.core.crops import CropTemplate

# Left eye, right eye, nose tip, left and right mouth corner on 112×112: the template of ArcFace
# (Deng et al. 2019), as in insightface.
ARCFACE_112 = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=np.float32,
)

_LONGEST = 2**15 - 1  # some versions of OpenCV sample from no larger image
# From a halved photo's pixels to the photo's; pixel centres lie at half-integers.
_FROM_HALF = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])


def template_points(template: CropTemplate) -> np.ndarray:
    """Positions of the five landmarks in the crop: float32, 5×2, pixels."""
    added = 112 * template.margin
    return ((ARCFACE_112 + added) * (template.size / (112 + 2 * added))).astype(np.float32)


def estimate_similarity(landmarks: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity from `landmarks` to `target` (Umeyama 1991).

    A similarity is a rotation, a scaling and a shift, without reflection.

    Args:
        landmarks: N×2 points.
        target: N×2 points to map them to.

    Returns:
        float64, 2×3, for homogeneous column vectors.
    """
    # As complex numbers, a rotation with scaling is a factor: a regression with one coefficient.
    source, target = (
        np.ascontiguousarray(points, np.float64).view(np.complex128)[:, 0]
        for points in (landmarks, target)
    )
    source_mean, target_mean = source.mean(), target.mean()
    centred = source - source_mean
    spread = np.vdot(centred, centred).real
    factor = np.vdot(centred, target - target_mean) / spread if spread > 0 else 1.0 + 0j
    shift = target_mean - factor * source_mean
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Samples a crop from a photo.

    Where the photo is more than twice as fine as the crop, bilinear sampling alone would alias. It
    is then halved until it is at most four times as fine, and a crop as fine as it is sampled and
    averaged. The photo is continued by its mirror image: black wedges would reveal to a detector
    how tightly the photo was cropped.

    Args:
        image: uint8, H×W×3.
        matrix: 2×3, from photo to crop pixels.
        size: Side of the crop in pixels.

    Returns:
        uint8, size×size×3.
    """
    matrix = np.asarray(matrix, np.float64)
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    while 0 < scale < 0.25 and min(image.shape[:2]) > 1:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = cv2.resize(
            image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA
        )
        matrix, scale = matrix @ _FROM_HALF, 2 * scale
    finer = math.ceil(1 / scale) if 0.25 <= scale < 0.5 else 1
    # Pixel centres lie at half-integers of the finer grid: x' = (x + ½)·finer − ½.
    matrix = matrix * finer + np.array([[0, 0, 1], [0, 0, 1]]) * (finer - 1) / 2
    side = size * finer
    if max(image.shape[:2]) >= _LONGEST:
        image, matrix = _window(image, matrix, side)
    crop = cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA) if finer > 1 else crop


def _window(image: np.ndarray, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the part of a photo from which a crop is sampled, and adapts the matrix to it."""
    corners = np.array([[0, size, 0, size], [0, 0, size, size]], np.float64)
    seen = np.linalg.solve(matrix[:, :2], corners - matrix[:, 2:])
    # As much again on each side, for where the photo's mirror image continues it.
    first, last = seen.min(1), seen.max(1)
    reach = last - first + 2
    sides = np.array(image.shape[1::-1])
    start = np.clip(np.floor(first - reach), 0, sides - 1).astype(int)
    end = np.clip(np.ceil(last + reach), start + 1, sides).astype(int)
    shifted = np.hstack([matrix[:, :2], matrix[:, 2:] + matrix[:, :2] @ start[:, None]])
    return image[start[1] : end[1], start[0] : end[0]], shifted
