"""How figures were computed: the command, the moment, the versions."""

import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
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
            **{name: version(name) for name in packages},
        },
    }
