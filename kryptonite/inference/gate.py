"""A spoof check around any face matcher: its similarity and both photos give a likelihood ratio."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from kryptonite.core.errors import ConfigError
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.matcher import CalibratedFuser
from kryptonite.inference.evidence import pair_evidence
from kryptonite.inference.pipeline import Image, OfPhotos, PhotoFacts, Pipeline, read_images
from kryptonite.inference.verdict import (
    ACCEPTED,
    BELOW_THRESHOLD,
    REASONS_OF_GATE,
    code_of_missing,
)


@dataclass(frozen=True)
class GateScore(OfPhotos):
    """The answer for two photos and a matcher's similarity of them.

    Args:
        llr: Natural-log likelihood ratio that both are genuine photos of one person, against
            different people or a synthetic image, as mixed in the pairs of the fit; None where a
            face is missing.
        accepted: Whether a face was found in both photos and `llr` reaches the threshold.
        code: Why, a key of `inference.verdict.REASONS_OF_GATE`.
        reason: Why, in words.
        threshold: The threshold on `llr`.
        threshold_name: Its name.
        similarity: The matcher's similarity, as given.
        comparison: The differential detector's log-odds that both photos are bona fide; 0 without
            one.
        photos: What was found in each photo.
        seconds: Wall-clock time of the call.
    """

    llr: float | None
    accepted: bool
    code: str
    reason: str
    threshold: float
    threshold_name: str
    similarity: float
    comparison: float
    photos: tuple[PhotoFacts, PhotoFacts]
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
        self, similarity: float, photo_a: Image, photo_b: Image, threshold: str | None = None
    ) -> GateScore:
        """Scores two photos.

        Args:
            similarity: The matcher's similarity of them, on the scale that the gate was fitted to.
            photo_a: A file's path, its bytes, or the file itself, open for reading bytes.
            photo_b: Likewise.
            threshold: Name of a threshold; None takes the first.

        Raises:
            ImageReadError: A photo cannot be read.
            DataError: The similarity is not finite.
            ConfigError: No threshold has this name.
        """
        began = time.perf_counter()
        name = next(iter(self.thresholds)) if threshold is None else threshold
        self._named(name)  # before the photos are read
        first, second = read_images((photo_a, photo_b))
        (answer,) = self.score_many([similarity], [(first, second)], [name])
        return replace(answer, seconds=time.perf_counter() - began)

    def score_many(
        self,
        similarities: Sequence[float],
        pairs: Sequence[tuple[np.ndarray, np.ndarray]],
        thresholds: Sequence[str],
    ) -> list[GateScore]:
        """Scores pairs of photos in one batch; other pairs change a ratio by rounding alone.

        Args:
            similarities: The matcher's, of each pair.
            pairs: RGB uint8 H×W×3 arrays of any sizes.
            thresholds: Name of each pair's threshold.

        Returns:
            One answer per pair; `seconds` is the time of the whole call.

        Raises:
            DataError: A similarity is not finite.
            ConfigError: No threshold has this name.
        """
        began = time.perf_counter()
        limits = [self._named(name) for name in thresholds]
        if not pairs:
            return []
        images = [image for pair in pairs for image in pair]
        faces, features = self.pipeline.extractor.from_images(images)
        photos = self.pipeline.describe(images, faces, features.log_odds)
        rows = np.arange(len(images))
        columns = pair_evidence(features, self.pipeline.differential, rows[::2], rows[1::2])
        missing = np.array([photo.status == CENTRE_CROP for photo in photos]).reshape(-1, 2)
        matched = {"similarity": np.array(similarities), "acquired": ~missing.any(1)}
        llrs = self.fuser.score(Evidence.of({**columns, **matched}))
        answers = []
        for row, (llr, limit) in enumerate(zip(llrs.tolist(), limits, strict=True)):
            lacking = code_of_missing(missing[row].tolist())
            code = lacking or (ACCEPTED if llr >= limit else BELOW_THRESHOLD)
            answers.append(
                GateScore(
                    llr=None if lacking else llr,
                    accepted=code == ACCEPTED,
                    code=code,
                    reason=REASONS_OF_GATE[code],
                    threshold=limit,
                    threshold_name=thresholds[row],
                    similarity=float(similarities[row]),
                    comparison=float(columns["comparison"][row]),
                    photos=(photos[2 * row], photos[2 * row + 1]),
                    seconds=0.0,
                )
            )
        seconds = time.perf_counter() - began
        return [replace(answer, seconds=seconds) for answer in answers]

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

    def _named(self, threshold: str) -> float:
        if threshold not in self.thresholds:
            raise ConfigError(
                f"no threshold {threshold!r}; choose from {', '.join(self.thresholds)}"
            )
        return self.thresholds[threshold]


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
