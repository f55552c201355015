"""Find faces in processes of their own, while this one keeps a GPU busy.

Decoding photos and finding faces in them is many short calls, between which a process's threads
wait for one another: with 16 cores, threads are hardly faster than one of them.
"""

import multiprocessing
import os
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset

from kryptonite.core.errors import DataError, KryptoniteError
from kryptonite.core.memory import keep_freed_memory, return_freed_memory
from kryptonite.detection.aligner import Aligner
from kryptonite.detection.cache import CachedFaces, FaceCache

Part = tuple[list[str], list[str]]  # keys of distinct contents in a cache, and a file of each


class FaceProcesses:
    """Processes that load faces as a cache does, and find those it lacks on the CPU.

    They are started afresh by Python, so the main module of a program that has them must do its
    work under `if __name__ == "__main__":` alone.

    Args:
        cache: Says where crops are, and how faces are found and cut.
        exports: Folder of MTCNN's exported networks: torch on the CPU is slower than a GPU.
        count: Number of processes, at least 1. Each may hold 0.4 GB of decoded photos.
    """

    def __init__(self, cache: FaceCache, exports: Path, count: int):
        self._faces, self.count = _Faces(cache, exports), count
        # Forks of this process would lack the threads that its libraries count on.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])

    def __call__(self, parts: Iterable[Part]) -> Generator[CachedFaces, None, None]:
        """Yields the faces of every part, in order; contents that cannot be decoded are omitted.

        Close it if it is left before its end: the processes then end, too.

        Args:
            parts: Distinct contents that one process takes at a time; drawn ahead, two for every
                process. Without any, no process is started.

        Raises:
            DataError: A file has vanished or changed, or a process has been killed.
            OSError: The cache's disk is full or forbidden.
        """
        parts = iter(parts)
        first = next(parts, None)
        if first is None:
            return
        loader = DataLoader(
            self._faces,
            sampler=chain([first], parts),
            batch_size=None,
            num_workers=self.count,
            collate_fn=_as_it_is,
            worker_init_fn=_end_with_parent,
            multiprocessing_context=self._context,
        )
        results: Any = iter(loader)
        try:
            while (faces := self._wait(results)) is not None:
                yield faces
        finally:  # or they would run on until memory is cleared up
            results._shutdown_workers()

    def _wait(self, results: Iterator[CachedFaces | Exception]) -> CachedFaces | None:
        """Takes the next part's faces; None after the last."""
        try:
            found = next(results, None)
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):
                raise
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
        keep_freed_memory()
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


def _end_with_parent(_: int) -> None:
    """Ends this process when the one that asked for it ends, however that may be.

    torch watches the process that forked, which is Python's server of forks.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()
