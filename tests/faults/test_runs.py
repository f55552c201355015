"""Runs cut short, damaged, shared or misconfigured: right in the end, or one clear line."""

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
from PIL import Image

import kryptonite
from kryptonite.core.errors import DataError, KryptoniteError, WeightsError
from kryptonite.core.files import check_writable
from kryptonite.core.tensors import load_tensors, save_tensors
from kryptonite.data.layouts import load_test_pairs
from kryptonite.nn.weights import read_state_dict
from kryptonite.runs import stages
from kryptonite.runs.run_dir import RunDir
from tests.faults.system import message, options, scoring, weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

ROOT = Path(__file__).parents[2]
BRANCHES = ("recognition", "liveness", "comparison")


def snapshot(folder):
    """Every file of a folder with its content and time, but for the lock's."""
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# A failed start


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["--data.root", "nowhere"], "nowhere"),
        (["--liveness.backbone.weights", "none.safetensors"], "none.safetensors"),
        (["--recognition.backbone.name", "no_such_net"], "no_such_net"),
        (["--liveness.probe.passes", "1"], "no vision transformer"),
        (["--fusion.name", "abacus"], "abacus"),
        (["--liveness.fit.precision", "fp16"], "fit.precision"),
        (["--recognition.fit.accelerator", "cuda"], "recognition.fit.accelerator cuda"),
        (["--aligner.device", "cuda"], "cuda"),
        (["--aligner.common_quality", "400"], "common_quality"),
        (["--data.val_fraction", "0.1"], "data.val_fraction"),
    ],
)
def test_train_changes_nothing_when_its_start_fails(data, run, call, wrong, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = snapshot(run)
    status, said = call("train", *options(data, run, "--aligner.min_face", "30", *wrong))
    assert status == 2 and expected in message(said), said
    assert snapshot(run) == before
    kryptonite.load(run, data / "cache", "cpu")


# Parts that do not belong together


def test_load_refuses_run_when_retraining_failed_half_way(data, run, call, monkeypatch, trained):
    def fail(*arguments):
        raise DataError("the power is off")

    kryptonite.load(run, data / "cache", "cpu")
    with monkeypatch.context() as patched:
        patched.setattr(stages, "train_detector", fail)
        other = ["--recognition.seed", "5", "--liveness.seed", "5"]
        assert call("train", *options(data, run, *other))[0] == 2
    for name, arguments in (
        ("submit", scoring(data, run)),
        ("evaluate", scoring(data, run)),
        ("verify", ["a.jpg", "b.jpg", "--run", run, "--device", "cpu"]),
    ):
        status, said = call(name, *arguments)
        assert status == 2 and "another recognition model" in message(said)
        assert "fusion.json" in message(said) and "`python train.py`" in message(said)
    assert not (run / "submission.csv").exists()
    assert call("train", *options(data, run))[0] == 0  # the settings it had
    assert weights(run) == weights(trained)
    kryptonite.load(run, data / "cache", "cpu")


def edit_config(run, section, name, value):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config[section][name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def other_weights(run, branch):
    file = run / branch / "model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda run: edit_config(run, "aligner", "min_face", 60), "other aligner settings"),
        (lambda run: edit_config(run, "liveness", "forgeries", 0.5), "other training settings"),
        (lambda run: edit_config(run, "comparison", "pairs", 0), "another comparison model"),
        (lambda run: other_weights(run, "recognition"), "another recognition model"),
        (lambda run: other_weights(run, "liveness"), "another liveness model"),
        (lambda run: (run / "images.csv").write_text("key,split,species\n"), "other images"),
    ],
)
def test_load_names_the_part_when_it_is_not_the_one_fitted_on(data, run, change, expected):
    change(run)
    with pytest.raises(DataError, match=rf"fusion\.json: fitted on .*{expected}"):
        kryptonite.load(run, data / "cache", "cpu")


