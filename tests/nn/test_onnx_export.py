"""Exports: same outputs as PyTorch for any number of crops, refused if different or stale."""

import json
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import yaml

from kryptonite.cli.main import main
from kryptonite.core.crops import Crops, CropTemplate, InputSpec
from kryptonite.core.device import only_cpu
from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.core.files import write_json
from kryptonite.data.submission import read_submission
from kryptonite.liveness.detector import LOG_ODDS, Detector
from kryptonite.nn.model import DESCRIPTION_FILE, EXPORT_FILE
from kryptonite.nn.onnx_export import write_export
from kryptonite.nn.weights import BackboneConfig
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.differential.detector import EXPORT_FILE as COMPARER_FILE
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.differential.export import write_comparer
from kryptonite.recognition.recogniser import FEATURE_MAPS, Recogniser
from kryptonite.runs.export import export_networks
from kryptonite.runs.load import load
from tests.tiny import BACKBONE, write_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with its exports, written by `kryptonite export`."""
    run = write_run(tmp_path_factory.mktemp("run"))
    with redirect_stdout(StringIO()) as out:
        assert main(["export", "--run", str(run)]) == 0
    lines = out.getvalue().splitlines()
    parts = (f"recognition/{EXPORT_FILE}", "comparison/comparer.onnx", f"liveness/{EXPORT_FILE}")
    places = (*parts, "faces")
    for place, line in zip(places, lines, strict=True):
        assert f"{place}: largest difference from PyTorch" in line
        assert float(line.split()[-1]) < 1e-3
    return run


def crops(count, margin=0.0):
    return Crops(
        np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        CropTemplate(32, margin),
    )


@pytest.mark.parametrize("count", [0, 1, 3, 130])
def test_export_gives_same_outputs_as_pytorch(run, count):
    ours, other = (
        Recogniser.load(run / "recognition", "cpu", engine).extract_maps(crops(count))
        for engine in ("torch", "onnx")
    )
    assert other.embeddings == pytest.approx(ours.embeddings, abs=1e-4)
    assert other.pooled == pytest.approx(ours.pooled, abs=1e-3)
    assert other.cells == pytest.approx(ours.cells, abs=2e-2)
    assert other.cells.dtype == np.float16 and other.channels == ours.channels
    odds, odds_other = (
        Detector.load(run / "liveness", "cpu", engine).log_odds(crops(count, 0.2))
        for engine in ("torch", "onnx")
    )
    assert odds.shape == (count,) and odds_other == pytest.approx(odds, abs=1e-4)


@pytest.fixture(scope="module")
def maps(run):
    """Features of sixty crops."""
    return Recogniser.load(run / "recognition", "cpu").extract_maps(crops(60))


@pytest.mark.parametrize("count", [0, 1, 3, 600])
def test_exported_comparer_gives_same_scores_as_pytorch(run, maps, count):
    a, b = np.random.default_rng(count).integers(0, 60, (2, count))
    ours, other = (
        DifferentialDetector.load(run / "comparison", "cpu", engine).score(maps, a, b)
        for engine in ("torch", "onnx")
    )
    assert other.shape == (count,) and other.dtype == ours.dtype == np.float32
    assert other == pytest.approx(ours, abs=1e-4)
    assert count < 3 or ours.std() > 1e-2


def test_exported_comparer_scores_each_pair_by_itself_in_any_order(run, maps):
    detector = DifferentialDetector.load(run / "comparison", "cpu", "onnx")
    a, b = np.triu_indices(60, 30)
    scores = detector.score(maps, a, b)
    assert len(a) > 256  # several chunks
    assert detector.score(maps, b, a) == pytest.approx(scores, abs=1e-5)
    order = np.random.default_rng(0).permutation(len(a))
    assert detector.score(maps, a[order], b[order]) == pytest.approx(scores[order], abs=1e-5)
    alone = [detector.score(maps, a[row : row + 1], b[row : row + 1])[0] for row in range(20)]
    assert alone == pytest.approx(scores[:20], abs=1e-5)


def test_comparer_falls_back_to_pytorch_when_its_export_is_missing(
    run, faces, tmp_path, monkeypatch
):
    old = shutil.copytree(run, tmp_path / "run")
    (old / "comparison" / COMPARER_FILE).unlink()
    said = []
    monkeypatch.setattr("kryptonite.runs.load.state_device", lambda *words: said.append(words))
    pipeline = load(old, tmp_path / "cache", "cpu", "auto")
    assert pipeline.extractor.recogniser.engine == "onnx on cpu"
    assert pipeline.differential.engine == "torch on cpu"
    assert said == [
        ("finding faces, recognition, liveness", "cpu", "onnx"),
        ("the differential detector", "cpu", "torch"),
    ]
    exported = load(run, tmp_path / "cache", "cpu", "auto")
    assert exported.differential.engine == "onnx on cpu"
    (ours,), (others,) = (each.verify_many([(faces[0], faces[1])]) for each in (pipeline, exported))
    assert others.comparison == pytest.approx(ours.comparison, abs=1e-4)
    with pytest.raises(WeightsError, match=r"comparer\.onnx: no such export; `kryptonite export`"):
        load(old, tmp_path / "cache", "cpu", "onnx")


def test_pipeline_scores_alike_with_either_engine(run, faces, save, tmp_path):
    photos = [str(save(tmp_path / f"{n}.png", face)) for n, face in enumerate(faces)]
    pairs = pd.DataFrame(
        [(f"{n:08d}", photos[n], photos[7 - n]) for n in range(8)],
        columns=["pair_id", "path_a", "path_b"],
    )
    for call in ("verify", "list"):
        scores = []
        for engine in ("torch", "onnx"):
            pipeline = load(run, tmp_path / "cache", "cpu", engine)
            scores.append(
                pipeline.verify(*photos[:2]).score
                if call == "verify"
                else pipeline.score_pairs(pairs)[0]["score"].to_numpy()
            )
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    # Each engine cached its own features.
    assert len(list((tmp_path / "cache/sights").rglob("*.safetensors"))) == 2


def test_export_networks_includes_backbone_when_differential_detector_has_its_own(
    run, faces, save, tmp_path
):
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns(EXPORT_FILE))
    plain = load(tmp_path / "run", tmp_path / "cache", "cpu")
    torch.manual_seed(1)
    made = build_backbone(BACKBONE, 16)
    spec = plain.extractor.recogniser.spec
    own = Recogniser(made.network, made.blueprint, spec, "tuned", "cpu")
    shutil.copy(run / "comparison" / COMPARER_FILE, tmp_path / "run/comparison")
    differential = DifferentialDetector.load(tmp_path / "run/comparison", "cpu")
    differential.backbone = own
    differential.save(tmp_path / "run/comparison")
    assert not (tmp_path / "run/comparison" / COMPARER_FILE).exists()
    pipeline = load(tmp_path / "run", tmp_path / "cache", "cpu")
    embeddings, maps = pipeline.extractor.embed(crops(3))
    assert np.array_equal(embeddings, plain.extractor.recogniser.embed(crops(3)))
    assert np.array_equal(maps.embeddings, own.embed(crops(3)))
    assert not np.allclose(maps.embeddings, embeddings, atol=1e-2)
    files = ["recognition/model.onnx", "comparison/model.onnx", "comparison/comparer.onnx"]
    files = [tmp_path / "run" / file for file in [*files, "liveness/model.onnx"]]
    assert list(export_networks(pipeline)) == files
    assert all(file.is_file() for file in files)
    photos = [str(save(tmp_path / f"{n}.png", face)) for n, face in enumerate(faces)]
    exported = load(tmp_path / "run", tmp_path / "cache", "cpu", "onnx")
    ours, others = (each.verify(*photos[:2]) for each in (pipeline, exported))
    assert others.comparison == pytest.approx(ours.comparison, abs=1e-3)
    assert others.similarity == pytest.approx(ours.similarity, abs=1e-4)
    assert plain.verify(*photos[:2]).comparison != pytest.approx(ours.comparison, abs=1e-3)


def test_write_export_exports_network_when_its_stages_are_hooked(tmp_path):
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


def test_write_export_keeps_old_file_when_new_one_differs(run, monkeypatch):
    detector = Detector.load(run / "liveness", "cpu")
    before = (run / "liveness" / EXPORT_FILE).read_bytes()
    calls = []
    forward = detector.forward

    def drifting(images, names):
        calls.append(1)
        return [output + 0.01 * len(calls) for output in forward(images, names)]

    monkeypatch.setattr(detector, "forward", drifting)
    with pytest.raises(WeightsError, match=r"log_odds would differ from PyTorch by 0\.0"):
        write_export(detector, [LOG_ODDS], {})
    assert (run / "liveness" / EXPORT_FILE).read_bytes() == before
    assert [file.name for file in (run / "liveness").glob("*.onnx")] == [EXPORT_FILE]


def test_load_names_export_when_missing_stale_or_damaged(run, tmp_path):
    fresh = write_run(tmp_path / "run")
    with pytest.raises(
        WeightsError, match=r"recognition/model\.onnx: no such export; `kryptonite export`"
    ):
        load(fresh, engine="onnx")
    exports = ("recognition/model.onnx", "liveness/model.onnx", "comparison/comparer.onnx")
    for file in exports:
        shutil.copy(run / file, fresh / file)
    load(fresh, engine="onnx")  # same weights
    detector = Detector.load(fresh / "liveness", "cpu")
    with torch.no_grad():
        next(detector.network.parameters()).add_(1)
    detector.save(fresh / "liveness")
    # Saving deleted the export of the previous weights.
    with pytest.raises(WeightsError, match=r"liveness/model\.onnx: no such export"):
        load(fresh, engine="onnx")
    (fresh / "liveness" / EXPORT_FILE).write_bytes((run / "liveness" / EXPORT_FILE).read_bytes())
    with pytest.raises(WeightsError, match=r"liveness/model\.onnx: exported from other weights"):
        load(fresh, engine="onnx")
    description = fresh / "recognition" / DESCRIPTION_FILE
    kept = description.read_text()
    described = json.loads(kept)
    described["input"]["mean"] = [0.1, 0.2, 0.3]
    description.write_text(json.dumps(described))
    with pytest.raises(WeightsError, match=r"recognition/model\.onnx: .* other input"):
        load(fresh, engine="onnx")
    comparison = fresh / "comparison"
    differential = DifferentialDetector.load(comparison, "cpu")
    with torch.no_grad():
        differential.comparer.bias_1.add_(1)
    differential.save(comparison)
    with pytest.raises(WeightsError, match=r"comparison/comparer\.onnx: no such export"):
        DifferentialDetector.load(comparison, "cpu", "onnx")
    shutil.copy(run / "comparison" / COMPARER_FILE, comparison)
    with pytest.raises(WeightsError, match=r"comparison/comparer\.onnx: exported from other"):
        DifferentialDetector.load(comparison, "cpu", "onnx")
    exported = DifferentialDetector.load(run / "comparison", "cpu", "onnx")
    with pytest.raises(ConfigError, match="can be exported"):
        write_comparer(exported, Recogniser.load(run / "recognition", "cpu"))
    with pytest.raises(ConfigError, match="can be exported"):
        write_export(Detector.load(run / "liveness", engine="onnx"), [LOG_ODDS], {})
    description.write_text(kept)
    (fresh / "liveness" / EXPORT_FILE).write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"liveness/model\.onnx: not a valid export"):
        load(fresh, engine="onnx")


def test_export_raises_when_it_lacks_an_output(run, tmp_path):
    shutil.copytree(run / "recognition", tmp_path / "recognition")
    model = onnx.load(run / "recognition" / EXPORT_FILE)
    del model.graph.output[1:]
    onnx.save(model, tmp_path / "recognition" / EXPORT_FILE)
    recogniser = Recogniser.load(tmp_path / "recognition", engine="onnx")
    assert recogniser.embed(crops(1)).shape == (1, 16)
    with pytest.raises(WeightsError, match="has outputs embedding, not embedding, pooled, cells"):
        recogniser.extract_maps(crops(1))


def test_load_uses_exports_when_engine_is_auto_and_device_is_cpu(run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "run")
    exported = load(tmp_path / "run", device="cpu", engine="auto").extractor
    assert (exported.recogniser.engine, exported.detector.engine) == ("onnx on cpu", "onnx on cpu")
    (tmp_path / "run/liveness" / EXPORT_FILE).unlink()
    mixed = load(tmp_path / "run", device="cpu", engine="auto").extractor
    assert (mixed.recogniser.engine, mixed.detector.engine) == ("onnx on cpu", "torch on cpu")
    assert Recogniser.load(run / "recognition", "cpu").engine == "torch on cpu"
    # With a GPU the network runs there, since exports run on the CPU only.
    built = []
    monkeypatch.setattr("kryptonite.nn.model.only_cpu", lambda device: False)
    monkeypatch.setattr("kryptonite.nn.model.choose_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr(
        Recogniser,
        "rebuild",
        staticmethod(lambda blueprint: built.append(1) or torch.nn.Linear(1, 1)),
    )
    with pytest.raises(WeightsError):  # the dummy network has other weights
        Recogniser.load(run / "recognition", "auto", "auto")
    assert built == [1]


def test_load_raises_when_engine_is_unknown_or_export_is_to_run_on_gpu(run):
    for device, engine in (("cpu", "magic"), ("cuda", "onnx")):
        with pytest.raises(ConfigError, match=engine):
            Detector.load(run / "liveness", device, engine)


def test_export_command_fails_with_message_when_run_is_missing(run, capsys):
    assert main(["export", "--run", str(run / "nowhere")]) == 2
    assert "no finished run" in capsys.readouterr().err


@pytest.mark.skipif(not only_cpu("auto"), reason="a GPU's driver is asked by torch")
@pytest.mark.parametrize("differential", [True, False])
def test_verify_and_submit_import_no_torch_when_all_networks_are_exported(
    run, folders, differential
):
    folder = shutil.copytree(run, folders / "run")
    if not differential:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["comparison"]["pairs"] = 0
        write_json(folder / "config.yaml", config)
    photos = [str(folders / f"data/test_public/images/00000000/{n}.jpg") for n in (0, 1)]
    cache = ["--data_root", str(folders), "--cache", str(folders / "cache")]
    commands = [["verify", *photos, "--run", str(folder)], ["submit", "--run", str(folder), *cache]]
    code = (
        "import sys; from kryptonite.cli.main import main; "
        f"assert [main(command) for command in {commands}] == [0, 0]; "
        "print(sorted({'torch', 'torchvision', 'facenet_pytorch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("[]\n"), done.stdout + done.stderr
    assert ("the differential detector: onnx on cpu" in done.stderr) == differential
    assert len(read_submission(folder / "submission.csv")) == 4
