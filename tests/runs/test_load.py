"""Which processes a loaded run has."""

from types import SimpleNamespace

import pytest

from kryptonite.detection.mtcnn_export import export_cascade
from kryptonite.runs import load as load_module
from kryptonite.runs.run_dir import RunDir


@pytest.mark.parametrize(
    ("engine", "cores", "exported", "count"),
    [
        ("torch on cuda", 8, True, 8),
        ("torch on cuda", 8, False, None),
        ("torch on cuda", 3, True, None),
        ("torch on cpu", 8, True, None),
        ("onnx on cpu", 8, True, None),
    ],
)
def test_face_processes_are_as_many_as_cores_when_a_gpu_computes_and_faces_are_exported(
    pipeline, run, monkeypatch, engine, cores, exported, count
):
    if exported:
        export_cascade(RunDir(run).faces)
    monkeypatch.setattr(load_module, "cpu_threads", lambda: cores)
    monkeypatch.setattr(load_module.sys, "platform", "linux")
    found = load_module._face_processes(
        RunDir(run), pipeline.extractor.cache, SimpleNamespace(engine=engine)
    )
    assert (found and found.count) == count
