"""Loads labelled pairs from frozen pairs or from a ground truth."""

from pathlib import Path

import pandas as pd

from kryptonite.data.layouts import load_test_pairs
from kryptonite.data.pairs import PAIR_COLUMNS, load_pairs, read_protocol
from kryptonite.data.submission import join


def load_protocol(path: Path | str, root: Path | str) -> pd.DataFrame:
    """Loads pairs to evaluate on.

    Args:
        path: Frozen pairs (`pairs_val.csv`, paths relative to `root`), or a ground truth without
            paths (`gt.csv`), whose photos are those of the test pairs in `root`.
        root: Root folder of the data.

    Returns:
        Columns `data.pairs.PAIR_COLUMNS`, with absolute paths.

    Raises:
        DataError: Names file and row. A ground truth of labels alone is refused, since error rates
            need the kind of each pair and intervals its identities.
    """
    if Path(path).is_file():
        header = Path(path).read_text(encoding="utf-8").partition("\n")[0]
        if "path_a" in header.split(","):
            return load_pairs(path, root)
    truth = read_protocol(path, [name for name in PAIR_COLUMNS if name not in ("path_a", "path_b")])
    truth["pair_id"] = truth["pair_id"].str.zfill(8)
    return join(truth, load_test_pairs(root), str(root))[PAIR_COLUMNS]
