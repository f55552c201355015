"""Augmentation of crop batches with kornia, independent of the class."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from kornia.augmentation import (
    ColorJiggle,
    RandomAffine,
    RandomGamma,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomJPEG,
    RandomMotionBlur,
)
from torch import nn

from kryptonite.nn.train.config import AugmentConfig

MIN_SCALE = 0.4  # smallest side when rescaling, relative to the crop

Step = Callable[[torch.Tensor], torch.Tensor]


class Augment(nn.Module):
    """Degrades crops in the order photos are degraded: camera, resizing, compression.

    Args:
        config: Probability of each step.
    """

    def __init__(self, config: AugmentConfig):
        super().__init__()
        quality = config.lowest_quality
        size = max(5, 2 * round(2 * config.blur_sigma) + 1)  # of the blur's kernel
        # Each step gets only the crops it changes: kornia's own per-sample probability would
        # process the whole batch and discard most of it.
        self._steps: list[tuple[float, Step]] = [
            (0.5, lambda images: images.flip(3)),
            (
                config.jitter,
                RandomAffine(6, (0.03, 0.03), (0.93, 1.08), padding_mode="reflection", p=1.0),
            ),
            (config.colour, ColorJiggle(0.2, 0.2, 0.2, 0.02, p=1.0)),
            (config.gamma, RandomGamma((0.6, 1.65), p=1.0)),
            (config.blur, RandomGaussianBlur((size, size), (0.1, config.blur_sigma), p=1.0)),
            (config.motion, RandomMotionBlur((3, 9), 180.0, 0.0, p=1.0)),
            (config.noise, RandomGaussianNoise(std=config.noise_std, p=1.0)),
            (
                config.rescale,
                lambda images: down_up(images, float(torch.empty(()).uniform_(MIN_SCALE, 1))),
            ),
            (config.jpeg, RandomJPEG(jpeg_quality=(float(quality), 95.0), p=1.0)),
            (config.webp, lambda images: webp(images, quality)),
        ]

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Augments float N×3×S×S in 0..1.

        S must be a multiple of 16, the block size of JPEG with subsampled chroma.
        """
        images = images.clone()
        for probability, step in self._steps:
            if not probability:
                continue
            chosen = torch.rand(len(images)) < probability
            if chosen.any():
                images[chosen] = step(images[chosen]).clamp(0, 1)
        return images


def down_up(images: torch.Tensor, factor: float) -> torch.Tensor:
    """Shrinks N×3×S×S by `factor` (0..1, antialiased) and enlarges it back to S, bilinearly."""
    side = images.shape[-1]
    small = nn.functional.interpolate(
        images, size=max(1, round(side * factor)), mode="bilinear", antialias=True
    )
    return nn.functional.interpolate(small, size=side, mode="bilinear").clamp(0, 1)


def webp(images: torch.Tensor, lowest_quality: int) -> torch.Tensor:
    """Compresses float N×3×S×S in 0..1 as WebP, each at a quality of `lowest_quality`..95."""
    qualities = torch.randint(lowest_quality, 96, (len(images),)).tolist()
    pixels = (images.permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8)
    decoded = []
    for crop, quality in zip(pixels, qualities, strict=True):
        _, coded = cv2.imencode(".webp", crop[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
        decoded.append(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(images) / 255
