"""Corruptions: batches, severities, positions and lengths; codecs against Pillow."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import ConfigError, InputContractError
from kryptonite.detection.warp import template_points
from kryptonite.robustness import corruptions
from kryptonite.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt

SIDE = 112
LANDMARKS = template_points(CropTemplate(SIDE))
EYE_DISTANCE = float(np.linalg.norm(LANDMARKS[1] - LANDMARKS[0]))
RANDOM = {
    "jpeg_twice",
    "motion_blur",
    "noise",
    "gamma",
    "colour_shift",
    "rotation",
    "mask",
    "moire",
}
KEYS = [f"key {number}" for number in range(6)]


@pytest.fixture(scope="module")
def crops(faces):
    """Four faces, noise, and a flat grey, on which codecs round ties: uint8, 6×112×112×3."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return np.stack(
        [
            *(cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for face in faces[:4]),
            noise,
            np.full_like(noise, 100),
        ]
    )


def _distance(one, other):
    return np.abs(one.astype(float) - other).mean((1, 2, 3))


def _flat(grey=100):
    return np.full((1, SIDE, SIDE, 3), grey, np.uint8)


def _dot(row, column, side=SIDE):
    image = np.zeros((1, side, side, 3), np.uint8)
    image[:, row - 1 : row + 2, column - 1 : column + 2] = 255
    return image


def _at(image, point):
    return image[round(float(point[1])), round(float(point[0]))].astype(int)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupt_gives_the_same_image_in_every_batch(name, crops):
    before = crops.copy()
    together = corrupt(name, 2, crops, LANDMARKS, KEYS)
    assert (together.dtype, together.shape) == (np.uint8, crops.shape)
    assert (crops == before).all()
    order = [3, 5, 0, 4, 1, 2]
    assert (
        corrupt(name, 2, crops[order], LANDMARKS, [KEYS[row] for row in order]) == together[order]
    ).all()
    assert all(
        (
            corrupt(name, 2, crops[row : row + 1], LANDMARKS, KEYS[row : row + 1])[0]
            == together[row]
        ).all()
        for row in range(6)
    )
    assert corrupt(name, 2, crops[:0], LANDMARKS, []).shape == (0, SIDE, SIDE, 3)


def test_corrupt_gives_the_same_images_when_chunks_are_small(crops, monkeypatch):
    together = corrupt("noise", 2, crops, LANDMARKS, KEYS)
    monkeypatch.setattr(corruptions, "CHUNK", 4)
    assert (corrupt("noise", 2, crops, LANDMARKS, KEYS) == together).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupt_differs_by_key_when_corruption_is_random(name, crops):
    copies = np.repeat(crops[:1], 6, axis=0)
    corrupted = corrupt(name, 2, copies, LANDMARKS, KEYS)
    assert (corrupted != corrupted[:1]).any() == (name in RANDOM)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupt_moves_farther_from_the_original_when_severity_rises(name, crops):
    distances = [
        _distance(corrupt(name, severity, crops[:4], LANDMARKS, KEYS[:4]), crops[:4])
        for severity in SEVERITIES
    ]
    assert (distances[0] > 0.5).all()
    assert (np.diff(distances, axis=0) > 0).all()
    assert (distances[2] < 100).all()


@pytest.mark.parametrize(
    "name", ["gaussian_blur", "motion_blur", "rescale", "rotation", "mask", "glasses_bar", "moire"]
)
def test_corrupt_scales_with_the_crop(name, crops):
    small = np.stack([cv2.GaussianBlur(crop, (0, 0), 1) for crop in crops[:4]])
    large = np.stack(
        [cv2.resize(crop, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_CUBIC) for crop in small]
    )
    expected = corrupt(name, 3, small, LANDMARKS, KEYS[:4])
    shrunk = [
        cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        for crop in corrupt(name, 3, large, 2 * LANDMARKS + 0.5, KEYS[:4])
    ]
    assert (_distance(np.stack(shrunk), expected) < 0.2 * _distance(expected, small)).all()


