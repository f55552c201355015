"""One process at a time in a run's folder."""

import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kryptonite.core.errors import DataError
from kryptonite.runs.run_dir import RunDir

_log = logging.getLogger(__name__)


@contextmanager
def lock_run(run: RunDir) -> Iterator[None]:
    """Holds a run's folder for this process, which is about to write to it.

    The lock is the system's, on a file that names its holder: it ends with the process, however
    that ends, and the file left behind blocks nobody. It is not inherited by the processes that
    read training data, which may outlive a killed training by seconds.

    Raises:
        DataError: Another process holds it.
        OSError: The disk is full or the folder forbidden; `filename` says where.
    """
    if sys.platform == "win32":  # has no fcntl
        yield
        return
    import fcntl

    run.path.mkdir(parents=True, exist_ok=True)
    # Unbuffered, so that a full disk is noticed where it can be named.
    with open(run.lock, "a+b", buffering=0) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read().decode(errors="replace").strip() or "another process"
            raise DataError(
                f"{run.path}: {holder} is writing to it; wait for it to end, or choose another "
                "--run"
            ) from error
        except OSError as error:  # a file system without locks
            _log.warning("%s: cannot be locked (%s)", run.lock, error.strerror)
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(run.lock)) from error
        yield