def test_load_takes_run_of_older_version_without_hashes(data, run, call):
    fusion = json.loads((run / "fusion.json").read_text())
    for section in ("branches", "fingerprint"):
        fusion.pop(section)
    (run / "fusion.json").write_text(json.dumps(fusion))
    for branch in BRANCHES:
        stage = json.loads((run / branch / "stage.json").read_text())
        stage.pop("files")
        (run / branch / "stage.json").write_text(json.dumps(stage))
    kryptonite.load(run, data / "cache", "cpu")
    status, said = call("train", *options(data, run))
    # The changed stage.json of the comparison alone makes the fusion run again.
    assert status == 0 and said.count("done already") == 3


def test_evaluate_refuses_metrics_of_another_run(data, run, call):
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "fingerprint": "0"}))
    status, said = call("evaluate", *scoring(data, run, "--resamples", "5"))
    assert status == 2 and "metrics.json: not the figures of fusion.json" in message(said)


# Damaged files

SCORED_WITH = [
    "config.yaml",
    "fusion.json",
    *(f"{branch}/model.{kind}" for branch in BRANCHES[:2] for kind in ("json", "safetensors")),
    "comparison/comparer.json",
    "comparison/comparer.safetensors",
]
RESTARTED = [
    *(f"{branch}/stage.json" for branch in BRANCHES),
    "metrics.json",
    *SCORED_WITH,
    "pairs_val.csv",
]
CHECKPOINTS = ["start.json", "0/ended.json", "0/best.ckpt", "0/last.ckpt"]


