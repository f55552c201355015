"""Score the challenge's test pairs and write submission.csv."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kryptonite.data.layouts import load_test_pairs
from kryptonite.data.submission import write_submission
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.inference.pipeline import Pipeline


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
        DataError: The test pairs cannot be read, or files vanish while they are scored.
    """
    scored, table = pipeline.score_pairs(load_test_pairs(data_root))
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
