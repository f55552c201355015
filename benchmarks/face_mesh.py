"""Face swaps by a mesh of 468 points, finer than the swaps that the project trains on."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import Delaunay

from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import WeightsError
from kryptonite.data.forgery import match_colour
from kryptonite.detection.warp import estimate_similarity, template_points, warp

POINTS = 468
_CROP = CropTemplate(192, 0.3)  # the network's input; it was trained on faces with such a rim

# Maps a photo, RGB uint8 H×W×3, and its five landmarks, 5×2 pixels, to the mesh: float64, 468×2.
FindMesh = Callable[[np.ndarray, np.ndarray], np.ndarray]


def load_mesh(file: Path) -> FindMesh:
    """Loads the network that finds the mesh.

    Args:
        file: MediaPipe's face_landmark.tflite.

    Raises:
        WeightsError: The file is missing, damaged or another network.
    """
    try:
        network = cv2.dnn.readNetFromTFLite(str(file))
        outputs = network.getUnconnectedOutLayersNames()
        sizes = [out.size for out in _run(network, outputs, np.zeros((192, 192, 3), np.uint8))]
    except cv2.error as error:
        raise WeightsError(f"{file}: cannot be read as a TFLite network ({error.err})") from error
    if 3 * POINTS not in sizes:
        raise WeightsError(f"{file}: no face mesh of {POINTS} points: its outputs have {sizes}")
    chosen = [outputs[sizes.index(3 * POINTS)]]

    def find(photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        matrix = estimate_similarity(landmarks, template_points(_CROP))
        found = _run(network, chosen, warp(photo, matrix, _CROP.size))[0]
        points = found.reshape(POINTS, 3)[:, :2].astype(np.float64)
        return np.linalg.solve(matrix[:, :2], (points - matrix[:, 2]).T).T

    return find


def _run(network: cv2.dnn.Net, outputs: list[str], crop: np.ndarray) -> list[np.ndarray]:
    network.setInput(cv2.dnn.blobFromImage(crop, 1 / 255))
    return list(network.forward(outputs))


def shape_distance(mesh: np.ndarray, other: np.ndarray) -> float:
    """How far two meshes differ in pose and shape, whatever their place and size in the photo."""

    def normalised(points: np.ndarray) -> np.ndarray:
        points = points - points.mean(0)
        return points / np.linalg.norm(points)

    return float(np.linalg.norm(normalised(mesh) - normalised(other)))


def mesh_swap(
    photo: np.ndarray,
    mesh: np.ndarray,
    donor: np.ndarray,
    donor_mesh: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Puts the donor's face into the photo: warps it triangle by triangle and blends it in softly.

    Args:
        photo: RGB uint8, H×W×3; keeps its hair, pose, expression and background.
        mesh: N×2 pixels in the photo.
        donor: RGB uint8; the identity that the result shows.
        donor_mesh: N×2 pixels in the donor's photo.
        generator: Draws how wide the soft rim is.

    Returns:
        RGB uint8, H×W×3.
    """
    height, width = photo.shape[:2]
    face, inside = warp_mesh(donor, donor_mesh, mesh, height, width)
    face = np.where(inside[..., None], face, photo)
    face = match_colour(face, photo, inside)
    rim = generator.uniform(0.05, 0.2)
    centre = mesh.mean(0)
    mask = _hull(centre + (mesh - centre) * (1 - rim), height, width).astype(np.float32) / 255
    # The mask has faded where the warped face ends.
    blur = rim / 4 * np.sqrt(cv2.contourArea(cv2.convexHull(mesh.astype(np.float32))))
    share = cv2.GaussianBlur(mask, (0, 0), max(float(blur), 0.5))[..., None] * inside[..., None]
    return np.clip(photo * (1 - share) + face * share, 0, 255).round().astype(np.uint8)


def warp_mesh(
    photo: np.ndarray, mesh: np.ndarray, target: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Moves each triangle of a photo's mesh to where a target mesh has it.

    Args:
        photo: RGB uint8.
        mesh: N×2 pixels in the photo.
        target: N×2 pixels in the result; its Delaunay triangulation is used for both.
        height: Of the result, in pixels.
        width: Of the result.

    Returns:
        RGB uint8, height×width×3, and where the mesh covers it: bool, height×width.
    """
    triangles = Delaunay(target)
    rows, columns = np.nonzero(_hull(target, height, width))
    pixels = np.stack([columns, rows], 1).astype(np.float64)
    found = triangles.find_simplex(pixels)
    rows, columns, pixels, found = (values[found >= 0] for values in (rows, columns, pixels, found))
    # Barycentric coordinates; scipy's transform gives all but the last one.
    affine = triangles.transform[found]
    shares = np.einsum("nij,nj->ni", affine[:, :2], pixels - affine[:, 2])
    shares = np.hstack([shares, 1 - shares.sum(1, keepdims=True)])
    origin = np.zeros((height, width, 2), np.float32)
    origin[rows, columns] = (mesh[triangles.simplices[found]] * shares[..., None]).sum(1)
    inside = np.zeros((height, width), bool)
    inside[rows, columns] = True
    warped = cv2.remap(photo, origin, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return warped, inside


def _hull(points: np.ndarray, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(points.round().astype(np.int32)), 255)
    return mask