def damage(file, how):
    content = file.read_bytes()
    file.write_bytes(
        {"empty": b"", "cut": content[: len(content) // 2], "noise": b"\xff\x00["}[how]
    )


@pytest.mark.parametrize("how", ["empty", "cut", "noise"])
@pytest.mark.parametrize("name", SCORED_WITH)
def test_load_names_the_file_when_it_is_damaged(data, run, name, how):
    damage(run / name, how)
    with pytest.raises(KryptoniteError) as caught:
        kryptonite.load(run, data / "cache", "cpu")
    assert Path(name).name in str(caught.value) and str(run) in str(caught.value)


@pytest.mark.parametrize("how", ["empty", "cut"])
@pytest.mark.parametrize("name", ["metrics.json", "images.csv", "config.yaml", "pairs_val.csv"])
def test_evaluate_names_the_file_when_it_is_damaged(data, run, call, name, how):
    damage(run / name, how)
    status, said = call("evaluate", *scoring(data, run, "--resamples", "5"))
    # Of a table, whole rows can be missing without a trace; it is then refused by its hash.
    assert status == 2 and name in message(said), said
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(("number", "name"), enumerate(RESTARTED))
def test_train_makes_a_damaged_file_again(data, run, trained, call, number, name):
    damage(run / name, ("empty", "cut", "noise")[number % 3])
    status, said = call("train", *options(data, run))
    assert status == 0, said
    assert weights(run) == weights(trained)
    whole, again = (json.loads((each / "metrics.json").read_text()) for each in (trained, run))
    assert again["validation"] == whole["validation"]
    kryptonite.load(run, data / "cache", "cpu")
    if name != "config.yaml":  # which is written at every start
        part = name.partition("/")[0] if "/" in name else name
        assert any(part in line and "again" in line for line in said.splitlines()), said


def test_train_writes_the_model_card_again_when_it_is_gone(data, run, call):
    card = (run / "model_card.md").read_text().splitlines()
    (run / "model_card.md").unlink()
    status, said = call("train", *options(data, run))
    assert status == 0, said
    again = (run / "model_card.md").read_text().splitlines()
    assert again[1:] == card[1:]  # the first line names the folder


def cut_rows(run):
    """Leaves ten pairs out; what is left is a whole table."""
    lines = (run / "pairs_val.csv").read_bytes().splitlines(keepends=True)
    (run / "pairs_val.csv").write_bytes(b"".join(lines[:-10]))


def test_evaluate_and_ablate_refuse_the_runs_pairs_when_rows_are_missing(data, run, call, tmp_path):
    cut_rows(run)
    expected = "pairs_val.csv: not the pairs that fusion.json was fitted on"
    for command, extra in (("evaluate", ["--resamples", "5"]), ("ablate", ["--quick"])):
        status, said = call(command, *scoring(data, run, *extra))
        assert status == 2 and expected in message(said), said
    assert not (run / "report.html").exists() and not (run / "ablation").exists()
    # Variants train on these pairs, whichever are measured; scoring reads none of them.
    shutil.copy(run / "pairs_val.csv", tmp_path / "pairs.csv")
    other = ["--pairs", tmp_path / "pairs.csv", "--resamples", "5"]
    status, said = call("ablate", *scoring(data, run, *other))
    assert status == 2 and expected in message(said), said
    out = ["--out", tmp_path / "r.html"]
    assert call("evaluate", *scoring(data, run, *other, *out))[0] == 0
    assert call("submit", *scoring(data, run))[0] == 0


def test_train_makes_the_runs_pairs_again_when_rows_are_missing(data, run, trained, call):
    cut_rows(run)
    status, said = call("train", *options(data, run))
    assert status == 0 and said.count("done already") == 4, said
    assert "pairs_val.csv: not the pairs that fusion.json was fitted on; made again" in said
    for name in ("pairs_val.csv", "fusion.json", "metrics.json"):
        assert (run / name).read_bytes() == (trained / name).read_bytes()
    assert call("evaluate", *scoring(data, run, "--resamples", "5"))[0] == 0


def test_evaluate_and_train_take_pairs_of_older_version_without_hash(data, run, trained, call):
    fusion = json.loads((run / "fusion.json").read_text())
    del fusion["pairs"]
    (run / "fusion.json").write_text(json.dumps(fusion))
    assert call("evaluate", *scoring(data, run, "--resamples", "5"))[0] == 0
    status, said = call("train", *options(data, run))
    assert status == 0 and said.count("done already") == 4
    for name in ("pairs_val.csv", "fusion.json"):  # which holds the hash from now on
        assert (run / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_train_ends_in_the_same_bytes_when_a_checkpoint_was_cut(
    data, run, trained, call, branch, name
):
    (run / branch / "stage.json").unlink()  # the stage has not ended
    damage(run / branch / "training" / name, "cut")
    status, said = call("train", *options(data, run))
    assert status == 0 and f"{branch}/training/{name}: damaged" in said, said
    assert weights(run) == weights(trained)


# Files of a newer version

NEW = "of_a_later_version"
FUSER = {"parameters": {}, "threshold": 0}
NEWER = [
    ("fusion.json", [NEW], 1),
    ("fusion.json", ["chosen"], NEW),
    ("fusion.json", ["fusers", NEW], FUSER),
    ("fusion.json", ["fusers", "llr", NEW], 1),
    ("fusion.json", ["fusers", "llr", "parameters", NEW], 1),
    ("fusion.json", ["fusers", "none", "cannot_say", NEW], 1),
    ("fusion.json", ["branches", NEW], "hash"),
    *(
        (f"{folder}/model.json", keys, value)
        for folder in BRANCHES
        for keys, value in (
            ([NEW], 1),
            (["network", NEW], 1),
            (["network", "name"], NEW),
            (["network", "arguments", NEW], 1),
            (["input", NEW], 1),
            (["input", "colour"], NEW),
            (["input", "template", NEW], 1),
        )
    ),
    ("comparison/comparer.json", [NEW], 1),
    ("config.yaml", ["aligner", NEW], 1),
]


def set_entry(file, keys, value):
    """Sets one entry of a JSON or YAML file, found by its keys."""
    load, dump = {
        ".json": (json.loads, json.dumps),
        ".yaml": (yaml.safe_load, yaml.safe_dump),
    }[file.suffix]
    content = load(file.read_text())
    *outer, last = keys
    found = content
    for key in outer:
        found = found[key]
    found[last] = value
    file.write_text(dump(content))


@pytest.mark.parametrize(("name", "keys", "value"), NEWER)
def test_load_names_file_and_entry_when_a_newer_version_wrote_it(data, run, name, keys, value):
    """What is unknown here means something there, so leaving it out would be a silent change."""
    set_entry(run / name, keys, value)
    with pytest.raises(KryptoniteError, match=NEW) as caught:
        kryptonite.load(run, data / "cache", "cpu")
    said = str(caught.value)
    assert str((run / name).parent) in said and Path(name).name in said


def test_ablate_names_the_configuration_when_a_newer_version_wrote_it(data, run, call):
    set_entry(run / "config.yaml", ["recognition", NEW], 1)
    status, said = call("ablate", *scoring(data, run, "--quick"))
    assert status == 2 and NEW in said and said.startswith("kryptonite ablate: "), said
    assert f"{run}/config.yaml: not the configuration of a run" in message(said)


def test_train_makes_a_stage_again_when_a_newer_version_wrote_its_file(data, run, trained, call):
    (run / "liveness/stage.json").write_text(json.dumps({NEW: {}}))
    status, said = call("train", *options(data, run))
    assert status == 0 and f"{run}/liveness: damaged" in said, said
    assert weights(run) == weights(trained)


def test_scoring_makes_cache_entries_again_when_a_newer_version_wrote_them(data, run, tmp_path):
    pairs = load_test_pairs(data)
    cache = tmp_path / "cache"
    fresh = kryptonite.load(run, cache, "cpu").score_pairs(pairs)[0]
    entries = [path for path in sorted(cache.rglob("*")) if path.is_file()]
    for path in entries:
        save_tensors(path, {NEW: np.zeros(3)})
    again = kryptonite.load(run, cache, "cpu").score_pairs(pairs)[0]
    pd.testing.assert_frame_equal(again, fresh)
    assert entries and not any(NEW in load_tensors(path).tensors for path in entries)


@pytest.mark.parametrize("content", [[1, 2], 3, {"state_dict": [1]}, {1: 2}, None])
def test_read_state_dict_refuses_what_is_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"weights\.pt"):
        read_state_dict(tmp_path / "weights.pt")


# Full disks and forbidden folders


@pytest.mark.parametrize("where", ["out", "cache", "run"])
def test_command_names_the_place_when_it_cannot_be_written(data, run, call, tmp_path, where):
    file = tmp_path / "file"
    file.write_text("in the way")
    if where == "run":
        status, said = call("train", *options(data, file))
    elif where == "cache":
        status, said = call("submit", *scoring(data, run, "--cache", file / "cache"))
    else:
        status, said = call("submit", *scoring(data, run, "--out", file / "out.csv"))
    assert status == 2 and str(file) in message(said) and said.count("\n") == 1, said


@pytest.mark.parametrize("command", ["submit", "evaluate", "ablate", "prepare", "explain"])
def test_command_checks_out_before_it_reads_an_image(data, run, call, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    (run / "ablation").write_text("in the way")
    out = ["--out", tmp_path / "file/out.html"]
    arguments = scoring(data, run, *([] if command == "ablate" else out))
    if command == "prepare":
        arguments = ["--data.root", data, *out]
    if command == "explain":
        arguments = ["a.jpg", "b.jpg", "--run", run, *out]
    began = time.monotonic()
    status, said = call(command, *arguments)
    assert status == 2 and "Not a directory" in message(said), said
    assert time.monotonic() - began < 10
    assert not list(run.glob("report*"))


def limited(size, code):
    """Runs code in a process whose files cannot grow beyond a size, as on a full disk."""
    start = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
    return subprocess.run(
        [sys.executable, "-c", start + code],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "write",
    [
        "temporary.write_bytes(bytes(9999))",
        "__import__('safetensors.numpy').numpy.save_file({'a': np.zeros(9999)}, temporary)",
        "pd.DataFrame({'a': range(9999)}).to_csv(temporary)",
    ],
)
def test_atomic_path_keeps_the_old_file_and_names_it_when_the_disk_is_full(tmp_path, write):
    target = tmp_path / "target.bin"
    target.write_text("old")
    code = (
        "import numpy as np, pandas as pd\n"
        "from kryptonite.core.files import atomic_path\n"
        f"try:\n    with atomic_path({str(target)!r}) as temporary: {write}\n"
        "except OSError as error: print(error.errno, error.filename)\n"
    )
    done = limited(5000, code)
    assert done.stdout == f"27 {target}\n", done.stderr
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_check_writable_leaves_nothing_and_names_the_file(tmp_path):
    check_writable(tmp_path / "new/folder/out.csv")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError) as caught:
        check_writable(tmp_path)
    assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(3_000, marks=pytest.mark.faults),
        60_000,
        pytest.param(200_000, marks=pytest.mark.faults),
    ],
)
def test_train_ends_in_one_line_and_resumes_when_the_disk_is_full(
    data, trained, tmp_path, call, size
):
    run = tmp_path / "run"
    arguments = options(data, run)
    code = (
        "from kryptonite.cli.main import run_command\n"
        f"raise SystemExit(run_command('train', {arguments!r}, 'train.py'))"
    )
    done = limited(size, code)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    last = message(done.stderr)
    assert last.startswith(f"train.py: {run}/") and "File too large" in last, last
    assert not list(run.rglob(".*-*"))
    assert call("train", *arguments)[0] == 0
    assert weights(run) == weights(trained)


