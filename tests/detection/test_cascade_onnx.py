"""The cascade without torch against the one with it."""

import numpy as np
import pytest
import torch

import kryptonite.detection.aligner as aligner_module
from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import WeightsError
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.cascade import Cascade
from kryptonite.detection.cascade_onnx import OnnxCascade, has_cascade
from kryptonite.detection.mtcnn_export import export_cascade
from tests.detection.test_cascade import photos


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    assert not has_cascade(folder)
    assert export_cascade(folder) < 1e-4
    return folder


@pytest.mark.parametrize(("min_face", "skip"), [(40, 0), (20, 0), (40, 1), (300, 0)])
def test_onnx_cascade_finds_same_faces_as_torch(exports, faces, min_face, skip):
    pictures = photos(faces)
    pictures[0] = 0
    expected = Cascade(torch.device("cpu"))(pictures, min_face, skip)
    found = OnnxCascade(exports)(pictures, min_face, skip)
    assert (sum(len(boxes) for boxes, _ in expected) > 0) == (min_face < 300)
    for (boxes, points), (wanted, wanted_points) in zip(found, expected, strict=True):
        assert boxes.dtype == points.dtype == np.float32
        assert boxes == pytest.approx(wanted, abs=1e-2)
        assert points == pytest.approx(wanted_points, abs=1e-2)


def test_onnx_cascade_refuses_damaged_and_foreign_exports(exports, tmp_path):
    for file in exports.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "rnet.onnx").write_bytes((exports / "onet.onnx").read_bytes())
    with pytest.raises(WeightsError, match=r"rnet\.onnx: exported from other weights"):
        OnnxCascade(tmp_path)
    (tmp_path / "rnet.onnx").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"rnet\.onnx: not a valid export"):
        OnnxCascade(tmp_path)


@pytest.mark.parametrize("threads", [1, 3])
def test_aligner_searches_by_exports_when_it_is_given_them(exports, faces, monkeypatch, threads):
    monkeypatch.setattr(aligner_module, "cpu_threads", lambda: threads)
    pictures = [*photos(faces), np.zeros((50, 60, 3), np.uint8)]
    config, template = AlignerConfig(device="cpu"), CropTemplate(96)
    expected = Aligner(config, [template])(pictures)
    found = Aligner(config, [template], exports)(pictures)
    assert found.status == expected.status
    # One step of the landmarks' grid.
    assert found.landmarks == pytest.approx(expected.landmarks, abs=1 / 32)
    assert found.boxes == pytest.approx(expected.boxes, abs=1e-2)
    crops = (faces.crops[template].astype(int) for faces in (found, expected))
    assert np.abs(np.subtract(*crops)).max() < 30
