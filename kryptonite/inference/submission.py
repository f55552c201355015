"""Score the challenge's test pairs, or probes against references, and write submission.csv."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kryptonite.data.layouts import load_test_pairs
from kryptonite.data.references import load_probes
from kryptonite.data.submission import write_submission
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.fusion.evidence import REFUSED
from kryptonite.fusion.references import verifier_of
from kryptonite.inference.pipeline import Pipeline
from kryptonite.inference.references import compare


@dataclass(frozen=True)
class SubmissionReport:
    """What went into a submission.

    Args:
        pairs: Number of rows written.
        images: Number of distinct image files.
        unreadable: Pairs with an unreadable image; columns pair_id, path_a, path_b. They score
            `fusion.evidence.REFUSED`.
        no_face: Pairs of readable images without a face in one or both; likewise.
        failures_to_acquire: Distinct readable images in which no face was found.
        scores: The pairs with what `Pipeline.score_pairs` adds.
    """

    pairs: int
    images: int
    unreadable: pd.DataFrame
    no_face: pd.DataFrame
    failures_to_acquire: int
    scores: pd.DataFrame


def submit(pipeline: Pipeline, data_root: Path | str, out: Path | str) -> SubmissionReport:
    """Scores every test pair of either layout and writes the submission.

    Args:
        pipeline: The trained system.
        data_root: Folder with test.csv or data/test_public.
        out: The file to write, whole or not at all.

    Raises:
        DataError: The test pairs or most of their images cannot be read, or files vanish while
            they are scored.
    """
    scored, table = pipeline.score_pairs(load_test_pairs(data_root))
    table.refuse_if_most_are_unreadable(data_root)
    write_submission(out, scored["pair_id"], scored["score"].to_numpy())
    columns, readable = ["pair_id", "path_a", "path_b"], scored["readable"]
    status = table.features.status[table.content[table.content >= 0]]
    return SubmissionReport(
        pairs=len(scored),
        images=len(table.paths),
        unreadable=scored.loc[~readable, columns],
        no_face=scored.loc[readable & ~scored["acquired"], columns],
        failures_to_acquire=int((status == CENTRE_CROP).sum()),
        scores=scored,
    )


@dataclass(frozen=True)
class ReferenceReport:
    """What went into a submission of probes against references.

    Args:
        scores: One row per probe: probe_id, path, reference_id, count (of usable references) and
            score, `fusion.evidence.REFUSED` where the probe or every reference lacks a face.
        images: Number of distinct image files.
        unreadable: Files that cannot be read.
        no_face: Readable files in which no face was found.
    """

    scores: pd.DataFrame
    images: int
    unreadable: list[str]
    no_face: list[str]

    @property
    def refused(self) -> int:
        """Number of probes that were refused."""
        return int((self.scores["score"] == REFUSED).sum())


def submit_references(
    pipeline: Pipeline,
    probes: Path | str,
    references: Path | str,
    root: Path | str,
    out: Path | str,
) -> ReferenceReport:
    """Scores probes against their references and writes the submission, by the probes' ids.

    References that cannot be read or show no face are left out.

    Args:
        pipeline: The trained system.
        probes: Table of probes; see `data.references.load_probes`.
        references: Table of references.
        root: Folder that their paths are relative to.
        out: The file to write, whole or not at all.

    Raises:
        DataError: A table is wrong, most images cannot be read, or files vanish while they are
            scored.
        ConfigError: The run is not calibrated for several references.
    """
    scores, sets = load_probes(probes, references, root)
    verifier_of(
        int(sets.groupby("reference_id").size().max()), pipeline.verifier, pipeline.several
    )  # before hours of scoring
    table = pipeline.extractor.extract([*scores["path"], *sets["path"]])
    table.refuse_if_most_are_unreadable(root)
    features = table.features
    # A sentinel row: index −1, an unreadable file, has no face.
    found = np.append(features.status != CENTRE_CROP, False)
    probe, photos = table.rows(scores["path"]), table.rows(sets["path"])
    usable = {
        name: np.unique(rows[found[rows]])
        for name, rows in pd.Series(photos).groupby(sets["reference_id"])
    }
    count = scores["reference_id"].map(lambda name: len(usable[name])).to_numpy()
    score = np.full(len(scores), REFUSED, np.float32)
    for number in np.unique(count[(count > 0) & found[probe]]).tolist():
        rows = np.flatnonzero((count == number) & found[probe])
        references_of = np.stack([usable[name] for name in scores["reference_id"].iloc[rows]])
        compared = compare(features, pipeline.differential, probe[rows], references_of)
        verifier = verifier_of(number, pipeline.verifier, pipeline.several)
        score[rows] = verifier.fuser.score(compared.pooled())
    write_submission(out, scores["probe_id"], score)
    known = table.content >= 0
    faces = np.zeros(len(table.paths), bool)
    faces[known] = found[table.content[known]]
    return ReferenceReport(
        scores=scores.assign(count=count, score=score),
        images=len(table.paths),
        unreadable=table.paths[~known].tolist(),
        no_face=table.paths[known & ~faces].tolist(),
    )