# Signals and other processes


def start(data, run, *extra):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *options(data, run, *extra)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists(), process.stderr.read()


@pytest.mark.parametrize(
    ("number", "moment", "workers"),
    [
        pytest.param(signal.SIGTERM, ".lock", 0, marks=pytest.mark.faults),
        pytest.param(
            signal.SIGTERM, "recognition/training/0/last.ckpt", 0, marks=pytest.mark.faults
        ),
        (signal.SIGTERM, "recognition/training/0/last.ckpt", 1),
        pytest.param(signal.SIGTERM, "comparison", 0, marks=pytest.mark.faults),
        pytest.param(
            signal.SIGINT, "recognition/training/0/last.ckpt", 0, marks=pytest.mark.faults
        ),
        (signal.SIGINT, "liveness", 0),
    ],
)
def test_train_ends_within_5_seconds_and_resumes_when_signalled(
    data, trained, tmp_path, call, number, moment, workers
):
    run = tmp_path / "run"
    process = start(data, run, "--recognition.fit.workers", str(workers))
    wait_for(run / moment, process)
    began = time.monotonic()
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    # It takes less than 5 seconds; those of a busy machine are longer.
    assert time.monotonic() - began < 10
    assert process.returncode == (143 if number == signal.SIGTERM else 130), said
    assert "Traceback" not in said and said.endswith("ed\n")
    assert not list(run.rglob(".*-*"))
    assert call("train", *options(data, run))[0] == 0
    assert weights(run) == weights(trained)


