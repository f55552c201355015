"""Forgeries change the face and nothing else, and leave the traces they should."""

import numpy as np
import pytest

from kryptonite.data.forgery import (
    FORGERIES,
    face_mask,
    face_swap,
    match_colour,
    resynthesise,
    self_blend,
)

POINTS = np.array([[58.0, 66], [102, 64], [80, 88], [62, 110], [100, 109]])


def forge(kind, photo, other, seed=0):
    generator = np.random.default_rng(seed)
    if kind == "face_swap":
        return face_swap(photo, POINTS, other, POINTS + 3)
    return (self_blend if kind == "self_blend" else resynthesise)(photo, POINTS, generator)


@pytest.mark.parametrize("kind", FORGERIES)
def test_forgery_changes_the_face_and_leaves_the_rest(kind, faces):
    forged = forge(kind, faces[0], faces[1])
    assert forged.shape == faces[0].shape and forged.dtype == np.uint8
    change = np.abs(forged.astype(int) - faces[0]).mean(2)
    inside = face_mask(POINTS, *faces[0].shape[:2], 0.7) > 0
    outside = face_mask(POINTS, *faces[0].shape[:2], 1.6) == 0
    assert change[inside].mean() > 2
    assert change[outside].mean() < 0.2


def test_face_swap_shows_the_donor_in_the_photos_colours(faces):
    donor = faces[1] // 2  # taken in the dark
    swapped = face_swap(faces[0], POINTS, donor, POINTS)
    inside = face_mask(POINTS, *faces[0].shape[:2], 0.8) > 0

    def likeness(a, b):
        return np.corrcoef(a.mean(2)[inside], b.mean(2)[inside])[0, 1]

    assert likeness(swapped, donor) > likeness(swapped, faces[0])
    gap = [
        np.abs(each[inside].mean(0) - faces[0][inside].mean(0)).max() for each in (swapped, donor)
    ]
    assert gap[0] < 0.5 * gap[1]


def test_match_colour_matches_within_the_mask(faces):
    mask = face_mask(POINTS, *faces[0].shape[:2])
    matched = match_colour(faces[1], faces[0], mask)
    gap = [
        np.abs(each[mask > 0].mean(0) - faces[0][mask > 0].mean(0)).max()
        for each in (faces[1], matched)
    ]
    assert gap[1] < 4 or gap[1] < 0.3 * gap[0]


def test_resynthesise_leaves_a_periodic_trace(faces):
    photo = faces[0]
    forged = resynthesise(photo, POINTS, np.random.default_rng(1))

    def peak(image):
        patch = image[60:120, 50:110].mean(2)
        spectrum = np.abs(np.fft.rfft2(patch - patch.mean()))
        return max(spectrum[0, 60 // stride] / (np.median(spectrum) + 1e-9) for stride in (5, 6))

    assert peak(forged) > 3 * peak(photo)


def test_forgery_depends_on_the_generator_alone(faces):
    for kind in ("self_blend", "resynthesis"):
        assert np.array_equal(forge(kind, faces[0], None, 3), forge(kind, faces[0], None, 3))
        assert not np.array_equal(forge(kind, faces[0], None, 3), forge(kind, faces[0], None, 4))
