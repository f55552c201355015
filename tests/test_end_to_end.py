"""Train, kill, resume, submit, score: the commands as a user runs them, on a tiny data set."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from kryptonite.cli.main import run_command
from kryptonite.data.submission import read_submission
from tests.tiny import CONFIG

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TRAIN = str(ROOT / "train.py")


def environment():
    """This process's environment for a script: one thread, so that sums add up in one order.

    A test's own distributed variables must not reach the scripts.
    """
    distributed = ("LOCAL_RANK", "RANK", "WORLD_SIZE")
    kept = {name: value for name, value in os.environ.items() if name not in distributed}
    return {**kept, "OMP_NUM_THREADS": "1"}


def options(root, run, *extra):
    """Options that train on a folder's data."""
    config = root / "tiny.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    places = ["--data.root", str(root), "--run", str(run), "--cache", str(root / "cache")]
    return ["--config", str(config), *places, *extra]


def start(*command):
    """Runs a script to its end."""
    return subprocess.run(command, capture_output=True, text=True, env=environment())


@pytest.fixture
def train(capsys):
    """Trains in this process, which spares the start-up; gives (status, stdout, stderr)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in `environment`

    def call(root, run, *extra):
        capsys.readouterr()
        status = run_command("train", options(root, run, *extra), "train.py")
        return status, *capsys.readouterr()

    yield call
    torch.set_num_threads(threads)


def submit(root, run, *extra):
    places = ["--run", str(run), "--data_root", str(root), "--cache", str(root / "cache")]
    script = str(ROOT / "make_submission.py")
    return start(sys.executable, script, *places, "--device", "cpu", *extra)


def kept_weights(run):
    """Every weights file of a run, by name."""
    return {str(path.relative_to(run)): path for path in sorted(run.glob("*/*.safetensors"))}


def test_train_ends_in_the_same_bytes_when_it_was_killed_and_resumed(folders, train):
    status, out, err = train(folders, folders / "whole")
    assert status == 0 and "fused: EER" in out, err

    run = folders / "cut"
    command = [sys.executable, TRAIN, *options(folders, run)]
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, stderr=silent, stdout=silent, env=environment())
    last = run / "liveness/training/0/last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert last.exists() and process.poll() is None, "training ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "metrics.json").exists() and (run / "recognition/model.safetensors").exists()

    status, _, err = train(folders, run)
    assert status == 0 and "recognition: done already" in err
    assert "liveness: done already" not in err
    whole, weights = kept_weights(folders / "whole"), kept_weights(run)
    assert weights.keys() == whole.keys() >= {"liveness/model.safetensors"}
    for name, path in weights.items():
        assert path.read_bytes() == whole[name].read_bytes(), name
    first, second = (
        json.loads((folder / "metrics.json").read_text())["validation"]
        for folder in (folders / "whole", run)
    )
    assert first == second
    for part in ("config.yaml", "model_card.md", "fusion.json", "pairs_val.csv"):
        assert (run / part).exists()
    assert "| fused |" in (run / "model_card.md").read_text()

    stamps = {path: path.stat().st_mtime_ns for path in weights.values()}
    _, _, err = train(folders, run)
    assert err.count("done already") == 4
    assert stamps == {path: path.stat().st_mtime_ns for path in weights.values()}
    _, _, err = train(folders, run, "--fusion.name", "multinomial")
    assert err.count("done already") == 3  # all but the fusion
    assert json.loads((run / "fusion.json").read_text())["chosen"] == "multinomial"

    done = submit(folders, run)
    assert done.returncode == 0, done.stderr
    table = read_submission(run / "submission.csv")
    assert table["pair_id"].tolist() == [f"{n:08d}" for n in range(4)]
    assert "4 pairs, 8 images" in done.stdout
    before = (run / "submission.csv").read_bytes()

    (folders / "data/test_public/images/00000002/0.jpg").write_bytes(b"broken")
    lenient = submit(folders, run, "--out", str(folders / "lenient.csv"))
    strict = submit(folders, run, "--strict")
    assert lenient.returncode == 0 and "00000002" in lenient.stderr and strict.returncode == 1
    scores = pd.read_csv(run / "submission.csv")["similarity"]
    assert len(scores) == 4 and scores.idxmin() == 2 and scores[2] == -1000
    after = (run / "submission.csv").read_bytes()
    assert after == (folders / "lenient.csv").read_bytes() != before


def test_train_fits_a_probe_on_the_photos_of_several_sources(folders, train):
    further = folders / "further"
    skip = shutil.ignore_patterns("k_*", "test_public", "meta.json")
    shutil.copytree(folders / "data", further / "data", ignore=skip)
    probe = ["--liveness.backbone.name", "test_vit", "--liveness.probe.passes", "1"]
    untrained = ["--recognition.fit.epochs", "0", "--comparison.fit.epochs", "0"]
    run = folders / "run"
    genuine = ["--data.genuine", json.dumps([str(further)])]
    status, _, err = train(folders, run, *probe, *untrained, *genuine)
    assert status == 0, err
    stage = json.loads((run / "liveness/stage.json").read_text())["metrics"]
    alone = {
        split: sum(each["images"] for name, each in failures.items() if name.startswith(split))
        for failures in [json.loads((run / "metrics.json").read_text())["failures"]]
        for split in ("train", "val")
    }
    # Of every bona fide photo of both sources, one view as it is and one forgery.
    views = stage["views"]
    assert views["bona_fide"] == views["self_blend"] > views["k_"] > 0
    assert views["bona_fide"] + views["k_"] == alone["train"]
    _, _, err = train(folders, run, *probe, *untrained, *genuine)
    assert err.count("done already") == 4
    _, _, err = train(folders, run, *probe, *untrained)
    assert "liveness: done already" not in err and err.count("done already") == 2
    done = submit(folders, run)
    assert done.returncode == 0, done.stderr


def test_train_redoes_a_stage_when_its_inputs_have_changed(folders, train):
    run = folders / "run"
    untrained = ["--recognition.fit.epochs", "0", "--comparison.fit.epochs", "0"]
    assert train(folders, run, *untrained)[0] == 0
    crop = ["--liveness.template.size", "48"]  # which no other stage reads
    _, _, err = train(folders, run, *untrained, *crop)
    for stage in ("recognition", "comparison"):
        assert f"{stage}: done already" in err
    assert err.count("done already") == 2
    weights = (run / "recognition/model.safetensors").read_bytes()
    mean = ["--recognition.mean", "[0.1, 0.1, 0.1]"]
    _, _, err = train(folders, run, *untrained, *crop, *mean)
    # The weights stay as they were, but they see another input.
    assert (run / "recognition/model.safetensors").read_bytes() == weights
    assert err.count("done already") == 1 and "liveness: done already" in err


def test_train_counts_and_leaves_out_broken_images(folders, train, save):
    images = folders / "data/train/images"
    (images / "00000000/0.jpg").write_bytes(b"broken")
    (images / "00000000/k_0.jpg").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    save(images / "00000001/0.jpg", noise)  # has no face
    status, _, err = train(folders, folders / "run")
    assert status == 0, err
    failures = json.loads((folders / "run/metrics.json").read_text())["failures"].values()
    for name, count in (("unreadable", 2), ("images", 80), ("failure_to_acquire", 1)):
        assert sum(split[name] for split in failures) == count


@pytest.mark.parametrize("launcher", ["own", "torchrun"])
def test_train_makes_one_run_when_two_processes_share_it(folders, train, launcher):
    two = ["--recognition.fit.devices", "2", "--liveness.fit.devices", "2"]
    soup = ["--liveness.fit.soup", "2"]
    command = [sys.executable]
    if launcher == "torchrun":
        processes = ["--standalone", "--nproc_per_node", "2", "--"]
        command += ["-m", "torch.distributed.run", *processes]
    done = start(*command, TRAIN, *options(folders, folders / "run", *two, *soup))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("fused: EER") == 1
    stages = json.loads((folders / "run/metrics.json").read_text())["stages"]
    result = stages["liveness"]["validation_eer"]
    assert result["best_score"] <= result["start_score"]
    # The number of processes is not an input.
    status, _, err = train(folders, folders / "run", *soup)
    assert status == 0 and err.count("done already") == 4


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--fusion.name", "magic"], "unknown fusion"),
        (
            ["--recognition.backbone.weights", "nowhere.safetensors"],
            "nowhere.safetensors: no such weights file",
        ),
        (["--recognition.backbone.name", "no_such_net"], "timm has no model"),
        (["--data.root", "/nowhere"], "/nowhere: neither train.csv nor data/train"),
        (["--data.val_fraction", "0.1"], "more validation identities"),
        (["--liveness.fit.soup", "0"], "soup: at least 1, not 0"),
        (["--liveness.forgery_kinds", '["magic"]'], "no forgery is called 'magic'"),
    ],
)
def test_train_names_a_mistake_in_one_line(folders, train, extra, message):
    status, _, err = train(folders, folders / "run", *extra)
    assert status == 2 and message in err and "Traceback" not in err
