"""Finds the files that a table names."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from kryptonite.core.errors import DataError
from kryptonite.core.files import refuse_if_most

_COMPONENT = 255  # bytes that file systems allow in one name
_WHOLE = 4095  # bytes that Linux allows in a path


def resolve_paths(paths: Sequence[str], root: Path, table: Path) -> list[str]:
    """Makes the paths of a table absolute.

    They may be relative to the data root, to the table's folder, or to data/. The base is chosen
    once per table, by the first file that exists, so that a missing file cannot resolve elsewhere.
    Spaces around a path are dropped, backslashes and decomposed accents are read as people read
    them, unless just such a file exists. `..` and absolute paths lead where they lead: the tables
    that `kryptonite prepare --out` writes need them.

    Raises:
        DataError: Names the row of a path that no file can have; or more than half of the files
            do not exist.
    """
    check_lengths(paths, table)
    bases = [root, table.parent, root / "data"]
    base = next((base for path in paths for base in bases if _find(base, path)), None)
    if base is None:
        others = f"; none of the {len(paths)} files does" if len(paths) > 1 else ""
        raise DataError(
            f"{table}, row 1: {paths[0].strip()} does not exist under {root}, beside the table or "
            f"under {root / 'data'}{others}"
        )
    found = [_find(base, path) for path in paths]
    rows = enumerate(zip(found, paths, strict=True), 1)
    missing = [f"that of row {row}: {raw.strip()}" for row, (path, raw) in rows if not path]
    refuse_if_most(missing, len(paths), table, f"do not exist under {base}")
    return [
        path or os.path.abspath(os.path.join(base, plain_path(raw)))
        for path, raw in zip(found, paths, strict=True)
    ]


def refuse_if_most_are_missing(paths: Sequence[str], source: str) -> None:
    """Raises DataError, with count and the first, when over half of the files do not exist."""
    missing = [path for path in paths if not os.path.isfile(path)]
    refuse_if_most(missing, len(paths), source, "do not exist")


def check_lengths(paths: Sequence[str], table: Path | str) -> None:
    """Raises DataError with the row of the first path that is too long for a file system."""
    for row, path in enumerate(paths):
        if len(path) * 4 <= _COMPONENT:
            continue
        encoded = os.fsencode(plain_path(path))
        longest = max(map(len, encoded.split(b"/")))
        if longest > _COMPONENT or len(encoded) > _WHOLE:
            raise DataError(
                f"{table}, row {row + 1}: path {path.strip()[:40]}… is too long: names have at "
                f"most {_COMPONENT} bytes, paths {_WHOLE}"
            )


def plain_path(path: str) -> str:
    """Drops spaces around a path and turns backslashes into slashes."""
    return path.strip().replace("\\", "/")


def _find(base: Path, path: str) -> str:
    """Absolute path of the file that a table's path means; empty where there is none."""
    stripped, plain = path.strip(), plain_path(path)
    forms = [stripped, plain, path]
    if not path.isascii():
        forms += [unicodedata.normalize(form, plain) for form in ("NFC", "NFD")]
    for form in dict.fromkeys(forms):
        if os.path.isfile(joined := os.path.join(base, form)):
            return os.path.abspath(joined)
    return ""
