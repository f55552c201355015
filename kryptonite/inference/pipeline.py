"""The trained system in one object: score pairs, verify two images, write a submission, export the networks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from kryptonite.core.errors import DataError
from kryptonite.core.images import read_rgb
from kryptonite.data.layouts import load_test_pairs
from kryptonite.data.submission import write_submission
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.faces import CENTRE_CROP, UNREADABLE
from kryptonite.fusion.fuse import REFUSED, Evidence, Verifier, load_verifiers
from kryptonite.inference.extractor import FeatureExtractor, FeatureTable, ShardExecutor
from kryptonite.liveness.detector import LOG_ODDS, Detector
from kryptonite.nn.onnx_export import write_export
from kryptonite.recognition.differential.detector import DifferentialDetector, map_chunks
from kryptonite.recognition.differential.features import FeatureMaps
from kryptonite.recognition.recogniser import EMBEDDING, FEATURE_MAPS, Recogniser

PARTS = ("config.yaml", "recognition/model.json", "liveness/model.json", "fusion.json")
CHUNK = 512  # images whose crops are in memory at once


@dataclass(frozen=True)
class Verification:
    """Answer for two images.

    Args:
        score: Fused score, higher is 'accept'.
        accepted: Whether a face was found in both images and the score reaches the stored threshold.
        reason: Why, in words.
        threshold: The run's threshold, at the validation EER.
        similarity: Cosine of the two embeddings, -1..1.
        comparison: The comparer's log-odds that both are genuine; 0 where there is no comparer.
        synthetic_probability: Of each image, 0..1, at equal priors as the detector was trained.
        boxes: Face boxes x1, y1, x2, y2 in pixels of each image.
        status: How each face was acquired; `centre_crop` means that no face was found, and the pair is refused.
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
class SubmissionReport:
    """What went into a submission.

    Args:
        pairs: Number of rows written.
        images: Distinct images looked at.
        unreadable: Pairs with an unreadable image; columns pair_id, path_a, path_b. Their score is `fusion.fuse.REFUSED`.
        no_face: Pairs of readable images in which no face was found in one or both; likewise.
        failures_to_acquire: Distinct readable images in which no face was found.
        scores: The pairs with the columns of `fusion.fuse.EVIDENCE` and score.
    """

    pairs: int
    images: int
    unreadable: pd.DataFrame
    no_face: pd.DataFrame
    failures_to_acquire: int
    scores: pd.DataFrame


