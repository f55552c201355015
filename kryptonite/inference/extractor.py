"""Extract features once per distinct image, in shards, cached on disk."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm

from kryptonite.core.chunks import chunked
from kryptonite.core.crops import Crops
from kryptonite.core.errors import DataError, ImageReadError
from kryptonite.core.files import fingerprint, refuse_if_most
from kryptonite.core.images import read_rgb, shown
from kryptonite.core.memory import return_freed_memory
from kryptonite.core.tensors import load_tensors, save_tensors
from kryptonite.detection.cache import READ, CachedFaces, Contents, FaceCache
from kryptonite.detection.faces import AlignedFaces
from kryptonite.liveness.detector import Detector
from kryptonite.recognition.differential.maps import FeatureMaps
from kryptonite.recognition.recogniser import Recogniser

# Distinct contents per shard. It bounds memory, and a shard is what is cached: equal shards on
# equal cores of equal machines give equal features to the bit.
SHARD = 256
_PART = 64  # contents whose faces another process finds at a time
_REVISION = 2  # bump when features change for unchanged crops and weights

if TYPE_CHECKING:  # imports torch, which exported networks do without
    from kryptonite.detection.processes import FaceProcesses

Features = TypeVar("Features", bound="CropFeatures")


@dataclass(frozen=True)
class CropFeatures:
    """What the networks extract from N aligned faces.

    Args:
        embeddings: float32 N×D, unit length.
        log_odds: float32 N, log-odds of 'synthetic'.
        maps: What the differential detector compares; None without one.
    """

    embeddings: np.ndarray
    log_odds: np.ndarray
    maps: FeatureMaps | None

    def rows(self, chosen: np.ndarray) -> "CropFeatures":
        """Takes the features of some faces.

        Args:
            chosen: int or bool rows.
        """
        maps = self.maps and self.maps.rows(chosen)
        return CropFeatures(self.embeddings[chosen], self.log_odds[chosen], maps)

    @classmethod
    def joined(cls: type[Features], parts: "Sequence[Features]") -> Features:
        """Concatenates features, part after part."""
        names = [each.name for each in fields(cls) if each.name != "maps"]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        maps = [part.maps for part in parts if part.maps is not None]
        return cls(**arrays, maps=FeatureMaps.joined(maps) if maps else None)


@dataclass(frozen=True)
class ImageFeatures(CropFeatures):
    """Features of N distinct contents of readable images.

    Args:
        keys: N keys of the face cache.
        status: N constants of `detection.faces`: how each face was acquired.
        boxes: float32 N×4, x1, y1, x2, y2 of the face in pixels of the image.
    """

    keys: np.ndarray
    status: np.ndarray
    boxes: np.ndarray

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Encodes the features as named numeric arrays."""
        tensors = {name: getattr(self, name) for name in ("boxes", "embeddings", "log_odds")}
        for name in ("keys", "status"):
            tensors[name] = np.frombuffer("\n".join(getattr(self, name)).encode(), np.uint8)
        if self.maps is not None:
            tensors |= {
                "perceived": self.maps.embeddings,
                "pooled": self.maps.pooled,
                "cells": self.maps.cells,
                "channels": np.array(self.maps.channels),
            }
        return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "ImageFeatures":
        """Decodes what `to_tensors` gave.

        Raises:
            KeyError, ValueError: The arrays are something else.
        """

        def strings(name: str) -> np.ndarray:
            encoded = tensors[name]
            return np.array(encoded.tobytes().decode().split("\n") if encoded.size else [], str)

        maps = None
        if "pooled" in tensors:
            maps = FeatureMaps(
                embeddings=tensors["perceived"],
                pooled=tensors["pooled"],
                cells=tensors["cells"],
                channels=tuple(tensors["channels"].tolist()),
            )
        return cls(
            embeddings=tensors["embeddings"],
            log_odds=tensors["log_odds"],
            maps=maps,
            keys=strings("keys"),
            status=strings("status"),
            boxes=tensors["boxes"],
        )


@dataclass(frozen=True)
class FeatureTable:
    """Images and where their features are.

    Args:
        paths: N distinct paths.
        content: int N, the row of `features` that holds each image; −1 where it cannot be read.
        features: Features of every distinct content.
    """

    paths: pd.Index
    content: np.ndarray
    features: ImageFeatures

    def rows(self, paths: Sequence[str] | pd.Series) -> np.ndarray:
        """Looks paths up: int, a row of `features` each, −1 for images that cannot be read.

        Raises:
            KeyError: A path that the table does not hold.
        """
        rows = self.paths.get_indexer(paths)
        if (rows < 0).any():
            raise KeyError(list(paths)[int(np.argmin(rows))])
        return self.content[rows]

    def refuse_if_most_are_unreadable(self, source: Path | str) -> None:
        """Raises DataError, with count and the first, when over half of the files cannot be read.

        Args:
            source: Names where the files come from.
        """
        unreadable = [shown(path) for path in self.paths[self.content < 0]]
        refuse_if_most(unreadable, len(self.paths), source, "cannot be read")


