"""A spoof check around any face matcher: its similarity and both photos give a likelihood ratio."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kryptonite.core.errors import ConfigError
from kryptonite.core.images import read_rgb
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.matcher import CalibratedFuser
from kryptonite.inference.evidence import pair_evidence
from kryptonite.inference.pipeline import Pipeline


@dataclass(frozen=True)
class GateScore:
    """The answer for two photos and a matcher's similarity of them.

    Args:
        llr: Natural-log likelihood ratio that both are genuine photos of one person, against
            different people or a synthetic image, as mixed in the pairs of the fit; None where a
            face is missing.
        accepted: Whether a face was found in both photos and `llr` reaches the threshold.
        reason: Why, in words.
        threshold: The threshold on `llr`.
        similarity: The matcher's similarity, as given.
        comparison: The differential detector's log-odds that both photos are bona fide; 0 without
            one.
        synthetic_probability: The detector's probability of 'synthetic' for each photo, 0..1.
        status: How each face was acquired; `centre_crop` means that none was found.
        seconds: Wall-clock time of the call.
    """

    llr: float | None
    accepted: bool
    reason: str
    threshold: float
    similarity: float
    comparison: float
    synthetic_probability: tuple[float, float]
    status: tuple[str, str]
    seconds: float


@dataclass(frozen=True)
class MatcherGate:
    """Adds a run's evidence of forgery to the similarity of any matcher. `kryptonite.load_gate`
    makes one of a file that `kryptonite gate fit` wrote.

    Args:
        pipeline: The run; its detector and its differential detector are used, its recogniser's
            similarity is not.
        fuser: Fitted on the matcher's similarities.
        thresholds: Thresholds on the likelihood ratio by their names, such as `fmr=0.01`; the first
            is the default.
    """

    pipeline: Pipeline
    fuser: CalibratedFuser
    thresholds: Mapping[str, float]

    def score(
        self,
        similarity: float,
        photo_a: Path | str,
        photo_b: Path | str,
        threshold: str | None = None,
    ) -> GateScore:
        """Scores two photos.

        Args:
            similarity: The matcher's similarity of them, on the scale that the gate was fitted to.
            photo_a: Image file.
            photo_b: Image file.
            threshold: Name of a threshold; None takes the first.

        Raises:
            ImageReadError: A file cannot be read.
            DataError: The similarity is not finite.
            ConfigError: No threshold has this name.
        """
        name = next(iter(self.thresholds)) if threshold is None else threshold
        if name not in self.thresholds:
            raise ConfigError(f"no threshold {name!r}; choose from {', '.join(self.thresholds)}")
        least = self.thresholds[name]
        began = time.perf_counter()
        photos = [read_rgb(photo_a), read_rgb(photo_b)]
        faces, features = self.pipeline.extractor.from_images(photos)
        columns = pair_evidence(features, self.pipeline.differential, np.array([0]), np.array([1]))
        missing = [
            name
            for name, status in zip(("first", "second"), faces.status, strict=True)
            if status == CENTRE_CROP
        ]
        evidence = Evidence.of(
            {**columns, "similarity": np.array([similarity]), "acquired": np.array([not missing])}
        )
        llr = None if missing else float(self.fuser.score(evidence)[0])
        accepted = llr is not None and llr >= least
        first, second = (1 / (1 + np.exp(-features.log_odds.astype(np.float64)))).tolist()
        if missing:
            reason = f"refused: no face found in the {' and the '.join(missing)} photo"
        else:
            reason = "accepted" if accepted else "refused: the ratio is below the threshold"
        return GateScore(
            llr=llr,
            accepted=accepted,
            reason=reason,
            threshold=least,
            similarity=float(similarity),
            comparison=float(columns["comparison"][0]),
            synthetic_probability=(first, second),
            status=(faces.status[0], faces.status[1]),
            seconds=time.perf_counter() - began,
        )

    def score_pairs(self, pairs: pd.DataFrame) -> np.ndarray:
        """Scores many pairs, each distinct photo once.

        Args:
            pairs: Columns path_a, path_b and similarity (the matcher's); index 0..N-1.

        Returns:
            float64, N likelihood ratios; NaN where a photo cannot be read or shows no face.

        Raises:
            DataError: A similarity is not finite.
        """
        table = gate_evidence(self.pipeline, pairs)
        return np.where(table["acquired"], self.fuser.score(Evidence.of(table)), np.nan)


def gate_evidence(pipeline: Pipeline, pairs: pd.DataFrame) -> pd.DataFrame:
    """Computes a run's evidence on pairs and puts a matcher's similarity in place of the run's.

    Args:
        pipeline: The run.
        pairs: Columns path_a, path_b, similarity and any others; index 0..N-1.

    Returns:
        `pairs` with what `Pipeline.extract_pairs` adds.
    """
    table, _ = pipeline.extract_pairs(pairs.drop(columns="similarity"))
    return table.assign(similarity=pairs["similarity"])
