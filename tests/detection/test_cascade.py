"""The cascade against facenet-pytorch's own loop, and its crops against averaging one by one."""

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils.detect_face import detect_face, nms_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from kryptonite.detection.boxes import suppress_contained
from kryptonite.detection.cascade import Cascade, SumTables


@pytest.fixture(scope="module")
def cascade():
    return Cascade(torch.device("cpu"))


def photos(faces, side=192):
    pictures = np.full((len(faces), side, side, 3), 90, np.uint8)
    for picture, face in zip(pictures, faces, strict=True):
        picture[10 : 10 + face.shape[0], 20 : 20 + face.shape[1]] = face[: side - 10, : side - 20]
    return pictures


@pytest.mark.parametrize("min_face", [20, 40])
def test_cascade_finds_same_faces_as_facenet_pytorch(cascade, faces, min_face):
    pictures, oracle = photos(faces), MTCNN(keep_all=True)
    with torch.inference_mode():
        boxes, points = detect_face(
            pictures,
            min_face,
            oracle.pnet,
            oracle.rnet,
            oracle.onet,
            oracle.thresholds,
            oracle.factor,
            torch.device("cpu"),
        )
    found = cascade(pictures, min_face)
    assert sum(len(box) for box, _ in found) >= len(faces) - 1
    for row, (box, point) in enumerate(found):
        assert box == pytest.approx(np.asarray(boxes[row], np.float32).reshape(-1, 5), abs=1e-3)
        assert point == pytest.approx(
            np.asarray(points[row], np.float32).reshape(-1, 5, 2), abs=1e-3
        )


def test_cascade_gives_empty_row_when_image_has_no_face(cascade, faces):
    pictures = photos(faces[:3])
    pictures[1] = 0
    found = cascade(pictures, 40)
    assert [len(box) for box, _ in found] == [1, 0, 1] and found[1][1].shape == (0, 5, 2)
    nothing = cascade(np.zeros((2, 64, 64, 3), np.uint8), 40)
    assert [(box.shape, point.shape) for box, point in nothing] == [((0, 5), (0, 5, 2))] * 2


def test_cascade_finds_nothing_when_images_are_smaller_than_min_face(cascade, faces):
    found = cascade(photos(faces[:2]), 200)
    assert [(box.shape, point.shape) for box, point in found] == [((0, 5), (0, 5, 2))] * 2


def test_cascade_finds_same_box_when_probabilities_are_all_one(cascade, faces, monkeypatch):
    pictures = photos(faces)
    expected = cascade(pictures, 40)
    third = cascade._networks[2]

    def certain(crops):
        regression, points, logits = third(crops)
        return regression, points, logits + torch.tensor([0.0, 40.0])

    monkeypatch.setattr(cascade, "_networks", [*cascade._networks[:2], certain])
    for found in (cascade(pictures, 40), [cascade(picture[None], 40)[0] for picture in pictures]):
        for (box, points), (sure_box, sure_points) in zip(expected, found, strict=True):
            assert (sure_box[:, 4] == 1).all()  # float32 cannot tell them apart
            assert sure_box[0, :4] == pytest.approx(box[0, :4], abs=1e-3)
            assert sure_points[0] == pytest.approx(points[0], abs=1e-3)


def candidates(generator, number):
    """Boxes around a few places, so that many overlap."""
    corners = generator.integers(0, 3, (number, 2)) * 60 + generator.uniform(0, 30, (number, 2))
    return np.concatenate([corners, corners + generator.uniform(20, 60, (number, 2))], 1)


@given(st.integers(0, 2**32 - 1))
def test_suppress_contained_keeps_what_facenet_pytorch_keeps(seed):
    generator = np.random.default_rng(seed)
    boxes, log_odds = candidates(generator, 40), generator.uniform(1, 20, 40)
    kept = suppress_contained(boxes, log_odds, np.zeros(40, int), 0.7)
    assert kept.tolist() == nms_numpy(boxes, log_odds, 0.7, "Min").tolist()


@given(st.integers(0, 2**32 - 1))
def test_suppress_contained_gives_same_boxes_in_any_batch_and_order(seed):
    generator = np.random.default_rng(seed)
    boxes, rows = candidates(generator, 40), generator.integers(0, 5, 40)
    log_odds = generator.integers(1, 4, 40).astype(np.float32)  # mostly equal
    batch = suppress_contained(boxes, log_odds, rows, 0.7)
    noise = generator.uniform(-1e-5, 1e-5, 40)
    for row in range(5):
        alone = generator.permutation(np.flatnonzero(rows == row))
        kept = suppress_contained(boxes[alone], (log_odds + noise)[alone], rows[alone] * 0, 0.7)
        assert alone[kept].tolist() == batch[rows[batch] == row].tolist()


def test_suppress_contained_keeps_nothing_when_there_is_nothing():
    nothing = suppress_contained(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 0.7)
    assert nothing.tolist() == []


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 24]))
def test_sum_tables_crops_are_averages_of_their_boxes(seed, side):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (3, 37, 50, 3), np.uint8)
    boxes = torch.from_numpy(
        np.concatenate([generator.uniform(-20, 60, (12, 4)), np.ones((12, 1))], 1)
    )
    boxes[:, 2:4] = boxes[:, :2] + boxes[:, 2:4].abs()
    rows = torch.from_numpy(generator.integers(0, 3, 12))
    sums = SumTables(images, torch.device("cpu"))
    kept, origin = sums.inside(boxes, rows)
    crops = sums.crops(kept, origin, side)
    expected = []
    for box, row in zip(boxes, rows, strict=True):
        left, top, right, bottom = (int(value) for value in box[:4])
        cut = images[row, max(top, 1) - 1 : max(bottom, 0), max(left, 1) - 1 : max(right, 0)]
        cut = torch.from_numpy(cut).permute(2, 0, 1)[None].float()
        if cut.numel():
            expected.append((box, int(row), interpolate(cut, (side, side), mode="area")[0]))
    assert len(kept) == len(expected)
    for index, (box, row, crop) in enumerate(expected):
        assert torch.equal(kept[index], box) and origin[index] == row
        assert torch.allclose(crops[index], crop, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 45), st.integers(1, 60))
def test_shrunk_images_are_averages(seed, height, width):
    images = np.random.default_rng(seed).integers(0, 256, (2, 37, 50, 3), np.uint8)
    expected = interpolate(
        torch.from_numpy(images).permute(0, 3, 1, 2).float(), (height, width), mode="area"
    )
    assert torch.allclose(
        SumTables(images, torch.device("cpu")).shrunk(height, width), expected, atol=1e-3
    )
