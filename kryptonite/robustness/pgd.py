"""Projected gradient descent (PGD): raise a network's output by imperceptible changes of images."""

from collections.abc import Callable

import torch

from kryptonite.core.errors import ConfigError


def pgd(
    images: torch.Tensor,
    gain: Callable[[torch.Tensor], torch.Tensor],
    epsilon: float,
    steps: int,
    seed: int | None = 0,
) -> torch.Tensor:
    """Runs projected gradient ascent on the gain within the L∞ ball around each image (Madry et al.
    2018, with their settings for CIFAR-10).

    Each step moves 2.5·epsilon/steps along the gradient's sign, so that every point of the ball is
    within reach; one step from the image itself is the fast gradient sign method (Goodfellow et al.
    2015). The ball ends at its outermost 8-bit values, so that the final rounding stays inside it
    and the result can be stored in a file.

    Args:
        images: float, N×3×S×S in 0..1.
        gain: Maps images to N scores to be raised. The score of an image must not depend on the
            others, so its networks must be in evaluation mode.
        epsilon: Largest change of a value, on the 0..1 scale.
        steps: Number of steps, at least 1.
        seed: Seeds the start, uniform in the ball; None starts from the images themselves.

    Returns:
        The changed images, detached; every value is a multiple of 1/255 and within `epsilon` of the
        original.

    Raises:
        ConfigError: There is no step, epsilon is negative, or the ball around some pixel holds no
            8-bit value, which happens only for images that are not 8-bit.
    """
    if steps < 1 or epsilon < 0:
        raise ConfigError(
            "an attack needs at least one step and an epsilon of at least 0, "
            f"got {steps} and {epsilon}"
        )
    images = images.detach()
    # In 8-bit steps; the slack admits values that lie on the grid up to floating-point error.
    slack = 1e-3
    low = torch.ceil(255 * (images - epsilon) - slack).clamp(min=0) / 255
    high = torch.floor(255 * (images + epsilon) + slack).clamp(max=255) / 255
    if (low > high).any():
        raise ConfigError(
            f"no 8-bit value lies within {epsilon:g} of some pixels: the images are not 8-bit"
        )
    changed = images
    if seed is not None:
        # Drawn on the CPU, so that the start is the same on every device.
        uniform = torch.rand(
            images.shape, generator=torch.Generator().manual_seed(seed), dtype=images.dtype
        ).to(images.device)
        changed = low + uniform * (high - low)
    for _ in range(steps):
        with torch.enable_grad():
            changed = changed.detach().requires_grad_()
            # With respect to the images only, so that no gradients accumulate in the parameters.
            (gradient,) = torch.autograd.grad(gain(changed).sum(), changed)
        changed = changed.detach() + 2.5 * epsilon / steps * gradient.sign()
        changed = torch.minimum(torch.maximum(changed, low), high)
    return (changed * 255).round() / 255
