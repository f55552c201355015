"""Similarity estimation and sampling against closed forms and OpenCV."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kryptonite.detection.warp as warp_module
from kryptonite.core.crops import CropTemplate
from kryptonite.detection.warp import ARCFACE_112, estimate_similarity, template_points, warp


@given(st.floats(-3, 3), st.floats(0.05, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_estimate_similarity_recovers_known_transform(angle, scale, x, y):
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = ARCFACE_112 @ rotation.T + [x, y]
    matrix = estimate_similarity(ARCFACE_112, moved)
    assert matrix == pytest.approx(np.hstack([rotation, [[x], [y]]]), abs=1e-3)


def test_estimate_similarity_is_least_squares_when_landmarks_are_noisy():
    noisy = ARCFACE_112 * 1.7 + 20 + np.random.default_rng(0).normal(0, 3, (5, 2))
    # A similarity is linear in (a, b, x, y): u = a·x − b·y + tx, v = b·x + a·y + ty.
    rows = np.concatenate([[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in noisy])
    a, b, tx, ty = np.linalg.lstsq(rows, ARCFACE_112.ravel(), rcond=None)[0]
    assert estimate_similarity(noisy, ARCFACE_112) == pytest.approx(
        np.array([[a, -b, tx], [b, a, ty]]), abs=1e-4
    )


def test_estimate_similarity_is_no_reflection_when_landmarks_are_mirrored():
    matrix = estimate_similarity(ARCFACE_112 * [-1, 1], ARCFACE_112)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_template_points_move_inward_when_margin_grows():
    plain, wide = template_points(CropTemplate(112)), template_points(CropTemplate(224, 0.5))
    assert plain == pytest.approx(ARCFACE_112)
    # 112 pixels plus half a side on each side make 224: the points move by 56 pixels, unscaled.
    assert wide == pytest.approx(ARCFACE_112 + 56)


def test_warp_shows_landmark_at_template_point_in_every_crop():
    image = np.zeros((200, 200, 3), np.uint8)
    points = ARCFACE_112 * 0.8 + 40
    cv2.circle(image, tuple(int(v) for v in points[2].round()), 4, (255, 255, 255), -1)
    for template in (CropTemplate(112), CropTemplate(224, 0.3)):
        crop = warp(image, estimate_similarity(points, template_points(template)), template.size)
        rows, columns = np.nonzero(crop[..., 0] > 128)
        assert [columns.mean(), rows.mean()] == pytest.approx(template_points(template)[2], abs=1)


def test_warp_equals_opencv_when_photo_is_not_shrunk():
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    matrix = np.array([[0.9, -0.2, 5], [0.2, 0.9, -3]])
    assert np.array_equal(
        warp(image, matrix, 64),
        cv2.warpAffine(image, matrix, (64, 64), borderMode=cv2.BORDER_REFLECT_101),
    )


@pytest.mark.parametrize("scale", [1 / 16, 0.2, 0.25, 0.3, 0.4, 0.45])
def test_warp_averages_when_photo_is_much_finer(scale):
    # Shrunk, a one-pixel chessboard is grey; bilinear sampling alone would pick single squares.
    board = (np.indices((513, 511)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    crop = warp(board, np.array([[scale, 0, 0], [0, scale, 0]]), 30)
    assert crop.min() > 100 and crop.max() < 155


@pytest.mark.parametrize("step", [2.1, 3, 5.3, 8, 20])
def test_warp_keeps_position_when_it_shrinks_first(step):
    ramp = np.tile(np.arange(2000)[None, :, None] / 8, (400, 1, 3)).astype(np.uint8)
    crop = warp(ramp, np.array([[1 / step, 0, 0], [0, 1 / step, 0]]), 90)
    expected = np.arange(5, 85) * step / 8 - 0.44  # of rounding down
    assert np.abs(crop[10, 5:85, 0] - expected).max() < 1


@given(st.integers(0, 2**32 - 1))
def test_warp_samples_the_same_when_it_cuts_a_window_from_a_long_photo(seed):
    generator = np.random.default_rng(seed)
    # Smooth, so that rounding a position by OpenCV's 1/32 pixel changes little.
    photo = cv2.GaussianBlur(generator.integers(0, 256, (90, 400, 3), np.uint8), (0, 0), 3)
    angle, scale = generator.uniform(-3, 3), generator.uniform(0.2, 3)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = generator.uniform(0, 1, 2) * (400, 90)
    matrix = np.hstack([rotation, 16 - rotation @ centre[:, None]])
    whole = warp(photo, matrix, 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warp_module, "_LONGEST", 1)
        assert np.abs(warp(photo, matrix, 32).astype(int) - whole).max() <= 2
