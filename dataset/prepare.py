"""From either layout to CSVs with frozen splits and validation pairs, and an audit."""

from pathlib import Path
from typing import Any

import pandas as pd

from common.files import write_json
from dataset.audit import audit
from dataset.layouts import DataConfig, load_images, load_test_pairs
from dataset.pairs import make_pairs, save_pairs
from dataset.shortcuts import audit_shortcuts
from dataset.split import split_hash
from dataset.table import save_images

AUDIT = "audit.json"  # in a data root


def prepare(config: DataConfig, out: Path) -> dict[str, Any]:
    """Splits, audits, draws and freezes.

    Args:
        config: Where the data is; an existing split (val.csv) is kept.
        out: Folder for train.csv, val.csv, test.csv (paths relative to that folder, which is then a data root itself), pairs_val.csv and
            audit.json. Tables that are there already are left as they are.

    Returns:
        What audit.json holds: `dataset.audit.audit`, under `shortcuts` `dataset.shortcuts.audit_shortcuts`, split hash and seed.

    Raises:
        DataError: Names file and row.
    """
    frames = {split: load_images(config, split) for split in ("train", "val")}
    images = pd.concat(frames.values(), ignore_index=True)
    report = {**audit(images), "shortcuts": audit_shortcuts(images), "split_hash": split_hash(images), "seed": config.seed}
    pairs = make_pairs(frames["val"], config.pairs)
    # pairs_val.csv goes first: train.py takes the split from val.csv only once both CSVs are there.
    save_pairs(out / "pairs_val.csv", pairs, out)
    if not ((out / "train.csv").exists() and (out / "val.csv").exists()):
        for split, frame in reversed(frames.items()):
            save_images(out / f"{split}.csv", frame)
    if (Path(config.root) / "data" / "test_public").is_dir() and not (out / "test.csv").exists():
        test = load_test_pairs(config.root)
        both = pd.concat([test[["pair_id", name]].set_axis(["label", "path"], axis=1) for name in ("path_a", "path_b")])
        save_images(out / "test.csv", both.assign(split="test").sort_values(["label", "path"]))
    write_json(out / AUDIT, report)
    return report