def test_train_says_who_has_the_run_when_another_process_writes_to_it(data, run, call):
    code = (
        "import time\nfrom pathlib import Path\n"
        "from kryptonite.runs.lock import lock_run\nfrom kryptonite.runs.run_dir import RunDir\n"
        f"with lock_run(RunDir(Path({str(run)!r}))):\n"
        "    print('held', flush=True)\n    time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    before = snapshot(run)
    for command, arguments in (
        ("train", options(data, run)),
        ("ablate", scoring(data, run, "--quick")),
    ):
        status, said = call(command, *arguments)
        assert status == 2 and f"{run}: process {process.pid} on " in message(said), said
    assert snapshot(run) == before
    assert call("submit", *scoring(data, run))[0] == 0  # only reads the run
    process.kill()
    process.wait()
    assert call("train", *options(data, run))[0] == 0  # a stale lock blocks nobody


def test_one_training_ends_and_the_other_says_so_when_two_start_on_one_run(data, trained, tmp_path):
    run = tmp_path / "run"
    processes = [start(data, run), start(data, run)]
    said = [process.communicate(timeout=300)[1] for process in processes]
    ends = sorted(zip([process.returncode for process in processes], said, strict=True))
    assert [status for status, _ in ends] == [0, 2], said
    assert f"{run}: process " in message(ends[1][1]) and "is writing to it" in message(ends[1][1])
    assert weights(run) == weights(trained)
    for name in ("fusion.json", "metrics.json"):
        assert (run / name).read_bytes() == (trained / name).read_bytes()


def test_both_exports_are_whole_when_two_write_one_run(data, run):
    export = [sys.executable, "-m", "kryptonite", "export", "--run", str(run)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(export, cwd=ROOT, env=settings, stdout=subprocess.DEVNULL) for _ in "ab"
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    assert not list(run.rglob(".*-*"))
    pairs = load_test_pairs(data)
    torch_scores, onnx_scores = (
        kryptonite.load(run, data / "cache", "cpu", engine).score_pairs(pairs)[0]["score"]
        for engine in ("torch", "onnx")
    )
    assert onnx_scores.to_numpy() == pytest.approx(torch_scores.to_numpy(), abs=1e-3)


# Data


def test_train_accepts_equal_photos_of_one_person_and_of_two(data, tmp_path, call):
    """All of them are images of their own, so every person keeps as many as there are files."""
    root = tmp_path / "equal"
    shutil.copytree(data / "data", root / "data")
    shutil.copy(data / "tiny.yaml", root)
    people = sorted((root / "data/train/images").iterdir())
    for person in people[:6]:
        shutil.copy(person / "0.jpg", person / "9.jpg")
        shutil.copy(person / "k_0.jpg", person / "k_9.jpg")
    for one, other in zip(people[6:14:2], people[7:14:2], strict=True):
        shutil.copy(one / "1.jpg", other / "8.jpg")
    run = tmp_path / "run"
    status, said = call("train", *options(root, run))
    assert status == 0, said
    images = pd.read_csv(run / "images.csv", dtype=str)
    assert len(images) == 16 * 5 + 12 + 4
    repeated = images[images.duplicated("key", keep=False)].groupby("key")["label"]
    assert sorted(repeated.nunique()) == [1] * 12 + [2] * 4
    both = images.groupby("key")["split"].nunique().eq(2).sum()
    assert both and f"{both} training photos are also validation images" in said
    status, said = call("evaluate", *scoring(root, run, "--resamples", "5"))
    assert status == 0, said


def test_train_accepts_people_with_few_images_beside_whole_ones(data, tmp_path, call):
    root = tmp_path / "few"
    shutil.copytree(data / "data", root / "data")
    images = root / "data/train/images"
    source = images / "00000000"
    for number, names in enumerate((["0.jpg"], ["k_0.jpg"], ["1.jpg", "k_1.jpg"])):
        for name in names:
            (images / f"few-{number}").mkdir(exist_ok=True)
            photo = np.asarray(Image.open(source / name))
            Image.fromarray(photo[:, ::-1]).save(images / f"few-{number}" / name)
    (images / "nobody").mkdir()
    shutil.copy(data / "tiny.yaml", root)
    status, said = call("train", *options(root, tmp_path / "run"))
    assert status == 0, said


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (lambda name, person: not name.startswith("k_"), "no synthetic (k_)"),
        (lambda name, person: name.startswith("k_"), "no genuine"),
        (lambda name, person: person < 2, "person"),
        (lambda name, person: name in ("0.jpg", "k_0.jpg"), "no pair of kind 'same'"),
    ],
)
def test_train_names_what_is_missing_before_it_trains(data, tmp_path, call, kept, expected):
    root = tmp_path / "some"
    for file in (data / "data/train/images").rglob("*.jpg"):
        if kept(file.name, int(file.parent.name)):
            target = root / file.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    shutil.copy(data / "tiny.yaml", root)
    status, said = call("train", *options(root, tmp_path / "run"))
    assert status == 2 and expected in message(said), said
    assert not list((tmp_path / "run").glob("[!.]*"))  # no stage has begun


