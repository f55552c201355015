"""Augmentation keeps shape and range, and can be switched off."""

import pytest
import torch

from kryptonite.nn.train.augment import Augment, down_up, webp
from kryptonite.nn.train.config import AugmentConfig

OFF = dict.fromkeys(
    ["colour", "blur", "noise", "rescale", "jpeg", "jitter", "gamma", "motion", "webp"], 0.0
)


def images(count=16):
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(count, 3, 8, 8), size=64, mode="bilinear")
    return (smooth + 0.05 * torch.rand(count, 3, 64, 64)).clamp(0, 1)


def test_augment_keeps_shape_and_range_when_all_steps_apply():
    out = Augment(AugmentConfig(**dict.fromkeys(OFF, 1.0)))(images())
    assert out.shape == (16, 3, 64, 64) and torch.isfinite(out).all()
    assert out.min() >= 0 and out.max() <= 1


def test_augment_only_mirrors_when_all_steps_are_off():
    before = images()
    after = Augment(AugmentConfig(**OFF))(before.clone())
    mirrored = [torch.allclose(a, b.flip(2), atol=1e-6) for a, b in zip(after, before, strict=True)]
    kept = [torch.allclose(a, b, atol=1e-6) for a, b in zip(after, before, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True)) and any(mirrored) and any(kept)


@pytest.mark.parametrize("step", OFF)
def test_augment_applies_each_step_at_about_its_probability(step):
    before = images(64)
    torch.manual_seed(1)
    after = Augment(AugmentConfig(**{**OFF, step: 0.5}))(before.clone())
    same = [
        min(float((a - b).abs().max()), float((a - b.flip(2)).abs().max())) < 1e-5
        for a, b in zip(after, before, strict=True)
    ]
    assert 16 <= sum(same) <= 48


def test_down_up_removes_detail_and_keeps_mean():
    picture = images(4)
    out = down_up(picture, 0.4)
    assert out.mean() == pytest.approx(float(picture.mean()), abs=0.01)
    detail = [float((each[..., 1:] - each[..., :-1]).abs().mean()) for each in (picture, out)]
    assert detail[1] < 0.8 * detail[0]
    assert torch.allclose(down_up(picture, 1.0), picture, atol=1e-5)


def test_webp_keeps_colours_and_loses_more_at_a_lower_quality():
    picture = images(4)
    picture[:, 0] = 0.9  # red, which swapped channels would turn blue
    picture[:, 2] *= 0.2
    torch.manual_seed(0)
    losses = [float((webp(picture, quality) - picture).abs().mean()) for quality in (95, 10)]
    assert losses[0] < 0.02 and losses[0] < losses[1]
    assert torch.allclose(webp(picture, 95).mean((2, 3)), picture.mean((2, 3)), atol=0.02)
