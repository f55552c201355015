"""Splits by identity: nobody is in two of them."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.core.files import fingerprint


def split_identities(labels: Iterable[str], val_fraction: float, seed: int) -> dict[str, str]:
    """Sends every identity to `train` or `val`.

    Args:
        labels: Identities; may repeat, order does not matter.
        val_fraction: Shard of the identities held out, 0..1; at least one goes to each side.
        seed: Of the draw.

    Returns:
        Identity to split.

    Raises:
        DataError: Fewer than two identities, or a fraction outside (0, 1).
    """
    people = sorted(set(labels))
    if len(people) < 2:
        raise DataError(f"a split by identity needs at least two people, there are {len(people)}")
    if not 0 < val_fraction < 1:
        raise DataError(f"val_fraction must lie between 0 and 1, got {val_fraction}")
    count = min(max(1, round(len(people) * val_fraction)), len(people) - 1)
    held_out = set(np.random.default_rng(seed).permutation(people)[:count].tolist())
    return {person: "val" if person in held_out else "train" for person in people}


def split_hash(images: pd.DataFrame) -> str:
    """SHA-256 over who is in which split with which files; independent of row order and of where the data lies.

    Args:
        images: Columns label, path, split, is_synthetic.
    """
    rows = zip(
        images["label"],
        images["path"].str.rsplit("/", n=1).str[-1],
        images["split"],
        images["is_synthetic"],
        strict=True,
    )
    return fingerprint(
        sorted([label, name, split, bool(synthetic)] for label, name, split, synthetic in rows)
    )
