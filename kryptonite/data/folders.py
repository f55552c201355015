"""Walks the folders of people and of pairs, and says what it leaves out."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kryptonite.core.errors import DataError
from kryptonite.core.images import why_no_image
from kryptonite.data.csv_tables import clean_label, pair_id
from kryptonite.data.notes import count, note, warn

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"),
    *(".tif", ".tiff", ".avif", ".gif", ".jp2"),
}

# Folders and files that systems and tools put beside people's own, in lower case; names that start
# with a dot are hidden anyway.
_SYSTEM = {
    *("__macosx", "@eadir", "__pycache__", "#recycle", "#snapshot", "$recycle.bin", "lost+found"),
    *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
}


class Photo(NamedTuple):
    """One training image.

    Args:
        label: The identity.
        name: `<folder>/<file>`.
        path: Absolute, links resolved.
    """

    label: str
    name: str
    path: str


class PairFolder(NamedTuple):
    """The images of one pair, by absolute path; they need not exist."""

    pair_id: str
    first: str
    second: str


def is_image_name(name: str) -> bool:
    """Whether a file's suffix is that of an image, in upper or lower case."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def training_folder(root: Path) -> Path | None:
    """The folder whose folders are people: data/train/images or data/train, if there is one."""
    return _first_folder(root / "data" / "train")


def pairs_folder(root: Path) -> Path | None:
    """The folder whose folders are pairs: data/test_public/images or data/test_public."""
    return _first_folder(root / "data" / "test_public")


def _first_folder(base: Path) -> Path | None:
    return next((folder for folder in (base / "images", base) if folder.is_dir()), None)


def list_photos(folder: Path) -> list[Photo]:
    """Lists the images of all people, sorted by folder and file name.

    Hidden and system entries are ignored and counted in a note. Photos in nested folders, photos
    beside the people's folders, files of other kinds and people without a photo are left out and
    counted in a warning.

    Raises:
        DataError: A name is not UTF-8.
    """
    left = _LeftOut(str(folder))
    here = os.path.join(os.path.realpath(folder), "")
    photos = []
    for person in left.visible(folder):
        if not _is_folder(person):
            left.add_loose(person.name)
            continue
        base = os.path.realpath(person)
        if here.startswith(os.path.join(base, "")):
            left.circular.append(person.name)
            continue
        before = len(photos)
        for entry in left.visible(person.path):
            name = f"{person.name}/{entry.name}"
            if _is_folder(entry):
                left.add_nested(entry.path, name)
            elif is_image_name(entry.name):
                path = os.path.join(base, entry.name)
                path = os.path.realpath(path) if entry.is_symlink() else path
                photos.append(Photo(clean_label(person.name), name, _checked(path)))
            else:
                left.suffixes[os.path.splitext(entry.name)[1].lower() or "no suffix"] += 1
        if len(photos) == before:
            left.empty.append(person.name)
    if folder.name == "images":
        left.beside = [
            entry.name
            for entry in _visible(folder.parent)
            if _is_folder(entry) and entry.name != folder.name and image_names(entry.path)
        ]
    left.report()
    return photos


def list_pairs(folder: Path) -> list[PairFolder]:
    """Lists the pairs by id; an image that is missing from its folder gets the path of a `.jpg`.

    The first image is `0`, the second `1`, of any suffix in upper or lower case.

    Raises:
        DataError: Names the folder that is no pair: not named by a number of up to eight digits, a
            second folder of the same number, two images that could be the same one, images other
            than `0` and `1`, or files none of which is an image.
    """
    left = _LeftOut(str(folder))
    pairs: dict[str, tuple[str, PairFolder]] = {}
    for entry in left.visible(folder):
        if not _is_folder(entry):
            left.add_loose(entry.name)
            continue
        number = pair_id(entry.name)
        if not number:
            raise DataError(
                f"{folder}: the folder {entry.name!r} is not named by a pair id, a number of up to "
                "eight digits"
            )
        if number in pairs:
            raise DataError(
                f"{folder}: the folders {pairs[number][0]} and {entry.name} are both pair {number}"
            )
        first, second = _members(entry.path, left)
        pairs[number] = entry.name, PairFolder(number, first, second)
    left.report()
    return [pairs[number][1] for number in sorted(pairs)]


def folders_in(folder: Path | str) -> list[str]:
    """Names of the folders in a folder, without hidden and system ones."""
    return [entry.name for entry in _visible(folder) if _is_folder(entry)]


def image_names(folder: Path | str) -> list[str]:
    """Names of the files directly in a folder whose suffix is that of an image."""
    return [entry.name for entry in _visible(folder) if is_image_name(entry.name)]


