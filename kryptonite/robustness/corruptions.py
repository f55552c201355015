"""What happens to photos on their way to a matcher: codecs, lenses, light, things worn on the face, a screen photographed anew.

Each corruption has three severities. Lengths are in distances between the eyes, so that a severity means the same on crops of any template;
only codecs' blocks and a sensor's noise go by the crop's own pixels.
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

from kryptonite.core.errors import ConfigError, InputContractError
from kryptonite.core.files import sha256_bytes

SEVERITIES = (1, 2, 3)
CHUNK = 64  # crops in memory as double precision at once


@dataclass(frozen=True)
class Batch:
    """Crops about to be corrupted.

    Args:
        images: float64, N×3×S×S, RGB in 0..1. In double precision the order in which a batch's convolution happens to add up cannot tip the
            rounding to 8 bits, so that an image comes out the same in every batch.
        landmarks: float64, 5×2 pixels, the same in every crop: left eye, right eye, nose, mouth corners.
        draws: N generators, one for each image's own random choices.
    """

    images: torch.Tensor
    landmarks: np.ndarray
    draws: list[np.random.Generator]

    @property
    def side(self) -> int:
        """S."""
        return self.images.shape[-1]

    @property
    def eyes(self) -> float:
        """Pixels between the eyes: the unit of all lengths."""
        return float(np.linalg.norm(self.landmarks[1] - self.landmarks[0]))

    def draw(self, choose: Callable[[np.random.Generator], float | np.ndarray]) -> torch.Tensor:
        """What `choose` makes of each image's generator: float64, N×…"""
        return torch.from_numpy(
            np.stack([choose(generator) for generator in self.draws]).astype(np.float64)
        )

    def signs(self) -> torch.Tensor:
        """−1 or 1 for each image."""
        return self.draw(lambda generator: generator.choice([-1.0, 1.0]))


@dataclass(frozen=True)
class Corruption:
    """A way to spoil images.

    Args:
        text: What it does, in one line.
        unit: How a level is written, for example `quality {:g}`.
        levels: Its magnitude at each severity.
        apply: Gives the corrupted images, float64 N×3×S×S; values beyond 0..1 are cut off afterwards.
    """

    text: str
    unit: str
    levels: tuple[float, float, float]
    apply: Callable[[Batch, float], torch.Tensor]

    @property
    def magnitudes(self) -> tuple[str, ...]:
        """The levels as a report prints them."""
        return tuple(self.unit.format(level) for level in self.levels)


def corrupt(
    name: str, severity: int, pixels: np.ndarray, landmarks: np.ndarray, keys: Sequence[str]
) -> np.ndarray:
    """Corrupts aligned crops.

    Random choices (directions, patterns) hang on an image's key alone, and are the same at all severities of a corruption.

    Args:
        name: Of `CORRUPTIONS`.
        severity: Of `SEVERITIES`.
        pixels: uint8, N×S×S×3, RGB.
        landmarks: 5×2 pixels: where left eye, right eye, nose and mouth corners lie in every crop.
        keys: N content keys of the images.

    Returns:
        uint8, N×S×S×3.

    Raises:
        ConfigError: No such corruption or severity.
        InputContractError: `pixels` are no such crops, or there are not as many keys.
    """
    if name not in CORRUPTIONS:
        raise ConfigError(f"no corruption is called {name!r}; there are {', '.join(CORRUPTIONS)}")
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
    level = float(corruption.levels[severity - 1])  # kornia refuses whole numbers
    corrupted = np.empty_like(pixels)
    for start in range(0, len(pixels), CHUNK):
        part = slice(start, start + CHUNK)
        images = (
            torch.from_numpy(np.ascontiguousarray(pixels[part])).permute(0, 3, 1, 2).double() / 255
        )
        draws = [
            np.random.default_rng(int(sha256_bytes(f"{name}/{key}".encode())[:16], 16))
            for key in keys[part]
        ]
        with torch.no_grad():
            images = corruption.apply(
                Batch(images.contiguous(), np.asarray(landmarks, np.float64), draws), level
            )
        corrupted[part] = _to_bytes(images)
    return corrupted


def _to_bytes(images: torch.Tensor) -> np.ndarray:
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def _jpeg(batch: Batch, quality: float) -> torch.Tensor:
    return _encode(batch.images, quality)


