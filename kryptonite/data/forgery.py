"""Forgeries made from photos and their five landmarks: face swap, self-blending, resynthesis.

Each keeps the identity recognisable, which makes it an attack on a face matcher, and leaves traces
typical of its kind of generator. The demo builds its `k_` images and test pairs from them; training
makes more on the fly to vary what the detector learns from.
"""

import cv2
import numpy as np

FORGERIES = ("face_swap", "self_blend", "resynthesis")
_SIDE = 160  # photo side in pixels for which the blur widths of self-blending were chosen


def face_mask(landmarks: np.ndarray, height: int, width: int, scale: float = 1.0) -> np.ndarray:
    """Draws an ellipse over the inner face: uint8, height×width, 0 or 255.

    Args:
        landmarks: 5×2 pixels: eyes, nose, mouth corners.
        height: Height of the photo in pixels.
        width: Width of the photo in pixels.
        scale: Scales the axes; 1 reaches from above the brows to the chin.
    """
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    across = landmarks[1] - landmarks[0]
    half_width = 0.95 * np.linalg.norm(across) * scale
    half_height = 1.15 * np.linalg.norm(mouth - eyes) * scale
    angle = float(np.degrees(np.arctan2(across[1], across[0])))
    centre = (eyes + mouth) / 2
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(
        mask, (tuple(map(float, centre)), (2 * half_width, 2 * half_height), angle), 255, -1
    )
    return mask


