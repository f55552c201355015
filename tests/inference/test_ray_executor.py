"""Scoring on a local Ray cluster of two workers: the same bytes as one process, also when a worker is killed on the way."""

import os
import signal
import sys

import pytest
import torch

import make_submission
from kryptonite.core.errors import ConfigError, DataError
from kryptonite.inference import extractor as looks
from kryptonite.inference.pipeline import Pipeline
from kryptonite.inference.ray_executor import RayExecutor, Worker
from tests.tiny import write_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray():
    """Two cores, whatever the machine has."""
    ray = pytest.importorskip("ray", reason="requirements-ray.txt is not installed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.getcwd()}},
    )
    yield ray
    ray.shutdown()
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path, faces, save, monkeypatch):
    """Eight test pairs of sixteen contents, one of them no image; four shares."""
    monkeypatch.setattr(looks, "SHARE", 4)
    for pair in range(8):
        for name, face in enumerate((faces[pair], faces[(pair + 1) % 8][:, ::-1])):
            save(tmp_path / f"data/test_public/images/{pair:08d}/{name}.png", face)
    (tmp_path / "data/test_public/images/00000005/1.png").write_bytes(b"no image")
    write_run(tmp_path / "run")
    Pipeline.load(tmp_path / "run", tmp_path / "alone", "cpu").submit(
        tmp_path, tmp_path / "alone.csv"
    )
    return tmp_path


def test_the_script_submits_on_a_cluster_what_one_process_submits(ray, data, monkeypatch, capsys):
    places = [
        "--run",
        str(data / "run"),
        "--data_root",
        str(data),
        "--cache",
        str(data / "shared"),
        "--out",
        str(data / "shared.csv"),
    ]
    monkeypatch.setattr(sys, "argv", ["make_submission.py", *places, "--ray", "auto"])
    assert make_submission.main() == 0
    assert (data / "shared.csv").read_bytes() == (data / "alone.csv").read_bytes()
    assert "8 pairs, 16 images" in capsys.readouterr().out
    assert len(list((data / "shared/sights").rglob("*.safetensors"))) == 4


def test_a_killed_workers_share_is_done_again(ray, data):
    marker = data / "killed"

    class Dying(Worker):
        def __call__(self, row):
            cache = self._eyes.cache
            write = cache._write

            def dying(*entry):
                write(*entry)
                if not marker.exists() and len(list(cache.folder.glob("*/*.safetensors"))) > 1:
                    marker.write_text(str(os.getpid()))
                    os.kill(os.getpid(), signal.SIGKILL)  # with half of a share's crops written

            cache._write = dying
            return super().__call__(row)

    cluster = RayExecutor("auto", data / "run", data / "shared", worker=Dying)
    Pipeline.load(data / "run", data / "shared", "cpu", spread=cluster).submit(
        data, data / "shared.csv"
    )
    assert marker.exists() and not os.path.exists(f"/proc/{marker.read_text()}")
    assert (data / "shared.csv").read_bytes() == (data / "alone.csv").read_bytes()


def test_a_worker_without_the_run_and_too_few_cores_are_told(ray, data, monkeypatch):
    cluster = RayExecutor("auto", data / "elsewhere", data / "shared")
    with pytest.raises(DataError, match="no finished run"):
        Pipeline.load(data / "run", data / "shared", "cpu", spread=cluster).submit(
            data, data / "shared.csv"
        )
    assert not (data / "shared.csv").exists()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    with pytest.raises(ConfigError, match="no machine of the cluster has 99 cores"):
        RayExecutor("auto", data / "run", data / "shared")


def test_no_cluster_is_told_in_a_line(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"requirements-ray\.txt"):
        RayExecutor("auto", data / "run", data / "cache")
