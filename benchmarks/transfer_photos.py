"""Genuine photos of several sources and forgeries of them, written alike, to measure a run on."""

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.face_mesh import load_mesh, mesh_swap, shape_distance
from benchmarks.generated_faces import generate_faces
from kryptonite.core.errors import DataError, WeightsError
from kryptonite.core.files import atomic_path
from kryptonite.core.images import read_rgb
from kryptonite.data.demo import MARKER
from kryptonite.data.forgery import face_swap, paste_inner_face, resynthesise, self_blend
from kryptonite.data.layouts import DataConfig, load_images
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.nn.autoencoder import RoundTrip

PEOPLE, PHOTOS, STRANGERS, GENERATED = 60, 3, 8, 60
QUALITY = 92  # of the JPEG that every photo goes through
OWN, WHOLE = "k_", "generated"  # kinds that are not made of a source's photos
COLUMNS = ["label", "path", "kind", "number", "origin"]

Forge = Callable[["Photo", list["Photo"], np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Photo:
    """A genuine photo with a found face.

    Args:
        label: Whose it is.
        path: Its file.
        pixels: RGB uint8 H×W×3.
        landmarks: float32 5×2 pixels.
    """

    label: str
    path: str
    pixels: np.ndarray
    landmarks: np.ndarray


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `write_sources` reads."""

    def source(text: str) -> tuple[str, str]:
        name, _, root = text.partition("=")
        if not name or not root:
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DATA_ROOT")
        return name, root

    parser.add_argument("out", type=Path, help="folder for photos, forgeries, cache and the table")
    parser.add_argument(
        "--source", action="append", required=True, type=source, metavar="NAME=DATA_ROOT"
    )
    parser.add_argument("--autoencoder", type=Path, help="folder of taef2_*.safetensors")
    parser.add_argument("--mesh", type=Path, help="MediaPipe's face_landmark.tflite")


def write_sources(options: argparse.Namespace) -> Iterator[tuple[str, pd.DataFrame]]:
    """Writes photos and forgeries to OUT/photos, source by source; says which kinds it leaves out.

    Args:
        options: See `add_options`.

    Returns:
        Each source's name, and a table as of `write_source`. Whole generated faces have neither
        label nor origin; sources whose photos are themselves generated lack them.
    """
    folder, aligner = options.out / "photos", Aligner(AlignerConfig(device="cpu"), [])
    kinds = forgeries(options.autoencoder, options.mesh)
    left_out = [] if options.autoencoder else ["autoencoder, autoencoder_inner (--autoencoder)"]
    left_out += [] if options.mesh else ["mesh_swap (--mesh)"]
    try:
        whole = write_generated(aligner, folder)
    except WeightsError:
        whole = pd.DataFrame(columns=COLUMNS)
        left_out.append(f"{WHOLE} (the package gan-face-generate)")
    if left_out:
        print(f"left out: {'; '.join(left_out)}", file=sys.stderr)
    for name, root in options.source:
        images = write_source((name, root), kinds, aligner, folder)
        if not (Path(root) / MARKER).exists():
            images = pd.concat([images, whole], ignore_index=True)
        yield name, images


def forgeries(autoencoder: Path | None, mesh: Path | None) -> dict[str, Forge]:
    """Lists how forgeries are made: of a photo, of some other people's photos, and random draws.

    Args:
        autoencoder: Folder of its weights; None leaves its kinds out.
        mesh: Weights of a face mesh; None leaves its kind out.
    """
    kinds: dict[str, Forge] = {
        "face_swap": lambda own, others, _: face_swap(
            others[0].pixels, others[0].landmarks, own.pixels, own.landmarks
        ),
        "self_blend": lambda own, _, draws: self_blend(
            own.pixels, own.landmarks, draws, colour=draws.uniform()
        ),
        "resynthesis": lambda own, _, draws: resynthesise(own.pixels, own.landmarks, draws),
    }
    if autoencoder:
        kinds |= _round_trips(autoencoder)
    if mesh:
        kinds["mesh_swap"] = _mesh_swaps(mesh)
    return kinds


def _round_trips(folder: Path) -> dict[str, Forge]:
    round_trip = RoundTrip.load(folder)

    def inner(own: Photo, _: list[Photo], draws: np.random.Generator) -> np.ndarray:
        return paste_inner_face(own.pixels, own.landmarks, round_trip(own.pixels), draws)

    return {"autoencoder": lambda own, *_: round_trip(own.pixels), "autoencoder_inner": inner}


def _mesh_swaps(file: Path) -> Forge:
    find = load_mesh(file)

    def swap(own: Photo, others: list[Photo], draws: np.random.Generator) -> np.ndarray:
        mesh = find(own.pixels, own.landmarks)
        meshes = [find(other.pixels, other.landmarks) for other in others]
        # Whoever chooses a photo to put a face into takes one in a like pose.
        best = int(np.argmin([shape_distance(mesh, other) for other in meshes]))
        return mesh_swap(others[best].pixels, meshes[best], own.pixels, mesh, draws)

    return swap


def genuine_photos(images: pd.DataFrame, aligner: Aligner, seed: int) -> list[Photo]:
    """Draws people, those with two genuine photos first, and some photos of each with a face.

    People with one photo give no mated pairs, but photos for the detector and non-mated pairs.
    """
    bona_fide = images[~images["is_synthetic"]]
    sizes = bona_fide["label"].value_counts().sort_index()
    draws = np.random.default_rng(seed)
    people = [draws.permutation(sizes.index[chosen]) for chosen in (sizes >= 2, sizes < 2)]
    photos: list[Photo] = []
    for label in np.concatenate(people):
        paths = draws.permutation(bona_fide.loc[bona_fide["label"] == label, "path"])[:PHOTOS]
        pixels = [read_rgb(path) for path in paths]
        faces = aligner(pixels)
        found = [
            Photo(label, path, image, points)
            for path, image, points, status in zip(
                paths, pixels, faces.landmarks, faces.status, strict=True
            )
            if status != CENTRE_CROP
        ]
        photos += found
        if len({photo.label for photo in photos}) == PEOPLE:
            break
    found_of = pd.Series([photo.label for photo in photos]).value_counts()
    if (found_of >= 2).sum() < 2:
        raise DataError("a source needs two people with two genuine photos each")
    return photos


def write_source(
    source: tuple[str, str], kinds: dict[str, Forge], aligner: Aligner, folder: Path
) -> pd.DataFrame:
    """Writes a source's photos and their forgeries; what an interrupted run wrote is kept.

    Args:
        source: Its name and its data root.
        kinds: How to make forgeries of each kind.
        aligner: Finds the landmarks.
        folder: Gets a folder of the source's name.

    Returns:
        Columns label, path, kind (empty for genuine photos), number, which forgeries of a photo
        share, and origin, the source's own file.
    """
    name, root = source
    splits = [load_images(DataConfig(root), split) for split in ("train", "val")]
    # People that training may have seen are taken only where validation has no pairs.
    validation = splits[1]["label"][~splits[1]["is_synthetic"]].value_counts()
    images = splits[1] if (validation >= 2).sum() >= 2 else pd.concat(splits)
    photos = genuine_photos(images, aligner, seed=0)
    rows = []
    for number, photo in enumerate(photos):
        strangers = [other for other in photos if other.label != photo.label]
        draws = np.random.default_rng([0, number])
        others = [strangers[draws.integers(len(strangers))] for _ in range(STRANGERS)]
        makers = {"": lambda own, *_: own.pixels, **kinds}
        for kind, make in makers.items():
            path = folder / name / f"{kind or 'genuine'}-{number:04d}.jpg"
            if not path.exists():
                _write(path, make(photo, others, np.random.default_rng([1, number])))
            rows.append((photo.label, str(path), kind, number, photo.path))
    chosen = {photo.label for photo in photos}
    own = images[images["is_synthetic"] & images["label"].isin(chosen)]
    for number, image in enumerate(own.itertuples()):
        path = folder / name / f"{OWN}-{number:04d}.jpg"
        if not path.exists():
            _write(path, read_rgb(image.path))
        rows.append((image.label, str(path), OWN, -1, image.path))
    return pd.DataFrame(rows, columns=COLUMNS)


def write_generated(aligner: Aligner, folder: Path) -> pd.DataFrame:
    """Writes whole generated faces; gives a table as `write_source`, without labels and origins.

    Raises:
        WeightsError: The generator is not installed.
    """
    paths = [folder / WHOLE / f"{number:04d}.jpg" for number in range(GENERATED)]
    if not all(path.exists() for path in paths):
        for path, face in zip(paths, generate_faces(GENERATED, aligner, seed=1), strict=True):
            _write(path, face)
    rows = [("", str(path), WHOLE, -1, "") for path in paths]
    return pd.DataFrame(rows, columns=COLUMNS)


def _write(path: Path, pixels: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())
