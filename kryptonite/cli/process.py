"""What an entry point sets for the whole process; the library itself never does."""

import logging
import sys
import warnings
from functools import cache

from kryptonite.core.memory import keep_freed_memory

# Lightning's hints on choices that the configuration makes, and torch's on Lightning's code.
_IGNORED_WARNINGS = (
    ".*does not have many workers.*|.*num_workers.*|.*persistent_workers.*",
    ".*isinstance.treespec.*|.*LeafSpec.*|.*Checkpoint directory.*|.*logging interval.*",
    ".*sync_dist=True.*",  # every rank validates on the whole set and logs the same figure
)


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
