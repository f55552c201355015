"""Benchmarks import and answer --help; those of transfer measure what they say they do."""

import ast
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import transfer, transfer_photos, unseen, unseen_pairs
from benchmarks.evidence import MOUTH, cover, measure_pairs, measure_regions, paste_part
from benchmarks.face_mesh import load_mesh, mesh_swap, shape_distance, warp_mesh
from benchmarks.transfer import line, measure_source
from benchmarks.transfer_photos import COLUMNS as PHOTO_COLUMNS
from benchmarks.transfer_photos import Photo, forgeries, write_sources
from kryptonite.cli.configuration import read_run_config
from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import WeightsError
from kryptonite.data.demo import MARKER
from kryptonite.detection.faces import FOUND, AlignedFaces
from kryptonite.detection.warp import template_points
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import NonLinearLLR
from kryptonite.inference.extractor import CropFeatures
from kryptonite.liveness.detector import Detector
from kryptonite.liveness.train import LivenessInputs, train_detector
from kryptonite.nn.train.job import TrainingJob
from kryptonite.report.transfer import BETTER, COLUMNS, parse_transfer
from kryptonite.runs.config import FusionConfig
from kryptonite.runs.data import prepare_training_data
from tests.tiny import write_run

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODULES = sorted(FOLDER.glob("*.py"))
SCRIPTS = sorted(FOLDER.glob("*.sh"))


