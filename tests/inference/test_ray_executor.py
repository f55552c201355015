"""Scoring on a local Ray cluster of two workers: the same bytes as one process writes."""

import os
import signal
import sys
from functools import partial

import pytest
import torch

from kryptonite.cli.main import run_command
from kryptonite.core.errors import ConfigError, DataError
from kryptonite.inference import extractor as extractor_module
from kryptonite.inference.ray_executor import RayExecutor, Worker
from kryptonite.inference.submission import submit
from kryptonite.runs.load import load, load_extractor
from tests.tiny import write_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray():
    """Two cores, whatever the machine has."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
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
    """Eight test pairs of sixteen contents, one of them not an image; four shards."""
    monkeypatch.setattr(extractor_module, "SHARD", 4)
    for pair in range(8):
        for name, face in enumerate((faces[pair], faces[(pair + 1) % 8][:, ::-1])):
            save(tmp_path / f"data/test_public/images/{pair:08d}/{name}.png", face)
    (tmp_path / "data/test_public/images/00000005/1.png").write_bytes(b"no image")
    write_run(tmp_path / "run")
    submit(load(tmp_path / "run", tmp_path / "alone", "cpu"), tmp_path, tmp_path / "alone.csv")
    return tmp_path


def executor(data, run="run", worker=Worker):
    """An executor whose workers share a cache."""
    places = str(data / run), str(data / "shared")
    return RayExecutor("auto", partial(load_extractor, *places, "torch", True), worker)


def submit_on(cluster, data):
    """Submits through an executor."""
    pipeline = load(data / "run", data / "shared", "cpu", executor=cluster)
    submit(pipeline, data, data / "shared.csv")


def test_submit_writes_the_same_bytes_on_a_cluster(ray, data, capsys):
    options = ["--run", "run", "--data_root", "", "--cache", "shared", "--out", "shared.csv"]
    places = [str(data / word) if number % 2 else word for number, word in enumerate(options)]
    program = "make_submission.py"
    assert run_command("submit", [*places, "--ray", "auto", "--no_crops"], program) == 0
    assert (data / "shared.csv").read_bytes() == (data / "alone.csv").read_bytes()
    assert "8 pairs, 16 images" in capsys.readouterr().out
    features = set((data / "shared/sights").rglob("*.safetensors"))
    assert len(features) == 4 and features == set((data / "shared").rglob("*.safetensors"))


def test_executor_redoes_the_shard_when_its_worker_is_killed(ray, data):
    marker = data / "killed"

    class Dying(Worker):
        def __call__(self, row):
            cache = self._extractor.cache
            take_in = cache._take_in

            def dying(group):
                if not marker.exists():
                    marker.write_text(str(os.getpid()))
                    os.kill(os.getpid(), signal.SIGKILL)  # with the crops written, in no place yet
                take_in(group)

            cache._take_in = dying
            return super().__call__(row)

    submit_on(executor(data, worker=Dying), data)
    assert marker.exists() and not os.path.exists(f"/proc/{marker.read_text()}")
    assert (data / "shared.csv").read_bytes() == (data / "alone.csv").read_bytes()


def test_executor_names_the_cause_when_a_worker_lacks_the_run_or_cores(ray, data, monkeypatch):
    with pytest.raises(DataError, match="no finished run"):
        submit_on(executor(data, run="elsewhere"), data)
    assert not (data / "shared.csv").exists()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    with pytest.raises(ConfigError, match="no machine of the cluster has 99 cores"):
        executor(data)


def test_executor_says_what_to_install_when_ray_is_missing(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"kryptonite\[ray\]"):
        executor(data)
