"""Converts either layout to CSVs with a frozen split and frozen validation pairs, and audits it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_path, write_json
from kryptonite.data.audit.cleaning import DROP, KEEP, MOVE, CleanConfig, find_mislabels
from kryptonite.data.audit.cleaning_sheet import draw_cleaning_sheet
from kryptonite.data.audit.integrity import audit_integrity
from kryptonite.data.audit.shortcuts import audit_shortcuts
from kryptonite.data.layouts import AUDIT, FINDINGS, DataConfig, load_images, load_test_pairs
from kryptonite.data.pairs import make_pairs, save_pairs
from kryptonite.data.split import split_hash
from kryptonite.data.table import refuse_line_breaks, save_images

SHEET = "cleaning.png"  # beside cleaned tables

# Maps N image files to which of them are readable (N bool) and to the embeddings of those.
Embed = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]


def prepare(
    config: DataConfig, out: Path, embed: Embed | None = None, cleaning: CleanConfig | None = None
) -> dict[str, Any]:
    """Splits the data, audits it, cleans it on request, and freezes validation pairs.

    Args:
        config: Where the data is; an existing split (val.csv) is kept.
        out: Folder for train.csv, val.csv, test.csv (paths relative to that folder, which becomes a
            data root itself), pairs_val.csv and audit.json. Existing tables are left as they are.
        embed: Face recogniser; if given, photos of training identities that are filed under the
            wrong identity are moved or left out in train.csv, and cleaning.csv and cleaning.png
            list them. The validation data is never cleaned: a recogniser must not choose its own
            test set.
        cleaning: Certainty required to move or drop a photo.

    Returns:
        The content of audit.json: that of `audit_integrity`; under `shortcuts` that of
        `audit_shortcuts`; split hash and seed; and, if cleaned, under `cleaning` photos per action.

    Raises:
        DataError: Names file and row; cleaned tables would overwrite existing ones; or no image of
            a split can be read.
    """
    if embed and any((out / f"{split}.csv").exists() for split in ("train", "val")):
        raise DataError(
            f"{out}: already has tables, which cleaning does not overwrite; choose another folder "
            "with --out"
        )
    frames = {split: load_images(config, split) for split in ("train", "val")}
    images = pd.concat(frames.values(), ignore_index=True)
    refuse_line_breaks(images["path"])  # before minutes of reading
    integrity = audit_integrity(images)
    for split, counts in integrity["counts"].items():
        if counts["unreadable"] == counts["images"]:
            raise DataError(
                f"{config.root}: none of the {counts['images']} images of the {split} split can be "
                f"read; for example: {integrity['unreadable']['examples'][0]}"
            )
    report = {
        **integrity,
        "shortcuts": audit_shortcuts(images),
        "split_hash": split_hash(images),
        "seed": config.seed,
    }
    if embed:
        frames["train"], report["cleaning"] = _clean(
            frames["train"], embed, cleaning or CleanConfig(), out
        )
    pairs = make_pairs(frames["val"], config.pairs)
    # pairs_val.csv comes first: once both split tables exist, training reads them and must find the
    # pairs as well.
    save_pairs(out / "pairs_val.csv", pairs, out)
    if not ((out / "train.csv").exists() and (out / "val.csv").exists()):
        for split, frame in reversed(frames.items()):
            save_images(out / f"{split}.csv", frame)
    if (Path(config.root) / "data" / "test_public").is_dir() and not (out / "test.csv").exists():
        test = load_test_pairs(config.root)
        both = pd.concat(
            [
                test[["pair_id", name]].set_axis(["label", "path"], axis=1)
                for name in ("path_a", "path_b")
            ]
        )
        save_images(out / "test.csv", both.assign(split="test").sort_values(["label", "path"]))
    write_json(out / AUDIT, report)
    return report


def _clean(
    images: pd.DataFrame, embed: Embed, config: CleanConfig, out: Path
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Cleans a table and writes the findings.

    Returns:
        The table without its mislabels (unreadable files stay, so that training counts them), and
        photos per action.
    """
    readable, embeddings = embed(list(images["path"]))
    known = images[readable].reset_index(drop=True)
    found = find_mislabels(
        known["label"].to_numpy(), embeddings, known["is_synthetic"].to_numpy(), config
    )
    with atomic_path(out / FINDINGS) as temporary:
        paths = [os.path.relpath(path, out) for path in known["path"]]
        found.rename(columns={"label": "new_label"}).assign(label=known["label"], path=paths)[
            [
                "path",
                "label",
                "action",
                "new_label",
                "probability",
                "own",
                "best",
                "best_label",
                "community",
                "core",
                "reason",
            ]
        ].to_csv(temporary, index=False, float_format="%.4f")
    draw_cleaning_sheet(out / SHEET, known, found)
    cleaned = images.copy()
    cleaned.loc[readable, "label"] = found["label"].to_numpy()
    dropped = np.zeros(len(images), bool)
    dropped[readable] = found["action"] == DROP
    counts = found["action"].value_counts()
    return cleaned[~dropped].reset_index(drop=True), {
        action: int(counts.get(action, 0)) for action in (KEEP, MOVE, DROP)
    }
