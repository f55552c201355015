"""How figures were computed: the command, the moment, the versions."""

import platform
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def circumstances(resamples: int, packages: Sequence[str]) -> dict[str, Any]:
    """Collects what any report says of its making.

    Args:
        resamples: Bootstrap resamples behind the intervals.
        packages: Packages whose versions are named beside Python's.
    """
    return {
        "resamples": resamples,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in packages},
        },
    }


def _version(package: str) -> str:
    """An installed package's version; opencv-python may be there as opencv-python-headless."""
    with suppress(PackageNotFoundError):
        return version(package)
    with suppress(PackageNotFoundError):
        return f"{version(f'{package}-headless')} (headless)"
    return "not installed by that name"
