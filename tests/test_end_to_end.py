"""Train, kill, resume, submit, score: the scripts as a user runs them, on a tiny data set."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import train as train_script
from kryptonite.data.submission import read_submission
from tests.tiny import CONFIG

pytestmark = pytest.mark.slow


def environment():
    # A test's own distributed variables must not reach the scripts; one thread keeps sums in one order.
    return {
        **{
            key: value
            for key, value in os.environ.items()
            if key not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")
        },
        "OMP_NUM_THREADS": "1",
    }


def arguments(root, run, *extra):
    config = root / "tiny.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    return [
        "train.py",
        "--config",
        str(config),
        "--data.root",
        str(root),
        "--run",
        str(run),
        "--cache",
        str(root / "cache"),
        *extra,
    ]


@pytest.fixture
def train(monkeypatch, capsys):
    """Runs train.py's main in this process, which spares its start-up; gives (status, stdout, stderr)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as `environment` sets it for other processes

    def call(root, run, *extra):
        monkeypatch.setattr(sys, "argv", arguments(root, run, *extra))
        capsys.readouterr()
        status = train_script.main()
        return status, *capsys.readouterr()

    yield call
    torch.set_num_threads(threads)


def submit(root, run, *extra):
    places = [
        "--run",
        str(run),
        "--data_root",
        str(root),
        "--cache",
        str(root / "cache"),
        "--device",
        "cpu",
    ]
    return subprocess.run(
        [sys.executable, "make_submission.py", *places, *extra],
        capture_output=True,
        text=True,
        env=environment(),
    )


def test_train_kill_resume_submit_score(folders, train):
    status, out, err = train(folders, folders / "whole")
    assert status == 0 and "fused: EER" in out, err
    expected = json.loads((folders / "whole/metrics.json").read_text())

    run = folders / "cut"
    command = [sys.executable, *arguments(folders, run)]
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment()
    )
    last = run / "liveness/training/0/last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert last.exists() and process.poll() is None, "training ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "metrics.json").exists() and (run / "recognition/model.safetensors").exists()

    status, _, err = train(folders, run)
    assert (
        status == 0 and "recognition: done already" in err and "liveness: done already" not in err
    )
    metrics = json.loads((run / "metrics.json").read_text())
    for part in ("recognition/model", "liveness/model", "comparison/model", "comparison/comparer"):
        file = f"{part}.safetensors"
        assert (
            not (run / file).exists()
            or (run / file).read_bytes() == (folders / "whole" / file).read_bytes()
        ), file
    assert metrics["validation"]["fused"]["eer"] == pytest.approx(
        expected["validation"]["fused"]["eer"], abs=1e-6
    )
    for part in (
        "config.yaml",
        "model_card.md",
        "fusion.json",
        "pairs_val.csv",
        "liveness/model.safetensors",
    ):
        assert (run / part).exists()
    assert "| fused |" in (run / "model_card.md").read_text()

    stamps = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    _, _, err = train(folders, run)
    assert err.count("done already") == 4 and stamps == {
        path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")
    }
    _, _, err = train(folders, run, "--fusion.name", "llr")  # only the last stage has changed
    assert (
        err.count("done already") == 3
        and json.loads((run / "fusion.json").read_text())["chosen"] == "llr"
    )

    done = submit(folders, run)
    assert done.returncode == 0, done.stderr
    table = read_submission(run / "submission.csv")
    assert (
        table["pair_id"].tolist() == [f"{n:08d}" for n in range(4)]
        and "4 pairs, 8 images" in done.stdout
    )
    first = (run / "submission.csv").read_bytes()

    (folders / "data/test_public/images/00000002/0.jpg").write_bytes(b"broken")
    lenient = submit(folders, run, "--out", str(folders / "lenient.csv"))
    strict = submit(folders, run, "--strict")
    assert lenient.returncode == 0 and "00000002" in lenient.stderr and strict.returncode == 1
    table = pd.read_csv(run / "submission.csv", dtype={"pair_id": str})
    assert (
        table["similarity"].idxmin() == 2 and table.at[2, "similarity"] == -1000 and len(table) == 4
    )
    assert (run / "submission.csv").read_bytes() == (folders / "lenient.csv").read_bytes() != first


def test_a_stage_is_done_anew_when_what_it_reads_has_changed(folders, train):
    run, untrained = (
        folders / "run",
        ["--recognition.fit.epochs", "0", "--comparison.fit.epochs", "0"],
    )
    assert train(folders, run, *untrained)[0] == 0
    _, _, err = train(
        folders, run, *untrained, "--liveness.template.size", "48"
    )  # no other stage reads that crop
    assert (
        all(f"{stage}: done already" in err for stage in ("recognition", "comparison"))
        and err.count("done already") == 2
    )
    weights = (run / "recognition/model.safetensors").read_bytes()
    _, _, err = train(
        folders,
        run,
        *untrained,
        "--liveness.template.size",
        "48",
        "--recognition.mean",
        "[0.1, 0.1, 0.1]",
    )
    assert (
        run / "recognition/model.safetensors"
    ).read_bytes() == weights  # nothing was trained, but all that it sees looks different
    assert err.count("done already") == 1 and "liveness: done already" in err


def test_broken_images_in_training_are_counted_not_trained_on(folders, train, save):
    images = folders / "data/train/images"
    (images / "00000000/0.jpg").write_bytes(b"broken")
    (images / "00000000/k_0.jpg").write_bytes(b"")
    save(
        images / "00000001/0.jpg",
        np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8),
    )
    status, _, err = train(folders, folders / "run")
    assert status == 0, err
    failures = json.loads((folders / "run/metrics.json").read_text())["failures"]
    assert failures["train"]["unreadable"] + failures["val"]["unreadable"] == 2
    assert failures["train"]["images"] + failures["val"]["images"] == 80
    assert (
        failures["train"]["failure_to_acquire"] + failures["val"]["failure_to_acquire"] == 1
    )  # noise has no face


@pytest.mark.parametrize("launcher", ["own", "torchrun"])
def test_two_processes_train_as_one_run(folders, train, launcher):
    two = ["--recognition.fit.devices", "2", "--liveness.fit.devices", "2"]
    soup = ["--liveness.fit.soup", "2"]
    start = [sys.executable]
    if launcher == "torchrun":
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--"]
    done = subprocess.run(
        [*start, *arguments(folders, folders / "run", *two, *soup)],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("fused: EER") == 1
    result = json.loads((folders / "run/metrics.json").read_text())["stages"]["liveness"][
        "validation_eer"
    ]
    assert result["best_score"] <= result["start_score"]
    status, _, err = train(
        folders, folders / "run", *soup
    )  # the number of processes is no reason to train again
    assert status == 0 and err.count("done already") == 4


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--fusion.name", "magic"], "no fusion is called"),
        (
            ["--recognition.backbone.weights", "nowhere.safetensors"],
            "nowhere.safetensors: no such weights file",
        ),
        (["--recognition.backbone.name", "no_such_net"], "timm knows no model"),
        (["--data.root", "/nowhere"], "/nowhere: neither train.csv nor data/train"),
        (["--data.val_fraction", "0.1"], "more validation people"),
        (["--liveness.fit.soup", "0"], "soup: at least one training, not 0"),
        (["--liveness.forgery_kinds", '["magic"]'], "no forgery is called 'magic'"),
    ],
)
def test_mistakes_are_told_in_a_line(folders, train, extra, message):
    status, _, err = train(folders, folders / "run", *extra)
    assert status == 2 and message in err and "Traceback" not in err
