"""Aligned crops on disk, keyed by file content and aligner settings.

The cache is safe to delete and safe to share between processes.
"""

import errno
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from kryptonite.core.chunks import chunked
from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.core.errors import DataError, ImageReadError
from kryptonite.core.files import fingerprint, sha256_bytes
from kryptonite.core.images import count_pixels, decode_rgb, hash_file, read_bytes
from kryptonite.core.tensors import load_tensors, save_tensors
from kryptonite.detection.aligner import Aligner
from kryptonite.detection.faces import UNREADABLE, AlignedFaces

CHUNK = 256  # images decoded and aligned at a time, at most: fills the detector's batches
READ = 16  # files read at a time
KEPT = 2**28  # bytes of undecoded files kept between hashing and decoding them
_DECODED_PIXELS = 2**27  # the same as CHUNK, if the images are large: 400 MB when decoded

_GROUP = "group-"  # begins the name of a folder of entries on their way to their places
_COLUMNS = ["path", "key", "status", "confidence", "x1", "y1", "x2", "y2"]


@dataclass(frozen=True)
class CachedFaces(AlignedFaces):
    """Aligned faces with their cache keys.

    Args:
        keys: N cache keys.
    """

    keys: list[str]

    @classmethod
    def joined(cls, parts: "Sequence[CachedFaces]") -> "CachedFaces":  # type: ignore[override]
        """Concatenates faces, part after part; at least one part."""
        faces = AlignedFaces.joined(parts)
        return cls(**vars(faces), keys=[key for part in parts for key in part.keys])


class _Entry(NamedTuple):
    """One face as stored."""

    status: str
    confidence: float
    box: np.ndarray
    landmarks: np.ndarray
    crops: dict[CropTemplate, np.ndarray]


class Contents(dict[str, bytes]):
    """Undecoded bytes by key, of at most `KEPT` bytes in all; others are read again when needed."""

    _held = 0

    def keep(self, key: str, content: bytes) -> None:
        """Keeps a content if there is room for it."""
        if content and self._held + len(content) <= KEPT:
            self[key] = content
            self._held += len(content)


