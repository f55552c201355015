"""Corrupt aligned crops the way codecs, lenses, light, occlusions and screens corrupt photos.

Each corruption has three severities. Lengths are in eye distances, so that a severity means the
same on crops of any template; only the blocks of codecs and the noise of the sensor depend on the
crop's pixels.
"""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_gamma,
    jpeg_codec_differentiable,
)
from kornia.filters import get_motion_kernel2d
from kornia.geometry.transform import rotate, warp_affine
from PIL import Image
from torch import nn

from kryptonite.core.chunks import chunked
from kryptonite.core.errors import ConfigError, InputContractError
from kryptonite.core.files import sha256_bytes

SEVERITIES = (1, 2, 3)
CHUNK = 64  # crops in memory in double precision at once


@dataclass(frozen=True)
class Batch:
    """Crops about to be corrupted.

    Args:
        images: float64, N×3×S×S, RGB in 0..1. In double precision the order of summation, which
            depends on the batch, cannot change the rounding to 8 bits, so that an image gives the
            same result in every batch.
        landmarks: float64, 5×2 pixels, the same in every crop: left eye, right eye, nose, mouth
            corners.
        generators: N random generators, one per image.
    """

    images: torch.Tensor
    landmarks: np.ndarray
    generators: list[np.random.Generator]

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return self.images.shape[-1]

    @property
    def eye_distance(self) -> float:
        """Pixels between the eyes, the unit of all lengths."""
        return float(np.linalg.norm(self.landmarks[1] - self.landmarks[0]))

    def draw(self, choose: Callable[[np.random.Generator], float | np.ndarray]) -> torch.Tensor:
        """Stacks what `choose` draws from each image's generator: float64, N×…"""
        return torch.from_numpy(
            np.stack([choose(generator) for generator in self.generators]).astype(np.float64)
        )

    def signs(self) -> torch.Tensor:
        """Draws −1 or 1 per image."""
        return self.draw(lambda generator: generator.choice([-1.0, 1.0]))


@dataclass(frozen=True)
class Corruption:
    """A way to degrade images.

    Args:
        text: One line that says what it does.
        unit: Format of a level, for example `quality {:g}`.
        levels: Magnitude at each severity.
        apply: Maps a batch and a level to the corrupted images, float64 N×3×S×S; values beyond
            0..1 are clipped afterwards.
    """

    text: str
    unit: str
    levels: tuple[float, float, float]
    apply: Callable[[Batch, float], torch.Tensor]

    @property
    def magnitudes(self) -> tuple[str, ...]:
        """The formatted levels."""
        return tuple(self.unit.format(level) for level in self.levels)


def corrupt(
    name: str, severity: int, pixels: np.ndarray, landmarks: np.ndarray, keys: Sequence[str]
) -> np.ndarray:
    """Corrupts aligned crops.

    Random choices (directions, patterns) depend only on an image's key and the corruption's name,
    and are the same at all severities.

    Args:
        name: A key of `CORRUPTIONS`.
        severity: One of `SEVERITIES`.
        pixels: uint8, N×S×S×3, RGB.
        landmarks: 5×2 pixels, the positions of left eye, right eye, nose and mouth corners in every
            crop.
        keys: N content keys of the images.

    Returns:
        uint8, N×S×S×3.

    Raises:
        ConfigError: The corruption or severity does not exist.
        InputContractError: `pixels` has another type or shape, or there are not N keys.
    """
    if name not in CORRUPTIONS:
        raise ConfigError(f"unknown corruption {name!r}; there are {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ConfigError(
            f"{name} has no severity {severity!r}; there are {', '.join(map(str, SEVERITIES))}"
        )
    if (
        pixels.dtype != np.uint8
        or pixels.ndim != 4
        or pixels.shape[1] != pixels.shape[2]
        or pixels.shape[3] != 3
    ):
        raise InputContractError(f"crops must be uint8 N×S×S×3, got {pixels.dtype} {pixels.shape}")
    if len(keys) != len(pixels):
        raise InputContractError(f"{len(pixels)} crops need as many keys, got {len(keys)}")
    corruption = CORRUPTIONS[name]
    level = float(corruption.levels[severity - 1])  # kornia refuses integers
    landmarks = np.asarray(landmarks, np.float64)
    corrupted = []
    for part, part_keys in zip(chunked(pixels, CHUNK), chunked(keys, CHUNK), strict=True):
        images = torch.from_numpy(np.ascontiguousarray(part)).permute(0, 3, 1, 2).double() / 255
        generators = [
            np.random.default_rng(int(sha256_bytes(f"{name}/{key}".encode())[:16], 16))
            for key in part_keys
        ]
        with torch.no_grad():
            images = corruption.apply(Batch(images.contiguous(), landmarks, generators), level)
        corrupted.append(_to_bytes(images))
    return np.concatenate(corrupted) if corrupted else pixels.copy()


