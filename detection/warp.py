"""Cut an aligned crop by the similarity transform of five landmarks, in one resampling."""

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
    source, target = np.asarray(landmarks, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    source_centred, target_centred = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(target_centred.T @ source_centred / len(source))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = u @ np.diag(sign) @ vt
    variance = source_centred.var(0).sum()
    scale = (singular * sign).sum() / variance if variance > 0 else 1.0
    return np.hstack([scale * rotation, (target_mean - scale * rotation @ source_mean)[:, None]])


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Samples a crop from a photo.

    A photo more than twice as fine as the crop is first shrunk by area averaging, since bilinear
    sampling alone would alias. The photo is continued by its mirror image: black wedges would
    reveal to a detector how tightly the photo was cropped.

    Args:
        image: uint8, H×W×3.
        matrix: 2×3, from photo to crop pixels.
        size: Side of the crop in pixels.

    Returns:
        uint8, size×size×3.
    """
    matrix = np.asarray(matrix, np.float64)
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if 0 < scale < 0.5:
        height, width = image.shape[:2]
        shrunk = max(1, round(width * 2 * scale)), max(1, round(height * 2 * scale))
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
        fx, fy = shrunk[0] / width, shrunk[1] / height
        # Pixel centres lie at half-integers of the resized grid: x' = (x + ½)·f − ½, inverted here.
        back = np.array([[1 / fx, 0, 0.5 / fx - 0.5], [0, 1 / fy, 0.5 / fy - 0.5], [0, 0, 1]])
        matrix = matrix @ back
    if max(image.shape[:2]) >= _LONGEST:
        image, matrix = _window(image, matrix, size)
    return cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


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
