"""Projected gradient ascent: its bounds, its gain, and what it leaves unchanged."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from kryptonite.core.errors import ConfigError
from kryptonite.robustness.pgd import pgd

STEP = 1 / 255


@pytest.fixture
def network():
    """A small convolutional network that maps N×3×S×S to N."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 8, 3, stride=2),
        nn.SiLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.SiLU(),
        nn.Flatten(),
        nn.LazyLinear(1),
        nn.Flatten(0),
    )
    network = nn.Sequential(*layers).eval()
    network(torch.zeros(1, 3, 16, 16))
    return network


@pytest.fixture
def images():
    """8-bit images that contain black and white: 5×3×16×16 in 0..1."""
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(5, 3, 16, 16, generator=generator) * 1.2 - 0.1).clamp(0, 1).mul(
        255
    ).round() / 255


@pytest.mark.parametrize("epsilon", [1 * STEP, 4 * STEP, 2.6 * STEP, 0.0, 2.0])
@pytest.mark.parametrize("seed", [None, 0])
def test_pgd_stays_in_the_ball_on_8_bit_values(network, images, epsilon, seed):
    attacked = pgd(images, network, epsilon, 4, seed)
    levels = attacked * 255
    assert attacked.shape == images.shape and not attacked.requires_grad
    assert (attacked - images).abs().max() <= epsilon + 1e-6
    assert attacked.min() >= 0 and attacked.max() <= 1
    assert torch.equal(levels.round().byte().float() / 255, attacked)
    if epsilon == 2.6 * STEP:  # rounding to the nearest value would leave the ball
        assert ((attacked - images) * 255).round().abs().max() == 2


def test_pgd_gains_more_when_epsilon_or_steps_grow(network, images):
    scores = [network(images)] + [
        network(pgd(images, network, epsilon * STEP, 10)) for epsilon in (1, 2, 4, 8)
    ]
    assert all((higher > lower).all() for lower, higher in pairwise(scores))
    assert (
        network(pgd(images, network, 4 * STEP, 20)).sum()
        >= network(pgd(images, network, 4 * STEP, 1, None)).sum()
    )


def test_pgd_is_the_fast_gradient_sign_method_when_one_step(network, images):
    leaf = images.clone().requires_grad_()
    network(leaf).sum().backward()
    expected = (images + 3 * STEP * leaf.grad.sign()).clamp(0, 1)
    assert torch.allclose(pgd(images, network, 3 * STEP, 1, None), expected, atol=1e-6)


def test_pgd_reaches_the_corner_of_the_ball_when_gain_is_linear(images):
    weights = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(2))
    attacked = pgd(images, lambda x: (x * weights).sum((1, 2, 3)), 4 * STEP, 10)
    assert torch.allclose(attacked, (images + 4 * STEP * weights.sign()).clamp(0, 1), atol=1e-6)


def test_pgd_treats_images_independently(network, images):
    assert torch.equal(
        pgd(images, network, 4 * STEP, 1, None)[2:3], pgd(images[2:3], network, 4 * STEP, 1, None)
    )


def test_pgd_repeats_when_seed_is_the_same(network, images):
    first, again, other = (pgd(images, network, 4 * STEP, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_pgd_leaves_parameters_and_images_unchanged(network, images):
    network[0].weight.requires_grad_(False)
    network[2].weight.grad = torch.ones_like(network[2].weight)
    wanted = [parameter.requires_grad for parameter in network.parameters()]
    before, weights = (
        images.clone(),
        [parameter.detach().clone() for parameter in network.parameters()],
    )
    with torch.no_grad():  # as evaluation runs
        assert network(pgd(images, network, 4 * STEP, 3)).sum() > network(images).sum()
        assert not torch.is_grad_enabled()
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted
    assert [parameter.grad is None for parameter in network.parameters()] == [
        name != "2.weight" for name, _ in network.named_parameters()
    ]
    assert (network[2].weight.grad == 1).all()
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), weights, strict=True))
    assert torch.equal(images, before) and not images.requires_grad


@pytest.mark.parametrize(("epsilon", "steps"), [(-STEP, 1), (STEP, 0)])
def test_pgd_raises_when_epsilon_or_steps_are_invalid(network, images, epsilon, steps):
    with pytest.raises(ConfigError, match="at least"):
        pgd(images, network, epsilon, steps)


def test_pgd_raises_when_no_8_bit_value_is_in_reach(network, images):
    with pytest.raises(ConfigError, match="8-bit"):
        pgd(images * 0.9 + 0.5 * STEP, network, 0.1 * STEP, 1)
