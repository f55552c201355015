"""The aligner on generated faces: any sizes, no face, several faces, tight crops.

Batches include the cases on which facenet-pytorch's own loop fails.
"""

import cv2
import numpy as np
import pytest

import kryptonite.detection.aligner as aligner_module
from kryptonite.core.crops import CropTemplate
from kryptonite.detection.aligner import Aligner, AlignerConfig, choose_face, settled
from kryptonite.detection.faces import CENTRE_CROP, FOUND, FOUND_PADDED, FOUND_SMALL
from kryptonite.detection.warp import template_points

RECOGNITION, LIVENESS = CropTemplate(112), CropTemplate(160, 0.3)


@pytest.fixture(scope="module")
def aligner():
    return Aligner(AlignerConfig(device="cpu"), [RECOGNITION, LIVENESS])


def scene(face, height=400, width=500, at=(120, 170)):
    picture = np.full((height, width, 3), 90, np.uint8)
    picture[at[0] : at[0] + face.shape[0], at[1] : at[1] + face.shape[1]] = face
    return picture


def test_aligner_aligns_images_of_any_size_in_one_batch(aligner, faces):
    blank = np.zeros((120, 90, 3), np.uint8)
    images = [
        faces[0],
        scene(faces[1]),
        blank,
        faces[2],
        np.zeros((7, 5, 3), np.uint8),
        scene(faces[3], 1500, 900),
    ]
    result = aligner(images)
    assert result.status[2] == result.status[4] == CENTRE_CROP
    assert all(result.status[row] != CENTRE_CROP for row in (0, 1, 3, 5))
    for template in (RECOGNITION, LIVENESS):
        crops = result.crops_for(template)
        assert (
            crops.pixels.shape == (6, template.size, template.size, 3)
            and crops.pixels.dtype == np.uint8
        )
    assert result.landmarks.shape == (6, 5, 2) and result.boxes.shape == (6, 4)
    assert (result.confidence[[2, 4]] == 0).all() and (result.confidence[[0, 1, 3, 5]] > 0.6).all()


def test_aligner_gives_same_face_in_any_batch(aligner, faces):
    together, alone = aligner([*faces, scene(faces[0])]), aligner([faces[5]])
    assert together.status[5] == alone.status[0]
    assert together.landmarks[5] == pytest.approx(alone.landmarks[0], abs=0.05)


def test_aligner_cuts_same_crops_in_any_batch_though_landmarks_differ_by_rounding(aligner, faces):
    alone = [aligner([face]) for face in faces]
    together = aligner(faces)
    same = [
        np.array_equal(together.crops[RECOGNITION][row], each.crops[RECOGNITION][0])
        for row, each in enumerate(alone)
    ]
    assert np.mean(same) > 0.8  # a landmark may lie where rounding up and down meet
    assert np.array_equal(settled(together.landmarks), together.landmarks)


def test_settled_rounds_to_parts_of_a_pixel_and_leaves_none_further_than_half_of_one():
    points = np.random.default_rng(0).uniform(-50, 9000, (40, 5, 2)).astype(np.float32)
    rounded = settled(points)
    assert rounded.dtype == np.float32 and np.abs(rounded - points).max() <= 1 / 64
    assert np.array_equal(rounded * 32, np.rint(rounded * 32))


def test_aligner_gives_empty_result_when_batch_is_empty(aligner):
    result = aligner([])
    assert result.crops_for(RECOGNITION).pixels.shape == (0, 112, 112, 3) and result.status == []


def test_aligner_puts_landmarks_on_template(aligner, faces):
    moved = aligner([scene(faces[0])])
    again = aligner([scene(moved.crops[LIVENESS][0], at=(100, 100))])
    found = again.landmarks[0] - 100
    # MTCNN finds the landmarks on the crop where the template put them: within 8 of 160 pixels.
    assert np.abs(found - template_points(LIVENESS)).max() < 8


def test_aligner_landmarks_follow_face_when_it_moves(aligner, faces):
    near, far = aligner([scene(faces[0], at=(20, 30))]), aligner([scene(faces[0], at=(220, 300))])
    assert far.landmarks[0] - near.landmarks[0] == pytest.approx(
        np.tile([270.0, 200.0], (5, 1)), abs=6
    )


def test_choose_face_prefers_central_face_when_bystander_is_larger():
    boxes = np.array([[180, 130, 320, 270], [0, 0, 160, 160]], float)  # the second is larger
    assert choose_face(boxes, (400, 500)) == 0
    assert choose_face(boxes[::-1], (400, 500)) == 1
    # A tiny face in the very middle loses to a much larger one close to it.
    tiny_and_large = np.array([[245, 195, 255, 205], [160, 120, 320, 280]], float)
    assert choose_face(tiny_and_large, (400, 500)) == 1


def test_choose_face_gives_none_when_skipped_face_could_be_preferred():
    beside = np.array([[60, 120, 220, 280]], float)  # left of the middle
    assert choose_face(beside, (400, 500), skipped_side=20) == 0
    # A face of 80 pixels in the middle would have more merit.
    assert choose_face(beside, (400, 500), skipped_side=80) is None
    middle = np.array([[130, 80, 370, 320]], float)
    assert choose_face(middle, (400, 500), skipped_side=120) == 0  # no room left in the middle
    # Too close to the size that was skipped.
    assert choose_face(middle, (400, 500), skipped_side=150) is None


