"""The trained system: a feature extractor and a verifier, for two images or a list of pairs."""

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from kryptonite.core.device import cpu_threads
from kryptonite.core.errors import ConfigError
from kryptonite.core.images import decoding, read_rgb
from kryptonite.core.quality import FaceQuality, measure_face
from kryptonite.detection.faces import CENTRE_CROP, AlignedFaces
from kryptonite.fusion.evidence import REFUSED, Evidence
from kryptonite.fusion.fusers import Fuser, Parts
from kryptonite.fusion.references import verifier_of
from kryptonite.fusion.verbal import SCALE, degree_of, in_words
from kryptonite.fusion.verifier import STORED, Verifier
from kryptonite.inference.evidence import extract_pairs, pair_evidence
from kryptonite.inference.extractor import CropFeatures, FeatureExtractor, FeatureTable
from kryptonite.inference.references import compare, compare_mutually
from kryptonite.inference.verdict import (
    ACCEPTED,
    CANNOT_SAY,
    REASON_OF_CANNOT_SAY,
    REASONS,
    REASONS_OF_REFERENCES,
    branch_of_refusal,
    code_of_missing,
    code_of_refusal,
    photo_of_refusal,
)
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


class OfPhotos:
    """What answers have in common that show what was found in photos.

    Attributes:
        photos: What was found in each photo.
    """

    photos: tuple[PhotoFacts, ...]

    @property
    def synthetic_probability(self) -> tuple[float, ...]:
        """The detector's probability of 'synthetic' for each photo, 0..1."""
        return tuple(photo.synthetic_probability for photo in self.photos)

    @property
    def status(self) -> tuple[str, ...]:
        """How each face was acquired; `centre_crop` means that none was found."""
        return tuple(photo.status for photo in self.photos)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the crops, JSON-able."""
        values = asdict(self)  # type: ignore[call-overload]
        for photo in values["photos"]:
            del photo["crop"]
        return values


@dataclass(frozen=True)
class Verification(OfPhotos):
    """The answer for two images, or for a probe and its references.

    Several references count as one image, a face of which was found if one was found in any.

    Args:
        score: Fused score, higher is 'accept'; `fusion.evidence.REFUSED` without a face in both.
        accepted: Whether a face was found in both images, the score reaches the threshold, and the
            decision is not withheld.
        code: Why, a key of `inference.verdict.REASONS`, or `cannot_say` for a withheld decision.
        reason: Why, in words.
        threshold: The score at which pairs are accepted.
        threshold_name: `stored`, at the false match rate of the run's configuration, or a name such
            as `fmr=0.001`.
        parts: What each branch says; None without a face in both, and where the fusion has no such
            parts.
        similarity: Cosine of the two embeddings, -1..1; of several references, of their mean.
        comparison: The differential detector's log-odds that both images are bona fide; 0 without
            one. Of several references, the mean.
        photos: What was found in each photo: first the probe, then its references.
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
    photos: tuple[PhotoFacts, ...]
    seconds: float

    @property
    def boxes(self) -> tuple[tuple[float, ...], ...]:
        """Face boxes x1, y1, x2, y2 in pixels of each image."""
        return tuple(photo.box for photo in self.photos)


@dataclass(frozen=True)
class Explanation:
    """Why two images are accepted or refused, as far as it was measured to be true.

    `benchmarks/evidence.py` measures it. A region of the face is not named: see docs/limits.md.

    Args:
        answer: The answer of `verify`.
        photo: 0 or 1, the photo that lowered the score of a pair refused as a forgery; None for
            other pairs.
        branch: Name of a field of `PairParts`, the branch that lowered the score of a refused pair
            most; None for accepted pairs, and without parts.
        llr: Natural-log likelihood ratio that both images are bona fide and show one person; None
            where the fusion is not calibrated or a face is missing.
        degree: How strong the support is that this gives, one of `fusion.verbal.DEGREES`; None
            likewise.
        support: The same in words; None likewise.
        scale: Whose words these are.
    """

    answer: Verification
    photo: int | None
    branch: str | None
    llr: float | None
    degree: str | None
    support: str | None
    scale: str = SCALE


