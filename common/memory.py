"""How the C library hands memory back."""

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


@cache
def keep_freed_memory() -> bool:
    """Lets glibc keep freed blocks for reuse instead of returning every large one to the system; once per process.

    torch allocates and frees activations of many megabytes on each CPU batch; mapping and zeroing those pages anew costs more than half of
    a mobile network's time at batches of 64 (`benchmarks/allocator.py` measures it). The peak stays what it was, held until the end.

    Returns:
        Whether the C library has this setting; elsewhere (macOS, musl) nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_TOP_PAD, 2**28)])
