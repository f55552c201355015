"""Kryptonite: face verification that notices deepfakes.

import kryptonite
system = kryptonite.load("runs/demo")
print(system.verify("a.jpg", "b.jpg"))
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kryptonite.core import errors
    from kryptonite.inference.pipeline import Pipeline, Verification
    from kryptonite.inference.pipeline import load_pipeline as load
    from kryptonite.runs.config import RunConfig
    from kryptonite.runs.stages import train

__all__ = ["Pipeline", "RunConfig", "Verification", "errors", "load", "train"]

# In a checkout that is not installed, the rooms at its root (detection, recognition, …) are parts of this package.
_CHECKOUT = Path(__file__).resolve().parents[1]
if (_CHECKOUT / "detection").is_dir() and (_CHECKOUT / "pyproject.toml").is_file():
    __path__.append(str(_CHECKOUT))

_ATTRIBUTES = {
    "Pipeline": ("kryptonite.inference.pipeline", "Pipeline"),
    "RunConfig": ("kryptonite.runs.config", "RunConfig"),
    "Verification": ("kryptonite.inference.pipeline", "Verification"),
    "load": ("kryptonite.inference.pipeline", "load_pipeline"),
    "train": ("kryptonite.runs.stages", "train"),
}


def __getattr__(name: str) -> Any:
    # Imports torch only when something asks for it: `import kryptonite` itself takes milliseconds.
    if name == "errors":
        return import_module("kryptonite.core.errors")
    if name in _ATTRIBUTES:
        module, attribute = _ATTRIBUTES[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
