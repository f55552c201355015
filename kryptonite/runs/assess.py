"""Score labelled pairs by every fusion of a finished run, fairly where the run has seen them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kryptonite.core.chunks import chunked
from kryptonite.core.errors import DataError
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import FUSERS
from kryptonite.fusion.guard import cross_fit_as
from kryptonite.inference.extractor import FeatureTable
from kryptonite.inference.pipeline import Pipeline
from kryptonite.report.analysis import ScoredPairs
from kryptonite.report.quality import pair_facts, quality_facts
from kryptonite.runs.checks import check_kinds
from kryptonite.runs.run_dir import RunDir, seen_warnings

CHUNK = 512  # images whose crops are in memory at once


@dataclass(frozen=True)
class Assessment:
    """Scored pairs, and how fair the test was.

    Args:
        scored: The pairs that could be scored.
        fitted: Maps each system to its function from evidence on these very pairs to scores.
        features: Features of the pairs' images.
        unreadable: Pairs left out because an image cannot be read; columns as given.
        seen: Number of images, by content, in the run's `train` and `val` splits.
    """

    scored: ScoredPairs
    fitted: dict[str, Callable[[Evidence], np.ndarray]]
    features: FeatureTable
    unreadable: pd.DataFrame
    seen: dict[str, int]

    @property
    def cross_fitted(self) -> bool:
        """Whether the fusions were refitted because the stored ones had seen these images."""
        return self.seen["val"] > 0

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before believing a figure."""
        found = seen_warnings(self.seen, len(self.scored.images), "system")
        if self.cross_fitted:
            found.append(
                "The fusions, fitted on validation images, are cross-fitted over identities here."
            )
        if len(self.unreadable):
            found.append(
                f"{len(self.unreadable)} pairs are left out because an image cannot be read "
                "(a submission refuses them)."
            )
        return found


def assess(pipeline: Pipeline, run: RunDir, pairs: pd.DataFrame) -> Assessment:
    """Extracts every distinct image once and scores the pairs by every fusion of the run.

    Where the run's fusions were fitted on some of these images (recognised by content), they are
    refitted on these pairs, each scoring only people it has not seen.

    Args:
        pipeline: The run, loaded.
        run: Its folder.
        pairs: Columns `data.pairs.PAIR_COLUMNS`.

    Raises:
        DataError: Most images cannot be read, no pair can be scored, a kind of pair is missing, or
            the run's folder lacks its list of images.
    """
    check_kinds(pairs["kind"], "the pairs")
    table, features = pipeline.extract_pairs(pairs)
    features.refuse_if_most_are_unreadable("the pairs")
    readable = table["readable"].to_numpy()
    if not readable.any():
        raise DataError(f"none of the {len(pairs)} pairs has two readable images")
    check_kinds(table.loc[readable, "kind"], "the pairs")
    unreadable = table.loc[~readable, list(pairs.columns)].reset_index(drop=True)
    table = table[readable].drop(columns="readable").reset_index(drop=True)

    seen = _seen(run, features)
    evidence = Evidence.of(table)
    groups = [table[name].to_numpy() for name in ("kind", "label_a", "label_b")]
    if seen["val"]:
        folds = run.read_config()["fusion"]["folds"]
        fitted = {
            name: cross_fit_as(verifier.fuser, evidence, *groups, folds).score
            for name, verifier in pipeline.verifiers.items()
        }
    else:
        fitted = {name: verifier.fuser.score for name, verifier in pipeline.verifiers.items()}
    scores = {name: score(evidence) for name, score in fitted.items()}

    images = _images(pipeline, features, table)
    facts = images.set_index("key")
    table = table.join(pair_facts(facts.loc[table["key_a"]], facts.loc[table["key_b"]]))
    llrs = {
        name: llr for name, score in scores.items() if (llr := FUSERS[name].llr(score)) is not None
    }
    thresholds = {name: verifier.threshold for name, verifier in pipeline.verifiers.items()}
    scored = ScoredPairs(table, scores, llrs, thresholds, images, pipeline.chosen)
    return Assessment(scored, fitted, features, unreadable, seen)


def _seen(run: RunDir, table: FeatureTable) -> dict[str, int]:
    return run.count_seen(table.features.keys)


def _images(pipeline: Pipeline, features: FeatureTable, table: pd.DataFrame) -> pd.DataFrame:
    """Lists the distinct images of the scored pairs, by content, with all that is known of each."""
    columns = ["path", "key", "label", "is_synthetic", "species"]
    sides = [
        table[[f"path_{s}", f"key_{s}", f"label_{s}", f"synthetic_{s}", "species"]].set_axis(
            columns, axis=1
        )
        for s in "ab"
    ]
    images = pd.concat(sides).drop_duplicates("key").reset_index(drop=True)
    images["is_synthetic"] = images["is_synthetic"].astype(bool)
    images["species"] = images["species"].where(images["is_synthetic"], "")
    rows, found = features.rows(images["path"]), features.features
    images = images.assign(log_odds=found.log_odds[rows], failed=found.status[rows] == CENTRE_CROP)
    cache = pipeline.extractor.cache
    cache.ensure(images["path"].tolist())  # cached features may outlive the crops
    template = pipeline.extractor.recogniser.spec.template
    parts = []
    for part in chunked(rows, CHUNK):
        keys = found.keys[part]
        crops = cache.read_batch(keys, template).pixels
        parts.append(quality_facts(crops, found.boxes[part], cache.read_landmarks(keys)))
    return images.join(pd.concat(parts, ignore_index=True))
