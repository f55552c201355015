"""Quality facts of photos and pairs."""

import cv2
import numpy as np
import pytest

from kryptonite.report.quality import FACTS, pair_facts, quality_facts, thirds

FRONTAL = np.array([[40.0, 50], [80, 50], [60, 70], [45, 90], [75, 90]])


def facts(crop, landmarks=FRONTAL, box=(10, 10, 90, 110)):
    return quality_facts(crop[None], np.array([box], float), landmarks[None]).iloc[0]


def test_quality_facts_change_as_their_names_say(faces):
    crop = faces[0]
    plain = facts(crop)
    assert list(plain.index) == list(FACTS)
    assert facts(cv2.GaussianBlur(crop, (0, 0), 2))["sharpness"] < plain["sharpness"]
    assert facts(crop // 2)["brightness"] == pytest.approx(plain["brightness"] / 2, abs=1)
    assert plain["face size"] == pytest.approx(np.sqrt(80 * 100))


def test_quality_facts_measure_yaw_when_face_is_rolled_and_scaled(faces):
    turned = FRONTAL + np.array([[0, 0], [0, 0], [10, 0], [0, 0], [0, 0]])
    assert facts(faces[0])["yaw"] == pytest.approx(0)
    angle = np.radians(30)
    roll = 2 * turned @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for landmarks in (turned, roll):
        assert facts(faces[0], landmarks)["yaw"] == pytest.approx(10 / 40)


def test_quality_facts_are_finite_when_crop_is_flat():
    assert np.isfinite(facts(np.zeros((32, 32, 3), np.uint8), np.zeros((5, 2)))).all()


def test_pair_facts_take_the_harder_photo(faces):
    sharp = facts(faces[0]).to_frame().T
    dark = facts(cv2.GaussianBlur(faces[0] // 2, (0, 0), 2)).to_frame().T
    dark["yaw"] = sharp["yaw"] + 0.1
    for pair in (pair_facts(sharp, dark).iloc[0], pair_facts(dark, sharp).iloc[0]):
        for fact in ("brightness", "sharpness", "yaw"):
            assert pair[fact] == dark[fact].iloc[0] != sharp[fact].iloc[0]


def test_thirds_split_values_into_equal_rising_groups():
    values = np.arange(30.0)[::-1]
    group, (low, high) = thirds(values)
    assert group.tolist() == [2] * 10 + [1] * 10 + [0] * 10
    assert values[19] > low > values[20] and values[9] > high > values[10]
