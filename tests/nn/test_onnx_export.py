"""Exports: the same answers as PyTorch for any number of crops, refused where they would differ or have gone stale."""

import json
import shutil
import sys
from contextlib import redirect_stdout
from io import StringIO
from unittest.mock import patch

import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from kryptonite.cli import export as export_script
from kryptonite.core.crops import Crops, CropTemplate, InputSpec
from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.detector import Detector
from kryptonite.nn.onnx_export import write_export
from kryptonite.nn.onnx_runtime import EXPORT
from kryptonite.nn.weights import BackboneConfig
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.recogniser import FEATURE_MAPS, Recogniser
from tests.tiny import BACKBONE, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with both exports, which the script made."""
    run = write_run(tmp_path_factory.mktemp("run"))
    with (
        patch.object(sys, "argv", ["export.py", "--run", str(run)]),
        redirect_stdout(StringIO()) as out,
    ):
        assert export_script.main() == 0
    lines = out.getvalue().splitlines()
    for branch, line in zip(("recognition", "liveness"), lines, strict=True):
        assert (
            f"{branch}/{EXPORT}: largest difference from PyTorch" in line
            and float(line.split()[-1]) < 1e-3
        )
    return run


def crops(count, margin=0.0):
    return Crops(
        np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        CropTemplate(32, margin),
    )


@pytest.mark.parametrize("count", [0, 1, 3, 130])
def test_answers_are_those_of_pytorch(run, count):
    ours, other = (
        Recogniser.load(run / "recognition", "cpu", engine).extract_maps(crops(count))
        for engine in ("torch", "onnx")
    )
    assert other.embeddings == pytest.approx(
        ours.embeddings, abs=1e-4
    ) and other.pooled == pytest.approx(ours.pooled, abs=1e-3)
    assert (
        other.cells.dtype == np.float16
        and other.cells == pytest.approx(ours.cells, abs=2e-2)
        and other.channels == ours.channels
    )
    odds, odds_other = (
        Detector.load(run / "liveness", "cpu", engine).log_odds(crops(count, 0.2))
        for engine in ("torch", "onnx")
    )
    assert odds.shape == (count,) and odds_other == pytest.approx(odds, abs=1e-4)


def test_both_engines_submit_alike(run, faces, save, tmp_path):
    photos = [str(save(tmp_path / f"{n}.png", face)) for n, face in enumerate(faces)]
    pairs = pd.DataFrame(
        [(f"{n:08d}", photos[n], photos[7 - n]) for n in range(8)],
        columns=["pair_id", "path_a", "path_b"],
    )
    for mine in ("verify", "list"):
        scores = []
        for engine in ("torch", "onnx"):
            pipeline = Pipeline.load(run, tmp_path / "cache", "cpu", engine)
            scores.append(
                pipeline.verify(*photos[:2]).score
                if mine == "verify"
                else pipeline.score_pairs(pairs)[0]["score"].to_numpy()
            )
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert (
        len(list((tmp_path / "cache/sights").rglob("*.safetensors"))) == 2
    )  # neither engine took what the other saw


def test_the_comparers_own_network_sees_for_it_alone_and_is_exported_too(
    run, faces, save, tmp_path
):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns(EXPORT))
    plain = Pipeline.load(tmp_path / "run", tmp_path / "cache", "cpu")
    torch.manual_seed(1)
    made = build_backbone(BACKBONE, 16)
    own = Recogniser(made.network, made.blueprint, plain.recogniser.spec, "tuned", "cpu")
    DifferentialDetector(plain.comparer.tensors, plain.comparer.channels, own).save(
        tmp_path / "run/comparison"
    )
    pipeline = Pipeline.load(tmp_path / "run", tmp_path / "cache", "cpu")
    embeddings, perception = pipeline.eyes.see(crops(3))
    assert np.array_equal(embeddings, plain.recogniser.embed(crops(3)))
    assert np.array_equal(perception.embeddings, own.embed(crops(3))) and not np.allclose(
        perception.embeddings, embeddings, atol=1e-2
    )
    assert list(pipeline.export()) == ["recognition", "comparison", "liveness"]
    photos = [str(save(tmp_path / f"{n}.png", face)) for n, face in enumerate(faces)]
    exported = Pipeline.load(tmp_path / "run", tmp_path / "cache", "cpu", "onnx")
    ours, others = (each.verify(*photos[:2]) for each in (pipeline, exported))
    assert others.comparison == pytest.approx(
        ours.comparison, abs=1e-3
    ) and others.similarity == pytest.approx(ours.similarity, abs=1e-4)
    assert plain.verify(*photos[:2]).comparison != pytest.approx(ours.comparison, abs=1e-3)


def test_a_network_whose_stages_are_hooked_can_be_exported(tmp_path):
    torch.manual_seed(0)
    loaded = build_backbone(BackboneConfig("iresnet18", "scratch"), 512)
    Recogniser(
        loaded.network,
        loaded.blueprint,
        InputSpec(CropTemplate(112), colour="BGR"),
        "scratch",
        "cpu",
    ).save(tmp_path)
    recogniser = Recogniser.load(tmp_path, "cpu")
    assert write_export(recogniser, FEATURE_MAPS, {"channels": recogniser.channels}) < 2e-3


def test_an_export_that_differs_is_not_written(run, monkeypatch):
    detector = Detector.load(run / "liveness", "cpu")
    before = (run / "liveness" / EXPORT).read_bytes()
    calls = []
    forward = detector.forward

    def drifting(images, names):
        calls.append(1)
        return [output + 0.01 * len(calls) for output in forward(images, names)]

    monkeypatch.setattr(detector, "forward", drifting)
    with pytest.raises(WeightsError, match=r"log_odds would differ from PyTorch by 0\.0"):
        write_export(detector, ["log_odds"], {})
    assert (run / "liveness" / EXPORT).read_bytes() == before and [
        file.name for file in (run / "liveness").glob("*.onnx")
    ] == [EXPORT]


def test_stale_missing_and_damaged_exports_are_named(run, tmp_path):
    fresh = write_run(tmp_path / "run")
    with pytest.raises(
        WeightsError, match=r"recognition/model\.onnx: not there; `python export.py`"
    ):
        Pipeline.load(fresh, engine="onnx")
    for branch in ("recognition", "liveness"):
        (fresh / branch / EXPORT).write_bytes((run / branch / EXPORT).read_bytes())
    Pipeline.load(fresh, engine="onnx")  # the very same weights
    detector = Detector.load(fresh / "liveness", "cpu")
    with torch.no_grad():
        next(detector.network.parameters()).add_(1)
    detector.save(fresh / "liveness")
    with pytest.raises(
        WeightsError, match=r"liveness/model\.onnx: not there"
    ):  # it went with the weights it was of
        Pipeline.load(fresh, engine="onnx")
    (fresh / "liveness" / EXPORT).write_bytes((run / "liveness" / EXPORT).read_bytes())
    with pytest.raises(WeightsError, match=r"liveness/model\.onnx: is an export of other weights"):
        Pipeline.load(fresh, engine="onnx")
    kept = (fresh / "recognition/model.json").read_text()
    described = json.loads(kept)
    described["input"]["mean"] = [0.1, 0.2, 0.3]
    (fresh / "recognition/model.json").write_text(json.dumps(described))
    with pytest.raises(WeightsError, match=r"recognition/model\.onnx: .* other input"):
        Pipeline.load(fresh, engine="onnx")
    with pytest.raises(ConfigError, match="can be exported"):
        write_export(Detector.load(run / "liveness", engine="onnx"), ["log_odds"], {})
    (fresh / "recognition/model.json").write_text(kept)
    (fresh / "liveness" / EXPORT).write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"liveness/model\.onnx: is no export"):
        Pipeline.load(fresh, engine="onnx")


def test_an_export_without_the_comparers_outputs_is_named(run, tmp_path):
    shutil.copytree(run / "recognition", tmp_path / "recognition")
    model = onnx.load(run / "recognition" / EXPORT)
    del model.graph.output[1:]
    onnx.save(model, tmp_path / "recognition" / EXPORT)
    recogniser = Recogniser.load(tmp_path / "recognition", engine="onnx")
    assert recogniser.embed(crops(1)).shape == (1, 16)
    with pytest.raises(WeightsError, match="gives embedding, not embedding, pooled, cells"):
        recogniser.extract_maps(crops(1))


def test_auto_takes_the_exports_there_are_where_the_cpu_computes(run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "run")
    exported = Pipeline.load(tmp_path / "run", device="cpu", engine="auto")
    assert (exported.recogniser.engine, exported.detector.engine) == ("onnx on cpu", "onnx on cpu")
    (tmp_path / "run/liveness" / EXPORT).unlink()
    mixed = Pipeline.load(tmp_path / "run", device="cpu", engine="auto")
    assert (mixed.recogniser.engine, mixed.detector.engine) == ("onnx on cpu", "torch on cpu")
    assert Recogniser.load(run / "recognition", "cpu").engine == "torch on cpu"
    # An export runs on the CPU alone, so a GPU is not left idle for it.
    built = []
    monkeypatch.setattr("kryptonite.nn.model.choose_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr(
        Recogniser,
        "rebuild",
        staticmethod(lambda blueprint: built.append(1) or torch.nn.Linear(1, 1)),
    )
    with pytest.raises(WeightsError):  # these are not its weights, but PyTorch it was
        Recogniser.load(run / "recognition", "auto", "auto")
    assert built == [1]


def test_no_such_engine_and_no_gpu_for_exports(run):
    for device, engine in (("cpu", "magic"), ("cuda", "onnx")):
        with pytest.raises(ConfigError, match=engine):
            Detector.load(run / "liveness", device, engine)


def test_the_script_names_mistakes(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export.py", "--run", str(run / "nowhere")])
    assert export_script.main() == 2 and "no finished run" in capsys.readouterr().err
