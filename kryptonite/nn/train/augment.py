"""Augmentation of crop batches with kornia, independent of the class."""

from collections.abc import Callable

import torch
from kornia.augmentation import ColorJiggle, RandomGaussianBlur, RandomGaussianNoise, RandomJPEG
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
        # Each step gets only the crops it changes: kornia's own per-sample probability would
        # process the whole batch and discard most of it.
        self._steps: list[tuple[float, Step]] = [
            (0.5, lambda images: images.flip(3)),
            (config.colour, ColorJiggle(0.2, 0.2, 0.2, 0.02, p=1.0)),
            (config.blur, RandomGaussianBlur((5, 5), (0.1, 1.5), p=1.0)),
            (config.noise, RandomGaussianNoise(std=0.03, p=1.0)),
            (
                config.rescale,
                lambda images: down_up(images, float(torch.empty(()).uniform_(MIN_SCALE, 1))),
            ),
            (config.jpeg, RandomJPEG(jpeg_quality=(50.0, 95.0), p=1.0)),
        ]

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Augments float N×3×S×S in 0..1.

        S must be a multiple of 16, the block size of JPEG with subsampled chroma.
        """
        images = images.clone()
        for probability, step in self._steps:
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
