"""Loads labelled pairs from frozen pairs or from a ground truth."""

from pathlib import Path

import pandas as pd

from kryptonite.data.csv_tables import parse_pair_ids, read_header
from kryptonite.data.layouts import load_test_pairs
from kryptonite.data.pairs import PAIR_COLUMNS, load_pairs, read_protocol
from kryptonite.data.submission import join
from kryptonite.data.table_paths import refuse_if_most_are_missing


def load_protocol(path: Path | str, root: Path | str) -> pd.DataFrame:
    """Loads pairs to evaluate on.

    Args:
        path: Frozen pairs (`pairs_val.csv`, paths relative to `root`), or a ground truth without
            paths (`gt.csv`), whose photos are those of the test pairs in `root`.
        root: Root folder of the data.

    Returns:
        Columns `data.pairs.PAIR_COLUMNS`, with absolute paths.

    Raises:
        DataError: Names file and row; or more than half of the images do not exist. A ground truth
            of labels alone is refused, since error rates need the kind of each pair and intervals
            its identities.
    """
    # A pipe can be read only once, and pairs with their paths are read from files.
    if Path(path).is_file() and {"path_a", "path_b"} & set(read_header(path, PAIR_COLUMNS)):
        pairs = load_pairs(path, root)
        images = [*pairs["path_a"], *pairs["path_b"]]
        refuse_if_most_are_missing(images, f"{path} (paths relative to {root})")
        return pairs
    truth = read_protocol(path, [name for name in PAIR_COLUMNS if name not in ("path_a", "path_b")])
    truth["pair_id"] = parse_pair_ids(path, truth["pair_id"])
    return join(truth, load_test_pairs(root), str(root))[PAIR_COLUMNS]