class Shard(NamedTuple):
    """Images of distinct contents whose features are extracted and cached together.

    Args:
        paths: One file of each content.
        keys: The contents' keys in the face cache.
        contents: Bytes of files that the face cache does not hold yet. Those missing here are read
            again: an executor on another machine gets paths alone.
    """

    paths: list[str]
    keys: list[str]
    contents: Contents


ShardExecutor = Callable[[list[Shard]], Iterator[ImageFeatures]]


@dataclass(frozen=True)
class FeatureExtractor:
    """Aligner, recogniser and detector behind a cache.

    Args:
        recogniser: Maps aligned crops to embeddings.
        detector: Maps aligned crops to log-odds of 'synthetic'.
        cache: Aligns faces; features are cached in its folder, too, under `sights`.
        backbone: Extracts the differential detector's feature maps: the recogniser itself or a
            network like it. None extracts none.
        executor: Runs `extract_shard` for every shard, in order; None runs it in this process.
        processes: Find the faces of lists of more than `SHARD` images, in place of the cache's
            aligner; None does without.
    """

    recogniser: Recogniser
    detector: Detector
    cache: FaceCache
    backbone: Recogniser | None = None
    executor: ShardExecutor | None = field(default=None, repr=False)
    processes: "FaceProcesses | None" = field(default=None, repr=False)

    def from_faces(self, faces: AlignedFaces) -> CropFeatures:
        """Extracts features of faces aligned to the recogniser's and the detector's templates."""
        embeddings, maps = self.embed(faces.crops_for(self.recogniser.spec.template))
        log_odds = self.detector.log_odds(faces.crops_for(self.detector.spec.template))
        return CropFeatures(embeddings, log_odds, maps)

    def embed(self, crops: Crops) -> tuple[np.ndarray, FeatureMaps | None]:
        """Extracts embeddings and feature maps of the recogniser's crops."""
        if self.backbone is None:
            return self.recogniser.embed(crops), None
        maps = self.backbone.extract_maps(crops)
        # One pass gives both where the differential detector uses the recogniser itself.
        shared = self.backbone is self.recogniser
        return maps.embeddings if shared else self.recogniser.embed(crops), maps

    def from_images(self, images: Sequence[np.ndarray]) -> tuple[AlignedFaces, CropFeatures]:
        """Aligns RGB uint8 H×W×3 images and extracts their features, past the cache."""
        faces = self.cache.aligner(images)
        return faces, self.from_faces(faces)

    def extract_shard(self, shard: Shard) -> ImageFeatures:
        """Extracts a shard's features, or reads them from the cache. Undecodable files are omitted.

        Raises:
            DataError: A file has vanished or changed, or is missing on this machine.
        """
        kept = self._kept(shard)
        if kept:
            return kept
        path_of = dict(zip(shard.keys, shard.paths, strict=True))

        def reread(key: str) -> bytes:
            return self.cache.reread(key, path_of[key])

        contents = Contents(shard.contents)
        if not contents:  # an executor on another machine gets none
            missing = [key for key in shard.keys if not self.cache.has(key)]
            with ThreadPoolExecutor() as threads:
                for part in chunked(missing, READ):
                    for key, content in zip(part, threads.map(reread, part), strict=True):
                        contents.keep(key, content)
        faces = self.cache.load(shard.keys, contents, reread)
        return_freed_memory()
        return self._extract(shard, faces)

    def _kept(self, shard: Shard) -> ImageFeatures | None:
        """A shard's features from the cache; None where they are not there or damaged."""
        file = self._file(shard.keys)
        if file and file.exists():
            with suppress(DataError, KeyError, ValueError):
                kept = ImageFeatures.from_tensors(load_tensors(file).tensors)
                path_of = dict(zip(shard.keys, shard.paths, strict=True))
                unread = set(shard.keys) - set(kept.keys)
                # A newer decoder may read what an older one could not.
                if set(kept.keys) <= set(shard.keys) and not any(
                    _can_be_read(path_of[key]) for key in unread
                ):
                    return kept
        return None

    def _extract(self, shard: Shard, faces: CachedFaces) -> ImageFeatures:
        """Extracts the features of a shard's faces and caches them."""
        features = self.from_faces(faces)
        found = ImageFeatures(
            embeddings=features.embeddings,
            log_odds=features.log_odds,
            maps=features.maps,
            keys=np.array(faces.keys, np.str_),
            status=np.array(faces.status, np.str_),
            boxes=faces.boxes,
        )
        file = self._file(shard.keys)
        if file:
            save_tensors(file, found.to_tensors())
        return_freed_memory()
        return found

    def _extract_beside(
        self, shards: Iterator[Shard], processes: "FaceProcesses"
    ) -> Iterator[ImageFeatures]:
        """Extracts shards' features while other processes find the faces of those that follow.

        Yields:
            Features of every shard; those that were cached may come earlier.
        """
        kept: list[ImageFeatures] = []
        # Of each part on its way: its shard, and whether the shard ends with it.
        waiting: deque[tuple[Shard, bool]] = deque()

        def parts() -> Iterator[tuple[list[str], list[str]]]:
            for shard in shards:
                known = self._kept(shard)
                if known:
                    kept.append(known)
                    continue
                count = len(shard.keys)
                for start in range(0, count, _PART):
                    part = slice(start, start + _PART)
                    # The processes read the files themselves.
                    waiting.append((shard._replace(contents=Contents()), start + _PART >= count))
                    yield shard.keys[part], shard.paths[part]

        found: list[CachedFaces] = []
        with closing(processes(parts())) as results:
            for faces in results:
                found.append(faces)
                shard, ends = waiting.popleft()
                if ends:
                    # In this thread: every thread that is new to the GPU takes seconds to plan its
                    # convolutions.
                    yield self._extract(shard, CachedFaces.joined(found))
                    found = []
        yield from kept

    def extract(self, paths: Iterable[str], progress: bool = True) -> FeatureTable:
        """Hashes every distinct path and extracts the features of every distinct content.

        Args:
            paths: Image files; may repeat.
            progress: Whether to show a bar when it takes long.
        """
        distinct = pd.Index(pd.unique(pd.Series(list(paths), dtype=object)))
        keys: list[str] = []
        with tqdm(
            total=len(distinct),
            desc="extract",
            unit="img",
            delay=2,
            disable=not progress,
            file=sys.stderr,
        ) as bar:
            shards = self._shards(list(distinct), keys)
            parts = []
            if self.executor:
                for features in self.executor([Shard(*shard[:2], Contents()) for shard in shards]):
                    parts.append(features)
                    bar.update(SHARD)
            else:
                # For one shard, processes would not have started before it is done here.
                each = (
                    self._extract_beside(shards, self.processes)
                    if self.processes and len(distinct) > SHARD
                    else map(self.extract_shard, shards)
                )
                for features in each:
                    parts.append(features)
                    bar.update(len(keys) - bar.n)
        # Without a readable image the table is empty, with the columns that a shard has.
        features = ImageFeatures.joined(parts or [self.extract_shard(Shard([], [], Contents()))])
        return FeatureTable(distinct, pd.Index(features.keys).get_indexer(keys), features)

    def _shards(self, paths: list[str], keys: list[str]) -> Iterator[Shard]:
        """Reads and hashes files once; yields a shard whenever enough new contents have come.

        Args:
            paths: Distinct files.
            keys: Filled with the key of every file in turn; empty where it cannot be read.
        """
        seen: set[str] = set()
        shard = Shard([], [], Contents())
        with ThreadPoolExecutor() as threads:
            for part in chunked(paths, READ):
                read = threads.map(self.cache.identify_content, part)
                for path, (key, content) in zip(part, read, strict=True):
                    keys.append(key)
                    # One photo may lie under many names, as in folders of pairs.
                    if not key or key in seen:
                        continue
                    seen.add(key)
                    shard.paths.append(path)
                    shard.keys.append(key)
                    if not self.cache.has(key):
                        shard.contents.keep(key, content)
                    if len(shard.keys) == SHARD:
                        yield shard
                        shard = Shard([], [], Contents())
        if shard.keys:
            yield shard

    def _file(self, keys: Sequence[str]) -> Path | None:
        """Where some contents' features are cached; None for networks that no run holds."""
        networks = [
            network.fingerprint
            for network in (self.recogniser, self.detector, self.backbone)
            if network
        ]
        if not all(networks):
            return None
        name = fingerprint([_REVISION, *networks, list(keys)])[:40]
        return self.cache.folder / "sights" / name[:2] / f"{name}.safetensors"


def _can_be_read(path: str) -> bool:
    try:
        read_rgb(path)
    except ImageReadError:
        return False
    return True
