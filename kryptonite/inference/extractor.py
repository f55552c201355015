"""Look at every distinct image once: decode, align, embed, score for artifacts; share by share, and what was seen is kept."""

import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load, save
from tqdm import tqdm

from kryptonite.core.crops import Crops
from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_path, fingerprint
from kryptonite.core.memory import return_freed_memory
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.faces import UNREADABLE
from kryptonite.liveness.detector import Detector
from kryptonite.recognition.differential.features import FeatureMaps
from kryptonite.recognition.recogniser import Recogniser

SHARE = 256  # contents looked at in one go: bounds memory; same shares, same cores and same machines give the same figures to the bit
_REVISION = 2  # raise when the same crops and weights come to give other sights


@dataclass(frozen=True)
class ImageFeatures:
    """What both branches saw in N distinct contents of readable images.

    Args:
        keys: Of the crop cache, N strings.
        status: How the face was acquired, N strings of `detection.faces`.
        boxes: float32 N×4, x1, y1, x2, y2 of the face in pixels of the image.
        embeddings: float32 N×D, unit length.
        log_odds: float32 N, log-odds of 'synthetic'.
        perception: What the comparer goes by; None where there is no comparer.
    """

    keys: np.ndarray
    status: np.ndarray
    boxes: np.ndarray
    embeddings: np.ndarray
    log_odds: np.ndarray
    perception: FeatureMaps | None

    @classmethod
    def joined(cls, parts: "Sequence[ImageFeatures]") -> "ImageFeatures":
        """One after the other."""
        arrays = [
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("keys", "status", "boxes", "embeddings", "log_odds")
        ]
        perceived = [part.perception for part in parts if part.perception is not None]
        return cls(*arrays, FeatureMaps.joined(perceived) if perceived else None)

    def packed(self) -> bytes:
        """Gives the bytes of a safetensors file."""
        tensors = {"boxes": self.boxes, "embeddings": self.embeddings, "log_odds": self.log_odds}
        tensors |= {
            name: np.frombuffer("\n".join(getattr(self, name)).encode(), np.uint8)
            for name in ("keys", "status")
        }
        if self.perception is not None:
            channels = np.array(self.perception.channels)
            perceived = {
                "perceived": self.perception.embeddings,
                "pooled": self.perception.pooled,
                "cells": self.perception.cells,
            }
            tensors |= {**perceived, "channels": channels}
        return save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})

    @classmethod
    def unpacked(cls, content: bytes) -> "ImageFeatures":
        """Inverse of `packed`.

        Raises:
            SafetensorError, KeyError, ValueError: These are no such bytes.
        """
        tensors = load(content)
        keys, status = (
            np.array(
                tensors[name].tobytes().decode().split("\n") if tensors[name].size else [], str
            )
            for name in ("keys", "status")
        )
        perception = None
        if "pooled" in tensors:
            perception = FeatureMaps(
                *(tensors[name] for name in ("perceived", "pooled", "cells")),
                tuple(tensors["channels"].tolist()),
            )
        return cls(
            keys,
            status,
            *(tensors[name] for name in ("boxes", "embeddings", "log_odds")),
            perception,
        )


@dataclass(frozen=True)
class FeatureTable:
    """Images and what was seen in them.

    Args:
        paths: N distinct paths.
        content: int N, the row of `seen` that each shows; −1 where it cannot be read.
        seen: Of every distinct content.
    """

    paths: pd.Index
    content: np.ndarray
    seen: ImageFeatures

    def rows(self, paths: Sequence[str] | pd.Series) -> np.ndarray:
        """Rows of `seen` that some of the paths show; −1 for what cannot be read.

        Raises:
            KeyError: A path that was not looked at.
        """
        rows = self.paths.get_indexer(paths)
        if (rows < 0).any():
            raise KeyError(list(paths)[int(np.argmin(rows))])
        return self.content[rows]


class Shard(NamedTuple):
    """Images of distinct contents that are looked at in one go.

    Args:
        paths: Of the images.
        keys: Of the crop cache, of each.
    """

    paths: list[str]
    keys: list[str]


ShardExecutor = Callable[
    [list[Shard]], Iterator[ImageFeatures]
]  # gives what `FeatureExtractor.share` gives for each share, in order