def _members(folder: str, left: "_LeftOut") -> tuple[str, str]:
    """Finds the two images of a pair."""
    files = [entry.name for entry in left.visible(folder) if not _is_folder(entry)]
    members = [_member(folder, files, stem) for stem in ("0", "1")]
    found = list(filter(None, members))
    others = [file for file in files if os.path.splitext(file)[0] not in ("0", "1")]
    if found:  # else whatever is there was meant to be the pair
        is_image = is_image_name if all(members) else partial(_is_image, folder)
        others = list(filter(is_image, others))
    if others:
        shown = [*found, *others]
        raise DataError(
            f"{folder}: a pair's folder holds two images, named 0 and 1 (0.jpg, 1.png, …); this "
            f"one holds {len(shown)}: {', '.join(shown[:8])}"
        )
    if found and not any(_is_image(folder, file) for file in found):
        reasons = (f"{file} ({why_no_image(os.path.join(folder, file))})" for file in found)
        raise DataError(
            f"{folder}: cannot read {' and '.join(reasons)}; a pair's folder holds two images, as "
            "JPEG, PNG, WebP or another common format"
        )
    first, second = (
        _checked(os.path.realpath(os.path.join(folder, name or f"{number}.jpg")))
        for number, name in enumerate(members)
    )
    return first, second


def _member(folder: str, files: Sequence[str], stem: str) -> str:
    """Finds the file called `stem`; where several are, the one that is an image."""
    found = [file for file in files if os.path.splitext(file)[0] == stem]
    if len(found) > 1:
        found = [file for file in found if _is_image(folder, file)] or found
    if len(found) > 1:
        raise DataError(
            f"{folder}: {' and '.join(found)} could both be image {stem} of the pair; keep one"
        )
    return found[0] if found else ""


def _is_image(folder: str, file: str) -> bool:
    """Whether a file is an image by its suffix or, damaged or not, by its content."""
    return is_image_name(file) or not why_no_image(os.path.join(folder, file))


@dataclass
class _LeftOut:
    """Counts what a walk leaves out.

    Args:
        folder: Where the walk started.
        system: Hidden and system entries.
        nested: Photos in folders below a person's.
        loose: Photos beside the folders.
        empty: People without a photo.
        beside: Folders with photos beside the folder of people.
        circular: Links back to the folder of people.
        suffixes: Files of other kinds by suffix.
    """

    folder: str
    system: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    circular: list[str] = field(default_factory=list)
    suffixes: Counter = field(default_factory=Counter)

    def visible(self, folder: Path | str) -> list[os.DirEntry]:
        """Entries of a folder by name, without hidden and system entries, which are counted."""
        entries = _entries(folder)
        self.system += [entry.name for entry in entries if _is_system(entry.name)]
        return [entry for entry in entries if not _is_system(entry.name)]

    def add_nested(self, folder: str, name: str) -> None:
        # os.walk follows no links, so that links in circles end.
        for place, folders, files in os.walk(folder):
            folders[:] = sorted(each for each in folders if not _is_system(each))
            below = os.path.join(name, os.path.relpath(place, folder))
            self.nested += [
                os.path.normpath(os.path.join(below, file))
                for file in sorted(files)
                if is_image_name(file) and not _is_system(file)
            ]

    def add_loose(self, name: str) -> None:
        if is_image_name(name):
            self.loose.append(name)

    def report(self) -> None:
        """Logs the counts."""
        if self.system:
            note(
                f"{self.folder}: ignored {len(self.system)} hidden or system "
                f"{'entry' if len(self.system) == 1 else 'entries'} ({_shown(self.system)})"
            )
        for names, one, many, why in (
            (self.nested, "photo", "photos", "in a folder below a person's"),
            (self.loose, "photo", "photos", "beside the folders, of no person or pair"),
            (self.empty, "folder", "folders", "without a photo of its own"),
            (self.beside, "folder", "folders", f"with photos beside {self.folder}"),
            (self.circular, "link", "links", "back to the folder itself"),
        ):
            if names:
                number = count(len(names), one, many)
                warn(f"{self.folder}: left out {number} {why} ({_shown(names)})")
        if self.suffixes:
            shown = ", ".join(f"{each} {number}" for each, number in sorted(self.suffixes.items()))
            number = count(sum(self.suffixes.values()), "file")
            warn(f"{self.folder}: left out {number} whose suffix is not that of an image ({shown})")


def _shown(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:3]) + (", …" if len(distinct) > 3 else "")


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _visible(folder: Path | str) -> Iterator[os.DirEntry]:
    return (entry for entry in _entries(folder) if not _is_system(entry.name))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in circles, for example
        return False


def _entries(folder: Path | str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    for entry in found:
        _checked(entry.path)
    return found


def _checked(path: str) -> str:
    """Returns a path; raises DataError, with the bytes escaped, where it is not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        escaped = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise DataError(
            f"{escaped}: the name is not UTF-8 text, as names in archives from other systems may "
            "be; rename it"
        ) from None
    return path
