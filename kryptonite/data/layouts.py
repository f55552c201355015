"""Reads both published layouts of the challenge: CSV tables and folders."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.data.pairs import PairConfig
from kryptonite.data.split import split_identities
from kryptonite.data.table import COLUMNS, validate

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclass
class DataConfig:
    """Where the data lies and how it is split and paired.

    Args:
        root: Folder with train.csv and val.csv, or with data/train.
        val_fraction: Fraction of the identities held out for validation where there is no val.csv.
        seed: Seeds that split.
        pairs: How validation pairs are drawn where no pairs_val.csv freezes them.
    """

    root: str = "."
    val_fraction: float = 0.2
    seed: int = 0
    pairs: PairConfig = field(default_factory=PairConfig)


def is_forgery_name(path: str) -> bool:
    """Whether a file is named `k_*`, the challenge's convention for generated images."""
    return os.path.basename(path).startswith("k_")


def load_images(config: DataConfig, split: str) -> pd.DataFrame:
    """Loads one split of the training images.

    `train.csv` (and `val.csv`, where it exists) take precedence over folders. Without `val.csv` the
    training data is split by identity with a seed.

    Args:
        config: Root and split.
        split: `train` or `val`.

    Returns:
        Columns label, path (absolute), split, is_synthetic, species; index 0..N-1.

    Raises:
        DataError: Names file and row.
    """
    root = Path(config.root)
    table = root / "train.csv"
    if (root / "val.csv").exists() and table.exists():
        return _read_csv(root / ("train.csv" if split == "train" else "val.csv"), root, split)
    images = _read_csv(table, root, "train") if table.exists() else load_folders(root)
    side = split_identities(images["label"], config.val_fraction, config.seed)
    images = images.assign(split=images["label"].map(side))
    return validate(images[images["split"] == split].reset_index(drop=True), f"{root} ({split})")


def load_folders(root: Path | str) -> pd.DataFrame:
    """Reads data/train/[images/]<label>/*, with meta.json and species.json where they exist.

    All rows are in split `train`.

    Raises:
        DataError: There is no such folder, it holds no images, meta.json is not `{"<label>/<file>":
            0 | 1}`, or species.json is not `{"<label>/<file>": "what made it"}`.
    """
    root = Path(root)
    base = root / "data" / "train"
    folder = base / "images" if (base / "images").is_dir() else base
    if not folder.is_dir():
        raise DataError(
            f"{root}: neither train.csv nor data/train exists; set --data.root to the folder that "
            "holds one of them"
        )
    meta = _read_meta(base / "meta.json")
    species = _read_names(base / "species.json")
    rows = []
    for identity in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        files = (entry for entry in identity.iterdir() if entry.suffix.lower() in SUFFIXES)
        for file in sorted(files):
            name = f"{identity.name}/{file.name}"
            rows.append(
                (
                    identity.name,
                    str(file.resolve()),
                    "train",
                    bool(meta.get(name, is_forgery_name(name))),
                    species.get(name, ""),
                )
            )
    return validate(pd.DataFrame(rows, columns=COLUMNS), str(folder))


def load_test_pairs(root: Path | str) -> pd.DataFrame:
    """Loads the test pairs of either layout.

    Returns:
        Columns pair_id (eight digits), path_a (0.jpg), path_b (1.jpg), sorted by pair_id. A pair
        with a missing file keeps its row, so that scoring reports the file and no pair vanishes.

    Raises:
        DataError: Names file and row.
    """
    root = Path(root)
    table = root / "test.csv"
    if table.exists():
        rows = _raw_csv(table)
        rows["path"] = _resolve(rows["path"], root, table)
    else:
        base = root / "data" / "test_public"
        folder = base / "images" if (base / "images").is_dir() else base
        if not folder.is_dir():
            raise DataError(f"{root}: neither test.csv nor data/test_public exists")
        found = [
            (pair.name, _member(pair, number))
            for pair in sorted(folder.iterdir())
            if pair.is_dir()
            for number in (0, 1)
        ]
        rows, table = pd.DataFrame(found, columns=["label", "path"]), folder
    bad = ~rows["label"].str.fullmatch(r"\d{1,8}")
    if bad.any():
        row = int(bad.idxmax())
        raise DataError(
            f"{table}, row {row + 1}: pair id {rows.at[row, 'label']!r} is not a number of up to "
            "eight digits"
        )
    rows["label"] = rows["label"].str.zfill(8)
    sizes = rows.groupby("label")["path"].transform("size")
    if (sizes != 2).any():
        row = int((sizes != 2).idxmax())
        raise DataError(
            f"{table}, row {row + 1}: pair {rows.at[row, 'label']} has {sizes[row]} rows instead "
            "of two"
        )
    # Rows come as 0.jpg, then 1.jpg; sorting by name also restores a shuffled table.
    rows = rows.assign(name=rows["path"].map(os.path.basename)).sort_values(
        ["label", "name"], kind="stable"
    )
    first, second = rows.iloc[0::2], rows.iloc[1::2]
    return pd.DataFrame(
        {
            "pair_id": first["label"].to_numpy(),
            "path_a": first["path"].to_numpy(),
            "path_b": second["path"].to_numpy(),
        }
    )