def test_corrupt_covers_mouth_or_eyes_when_landmarks_move(crops):
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 20, 0.8)
    for landmarks in (LANDMARKS, LANDMARKS @ turn[:, :2].T + turn[:, 2]):
        for severity in SEVERITIES:
            masked, barred = (
                corrupt(name, severity, crops[:1], landmarks, KEYS[:1])[0]
                for name in ("mask", "glasses_bar")
            )
            for eye in landmarks[:2]:
                assert (_at(masked, eye) == _at(crops[0], eye)).all()
                assert (_at(barred, eye) == 0).all()
            colour = _at(masked, landmarks[3:].mean(0))
            for corner in landmarks[3:]:
                assert (_at(masked, corner) == colour).all()
                assert (_at(barred, corner) == _at(crops[0], corner)).all()
            # Only the mildest mask ends below the tip of the nose; the bar leaves it bare.
            assert (_at(masked, landmarks[2]) == colour).all() == (severity > 1)
            assert (_at(barred, landmarks[2]) == _at(crops[0], landmarks[2])).all()


def test_corrupt_rotates_by_the_angle_about_the_centre():
    across = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2))
    rings = np.repeat(
        (127 + 100 * np.cos(across / 6)).astype(np.uint8)[None, :, :, None], 3, axis=3
    )
    for severity, degrees in zip(SEVERITIES, CORRUPTIONS["rotation"].levels, strict=True):
        turned = corrupt("rotation", severity, rings, LANDMARKS, ["a"])
        assert np.abs(turned.astype(int) - rings)[0, across < 50].max() <= 4
        ways = []
        for key in KEYS:
            dot = corrupt("rotation", severity, _dot(SIDE // 2, 90), LANDMARKS, [key])[
                0, :, :, 0
            ].astype(float)
            row, column = (np.mgrid[:SIDE, :SIDE] * dot).sum((1, 2)) / dot.sum() - (SIDE - 1) / 2
            ways.append(np.degrees(np.arctan2(row - 0.5, column)))
        assert np.abs(ways) == pytest.approx(degrees, abs=1)
        assert min(ways) < 0 < max(ways)


@pytest.mark.parametrize("scale", [1, 1.5])
def test_corrupt_blurs_by_the_length_of_its_level(scale):
    side = 201
    landmarks = LANDMARKS * scale
    for level, severity in zip(CORRUPTIONS["gaussian_blur"].levels, SEVERITIES, strict=True):
        edge = np.zeros((1, side, side, 3), np.uint8)
        edge[:, :, side // 2 :] = 255
        slope = np.diff(
            corrupt("gaussian_blur", severity, edge, landmarks, ["a"])[0, side // 2, :, 0].astype(
                float
            )
        )
        place = np.arange(side - 1)
        spread = np.sqrt(
            (slope * place**2).sum() / slope.sum() - ((slope * place).sum() / slope.sum()) ** 2
        )
        assert spread == pytest.approx(level * scale * EYE_DISTANCE, rel=0.06)
    for level, severity in zip(CORRUPTIONS["motion_blur"].levels, SEVERITIES, strict=True):
        streak = corrupt("motion_blur", severity, _dot(100, 100, side), landmarks, ["a"])[
            0, :, :, 0
        ].astype(float)
        points = np.argwhere(streak > 0)
        variance = np.linalg.eigvalsh(np.cov(points.T, aweights=streak[streak > 0]))
        assert np.sqrt(12 * variance[1]) == pytest.approx(
            level * scale * EYE_DISTANCE, abs=2.5
        )  # of an even distribution; the dot has a size
        assert variance[0] < 3


def test_corrupt_matches_values_by_hand_when_changing_light():
    for name in ("brighter", "darker"):
        for level, severity in zip(CORRUPTIONS[name].levels, SEVERITIES, strict=True):
            assert (corrupt(name, severity, _flat(), LANDMARKS, ["a"]) == round(100 * level)).all()
    halves = np.concatenate([_flat(60)[:, :56], _flat(140)[:, :56]], axis=1)
    assert set(np.unique(corrupt("contrast", 1, halves, LANDMARKS, ["a"]))) == {
        76,
        124,
    }  # 100 ± 0.6·40
    curved = {int(corrupt("gamma", 2, _flat(), LANDMARKS, [key])[0, 0, 0, 0]) for key in KEYS}
    assert curved == {round(255 * (100 / 255) ** exponent) for exponent in (2, 0.5)}
    for key in KEYS:
        gains = corrupt("colour_shift", 3, _flat(), LANDMARKS, [key])[0, 0, 0] / 100
        assert np.abs(np.log(gains)).max() == pytest.approx(
            CORRUPTIONS["colour_shift"].levels[2], abs=0.01
        )
        assert np.log(gains).sum() == pytest.approx(0, abs=0.02)
    for level, severity in zip(CORRUPTIONS["noise"].levels, SEVERITIES, strict=True):
        noisy = corrupt("noise", severity, _flat(128), LANDMARKS, ["a"])
        assert noisy.std() == pytest.approx(level, rel=0.03)
        assert noisy.mean() == pytest.approx(128, abs=1)


def test_corrupt_adds_slow_coloured_bands_and_fine_lines_when_moire():
    side = 224
    landmarks = 2 * LANDMARKS
    flat = np.full((1, side, side, 3), 128, np.uint8)
    pattern = corrupt("moire", 2, flat, landmarks, ["a"])[0].astype(float)
    slow = np.stack(
        [cv2.GaussianBlur(channel, (0, 0), 4) for channel in np.moveaxis(pattern, 2, 0)]
    )
    assert slow.std((1, 2)).min() > 4
    assert (
        np.corrcoef(slow.reshape(3, -1))[np.triu_indices(3, 1)].max() < 0.6
    )  # the channels' bands lie apart
    spectrum = np.abs(
        np.fft.rfft(np.hanning(side) * (pattern - slow.transpose(1, 2, 0)).mean(2), axis=1)
    ).mean(0)
    period = side / (spectrum[20:].argmax() + 20)
    assert period == pytest.approx(2 * EYE_DISTANCE / 14, rel=0.15)


def _through(pixels, form, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return np.asarray(Image.open(stream).convert("RGB")), stream.tell()


def test_corrupt_is_close_to_pillow_when_jpeg(crops):
    for quality, severity in zip(CORRUPTIONS["jpeg"].levels, SEVERITIES, strict=True):
        theirs = np.stack([_through(crop, "JPEG", quality=int(quality))[0] for crop in crops[:4]])
        ours = corrupt("jpeg", severity, crops[:4], LANDMARKS, KEYS[:4])
        assert (_distance(ours, theirs) < 0.6 * _distance(theirs, crops[:4])).all()


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_corrupt_shrinks_the_file_when_codec_severity_rises(name, crops):
    stages = [
        crops[:4],
        *(corrupt(name, severity, crops[:4], LANDMARKS, KEYS[:4]) for severity in SEVERITIES),
    ]
    sizes = np.array(
        [[_through(crop, "JPEG", quality=90)[1] for crop in stage] for stage in stages]
    )
    assert (np.diff(sizes, axis=0) < 0).all()


def test_corrupt_moves_the_blocks_when_jpeg_twice(crops):
    def blockiness(images):
        steps = np.abs(np.diff(images.astype(float), axis=2)).mean((0, 1, 3))
        return steps[7::8].mean() / np.delete(steps, np.s_[7::8]).mean()

    once, twice = (
        corrupt(name, 3, crops[:4], LANDMARKS, KEYS[:4]) for name in ("jpeg", "jpeg_twice")
    )
    assert blockiness(once) > 2 > 1.3 > blockiness(twice)
    assert (_distance(twice, crops[:4]) > _distance(once, crops[:4])).all()


def test_corrupt_keeps_the_shape_when_sides_are_no_multiple_of_the_block(crops):
    for name in ("jpeg", "jpeg_twice", "webp"):
        cut = corrupt(name, 1, crops[:2, :99, :99], LANDMARKS, KEYS[:2])
        assert cut.shape == (2, 99, 99, 3)
        assert (_distance(cut, crops[:2, :99, :99]) < 15).all()


def test_corruption_magnitudes_differ_by_severity():
    for corruption in CORRUPTIONS.values():
        assert len(set(corruption.magnitudes)) == len(SEVERITIES)
        assert "\n" not in corruption.text
    assert CORRUPTIONS["jpeg"].magnitudes == ("quality 50", "quality 25", "quality 10")


@pytest.mark.parametrize(
    ("name", "severity", "side", "keys", "error", "message"),
    [
        ("rain", 1, SIDE, 1, ConfigError, "unknown corruption 'rain'; there are jpeg, "),
        ("jpeg", 4, SIDE, 1, ConfigError, "severity 4; there are 1, 2, 3"),
        ("jpeg", 0, SIDE, 1, ConfigError, "severity 0"),
        ("jpeg", 1, SIDE - 1, 1, InputContractError, "uint8 N×S×S×3"),
        ("jpeg", 1, SIDE, 2, InputContractError, "1 crops need as many keys, got 2"),
    ],
)
def test_corrupt_raises_when_arguments_are_invalid(name, severity, side, keys, error, message):
    with pytest.raises(error, match=message):
        corrupt(name, severity, np.zeros((1, SIDE, side, 3), np.uint8), LANDMARKS, KEYS[:keys])
