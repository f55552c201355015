"""Common size and compression: same for all photos, and invisible in reported positions."""

import cv2
import numpy as np
import pytest

from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import ConfigError
from kryptonite.core.images import decode_rgb
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.detection.uniform import make_uniform

TEMPLATE = CropTemplate(112)


@pytest.fixture(scope="module")
def uniform_aligner():
    return Aligner(AlignerConfig(device="cpu", common_side=144, common_quality=70), [TEMPLATE])


def test_make_uniform_returns_same_photo_when_off(faces):
    assert make_uniform(faces[0], 0, 0) is faces[0]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(200, 100, (80, 40)), (30, 60, (40, 80)), (80, 80, (80, 80)), (1, 4000, (1, 80))],
)
def test_make_uniform_sets_longer_side_and_keeps_aspect_ratio(height, width, expected):
    photo = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    assert make_uniform(photo, 80, 0).shape == (*expected, 3)
    assert make_uniform(photo, 80, 75).shape == (*expected, 3)


def test_make_uniform_equals_jpeg_of_given_quality(faces, tmp_path):
    from PIL import Image

    path = tmp_path / "a.jpg"
    Image.fromarray(faces[0]).save(path, quality=60, subsampling="4:2:0")
    assert np.array_equal(make_uniform(faces[0], 0, 60), decode_rgb(path.read_bytes(), "a.jpg"))


def test_make_uniform_reduces_blockiness_gap_between_compressed_and_uncompressed(faces):
    """The edges of 8×8 blocks, the easiest trace of compression, give files away before only."""

    def blockiness(photo):
        steps = np.abs(np.diff(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(float), axis=1)).mean(
            0
        )
        return steps[7::8].mean() / steps.mean()

    def gap(first, second):
        return abs(
            np.mean([blockiness(photo) for photo in first])
            - np.mean([blockiness(photo) for photo in second])
        )

    fine, coarse = ([make_uniform(face, 0, quality) for face in faces] for quality in (95, 40))
    assert gap(fine, coarse) > 0.2
    assert (
        gap(*([make_uniform(photo, 144, 40) for photo in photos] for photos in (fine, coarse)))
        < 0.1
    )


def test_aligner_reports_pixels_of_photo_when_common_size_is_set(uniform_aligner, faces):
    # Twice as wide, three times as high.
    tall = cv2.resize(faces[0], (320, 480), interpolation=cv2.INTER_CUBIC)
    blank = np.zeros((90, 300, 3), np.uint8)
    plain = Aligner(AlignerConfig(device="cpu"), [TEMPLATE])
    for photo in (cv2.resize(faces[0], (480, 480), interpolation=cv2.INTER_CUBIC), tall):
        found, expected = uniform_aligner([photo]), plain([photo])
        assert found.status[0] != CENTRE_CROP
        # Within 12 of 480 pixels: the search runs on a smaller photo.
        assert np.abs(found.landmarks - expected.landmarks).max() < 12
        assert np.abs(found.boxes - expected.boxes).max() < 40
    missed = uniform_aligner([blank])
    assert missed.boxes[0] == pytest.approx([105, 0, 195, 90], abs=2)
    assert missed.landmarks[0] == pytest.approx(plain([blank]).landmarks[0], abs=2)


def test_aligner_cuts_crops_from_uniform_photo(uniform_aligner, faces):
    plain = Aligner(AlignerConfig(device="cpu"), [TEMPLATE])
    assert np.array_equal(
        uniform_aligner([faces[1]]).crops[TEMPLATE],
        plain([make_uniform(faces[1], 144, 70)]).crops[TEMPLATE],
    )


def test_aligner_settings_and_cache_keys_change_only_when_common_is_on(tmp_path, faces, save):
    def aligner(**fields):
        return Aligner(AlignerConfig(device="cpu", **fields), [TEMPLATE])

    plain = aligner()
    assert plain.settings == {
        "revision": 2,
        "min_face": [40, 20],
        "pad": 0.5,
        "search_side": 640,
        "templates": ["arcface5-112-m0"],
    }
    assert (
        len(
            {
                str(each.settings)
                for each in (
                    plain,
                    aligner(common_side=144),
                    aligner(common_quality=70),
                    aligner(common_side=70),
                )
            }
        )
        == 4
    )
    photo = str(save(tmp_path / "a.png", faces[0]))
    keys = {
        FaceCache(tmp_path / "cache", each).ensure([photo])["key"][0]
        for each in (plain, aligner(common_quality=70))
    }
    assert len(keys) == 2


@pytest.mark.parametrize(
    "fields", [{"common_side": -1}, {"common_quality": -1}, {"common_quality": 101}]
)
def test_aligner_refuses_common_settings_when_out_of_range(fields):
    with pytest.raises(ConfigError, match="common_side"):
        Aligner(AlignerConfig(device="cpu", **fields), [TEMPLATE])
