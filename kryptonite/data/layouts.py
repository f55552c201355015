"""Reads both published layouts of the challenge: CSV tables and folders."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.data.annotations import read_classes, read_species
from kryptonite.data.csv_tables import (
    pair_id,
    parse_booleans,
    parse_labels,
    parse_pair_ids,
    read_table,
    refuse_blanks,
    refuse_rows,
)
from kryptonite.data.folders import (
    folders_in,
    image_names,
    list_pairs,
    list_photos,
    pairs_folder,
    training_folder,
)
from kryptonite.data.notes import count, warn
from kryptonite.data.pairs import PairConfig
from kryptonite.data.references import RECORDING
from kryptonite.data.split import alike_identities, identities_in_both, split_identities
from kryptonite.data.table import COLUMNS, validate
from kryptonite.data.table_paths import refuse_if_most_are_missing, resolve_paths

_REQUIRED = ("label", "path")
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}
# `kryptonite prepare` writes them beside its tables: what it found, and with --clean what it moved.
AUDIT, FINDINGS = "audit.json", "cleaning.csv"


@dataclass
class DataConfig:
    """Where the data lies and how it is split and paired.

    Args:
        root: Folder with train.csv and val.csv, or with data/train.
        val_fraction: Fraction of the identities held out for validation where there is no val.csv.
        seed: Seeds that split.
        pairs: How validation pairs are drawn where no pairs_val.csv freezes them.
        genuine: Further roots, each read as `root` is. Their genuine photos, of other cameras than
            those of `root`, show the detector what is no sign of synthesis, and the fusion what
            must not be refused; `k_` images in them are not used. Both splits of each need photos
            of two people.
    """

    root: str = "."
    val_fraction: float = 0.2
    seed: int = 0
    pairs: PairConfig = field(default_factory=PairConfig)
    genuine: list[str] = field(default_factory=list)


def load_images(config: DataConfig, split: str) -> pd.DataFrame:
    """Loads one split of the training images.

    `train.csv` (and `val.csv`, where it exists) take precedence over folders. Without `val.csv` the
    `split` column of `train.csv` decides if it names validation rows; else the training data is
    split by identity with a seed.

    Logs a warning about people in both splits, labels that differ in leading zeros or case alone,
    and folders of people that the tables lack.

    Args:
        config: Root and split.
        split: `train` or `val`.

    Returns:
        Columns label, path (absolute), split, is_synthetic, species, and recording where the table
        has it; index 0..N-1.

    Raises:
        DataError: Names file and row; or more than half of the files do not exist.
    """
    root = Path(config.root)
    tables = {each: root / f"{each}.csv" for each in ("train", "val")}
    if all(table.exists() for table in tables.values()):
        return _load_split_tables(root, tables, split)
    if tables["train"].exists():
        rows = _read_rows(tables["train"])
        images = _complete(tables["train"], root, rows, "train", [])
        _warn_of_unlisted_people(
            root, tables["train"], _is_prepared(tables["train"], rows), list(images["path"]), []
        )
        sides = _declared_splits(tables["train"], rows)
    else:
        if tables["val"].exists():
            warn(f"{tables['val']}: not used, since there is no train.csv beside it")
        images, sides = load_folders(root), None
    if sides is None:
        try:
            side = split_identities(images["label"], config.val_fraction, config.seed)
        except DataError as error:
            raise DataError(f"{root}: {error}") from error
        sides = images["label"].map(side)
    images = images.assign(split=sides)
    parts = {side: images[images["split"] == side] for side in tables}
    _warn_of_labels(str(root), parts["train"], parts["val"])
    return validate(parts[split].reset_index(drop=True), f"{root} ({split})")


def load_folders(root: Path | str) -> pd.DataFrame:
    """Reads data/train/[images/]<label>/*, with meta.json and species.json where they exist.

    All rows are in split `train`.

    Raises:
        DataError: There is no such folder, it holds no images, meta.json is not `{"<label>/<file>":
            0 | 1}`, species.json is not `{"<label>/<file>": "what made it"}`, or one of their keys
            matches no image.
    """
    root = Path(root)
    folder = training_folder(root)
    if folder is None:
        raise DataError(
            f"{root}: neither train.csv nor data/train exists; set --data.root, or "
            "--data.genuine, to folders that hold one of them"
        )
    photos = list_photos(folder)
    if not photos:
        raise DataError(f"{folder}: contains no images (expected <person>/<photo>)")
    names = [photo.name for photo in photos]
    base = root / "data" / "train"
    images = pd.DataFrame(
        {
            "label": [photo.label for photo in photos],
            "path": [photo.path for photo in photos],
            "split": "train",
            "is_synthetic": read_classes(base / "meta.json", names),
            "species": read_species(base / "species.json", names),
        },
        columns=COLUMNS,
    )
    return validate(images, str(folder), names)


def load_test_pairs(root: Path | str) -> pd.DataFrame:
    """Loads the test pairs of either layout.

    Returns:
        Columns pair_id (eight digits), path_a (0.jpg), path_b (1.jpg), sorted by pair_id. A pair
        with a missing file keeps its row, so that scoring reports the file and no pair vanishes.

    Raises:
        DataError: Names file and row, or the folder; more than half of the files do not exist; or
            pairs were added after `kryptonite prepare` wrote test.csv.
    """
    root = Path(root)
    table, folder = root / "test.csv", pairs_folder(root)
    if table.exists():
        return _read_pairs(table, root)
    if folder is None:
        raise DataError(f"{root}: neither test.csv nor data/test_public exists")
    found = list_pairs(folder)
    if not found:
        raise DataError(f"{folder}: contains no pairs (expected <pair>/0.jpg and <pair>/1.jpg)")
    pairs = pd.DataFrame(found).set_axis(["pair_id", "path_a", "path_b"], axis=1)
    refuse_if_most_are_missing([*pairs["path_a"], *pairs["path_b"]], str(folder))
    return pairs


def _read_pairs(table: Path, root: Path) -> pd.DataFrame:
    rows = read_table(table, _REQUIRED, verbatim=["path"])
    _refuse_empty(table, rows)
    rows["label"] = parse_pair_ids(table, rows["label"])
    rows["path"] = resolve_paths(rows["path"].tolist(), root, table)
    sizes = rows.groupby("label")["path"].transform("size")
    if (sizes != 2).any():
        row = int((sizes != 2).idxmax())
        raise DataError(
            f"{table}, row {row + 1}: pair {rows.at[row, 'label']} has {sizes[row]} rows instead "
            "of two"
        )
    twice = rows.duplicated(["label", "path"])
    if twice.any():
        pair = rows.loc[twice, "label"].iloc[0]
        refuse_rows(table, twice, f"pair {pair} names the same file twice")
    _refuse_unlisted_pairs(table, root, rows, _is_prepared(table, rows))
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


def _refuse_unlisted_pairs(table: Path, root: Path, rows: pd.DataFrame, prepared: bool) -> None:
    """Compares test.csv with the folders of pairs: no pair may vanish without a word."""
    known = set(rows["label"])
    for folder in _folders_above(pairs_folder(root), rows["path"] if prepared else []):
        unlisted = sorted({*map(pair_id, folders_in(folder))} - known - {""})
        if unlisted and prepared:
            raise DataError(
                f"{table}: lacks {count(len(unlisted), 'pair')} of {folder}, first {unlisted[0]}, "
                f"added after `kryptonite prepare` wrote the table; to renew it, delete it and run "
                "`kryptonite prepare` again"
            )
        if unlisted:
            warn(
                f"{table}: lacks {count(len(unlisted), 'pair')} of {folder}, first {unlisted[0]}; "
                "only the table's pairs are read"
            )


def _warn_of_unlisted_people(
    root: Path, table: Path, prepared: bool, paths: list[str], other_paths: Iterable[str]
) -> None:
    """Compares the tables with the folders of people: no new photo must vanish in silence."""
    photos = {_folder_and_file(path) for path in [*paths, *other_paths]}
    listed = {photo.partition("/")[0] for photo in photos}
    photos |= _dropped(table.parent)
    for folder in _folders_above(training_folder(root), paths if prepared else []):
        found = {name: image_names(os.path.join(folder, name)) for name in folders_in(folder)}
        people = [name for name, images in found.items() if images and name not in listed]
        added = [
            f"{name}/{image}"
            for name, images in found.items()
            if name in listed
            for image in images
            if f"{name}/{image}" not in photos
        ]
        for unlisted, one, many in ((people, "person", "people"), (added, "photo", "photos")):
            if unlisted:
                remedy = (
                    "; to renew the tables, delete train.csv and val.csv and run `kryptonite "
                    "prepare` again"
                )
                warn(
                    f"{table}: lacks {count(len(unlisted), one, many)} of {folder}, first "
                    f"{unlisted[0]}; only the tables' {many} are read{remedy if prepared else ''}"
                )


def _dropped(folder: Path) -> set[str]:
    """Photos, as `<folder>/<file>`, that `kryptonite prepare --clean` left out of a table."""
    findings = folder / FINDINGS
    if not findings.exists():
        return set()
    rows = read_table(findings, ["path", "action"], verbatim=["path"])
    return {_folder_and_file(path) for path in rows.loc[rows["action"] == "drop", "path"]}


def _is_prepared(table: Path, rows: pd.DataFrame) -> bool:
    """Whether a table is one that `kryptonite prepare` wrote."""
    columns = rows.columns.tolist()
    return (table.parent / AUDIT).exists() and columns in (
        COLUMNS,
        [*COLUMNS, RECORDING],
        COLUMNS[:3],
    )


def _folders_above(folder: Path | None, paths: Iterable[str]) -> list[str]:
    """A folder of people or pairs, and those that files lie in by way of one folder each."""
    own = [] if folder is None else [os.path.abspath(folder)]
    above = {os.path.dirname(os.path.dirname(path)) for path in paths}
    # Tables that mix data from everywhere give no folder to compare with.
    found = [*own, *(sorted(above) if len(above) <= 2 else [])]
    return list({os.path.realpath(each): each for each in found if os.path.isdir(each)}.values())


def _load_split_tables(root: Path, tables: dict[str, Path], split: str) -> pd.DataFrame:
    rows = {each: _read_rows(table) for each, table in tables.items()}
    _warn_of_labels(str(root), rows["train"], rows["val"])
    for each, table in tables.items():
        if "split" in rows[each].columns:
            declared = rows[each]["split"].str.lower().map(_SPLITS)
            wrong = declared.notna() & (declared != each)
            if wrong.any():
                first = int(wrong.to_numpy().argmax()) + 1
                warn(
                    f"{table}: the split column of row {first} (the first of {int(wrong.sum())}) "
                    "names another split; the file decides"
                )
    other = "val" if split == "train" else "train"
    images = _complete(tables[split], root, rows[split], split, rows[other]["path"])
    prepared = _is_prepared(tables["train"], rows["train"])
    _warn_of_unlisted_people(
        root, tables["train"], prepared, list(images["path"]), rows[other]["path"]
    )
    return images


def _warn_of_labels(source: str, train: pd.DataFrame, val: pd.DataFrame) -> None:
    both = identities_in_both(train, val)
    if both:
        warn(
            f"{source}: {count(len(both), 'person is', 'people are')} in both the training and the "
            f"validation data, first {both[0]!r}; error rates on such data are too good"
        )
    alike = alike_identities(pd.concat([train["label"], val["label"]]))
    if alike:
        warn(
            f"{source}: labels {' and '.join(map(repr, alike[0]))} are probably the same person "
            f"({count(len(alike), 'such group')}); they are kept apart"
        )


def _declared_splits(table: Path, rows: pd.DataFrame) -> pd.Series | None:
    """Reads the split column of a lone train.csv; None where it names no validation row."""
    if "split" not in rows.columns:
        return None
    written = rows["split"].str.lower()
    tests = written.isin(["test", "testing"])
    refuse_rows(table, tests, "split is 'test', but the table holds training data")
    sides = written.map(_SPLITS)
    if not (sides == "val").any():
        return None
    if sides.isna().any():
        value = rows.loc[sides.isna(), "split"].iloc[0]
        refuse_rows(table, sides.isna(), f"split must be train or val, got {value!r}")
    if not (sides == "train").any():
        raise DataError(f"{table}: the split column calls all rows validation")
    return sides


def _read_rows(table: Path) -> pd.DataFrame:
    rows = read_table(table, _REQUIRED, verbatim=["path"])
    _refuse_empty(table, rows)
    return rows.assign(label=parse_labels(table, rows["label"]))


def _refuse_empty(table: Path, rows: pd.DataFrame) -> None:
    if rows.empty:
        raise DataError(f"{table}: contains no rows")
    refuse_blanks(table, rows, _REQUIRED)


def _complete(
    table: Path, root: Path, rows: pd.DataFrame, split: str, other_paths: Iterable[str]
) -> pd.DataFrame:
    """Resolves the paths of a table and adds what its images are."""
    resolved = resolve_paths(rows["path"].tolist(), root, table)
    if "is_synthetic" in rows.columns:  # written by `kryptonite prepare`
        refuse_blanks(table, rows, ["is_synthetic"])
        synthetic = parse_booleans(table, rows["is_synthetic"]).tolist()
    else:
        synthetic = read_classes(
            root / "data" / "train" / "meta.json",
            [_folder_and_file(path) for path in resolved],
            partial(_other_names, root, other_paths),
        )
    images = pd.DataFrame(
        {
            "label": rows["label"],
            "path": resolved,
            "split": split,
            "is_synthetic": synthetic,
            "species": rows["species"] if "species" in rows.columns else "",
        }
    )
    if RECORDING in rows.columns:
        images[RECORDING] = rows[RECORDING]
    return validate(images, str(table))


def _other_names(root: Path, paths: Iterable[str]) -> Iterator[str]:
    """Names of the images that meta.json may describe although a table does not hold them."""
    yield from map(_folder_and_file, paths)
    folder = training_folder(root)
    if folder is not None:
        yield from (photo.name for photo in list_photos(folder))


def _folder_and_file(path: str) -> str:
    return "/".join(path.strip().replace("\\", "/").split("/")[-2:])