class Pipeline:
    """The two branches, the comparer and the judge.

    Args:
        recogniser: Aligned crops to embeddings.
        detector: Aligned crops to log-odds of 'synthetic'.
        aligner: Settings of the face detection.
        cache: Folder of the crop cache; safe to delete.
        comparer: FeatureTable at both photos of a pair together, through the recogniser or a network of its own; None does without.
        verifiers: Every fitted fusion with its threshold; none while training, when there is none yet.
        chosen: Which of them verifiers.
        spread: As `looks.FeatureExtractor.look`.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        detector: Detector,
        aligner: AlignerConfig,
        cache: Path,
        comparer: DifferentialDetector | None = None,
        verifiers: dict[str, Verifier] | None = None,
        chosen: str = "",
        spread: ShardExecutor | None = None,
    ):
        self.recogniser = recogniser
        self.detector = detector
        self.comparer = comparer
        self.verifiers = verifiers or {}
        self.chosen = chosen
        self.aligner = Aligner(
            aligner, list(dict.fromkeys([recogniser.spec.template, detector.spec.template]))
        )
        self.cache = FaceCache(cache, self.aligner)
        self.eyes = FeatureExtractor(
            recogniser, detector, self.cache, comparer and (comparer.network or recogniser)
        )
        self.spread = spread

    @classmethod
    def load(
        cls,
        run: Path | str,
        cache: Path | str = ".cache/crops",
        device: str = "auto",
        engine: str = "torch",
        spread: ShardExecutor | None = None,
    ) -> "Pipeline":
        """Loads a run's folder, as `train.py` leaves it.

        Args:
            run: The folder.
            cache: Folder of the crop cache.
            device: `auto`, `cpu` or `cuda`.
            engine: `torch`, `onnx` where `export.py` was run, or `auto`, as `nn.model.CropModel.load`.
            spread: As `looks.FeatureExtractor.look`.

        Raises:
            DataError: The folder holds no finished run.
            ConfigError, WeightsError: As `nn.model.CropModel.load`.
        """
        run = Path(run)
        missing = [part for part in PARTS if not (run / part).exists()]
        if missing:
            raise DataError(
                f"{run}: no finished run: {', '.join(missing)} missing; `python train.py` makes one"
            )
        chosen, verifiers = load_verifiers(run / "fusion.json")
        # The faces must be cut as they were in training; only the device is this machine's own business.
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        return cls(
            Recogniser.load(run / "recognition", device, engine),
            Detector.load(run / "liveness", device, engine),
            AlignerConfig(**{**config["aligner"], "device": device}),
            Path(cache),
            DifferentialDetector.load(run / "comparison", device, engine)
            if config["comparison"]["pairs"]
            else None,
            verifiers,
            chosen,
            spread,
        )

    @property
    def verifier(self) -> Verifier:
        """The fusion that verifiers, with its threshold."""
        return self.verifiers[self.chosen]

    def evidence(
        self, pairs: pd.DataFrame, progress: bool = True
    ) -> tuple[pd.DataFrame, FeatureTable]:
        """Gives `pairs` with key_a, key_b, the columns of `fusion.fuse.EVIDENCE`, readable (both images are images) and acquired (and both
        show a face), and the looks they came from."""
        # Pair by pair: a list that is continued then has the same shares at its start.
        looks = self.eyes.look(
            pairs[["path_a", "path_b"]].to_numpy().ravel(), progress, self.spread
        )
        seen = looks.seen
        a, b = looks.rows(pairs["path_a"]), looks.rows(pairs["path_b"])
        readable = (a >= 0) & (b >= 0)
        similarity, comparison = np.zeros((2, len(pairs)), np.float32)
        if readable.any():
            both = a[readable], b[readable]
            similarity[readable] = map_chunks(
                lambda one, other: (seen.embeddings[one] * seen.embeddings[other]).sum(1), *both
            )
            comparison[readable] = self.compare(seen.perception, *both)
        # The last row stands for what cannot be read: −1 finds it.
        keys, log_odds = np.append(seen.keys, ""), np.append(seen.log_odds, np.float32(0))
        found = np.append(seen.status != CENTRE_CROP, False)
        return pairs.assign(
            key_a=keys[a],
            key_b=keys[b],
            similarity=similarity,
            log_odds_a=log_odds[a],
            log_odds_b=log_odds[b],
            comparison=comparison,
            readable=readable,
            acquired=found[a] & found[b],
        ), looks

    def compare(self, seen: FeatureMaps | None, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """What the comparer says of pairs of rows of what was seen: float32, N; zeros, undecided, where there is no comparer."""
        return self.comparer(seen, a, b) if self.comparer else np.zeros(len(a), np.float32)

    def score_pairs(
        self, pairs: pd.DataFrame, progress: bool = True
    ) -> tuple[pd.DataFrame, FeatureTable]:
        """Adds `score` to what `evidence` gives; pairs without a face in both images get `fusion.fuse.REFUSED`, below every other."""
        scored, looks = self.evidence(pairs, progress)
        return scored.assign(score=self.verifier.fuser.score(Evidence.of(scored))), looks

    def verify(self, image_a: Path | str, image_b: Path | str) -> Verification:
        """Compares two image files.

        Raises:
            ImageReadError: One of them cannot be read.
        """
        began = time.perf_counter()
        faces = self.aligner([read_rgb(image_a), read_rgb(image_b)])
        embeddings, seen = self.eyes.see(faces.crops_for(self.recogniser.spec.template))
        log_odds = self.detector.log_odds(faces.crops_for(self.detector.spec.template))
        similarity = float(embeddings[0] @ embeddings[1])
        comparison = self.compare(seen, np.array([0]), np.array([1]))
        missing = [status == CENTRE_CROP for status in faces.status]
        evidence = Evidence(
            np.array([similarity]),
            log_odds[:1],
            log_odds[1:],
            comparison,
            np.array([not any(missing)]),
        )
        score = float(self.verifier.fuser.score(evidence)[0])
        accepted = score > REFUSED and score >= self.verifier.threshold
        probability = 1 / (1 + np.exp(-log_odds.astype(np.float64)))
        return Verification(
            score=score,
            accepted=accepted,
            reason=_reason(missing, accepted),
            threshold=self.verifier.threshold,
            similarity=similarity,
            comparison=float(comparison[0]),
            synthetic_probability=(float(probability[0]), float(probability[1])),
            boxes=(tuple(map(float, faces.boxes[0])), tuple(map(float, faces.boxes[1]))),
            status=(faces.status[0], faces.status[1]),
            seconds=time.perf_counter() - began,
        )

    def submit(self, data_root: Path | str, out: Path | str) -> SubmissionReport:
        """Scores every test pair of either layout and writes `submission.csv`."""
        pairs = load_test_pairs(data_root)
        scored, looks = self.score_pairs(pairs)
        write_submission(out, scored["pair_id"], scored["score"].to_numpy())
        return SubmissionReport(
            pairs=len(scored),
            images=len(looks.paths),
            unreadable=scored.loc[~scored["readable"], ["pair_id", "path_a", "path_b"]],
            no_face=scored.loc[
                scored["readable"] & ~scored["acquired"], ["pair_id", "path_a", "path_b"]
            ],
            failures_to_acquire=int(
                (looks.seen.status[looks.content[looks.content >= 0]] == CENTRE_CROP).sum()
            ),
            scores=scored,
        )

    def export(self) -> dict[str, float]:
        """Writes every network as ONNX beside its weights in the run this was loaded from, by PyTorch onto the CPU.

        Returns:
            By its folder in the run, the largest difference from PyTorch.

        Raises:
            ConfigError: It was not loaded so.
            WeightsError: An export differs from PyTorch by more than rounding; that one is not written.
        """
        perceiving = self.eyes.observer or self.recogniser
        found = {}
        for network in dict.fromkeys([self.recogniser, perceiving]):
            outputs = FEATURE_MAPS if network is self.eyes.observer else EMBEDDING
            found[network.folder.name] = write_export(
                network, outputs, {"channels": network.channels}
            )
        return {**found, "liveness": write_export(self.detector, [LOG_ODDS], {})}


def _reason(missing: Sequence[bool], accepted: bool) -> str:
    if any(missing):
        where = (
            "either image"
            if all(missing)
            else "the first image"
            if missing[0]
            else "the second image"
        )
        return f"refused: no face found in {where}"
    return "accepted" if accepted else "refused: the score is below the threshold"


def embed_photos(
    recogniser: Recogniser, cache: FaceCache, paths: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """FeatureTable at photos with the recogniser alone, without a comparer.

    Args:
        recogniser: Whose template the cache's aligner cuts.
        cache: The crops.
        paths: N image files.

    Returns:
        N bool, which of them can be read; and the embeddings of those, float32, unit length.

    Raises:
        DataError: None of them can be read.
    """
    faces = cache.ensure(list(paths))
    readable = (faces["status"] != UNREADABLE).to_numpy()
    keys = faces.loc[readable, "key"].tolist()
    if not keys:
        raise DataError(f"none of the {len(paths)} photos can be read")
    chunks = [keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK)]
    return readable, np.concatenate(
        [recogniser.embed(cache.read_batch(chunk, recogniser.spec.template)) for chunk in chunks]
    )