class FeatureExtractor:
    """The two networks behind the aligner and its cache.

    Args:
        recogniser: Aligned crops to embeddings.
        detector: Aligned crops to log-odds of 'synthetic'.
        cache: Aligns; its folder keeps what was seen, too, under `sights`.
        observer: Perceives for the comparer: the recogniser itself or a network like it; None where there is no comparer.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        detector: Detector,
        cache: FaceCache,
        observer: Recogniser | None,
    ):
        self.recogniser, self.detector, self.cache, self.observer = (
            recogniser,
            detector,
            cache,
            observer,
        )

    def see(self, crops: Crops) -> tuple[np.ndarray, FeatureMaps | None]:
        """Embeddings of the recogniser's crops, and what the comparer goes by."""
        if self.observer is None:
            return self.recogniser.embed(crops), None
        perception = self.observer.extract_maps(crops)
        return perception.embeddings if self.observer is self.recogniser else self.recogniser.embed(
            crops
        ), perception

    def share(self, share: Shard) -> ImageFeatures:
        """FeatureTable at a share; what is no image is missing in what it gives.

        Raises:
            DataError: A file is not there, or not any more; the machine that looks may lack the data.
        """
        file = self._file(share.keys)
        if file and file.exists():
            with suppress(
                OSError, SafetensorError, KeyError, ValueError
            ):  # a damaged file is made again
                kept = ImageFeatures.unpacked(file.read_bytes())
                if set(kept.keys) <= set(share.keys):
                    return kept
        faces = self.cache.ensure(share.paths, progress=False)
        return_freed_memory()
        unreadable = faces["status"] == UNREADABLE
        for path in faces.loc[unreadable, "path"]:
            if not self.cache.identify([path])[0]:
                raise DataError(
                    f"{path}: was there and cannot be read now, or not on this machine ({platform.node()})"
                )
        faces = faces[~unreadable]
        found = faces["key"].tolist()
        embeddings, perception = self.see(
            self.cache.read_batch(found, self.recogniser.spec.template)
        )
        seen = ImageFeatures(
            faces["key"].to_numpy(np.str_),
            faces["status"].to_numpy(np.str_),
            faces[["x1", "y1", "x2", "y2"]].to_numpy(np.float32),
            embeddings,
            self.detector.log_odds(self.cache.read_batch(found, self.detector.spec.template)),
            perception,
        )
        if file and set(found) <= set(share.keys):  # no file was changed meanwhile
            with atomic_path(file) as temporary:
                temporary.write_bytes(seen.packed())
        return_freed_memory()
        return seen

    def look(
        self, paths: Iterable[str], progress: bool = True, spread: ShardExecutor | None = None
    ) -> FeatureTable:
        """Reads every distinct path; looks at every distinct content once.

        Args:
            paths: Image files; may repeat.
            progress: Show a bar when it takes long.
            spread: FeatureTable at the shares; one after the other here unless given.
        """
        distinct = pd.Index(pd.unique(pd.Series(list(paths), dtype=object)))
        keys = pd.Index(self.cache.identify(list(distinct)))
        # One photo may lie under many names, as in pairs of folders.
        fresh = (keys != "") & ~keys.duplicated()
        first, known = list(distinct[fresh]), list(keys[fresh])
        shares = [
            Shard(first[start : start + SHARE], known[start : start + SHARE])
            for start in range(0, len(first), SHARE)
        ]
        parts = []
        with tqdm(
            total=len(first),
            desc="look",
            unit="img",
            delay=2,
            disable=not progress,
            file=sys.stderr,
        ) as bar:
            for share, seen in zip(
                shares, spread(shares) if spread else map(self.share, shares), strict=True
            ):
                parts.append(seen)
                bar.update(len(share.paths))
        # Nothing readable is an empty table with the columns that a share has.
        seen = ImageFeatures.joined(parts or [self.share(Shard([], []))])
        return FeatureTable(distinct, pd.Index(seen.keys).get_indexer(keys), seen)

    def _file(self, keys: Sequence[str]) -> Path | None:
        """Where what is seen in some contents is kept; nowhere for networks that no run holds."""
        marks = [
            network.mark for network in (self.recogniser, self.detector, self.observer) if network
        ]
        if not all(marks):
            return None
        name = fingerprint([_REVISION, *marks, list(keys)])[:40]
        return self.cache.folder / "sights" / name[:2] / f"{name}.safetensors"
