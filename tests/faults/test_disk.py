"""Full disks, read-only folders and bits that flip: the right result, or one line with the file.

They need a file system of their own, which root alone may mount.
"""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import kryptonite
from kryptonite.data.layouts import load_test_pairs
from tests.faults.system import message, options, scoring, weights

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 64 << 20
FLIPS = 200


def mount(*arguments):
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    if sys.platform != "linux" or os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root on Linux may mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk, left):
    """Leaves some bytes, by pages, free on a disk; removes what filled it before."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    state = os.statvfs(disk)
    with open(filler, "wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, state.f_bavail * state.f_frsize - left)


def call_on_full(disk, left, call, *command):
    """Calls a command that must fail because the disk is full; gives what it said."""
    fill(disk, left)
    status, said = call(*command)
    assert status == 2 and "No space left on device" in message(said), said
    return said


def files(folder):
    """Content of all files in a folder that are not hidden, without checkpoints and logs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "training" not in path.parts and path.name[0] != "."
    }


def unfinished(folder):
    return [path for path in folder.rglob(".*") if path.is_file() and path.name != ".lock"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "left"),
    [
        ("crops", 40_000),
        ("features", 0),
        ("submission", 0),
        ("report", 200_000),
        pytest.param("report", 0, marks=pytest.mark.faults),
        pytest.param("tables", 8_192, marks=pytest.mark.faults),
        ("tables", 0),
    ],
)
def test_command_names_the_file_and_leaves_no_half_one_when_the_disk_is_full(
    data, trained, disk, tmp_path, call, what, left
):
    out, cache = disk / "out", data / "cache"
    if what in ("crops", "features"):
        cache = disk / "cache"
        out = tmp_path
    place = scoring(data, trained, "--cache", cache)
    name, arguments = {
        "crops": ("submit", [*place, "--out", out / "s.csv"]),
        "features": ("submit", [*place, "--out", out / "s.csv"]),
        "submission": ("submit", [*place, "--out", out / "s.csv"]),
        "report": ("evaluate", [*place, "--resamples", "5", "--out", out / "r.html"]),
        "tables": (
            "prepare",
            ["--config", data / "tiny.yaml", "--data.root", data, "--out", out],
        ),
    }[what]
    if what == "features":  # all crops are there already
        shutil.copytree(data / "cache", cache, ignore=shutil.ignore_patterns("sights"))
    said = call_on_full(disk, left, call, name, *arguments)
    assert str(disk) in message(said)
    assert not unfinished(disk)
    (disk / "filler").unlink()
    assert call(name, *arguments)[0] == 0
    assert not unfinished(disk)


@pytest.mark.slow
@pytest.mark.parametrize(
    "left",
    [
        pytest.param(3_000, marks=pytest.mark.faults),
        60_000,
        pytest.param(150_000, marks=pytest.mark.faults),
    ],
)
def test_train_resumes_to_the_same_bytes_when_a_real_disk_was_full(data, trained, disk, call, left):
    run = disk / "run"
    said = call_on_full(disk, left, call, "train", *options(data, run))
    assert str(run) in message(said) and not unfinished(run)
    (disk / "filler").unlink()
    assert call("train", *options(data, run))[0] == 0
    assert weights(run) == weights(trained)


@pytest.mark.faults
@pytest.mark.parametrize("left", [0, 20_000, 100_000])
def test_export_names_the_file_when_the_disk_is_full(trained, disk, call, left):
    run = shutil.copytree(trained, disk / "run")
    before = files(run)
    said = call_on_full(disk, left, call, "export", "--run", run)
    assert str(run) in message(said)
    assert {name: content for name, content in files(run).items() if name in before} == before
    (disk / "filler").unlink()
    assert call("export", "--run", run)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "left",
    [
        pytest.param(0, marks=pytest.mark.faults),
        20_000,
        pytest.param(100_000, marks=pytest.mark.faults),
    ],
)
def test_publish_names_the_file_and_leaves_nothing_when_the_disk_is_full(trained, disk, call, left):
    out = disk / "published"
    said = call_on_full(disk, left, call, "publish", "--run", trained, "--out", out)
    assert f"{out}" in message(said) and ".published-" not in message(said)
    assert [path.name for path in disk.iterdir()] == ["filler"]
    (disk / "filler").unlink()
    assert call("publish", "--run", trained, "--out", out)[0] == 0
    assert list(disk.iterdir()) == [out]


