"""Pair protocols: drawn once by seed, then frozen in a file."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_path

KINDS = ("same", "different", "synthetic")
PAIR_COLUMNS = [
    "pair_id",
    "path_a",
    "path_b",
    "label_a",
    "label_b",
    "synthetic_a",
    "synthetic_b",
    "kind",
    "label",
    "species",
]


@dataclass
class PairConfig:
    """What validation pairs are made of.

    Args:
        count: Pairs in all; fewer where the images do not give as many distinct ones, in the same proportions.
        same: Shard of pairs of one person, both genuine.
        different: Shard of pairs of two people, both genuine.
        synthetic: Shard of pairs of a genuine photo and a generated image of the same person.
        seed: Of the draw.
    """

    count: int = 4000
    same: float = 0.5
    different: float = 0.25
    synthetic: float = 0.25
    seed: int = 0


def images_in_pairs(pairs: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Those of `images` that some pair shows, numbered anew."""
    return images[images["path"].isin([*pairs["path_a"], *pairs["path_b"]])].reset_index(drop=True)


def pair_rows(pairs: pd.DataFrame, images: pd.DataFrame) -> np.ndarray:
    """Rows of `images` that the pairs show: int, N×2."""
    row_of = pd.Series(range(len(images)), index=images["path"])
    return np.stack([row_of[pairs["path_a"]], row_of[pairs["path_b"]]], 1)


def make_pairs(images: pd.DataFrame, config: PairConfig) -> pd.DataFrame:
    """Draws pairs without repetition.

    Args:
        images: Columns label, path, is_synthetic, species.
        config: Number and composition.

    Returns:
        Columns pair_id, path_a, path_b, label_a, label_b (who is on either photo), synthetic_a, synthetic_b (0 or 1), kind, label (1 for
        `same`, else 0), species (of the synthetic image).

    Raises:
        DataError: Shares that are negative or do not sum to one, or a kind that the images cannot give.
    """
    shares = {"same": config.same, "different": config.different, "synthetic": config.synthetic}
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise DataError(f"shares of pairs must be non-negative and sum to 1, got {shares}")
    generator = np.random.default_rng(config.seed)
    images = images.sort_values("path", ignore_index=True)
    genuine = images.index[~images["is_synthetic"]].to_numpy()
    codes = pd.factorize(images["label"])[0]
    by_person = [genuine[codes[genuine] == person] for person in range(codes.max() + 1)]
    forged = images.index[images["is_synthetic"]].to_numpy()
    forged_by_person = [forged[codes[forged] == person] for person in range(codes.max() + 1)]

    def all_same() -> np.ndarray:
        return np.concatenate(
            [rows[np.stack(np.triu_indices(len(rows), 1), 1)] for rows in by_person]
            or [np.zeros((0, 2), int)]
        )

    def all_synthetic() -> np.ndarray:
        grids = [
            np.stack(np.meshgrid(real, fake, indexing="ij"), -1).reshape(-1, 2)
            for real, fake in zip(by_person, forged_by_person)
        ]
        return np.concatenate(grids or [np.zeros((0, 2), int)])

    pools = {"same": all_same(), "synthetic": all_synthetic()}
    total = len(genuine) * (len(genuine) - 1) // 2
    available = {
        "same": len(pools["same"]),
        "synthetic": len(pools["synthetic"]),
        "different": total - len(pools["same"]),
    }
    for kind, share in shares.items():
        if share > 0 and available[kind] == 0:
            raise DataError(
                f"the images of {images['label'].nunique()} people give no pair of kind {kind!r}; set its share to 0"
            )
    count = min(
        [
            config.count,
            *(int(available[kind] / share) for kind, share in shares.items() if share > 0),
        ]
    )
    chosen = []
    for kind in KINDS:
        wanted = round(count * shares[kind])
        if kind == "different":
            pairs = _different(genuine, codes, wanted, generator)
        else:
            pool = pools[kind]
            pairs = (
                pool[generator.choice(len(pool), min(wanted, len(pool)), replace=False)]
                if wanted
                else np.zeros((0, 2), int)
            )
        chosen.append((kind, pairs))
    rows = np.concatenate([pairs for _, pairs in chosen]).astype(int)
    kinds = np.concatenate([np.full(len(pairs), kind, dtype=object) for kind, pairs in chosen])
    order = generator.permutation(len(rows))
    # Which image comes first tells nothing.
    flip = generator.random(len(rows)) < 0.5
    rows = np.where(flip[:, None], rows[:, ::-1], rows)[order]
    kinds = kinds[order]
    a, b = (
        images.iloc[rows[:, 0]].reset_index(drop=True),
        images.iloc[rows[:, 1]].reset_index(drop=True),
    )
    return pd.DataFrame(
        {
            "pair_id": [f"{number:08d}" for number in range(len(rows))],
            "path_a": a["path"],
            "path_b": b["path"],
            "label_a": a["label"],
            "label_b": b["label"],
            "synthetic_a": a["is_synthetic"].astype(int),
            "synthetic_b": b["is_synthetic"].astype(int),
            "kind": kinds,
            "label": (kinds == "same").astype(int),
            "species": a["species"].where(a["is_synthetic"], b["species"]),
        },
        columns=PAIR_COLUMNS,
    )


