"""What only a GPU can show: commands run on it, and find what they find on the CPU.

Machines without a GPU skip this file.
"""

import numpy as np
import pytest
import torch
import yaml

from kryptonite.cli.main import run_command
from kryptonite.core.crops import CropTemplate
from kryptonite.data.submission import read_submission
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.cascade import SumTables
from tests.tiny import CONFIG

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def test_sum_tables_on_the_gpu_equal_those_on_the_cpu():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, 37, 50, 3), np.uint8)
    corners = generator.uniform(1, 30, (40, 2))
    boxes = np.hstack([corners, corners + generator.uniform(1, 20, (40, 2)), np.ones((40, 1))])
    rows = generator.integers(0, 3, 40)

    def averages(device):
        tables = SumTables(images, torch.device(device))
        chosen = (torch.from_numpy(values).to(device) for values in (boxes, rows))
        return tables.shrunk(20, 11).cpu(), tables.crops(*tables.inside(*chosen), 24).cpu()

    for found, expected in zip(averages("cuda"), averages("cpu"), strict=True):
        assert torch.allclose(found, expected, atol=1e-3)


def test_aligner_finds_the_same_faces_on_the_gpu(faces):
    photos = [np.pad(face, ((20, 40), (row, 9), (0, 0))) for row, face in enumerate(faces)]
    photos.append(np.zeros((90, 70, 3), np.uint8))
    on_gpu, on_cpu = (
        Aligner(AlignerConfig(device=device), [CropTemplate(64)])(photos)
        for device in ("cuda", "cpu")
    )
    assert on_gpu.status == on_cpu.status
    assert np.abs(on_gpu.landmarks - on_cpu.landmarks).max() <= 0.1


@pytest.mark.parametrize("probe", [False, True], ids=["network", "probe"])
def test_commands_run_on_the_gpu_and_score_as_on_the_cpu(folders, probe, capsys):
    run, cache = folders / "run", folders / "cache"
    config = folders / "tiny.yaml"
    branches = ("recognition", "liveness", "comparison")
    on_gpu = {
        branch: CONFIG[branch] | {"fit": CONFIG[branch]["fit"] | {"accelerator": "gpu"}}
        for branch in branches
    }
    if probe:
        on_gpu["liveness"] |= {
            "backbone": {"name": "test_vit", "weights": "scratch"},
            "template": {"size": 64},
            "probe": {"passes": 1},
        }
        on_gpu["comparison"]["pairs"] = 0
    config.write_text(yaml.safe_dump({**CONFIG, **on_gpu, "aligner": {"device": "auto"}}))

    def call(command, *arguments):
        assert run_command(command, list(map(str, arguments)), command) == 0, capsys.readouterr()

    def scores(device):
        out = folders / f"{device}.csv"
        places = ("--run", run, "--data_root", folders, "--cache", folders / f"cache-{device}")
        call("submit", *places, "--out", out, "--device", device)
        return read_submission(out)["similarity"].to_numpy()

    places = ("--data.root", folders, "--run", run, "--cache", cache)
    call("train", "--config", config, *places)
    assert scores("cuda") == pytest.approx(scores("cpu"), abs=0.05)
    scored = ("--run", run, "--cache", cache, "--data_root", folders, "--device", "cuda")
    call("evaluate", *scored, "--resamples", 5)
    call("ablate", *scored, "--resamples", 5, "--quick")
