"""Atomic writes and content hashes: a reader never sees a half-written file."""

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

    `os.replace` is atomic on one file system, so two processes may write the same target: one of them wins whole.
    The temporary name keeps the target's suffix because several writers choose the format by it.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
    )
    os.close(handle)
    temporary = Path(name)
    # mkstemp makes files private (0600); what a run leaves behind is to be read by others as any file is.
    # Set after the writer is done, since some writers make the file anew.
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
    """Writes JSON atomically; refuses NaN and infinity, which JSON does not have."""
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
    """Hex SHA-256 of a JSON-able value in a canonical form (sorted keys): equal values, equal prints."""
    return sha256_bytes(json.dumps(value, sort_keys=True, default=str).encode())