@pytest.mark.slow
def test_ablate_names_the_file_and_leaves_no_half_stage_when_the_disk_is_full(
    data, trained, disk, call
):
    run = shutil.copytree(trained, disk / "run", ignore=shutil.ignore_patterns("training"))
    said = call_on_full(disk, 60_000, call, "ablate", *scoring(data, run))
    variant = run / "ablation/runs/seed"
    assert f"{variant}/" in message(said) and not list(disk.rglob(".*-*"))
    for stage in variant.glob("[!.]*/"):
        assert {path.name for path in stage.iterdir()} == {
            path.name for path in (run / stage.name).iterdir()
        }


def read_only(disk):
    mounted = mount("-o", "remount,ro", disk)
    assert not mounted.returncode, mounted.stderr


@pytest.mark.slow
def test_commands_score_and_say_one_line_when_run_and_data_are_read_only(
    data, trained, disk, tmp_path, call
):
    root, run = disk / "root", disk / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("training"))
    shutil.copytree(data / "data", root / "data")
    shutil.copy(data / "tiny.yaml", root)
    read_only(disk)
    before = files(disk)
    place = scoring(root, run, "--cache", data / "cache")
    assert call("submit", *place, "--out", tmp_path / "s.csv")[0] == 0
    out = tmp_path / "r.html"
    assert call("evaluate", *place, "--resamples", "5", "--out", out)[0] == 0
    prepared = ["--config", root / "tiny.yaml", "--data.root", root]
    assert call("prepare", *prepared, "--out", tmp_path / "out")[0] == 0
    for name, arguments in (
        ("submit", place),
        ("evaluate", place),
        ("ablate", [*place, "--quick"]),
        ("export", ["--run", run]),
        ("prepare", prepared),
        ("train", options(data, run)),
    ):
        status, said = call(name, *arguments)
        assert status == 2 and "Read-only file system" in message(said), (name, said)
        assert str(disk) in message(said), (name, said)
    assert files(disk) == before


@pytest.mark.slow
def test_submit_reads_a_whole_cache_that_is_read_only_and_names_an_empty_one(
    data, trained, disk, tmp_path, call
):
    shutil.copytree(data / "cache", disk / "whole")
    place = scoring(data, trained, "--cache", disk / "whole", "--out", tmp_path / "s.csv")
    assert call("submit", *place)[0] == 0
    written = (tmp_path / "s.csv").read_bytes()
    (disk / "empty").mkdir()
    read_only(disk)
    assert call("submit", *place)[0] == 0
    assert (tmp_path / "s.csv").read_bytes() == written
    status, said = call("submit", *place, "--cache", disk / "empty")
    assert status == 2 and "Read-only file system" in message(said), said
    assert str(disk / "empty") in message(said)


# Flipped bits


def check_flips(data, trained, cache, flips):
    """Flips bits one by one; scores stay the same, and nearly all damaged files are made anew."""
    pairs = load_test_pairs(data)
    pipeline = kryptonite.load(trained, cache, "cpu")

    def scores():
        return pipeline.score_pairs(pairs, progress=False)[0]["score"].to_numpy()

    whole = scores()
    kept = {path: path.read_bytes() for path in sorted(cache.rglob("*.safetensors"))}
    (shard,) = (path for path in kept if "sights" in path.parts)
    crops = [path for path in kept if path != shard]
    assert len(crops) == 8
    generator = np.random.default_rng(0)
    remade = 0
    for flip in range(flips):
        path = crops[generator.integers(8)] if flip % 2 else shard
        flipped = bytearray(kept[path])
        bit = int(generator.integers(8 * len(flipped)))
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        if path != shard:
            shard.unlink()  # crops are read where features are missing
        assert np.allclose(scores(), whole, rtol=0, atol=1e-4), (path, bit)
        remade += path.read_bytes() != flipped
        for file in (path, shard):
            file.write_bytes(kept[file])
    assert remade > 0.9 * flips


@pytest.mark.slow
def test_scores_are_the_same_when_bits_of_the_cache_flip(data, trained, tmp_path):
    check_flips(data, trained, tmp_path / "cache", 20)


@pytest.mark.faults
def test_scores_are_the_same_when_200_bits_of_the_cache_flip(data, trained, tmp_path):
    check_flips(data, trained, tmp_path / "cache", FLIPS)


@pytest.mark.slow
def test_train_makes_crops_again_when_bits_of_them_have_flipped(data, trained, tmp_path, call):
    cache = shutil.copytree(data / "cache", tmp_path / "cache")
    crops = [path for path in cache.rglob("*.safetensors") if "sights" not in path.parts]
    for path in crops:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1  # of a pixel
        path.write_bytes(content)
    assert call("train", *options(data, tmp_path / "run")[:-1], cache)[0] == 0
    assert weights(tmp_path / "run") == weights(trained)