def test_aligner_finds_same_faces_when_finest_levels_are_skipped(aligner, faces, monkeypatch):
    pictures = []
    # From below the size that is skipped at 420 pixels to the whole picture.
    for size in (60, 90, 120, 160, 220, 300, 400):
        face = cv2.resize(faces[size % 8], (size, size))
        alone = np.full((420, 440, 3), 90, np.uint8)
        alone[10 : 10 + size, 20 : 20 + size] = face
        beside = np.full((420, 700, 3), 90, np.uint8)
        beside[170:250, 310:390] = cv2.resize(faces[1], (80, 80))  # the subject, in the middle
        edge = min(size, 300)
        beside[60 : 60 + edge, :edge] = cv2.resize(face, (edge, edge))
        pictures += [alone, beside]
    fast = aligner([*pictures, *faces])
    skipped = []
    call = aligner._cascade.__call__
    monkeypatch.setattr(
        type(aligner._cascade),
        "__call__",
        lambda self, *args: skipped.append(args[2]) or call(*args),
    )
    aligner([*pictures, *faces])
    assert max(skipped) >= 2  # levels were skipped
    monkeypatch.setattr(aligner_module, "_LARGE", 0.01)
    skipped.clear()
    slow = aligner([*pictures, *faces])
    assert max(skipped) == 0
    assert slow.status == fast.status
    assert slow.landmarks == pytest.approx(fast.landmarks, abs=1e-3)
    assert slow.boxes == pytest.approx(fast.boxes, abs=1e-3)


def test_aligner_cuts_central_face_when_there_are_several(aligner, faces):
    picture = scene(faces[0], at=(120, 170))
    picture[0:160, 0:160] = faces[1]
    box = aligner([picture]).boxes[0]
    assert 170 <= (box[0] + box[2]) / 2 <= 330 and 120 <= (box[1] + box[3]) / 2 <= 280


def test_aligner_finds_small_face_in_second_pass(faces):
    small = scene(
        cv2.resize(faces[0], (56, 56), interpolation=cv2.INTER_AREA), 200, 200, at=(80, 80)
    )
    result = Aligner(AlignerConfig(min_face=90, retry_min_face=20, device="cpu"), [RECOGNITION])(
        [small]
    )
    assert result.status == [FOUND_SMALL]
    assert 80 < result.landmarks[0].mean() < 136


def test_aligner_pads_and_keeps_landmarks_unstretched_when_photo_is_tight_crop(aligner, faces):
    whole = aligner([faces[0]])
    x1, y1, x2, y2 = whole.boxes[0]
    dx, dy = round(x1 + 0.12 * (x2 - x1)), round(y1 + 0.12 * (y2 - y1))
    tight = faces[0][dy : round(y2 - 0.06 * (y2 - y1)), dx : round(x2 - 0.12 * (x2 - x1))]
    result = aligner([tight])
    assert result.status == [FOUND_PADDED]
    assert np.abs(result.landmarks[0] + [dx, dy] - whole.landmarks[0]).max() < 6


def test_aligner_cuts_from_original_when_photo_is_shrunk_for_search(aligner, faces):
    big = np.kron(scene(faces[0]), np.ones((4, 4, 1), np.uint8))
    result, reference = aligner([big]), aligner([scene(faces[0])])
    assert result.status == [FOUND]
    assert result.landmarks[0] / 4 == pytest.approx(reference.landmarks[0], abs=6)
    # The original has blocks of 4×4 equal pixels; the shrunk copy would give a blurred crop.
    assert result.crops[RECOGNITION].std() > 0.9 * reference.crops[RECOGNITION].std()


@pytest.mark.parametrize(
    ("shape", "at"),
    [((160, 40_000), (0, 19_900)), ((40_000, 200), (37_000, 20)), ((480, 2400), (200, 1100))],
)
def test_aligner_finds_face_in_elongated_photo(aligner, faces, shape, at):
    strip = np.full((*shape, 3), 90, np.uint8)
    strip[at[0] : at[0] + 160, at[1] : at[1] + 160] = faces[0]
    result, reference = aligner([strip]), aligner([scene(faces[0])])
    assert result.status[0] in (FOUND, FOUND_PADDED)
    found, expected = (
        each.landmarks[0] - corner for each, corner in ((result, at[::-1]), (reference, (170, 120)))
    )
    assert np.abs(found - expected).max() < 8
    difference = result.crops[RECOGNITION].astype(int) - reference.crops[RECOGNITION]
    assert np.abs(difference).mean() < 15


@pytest.mark.parametrize("shape", [(40, 9000), (1, 5000), (5000, 1), (1, 1), (1, 2), (3, 100_000)])
def test_aligner_cuts_centre_when_photo_has_no_face_whatever_its_shape(aligner, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for image in (noise, np.full((*shape, 3), 128, np.uint8)):
        result = aligner([image])
        assert result.status == [CENTRE_CROP] and result.confidence[0] == 0
        assert result.crops[RECOGNITION].shape == (1, 112, 112, 3)


def test_aligner_settings_hold_what_affects_crops_but_not_device():
    settings = Aligner(AlignerConfig(device="cpu"), [LIVENESS, RECOGNITION]).settings
    assert settings == Aligner(AlignerConfig(batch_size=3), [RECOGNITION, LIVENESS]).settings
    assert settings != Aligner(AlignerConfig(pad=0.4), [RECOGNITION, LIVENESS]).settings
    assert settings != Aligner(AlignerConfig(), [RECOGNITION]).settings
