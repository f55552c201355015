"""A run as a folder to give away: safetensors and JSON, a card, and a list of hashes.

Its layout is that of a run, so `load` reads it. Left out are lists of images and pairs, stages,
checkpoints, exports, and every path of the machine that trained the run.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kryptonite
from kryptonite.core.errors import MALFORMED, ConfigError, DataError
from kryptonite.core.files import (
    atomic_folder,
    copy_file,
    read_json,
    sha256_file,
    write_json,
    write_text,
)
from kryptonite.detection.aligner import Aligner
from kryptonite.nn import model
from kryptonite.recognition.differential import detector
from kryptonite.runs.hub_card import hub_card
from kryptonite.runs.origin import BRANCHES, check_branches, describe_branches
from kryptonite.runs.run_dir import RunDir

MANIFEST = "kryptonite.json"
FORMAT = 1  # of the folder; raised when an older version would misread it
SUFFIXES = (".json", ".safetensors")
PATTERNS = [f"*{suffix}" for suffix in SUFFIXES]  # of the files worth downloading
# Names that a list may hold: in the folder, not hidden, and such as every file system takes.
_LISTED = re.compile(r"(\w[\w.-]{0,99}/){0,3}\w[\w.-]{0,99}\.(json|safetensors)", re.ASCII)
_WITHHELD = "(not published)"
_MODEL = (model.WEIGHTS_FILE, model.DESCRIPTION_FILE)


def publish(run: RunDir, aligner: Aligner, folder: Path | str, license_id: str = "other") -> None:
    """Writes a run as a folder to give away, whole or not at all.

    Args:
        run: A finished run.
        aligner: Cuts the run's crops.
        folder: Folder to make; may exist if it is empty.
        license_id: Licence of the weights as the hub abbreviates it, such as `apache-2.0`. The
            default sends readers to the card: weights inherit the terms of the weights and the data
            they were made of, which only the publisher knows.

    Raises:
        ConfigError: The folder holds files, or the run is a published one already.
        DataError: The run lacks its figures or its card, or its parts do not belong together.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not an empty folder; name another")
    if run.published_config.exists():
        raise ConfigError(f"{run.path}: is a published run already; copy the folder")
    check_branches(run, aligner)
    with atomic_folder(folder) as made:
        _write(run, aligner, RunDir(made), folder.name, license_id)


def _write(run: RunDir, aligner: Aligner, made: RunDir, name: str, license_id: str) -> None:
    config, metrics = run.read_config(), run.read_metrics()
    local = _local_names(config)
    metrics = _without(metrics, local)
    for source in _networks(run, config):
        target = made.path / source.relative_to(run.path)
        if source.suffix == ".json":
            write_json(target, _without(read_json(source), local))
        else:
            copy_file(source, target)
    config = _without(config, local)
    write_json(made.published_config, config)
    # The descriptions and the settings may have lost a path; the fusions are tied to what is left.
    fusions = _without(read_json(run.fusion), local)
    write_json(made.fusion, {**fusions, BRANCHES: describe_branches(made, aligner)})
    write_json(made.metrics, metrics)
    try:
        card = _without(run.model_card.read_text(encoding="utf-8"), local)
        card = hub_card(name, config, metrics, card, license_id)
    except MALFORMED as error:
        raise DataError(
            f"{run.path}: no card can be written of {run.metrics.name} and "
            f"{run.model_card.name} ({error!r}); `python train.py` with the run's settings writes "
            "both again"
        ) from error
    write_text(made.model_card, card)
    write_json(
        made.path / MANIFEST,
        {
            "format": FORMAT,
            "version": kryptonite.__version__,
            "files": {file: sha256_file(made.path / file) for file in _files(made.path)},
        },
    )


def check_published(folder: Path) -> None:
    """Checks that a folder holds exactly what was published.

    Files of other kinds than safetensors and JSON may lie there too; loading reads none of them.

    Args:
        folder: As `publish` wrote it.

    Raises:
        DataError: Names the file that is missing, changed or not listed, or the other format.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise DataError(f"{folder}: no published run: {MANIFEST} missing; see kryptonite publish")
    try:
        listed = read_json(manifest)
        made_by, form, hashes = listed["version"], listed["format"], dict(listed["files"])
    except MALFORMED as error:
        raise DataError(f"{manifest}: not a list of published files ({error})") from error
    if form != FORMAT:
        raise DataError(
            f"{manifest}: format {form!r}, written by kryptonite {made_by}; kryptonite "
            f"{kryptonite.__version__} reads format {FORMAT}"
        )
    for name, expected in hashes.items():
        if not _LISTED.fullmatch(name):
            raise DataError(
                f"{manifest}: {name[:100]!r} is no safetensors or JSON file of the folder"
            )
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: missing; the folder was copied in part")
        if sha256_file(folder / name) != expected:
            raise DataError(f"{folder / name}: not the published file: its SHA-256 differs")
    unlisted = [name for name in _files(folder) if name not in hashes]
    if unlisted:
        raise DataError(f"{folder / unlisted[0]}: not among the files that {MANIFEST} lists")


def _files(folder: Path) -> list[str]:
    """The files of a published folder that loading may read, but for the manifest, sorted."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return sorted(
        path.as_posix()
        for path in found
        if path.name != MANIFEST and not any(part.startswith(".") for part in path.parts)
    )


def _networks(run: RunDir, config: dict[str, Any]) -> list[Path]:
    """The files of every network that scoring uses."""
    found = [folder / name for folder in (run.recognition, run.liveness) for name in _MODEL]
    if config["comparison"]["pairs"]:
        found += [
            run.comparison / name for name in (detector.WEIGHTS_FILE, detector.DESCRIPTION_FILE)
        ]
        if detector.has_own_backbone(run.comparison):
            found += [run.comparison / name for name in _MODEL]
    return found


def _local_names(config: dict[str, Any]) -> dict[str, str]:
    """Maps every path in a configuration to what may be said of it, the longest first.

    Names without a separator say nothing of the machine and stay, as do the hub's names.
    """
    found = {}
    for text in _texts(config):
        if not text.startswith(("hf_hub:", "hf-hub:")):
            prefix, colon, path = text.rpartition(":")  # `local-dir:folder`
            found[text] = f"{prefix}{colon}{Path(path).name}"
    data = config["data"]
    found |= {root: f"source {i}" for i, root in enumerate(data.get("genuine") or [], 1)}
    found |= {config.get("cache", ""): _WITHHELD, data["root"]: _WITHHELD}
    paths = sorted((path for path in found if os.sep in path), key=len, reverse=True)
    return {path: found[path] for path in paths}


def _texts(value: Any) -> Iterator[str]:
    """Every string in plain data, but for the names of its fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _without(value: Any, local: dict[str, str]) -> Any:
    """Replaces paths wherever they occur in JSON-able data."""
    if isinstance(value, dict):
        return {_without(name, local): _without(each, local) for name, each in value.items()}
    if isinstance(value, list):
        return [_without(each, local) for each in value]
    if isinstance(value, str):
        for path, public in local.items():
            value = value.replace(path, public)
    return value
