"""Bound memory: what threads may take at a time, and what glibc keeps of it.

Only entry points call what concerns glibc.
"""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # malloc.h


@cache
def keep_freed_memory() -> bool:
    """Makes glibc keep freed blocks for reuse, for the rest of the process; idempotent.

    torch allocates and frees many megabytes of activations on each CPU batch. Mapping and zeroing
    those pages again takes more than half of a mobile network's time at batches of 64 (measured by
    `benchmarks/allocator.py`). Peak memory does not grow, but is held until the process ends.

    Returns:
        Whether the C library took every setting; where it lacks them (macOS, musl) nothing changes.
    """
    mallopt = _from_libc("mallopt")
    settings = (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, 2**31 - 1),
        (_M_TOP_PAD, 2**28),
        (_M_ARENA_MAX, 1),  # arenas of finished threads would keep what was freed in them
    )
    if mallopt is None:
        return False
    taken = [mallopt(*setting) for setting in settings]
    return all(taken)


def return_freed_memory() -> None:
    """Returns unused heap pages to the system; meant for every few seconds, not every batch.

    Results that outlive a shard of a long list are allocated between blocks that are freed later;
    a heap that never returns those grows with the list.
    """
    trim = _from_libc("malloc_trim")
    if trim is not None:
        trim(0)


class Budget:
    """Lets threads go on while what they hold together stays within a total.

    Args:
        total: Of any unit. Whoever wants more waits to be alone.
    """

    def __init__(self, total: int):
        self._total, self._held = total, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Holds an amount, once the others leave room for it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + amount <= self._total)
            self._held += amount
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()


def _from_libc(name: str) -> Callable[..., int] | None:
    """Looks up a glibc function; None on other systems."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