@dataclass(frozen=True)
class References:
    """Photos of one person to compare probes with, extracted and compared with one another.

    Args:
        features: Features of the M distinct photos in which a face was found.
        mutual: float32, M×M; see `inference.references.compare_mutually`.
        photos: What was found in each photo, also in those without a face.
    """

    features: CropFeatures = field(repr=False)
    mutual: np.ndarray = field(repr=False)
    photos: tuple[PhotoFacts, ...]

    @property
    def count(self) -> int:
        """Number of distinct photos in which a face was found."""
        return len(self.mutual)


@dataclass(frozen=True)
class Pipeline:
    """Scores pairs of images. `kryptonite.load` makes one of a run's folder.

    Args:
        extractor: Extracts features of images.
        differential: Compares both photos of a pair; None does without.
        verifiers: Every fitted fusion with its threshold, by name.
        chosen: Name of the one that scores.
        several: The same one, calibrated for several references, by their number; empty in runs of
            older versions.
    """

    extractor: FeatureExtractor
    differential: DifferentialDetector | None
    verifiers: dict[str, Verifier]
    chosen: str
    several: Mapping[int, Verifier]

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

    def verify(
        self,
        image_a: Image,
        image_b: Image,
        threshold: str = STORED,
        cannot_say: bool = False,
    ) -> Verification:
        """Compares two images.

        Args:
            image_a: A file's path, its bytes, or the file itself, open for reading bytes.
            image_b: Likewise.
            threshold: Name of one of the verifier's thresholds.
            cannot_say: Whether to withhold a decision that is too uncertain.

        Raises:
            ImageReadError: An image cannot be read.
            ConfigError: There is no threshold of this name, or `cannot_say` and the run is too old
                to know what is too uncertain.
        """
        began = time.perf_counter()
        first, second = read_images((image_a, image_b))
        (answer,) = self.verify_many([(first, second)], [threshold], [cannot_say])
        return replace(answer, seconds=time.perf_counter() - began)

    def explain(self, image_a: Image, image_b: Image, threshold: str = STORED) -> Explanation:
        """Compares two images as `verify` does, and says what lowered the score.

        Args:
            image_a: A file's path, its bytes, or the file itself, open for reading bytes.
            image_b: Likewise.
            threshold: Name of one of the verifier's thresholds.

        Raises:
            ImageReadError: An image cannot be read.
            ConfigError: There is no threshold of this name.
        """
        return self.explain_answer(self.verify(image_a, image_b, threshold))

    def explain_answer(self, answer: Verification) -> Explanation:
        """Says what lowered the score of two images, without computing it again.

        Args:
            answer: This pipeline's, at any threshold, its decision not withheld. What is said was
                measured on pairs, so it must not be of several references.
        """
        llrs = self.verifier.fuser.llr(np.array([answer.score]))
        llr = None if llrs is None or answer.score <= REFUSED else float(llrs[0])
        return Explanation(
            answer=answer,
            photo=photo_of_refusal(answer.code, [photo.log_odds for photo in answer.photos]),
            branch=branch_of_refusal(answer.code, asdict(answer.parts) if answer.parts else {}),
            llr=llr,
            degree=None if llr is None else degree_of(llr),
            support=None if llr is None else in_words(llr),
        )

    def verify_many(
        self,
        pairs: Sequence[tuple[np.ndarray, np.ndarray]],
        thresholds: Sequence[str] | None = None,
        cannot_say: Sequence[bool] | None = None,
    ) -> list[Verification]:
        """Compares pairs of images in one batch; other pairs change an answer by rounding alone.

        Args:
            pairs: RGB uint8 H×W×3 arrays of any sizes.
            thresholds: Name of each pair's threshold; `stored` for all unless given.
            cannot_say: Whether to withhold each pair's decision if it is too uncertain; no decision
                is withheld unless given.

        Returns:
            One answer per pair; `seconds` is the time of the whole call.

        Raises:
            ConfigError: As `verify`.
        """
        began = time.perf_counter()
        names = [STORED] * len(pairs) if thresholds is None else thresholds
        withholds = [False] * len(pairs) if cannot_say is None else cannot_say
        for name, withhold in zip(names, withholds, strict=True):
            self.verifier.named(name)  # before seconds of work
            if withhold:
                self.verifier.surplus(np.zeros(0), name)
        if not pairs:
            return []
        images = [image for pair in pairs for image in pair]
        faces, features = self.extractor.from_images(images)
        rows = np.arange(len(images))
        columns = pair_evidence(features, self.differential, rows[::2], rows[1::2])
        photos = self.describe(images, faces, features.log_odds)
        missing = [photo.status == CENTRE_CROP for photo in photos]
        acquired = ~np.array(missing).reshape(-1, 2).any(1)
        evidence = Evidence.of({**columns, "acquired": acquired})
        answers = [
            _answer(
                self.verifier,
                evidence.rows(np.array([row])),
                (missing[2 * row], missing[2 * row + 1]),
                name,
                photos[2 * row : 2 * row + 2],
                REASONS,
            )
            for row, name in enumerate(names)
        ]
        answers = [
            _withhold(self.verifier, answer) if withhold else answer
            for answer, withhold in zip(answers, withholds, strict=True)
        ]
        return _timed(answers, began)

    def verify_references(
        self, probe: Image, references: Sequence[Image], threshold: str = STORED
    ) -> Verification:
        """Compares an image with several photos of the person it is claimed to show.

        With one reference, this is `verify`.

        Args:
            probe: A file's path, its bytes, or the file itself, open for reading bytes.
            references: Likewise, one or more.
            threshold: Name of one of the verifier's thresholds.

        Raises:
            ImageReadError: An image cannot be read.
            ConfigError: There is no reference, no threshold of this name, or the run is not
                calibrated for several references.
        """
        began = time.perf_counter()
        if not references:
            raise ConfigError("a probe needs at least one reference")
        if len(references) == 1:
            return self.verify(probe, references[0], threshold)
        verifier_of(len(references), self.verifier, self.several).named(threshold)
        image, *others = read_images((probe, *references))
        (answer,) = self.verify_enrolled([(image, self.enrol(others))], [threshold])
        return replace(answer, seconds=time.perf_counter() - began)

    def enrol(self, images: Sequence[np.ndarray]) -> References:
        """Extracts the references of one person once, for any number of probes.

        An image that comes more than once counts once: it adds no evidence, and agrees with itself.

        Args:
            images: RGB uint8 H×W×3 arrays of any sizes, one or more.
        """
        faces, features = self.extractor.from_images(images)
        photos = self.describe(images, faces, features.log_odds)
        found = np.flatnonzero(
            [
                photo.status != CENTRE_CROP
                and not any(np.array_equal(image, other) for other in images[:row])
                for row, (photo, image) in enumerate(zip(photos, images, strict=True))
            ]
        )
        mutual = compare_mutually(features, self.differential, found[None])[0]
        return References(features.rows(found), mutual, tuple(photos))

    def verify_enrolled(
        self,
        claims: Sequence[tuple[np.ndarray, References]],
        thresholds: Sequence[str] | None = None,
    ) -> list[Verification]:
        """Compares probes with references in one batch.

        Args:
            claims: Probes, RGB uint8 H×W×3 arrays of any sizes, and what `enrol` returned.
            thresholds: Name of each probe's threshold; `stored` for all unless given.

        Returns:
            One answer per probe; `seconds` is the time of the whole call.

        Raises:
            ConfigError: There is no threshold of this name, or the run is not calibrated for
                several references.
        """
        began = time.perf_counter()
        names = [STORED] * len(claims) if thresholds is None else thresholds
        verifiers = [
            verifier_of(references.count or 1, self.verifier, self.several)
            for _, references in claims
        ]
        for verifier, name in zip(verifiers, names, strict=True):
            verifier.named(name)  # before seconds of work
        if not claims:
            return []
        images = [image for image, _ in claims]
        faces, features = self.extractor.from_images(images)
        photos = self.describe(images, faces, features.log_odds)
        answers = []
        for row, (_, references) in enumerate(claims):
            missing = photos[row].status == CENTRE_CROP, not references.count
            evidence = self.pool(features.rows(np.array([row])), references)
            evidence = replace(evidence, acquired=np.array([not any(missing)]))
            seen = [photos[row], *references.photos]
            answers.append(
                _answer(verifiers[row], evidence, missing, names[row], seen, REASONS_OF_REFERENCES)
            )
        return _timed(answers, began)

    def pool(self, probe: CropFeatures, references: References) -> Evidence:
        """Pools the evidence on one probe and its references, as if every face had been found."""
        if not references.count:
            return Evidence(np.zeros(1), probe.log_odds, probe.log_odds)
        compared = compare(
            CropFeatures.joined([probe, references.features]),
            self.differential,
            np.array([0]),
            np.arange(1, references.count + 1)[None],
            references.mutual[None],
        )
        return compared.pooled()

    def inspect(self, images: Sequence[np.ndarray]) -> list[PhotoFacts]:
        """Looks at single images, by the synthetic-image detector alone.

        Args:
            images: RGB uint8 H×W×3 arrays of any sizes.
        """
        if not images:
            return []
        faces = self.extractor.cache.aligner(images)
        detector = self.extractor.detector
        return self.describe(
            images, faces, detector.log_odds(faces.crops_for(detector.spec.template))
        )

    def describe(
        self, images: Sequence[np.ndarray], faces: AlignedFaces, log_odds: np.ndarray
    ) -> list[PhotoFacts]:
        """Describes what was found in images.

        Args:
            images: RGB uint8 H×W×3 arrays of any sizes.
            faces: Found in them.
            log_odds: N, the detector's log-odds of 'synthetic'.
        """
        crops = faces.crops_for(self.extractor.recogniser.spec.template).pixels
        return [
            PhotoFacts(
                width=image.shape[1],
                height=image.shape[0],
                status=faces.status[row],
                box=tuple(faces.boxes[row].tolist()),
                landmarks=tuple((x, y) for x, y in faces.landmarks[row].tolist()),
                log_odds=float(log_odds[row]),
                # As scipy.special.expit, whose import would slow every cold start.
                synthetic_probability=math.exp(-np.logaddexp(0, -np.float64(log_odds[row]))),
                quality=measure_face(crops[row], faces.boxes[row], faces.landmarks[row]),
                crop=crops[row],
            )
            for row, image in enumerate(images)
        ]