def _member(pair: Path, number: int) -> str:
    for suffix in sorted(SUFFIXES):
        if (pair / f"{number}{suffix}").exists():
            return str((pair / f"{number}{suffix}").resolve())
    return str((pair / f"{number}.jpg").resolve())


def _read_meta(path: Path) -> dict[str, int]:
    meta = _read_names(path)
    for name, value in meta.items():
        if value not in (0, 1):
            raise DataError(f"{path}: {name}: must be 0 (genuine) or 1 (synthetic), got {value!r}")
    return meta


def _read_names(path: Path) -> dict[str, Any]:
    """Reads a JSON object keyed by `<label>/<file>`; empty where the file does not exist."""
    if not path.exists():
        return {}
    try:
        named = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(named, dict):
        raise DataError(f'{path}: must be a JSON object with "<label>/<file>" as keys')
    return named


def _raw_csv(path: Path) -> pd.DataFrame:
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error
    missing = {"label", "path"} - set(rows.columns)
    if missing:
        raise DataError(
            f"{path}: column {', '.join(sorted(missing))} is missing; found "
            f"{', '.join(rows.columns)}"
        )
    if rows.empty:
        raise DataError(f"{path}: contains no rows")
    for column in ("label", "path"):
        blank = rows[column].str.strip() == ""
        if blank.any():
            raise DataError(f"{path}, row {int(blank.idxmax()) + 1}: {column} is empty")
    return rows


def _read_csv(path: Path, root: Path, split: str) -> pd.DataFrame:
    rows = _raw_csv(path)
    resolved = _resolve(rows["path"], root, path)
    if "is_synthetic" in rows.columns:  # written by `kryptonite prepare`
        wrong = ~rows["is_synthetic"].isin(["True", "False"])
        if wrong.any():
            raise DataError(
                f"{path}, row {int(wrong.idxmax()) + 1}: is_synthetic must be True or False"
            )
        synthetic = rows["is_synthetic"] == "True"
    else:
        meta = _read_meta(root / "data" / "train" / "meta.json")
        synthetic = [
            bool(meta.get("/".join(name.split("/")[-2:]), is_forgery_name(name)))
            for name in resolved
        ]
    species = rows["species"] if "species" in rows.columns else ""
    images = pd.DataFrame(
        {
            "label": rows["label"],
            "path": resolved,
            "split": split,
            "is_synthetic": synthetic,
            "species": species,
        }
    )
    return validate(images, str(path))


def _resolve(paths: pd.Series, root: Path, table: Path) -> list[str]:
    """Makes paths absolute.

    They may be relative to the data root, to the table's folder, or to data/. The base is chosen
    once per table, by the first file that exists, so that a missing file cannot resolve elsewhere.
    """
    first = paths.iloc[0]
    bases = [root, table.parent, root / "data"]
    for candidate in (paths.iloc[0], *paths.iloc[1:20]):
        base = next((base for base in bases if (base / candidate).exists()), None)
        if base is not None:
            return [os.path.abspath(base / path) for path in paths]
    raise DataError(
        f"{table}, row 1: {first} does not exist under {root}, beside the table or under "
        f"{root / 'data'}"
    )
