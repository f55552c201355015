"""Atomic writes and content hashes."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kryptonite.core.errors import DataError

_BLOCK = 1 << 20  # bytes hashed at a time


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `target`; renamed onto it on success, removed on failure.

    `os.replace` is atomic within a file system: readers never see a half-written file, and of two
    processes that write the same target one wins completely. The temporary name keeps the target's
    suffix, because several writers choose the format by it.

    Raises:
        OSError: The disk is full or the folder forbidden, whatever the writer raises of it; its
            `filename` is the target.
    """
    target = Path(target)
    try:
        with _renamed_onto(target) as temporary:
            yield temporary
    except Exception as error:
        if isinstance(error, OSError):
            # A file or folder of the caller's is named as it is; a temporary file helps nobody.
            named = error.filename and not Path(error.filename).name.startswith(f".{target.stem}-")
            number = None if named else error.errno
        else:
            # safetensors, written in Rust, has an error of its own that ends in "(os error 28)".
            coded = re.search(r"\(os error (\d+)\)", str(error))
            number = int(coded[1]) if coded else None
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(target)) from error


@contextmanager
def _renamed_onto(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
    )
    temporary = Path(name)
    try:
        os.close(handle)
        # mkstemp makes files private (0600), but others should be able to read a run's files. The
        # mode is set after writing, since some writers replace the file.
        umask = os.umask(0)
        os.umask(umask)
        yield temporary
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def copy_file(source: Path | str, target: Path | str) -> None:
    """Copies a file's content, whole or not at all.

    Raises:
        OSError: Its `filename` is the target; the source's where that cannot be opened.
    """
    # shutil.copyfile names the source even where the target's disk is full.
    with (
        atomic_path(target) as temporary,
        open(source, "rb") as content,
        open(temporary, "wb") as copied,
    ):
        shutil.copyfileobj(content, copied, _BLOCK)


@contextmanager
def atomic_folder(target: Path | str) -> Iterator[Path]:
    """Yields an empty folder beside `target`; renamed onto it on success, removed on failure.

    The target must be missing or an empty folder. A killed process leaves a hidden folder behind.

    Raises:
        OSError: Of a file that was to lie in the folder; its `filename` is where that would be.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = f".{target.name}-"
    try:
        # It is private (0700), as mkdtemp makes folders; the one inside has the mode of any other.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=hidden) as scratch:
            made = Path(scratch) / target.name
            made.mkdir()
            yield made
            os.replace(made, target)
    except OSError as error:
        parts = Path(error.filename or "").parts
        for depth, part in enumerate(parts):
            if part.startswith(hidden):
                error.filename = str(target.joinpath(*parts[depth + 2 :]))
                break
        raise


def check_writable(target: Path | str) -> None:
    """Checks that a file can be written, before the work whose result it is to hold.

    Writes and removes an empty file in the nearest folder that exists; makes no folder.

    Raises:
        OSError: It cannot; `filename` is the target.
    """
    target = Path(os.path.abspath(target))
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = next(parent for parent in target.parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        number = error.errno or errno.EIO
        raise OSError(number, os.strerror(number), str(target)) from error


def write_text(target: Path | str, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path | str, value: Any) -> None:
    """Writes JSON atomically; raises ValueError on NaN and infinity, which JSON lacks."""
    write_text(target, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Reads a JSON file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON, or nested deeper than Python can follow.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def refuse_if_most(failed: Sequence[str], total: int, source: Path | str, what: str) -> None:
    """Refuses a source of which over half of the files have failed, since it is probably wrong.

    Args:
        failed: The files that have.
        total: Number of all files.
        source: Where they come from.
        what: What is wrong with them, as in `do not exist`.

    Raises:
        DataError: Gives the count and the first.
    """
    if 2 * len(failed) > total:
        raise DataError(
            f"{source}: {len(failed)} of {total} files {what}; the first is {failed[0]}"
        )


def refuse_unknown(stored: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuses entries that a newer version wrote, since it meant something by them.

    Raises:
        ValueError: Names the first entry that is not known.
    """
    unknown = sorted(set(stored) - set(known))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is unknown to this version of kryptonite")


def sha256_bytes(content: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's content."""
    hashed = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def fingerprint(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, serialised with sorted keys."""
    return sha256_bytes(json.dumps(value, sort_keys=True, default=str).encode())
