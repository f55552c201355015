"""Pair protocols, drawn once with a seed, then frozen in a file."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_path
from kryptonite.data.csv_tables import pair_id, parse_labels, read_table, refuse_blanks, refuse_rows
from kryptonite.data.table import refuse_line_breaks
from kryptonite.data.table_paths import check_lengths, plain_path
from kryptonite.metrics.kinds import KINDS

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
    """Number and composition of the validation pairs.

    Args:
        count: Total number of pairs; reduced, at the same proportions, where the images do not
            yield as many distinct ones.
        same: Fraction of mated pairs: one identity, both images genuine.
        different: Fraction of pairs of two identities, both images genuine.
        synthetic: Fraction of pairs of a genuine photo and a generated image of the same identity.
        seed: Seeds the draw.
    """

    count: int = 4000
    same: float = 0.5
    different: float = 0.25
    synthetic: float = 0.25
    seed: int = 0


def images_in_pairs(pairs: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Selects the rows of `images` that occur in some pair; index 0..M-1."""
    return images[images["path"].isin([*pairs["path_a"], *pairs["path_b"]])].reset_index(drop=True)


def pair_rows(pairs: pd.DataFrame, images: pd.DataFrame) -> np.ndarray:
    """Looks up the rows of `images` that each pair shows: int, N×2."""
    row_of = pd.Series(range(len(images)), index=images["path"])
    return np.stack([row_of[pairs["path_a"]], row_of[pairs["path_b"]]], 1)


def make_pairs(images: pd.DataFrame, config: PairConfig) -> pd.DataFrame:
    """Draws pairs without repetition.

    Args:
        images: Columns label, path, is_synthetic, species.
        config: Number and composition.

    Returns:
        Columns pair_id, path_a, path_b, label_a, label_b (identities on either image), synthetic_a,
        synthetic_b (0 or 1), kind, label (1 for `same`, else 0), species (of the synthetic image).

    Raises:
        DataError: Fractions are negative or do not sum to one, or the images yield no pair of a
            kind.
    """
    fractions = {kind: getattr(config, kind) for kind in KINDS}
    if min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise DataError(f"fractions of pairs must be non-negative and sum to 1, got {fractions}")
    generator = np.random.default_rng(config.seed)
    images = images.sort_values("path", ignore_index=True)
    bona_fide = images.index[~images["is_synthetic"]].to_numpy()
    synthetic = images.index[images["is_synthetic"]].to_numpy()
    codes = pd.factorize(images["label"])[0]
    pools = {
        "same": _same(bona_fide, codes),
        "synthetic": _synthetic(bona_fide, synthetic, codes),
    }
    total = len(bona_fide) * (len(bona_fide) - 1) // 2
    available = {
        "same": len(pools["same"]),
        "synthetic": len(pools["synthetic"]),
        "different": total - len(pools["same"]),
    }
    for kind, fraction in fractions.items():
        if fraction > 0 and available[kind] == 0:
            raise DataError(
                f"the images of {images['label'].nunique()} people yield no pair of kind {kind!r}; "
                "set its fraction to 0"
            )
    most = [int(available[kind] / part) for kind, part in fractions.items() if part > 0]
    count = min([config.count, *most])
    chosen = []
    for kind in KINDS:
        wanted = round(count * fractions[kind])
        if kind == "different":
            pairs = _different(bona_fide, codes, wanted, generator)
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
    # The order within a pair must carry no information.
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


def _by_identity(rows: np.ndarray, codes: np.ndarray) -> list[np.ndarray]:
    """Divides rising rows by identity, 0..K-1; an identity without a row gets an empty part."""
    ordered = rows[np.argsort(codes[rows], kind="stable")]
    return np.split(ordered, np.searchsorted(codes[ordered], np.arange(1, codes.max() + 1)))


