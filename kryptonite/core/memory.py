"""How the C library hands memory back."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # malloc.h


@cache
def keep_freed_memory() -> bool:
    """Lets glibc keep freed blocks for reuse instead of returning every large one to the system; once per process.

    torch allocates and frees activations of many megabytes on each CPU batch; mapping and zeroing those pages anew costs more than half of
    a mobile network's time at batches of 64 (`benchmarks/allocator.py` measures it). The peak stays what it was, held until the end.

    Returns:
        Whether the C library has this setting; elsewhere (macOS, musl) nothing is changed.
    """
    mallopt = _from_libc("mallopt")
    # One arena: those of finished threads would keep what they freed.
    settings = (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, 2**31 - 1),
        (_M_TOP_PAD, 2**28),
        (_M_ARENA_MAX, 1),
    )
    if mallopt is None:
        return False
    taken = [mallopt(*setting) for setting in settings]
    return all(taken)


def return_freed_memory() -> None:
    """Gives the system what is free just now; every few seconds, not for every batch.

    What outlives a share of a long list comes to lie between blocks that were freed, and a heap that gives
    nothing back grows with it.
    """
    trim = _from_libc("malloc_trim")
    if trim is not None:
        trim(0)


def _from_libc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None on other systems."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
