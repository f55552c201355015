"""Augmentation of crop batches with kornia, blind to the class."""

import torch
from kornia.augmentation import (
    AugmentationSequential,
    ColorJiggle,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomHorizontalFlip,
    RandomJPEG,
)
from torch import nn

from training.config import AugmentConfig

SMALLEST = 0.4  # of the side, when rescaling


class Augment(nn.Module):
    """Changes crops as photos are changed on their way: camera first, then resizing, then compression.

    Args:
        config: Probabilities.
    """

    def __init__(self, config: AugmentConfig):
        super().__init__()
        self._camera = AugmentationSequential(
            RandomHorizontalFlip(p=0.5),
            ColorJiggle(0.2, 0.2, 0.2, 0.02, p=config.colour),
            RandomGaussianBlur((5, 5), (0.1, 1.5), p=config.blur),
            RandomGaussianNoise(std=0.03, p=config.noise),
            data_keys=["input"],
        )
        self._rescale = config.rescale
        self._jpeg = RandomJPEG(jpeg_quality=(50.0, 95.0), p=config.jpeg)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps float N×3×S×S in 0..1 to the same, S a multiple of 16 (JPEG's blocks with halved chroma)."""
        images = self._camera(images).clamp(0, 1)
        chosen = torch.rand(len(images)) < self._rescale
        if chosen.any():
            images[chosen] = down_up(images[chosen], float(torch.empty(()).uniform_(SMALLEST, 1)))
        return self._jpeg(images).clamp(0, 1)


def down_up(images: torch.Tensor, factor: float) -> torch.Tensor:
    """Shrinks N×3×S×S by `factor` (0..1, antialiased) and enlarges it back to S, bilinearly."""
    side = images.shape[-1]
    small = nn.functional.interpolate(images, size=max(1, round(side * factor)), mode="bilinear", antialias=True)
    return nn.functional.interpolate(small, size=side, mode="bilinear").clamp(0, 1)