def test_evaluate_and_ablate_name_the_kind_when_it_is_missing(data, run, call, tmp_path):
    pairs = pd.read_csv(run / "pairs_val.csv", dtype=str)
    pairs[pairs["kind"] != "synthetic"].to_csv(tmp_path / "pairs.csv", index=False)
    for command in ("evaluate", "ablate"):
        status, said = call(command, *scoring(data, run, "--pairs", tmp_path / "pairs.csv"))
        assert status == 2 and "pairs.csv: no readable pair of kind 'synthetic'" in message(said)


def test_train_names_branch_epoch_and_step_when_it_diverges(data, tmp_path, call):
    run = tmp_path / "run"
    wild = ["--liveness.optim.lr", "1e30"]
    status, said = call("train", *options(data, run, *wild))
    assert status == 2 and "liveness: the training has diverged" in message(said), said
    assert "epoch 1, step " in message(said) and not (run / "fusion.json").exists()


@pytest.mark.parametrize(
    ("second", "name", "trained", "carded", "reported"),
    [
        (
            "{:08d}",
            "shared_identities",
            "3 of the 9 validation identities are also trained on",
            "3 identities are in both splits",
            "3 identities were in both",
        ),
        (
            "{}",
            "alike_identities",
            "3 people are probably in both splits",
            "3 identities are probably in both splits",
            "3 identities were probably in both",
        ),
    ],
)
def test_train_warns_everywhere_when_identities_are_in_both_splits(
    data, tmp_path, call, second, name, trained, carded, reported
):
    """By the same labels, or by numbers that are written differently."""
    root = tmp_path / "shared"
    shutil.copytree(data / "data/train/images", root / "images")
    files = sorted((root / "images").rglob("*.jpg"))
    for split, people, label in (("train", range(10), "{:08d}"), ("val", range(7, 16), second)):
        rows = [
            (label.format(int(file.parent.name)), file.relative_to(root))
            for file in files
            if int(file.parent.name) in people
        ]
        pd.DataFrame(rows, columns=["label", "path"]).to_csv(root / f"{split}.csv", index=False)
    shutil.copy(data / "tiny.yaml", root)
    status, said = call("train", *options(root, tmp_path / "run"))
    assert status == 0 and trained in said
    run = RunDir(tmp_path / "run")
    kinds = ("shared_identities", "alike_identities")
    assert {kind: run.read_metrics()[kind] for kind in kinds} == {
        **dict.fromkeys(kinds, 0),
        name: 3,
    }
    card = run.model_card.read_text()
    assert f"**Warning**: {carded}" in card and card.count("**Warning**") == 1
    status, said = call("evaluate", *scoring(root, run.path, "--resamples", "5"))
    assert status == 0 and f"note: {reported}" in said


