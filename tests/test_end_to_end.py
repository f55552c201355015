"""Train, kill, resume, submit, score: the scripts as a user runs them, on a tiny data set."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml

from dataset.submission import read_submission
from tests.tiny import CONFIG

pytestmark = pytest.mark.slow


def environment():
    # A test's own distributed variables must not reach the scripts; one thread keeps sums in one order.
    return {**{key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}, "OMP_NUM_THREADS": "1"}


def command(root, run, *extra):
    config = root / "tiny.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    places = ["--data.root", str(root), "--run", str(run), "--cache", str(root / "cache")]
    return [sys.executable, "train.py", "--config", str(config), *places, *extra]


def train(root, run, *extra):
    done = subprocess.run(command(root, run, *extra), capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def submit(root, run, *extra):
    arguments = ["--run", str(run), "--data_root", str(root), "--cache", str(root / "cache"), "--device", "cpu"]
    return subprocess.run([sys.executable, "make_submission.py", *arguments, *extra], capture_output=True, text=True, env=environment())


def test_train_kill_resume_submit_score(folders):
    whole = train(folders, folders / "whole")
    assert "fused: EER" in whole.stdout
    expected = json.loads((folders / "whole/metrics.json").read_text())

    run = folders / "cut"
    process = subprocess.Popen(command(folders, run), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment())
    last = run / "liveness/training/last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert last.exists() and process.poll() is None, "training ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "metrics.json").exists() and (run / "recognition/model.safetensors").exists()

    resumed = train(folders, run)
    assert "recognition: done already" in resumed.stderr and "liveness: done already" not in resumed.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    kept = [dict(each["stages"]["liveness"]["validation_eer"], seconds=0) for each in (metrics, expected)]
    assert kept[0] == pytest.approx(kept[1], abs=1e-6)
    assert metrics["validation"]["fused"]["eer"] == pytest.approx(expected["validation"]["fused"]["eer"], abs=1e-6)
    for part in ("config.yaml", "model_card.md", "fusion.json", "pairs_val.csv", "liveness/model.safetensors"):
        assert (run / part).exists()
    assert "| fused |" in (run / "model_card.md").read_text()

    stamps = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    again = train(folders, run)
    assert again.stderr.count("done already") == 3 and stamps == {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    other = train(folders, run, "--fusion.name", "multinomial")  # only the last stage has changed
    assert other.stderr.count("done already") == 2 and json.loads((run / "fusion.json").read_text())["name"] == "multinomial"

    done = submit(folders, run)
    assert done.returncode == 0, done.stderr
    table = read_submission(run / "submission.csv")
    assert table["pair_id"].tolist() == [f"{n:08d}" for n in range(4)] and "4 pairs, 8 images" in done.stdout
    first = (run / "submission.csv").read_bytes()
    assert submit(folders, run).returncode == 0 and (run / "submission.csv").read_bytes() == first

    (folders / "gt.csv").write_text("pair_id,label,kind\n0,1,same\n1,0,different\n2,1,same\n3,0,synthetic\n")
    files = ["--public_test_url", str(folders / "gt.csv"), "--public_prediction_url", str(run / "submission.csv")]
    scored = subprocess.run([sys.executable, "eer.py", *files], capture_output=True, text=True)
    assert scored.returncode == 0 and "SPF-EER" in scored.stdout

    (folders / "data/test_public/images/00000002/0.jpg").write_bytes(b"broken")
    lenient, strict = submit(folders, run), submit(folders, run, "--strict")
    assert lenient.returncode == 0 and "00000002" in lenient.stderr and strict.returncode == 1
    table = pd.read_csv(run / "submission.csv", dtype={"pair_id": str})
    assert table["similarity"].idxmin() == 2 and len(table) == 4


def test_broken_images_in_training_are_counted_not_trained_on(folders):
    images = folders / "data/train/images"
    (images / "00000000/0.jpg").write_bytes(b"broken")
    (images / "00000000/k_0.jpg").write_bytes(b"")
    train(folders, folders / "run")
    failures = json.loads((folders / "run/metrics.json").read_text())["failures"]
    assert failures["train"]["unreadable"] + failures["val"]["unreadable"] == 2
    assert failures["train"]["images"] + failures["val"]["images"] == 50
    assert failures["train"]["failure_to_acquire"] > 0  # noise has no face


def test_two_processes_train_as_one_run(folders):
    two = ["--recognition.fit.devices", "2", "--liveness.fit.devices", "2"]
    done = train(folders, folders / "run", *two)
    assert done.stdout.count("fused: EER") == 1
    metrics = json.loads((folders / "run/metrics.json").read_text())
    assert metrics["stages"]["liveness"]["validation_eer"]["best_score"] <= metrics["stages"]["liveness"]["validation_eer"]["start_score"]
    single = train(folders, folders / "run")  # the number of processes is no reason to train again
    assert single.stderr.count("done already") == 3
    assert submit(folders, folders / "run").returncode == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--fusion.name", "magic"], "no fusion is called"),
        (["--recognition.backbone.weights", "nowhere.safetensors"], "nowhere.safetensors: no such weights file"),
        (["--recognition.backbone.name", "no_such_net"], "timm knows no model"),
        (["--data.root", "/nowhere"], "/nowhere: neither train.csv nor data/train"),
    ],
)
def test_mistakes_are_told_in_a_line(folders, extra, message):
    done = subprocess.run(command(folders, folders / "run", *extra), capture_output=True, text=True, env=environment())
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
