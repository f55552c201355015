"""Several references of one person: tables of probes and references, and trials drawn for fitting.

A photo of the probe's own recording is no fair reference: light, clothes and camera agree as they
will not in use. Where a table tells recordings apart (column `recording`), none is drawn.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError
from kryptonite.data.csv_tables import (
    parse_labels,
    parse_pair_ids,
    read_table,
    refuse_blanks,
    refuse_rows,
)
from kryptonite.data.table_paths import resolve_paths
from kryptonite.metrics.kinds import KINDS

RECORDING = "recording"  # optional column of tables of images
REPEATS = 3  # trials of one probe against its own person
_SEED = 0  # of the draw of trials


@dataclass(frozen=True)
class ReferenceTrials:
    """N probes, each with references of the person that it is claimed to show.

    Args:
        probe: int N, rows of the images.
        references: int N×M, rows of bona fide photos of the claimed person, in random order; −1
            after the last where there are fewer than M.
        forged: int N, row of a forgery of the claimed person, another photo than the probe; −1
            where there is none.
        kind: N of 'same', 'different', 'synthetic'.
    """

    probe: np.ndarray
    references: np.ndarray
    forged: np.ndarray
    kind: np.ndarray

    @property
    def images(self) -> np.ndarray:
        """Sorted rows of the images that occur as probes or references."""
        rows = np.unique(np.concatenate([self.probe, self.references.ravel()]))
        return rows[rows >= 0]

    def having(self, count: int) -> np.ndarray:
        """N bool: which trials have at least so many references."""
        return self.references[:, count - 1] >= 0

    def counts(self, labels: np.ndarray, people: int) -> list[int]:
        """Lists the numbers of references, from 1, that enough people have.

        Args:
            labels: Label of each image.
            people: Number of people that must occur in the trials of each kind.
        """
        found = []
        for count in range(1, self.references.shape[1] + 1):
            rows = self.having(count)
            if any(
                len(np.unique(labels[self.probe[rows & (self.kind == kind)]])) < people
                for kind in KINDS
            ):
                break
            found.append(count)
        return found

    def mapped(self, rows: np.ndarray) -> "ReferenceTrials":
        """Gives the images other row numbers.

        Args:
            rows: int, the new number of each image.
        """

        def renumbered(old: np.ndarray) -> np.ndarray:
            return np.where(old >= 0, rows[old], -1)

        return replace(
            self,
            probe=rows[self.probe],
            references=renumbered(self.references),
            forged=renumbered(self.forged),
        )

    def rows(self, chosen: np.ndarray) -> "ReferenceTrials":
        """Takes some trials: int or bool rows."""
        return ReferenceTrials(
            self.probe[chosen], self.references[chosen], self.forged[chosen], self.kind[chosen]
        )

    def forged_first(self) -> "ReferenceTrials":
        """Puts the forgery in the place of the first reference; every trial must have one."""
        references = np.concatenate([self.forged[:, None], self.references[:, 1:]], 1)
        return replace(self, references=references)


def draw_trials(images: pd.DataFrame, most: int, counts: Mapping[str, int]) -> ReferenceTrials:
    """Draws trials: photos against the own person, and bona fide ones against others, too.

    Args:
        images: Columns label, is_synthetic, key (equal for equal contents) and maybe recording;
            index 0..N-1.
        most: M, the largest number of references.
        counts: Number of trials by kind; fewer where the images yield no more. A photo is the
            probe of up to `REPEATS` trials, each with references of its own.
    """
    generator = np.random.default_rng(_SEED)
    codes, people = pd.factorize(images["label"], sort=True)
    synthetic = images["is_synthetic"].to_numpy(bool)
    keys = images["key"].to_numpy(str)
    recordings = images.get(RECORDING, pd.Series("", images.index)).fillna("").to_numpy(str)
    by_class = [
        [rows[synthetic[rows] == kind] for rows in _rows_by_code(codes, len(people))]
        for kind in (False, True)
    ]
    claims = _claims(codes, synthetic, len(people), counts)
    references = np.full((len(claims), most), -1)
    forged = np.full(len(claims), -1)
    for number, (row, person, _) in enumerate(claims):
        fair = []
        for rows in (by_class[0][person], by_class[1][person]):
            same = (recordings[rows] == recordings[row]) & (recordings[row] != "")
            fair.append(rows[(keys[rows] != keys[row]) & ~same])
        drawn = generator.permutation(fair[0])[:most]
        references[number, : len(drawn)] = drawn
        if len(fair[1]):
            forged[number] = generator.choice(fair[1])
    return ReferenceTrials(
        np.array([row for row, _, _ in claims], int),
        references,
        forged,
        np.array([kind for _, _, kind in claims], str),
    )


def _rows_by_code(codes: np.ndarray, people: int) -> list[np.ndarray]:
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=people))[:-1])


def _claims(
    codes: np.ndarray, synthetic: np.ndarray, people: int, counts: Mapping[str, int]
) -> list[tuple[int, int, str]]:
    """Draws probes and the people that they are claimed to show: row, code and kind of each."""
    draw = random.Random(_SEED)  # samples a range without listing it
    bona_fide, forgeries = np.flatnonzero(~synthetic), np.flatnonzero(synthetic)
    claims = [
        (row, int(codes[row]), kind)
        for kind, rows in (("same", bona_fide), ("synthetic", forgeries))
        for row in _sample(draw, rows.tolist(), counts[kind])
    ]
    others = people - 1
    pool = range(len(bona_fide) * others)
    for place in draw.sample(pool, min(counts["different"], len(pool))):
        row = int(bona_fide[place // others])
        claims.append((row, (int(codes[row]) + place % others + 1) % people, "different"))
    return claims


def _sample(draw: random.Random, rows: list[int], count: int) -> list[int]:
    """Samples rows as evenly as possible: none comes again before all have come."""
    pool = rows * REPEATS
    count = min(count, len(pool))
    whole = len(rows) * (count // max(len(rows), 1))
    return pool[:whole] + draw.sample(rows, count - whole)


def load_probes(
    probes: Path | str, references: Path | str, root: Path | str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reads a table of probes and one of references.

    Args:
        probes: CSV with the columns probe_id, path and, unless probe and references share their id,
            reference_id.
        references: CSV with the columns reference_id and path; a row per photo, so that a person
            with five references has five rows.
        root: Folder that paths are relative to.

    Returns:
        Columns probe_id (eight digits, as in a submission), path, reference_id; and reference_id,
        path. Paths are absolute.

    Raises:
        DataError: Names file and row: an id or a path is missing, a probe occurs twice, the same
            photo stands twice in a set, or a probe's references are not in the table.
    """
    rows = read_table(probes, ["probe_id", "path"], verbatim=["path"])
    sets = read_table(references, ["reference_id", "path"], verbatim=["path"])
    if "reference_id" not in rows.columns:
        rows["reference_id"] = rows["probe_id"]
    for table, path, names in (
        (rows, probes, ["probe_id", "path", "reference_id"]),
        (sets, references, ["reference_id", "path"]),
    ):
        if table.empty:
            raise DataError(f"{path}: contains no rows")
        refuse_blanks(path, table, names)
        table["reference_id"] = parse_labels(path, table["reference_id"])
        table["path"] = resolve_paths(table["path"].tolist(), Path(root), Path(path))
    rows["probe_id"] = parse_pair_ids(probes, rows["probe_id"])
    refuse_rows(probes, rows["probe_id"].duplicated(), "probe_id occurs twice")
    refuse_rows(
        references,
        sets.duplicated(["reference_id", "path"]),
        "the same photo stands twice in a set",
    )
    refuse_rows(
        probes,
        ~rows["reference_id"].isin(sets["reference_id"]),
        f"its reference_id is not in {references}",
    )
    return rows[["probe_id", "path", "reference_id"]], sets[["reference_id", "path"]]