def _encode(images: torch.Tensor, quality: float) -> torch.Tensor:
    """JPEG with halved chroma and the standard's tables; kornia pads to whole blocks by replication and cuts again."""
    return jpeg_codec_differentiable(images, torch.tensor([quality], dtype=images.dtype)).clamp(
        0, 1
    )


def _jpeg_twice(batch: Batch, quality: float) -> torch.Tensor:
    """Between the two encodings the image is shrunk into a canvas of its own size, a few pixels off, so that the blocks fall elsewhere."""
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
    def through(photo: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        Image.fromarray((photo * 255).round().astype(np.uint8)).save(
            stream, "WEBP", quality=int(quality)
        )
        return np.asarray(Image.open(stream).convert("RGB")) / 255

    return _each(batch.images, through)  # kornia has no WebP


def _gaussian_blur(batch: Batch, spread: float) -> torch.Tensor:
    return _blur(batch.images, spread * batch.eyes)


def _blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """A Gaussian of `sigma` pixels, cut off beyond three of them."""
    side = 2 * int(np.ceil(3 * sigma)) + 1
    return _each(
        images,
        lambda photo: cv2.GaussianBlur(
            photo, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101
        ),
    )


def _motion_blur(batch: Batch, length: float) -> torch.Tensor:
    taps = max(3, 2 * round((length * batch.eyes - 1) / 2) + 1)
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
    """Changes images one by one: for what kornia does not have, and for its blurs, since torch convolves slowly in double precision.

    OpenCV and Pillow work outside the interpreter's lock, so that threads run side by side.

    Args:
        images: float64, N×3×S×S.
        change: Maps a float64 S×S×3 image, and one of each of `more`, to another.
        more: Each N×…
    """
    photos = images.permute(0, 2, 3, 1).contiguous().numpy()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        changed = list(threads.map(change, photos, *more))
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2)


def _noise(batch: Batch, deviation: float) -> torch.Tensor:
    return batch.images + deviation / 255 * batch.draw(
        lambda generator: generator.standard_normal(batch.images.shape[1:])
    )


def _rescale(batch: Batch, eyes: float) -> torch.Tensor:
    small = max(1, round(batch.side * eyes / batch.eyes))
    shrunk = nn.functional.interpolate(batch.images, size=small, mode="bilinear", antialias=True)
    return nn.functional.interpolate(shrunk, size=batch.side, mode="bilinear")


def _exposure(batch: Batch, factor: float) -> torch.Tensor:
    return adjust_brightness_accumulative(batch.images, factor)


def _contrast(batch: Batch, factor: float) -> torch.Tensor:
    return adjust_contrast_with_mean_subtraction(batch.images, factor)


def _gamma(batch: Batch, exponent: float) -> torch.Tensor:
    return adjust_gamma(batch.images, exponent ** batch.signs())


def _colour_shift(batch: Batch, strength: float) -> torch.Tensor:
    """Gains of the channels, in a random direction that leaves their product, and so roughly the brightness, alone."""

    def direction(generator: np.random.Generator) -> np.ndarray:
        gains = generator.standard_normal(3)
        gains -= gains.mean()
        return gains / np.abs(gains).max()

    return batch.images * torch.exp(strength * batch.draw(direction))[:, :, None, None]


def _rotation(batch: Batch, degrees: float) -> torch.Tensor:
    # Mirrored beyond the border, as `detection.warp` continues photos.
    return rotate(batch.images, degrees * batch.signs(), padding_mode="reflection")


def _mask(batch: Batch, top: float) -> torch.Tensor:
    """A face mask of one colour, its upper edge bent over the nose."""
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
    across, down = 1.1, height / 2 * batch.eyes / _eyes_to_mouth(batch.landmarks)
    corners = np.array([(-across, -down), (across, -down), (across, down), (-across, down)])
    return _cover(batch, corners, torch.zeros(len(batch.images), 3, dtype=torch.float64))


def _eyes_to_mouth(landmarks: np.ndarray) -> float:
    return float(np.linalg.norm(landmarks[3:].mean(0) - landmarks[:2].mean(0)))