def _to_bytes(images: torch.Tensor) -> np.ndarray:
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def _jpeg(batch: Batch, quality: float) -> torch.Tensor:
    return _encode(batch.images, quality)


def _encode(images: torch.Tensor, quality: float) -> torch.Tensor:
    """JPEG with halved chroma and the standard's tables; kornia pads to whole blocks by replication
    and crops again."""
    return jpeg_codec_differentiable(images, torch.tensor([quality], dtype=images.dtype)).clamp(
        0, 1
    )


def _jpeg_twice(batch: Batch, quality: float) -> torch.Tensor:
    """Encodes twice; in between it shrinks and shifts the image within its canvas, so that the
    blocks fall elsewhere."""
    shrink = torch.zeros(len(batch.images), 2, 3, dtype=torch.float64)
    shrink[:, [0, 1], [0, 1]] = 0.9
    shrink[:, :, 2] = batch.draw(lambda generator: generator.uniform(0, 0.1 * batch.side, 2))
    restore = shrink / 0.9**2
    restore[:, :, 2] = -shrink[:, :, 2] / 0.9
    size = (batch.side, batch.side)
    sent = warp_affine(
        _encode(batch.images, quality), shrink, size, padding_mode="border", align_corners=True
    )
    return warp_affine(
        _encode(sent, quality), restore, size, padding_mode="border", align_corners=True
    )


