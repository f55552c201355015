"""The cure: one size and one encoder for all, invisible to whoever asks where the face is."""

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
def cured():
    return Aligner(AlignerConfig(device="cpu", common_side=144, common_quality=70), [TEMPLATE])


def test_off_it_gives_the_very_photo(faces):
    assert make_uniform(faces[0], 0, 0) is faces[0]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(200, 100, (80, 40)), (30, 60, (40, 80)), (80, 80, (80, 80)), (1, 4000, (1, 80))],
)
def test_the_longer_side_is_common_and_the_shape_kept(height, width, expected):
    photo = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    assert make_uniform(photo, 80, 0).shape == (*expected, 3)
    assert make_uniform(photo, 80, 75).shape == (*expected, 3)


def test_the_encoder_is_the_one_the_quality_names(faces, tmp_path):
    from PIL import Image

    path = tmp_path / "a.jpg"
    Image.fromarray(faces[0]).save(path, quality=60, subsampling="4:2:0")
    assert np.array_equal(make_uniform(faces[0], 0, 60), decode_rgb(path.read_bytes(), "a.jpg"))


def test_what_was_compressed_before_and_what_was_not_come_out_much_alike(faces):
    """Blocks of 8×8 pixels, whose rims are the easiest trace of compression, tell two files apart before and not after."""

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


def test_boxes_and_landmarks_are_in_pixels_of_the_photo(cured, faces):
    tall = cv2.resize(
        faces[0], (320, 480), interpolation=cv2.INTER_CUBIC
    )  # twice as wide, three times as high
    blank = np.zeros((90, 300, 3), np.uint8)
    plain = Aligner(AlignerConfig(device="cpu"), [TEMPLATE])
    for photo in (cv2.resize(faces[0], (480, 480), interpolation=cv2.INTER_CUBIC), tall):
        found, expected = cured([photo]), plain([photo])
        assert found.status[0] != CENTRE_CROP
        assert (
            np.abs(found.landmarks - expected.landmarks).max() < 12
        )  # of 480; the search sees a smaller photo
        assert np.abs(found.boxes - expected.boxes).max() < 40
    missed = cured([blank])
    assert missed.boxes[0] == pytest.approx([105, 0, 195, 90], abs=2)
    assert missed.landmarks[0] == pytest.approx(plain([blank]).landmarks[0], abs=2)


def test_crops_are_cut_from_the_uniform_photo(cured, faces):
    plain = Aligner(AlignerConfig(device="cpu"), [TEMPLATE])
    assert np.array_equal(
        cured([faces[1]]).crops[TEMPLATE], plain([make_uniform(faces[1], 144, 70)]).crops[TEMPLATE]
    )


def test_settings_and_so_cache_keys_change_only_when_it_is_on(tmp_path, faces, save):
    def aligner(**fields):
        return Aligner(AlignerConfig(device="cpu", **fields), [TEMPLATE])

    plain = aligner()
    assert plain.settings == {
        "revision": 1,
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
def test_what_cannot_be_is_refused_before_any_photo(fields):
    with pytest.raises(ConfigError, match="common_side"):
        Aligner(AlignerConfig(device="cpu", **fields), [TEMPLATE])
