"""Kryptonite: face verification that detects deepfakes.

import kryptonite
system = kryptonite.load("runs/demo")
print(system.verify("a.jpg", "b.jpg"))
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kryptonite.core import errors
    from kryptonite.inference.gate import GateScore, MatcherGate
    from kryptonite.inference.pipeline import Explanation, Pipeline, Verification
    from kryptonite.runs.config import RunConfig
    from kryptonite.runs.gate import fit_gate, load_gate
    from kryptonite.runs.load import from_pretrained, load
    from kryptonite.runs.stages import train

__all__ = [
    "Explanation",
    "GateScore",
    "MatcherGate",
    "Pipeline",
    "RunConfig",
    "Verification",
    "errors",
    "fit_gate",
    "from_pretrained",
    "load",
    "load_gate",
    "train",
]

__version__ = "0.1.0"

_CHECKOUT = Path(__file__).resolve().parents[1]
_BESIDE = {
    f"{__name__}.{part}" for part in ("configs", "detection", "fusion", "liveness", "recognition")
}


class _PartsOfCheckout:
    """Finds the parts that lie beside this folder in a checkout, and nothing else there.

    With the whole root on `__path__`, `import kryptonite.train` would run the script train.py.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(_CHECKOUT)]) if name in _BESIDE else None


if (_CHECKOUT / "detection").is_dir() and (_CHECKOUT / "pyproject.toml").is_file():
    sys.meta_path.append(_PartsOfCheckout)

_ATTRIBUTES = {
    "Explanation": ("kryptonite.inference.pipeline", "Explanation"),
    "GateScore": ("kryptonite.inference.gate", "GateScore"),
    "MatcherGate": ("kryptonite.inference.gate", "MatcherGate"),
    "Pipeline": ("kryptonite.inference.pipeline", "Pipeline"),
    "RunConfig": ("kryptonite.runs.config", "RunConfig"),
    "Verification": ("kryptonite.inference.pipeline", "Verification"),
    "fit_gate": ("kryptonite.runs.gate", "fit_gate"),
    "from_pretrained": ("kryptonite.runs.load", "from_pretrained"),
    "load": ("kryptonite.runs.load", "load"),
    "load_gate": ("kryptonite.runs.gate", "load_gate"),
    "train": ("kryptonite.runs.stages", "train"),
}


def __getattr__(name: str) -> Any:
    # Importing on first use keeps `import kryptonite` at milliseconds; torch takes seconds.
    if name == "errors":
        return import_module("kryptonite.core.errors")
    if name in _ATTRIBUTES:
        module, attribute = _ATTRIBUTES[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
