"""Atomic writes and content hashes."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `target`; renamed onto it on success, removed on failure.

    `os.replace` is atomic within a file system: readers never see a half-written file, and of two
    processes that write the same target one wins completely. The temporary name keeps the target's
    suffix, because several writers choose the format by it.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
    )
    os.close(handle)
    temporary = Path(name)
    # mkstemp makes files private (0600), but others should be able to read a run's files. The mode
    # is set after writing, since some writers replace the file.
    umask = os.umask(0)
    os.umask(umask)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path | str, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path | str, value: Any) -> None:
    """Writes JSON atomically; raises ValueError on NaN and infinity, which JSON lacks."""
    write_text(target, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_bytes(content: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's content."""
    with open(path, "rb") as stream:
        return (
            hashlib.file_digest(stream, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else sha256_bytes(stream.read())
        )


def fingerprint(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, serialised with sorted keys."""
    return sha256_bytes(json.dumps(value, sort_keys=True, default=str).encode())