def _cover(batch: Batch, outline: np.ndarray, colours: torch.Tensor) -> torch.Tensor:
    """Paints a polygon with soft edges.

    Args:
        batch: Images.
        outline: K×2 in the face's own axes: along the eyes in distances between the eyes, and from their middle (0) to the mouth's (1).
        colours: float64, N×3 in 0..1.
    """
    eyes, mouth = batch.landmarks[:2].mean(0), batch.landmarks[3:].mean(0)
    points = eyes + outline @ np.stack([batch.landmarks[1] - batch.landmarks[0], mouth - eyes])
    shape = np.zeros((batch.side, batch.side), np.uint8)
    cv2.fillPoly(shape, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    opacity = torch.from_numpy(shape).double() / 255
    return batch.images * (1 - opacity) + colours[:, :, None, None] * opacity


def _moire(batch: Batch, strength: float) -> torch.Tensor:
    """A screen photographed: blur, glow in the blacks, a cold cast, and the beat of the screen's pixel grid with the camera's.

    A grating of phase A seen through one of phase B shows their product, whose slow part goes with cos(A − B). Along the rows of a screen
    the three channels lie a third of a pixel apart, so that the beat of its columns is coloured; that of its rows is grey. The screen is
    turned and seen at a slant, which bends the bands (Amidror 2009, The Theory of the Moiré Phenomenon).
    """
    eyes, middle = batch.eyes, batch.landmarks[:2].mean(0)
    y, x = (
        torch.from_numpy(axis) for axis in np.mgrid[: batch.side, : batch.side].astype(np.float64)
    )
    u, v = (x - middle[0]) / eyes, (y - middle[1]) / eyes

    def choices(generator: np.random.Generator) -> np.ndarray:
        turn, scale = (
            np.radians(generator.uniform(3, 9)) * generator.choice([-1, 1]),
            generator.uniform(0.9, 1.1),
        )
        return np.array(
            [turn, scale, *generator.uniform(-0.03, 0.03, 2), *generator.uniform(0, 1, 2)]
        )

    turn, scale, slant_u, slant_v, phase_u, phase_v = batch.draw(choices).T[:, :, None, None]
    pitch = 1 / 14  # of the camera's grid
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
    seen = _blur(batch.images, 0.015 * eyes) ** (1 + strength)
    return 0.2 * strength + (1 - 0.2 * strength) * seen * cast * pattern


CORRUPTIONS = {
    "jpeg": Corruption(
        "JPEG, its 8-pixel blocks on the crop's own grid", "quality {:g}", (50, 25, 10), _jpeg
    ),
    "jpeg_twice": Corruption(
        "JPEG, shrunk to 90% and shifted, JPEG again, enlarged",
        "quality {:g}, twice",
        (50, 25, 10),
        _jpeg_twice,
    ),
    "webp": Corruption("WebP, lossy", "quality {:g}", (50, 20, 5), _webp),
    "gaussian_blur": Corruption(
        "out of focus: Gaussian blur", "σ {:g} eye distances", (0.03, 0.05, 0.08), _gaussian_blur
    ),
    "motion_blur": Corruption(
        "camera shake along a line in a random direction",
        "{:g} eye distances long",
        (0.2, 0.4, 0.6),
        _motion_blur,
    ),
    "noise": Corruption(
        "Gaussian noise of the sensor, pixel by pixel", "σ {:g} of 255", (12, 25, 40), _noise
    ),
    "rescale": Corruption(
        "shrunk and enlarged again", "eyes {:g} pixels apart", (18, 12, 8), _rescale
    ),
    "brighter": Corruption(
        "overexposed: multiplied, cut off at white", "× {:g}", (1.3, 1.6, 2), _exposure
    ),
    "darker": Corruption("underexposed: multiplied", "× {:g}", (0.6, 0.4, 0.25), _exposure),
    "contrast": Corruption(
        "flattened towards the mean grey", "× {:g}", (0.6, 0.4, 0.25), _contrast
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
        "turned about the crop's centre, either way at random", "{:g}°", (5, 12, 25), _rotation
    ),
    "mask": Corruption(
        "a face mask; eyes are at 0, the mouth at 1", "upwards to {:g}", (0.7, 0.45, 0.25), _mask
    ),
    "glasses_bar": Corruption(
        "a black bar over the eyes", "{:g} eye distances high", (0.25, 0.4, 0.6), _glasses_bar
    ),
    "moire": Corruption(
        "a screen photographed: moiré, blur, glow, cold cast, gamma",
        "strength {:g}",
        (0.08, 0.16, 0.28),
        _moire,
    ),
}