def test_benchmarks_are_found():
    assert {"throughput", "usual_pipeline"} <= {path.stem for path in MODULES}
    assert "real" in {path.stem for path in SCRIPTS}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_benchmark_answers_help_when_it_has_a_parser(path, monkeypatch, capsys):
    source = path.read_text(encoding="utf-8")
    module = import_module(f"benchmarks.{path.stem}")
    assert hasattr(module, "main") == ("parse_args(" in source)
    if not hasattr(module, "main"):
        return
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0
    output = capsys.readouterr().out
    summary = ast.get_docstring(ast.parse(source)).splitlines()[0]
    assert f"usage: {path.name}" in output and summary in output
    assert f"python -m benchmarks.{path.stem}" in output


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_benchmark_script_fails_with_usage_when_called_without_arguments(path):
    assert os.access(path, os.X_OK)
    done = subprocess.run([path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")


class System:
    """A verifier that scores by a function of the evidence."""

    def __init__(self, score, threshold):
        self.fuser, self.threshold = SimpleNamespace(score=score), threshold


class SeeingPipeline:
    """Scores photos by their paths: it tells people apart, and only the fusion sees forgeries."""

    def __init__(self):
        self.verifiers = {"none": System(lambda evidence: evidence.similarity, 0.5)}
        self.verifier = System(lambda evidence: evidence.similarity - evidence.log_odds_b, 0.5)
        self.extractor = SimpleNamespace(extract=self.extract)

    @staticmethod
    def extract(paths):
        paths = pd.Index(pd.unique(np.asarray(paths)))
        log_odds = np.where(paths.str.contains("swap|whole"), 1.0, -1.0)
        return SimpleNamespace(
            features=SimpleNamespace(log_odds=log_odds),
            rows=lambda wanted: np.array([paths.get_loc(path) for path in wanted]),
        )

    def extract_pairs(self, pairs):
        table = self.extract(pairs[["path_a", "path_b"]].to_numpy().ravel())
        log_odds = table.features.log_odds
        scored = pairs.assign(
            similarity=(pairs["label_a"] == pairs["label_b"]).astype(float),
            log_odds_a=log_odds[table.rows(pairs["path_a"])],
            log_odds_b=log_odds[table.rows(pairs["path_b"])],
            comparison=0.0,
        )
        return scored, table


def test_measure_source_writes_what_the_report_reads(tmp_path):
    people = [str(number) for number in range(6)]
    rows = [
        (label, f"{label}/{kind}{number}.jpg", kind, number, "")
        for label in people
        for kind in ("", "swap")
        for number in (0, 1)
    ]
    rows.append(("", "whole.jpg", "whole", -1, ""))  # no pair shows it
    measured = measure_source("demo", pd.DataFrame(rows, columns=PHOTO_COLUMNS), SeeingPipeline())
    table = pd.DataFrame(measured, columns=COLUMNS)
    table.to_csv(tmp_path / "transfer.csv", index=False)
    texts = pd.read_csv(tmp_path / "transfer.csv", dtype=str, keep_default_na=False)
    swap, whole = parse_transfer(texts, "transfer.csv")
    assert (swap.source, swap.forgery, swap.pairs, swap.auc, swap.bpcer) == (
        "demo", "swap", 12, 1, 0,
    )  # fmt: skip
    assert (swap.spf_eer_alone, swap.spf_eer_fused, swap.spf_eer_gain) == (0.5, 0, 0.5)
    assert (swap.iapar_alone, swap.iapar_fused, swap.verdict) == (1, 0, BETTER)
    assert (whole.pairs, whole.auc, whole.bpcer) == (0, 1, 0)
    assert {getattr(whole, name) for name in COLUMNS[5:]} == {None}
    shown = [line(row).count("|") for row in measured]
    assert shown[0] == shown[1] and "nan" not in line(measured[1])


def grid(side=64, step=8):
    """Points on a grid, a stand-in for a mesh: float64, N×2."""
    axis = np.arange(step, side - step + 1, step, dtype=np.float64)
    return np.stack(np.meshgrid(axis, axis), 2).reshape(-1, 2)


def smooth_photo(seed, side=64):
    noise = np.random.default_rng(seed).uniform(0, 255, (side, side, 3))
    blurred = cv2.GaussianBlur(noise, (0, 0), 4)
    return ((blurred - blurred.min()) / np.ptp(blurred) * 255).astype(np.uint8)


def test_warp_mesh_equals_an_affine_warp_when_the_meshes_differ_by_one():
    photo, target = smooth_photo(0), grid()
    turn = cv2.getRotationMatrix2D((32, 32), 12, 0.9)  # from the result to the photo
    mesh = target @ turn[:, :2].T + turn[:, 2]
    warped, inside = warp_mesh(photo, mesh, target, 64, 64)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    expected = cv2.warpAffine(photo, turn, (64, 64), flags=flags)
    assert inside[8:57, 8:57].all() and inside.sum() == 49**2
    assert np.abs(warped[inside].astype(int) - expected[inside]).max() <= 2


def test_mesh_swap_shows_the_donor_inside_and_the_photo_outside():
    photo, donor, mesh = smooth_photo(1), smooth_photo(2), grid(step=12)
    swapped = mesh_swap(photo, mesh, donor, mesh, np.random.default_rng(0))

    def likeness(image, area):
        return np.corrcoef(swapped[area].ravel(), image[area].ravel())[0, 1]

    middle = np.s_[24:40, 24:40]
    assert likeness(donor, middle) > 0.9 and likeness(photo, middle) < 0.5
    outside = np.ones((64, 64), bool)
    outside[12:53, 12:53] = False
    assert np.array_equal(swapped[outside], photo[outside])
    same = mesh_swap(photo, mesh, photo, mesh, np.random.default_rng(0))
    assert np.abs(same.astype(int) - photo).max() <= 3


def test_shape_distance_ignores_place_and_size():
    mesh = grid()
    assert shape_distance(mesh, 3 * mesh + 50) == pytest.approx(0, abs=1e-9)
    assert shape_distance(mesh, mesh * [1, 1.2]) > 0.05


@pytest.mark.parametrize("content", [None, b"no network"], ids=["missing", "damaged"])
def test_load_mesh_names_the_file_when_it_is_no_network(tmp_path, content):
    file = tmp_path / "face_landmark.tflite"
    if content:
        file.write_bytes(content)
    with pytest.raises(WeightsError, match="face_landmark.tflite: cannot be read"):
        load_mesh(file)


def test_mesh_swap_takes_the_stranger_in_the_likest_pose(monkeypatch, tmp_path):
    """Landmarks serve as meshes; the donor is the photo itself, which the forgery must show."""
    monkeypatch.setattr(transfer_photos, "load_mesh", lambda _: lambda photo, landmarks: landmarks)
    mesh = grid(step=12)
    own = Photo("a", "a.jpg", smooth_photo(0), mesh)
    others = [
        Photo("b", "b.jpg", smooth_photo(1), mesh * [1, 0.7]),
        Photo("c", "c.jpg", smooth_photo(2), mesh * 0.9),
    ]
    make = forgeries(None, tmp_path / "mesh.tflite")["mesh_swap"]
    forged = make(own, others, np.random.default_rng(0))
    assert np.array_equal(forged[:8], others[1].pixels[:8])


@pytest.fixture
def few(monkeypatch):
    """Few photos of few people, and few generated faces."""
    for name, number in {"PEOPLE": 6, "PHOTOS": 2, "GENERATED": 3}.items():
        monkeypatch.setattr(transfer_photos, name, number)


def options(out, **sources):
    return SimpleNamespace(out=out, source=list(sources.items()), autoencoder=None, mesh=None)


def test_write_sources_adds_generated_faces_except_to_the_demo(folders, tmp_path, few, capsys):
    shutil.copytree(folders / "data", tmp_path / "demo/data")
    (tmp_path / "demo" / MARKER).touch()
    chosen = options(tmp_path / "out", home=str(folders), demo=str(tmp_path / "demo"))
    tables = dict(write_sources(chosen))
    home, demo = tables["home"], tables["demo"]
    assert set(home["kind"]) - set(demo["kind"]) == {"generated"}
    assert (home["kind"] == "generated").sum() == 3
    assert all(Path(path).exists() for path in home["path"])
    forged = home[home["kind"] == "self_blend"]
    genuine = home[home["kind"] == ""].set_index("number")["origin"]
    assert (genuine[forged["number"]].to_numpy() == forged["origin"].to_numpy()).all()
    assert capsys.readouterr().err.splitlines() == [
        "left out: autoencoder, autoencoder_inner (--autoencoder); mesh_swap (--mesh)"
    ]


def test_write_sources_says_so_when_the_generator_is_missing(
    folders, tmp_path, few, capsys, monkeypatch
):
    def missing(*_, **__):
        raise WeightsError("not installed")

    monkeypatch.setattr(transfer_photos, "generate_faces", missing)
    ((_, home),) = write_sources(options(tmp_path / "out", home=str(folders)))
    assert "generated" not in set(home["kind"])
    assert "generated (the package gan-face-generate)" in capsys.readouterr().err


@pytest.fixture
def probe_run(folders, people, tmp_path, save):
    """A finished run: its probe is trained, on 16 people and on mirrored genuine photos of 8."""
    run, wild = write_run(tmp_path / "run"), tmp_path / "wild"
    for person, photos in enumerate(people[:8]):
        for number in (0, 1):
            save(wild / f"data/train/{person:08d}/{number}.jpg", photos[number, :, ::-1])
    tiny = {
        "backbone": {"name": "test_efficientnet", "weights": "scratch"},
        "template": {"size": 32},
    }
    config = {
        "run": str(run),
        "cache": str(tmp_path / "cache"),
        "aligner": {"device": "cpu"},
        "data": {"root": str(folders), "genuine": [str(wild)], "val_fraction": 0.5},
        "recognition": tiny,
        "comparison": {"pairs": 0},
        "liveness": {
            "backbone": {"name": "test_vit", "weights": "scratch"},
            "template": {"size": 32, "margin": 0.0},
            "forgery_kinds": ["self_blend", "resynthesis"],
            "probe": {"passes": 1, "alarms": 0.2},
            "fit": {"workers": 0, "accelerator": "cpu"},
        },
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    config = read_run_config(run / "config.yaml")
    data = prepare_training_data(config)
    inputs = LivenessInputs.select(
        config.liveness, data.with_genuine("train"), data.with_genuine("val")
    )
    mark = inputs.fingerprint(config.liveness, data.cache.aligner.search_settings)
    read = data.reader(config.liveness.template)
    detector, _ = train_detector(
        config.liveness, inputs, TrainingJob(read, run / "liveness/training", mark)
    )
    detector.save(run / "liveness")
    return run


def call_unseen(monkeypatch, run, out, **sources):
    words = [word for name, root in sources.items() for word in ("--source", f"{name}={root}")]
    monkeypatch.setattr(sys, "argv", ["unseen.py", str(run), str(out), *words])
    monkeypatch.setattr(unseen, "configure_process", lambda: None)
    return unseen.main()


NO_FUSION = {"kind k_", "source home"}  # the frozen pairs' forgeries, and all frozen pairs


def spy_fusions(monkeypatch):
    """Lists what fusions are fitted on: their names, the pairs, the genuine pairs by source."""
    original, calls = unseen_pairs.fit_verifier, []

    def fit(name, pairs, genuine, config):
        calls.append((name, pairs, genuine))
        return original(name, pairs, genuine, config)

    monkeypatch.setattr(unseen_pairs, "fit_verifier", fit)
    return calls


def test_unseen_fits_without_each_kind_and_source(
    probe_run, folders, tmp_path, few, monkeypatch, capsys
):
    out, fitted = tmp_path / "out", []
    original = unseen.fit_probe

    def fit(config, network, views, val):
        probe = original(config, network, views, val)
        fitted.append((probe, views, val))
        return probe

    monkeypatch.setattr(unseen, "fit_probe", fit)
    monkeypatch.setattr(transfer, "RESAMPLES", 20)
    fused_on = spy_fusions(monkeypatch)
    sources = {"home": folders, "other": tmp_path / "wild"}
    assert call_unseen(monkeypatch, probe_run, out, **sources) == 0

    # Fitted on everything again, it is the run's own detector.
    kept = Detector.load(probe_run / "liveness").network.head
    assert np.allclose(fitted[0][0].head.weight.detach(), kept.weight.detach(), atol=1e-4)
    assert np.allclose(fitted[0][0].head.bias.detach(), kept.bias.detach(), atol=1e-2)

    table = pd.read_csv(out / "unseen.csv", dtype={"left_out": str})
    left_out = [
        "nothing", "kind k_", "kind resynthesis", "kind self_blend", "source home", "source other",
    ]  # fmt: skip
    assert sorted(table["left_out"].unique()) == sorted(left_out)
    for (_, views, val), name in zip(fitted, table["left_out"].unique(), strict=True):
        what, _, which = name.partition(" ")
        if what == "kind":
            assert which not in views.kind and set(val.source) == {0, 1}
        if what == "source":
            assert set(views.source) == set(val.source) == {int(which == "home")}

    def held_out(left_out, source):
        rows = table[(table["left_out"] == left_out) & (table["source"] == source)]
        return set(rows.loc[rows["held_out"], "forgery"]), set(rows["forgery"])

    always = {"face_swap", "generated"}  # the run's training has neither
    made = always | {"self_blend", "resynthesis"}
    assert held_out("nothing", "home") == (always, made | {"k_"})
    assert held_out("nothing", "other") == (always, made)
    assert held_out("kind k_", "home") == (always | {"k_"}, made | {"k_"})
    assert held_out("kind self_blend", "other") == (always | {"self_blend"}, made)
    assert held_out("source other", "other") == (made, made)
    assert held_out("source other", "home") == (always, made | {"k_"})
    assert table["auc"].between(0, 1).all() and table["bpcer"].between(0, 1).all()

    pairs = pd.read_csv(out / "unseen_pairs.csv", dtype={"left_out": str})
    fusions = [each for each in table["left_out"].unique() if each not in NO_FUSION]
    assert pairs["left_out"].unique().tolist() == fusions
    assert len(pairs) == len(fusions) * (4 + 3)  # no pair shows a whole generated face
    shared = pairs.merge(table, on=["left_out", "source", "forgery"], suffixes=("", "_alone"))
    assert len(shared) == len(pairs)
    assert (shared["held_out"] == shared["held_out_alone"]).all()
    assert np.allclose(shared["auc"], shared["auc_alone"], atol=1e-5)
    # Leaving something out changes nothing about recognition but its threshold.
    assert (pairs.groupby(["source", "forgery"])["spf_eer_alone"].nunique() == 1).all()
    assert [name for name, *_ in fused_on] == ["none", "llr"] * len(fusions)
    for (_, _, genuine), left_out in zip(fused_on[::2], fusions, strict=True):
        assert len(genuine) == (1 if left_out == "source other" else 2)
    log_odds = [frame["log_odds_a"].to_numpy() for _, frame, _ in fused_on[::2]]
    assert not any(np.allclose(log_odds[0], other, atol=1e-3) for other in log_odds[1:])

    captured = capsys.readouterr()
    for left_out in NO_FUSION:
        assert f"{left_out}: no fusion can be fitted without it" in captured.err
    printed = captured.out.splitlines()
    detectors, fused = printed[: 2 + 2 * 6 + 1], printed[2 + 2 * 6 + 2 :]
    assert fused[0] == unseen_pairs.HEAD and len(fused) == 2 + len(pairs) + 2
    assert fused[-2].startswith("Lowest gain in SPF-EER of ")
    assert detectors[0] == (
        "| left out | source | false alarms | face_swap | self_blend | resynthesis | k_ "
        "| generated |"
    )
    worst = table[table["held_out"]]["auc"].min()
    assert detectors[-1].startswith(f"Worst of {table['held_out'].sum()} held-out cells: ")
    assert f": AUC {worst:.2f}, " in detectors[-1]

    # The second time, everything is there already.
    monkeypatch.setattr(unseen, "encode_images", None)
    assert call_unseen(monkeypatch, probe_run, out, **sources) == 0
    assert capsys.readouterr().out.splitlines() == printed

    # Nothing stands in for features that are gone.
    next((probe_run / "liveness/training").glob("views-*")).unlink()
    assert call_unseen(monkeypatch, probe_run, out, **sources) == 2
    assert "missing or damaged" in capsys.readouterr().err


@pytest.fixture
def validation():
    """Described validation pairs: 90 frozen ones of home's images, 60 genuine ones per source."""
    draws = np.random.default_rng(0)

    def pairs(source, kinds):
        kind = np.repeat(kinds, 30)
        mated = kind != "different"
        numbers = np.arange(len(kind))
        return pd.DataFrame(
            {
                "kind": kind,
                "key_a": [f"{source}/{number}" for number in numbers],
                "key_b": [
                    f"{source}/{'k' if each == 'synthetic' else 'b'}{number}"
                    for each, number in zip(kind, numbers, strict=True)
                ],
                "similarity": draws.normal(0.6 * mated, 0.2),
                "log_odds_a": 0.0,
                "log_odds_b": 0.0,
                "comparison": 0.0,
            }
        )

    frozen = pairs("home", ["same", "different", "synthetic"])
    genuine = [pairs(source, ["same", "different"]) for source in ("home", "other")]
    return SimpleNamespace(pairs=frozen, genuine=genuine)


def keys_of(*tables):
    return pd.unique(
        np.concatenate([table[["key_a", "key_b"]].to_numpy().ravel() for table in tables])
    )


def seeing(keys):
    """Log-odds of a detector that knows forgeries."""
    return pd.Series(np.where(["/k" in key for key in keys], 4.0, -4.0), keys)


def test_refit_fusion_trusts_the_detector_it_is_given(validation):
    keys = keys_of(validation.pairs, *validation.genuine)
    blind = unseen_pairs.refit_fusion(pd.Series(0.0, keys), validation, FusionConfig())
    sharp = unseen_pairs.refit_fusion(seeing(keys), validation, FusionConfig())
    pair = Evidence(np.array([0.9, 0.9]), np.array([-4.0, -4.0]), np.array([-4.0, 4.0]))
    for system in (blind["fused"], blind["alone"], sharp["alone"]):
        assert np.ptp(system.fuser.score(pair)) == 0
    genuine, forged = sharp["fused"].fuser.score(pair)
    assert genuine >= sharp["fused"].threshold > forged


def test_refit_fusion_forgets_a_source_without_log_odds(validation):
    validation.genuine[1]["similarity"] = 0.99  # of other people, too: raises every threshold
    everything = keys_of(validation.pairs, *validation.genuine)
    home = keys_of(validation.pairs, validation.genuine[0])
    both, one = (
        unseen_pairs.refit_fusion(seeing(keys), validation, FusionConfig())["alone"].threshold
        for keys in (everything, home)
    )
    assert one < 0.99 < both


def test_refit_fusion_gives_none_when_no_forgery_is_left(validation):
    keys = keys_of(validation.pairs, *validation.genuine)
    genuine = seeing([key for key in keys if "/k" not in key])
    assert unseen_pairs.refit_fusion(genuine, validation, FusionConfig()) is None


def test_unseen_pairs_summary_names_the_lowest_held_out_gain_and_what_is_worse():
    def row(forgery, gain, high, held_out):
        figures = {"spf_eer_alone": 0.3, "spf_eer_fused": 0.3 - gain, "spf_eer_gain": gain}
        ends = {"spf_eer_gain_low": gain - 0.1, "spf_eer_gain_high": high, "eer_gain_high": high}
        named = {"left_out": "kind k_", "source": "home", "forgery": forgery}
        return {**named, **figures, **ends, "held_out": held_out}

    rows = [row("a", -0.2, -0.1, False), row("b", 0.05, 0.1, True), row("c", 0.1, 0.2, True)]
    assert unseen_pairs.summary(rows).splitlines() == [
        "Lowest gain in SPF-EER of 2 held-out cells with pairs: home, b, left out kind k_: "
        "30.0% alone, 25.0% fused, gain +5.0 [-5.0, +10.0].",
        "Fusion is worse than recognition alone, in EER or SPF-EER beyond the interval, in 1 of 3 "
        "cells: home, a, left out kind k_.",
    ]
    assert unseen_pairs.summary(rows[1:]).endswith("in none of 2 cells.")


def test_unseen_refuses_a_detector_that_is_no_probe(run, folders, tmp_path, monkeypatch, capsys):
    (run / "config.yaml").write_text("liveness: {}\n")
    assert call_unseen(monkeypatch, run, tmp_path / "out", home=folders) == 2
    assert "liveness.probe.passes is 0" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["home", "=root", "home="])
def test_unseen_refuses_a_source_without_name_or_root(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["unseen.py", "run", str(tmp_path), "--source", source])
    with pytest.raises(SystemExit):
        unseen.main()
    assert "is not NAME=DATA_ROOT" in capsys.readouterr().err


RED = np.array([255, 0, 0], np.uint8)


def aligned(images):
    """Images that are aligned crops already."""
    count, template = len(images), CropTemplate(112)
    landmarks = np.repeat(template_points(template)[None], count, 0)
    boxes = np.tile(np.float32([0, 0, 112, 112]), (count, 1))
    crops = {template: np.stack(images)}
    return AlignedFaces(crops, landmarks, boxes, np.ones(count, np.float32), [FOUND] * count)


def red_share(faces):
    """Features whose log-odds of 'synthetic' count red pixels."""
    crops = faces.crops_for(CropTemplate(112)).pixels
    odds = (crops == RED).all(3).mean((1, 2)).astype(np.float32)
    return CropFeatures(np.ones((len(crops), 1), np.float32), odds, None)


@pytest.mark.parametrize(("sign", "hit"), [(-1, 1.0), (1, 0.0)], ids=["true", "false"])
def test_measure_regions_scores_a_detector_by_whether_it_sees_the_change(sign, hit):
    fuser = SimpleNamespace(score=lambda evidence: sign * evidence.log_odds_a)
    pipeline = SimpleNamespace(
        extractor=SimpleNamespace(
            cache=SimpleNamespace(aligner=aligned),
            recogniser=SimpleNamespace(spec=SimpleNamespace(template=CropTemplate(112))),
            from_faces=red_share,
        ),
        differential=None,
        verifier=SimpleNamespace(fuser=fuser),
    )
    photo = smooth_photo(3, 112)
    forged = photo.copy()
    forged[60:100, 60:100] = RED
    (row,) = measure_regions(pipeline, iter([("a", "one part", forged, photo, photo)]))
    assert row["hit"] == hit and 0 < row["chance"] < 0.5
    assert (row["moves more"] > 0.9) == (sign < 0)


def test_measure_pairs_counts_photos_and_causes_of_refused_pairs():
    rows = [
        ("synthetic", 0.9, -3.0, 4.0, 1),  # right photo
        ("synthetic", 0.9, 4.0, 3.0, 1),  # wrong photo
        ("synthetic", -0.5, -3.0, -2.0, 1),  # refused as different people: names no photo
        ("synthetic", 0.9, -9.0, -9.5, 1),  # accepted
        ("different", -0.5, -3.0, -3.0, 0),
        ("different", -0.5, 9.0, -3.0, 0),  # taken for a forgery
        ("same", 0.9, 4.0, -3.0, 0),  # no wrong side
    ]
    names = ["kind", "similarity", "log_odds_a", "log_odds_b", "synthetic_b"]
    pairs = pd.DataFrame(rows, columns=names).assign(label_a="a", comparison=0.0, acquired=True)
    fuser = NonLinearLLR(10.0, -3.0, 1.0, 0.0, 0.0, 0.0)
    pairs["score"] = fuser.score(Evidence.of(pairs))
    pipeline = SimpleNamespace(
        score_pairs=lambda pairs: (pairs, None),
        verifier=SimpleNamespace(fuser=fuser, threshold=0.0),
    )
    measured = measure_pairs(pipeline, pairs)
    assert len(measured) == 6
    assert measured["photo"].dropna().tolist() == [True, False]
    assert measured["cause"].dropna().tolist() == [True, True, False, True, False]
    assert measured["higher log-odds"].dropna().tolist() == [True, False, True, False]


def test_cover_changes_the_window_alone_and_the_same_one_in_a_wider_crop():
    crop = smooth_photo(4, 112)
    for blurred in (False, True):
        changed = (cover(crop, CropTemplate(112), (0.25, 0, 0.5, 0.5), blurred) != crop).any(2)
        assert changed[:56, 28:56].mean() > 0.9 and not changed[56:].any()
        assert not changed[:, :28].any() and not changed[:, 56:].any()
    changed = (cover(crop, CropTemplate(112, 0.5), (0, 0, 1, 1), True) != crop).any(2)
    assert changed[28:84, 28:84].mean() > 0.9 and not changed[:28].any()


def test_paste_part_changes_the_mouth_alone():
    photo, forged = smooth_photo(5, 112), smooth_photo(6, 112)
    points = template_points(CropTemplate(112))
    pasted = paste_part(photo, forged, points, MOUTH)
    x, y = points[3:].mean(0).astype(int)
    assert np.array_equal(pasted[y, x], forged[y, x])
    assert np.array_equal(pasted[:60], photo[:60])
