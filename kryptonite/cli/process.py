"""What an entry point sets for the whole process; the library itself never does."""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from kryptonite.core.memory import keep_freed_memory

# Lightning's hints on choices that the configuration makes, and torch's on Lightning's code.
_IGNORED_WARNINGS = (
    ".*does not have many workers.*|.*num_workers.*|.*persistent_workers.*",
    ".*isinstance.treespec.*|.*LeafSpec.*|.*Checkpoint directory.*|.*logging interval.*",
    ".*sync_dist=True.*",  # every rank validates on the whole set and logs the same figure
)


TERMINATED = 128 + signal.SIGTERM  # exit status, as a shell reports it
_GRACE = 4.0  # seconds in which a terminated command may put its files in order


class Terminated(KeyboardInterrupt):
    """SIGTERM has come; raised wherever the command is, as an interrupt is."""


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM end the command as Ctrl-C does: nothing half written, what is done kept.

    A command that has not ended seconds later, because native code holds it up, is ended all the
    same; files are only ever replaced whole. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    backstop = threading.Timer(_GRACE, os._exit, (TERMINATED,))
    backstop.daemon = True

    def terminate(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        backstop.start()
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        backstop.cancel()
        signal.signal(signal.SIGTERM, before)


class _StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment, so that redirecting it works."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


def configure_process() -> None:
    """Sets allocator, warning filters and logging; calling it again changes nothing."""
    keep_freed_memory()
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    # Lightning's table of devices at every start helps nobody.
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    _log_to_stderr()


@cache
def _log_to_stderr() -> None:
    logger = logging.getLogger("kryptonite")
    logger.setLevel(logging.INFO)
    logger.addHandler(_StderrHandler())