def read_images(images: Sequence[Image]) -> list[np.ndarray]:
    """Reads and decodes images, as many at a time as memory allows; see `core.images.read_rgb`."""

    def read(image: Image) -> np.ndarray:
        with decoding(image) if isinstance(image, (str, Path)) else nullcontext():
            return read_rgb(image)

    with ThreadPoolExecutor(cpu_threads()) as threads:
        return list(threads.map(read, images))


def _answer(
    verifier: Verifier,
    evidence: Evidence,
    missing: tuple[bool, bool],
    threshold: str,
    photos: Sequence[PhotoFacts],
    reasons: Mapping[str, str],
) -> Verification:
    """Decides on one pair.

    Args:
        verifier: Scores it.
        evidence: On this pair.
        missing: Whether no face was found in the first and in the second photo.
        threshold: Name of one of the verifier's thresholds.
        photos: What was found in them.
        reasons: Codes in words.
    """
    score, limit = verifier.fuser.score(evidence)[0], verifier.named(threshold)
    code = code_of_missing(missing)
    if code is None:
        code = ACCEPTED if score >= limit else code_of_refusal(verifier.fuser, evidence)
    return Verification(
        score=float(score),
        accepted=code == ACCEPTED,
        code=code,
        reason=reasons[code],
        threshold=limit,
        threshold_name=threshold,
        parts=_parts(verifier.fuser, evidence),
        similarity=float(evidence.similarity[0]),
        comparison=float(evidence.comparison[0]),
        photos=tuple(photos),
        seconds=0.0,
    )


def _withhold(verifier: Verifier, answer: Verification) -> Verification:
    """Says 'cannot say' in place of an answer that is too uncertain."""
    if verifier.surplus(np.array([answer.score]), answer.threshold_name)[0] >= 0:
        return answer
    return replace(answer, accepted=False, code=CANNOT_SAY, reason=REASON_OF_CANNOT_SAY)


def _timed(answers: list[Verification], began: float) -> list[Verification]:
    seconds = time.perf_counter() - began
    return [replace(answer, seconds=seconds) for answer in answers]


def _parts(fuser: Fuser, evidence: Evidence) -> PairParts | None:
    """What each branch says of one pair."""
    parts = fuser.parts(evidence) if evidence.acquired[0] else None
    if parts is None:
        return None
    return PairParts(**{each.name: float(getattr(parts, each.name)[0]) for each in fields(Parts)})
