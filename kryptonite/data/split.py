"""Splits by identity: no identity is in two splits."""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.core.files import fingerprint


def split_identities(labels: Iterable[str], val_fraction: float, seed: int) -> dict[str, str]:
    """Assigns every identity to `train` or `val`.

    Args:
        labels: Identities; may repeat, order does not matter.
        val_fraction: Fraction of the identities held out, 0..1; each side gets at least one.
        seed: Seeds the draw.

    Returns:
        Maps each identity to its split.

    Raises:
        DataError: There are fewer than two identities, or the fraction lies outside (0, 1).
    """
    identities = sorted(set(labels))
    if len(identities) < 2:
        raise DataError(f"a split by identity needs at least two people, got {len(identities)}")
    if not 0 < val_fraction < 1:
        raise DataError(f"val_fraction must lie between 0 and 1, got {val_fraction}")
    count = min(max(1, round(len(identities) * val_fraction)), len(identities) - 1)
    held_out = set(np.random.default_rng(seed).permutation(identities)[:count].tolist())
    return {identity: "val" if identity in held_out else "train" for identity in identities}


def identities_in_both(train: pd.DataFrame, val: pd.DataFrame) -> list[str]:
    """Lists the identities that are in both tables, sorted.

    Args:
        train: Column label.
        val: Column label.
    """
    return sorted(set(train["label"]) & set(val["label"]))


def alike_identities(labels: Iterable[str]) -> list[list[str]]:
    """Groups labels that probably mean one person: numbers of one value, names but for case.

    Returns:
        Sorted groups of at least two labels each.
    """
    groups: dict[str, set[str]] = {}
    for label in set(labels):
        number = re.fullmatch(r"0*([0-9]+?)(\.0+)?", label)
        groups.setdefault(number[1] if number else label.casefold(), set()).add(label)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def alike_in_both(train: pd.DataFrame, val: pd.DataFrame) -> list[list[str]]:
    """Lists the groups of `alike_identities` that have labels in both tables.

    Args:
        train: Column label.
        val: Column label.
    """
    groups = alike_identities(pd.concat([train["label"], val["label"]]))
    sides = [set(table["label"]) for table in (train, val)]
    return [group for group in groups if not any(side.isdisjoint(group) for side in sides)]


def split_hash(images: pd.DataFrame) -> str:
    """SHA-256 over the label, file name, split and class of every image.

    Independent of row order and of where the data lies.

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
