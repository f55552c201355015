"""The tiny system that the commands are tried on, trained once."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from kryptonite.cli.main import run_command
from tests.faults.system import options
from tests.tiny import CONFIG


@pytest.fixture
def one_thread():
    """Sums add up in one order, so that trainings end in the same bytes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data(tmp_path_factory, people):
    """16 people of 3 genuine and 2 noisy `k_` images, 4 test pairs; with them crops and settings.

    Tests read it only.
    """
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)

    def save(path, pixels):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)

    for person, photos in enumerate(people):
        for number, photo in enumerate(photos):
            name = f"{number}.jpg" if number < 3 else f"k_{number - 3}.jpg"
            noise = generator.integers(-12, 13, photo.shape) if number >= 3 else 0
            pixels = np.clip(photo.astype(int) + noise, 0, 255).astype(np.uint8)
            save(root / "data/train/images" / f"{person:08d}" / name, pixels)
    for pair in range(4):
        for number in (0, 1):
            folder = root / "data/test_public/images" / f"{pair:08d}"
            save(folder / f"{number}.jpg", people[pair, 2 * number, :, ::-1])
    (root / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    return root


@pytest.fixture(scope="session")
def trained(data):
    """A run trained on it by one thread; tests copy it."""
    run, threads = data / "trained", torch.get_num_threads()
    torch.set_num_threads(1)
    assert run_command("train", options(data, run), "train.py") == 0
    torch.set_num_threads(threads)
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of that run."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def call(capsys):
    """Runs a command; gives (status, what it said on stderr without progress bars)."""

    def command(name, *arguments):
        capsys.readouterr()
        status = run_command(name, [str(each) for each in arguments], f"kryptonite {name}")
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return status, said

    return command