def _different(
    genuine: np.ndarray, codes: np.ndarray, wanted: int, generator: np.random.Generator
) -> np.ndarray:
    """Distinct unordered pairs of genuine photos of two people, by rejection; the pool is too large to list."""
    found: dict[tuple[int, int], None] = {}
    possible = len(genuine) * (len(genuine) - 1) // 2
    if possible <= 4 * wanted:
        pool = genuine[np.stack(np.triu_indices(len(genuine), 1), 1)]
        pool = pool[codes[pool[:, 0]] != codes[pool[:, 1]]]
        return pool[generator.choice(len(pool), min(wanted, len(pool)), replace=False)]
    while len(found) < wanted:
        draw = np.sort(generator.choice(genuine, (2 * wanted, 2)), axis=1)
        draw = draw[codes[draw[:, 0]] != codes[draw[:, 1]]]
        for pair in map(tuple, draw.tolist()):
            if len(found) == wanted:
                break
            found[pair] = None
    return np.array(list(found), dtype=int).reshape(-1, 2)


def save_pairs(path: Path | str, pairs: pd.DataFrame, root: Path | str) -> None:
    """Freezes pairs; paths are kept relative to `root`, so that the file goes with the data."""
    root = os.path.abspath(root)
    frozen = pairs.assign(
        **{
            name: [os.path.relpath(value, root) for value in pairs[name]]
            for name in ("path_a", "path_b")
        }
    )
    with atomic_path(path) as temporary:
        frozen.to_csv(temporary, index=False)


def load_pairs(path: Path | str, root: Path | str) -> pd.DataFrame:
    """Reads frozen pairs back, with absolute paths.

    Raises:
        DataError: Names file and row.
    """
    pairs = read_protocol(path, PAIR_COLUMNS)
    base = os.path.abspath(root)
    for name in ("path_a", "path_b"):
        pairs[name] = [os.path.normpath(os.path.join(base, value)) for value in pairs[name]]
    return pairs


def read_protocol(path: Path | str, columns: list[str]) -> pd.DataFrame:
    """Reads a table of pairs with who is on them and what kind they are; paths stay as they stand there.

    Args:
        path: CSV file.
        columns: Those of `PAIR_COLUMNS` it must have, and which are returned.

    Raises:
        DataError: Names file and row.
    """
    try:
        pairs = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error
    missing = [name for name in columns if name not in pairs.columns]
    if missing:
        raise DataError(
            f"{path}: column {', '.join(missing)} is missing; there are {', '.join(pairs.columns)}"
        )
    if pairs.empty:
        raise DataError(f"{path}: holds no pairs")
    synthetic = (pairs["synthetic_a"] == "1") | (pairs["synthetic_b"] == "1")
    for wrong, what in (
        (~pairs["kind"].isin(KINDS), "kind is none of " + ", ".join(KINDS)),
        (pairs["pair_id"].duplicated(), "pair_id stands twice"),
        (
            (pairs["kind"] == "same").astype(int).astype(str) != pairs["label"],
            "label does not fit kind",
        ),
        (
            ~pairs[["synthetic_a", "synthetic_b"]].isin(["0", "1"]).all(axis=1),
            "synthetic_a and synthetic_b must be 0 or 1",
        ),
        (
            (pairs["kind"] == "synthetic") != synthetic,
            "kind does not fit synthetic_a and synthetic_b",
        ),
    ):
        if wrong.any():
            raise DataError(f"{path}, row {int(wrong.idxmax()) + 1}: {what}")
    return pairs[columns].astype({"label": int, "synthetic_a": int, "synthetic_b": int})