# Another working folder


def test_evaluate_reports_the_same_from_any_folder(data, tmp_path, call, monkeypatch, trained):
    root, run = tmp_path / "root", tmp_path / "run"
    root.mkdir()
    (root / "data").symlink_to(data / "data")
    shutil.copy(data / "tiny.yaml", root)
    audit = {"shortcuts": {"leaks": True, "verdict": "size 0.98"}}
    (root / "audit.json").write_text(json.dumps(audit))
    shutil.copytree(trained, run)
    monkeypatch.chdir(tmp_path)
    places = ["--data.root", "root", "--run", "run", "--cache", os.path.relpath(data / "cache")]
    status, said = call("train", "--config", "root/tiny.yaml", *places)
    assert status == 0 and said.count("done already") == 4  # fingerprints have no paths
    config = RunDir(run).read_config()
    assert config["data"]["root"] == str(root) and config["cache"] == str(data / "cache")
    (tmp_path / "elsewhere").mkdir()
    reports = []
    for folder in (tmp_path, tmp_path / "elsewhere"):
        monkeypatch.chdir(folder)
        where = ["--run", run, "--cache", data / "cache", "--device", "cpu", "--resamples", "5"]
        status, said = call("evaluate", *where)
        assert status == 0 and "size 0.98" in said
        report = json.loads((run / "report.json").read_text())
        for name in ("command", "made"):
            report["provenance"].pop(name)
        reports.append(report)
    assert reports[0] == reports[1]


