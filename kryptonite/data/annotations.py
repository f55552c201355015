"""meta.json and species.json: what is known of each training image, by `<label>/<file>`."""

import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kryptonite.core.errors import DataError
from kryptonite.data.notes import count, warn

_CLASSES = {0: False, 1: True, "0": False, "1": True, "false": False, "true": True}


def is_forgery_name(path: str) -> bool:
    """Whether a file is named `k_*`, the challenge's convention for generated images."""
    return os.path.basename(path).lower().startswith("k_")


def read_classes(
    path: Path, images: Sequence[str], others: Callable[[], Iterable[str]] = tuple
) -> list[bool]:
    """Tells which images are synthetic: by meta.json, else by their names.

    Keys may lack or add zeros in front of the label, add the folders above it, use backslashes, or
    lack the suffix, as long as one image alone can be meant.

    Args:
        path: meta.json, which need not exist.
        images: `<folder>/<file>` of each image.
        others: Gives further images that the file may rightly describe.

    Raises:
        DataError: The file is not `{"<label>/<file>": 0 | 1}`, a key matches no image, or two keys
            contradict each other.
    """
    classes = _match(path, _read(path, _as_class), images, others)
    unnamed = [image for image in images if image not in classes]
    if unnamed and path.exists():
        warn(
            f"{path}: says nothing of {len(unnamed)} of {count(len(images), 'image')}, first "
            f"{unnamed[0]}; their names decide: k_* is synthetic"
        )
    return [classes.get(image, is_forgery_name(image)) for image in images]


def read_species(path: Path, images: Sequence[str]) -> list[str]:
    """Tells by what each image was forged, by species.json; empty where it says nothing.

    Raises:
        DataError: The file is not `{"<label>/<file>": "what made it"}`, or a key matches no image.
    """
    species = _match(path, _read(path, _as_species), images, tuple)
    return [species.get(image, "") for image in images]


def _as_class(value: Any) -> bool:
    plain = value.strip().lower() if isinstance(value, str) else value
    if isinstance(plain, (str, int, float)) and plain in _CLASSES:
        return _CLASSES[plain]
    raise ValueError(f"must be 0 (genuine) or 1 (synthetic), got {value!r}")


def _as_species(value: Any) -> str:
    if not isinstance(value, str) or not _is_unicode(value):
        raise ValueError(f"must be a text, got {value!r}")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read(path: Path, convert: Callable[[Any], Any]) -> dict[str, Any]:
    """Reads a JSON object; empty where the file does not exist."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if found.setdefault(key, value) != value:
                raise DataError(f"{path}: {key!r} stands there twice, with different values")
        return found

    if not path.exists():
        return {}
    try:
        content = path.read_bytes()
        named = json.loads(content.removeprefix(b"\xef\xbb\xbf"), object_pairs_hook=unique)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(named, dict):
        raise DataError(f'{path}: must be a JSON object with "<label>/<file>" as keys')
    converted = {}
    for name, value in named.items():
        try:
            converted[name] = convert(value)
        except ValueError as error:
            raise DataError(f"{path}: {name}: {error}") from None
    return converted


def _match(
    path: Path,
    named: Mapping[str, Any],
    images: Sequence[str],
    others: Callable[[], Iterable[str]],
) -> dict[str, Any]:
    """Assigns what a file says to the images it names."""
    if named.keys() <= set(images):
        return dict(named)
    find = _Finder(images)
    matched: dict[str, Any] = {}
    keys: dict[str, str] = {}
    unmatched = []
    for key, value in named.items():
        image = find(key)
        if image is None:
            unmatched.append(key)
        elif matched.setdefault(image, value) != value:
            raise DataError(
                f"{path}: {keys[image]!r} and {key!r} mean the same image and contradict each other"
            )
        else:
            keys.setdefault(image, key)
    if unmatched:
        find = _Finder(list(others()))
        unmatched = [key for key in unmatched if find(key) is None]
    if unmatched:
        raise DataError(
            f"{path}: {unmatched[0]!r} matches no image; of {count(len(named), 'key')} "
            f"{len(unmatched)} do not (expected <label>/<file>"
            + (f", such as {images[0]})" if images else ")")
        )
    return matched


class _Finder:
    """Finds the image that a key means, among `<folder>/<file>` names."""

    def __init__(self, images: Sequence[str]):
        self._exact = set(images)
        self._loose: dict[tuple[str, str], str | None] = {}
        for image in self._exact:
            folder, _, file = image.rpartition("/")
            # A key in lower case may lack the suffix.
            for name in {file.casefold(), os.path.splitext(file)[0].casefold()}:
                place = _loose_folder(folder), unicodedata.normalize("NFC", name)
                self._loose[place] = None if place in self._loose else image

    def __call__(self, key: str) -> str | None:
        if key in self._exact:
            return key
        parts = key.strip().replace("\\", "/").split("/")
        # Folders above the label: the part after the last images/ or train/ is what counts.
        for place in range(len(parts) - 3, -1, -1):
            if parts[place].lower() in ("images", "train", ".", ""):
                parts = parts[place + 1 :]
                break
        if len(parts) != 2:
            return None
        folder, file = (part.strip() for part in parts)
        if f"{folder}/{file}" in self._exact:
            return f"{folder}/{file}"
        name = unicodedata.normalize("NFC", file.casefold())
        return self._loose.get((_loose_folder(folder), name))


def _loose_folder(name: str) -> str:
    name = unicodedata.normalize("NFC", name.strip().casefold())
    return name.lstrip("0") or "0" if name.isdecimal() else name
