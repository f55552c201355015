"""White-box attacks: what a network can be made to say by changes too small to see."""

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
    """Projected gradient ascent on the gain within the L∞ ball around each image (Madry et al. 2018, as they do on CIFAR-10).

    Each step goes 2.5·epsilon/steps along the gradient's sign, so that the rim can be reached from anywhere in the ball; one step from the
    image itself is the fast gradient sign method (Goodfellow et al. 2015). The ball is taken to end at its outermost 8-bit values, so that
    the rounding at the end does not leave it: what is scored is what a file could hold.

    Args:
        images: float, N×3×S×S in 0..1.
        gain: Gives each image's score to be raised, N; the score of an image hangs on no other. Its networks are in evaluation mode.
        epsilon: Largest change of a value, on the 0..1 scale.
        steps: At least 1.
        seed: Of the start, drawn evenly from the ball; None starts from the images themselves.

    Returns:
        Changed images, detached; every value is a multiple of 1/255, at most `epsilon` from where it was.

    Raises:
        ConfigError: Fewer than one step, a negative epsilon, or a ball without an 8-bit value, which only images that are not 8-bit have.
    """
    if steps < 1 or epsilon < 0:
        raise ConfigError(
            f"an attack takes at least one step and an epsilon of at least 0, got {steps} and {epsilon}"
        )
    images = images.detach()
    # In 8-bit steps; the slack lets values through that are on the grid but for the rounding of floats.
    slack = 1e-3
    low = torch.ceil(255 * (images - epsilon) - slack).clamp(min=0) / 255
    high = torch.floor(255 * (images + epsilon) + slack).clamp(max=255) / 255
    if (low > high).any():
        raise ConfigError(
            f"no 8-bit value lies within {epsilon:g} of some pixels: the images do not come from 8 bits"
        )
    changed = images
    if seed is not None:
        # Drawn on the CPU, so that the start is the same on every device.
        share = torch.rand(
            images.shape, generator=torch.Generator().manual_seed(seed), dtype=images.dtype
        ).to(images.device)
        changed = low + share * (high - low)
    for _ in range(steps):
        with torch.enable_grad():
            changed = changed.detach().requires_grad_()
            # Asked for the images alone, autograd leaves nothing behind in the parameters.
            (gradient,) = torch.autograd.grad(gain(changed).sum(), changed)
        changed = changed.detach() + 2.5 * epsilon / steps * gradient.sign()
        changed = torch.minimum(torch.maximum(changed, low), high)
    return (changed * 255).round() / 255