class FaceCache:
    """Aligns every distinct image content once.

    An entry is one safetensors file with the crops of all the aligner's templates, the landmarks,
    the box and the status. Entries are written under a temporary name and renamed, so another
    process never reads half of one; those aligned together are there together, even after a
    process was killed. A damaged entry is made again.

    Args:
        folder: Holds the entries; created when missing.
        aligner: Cuts missing crops; its settings are part of every key.
        keep: Whether crops that it cuts become entries.
    """

    def __init__(self, folder: Path, aligner: Aligner, keep: bool = True):
        self.folder = Path(folder)
        self.aligner = aligner
        self.keep = keep
        self._settings = fingerprint(aligner.settings)[:16]
        # Of a process that was killed once its group was whole.
        for group in self.folder.glob(f"{_GROUP}*"):
            with suppress(OSError):
                self._take_in(group)

    def ensure(self, paths: Sequence[str], progress: bool = True) -> pd.DataFrame:
        """Aligns the images that are not in the cache yet, or whose entries are damaged.

        Args:
            paths: Image files; may repeat.
            progress: Shows a bar when this takes long.

        Returns:
            One row per path, in order: path, key (empty if unreadable), status, confidence, x1, y1,
            x2, y2 (box in image pixels). An unreadable file has status `unreadable` and no crop.
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
            for chunk in chunked(list(paths), CHUNK):
                rows += self._ensure_chunk(chunk, threads)
                bar.update(len(chunk))
        return pd.DataFrame(rows, columns=_COLUMNS)

    def load(
        self,
        keys: Sequence[str],
        contents: Mapping[str, bytes],
        reread: Callable[[str], bytes] | None = None,
    ) -> CachedFaces:
        """Gives crops and descriptions of distinct contents, all held in memory at once.

        Every entry on disk is opened once. Contents without an entry are decoded, aligned together
        in the order of `keys` and, if the cache keeps them, written.

        Args:
            keys: Distinct keys, as `identify_content` gives them.
            contents: Undecoded bytes by key, for the keys that have no entry.
            reread: Gives the bytes for a key whose entry is damaged or gone.

        Returns:
            Faces in the order of `keys`; contents that cannot be decoded are omitted.

        Raises:
            DataError: An entry is damaged or gone, and there is no `reread`.
        """
        with ThreadPoolExecutor() as threads:
            entries = self._collect(keys, contents, reread or self._refuse, threads)
        faces = list(entries.values())
        return CachedFaces(
            crops={
                template: np.stack([face.crops[template] for face in faces])
                if faces
                else np.zeros((0, template.size, template.size, 3), np.uint8)
                for template in self.aligner.templates
            },
            landmarks=_stacked([face.landmarks for face in faces], (5, 2)),
            boxes=_stacked([face.box for face in faces], (4,)),
            confidence=np.array([face.confidence for face in faces], np.float32),
            status=[face.status for face in faces],
            keys=list(entries),
        )

    def identify_content(self, path: str) -> tuple[str, bytes]:
        """Key and content of a file; both empty if it cannot be read.

        The content of a file that is too large to be kept beside others is empty, too.
        """
        try:
            hashed, content = hash_file(path, KEPT // 8)
        except ImageReadError:
            return "", b""
        return self._key(hashed), content

    def reread(self, key: str, path: str) -> bytes:
        """Reads a file again whose content was identified before.

        Raises:
            DataError: It cannot be read any more, or holds another content.
        """
        try:
            content = read_bytes(path)
        except ImageReadError as error:
            raise DataError(
                f"{path}: was there and cannot be read now, or not on this machine "
                f"({platform.node()})"
            ) from error
        if self._key(sha256_bytes(content)) != key:
            raise DataError(f"{path}: changed while it was being read")
        return content

    def identify(self, paths: Sequence[str]) -> list[str]:
        """Key of each file, cached or not; empty if the file cannot be read."""
        with ThreadPoolExecutor() as threads:
            return list(threads.map(lambda path: self.identify_content(path)[0], paths))

    def has(self, key: str) -> bool:
        """Whether an entry of this key is on disk; it may be damaged."""
        return self._file(key).exists()

    def read(self, key: str, template: CropTemplate) -> np.ndarray:
        """Reads one crop: uint8, S×S×3, RGB.

        Raises:
            DataError: The entry is gone: the cache was deleted since `ensure`.
        """
        return self._tensor(key, template.name)

    def read_batch(self, keys: Sequence[str], template: CropTemplate) -> Crops:
        """Reads several crops.

        Raises:
            DataError: An entry is gone.
        """
        if not len(keys):
            return Crops(np.zeros((0, template.size, template.size, 3), np.uint8), template)
        return Crops(np.stack([self.read(key, template) for key in keys]), template)

    def read_landmarks(self, keys: Sequence[str]) -> np.ndarray:
        """Reads the landmarks of several images: float32, N×5×2, in pixels of the image.

        Raises:
            DataError: An entry is gone.
        """
        return _stacked([self._tensor(key, "landmarks") for key in keys], (5, 2))

    @staticmethod
    def content_of(key: str) -> str:
        """The part of a key that identifies the file's content, whatever the aligner's settings."""
        return key.partition("-")[0]

    def _key(self, hashed: str) -> str:
        return f"{hashed[:40]}-{self._settings}"

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _tensor(self, key: str, name: str) -> np.ndarray:
        try:
            return load_tensors(self._file(key), [name]).tensors[name]
        except DataError as error:
            raise DataError(
                f"{error}: damaged or gone from the cache; run the command again"
            ) from error

    def _refuse(self, key: str) -> bytes:
        raise DataError(f"{self._file(key)}: damaged or gone from the cache; run the command again")

    def _ensure_chunk(self, paths: list[str], threads: ThreadPoolExecutor) -> list[tuple]:
        """Rows of `ensure` for one chunk of paths."""

        keys, contents = [], Contents()
        for part in chunked(paths, READ):
            for key, content in threads.map(self.identify_content, part):
                keys.append(key)
                # Bytes that have an entry need not stay in memory.
                if key and not self.has(key):
                    contents.keep(key, content)
        path_of = dict(zip(keys, paths, strict=True))
        path_of.pop("", None)
        entries = self._collect(
            list(path_of), contents, lambda key: self.reread(key, path_of[key]), threads
        )
        blank = (UNREADABLE, 0.0, *[float("nan")] * 4)
        return [
            (path, key, entries[key].status, entries[key].confidence, *map(float, entries[key].box))
            if key in entries
            else (path, "", *blank)
            for path, key in zip(paths, keys, strict=True)
        ]

    def _collect(
        self,
        keys: Sequence[str],
        contents: Mapping[str, bytes],
        reread: Callable[[str], bytes],
        threads: ThreadPoolExecutor,
    ) -> dict[str, _Entry]:
        """Entries of distinct keys, in order, without those that cannot be decoded."""
        stored = [key for key in keys if key not in contents]
        opened = dict(zip(stored, threads.map(self._open, stored), strict=True))
        missing = [key for key in keys if opened.get(key) is None]
        entries = {**opened, **self._align(missing, contents, reread, threads)}
        return {key: entries[key] for key in keys if entries.get(key) is not None}

    def _open(self, key: str) -> _Entry | None:
        """Reads an entry; None when it is damaged or gone."""
        templates = self.aligner.templates
        names = ["confidence", "box", "landmarks", *(template.name for template in templates)]
        try:
            tensors, texts = load_tensors(self._file(key), names)
            return _Entry(
                texts["status"],
                float(tensors["confidence"][0]),
                tensors["box"],
                tensors["landmarks"],
                {template: tensors[template.name] for template in templates},
            )
        except (DataError, KeyError):
            return None

    def _align(
        self,
        keys: Sequence[str],
        contents: Mapping[str, bytes],
        reread: Callable[[str], bytes],
        threads: ThreadPoolExecutor,
    ) -> dict[str, _Entry | None]:
        """Decodes, aligns and writes contents; None stands for one that cannot be decoded."""
        entries: dict[str, _Entry | None] = {}
        group: dict[str, bytes] = {}
        pixels = held = 0
        for key in keys:
            content = contents.get(key) or reread(key)
            more = count_pixels(content)
            if group and (pixels + more > _DECODED_PIXELS or held + len(content) > KEPT):
                entries |= self._align_group(group, threads)
                group, pixels, held = {}, 0, 0
            group[key] = content
            pixels, held = pixels + more, held + len(content)
        return entries | self._align_group(group, threads)

    def _align_group(
        self, contents: Mapping[str, bytes], threads: ThreadPoolExecutor
    ) -> dict[str, _Entry | None]:
        """As `_align`, for as many contents as may be decoded at a time."""

        def decode(item: tuple[str, bytes]) -> np.ndarray | None:
            try:
                return decode_rgb(item[1], item[0])
            except ImageReadError:
                return None

        entries: dict[str, _Entry | None] = dict.fromkeys(contents)
        images = zip(contents, threads.map(decode, contents.items()), strict=True)
        decoded = {key: image for key, image in images if image is not None}
        if decoded:
            faces = self.aligner(list(decoded.values()))
            for row, key in enumerate(decoded):
                entries[key] = _Entry(
                    faces.status[row],
                    float(faces.confidence[row]),
                    faces.boxes[row],
                    faces.landmarks[row],
                    {template: crops[row] for template, crops in faces.crops.items()},
                )
            if self.keep:
                self._write_group({key: entries[key] for key in decoded})
        return entries

    def _write_group(self, entries: Mapping[str, _Entry]) -> None:
        """Writes entries so that a killed process leaves all of them or none.

        Landmarks differ in their last digits by the company in which a photo is aligned. If some of
        a group were kept, the others would be aligned again in another company.

        Raises:
            OSError: The disk is full or the folder forbidden; `filename` is the cache's folder.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            hidden = Path(tempfile.mkdtemp(prefix=f".{_GROUP}", dir=self.folder))
            try:
                files = [hidden / f"{key}.safetensors" for key in entries]
                # Writing a file is mostly waiting for the disk. A pool of its own, which ends
                # before the folder is removed, whatever happens.
                with ThreadPoolExecutor() as threads:
                    list(threads.map(_write, files, entries.values()))
                whole = hidden.rename(self.folder / hidden.name.removeprefix("."))
            finally:
                shutil.rmtree(hidden, ignore_errors=True)
            self._take_in(whole)
        except OSError as error:
            number = error.errno or errno.EIO
            raise OSError(number, os.strerror(number), str(self.folder)) from error

    def _take_in(self, group: Path) -> None:
        """Puts a group's entries in their places; another process may be doing the same."""
        for file in group.glob("*.safetensors"):
            target = self._file(file.stem)
            target.parent.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                os.replace(file, target)
        with suppress(OSError):
            group.rmdir()


def _write(file: Path, entry: _Entry) -> None:
    tensors = {template.name: crop for template, crop in entry.crops.items()}
    tensors |= {
        "landmarks": entry.landmarks,
        "box": entry.box,
        "confidence": np.array([entry.confidence], np.float32),
    }
    save_tensors(file, tensors, {"status": entry.status})


def _stacked(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Stacks arrays of one shape as float32, N×shape."""
    return np.asarray(arrays, np.float32).reshape(len(arrays), *shape)
