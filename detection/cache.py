"""Aligned crops on disk, keyed by file content and aligner settings; safe to delete, safe for several processes at once."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.core.errors import DataError, ImageReadError
from kryptonite.core.files import atomic_path, fingerprint, sha256_bytes
from kryptonite.core.images import decode_rgb, read_bytes
from kryptonite.detection.aligner import Aligner
from kryptonite.detection.faces import UNREADABLE

CHUNK = (
    256  # images decoded and aligned at a time: bounds memory, leaves the detector whole batches
)

_COLUMNS = ["path", "key", "status", "confidence", "x1", "y1", "x2", "y2"]


class FaceCache:
    """Aligns every distinct image content once.

    An entry is one safetensors file with the crops of all the aligner's templates, landmarks, box and status. Entries are written under a
    temporary name and renamed, so that another process never reads half of one; a damaged entry is made again.

    Args:
        folder: Where entries lie; made when missing.
        aligner: Cuts what is missing; its settings are part of every key.
    """

    def __init__(self, folder: Path, aligner: Aligner):
        self.folder = Path(folder)
        self.aligner = aligner
        self._settings = fingerprint(aligner.settings)[:16]

    def ensure(self, paths: Sequence[str], progress: bool = True) -> pd.DataFrame:
        """Aligns what is not in the cache yet.

        Args:
            paths: Image files; may repeat.
            progress: Show a bar when anything takes long.

        Returns:
            One row per path, in order: path, key (empty where unreadable), status, confidence, x1, y1, x2, y2 (box in image pixels). A file
            that cannot be read is a row with status `unreadable`, never a crop.
        """
        rows: list[tuple] = []
        with (
            ThreadPoolExecutor() as threads,
            tqdm(
                total=len(paths),
                desc="align",
                unit="img",
                delay=2,
                disable=not progress,
                file=sys.stderr,
            ) as bar,
        ):
            for start in range(0, len(paths), CHUNK):
                chunk = list(paths[start : start + CHUNK])
                rows += self._chunk(chunk, threads)
                bar.update(len(chunk))
        return pd.DataFrame(rows, columns=_COLUMNS)

    def identify(self, paths: Sequence[str]) -> list[str]:
        """The key of each file by its content, whether or not it is in the cache; empty where the file cannot be read."""

        with ThreadPoolExecutor() as threads:
            return list(threads.map(lambda path: self._identify(path)[0], paths))

    def read(self, key: str, template: CropTemplate) -> np.ndarray:
        """Reads one crop: uint8, S×S×3, RGB.

        Raises:
            DataError: There is no such entry; the cache was deleted since `ensure`.
        """
        return self._tensor(key, template.name)

    def read_batch(self, keys: Sequence[str], template: CropTemplate) -> Crops:
        """Reads several crops."""
        if not len(keys):
            return Crops(np.zeros((0, template.size, template.size, 3), np.uint8), template)
        return Crops(np.stack([self.read(key, template) for key in keys]), template)

    def read_landmarks(self, keys: Sequence[str]) -> np.ndarray:
        """Reads the landmarks found in several images: float32, N×5×2, in pixels of the image.

        Raises:
            DataError: As `read`.
        """
        return (
            np.stack([self._tensor(key, "landmarks") for key in keys])
            if len(keys)
            else np.zeros((0, 5, 2), np.float32)
        )

    def _tensor(self, key: str, name: str) -> np.ndarray:
        try:
            with safe_open(self._file(key), framework="np") as entry:
                return entry.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{self._file(key)}: {name} is gone from the cache ({error}); run the command again"
            ) from error

    def _identify(self, path: str) -> tuple[str, bytes]:
        """Key and content of a file; both empty where it cannot be read."""
        try:
            content = read_bytes(path)
        except ImageReadError:
            return "", b""
        return f"{sha256_bytes(content)[:40]}-{self._settings}", content

    @staticmethod
    def content_of(key: str) -> str:
        """The part of a key that stands for the file's content, whatever the aligner makes of it."""
        return key.partition("-")[0]

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _chunk(self, paths: list[str], threads: ThreadPoolExecutor) -> list[tuple]:
        contents: dict[str, bytes] = {}

        def identify(path: str) -> str:
            key, content = self._identify(path)
            if key and key not in known and not self._file(key).exists():
                contents[key] = content
            return key

        known: dict[str, tuple] = {}
        keys = list(threads.map(identify, paths))
        for key in dict.fromkeys(keys):
            if key and key not in contents:
                entry = self._describe(key)
                if entry is None:
                    contents[key] = read_bytes(paths[keys.index(key)])
                else:
                    known[key] = entry

        def decode(item: tuple[str, bytes]) -> np.ndarray | None:
            try:
                return decode_rgb(item[1], item[0])
            except ImageReadError:
                return None

        missing = list(contents.items())
        decoded = dict(zip(contents, threads.map(decode, missing), strict=True))
        fresh = {key: image for key, image in decoded.items() if image is not None}
        if fresh:
            faces = self.aligner(list(fresh.values()))
            # Making a file is waiting for the disk, more than anything.
            list(
                threads.map(lambda entry: self._write(entry[1], faces, entry[0]), enumerate(fresh))
            )
            for row, key in enumerate(fresh):
                known[key] = (
                    faces.status[row],
                    float(faces.confidence[row]),
                    *map(float, faces.boxes[row]),
                )
        blank = (UNREADABLE, 0.0, *[float("nan")] * 4)
        return [
            (path, key, *known[key]) if key in known else (path, "", *blank)
            for path, key in zip(paths, keys, strict=True)
        ]

    def _write(self, key: str, faces, row: int) -> None:
        tensors = {
            template.name: np.ascontiguousarray(crops[row])
            for template, crops in faces.crops.items()
        }
        tensors |= {
            "landmarks": faces.landmarks[row],
            "box": faces.boxes[row],
            "confidence": faces.confidence[row : row + 1],
        }
        with atomic_path(self._file(key)) as temporary:
            save_file(
                {name: tensor.copy() for name, tensor in tensors.items()},
                temporary,
                metadata={"status": faces.status[row]},
            )

    def _describe(self, key: str) -> tuple | None:
        """Status, confidence and box of an entry; None when it is damaged."""
        try:
            with safe_open(self._file(key), framework="np") as entry:
                return (
                    entry.metadata()["status"],
                    float(entry.get_tensor("confidence")[0]),
                    *map(float, entry.get_tensor("box")),
                )
        except (OSError, SafetensorError):
            return None
