"""Find faces in processes of their own, while this one keeps a GPU busy.

Decoding photos and finding faces in them is many short calls, between which a process's threads
wait for one another: with 16 cores, threads are hardly faster than one of them.
"""

import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import cv2
from torch.utils.data import DataLoader, Dataset

from kryptonite.core.errors import DataError, KryptoniteError
from kryptonite.core.memory import return_freed_memory
from kryptonite.detection.aligner import Aligner
from kryptonite.detection.cache import CachedFaces, FaceCache

Part = tuple[list[str], list[str]]  # keys of distinct contents in a cache, and a file of each


class FaceProcesses:
    """Processes that load faces as a cache does, and find those it lacks on the CPU.

    Args:
        cache: Says where crops are, and how faces are found and cut.
        exports: Folder of MTCNN's exported networks: torch on the CPU is slower than a GPU.
        count: Number of processes, at least 1.
    """

    def __init__(self, cache: FaceCache, exports: Path, count: int):
        self._faces, self._count = _Faces(cache, exports), count
        # Forks of this process would lack the threads that its libraries count on.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])

    def __call__(self, parts: Iterable[Part]) -> Iterator[CachedFaces]:
        """Yields the faces of every part, in order; contents that cannot be decoded are omitted.

        Args:
            parts: Distinct contents that one process takes at a time; drawn ahead, two for every
                process.

        Raises:
            DataError: A file has vanished or changed, or a process has been killed.
            OSError: The cache's disk is full or forbidden.
        """
        loader = DataLoader(
            self._faces,
            sampler=parts,
            batch_size=None,
            num_workers=self._count,
            collate_fn=_as_it_is,
            multiprocessing_context=self._context,
        )
        results = iter(loader)
        while (faces := self._wait(results)) is not None:
            yield faces

    def _wait(self, results: Iterator[CachedFaces | Exception]) -> CachedFaces | None:
        """Takes the next part's faces; None after the last."""
        try:
            found = next(results, None)
        except RuntimeError as error:
            raise DataError(f"a process that was finding faces has ended: {error}") from error
        if isinstance(found, Exception):
            raise found
        return found


class _Faces(Dataset):
    """Maps parts to their faces, in the process that asks."""

    def __init__(self, cache: FaceCache, exports: Path):
        self._folder, self._keep = cache.folder, cache.keep
        config = replace(cache.aligner.config, device="cpu")
        self._aligner = config, cache.aligner.templates, exports

    @cached_property
    def _cache(self) -> FaceCache:
        cv2.setNumThreads(1)  # there is a process for every core
        return FaceCache(self._folder, Aligner(*self._aligner), self._keep)

    def __getitem__(self, part: Part) -> CachedFaces | Exception:
        path_of = dict(zip(*part, strict=True))
        try:
            return self._cache.load(part[0], {}, lambda key: self._cache.reread(key, path_of[key]))
        except (KryptoniteError, OSError) as error:  # raised, it would come back as another type
            return error
        finally:
            return_freed_memory()


def _as_it_is(faces: CachedFaces | Exception) -> CachedFaces | Exception:
    return faces
