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


# Exit statuses, as a shell reports them.
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
_GRACE = 4.0  # seconds in which a signalled command may put its files in order


class Terminated(KeyboardInterrupt):
    """SIGTERM has come; raised wherever the command is, as an interrupt is."""


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Makes SIGTERM end the command as Ctrl-C does: nothing half written, what is done kept.

    A command that has not ended seconds after either, because native code holds it up, is ended all
    the same; files are only ever replaced whole. Further signals change nothing. SIGINT stays
    ignored where it is, as in background jobs of a shell, and with a handler of the caller's.
    Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    backstops: list[threading.Timer] = []

    def end(number: int, frame: Any) -> None:
        if backstops:  # once is enough
            return
        backstops.append(threading.Timer(_GRACE, os._exit, (128 + number,)))
        backstops[0].daemon = True
        backstops[0].start()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, end)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        for backstop in backstops:
            backstop.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


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
