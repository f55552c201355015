"""Tensors on disk that are whole or noticed: safetensors files with a checksum of every tensor.

A disk or a copy that flips a bit leaves a file that still opens; one bit of an exponent turns a
score around.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_path

# A tensor with the others' checksums, as JSON. Metadata would be written in a random order.
_CHECKSUMS = "sha256"


class Stored(NamedTuple):
    """What a file holds.

    Args:
        tensors: Arrays by name.
        texts: Texts by name.
    """

    tensors: dict[str, np.ndarray]
    texts: dict[str, str]


def save_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], texts: Mapping[str, str] | None = None
) -> None:
    """Writes arrays and texts atomically.

    Args:
        path: The file.
        tensors: Arrays by name.
        texts: Texts by name, stored as the file's metadata.
    """
    texts = dict(texts or {})
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    sums = {name: _checksum(name, tensor, texts) for name, tensor in whole.items()}
    encoded = np.frombuffer(json.dumps(sums, sort_keys=True).encode(), np.uint8)
    with atomic_path(path) as temporary:
        save_file({**whole, _CHECKSUMS: encoded}, temporary, metadata=texts)


def load_tensors(path: Path, names: Collection[str] | None = None) -> Stored:
    """Reads what `save_tensors` wrote, and checks it.

    Files of older versions have no checksums and are taken as they are.

    Args:
        path: The file.
        names: Tensors to read and check; None reads all.

    Raises:
        DataError: The file is missing or damaged, or lacks a tensor.
    """
    try:
        with safe_open(path, framework="np") as file:
            texts, there = dict(file.metadata() or {}), set(file.keys())
            wanted = there - {_CHECKSUMS} if names is None else names
            tensors = {name: file.get_tensor(name) for name in sorted(wanted)}
            sums = (
                json.loads(file.get_tensor(_CHECKSUMS).tobytes()) if _CHECKSUMS in there else None
            )
    # The header of a damaged file may name any type and shape.
    except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: missing or damaged ({error})") from error
    for name, tensor in tensors.items():
        if sums is not None and sums.get(name) != _checksum(name, tensor, texts):
            raise DataError(f"{path}: damaged ({name} does not have its checksum)")
    return Stored(tensors, texts)


def _checksum(name: str, tensor: np.ndarray, texts: Mapping[str, str]) -> str:
    """Hashes a tensor with all that gives it its meaning."""
    described = [name, tensor.dtype.str, tensor.shape, sorted(texts.items())]
    hashed = hashlib.sha256(json.dumps(described).encode())
    hashed.update(np.ascontiguousarray(tensor).tobytes())
    return hashed.hexdigest()[:32]
