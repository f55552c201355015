"""Remarks on the data, each logged once a process however often the data is loaded."""

import logging
from functools import lru_cache

_log = logging.getLogger(__name__)
_REMEMBERED = 4096  # remarks; bounds the memory of a long-lived process


@lru_cache(_REMEMBERED)
def note(message: str) -> None:
    """Logs what was left out rightly."""
    _log.info("%s", message)


@lru_cache(_REMEMBERED)
def warn(message: str) -> None:
    """Logs what is probably a mistake in the data."""
    _log.warning("%s", message)


def count(number: int, one: str, many: str = "") -> str:
    """Joins a number and a noun: `1 file`, `2 files`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
