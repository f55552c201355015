"""Generated faces to test on, so that no real person's photo is needed."""

import os

os.environ.setdefault("TQDM_DISABLE", "1")
# Read when torch is imported, here and in the commands that tests start: two workers of the suite
# on two cores would otherwise wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from PIL import Image

from kryptonite.data.demo import LATENT, load_generator
from kryptonite.data.pairs import PAIR_COLUMNS
from kryptonite.runs.load import load
from tests.tiny import write_run

# The same examples on every run, and no clock: a busy machine must not fail a test.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def generate(latents: np.ndarray, side: int) -> np.ndarray:
    """Renders latents, N×100, as photos: uint8, N×side×side×3, RGB."""
    with torch.inference_mode():
        images = load_generator()(torch.from_numpy(latents.astype(np.float32))[:, :, None, None])
    pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    resized = [cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC) for image in pixels]
    return np.stack(resized)


@pytest.fixture(scope="session")
def faces() -> list[np.ndarray]:
    """Eight generated people, one 160-pixel photo each, RGB uint8."""
    return list(generate(np.random.default_rng(4).standard_normal((8, LATENT)), 160))


@pytest.fixture(scope="session")
def people() -> np.ndarray:
    """Sixteen generated people, five photos of each: uint8, 16×5×80×80×3, RGB."""
    generator = np.random.default_rng(1)
    centres = generator.standard_normal((16, 1, LATENT))
    latents = centres + 0.35 * generator.standard_normal((16, 5, LATENT))
    return generate(latents.reshape(80, LATENT), 80).reshape(16, 5, 80, 80, 3)


@pytest.fixture
def run(tmp_path):
    """A finished run with untrained networks."""
    return write_run(tmp_path / "run")


@pytest.fixture
def pipeline(run, tmp_path):
    """That run, loaded, with a cache of its own."""
    return load(run, cache=tmp_path / "cache", device="cpu")


@pytest.fixture
def save():
    """Writes an RGB array as an image file, making its folder."""

    def write(path, pixels):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)
        return path

    return write


@pytest.fixture
def folders(tmp_path, people, save):
    """The challenge's folders: 16 people of 3 genuine and 2 noisy `k_` images, 4 test pairs."""
    generator = np.random.default_rng(0)
    names = ("0.jpg", "1.jpg", "2.jpg", "k_0.jpg", "k_1.jpg")
    for person, photos in enumerate(people):
        for name, photo in zip(names, photos, strict=True):
            noise = generator.integers(-12, 13, photo.shape) if name.startswith("k_") else 0
            pixels = np.clip(photo.astype(int) + noise, 0, 255).astype(np.uint8)
            save(tmp_path / "data/train/images" / f"{person:08d}" / name, pixels)
    for pair in range(4):
        folder = tmp_path / "data/test_public/images" / f"{pair:08d}"
        for number in (0, 1):
            save(folder / f"{number}.jpg", people[pair, 2 * number, :, ::-1])
    return tmp_path


@pytest.fixture
def face_pairs(tmp_path, faces, save):
    """48 pairs of eight people, three photos each (mirrored, darker), the third as synthetic."""
    photos = {}
    for person, face in enumerate(faces):
        for number, photo in enumerate((face, face[:, ::-1], face // 2)):
            path = tmp_path / "photos" / f"{person}-{number}.png"
            photos[person, number] = str(save(path, photo))
    rows = []
    for person in range(8):
        for step in (1, 2, 3):
            other = (person + step) % 8
            pair = photos[person, 0], photos[other, 1]
            rows.append((*pair, person, other, 0, "different"))
        mated = photos[person, 0], photos[person, 1]
        rows.append((*mated, person, person, 0, "same"))
        for photo in mated:
            rows.append((photo, photos[person, 2], person, person, 1, "synthetic"))
    columns = ["path_a", "path_b", "label_a", "label_b", "synthetic_b", "kind"]
    table = pd.DataFrame(rows, columns=columns).astype({"label_a": str, "label_b": str})
    synthetic = table["kind"] == "synthetic"
    table = table.assign(
        pair_id=[f"{number:08d}" for number in range(len(table))],
        synthetic_a=0,
        label=(table["kind"] == "same").astype(int),
        species=np.where(synthetic, "dark", ""),
    )
    return table[PAIR_COLUMNS]
