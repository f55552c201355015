"""Faces to test on: generated ones, so that no real person's photo is needed."""

import os

os.environ.setdefault("TQDM_DISABLE", "1")

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from PIL import Image

from kryptonite.data.demo import LATENT, load_generator
from kryptonite.data.pairs import PAIR_COLUMNS
from kryptonite.inference.pipeline import Pipeline
from tests.tiny import write_run

# The same examples on every run, and no clock: a busy machine must not fail a test.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def faces() -> list[np.ndarray]:
    """Eight generated people, one 160-pixel photo each, RGB uint8."""
    generator = np.random.default_rng(4)
    latents = torch.from_numpy(generator.standard_normal((8, LATENT)).astype(np.float32))
    with torch.inference_mode():
        images = load_generator()(latents[:, :, None, None])
    pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [cv2.resize(image, (160, 160), interpolation=cv2.INTER_CUBIC) for image in pixels]


@pytest.fixture
def run(tmp_path):
    """A finished run with untrained networks."""
    return write_run(tmp_path / "run")


@pytest.fixture
def pipeline(run, tmp_path):
    """That run, loaded, with a cache of its own."""
    return Pipeline.load(run, cache=tmp_path / "cache", device="cpu")


@pytest.fixture
def save():
    """Writes an RGB array as an image file, making its folder."""

    def write(path, pixels):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def people() -> np.ndarray:
    """Sixteen generated people, five photos of each: uint8, 16×5×80×80×3, RGB."""
    generator = np.random.default_rng(1)
    latents = generator.standard_normal((16, 1, LATENT)) + 0.35 * generator.standard_normal(
        (16, 5, LATENT)
    )
    with torch.inference_mode():
        images = load_generator()(
            torch.from_numpy(latents.reshape(80, LATENT).astype(np.float32))[:, :, None, None]
        )
    pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return np.stack(
        [cv2.resize(image, (80, 80), interpolation=cv2.INTER_CUBIC) for image in pixels]
    ).reshape(16, 5, 80, 80, 3)


@pytest.fixture
def folders(tmp_path, people, save):
    """The challenge's folder layout with 16 people of 3 genuine and 2 `k_` images (noisier), and 4 test pairs."""
    generator = np.random.default_rng(0)
    for person, photos in enumerate(people):
        for name, photo in zip(
            ("0.jpg", "1.jpg", "2.jpg", "k_0.jpg", "k_1.jpg"), photos, strict=True
        ):
            noise = generator.integers(-12, 13, photo.shape) if name.startswith("k_") else 0
            pixels = np.clip(photo.astype(int) + noise, 0, 255).astype(np.uint8)
            save(tmp_path / "data/train/images" / f"{person:08d}" / name, pixels)
    for pair in range(4):
        for number in (0, 1):
            save(
                tmp_path / "data/test_public/images" / f"{pair:08d}" / f"{number}.jpg",
                people[pair, 2 * number, :, ::-1],
            )
    return tmp_path


@pytest.fixture
def face_pairs(tmp_path, faces, save):
    """48 pairs of eight people, three photos each (mirrored, darker), the third filed as synthetic."""
    paths = {}
    for person, face in enumerate(faces):
        for number, photo in enumerate((face, face[:, ::-1], face // 2)):
            paths[person, number] = str(save(tmp_path / "photos" / f"{person}-{number}.png", photo))
    rows = []
    for person in range(8):
        for step in (1, 2, 3):
            rows.append(
                (
                    paths[person, 0],
                    paths[(person + step) % 8, 1],
                    person,
                    (person + step) % 8,
                    0,
                    "different",
                )
            )
        rows.append((paths[person, 0], paths[person, 1], person, person, 0, "same"))
        rows += [
            (paths[person, number], paths[person, 2], person, person, 1, "synthetic")
            for number in (0, 1)
        ]
    table = pd.DataFrame(
        rows, columns=["path_a", "path_b", "label_a", "label_b", "synthetic_b", "kind"]
    )
    table = table.assign(
        pair_id=[f"{n:08d}" for n in range(len(table))],
        synthetic_a=0,
        label=(table["kind"] == "same").astype(int),
    )
    table["species"] = np.where(table["kind"] == "synthetic", "dark", "")
    return table.astype({"label_a": str, "label_b": str})[PAIR_COLUMNS]
