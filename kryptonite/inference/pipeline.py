"""The trained system: a feature extractor and a verifier, for two images or a list of pairs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kryptonite.core.images import read_rgb
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.fusion.evidence import REFUSED, Evidence
from kryptonite.fusion.verifier import Verifier
from kryptonite.inference.evidence import extract_pairs, pair_evidence
from kryptonite.inference.extractor import FeatureExtractor, FeatureTable
from kryptonite.recognition.differential.detector import DifferentialDetector


@dataclass(frozen=True)
class Verification:
    """The answer for two images.

    Args:
        score: Fused score, higher is 'accept'; `fusion.evidence.REFUSED` without a face in both.
        accepted: Whether a face was found in both images and the score reaches the threshold.
        reason: Why, in words.
        threshold: The run's stored threshold, at the false match rate of its configuration.
        similarity: Cosine of the two embeddings, -1..1.
        comparison: The differential detector's log-odds that both images are bona fide; 0 without
            one.
        synthetic_probability: Probability of 'synthetic' for each image, 0..1, at the equal priors
            the detector was trained with.
        boxes: Face boxes x1, y1, x2, y2 in pixels of each image.
        status: How each face was acquired; `centre_crop` means that none was found.
        seconds: Wall-clock time of the call.
    """

    score: float
    accepted: bool
    reason: str
    threshold: float
    similarity: float
    comparison: float
    synthetic_probability: tuple[float, float]
    boxes: tuple[tuple[float, ...], tuple[float, ...]]
    status: tuple[str, str]
    seconds: float


@dataclass(frozen=True)
class Pipeline:
    """Scores pairs of images. `kryptonite.load` makes one of a run's folder.

    Args:
        extractor: Extracts features of images.
        differential: Compares both photos of a pair; None does without.
        verifiers: Every fitted fusion with its threshold, by name.
        chosen: Name of the one that scores.
    """

    extractor: FeatureExtractor
    differential: DifferentialDetector | None
    verifiers: dict[str, Verifier]
    chosen: str

    @property
    def verifier(self) -> Verifier:
        """The fusion that scores, with its threshold."""
        return self.verifiers[self.chosen]

    def extract_pairs(
        self, pairs: pd.DataFrame, progress: bool = True
    ) -> tuple[pd.DataFrame, FeatureTable]:
        """Computes the evidence on a list of pairs; see `inference.evidence.extract_pairs`."""
        return extract_pairs(self.extractor, self.differential, pairs, progress)

    def score_pairs(
        self, pairs: pd.DataFrame, progress: bool = True
    ) -> tuple[pd.DataFrame, FeatureTable]:
        """Adds `score` to what `extract_pairs` gives.

        Pairs without a face in both images get `fusion.evidence.REFUSED`, below every other score.
        """
        scored, table = self.extract_pairs(pairs, progress)
        return scored.assign(score=self.verifier.fuser.score(Evidence.of(scored))), table

    def verify(self, image_a: Path | str, image_b: Path | str) -> Verification:
        """Compares two image files.

        Raises:
            ImageReadError: A file cannot be read.
        """
        began = time.perf_counter()
        faces, features = self.extractor.from_images([read_rgb(image_a), read_rgb(image_b)])
        columns = pair_evidence(features, self.differential, np.array([0]), np.array([1]))
        missing = [status == CENTRE_CROP for status in faces.status]
        evidence = Evidence.of({**columns, "acquired": np.array([not any(missing)])})
        score = float(self.verifier.fuser.score(evidence)[0])
        accepted = score > REFUSED and score >= self.verifier.threshold
        first, second = (1 / (1 + np.exp(-features.log_odds.astype(np.float64)))).tolist()
        box_a, box_b = (tuple(map(float, box)) for box in faces.boxes)
        return Verification(
            score=score,
            accepted=accepted,
            reason=_reason(missing, accepted),
            threshold=self.verifier.threshold,
            similarity=float(columns["similarity"][0]),
            comparison=float(columns["comparison"][0]),
            synthetic_probability=(first, second),
            boxes=(box_a, box_b),
            status=(faces.status[0], faces.status[1]),
            seconds=time.perf_counter() - began,
        )


def _reason(missing: Sequence[bool], accepted: bool) -> str:
    if all(missing):
        return "refused: no face found in either image"
    if any(missing):
        return f"refused: no face found in the {'first' if missing[0] else 'second'} image"
    return "accepted" if accepted else "refused: the score is below the threshold"
