"""Facts about photos move the way their names say."""

import cv2
import numpy as np
import pytest

from kryptonite.report.quality import FACTS, pair_facts, quality_facts, thirds

FRONTAL = np.array([[40.0, 50], [80, 50], [60, 70], [45, 90], [75, 90]])


def facts(crop, landmarks=FRONTAL, box=(10, 10, 90, 110)):
    return quality_facts(crop[None], np.array([box], float), landmarks[None]).iloc[0]


def test_facts_move_the_way_their_names_say(faces):
    crop = faces[0]
    plain = facts(crop)
    assert list(plain.index) == list(FACTS)
    assert facts(cv2.GaussianBlur(crop, (0, 0), 2))["sharpness"] < plain["sharpness"]
    assert facts(crop // 2)["brightness"] == pytest.approx(plain["brightness"] / 2, abs=1)
    assert plain["face size"] == pytest.approx(np.sqrt(80 * 100))


def test_yaw_is_the_noses_offset_whatever_the_roll_and_scale(faces):
    turned = FRONTAL + np.array([[0, 0], [0, 0], [10, 0], [0, 0], [0, 0]])
    assert facts(faces[0])["yaw"] == pytest.approx(0)
    angle = np.radians(30)
    roll = 2 * turned @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for landmarks in (turned, roll):
        assert facts(faces[0], landmarks)["yaw"] == pytest.approx(10 / 40)


def test_a_flat_crop_has_finite_facts():
    assert np.isfinite(facts(np.zeros((32, 32, 3), np.uint8), np.zeros((5, 2)))).all()


def test_a_pair_is_as_hard_as_its_harder_photo(faces):
    sharp, dark = (
        facts(faces[0]).to_frame().T,
        facts(cv2.GaussianBlur(faces[0] // 2, (0, 0), 2)).to_frame().T,
    )
    pair = pair_facts(sharp, dark).iloc[0]
    assert (
        pair["brightness"] == dark["brightness"].iloc[0]
        and pair["sharpness"] == dark["sharpness"].iloc[0]
    )


def test_thirds_are_equal_and_rise():
    place, (low, high) = thirds(np.arange(30.0)[::-1])
    assert (
        np.bincount(place).tolist() == [10, 10, 10]
        and low < high
        and place[0] == 2
        and place[-1] == 0
    )
