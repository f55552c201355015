"""Fingerprints of what a training stage reads, so that a stage reruns only when its inputs change.

Images and pairs are identified by the content of their files: a changed cache location or crop
setting leaves them as they are.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from kryptonite.core.files import fingerprint, sha256_file
from kryptonite.detection.cache import FaceCache
from kryptonite.nn.model import DESCRIPTION_FILE, WEIGHTS_FILE

# Settings that decide where and how fast a stage runs, but not its result.
_RUNTIME_SETTINGS = {"workers", "devices", "nodes", "accelerator"}


def result_settings(config: Any) -> Any:
    """Returns a configuration dataclass as plain data, without settings that leave the result
    unchanged (devices, worker counts)."""
    return strip_runtime(asdict(config))


def strip_runtime(settings: Any) -> Any:
    """Returns plain data without settings that leave the result unchanged, at any depth."""
    if isinstance(settings, dict):
        kept = {name: value for name, value in settings.items() if name not in _RUNTIME_SETTINGS}
        return {name: strip_runtime(value) for name, value in kept.items()}
    return settings


def weights_fingerprint(weights: str) -> str:
    """Returns the hash of a weights file; `hub`, `pip` and `scratch` stand for themselves."""
    return sha256_file(weights) if Path(weights).is_file() else weights


def model_fingerprint(folder: Path, hashed: Mapping[Path, str] | None = None) -> list[str]:
    """Returns the hashes of a saved model's weights and of its description.

    The description counts because the same weights respond differently to another crop or
    normalisation.

    Args:
        folder: Of the model.
        hashed: SHA-256 of weights files that are known already.
    """
    weights = folder / WEIGHTS_FILE
    known = (hashed or {}).get(weights)
    return [known or sha256_file(weights), sha256_file(folder / DESCRIPTION_FILE)]


def images_fingerprint(images: pd.DataFrame) -> str:
    """Returns the fingerprint of a table's image contents and classes, in order.

    Args:
        images: Columns key, label, is_synthetic.
    """
    images = images.assign(content=images["key"].map(FaceCache.content_of))
    return fingerprint(images[["content", "label", "is_synthetic"]].astype(str).to_numpy().tolist())


def pairs_fingerprint(pairs: pd.DataFrame, images: pd.DataFrame) -> str:
    """Returns the fingerprint of pairs: both images' contents, their labels and the pair's kind.

    Args:
        pairs: Columns path_a, path_b, label_a, label_b, kind.
        images: Columns path, key; holds every image of the pairs.
    """
    content = images.set_index("path")["key"].map(FaceCache.content_of)
    sides = [pairs[name].map(content) for name in ("path_a", "path_b")]
    return fingerprint(
        pd.concat([*sides, pairs["label_a"], pairs["label_b"], pairs["kind"]], axis=1)
        .astype(str)
        .to_numpy()
        .tolist()
    )