# Numbers


def test_scores_do_not_depend_on_order_company_or_cache(data, trained, tmp_path):
    pairs = pd.read_csv(trained / "pairs_val.csv", dtype=str)
    for name in ("path_a", "path_b"):
        pairs[name] = [str(data / path) for path in pairs[name]]
    pairs = pairs.head(24)
    pipeline = kryptonite.load(trained, tmp_path / "cache", "cpu")
    fresh = pipeline.score_pairs(pairs)[0]["score"].to_numpy()
    cached = pipeline.score_pairs(pairs)[0]["score"].to_numpy()
    assert (fresh == cached).all()
    swapped = pairs.rename(columns={"path_a": "path_b", "path_b": "path_a"})
    assert pipeline.score_pairs(swapped)[0]["score"].to_numpy() == pytest.approx(fresh, abs=1e-4)
    threshold = pipeline.verifier.threshold
    for row in range(0, len(pairs), 6):
        a, b = pairs.loc[row, ["path_a", "path_b"]]
        alone = pipeline.score_pairs(pairs.iloc[[row]].reset_index(drop=True))[0]["score"][0]
        for answer in (pipeline.verify(a, b), pipeline.verify(b, a)):
            assert answer.score == pytest.approx(fresh[row], abs=1e-4)
            if abs(fresh[row] - threshold) > 1e-4:
                assert answer.accepted == (fresh[row] >= threshold)
        assert alone == pytest.approx(fresh[row], abs=1e-4)
    company = pairs.sample(frac=1, random_state=1, ignore_index=True)
    other = kryptonite.load(trained, tmp_path / "other", "cpu").score_pairs(company)[0]
    again = other.set_index("pair_id").loc[pairs["pair_id"], "score"].to_numpy()
    assert again == pytest.approx(fresh, abs=1e-4)


def test_scores_and_decisions_do_not_depend_on_threads_or_engine(data, run, call, tmp_path):
    """Within 0.0001 and 0.001; decisions are the same where scores are not that close."""
    pairs = pd.read_csv(run / "pairs_val.csv", dtype=str)
    for name in ("path_a", "path_b"):
        pairs[name] = [str(data / path) for path in pairs[name]]
    assert call("export", "--run", run)[0] == 0

    def scores(threads, engine):
        torch.set_num_threads(threads)
        pipeline = kryptonite.load(run, tmp_path / f"{threads}-{engine}", "cpu", engine)
        threshold = pipeline.verifier.threshold
        return pipeline.score_pairs(pairs)[0]["score"].to_numpy() - threshold

    one = scores(1, "torch")
    for threads, engine, tolerance in ((2, "torch", 1e-4), (1, "onnx", 1e-3), (2, "onnx", 1e-3)):
        other = scores(threads, engine)
        assert other == pytest.approx(one, abs=tolerance), (threads, engine)
        clear = np.abs(one) > tolerance
        assert clear.sum() > len(pairs) / 2
        assert ((other >= 0) == (one >= 0))[clear].all(), (threads, engine)