def face_swap(
    photo: np.ndarray, landmarks: np.ndarray, donor: np.ndarray, donor_landmarks: np.ndarray
) -> np.ndarray:
    """Puts the donor's face into the photo.

    Aligns the landmarks, matches the colours and blends the seam (Poisson editing, Pérez et al.
    2003).

    Args:
        photo: RGB uint8, H×W×3; keeps its hair, pose and background.
        landmarks: 5×2 pixels in the photo.
        donor: RGB uint8; the identity that the result shows.
        donor_landmarks: 5×2 pixels in the donor's photo.

    Returns:
        RGB uint8, H×W×3.
    """
    height, width = photo.shape[:2]
    matrix, _ = cv2.estimateAffinePartial2D(
        donor_landmarks.astype(np.float32), landmarks.astype(np.float32), method=cv2.LMEDS
    )
    face = cv2.warpAffine(
        donor, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    mask = face_mask(landmarks, height, width)
    # seamlessClone centres the mask's bounding box, which must lie inside the photo.
    mask[:2], mask[-2:], mask[:, :2], mask[:, -2:] = 0, 0, 0, 0
    face = match_colour(face, photo, mask)
    x, y, w, h = cv2.boundingRect(mask)
    return cv2.seamlessClone(face, photo, mask, (x + w // 2, y + h // 2), cv2.NORMAL_CLONE)


def match_colour(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Gives `image` the colour mean and deviation of `reference` within the mask.

    Works per channel of Lab (Reinhard et al. 2001).
    """
    source, target = (
        cv2.cvtColor(each, cv2.COLOR_RGB2LAB).astype(np.float32) for each in (image, reference)
    )
    inside = mask > 0
    gain = target[inside].std(0) / np.maximum(source[inside].std(0), 1e-3)
    matched = (source - source[inside].mean(0)) * gain + target[inside].mean(0)
    return cv2.cvtColor(np.clip(matched, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)


def self_blend(
    photo: np.ndarray, landmarks: np.ndarray, generator: np.random.Generator, colour: float = 1.0
) -> np.ndarray:
    """Blends a photo with a slightly moved, recoloured copy of itself inside a deformed face mask.

    Self-blended images of Shiohara & Yamasaki 2022.

    Args:
        photo: RGB uint8, H×W×3.
        landmarks: 5×2 pixels.
        generator: Source of the random choices.
        colour: How far the copy's colours may stray, 0..1; at 1 each channel by up to a fifth plus
            16 of its 255 levels.

    Returns:
        RGB uint8, H×W×3.
    """
    height, width = photo.shape[:2]
    side = max(height, width)
    unit = side / _SIDE
    centre = tuple(map(float, landmarks.mean(0)))
    matrix = cv2.getRotationMatrix2D(
        centre, generator.uniform(-4, 4), generator.uniform(0.93, 1.07)
    )
    matrix[:, 2] += generator.uniform(-0.025, 0.025, 2) * side
    copy = cv2.warpAffine(
        photo, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    ).astype(np.float32)
    copy = copy * generator.uniform(1 - 0.2 * colour, 1 + 0.2 * colour, 3) + generator.uniform(
        -16 * colour, 16 * colour, 3
    )
    if generator.random() < 0.5:
        copy += generator.uniform(1, 2) * (copy - cv2.GaussianBlur(copy, (0, 0), 1.5 * unit))
    else:
        copy = cv2.GaussianBlur(copy, (0, 0), generator.uniform(0.6, 1.2) * unit)
    mask = (
        face_mask(landmarks, height, width, generator.uniform(0.75, 1.1)).astype(np.float32) / 255
    )
    # Deform elastically, so that the seam is not always an ellipse.
    flow = cv2.GaussianBlur(
        generator.standard_normal((height, width, 2)).astype(np.float32), (0, 0), side / 12
    )
    flow *= 0.04 * side / max(float(np.abs(flow).max()), 1e-6)
    grid_x, grid_y = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    mask = cv2.remap(mask, grid_x + flow[..., 0], grid_y + flow[..., 1], cv2.INTER_LINEAR)
    mask = cv2.GaussianBlur(mask, (0, 0), generator.uniform(1, 2.5) * unit)[
        ..., None
    ] * generator.choice([0.75, 1.0])
    return np.clip(photo * (1 - mask) + copy * mask, 0, 255).astype(np.uint8)


def paste_inner_face(
    photo: np.ndarray, landmarks: np.ndarray, other: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Puts the inner face of another version of a photo into it, with a soft rim.

    Args:
        photo: RGB uint8, H×W×3; keeps its rim.
        landmarks: 5×2 pixels, in both.
        other: RGB uint8, H×W×3.
        generator: Draws the size of the mask.

    Returns:
        RGB uint8, H×W×3.
    """
    height, width = photo.shape[:2]
    mask = face_mask(landmarks, height, width, generator.uniform(0.8, 1.1)).astype(np.float32)
    share = cv2.GaussianBlur(mask / 255, (0, 0), 4 * max(height, width) / _SIDE)[..., None]
    return (photo * (1 - share) + other * share).round().astype(np.uint8)


def resynthesise(
    photo: np.ndarray, landmarks: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Renders the face anew from a fifth or a sixth of its resolution, as a small decoder would.

    Detail is lost, and upsampling by transposed convolution with an uneven kernel leaves its
    periodic trace in the spectrum (Odena et al. 2016; Durall et al. 2020).

    Args:
        photo: RGB uint8, H×W×3.
        landmarks: 5×2 pixels.
        generator: Source of the random choices.

    Returns:
        RGB uint8, H×W×3.
    """
    height, width = photo.shape[:2]
    stride = int(generator.choice([5, 6]))
    small = cv2.resize(
        photo, (-(-width // stride), -(-height // stride)), interpolation=cv2.INTER_AREA
    ).astype(np.float32)
    sparse = np.zeros((small.shape[0] * stride, small.shape[1] * stride, 3), np.float32)
    sparse[::stride, ::stride] = small * stride**2
    ramp = np.concatenate([np.arange(1, stride + 1), np.arange(stride - 1, 0, -1)]).astype(
        np.float32
    )
    kernel = np.outer(ramp, ramp) * generator.uniform(0.65, 1.35, (len(ramp), len(ramp)))
    # Anchor at the centre of each sample's own cell, so that the rendering does not shift.
    rendered = cv2.filter2D(
        sparse, -1, (kernel / kernel.sum()).astype(np.float32), borderType=cv2.BORDER_REFLECT_101
    )
    shift = np.float32([[1, 0, (stride - 1) / 2], [0, 1, (stride - 1) / 2]])
    rendered = cv2.warpAffine(rendered, shift, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    rendered += generator.uniform(0.5, 1.2) * (
        rendered - cv2.GaussianBlur(rendered, (0, 0), stride / 2)
    )
    mask = cv2.GaussianBlur(
        face_mask(landmarks, height, width, 1.1).astype(np.float32) / 255, (0, 0), 3
    )[..., None]
    return np.clip(photo * (1 - mask) + rendered * mask, 0, 255).astype(np.uint8)