def _same(bona_fide: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Lists all mated pairs: int, N×2."""
    pairs = [
        rows[np.stack(np.triu_indices(len(rows), 1), 1)] for rows in _by_identity(bona_fide, codes)
    ]
    return np.concatenate(pairs or [np.zeros((0, 2), int)])


def _synthetic(bona_fide: np.ndarray, synthetic: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Lists all pairs of a genuine and a synthetic image of one identity: int, N×2."""
    sides = zip(_by_identity(bona_fide, codes), _by_identity(synthetic, codes), strict=True)
    pairs = [
        np.stack(np.meshgrid(real, fake, indexing="ij"), -1).reshape(-1, 2) for real, fake in sides
    ]
    return np.concatenate(pairs or [np.zeros((0, 2), int)])


def _different(
    bona_fide: np.ndarray, codes: np.ndarray, wanted: int, generator: np.random.Generator
) -> np.ndarray:
    """Draws distinct unordered pairs of genuine photos of two identities.

    Draws by rejection, since the pool is usually too large to list.
    """
    found: dict[tuple[int, int], None] = {}
    possible = len(bona_fide) * (len(bona_fide) - 1) // 2
    if possible <= 4 * wanted:
        pool = bona_fide[np.stack(np.triu_indices(len(bona_fide), 1), 1)]
        pool = pool[codes[pool[:, 0]] != codes[pool[:, 1]]]
        return pool[generator.choice(len(pool), min(wanted, len(pool)), replace=False)]
    while len(found) < wanted:
        draw = np.sort(generator.choice(bona_fide, (2 * wanted, 2)), axis=1)
        draw = draw[codes[draw[:, 0]] != codes[draw[:, 1]]]
        for pair in map(tuple, draw.tolist()):
            if len(found) == wanted:
                break
            found[pair] = None
    return np.array(list(found), dtype=int).reshape(-1, 2)


def save_pairs(path: Path | str, pairs: pd.DataFrame, root: Path | str) -> None:
    """Freezes pairs in a CSV whose paths are relative to `root`, so that it moves with the data.

    Raises:
        DataError: A path holds a line break, which tables do not.
    """
    for name in ("path_a", "path_b"):
        refuse_line_breaks(pairs[name])
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
    """Reads frozen pairs, with absolute paths.

    Raises:
        DataError: Names file and row.
    """
    pairs = read_protocol(path, PAIR_COLUMNS)
    base = os.path.abspath(root)
    for name in ("path_a", "path_b"):
        pairs[name] = [_frozen_path(base, value) for value in pairs[name]]
    return pairs


def _frozen_path(base: str, value: str) -> str:
    """Absolute path; spaces and backslashes are read as in `data.table_paths.resolve_paths`."""
    forms = dict.fromkeys([value.strip(), plain_path(value), value])
    paths = [os.path.normpath(os.path.join(base, form)) for form in forms]
    return next(filter(os.path.exists, paths), paths[0]) if len(paths) > 1 else paths[0]


def read_protocol(path: Path | str, columns: list[str]) -> pd.DataFrame:
    """Reads and checks a table of pairs; paths stay as they are in the file.

    Args:
        path: CSV file, in any dialect that `data.csv_tables.read_table` reads.
        columns: Required columns, of `PAIR_COLUMNS`; these are returned.

    Raises:
        DataError: Names file and row.
    """
    pairs = read_table(path, columns, verbatim=["path_a", "path_b"])
    if pairs.empty:
        raise DataError(f"{path}: contains no pairs")
    refuse_blanks(path, pairs, [name for name in columns if name != "species"])
    for name in ("path_a", "path_b"):
        if name in columns:
            check_lengths(pairs[name].tolist(), path)
    ids = pairs["pair_id"].map(pair_id)
    pairs["pair_id"] = ids.where(ids != "", pairs["pair_id"])
    for name in ("label_a", "label_b"):
        if name in columns:
            pairs[name] = parse_labels(path, pairs[name])
    pairs["kind"] = pairs["kind"].str.lower()
    numbers = pairs[["label", "synthetic_a", "synthetic_b"]].apply(_as_digits)
    synthetic = (numbers["synthetic_a"] == "1") | (numbers["synthetic_b"] == "1")
    for wrong, what in (
        (~pairs["kind"].isin(KINDS), "kind must be one of " + ", ".join(KINDS)),
        (pairs["pair_id"].duplicated(), "pair_id occurs twice"),
        (
            (pairs["kind"] == "same").astype(int).astype(str) != numbers["label"],
            "label contradicts kind",
        ),
        (
            ~numbers[["synthetic_a", "synthetic_b"]].isin(["0", "1"]).all(axis=1),
            "synthetic_a and synthetic_b must be 0 or 1",
        ),
        (
            (pairs["kind"] == "synthetic") != synthetic,
            "kind contradicts synthetic_a and synthetic_b",
        ),
    ):
        refuse_rows(path, wrong, what)
    return pairs[columns].assign(**numbers.astype(int))


def _as_digits(values: pd.Series) -> pd.Series:
    """Rewrites the spellings of 0 and 1 that spreadsheets write; others stay as they are."""
    spellings = {"1.0": "1", "0.0": "0", "true": "1", "false": "0"}
    return values.str.lower().replace(spellings)
