"""The trained system: a feature extractor and a verifier, for two images or a list of pairs."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from scipy.special import expit

from kryptonite.core.images import read_rgb
from kryptonite.core.quality import FaceQuality, measure_face
from kryptonite.detection.faces import CENTRE_CROP, AlignedFaces
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import Fuser, Parts
from kryptonite.fusion.verifier import STORED, Verifier
from kryptonite.inference.evidence import extract_pairs, pair_evidence
from kryptonite.inference.extractor import FeatureExtractor, FeatureTable
from kryptonite.inference.verdict import ACCEPTED, REASONS, code_of_missing, code_of_refusal
from kryptonite.recognition.differential.detector import DifferentialDetector

Image = Path | str | bytes | BinaryIO


@dataclass(frozen=True)
class PhotoFacts:
    """What was found in one photo.

    Without a face, everything but the size is that of the photo's central square.

    Args:
        width: Of the upright photo, in pixels.
        height: Likewise.
        status: How the face was acquired, a constant of `detection.faces`; `centre_crop` means that
            none was found.
        box: x1, y1, x2, y2 of the face in pixels of the photo.
        landmarks: x and y of left eye, right eye, nose, left and right mouth corner, from the
            viewer's side, in pixels of the photo.
        log_odds: Log-odds of 'synthetic' at the equal priors the detector was trained with.
        synthetic_probability: The same as a probability, 0..1.
        quality: Measured on the aligned face.
        crop: uint8, S×S×3, RGB: the face as the recogniser gets it.
    """

    width: int
    height: int
    status: str
    box: tuple[float, ...]
    landmarks: tuple[tuple[float, float], ...]
    log_odds: float
    synthetic_probability: float
    quality: FaceQuality
    crop: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class PairParts:
    """What each branch says of a pair, in natural-log likelihood ratios; see `fusers.Parts`."""

    recognition: float
    detector: float
    similarity: float
    differential_detector: float


@dataclass(frozen=True)
class Verification:
    """The answer for two images.

    Args:
        score: Fused score, higher is 'accept'; `fusion.evidence.REFUSED` without a face in both.
        accepted: Whether a face was found in both images and the score reaches the threshold.
        code: Why, a key of `inference.verdict.REASONS`.
        reason: Why, in words.
        threshold: The score at which pairs are accepted.
        threshold_name: `stored`, at the false match rate of the run's configuration, or a name such
            as `fmr=0.001`.
        parts: What each branch says; None without a face in both, and where the fusion has no such
            parts.
        similarity: Cosine of the two embeddings, -1..1.
        comparison: The differential detector's log-odds that both images are bona fide; 0 without
            one.
        photos: What was found in each photo.
        seconds: Wall-clock time of the call.
    """

    score: float
    accepted: bool
    code: str
    reason: str
    threshold: float
    threshold_name: str
    parts: PairParts | None
    similarity: float
    comparison: float
    photos: tuple[PhotoFacts, PhotoFacts]
    seconds: float

    @property
    def synthetic_probability(self) -> tuple[float, float]:
        """Probability of 'synthetic' for each image, 0..1."""
        return self.photos[0].synthetic_probability, self.photos[1].synthetic_probability

    @property
    def boxes(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Face boxes x1, y1, x2, y2 in pixels of each image."""
        return self.photos[0].box, self.photos[1].box

    @property
    def status(self) -> tuple[str, str]:
        """How each face was acquired."""
        return self.photos[0].status, self.photos[1].status

    def as_dict(self) -> dict[str, Any]:
        """Everything but the crops, JSON-able."""
        values = asdict(self)
        for photo in values["photos"]:
            del photo["crop"]
        return values


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

    def verify(self, image_a: Image, image_b: Image, threshold: str = STORED) -> Verification:
        """Compares two images.

        Args:
            image_a: A file's path, its bytes, or the file itself, open for reading bytes.
            image_b: Likewise.
            threshold: Name of one of the verifier's thresholds.

        Raises:
            ImageReadError: An image cannot be read.
            ConfigError: There is no threshold of this name.
        """
        began = time.perf_counter()
        (answer,) = self.verify_many([(read_rgb(image_a), read_rgb(image_b))], [threshold])
        return replace(answer, seconds=time.perf_counter() - began)

    def verify_many(
        self,
        pairs: Sequence[tuple[np.ndarray, np.ndarray]],
        thresholds: Sequence[str] | None = None,
    ) -> list[Verification]:
        """Compares pairs of images in one batch; other pairs change an answer by rounding alone.

        Args:
            pairs: RGB uint8 H×W×3 arrays of any sizes.
            thresholds: Name of each pair's threshold; `stored` for all unless given.

        Returns:
            One answer per pair; `seconds` is the time of the whole call.

        Raises:
            ConfigError: There is no threshold of this name.
        """
        began = time.perf_counter()
        names = [STORED] * len(pairs) if thresholds is None else thresholds
        limits = [self.verifier.named(name) for name in names]
        if not pairs:
            return []
        images = [image for pair in pairs for image in pair]
        faces, features = self.extractor.from_images(images)
        rows = np.arange(len(images))
        columns = pair_evidence(features, self.differential, rows[::2], rows[1::2])
        photos = self._photos(images, faces, features.log_odds)
        missing = [photo.status == CENTRE_CROP for photo in photos]
        acquired = ~np.array(missing).reshape(-1, 2).any(1)
        evidence = Evidence.of({**columns, "acquired": acquired})
        scores = self.verifier.fuser.score(evidence)
        answers = []
        for row, (score, limit, name) in enumerate(zip(scores, limits, names, strict=True)):
            one, sides = evidence.rows(np.array([row])), slice(2 * row, 2 * row + 2)
            code = code_of_missing(missing[sides])
            if code is None:
                accepted = score >= limit
                code = ACCEPTED if accepted else code_of_refusal(self.verifier.fuser, one)
            answers.append(
                Verification(
                    score=float(score),
                    accepted=code == ACCEPTED,
                    code=code,
                    reason=REASONS[code],
                    threshold=limit,
                    threshold_name=name,
                    parts=_parts(self.verifier.fuser, one),
                    similarity=float(columns["similarity"][row]),
                    comparison=float(columns["comparison"][row]),
                    photos=(photos[2 * row], photos[2 * row + 1]),
                    seconds=time.perf_counter() - began,
                )
            )
        return answers

    def inspect(self, images: Sequence[np.ndarray]) -> list[PhotoFacts]:
        """Looks at single images, by the synthetic-image detector alone.

        Args:
            images: RGB uint8 H×W×3 arrays of any sizes.
        """
        if not images:
            return []
        faces = self.extractor.cache.aligner(images)
        detector = self.extractor.detector
        return self._photos(
            images, faces, detector.log_odds(faces.crops_for(detector.spec.template))
        )

    def _photos(
        self, images: Sequence[np.ndarray], faces: AlignedFaces, log_odds: np.ndarray
    ) -> list[PhotoFacts]:
        crops = faces.crops_for(self.extractor.recogniser.spec.template).pixels
        return [
            PhotoFacts(
                width=image.shape[1],
                height=image.shape[0],
                status=faces.status[row],
                box=tuple(faces.boxes[row].tolist()),
                landmarks=tuple((x, y) for x, y in faces.landmarks[row].tolist()),
                log_odds=float(log_odds[row]),
                synthetic_probability=float(expit(np.float64(log_odds[row]))),
                quality=measure_face(crops[row], faces.boxes[row], faces.landmarks[row]),
                crop=crops[row],
            )
            for row, image in enumerate(images)
        ]


def _parts(fuser: Fuser, evidence: Evidence) -> PairParts | None:
    """What each branch says of one pair."""
    parts = fuser.parts(evidence) if evidence.acquired[0] else None
    if parts is None:
        return None
    return PairParts(**{each.name: float(getattr(parts, each.name)[0]) for each in fields(Parts)})
