"""What is measured of one face; `tests/report/test_quality.py` holds how the facts move."""

import numpy as np
import pytest

from kryptonite.core.quality import measure_face

FRONTAL = np.array([[40.0, 50], [80, 50], [60, 70], [45, 90], [75, 90]])


def test_measure_face_gives_the_units_it_states():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    crop = np.repeat(checks[:, :, None], 3, 2).astype(np.uint8)
    face = measure_face(crop, np.array([10, 10, 50, 100]), FRONTAL)
    assert face.face_pixels == pytest.approx(60)
    assert face.brightness == pytest.approx(0.5) and face.contrast == pytest.approx(0.5)
    # Every pixel differs from its four neighbours by 255: ±1020 everywhere.
    assert face.sharpness == pytest.approx(1020**2)
    assert face.yaw == 0


def test_measure_face_is_finite_when_nothing_is_there():
    face = measure_face(np.zeros((32, 32, 3), np.uint8), np.zeros(4), np.zeros((5, 2)))
    assert vars(face) == dict.fromkeys(vars(face), 0)
