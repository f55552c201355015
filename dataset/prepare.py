"""From either layout to CSVs with frozen splits and validation pairs, and an audit."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from common.files import atomic_path, write_json
from dataset.audit import audit
from dataset.layouts import DataConfig, load_images, load_test_pairs
from dataset.pairs import make_pairs, save_pairs
from dataset.split import split_hash


def prepare(config: DataConfig, out: Path) -> dict[str, Any]:
    """Splits, audits, draws and freezes.

    Args:
        config: Where the data is; an existing split (val.csv) is kept.
        out: Folder for train.csv, val.csv, test.csv (paths relative to the data root), pairs_val.csv and audit.json. Tables that are
            there already are left as they are.

    Returns:
        What audit.json holds: `dataset.audit.audit` and the split hash.

    Raises:
        DataError: Names file and row.
    """
    frames = {split: load_images(config, split) for split in ("train", "val")}
    report = audit(pd.concat(frames.values(), ignore_index=True))
    report["split_hash"] = split_hash(pd.concat(frames.values(), ignore_index=True))
    report["seed"] = config.seed
    pairs = make_pairs(frames["val"], config.pairs)
    # pairs_val.csv goes first: train.py takes the split from val.csv only once both CSVs are there.
    save_pairs(out / "pairs_val.csv", pairs, config.root)
    root = os.path.abspath(config.root)
    if not ((out / "train.csv").exists() and (out / "val.csv").exists()):
        for split, images in reversed(frames.items()):
            table = images.assign(path=[os.path.relpath(path, root) for path in images["path"]])
            with atomic_path(out / f"{split}.csv") as temporary:
                table.to_csv(temporary, index=False)
    if (Path(config.root) / "data" / "test_public").is_dir() and not (out / "test.csv").exists():
        test = load_test_pairs(config.root)
        both = pd.concat([test[["pair_id", name]].set_axis(["label", "path"], axis=1) for name in ("path_a", "path_b")])
        both = both.assign(path=[os.path.relpath(path, root) for path in both["path"]], split="test").sort_values(["label", "path"])
        with atomic_path(out / "test.csv") as temporary:
            both.to_csv(temporary, index=False)
    write_json(out / "audit.json", report)
    return report