def _webp(batch: Batch, quality: float) -> torch.Tensor:
    def encode(photo: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        Image.fromarray((photo * 255).round().astype(np.uint8)).save(
            stream, "WEBP", quality=int(quality)
        )
        return np.asarray(Image.open(stream).convert("RGB")) / 255

    return _each(batch.images, encode)  # kornia has no WebP


def _gaussian_blur(batch: Batch, sigma: float) -> torch.Tensor:
    return _blur(batch.images, sigma * batch.eye_distance)


def _blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of `sigma` pixels, truncated at three sigma."""
    side = 2 * int(np.ceil(3 * sigma)) + 1
    return _each(
        images,
        lambda photo: cv2.GaussianBlur(
            photo, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101
        ),
    )


def _motion_blur(batch: Batch, length: float) -> torch.Tensor:
    taps = max(3, 2 * round((length * batch.eye_distance - 1) / 2) + 1)
    angles = batch.draw(lambda generator: generator.uniform(0, 180))
    kernels = get_motion_kernel2d(taps, angles, torch.zeros_like(angles), mode="bilinear").numpy()
    return _each(
        batch.images,
        lambda photo, kernel: cv2.filter2D(photo, -1, kernel, borderType=cv2.BORDER_REFLECT_101),
        kernels,
    )


def _each(
    images: torch.Tensor, change: Callable[..., np.ndarray], *more: np.ndarray
) -> torch.Tensor:
    """Changes images one by one, in threads: OpenCV and Pillow release the interpreter's lock.

    It serves codecs that kornia lacks, and blurs, because torch convolves slowly in double
    precision.

    Args:
        images: float64, N×3×S×S.
        change: Maps a float64 S×S×3 image, and one item of each of `more`, to another image.
        more: Further arguments of `change`, N×… each.
    """
    photos = images.permute(0, 2, 3, 1).contiguous().numpy()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        changed = list(threads.map(change, photos, *more))
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2)


def _noise(batch: Batch, deviation: float) -> torch.Tensor:
    return batch.images + deviation / 255 * batch.draw(
        lambda generator: generator.standard_normal(batch.images.shape[1:])
    )


def _rescale(batch: Batch, eye_distance: float) -> torch.Tensor:
    small = max(1, round(batch.side * eye_distance / batch.eye_distance))
    shrunk = nn.functional.interpolate(batch.images, size=small, mode="bilinear", antialias=True)
    return nn.functional.interpolate(shrunk, size=batch.side, mode="bilinear")


def _exposure(batch: Batch, factor: float) -> torch.Tensor:
    return adjust_brightness_accumulative(batch.images, factor)


def _contrast(batch: Batch, factor: float) -> torch.Tensor:
    return adjust_contrast_with_mean_subtraction(batch.images, factor)


def _gamma(batch: Batch, exponent: float) -> torch.Tensor:
    return adjust_gamma(batch.images, exponent ** batch.signs())


def _colour_shift(batch: Batch, strength: float) -> torch.Tensor:
    """Scales the channels in a random direction that keeps the product of the gains, and so roughly
    the brightness."""

    def direction(generator: np.random.Generator) -> np.ndarray:
        gains = generator.standard_normal(3)
        gains -= gains.mean()
        return gains / np.abs(gains).max()

    return batch.images * torch.exp(strength * batch.draw(direction))[:, :, None, None]


def _rotation(batch: Batch, degrees: float) -> torch.Tensor:
    # Mirrored beyond the border, as in `detection.warp`.
    return rotate(batch.images, degrees * batch.signs(), padding_mode="reflection")


def _mask(batch: Batch, top: float) -> torch.Tensor:
    """Covers the lower face with a mask of one colour, its upper edge bent over the nose."""
    outline = np.array(
        [
            (0, top),
            (0.3, top + 0.04),
            (0.7, top + 0.18),
            (1.05, top + 0.25),
            (1.02, 1.05),
            (0.88, 1.4),
            (0.5, 1.72),
            (0, 1.82),
        ]
    )
    left = outline[-2:0:-1] * [-1, 1]
    colours = batch.draw(
        lambda generator: generator.choice(
            [(0.60, 0.76, 0.86), (0.93, 0.93, 0.92), (0.10, 0.10, 0.12)]
        )
    )
    return _cover(batch, np.concatenate([outline, left]), colours)


def _glasses_bar(batch: Batch, height: float) -> torch.Tensor:
    across, down = 1.1, height / 2 * batch.eye_distance / _eyes_to_mouth(batch.landmarks)
    corners = np.array([(-across, -down), (across, -down), (across, down), (-across, down)])
    return _cover(batch, corners, torch.zeros(len(batch.images), 3, dtype=torch.float64))


def _eyes_to_mouth(landmarks: np.ndarray) -> float:
    return float(np.linalg.norm(landmarks[3:].mean(0) - landmarks[:2].mean(0)))


def _cover(batch: Batch, outline: np.ndarray, colours: torch.Tensor) -> torch.Tensor:
    """Paints a polygon with soft edges.

    Args:
        batch: Images to paint on.
        outline: K×2 in the face's axes: along the eyes, in eye distances, and from the midpoint of
            the eyes (0) to that of the mouth (1).
        colours: float64, N×3 in 0..1, one colour per image.
    """
    eyes, mouth = batch.landmarks[:2].mean(0), batch.landmarks[3:].mean(0)
    points = eyes + outline @ np.stack([batch.landmarks[1] - batch.landmarks[0], mouth - eyes])
    shape = np.zeros((batch.side, batch.side), np.uint8)
    cv2.fillPoly(shape, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    opacity = torch.from_numpy(shape).double() / 255
    return batch.images * (1 - opacity) + colours[:, :, None, None] * opacity


def _moire(batch: Batch, strength: float) -> torch.Tensor:
    """Imitates a photographed screen: blur, glow in the blacks, a cold cast, and the beat between
    the pixel grids of screen and camera.

    A grating of phase A seen through one of phase B shows their product, whose low frequency is
    cos(A − B). Along the rows of a screen the three channels lie a third of a pixel apart, so that
    the beat of its columns is coloured; that of its rows is grey. The screen is rotated and
    slanted, which bends the bands (Amidror 2009, The Theory of the Moiré Phenomenon).
    """
    eye_distance, middle = batch.eye_distance, batch.landmarks[:2].mean(0)
    y, x = (
        torch.from_numpy(axis) for axis in np.mgrid[: batch.side, : batch.side].astype(np.float64)
    )
    u, v = (x - middle[0]) / eye_distance, (y - middle[1]) / eye_distance

    def choices(generator: np.random.Generator) -> np.ndarray:
        turn = np.radians(generator.uniform(3, 9)) * generator.choice([-1, 1])
        scale = generator.uniform(0.9, 1.1)
        return np.array(
            [turn, scale, *generator.uniform(-0.03, 0.03, 2), *generator.uniform(0, 1, 2)]
        )

    turn, scale, slant_u, slant_v, phase_u, phase_v = batch.draw(choices).T[:, :, None, None]
    pitch = 1 / 14  # of the camera's grid, in eye distances
    cos, sin = torch.cos(turn), torch.sin(turn)
    depth = scale * (1 + slant_u * u + slant_v * v)
    columns = (cos * u + sin * v) * depth / pitch + phase_u
    rows = (cos * v - sin * u) * depth / pitch + phase_v
    thirds = torch.arange(3, dtype=torch.float64).view(1, 3, 1, 1) / 3
    beat_columns = torch.cos(2 * np.pi * (columns[:, None] + thirds - u / pitch))
    beat_rows = torch.cos(2 * np.pi * (rows - v / pitch))[:, None]
    grid = torch.cos(2 * np.pi * columns)[:, None]
    pattern = 1 + strength * (0.8 * beat_columns + 0.5 * beat_rows + 0.4 * grid)
    cast = torch.exp(strength * torch.tensor([-0.5, 0.0, 0.4], dtype=torch.float64)).view(
        1, 3, 1, 1
    )
    seen = _blur(batch.images, 0.015 * eye_distance) ** (1 + strength)
    return 0.2 * strength + (1 - 0.2 * strength) * seen * cast * pattern


CORRUPTIONS = {
    "jpeg": Corruption(
        "JPEG with its 8-pixel blocks on the crop's grid", "quality {:g}", (50, 25, 10), _jpeg
    ),
    "jpeg_twice": Corruption(
        "JPEG, shrunk to 90% and shifted, JPEG again, enlarged back",
        "quality {:g}, twice",
        (50, 25, 10),
        _jpeg_twice,
    ),
    "webp": Corruption("lossy WebP", "quality {:g}", (50, 20, 5), _webp),
    "gaussian_blur": Corruption(
        "defocus: Gaussian blur", "σ {:g} eye distances", (0.03, 0.05, 0.08), _gaussian_blur
    ),
    "motion_blur": Corruption(
        "camera shake: blur along a line in a random direction",
        "{:g} eye distances long",
        (0.2, 0.4, 0.6),
        _motion_blur,
    ),
    "noise": Corruption(
        "sensor noise: independent Gaussian noise per pixel", "σ {:g} of 255", (12, 25, 40), _noise
    ),
    "rescale": Corruption(
        "shrunk and enlarged back", "eyes {:g} pixels apart", (18, 12, 8), _rescale
    ),
    "brighter": Corruption(
        "overexposure: multiplied, clipped at white", "× {:g}", (1.3, 1.6, 2), _exposure
    ),
    "darker": Corruption("underexposure: multiplied", "× {:g}", (0.6, 0.4, 0.25), _exposure),
    "contrast": Corruption(
        "lower contrast: moved towards the mean grey", "× {:g}", (0.6, 0.4, 0.25), _contrast
    ),
    "gamma": Corruption(
        "tone curve with this exponent or its inverse, at random", "{:g}", (1.5, 2, 3), _gamma
    ),
    "colour_shift": Corruption(
        "wrong white balance in a random direction",
        "largest gain e^±{:g}",
        (0.1, 0.2, 0.35),
        _colour_shift,
    ),
    "rotation": Corruption(
        "rotation about the crop's centre, either way at random", "{:g}°", (5, 12, 25), _rotation
    ),
    "mask": Corruption(
        "a face mask; the eyes are at 0, the mouth at 1",
        "upwards to {:g}",
        (0.7, 0.45, 0.25),
        _mask,
    ),
    "glasses_bar": Corruption(
        "a black bar over the eyes", "{:g} eye distances high", (0.25, 0.4, 0.6), _glasses_bar
    ),
    "moire": Corruption(
        "a photographed screen: moiré, blur, glow, cold cast, gamma",
        "strength {:g}",
        (0.08, 0.16, 0.28),
        _moire,
    ),
}
