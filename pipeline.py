"""The trained system in one object: look at each distinct image once, score pairs, verify two images, write a submission."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from common.errors import DataError
from common.images import read_rgb
from dataset.layouts import load_test_pairs
from dataset.submission import write_submission
from detection.aligner import Aligner, AlignerConfig
from detection.cache import FaceCache
from detection.faces import CENTRE_CROP, UNREADABLE
from fusion.fuse import Evidence, Judge, load_judges
from liveness.detector import Detector
from recognition.compare import Comparer
from recognition.perception import Perception
from recognition.recogniser import Recogniser

CHUNK = 512  # images whose crops are in memory at once


@dataclass(frozen=True)
class Looks:
    """What both branches saw in each of N distinct images.

    Args:
        paths: The images, in order.
        keys: Of the crop cache: equal for equal contents, empty where unreadable.
        status: How the face was acquired, N strings of `detection.faces`.
        boxes: float32 N×4, x1, y1, x2, y2 of the face in pixels of the image; NaN where unreadable.
        embeddings: float32 N×D, unit length; zeros where unreadable.
        log_odds: float32 N, log-odds of 'synthetic'; NaN where unreadable.
        content: N, row of `perception`; −1 where unreadable.
        perception: What the recogniser saw in every distinct content, for the comparer; None where there is none.
    """

    paths: pd.Index
    keys: np.ndarray
    status: np.ndarray
    boxes: np.ndarray
    embeddings: np.ndarray
    log_odds: np.ndarray
    content: np.ndarray
    perception: Perception | None


@dataclass(frozen=True)
class Verification:
    """Answer for two images.

    Args:
        score: Fused score, higher is 'accept'.
        accepted: Whether the score reaches the stored threshold.
        threshold: The run's threshold, at the validation EER.
        similarity: Cosine of the two embeddings, -1..1.
        comparison: The comparer's log-odds that both are genuine; 0 where there is no comparer.
        synthetic_probability: Of each image, 0..1, at equal priors as the detector was trained.
        boxes: Face boxes x1, y1, x2, y2 in pixels of each image.
        status: How each face was acquired; `centre_crop` means that no face was found.
        seconds: Wall-clock time of the call.
    """

    score: float
    accepted: bool
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
        unreadable: Pairs with an unreadable image, which got the lowest score; columns pair_id, path_a, path_b.
        failures_to_acquire: Distinct readable images in which no face was found; they were scored on a centre crop.
        scores: The pairs with the columns of `fusion.fuse.EVIDENCE` and score.
    """

    pairs: int
    images: int
    unreadable: pd.DataFrame
    failures_to_acquire: int
    scores: pd.DataFrame


class Pipeline:
    """The two branches, the comparer and the judge.

    Args:
        recogniser: Aligned crops to embeddings.
        detector: Aligned crops to log-odds of 'synthetic'.
        aligner: Settings of the face detection.
        cache: Folder of the crop cache; safe to delete.
        comparer: Looks at both photos of a pair together; None does without.
        judges: Every fitted fusion with its threshold; none while training, when there is none yet.
        chosen: Which of them judges.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        detector: Detector,
        aligner: AlignerConfig,
        cache: Path,
        comparer: Comparer | None = None,
        judges: dict[str, Judge] | None = None,
        chosen: str = "",
    ):
        self.recogniser = recogniser
        self.detector = detector
        self.comparer = comparer
        self.judges = judges or {}
        self.chosen = chosen
        self.aligner = Aligner(aligner, list(dict.fromkeys([recogniser.spec.template, detector.spec.template])))
        self.cache = FaceCache(cache, self.aligner)

    @classmethod
    def load(cls, run: Path | str, cache: Path | str = ".cache/crops", device: str = "auto") -> "Pipeline":
        """Loads a run's folder, as `train.py` leaves it.

        Raises:
            DataError: The folder holds no finished run.
        """
        run = Path(run)
        missing = [
            part for part in ("config.yaml", "recognition/model.json", "liveness/model.json", "fusion.json") if not (run / part).exists()
        ]
        if missing:
            raise DataError(f"{run}: no finished run: {', '.join(missing)} missing; `python train.py` makes one")
        chosen, judges = load_judges(run / "fusion.json")
        # The faces must be cut as they were in training; only the device is this machine's own business.
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        return cls(
            Recogniser.load(run / "recognition", device),
            Detector.load(run / "liveness", device),
            AlignerConfig(**{**config["aligner"], "device": device}),
            Path(cache),
            Comparer.load(run / "comparison") if config["comparison"]["pairs"] else None,
            judges,
            chosen,
        )

    @property
    def judge(self) -> Judge:
        """The fusion that judges, with its threshold."""
        return self.judges[self.chosen]

    def look(self, paths: Sequence[str], progress: bool = True) -> Looks:
        """Decodes every distinct path once; aligns, embeds and scores every distinct content once."""
        distinct = pd.Index(pd.unique(pd.Series(list(paths), dtype=object)))
        faces = self.cache.ensure(list(distinct), progress=progress)
        status = faces["status"].to_numpy()
        usable = np.flatnonzero(status != UNREADABLE)
        keys = faces["key"].to_numpy()
        embeddings, log_odds = None, np.full(len(distinct), np.nan, np.float32)
        perceived = []
        # One photo may lie under many names, as in pairs of folders; its content is looked at once.
        contents, content = np.unique(keys[usable].astype(str), return_inverse=True)
        for start in range(0, len(contents), CHUNK):
            chunk = contents[start : start + CHUNK].tolist()
            crops = self.cache.read_batch(chunk, self.recogniser.spec.template)
            if self.comparer is None:
                embedded = self.recogniser.embed(crops)
            else:
                perceived.append(self.recogniser.perceive(crops))
                embedded = perceived[-1].embeddings
            if embeddings is None:
                embeddings = np.zeros((len(distinct), embedded.shape[1]), np.float32)
            inside = (content >= start) & (content < start + CHUNK)
            rows, place = usable[inside], content[inside] - start
            embeddings[rows] = embedded[place]
            log_odds[rows] = self.detector.log_odds(self.cache.read_batch(chunk, self.detector.spec.template))[place]
        if embeddings is None:
            embeddings = np.zeros((len(distinct), 1), np.float32)
        boxes = faces[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
        row = np.full(len(distinct), -1)
        row[usable] = content
        perception = Perception.joined(perceived) if perceived else None
        return Looks(distinct, keys, status, boxes, embeddings, log_odds, row, perception)

    def evidence(self, pairs: pd.DataFrame, progress: bool = True) -> tuple[pd.DataFrame, Looks]:
        """Gives `pairs` with key_a, key_b, the columns of `fusion.fuse.EVIDENCE` and readable, and the looks they came from."""
        looks = self.look([*pairs["path_a"], *pairs["path_b"]], progress)
        a, b = looks.paths.get_indexer(pairs["path_a"]), looks.paths.get_indexer(pairs["path_b"])
        readable = (looks.status[a] != UNREADABLE) & (looks.status[b] != UNREADABLE)
        comparison = np.zeros(len(pairs), np.float32)
        if readable.any():
            comparison[readable] = self.compare(looks.perception, looks.content[a[readable]], looks.content[b[readable]])
        return pairs.assign(
            key_a=looks.keys[a],
            key_b=looks.keys[b],
            similarity=np.einsum("nd,nd->n", looks.embeddings[a], looks.embeddings[b]),
            log_odds_a=looks.log_odds[a],
            log_odds_b=looks.log_odds[b],
            comparison=comparison,
            readable=readable,
        ), looks

    def compare(self, seen: Perception | None, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """What the comparer says of pairs of rows of what was seen: float32, N; zeros, undecided, where there is no comparer."""
        return self.comparer(seen, a, b) if self.comparer else np.zeros(len(a), np.float32)

    def score_pairs(self, pairs: pd.DataFrame, progress: bool = True) -> tuple[pd.DataFrame, Looks]:
        """Adds `score` to what `evidence` gives; pairs with an unreadable image get a score below every other."""
        scored, looks = self.evidence(pairs, progress)
        readable = scored["readable"].to_numpy()
        score = np.zeros(len(scored), np.float32)
        if readable.any():
            score[readable] = self.judge.fuser.score(Evidence.of(scored[readable]))
            score[~readable] = score[readable].min() - 1
        return scored.assign(score=score), looks

    def verify(self, image_a: Path | str, image_b: Path | str) -> Verification:
        """Compares two image files.

        Raises:
            ImageReadError: One of them cannot be read.
        """
        began = time.perf_counter()
        faces = self.aligner([read_rgb(image_a), read_rgb(image_b)])
        seen = self.recogniser.perceive(faces.crops_for(self.recogniser.spec.template))
        log_odds = self.detector.log_odds(faces.crops_for(self.detector.spec.template))
        similarity = float(seen.embeddings[0] @ seen.embeddings[1])
        comparison = self.compare(seen, np.array([0]), np.array([1]))
        score = float(self.judge.fuser.score(Evidence(np.array([similarity]), log_odds[:1], log_odds[1:], comparison))[0])
        probability = 1 / (1 + np.exp(-log_odds.astype(np.float64)))
        return Verification(
            score=score,
            accepted=score >= self.judge.threshold,
            threshold=self.judge.threshold,
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
            failures_to_acquire=int((looks.status == CENTRE_CROP).sum()),
            scores=scored,
        )


def embed_photos(recogniser: Recogniser, cache: FaceCache, paths: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Looks at photos with the recogniser alone, without a comparer.

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
    return readable, np.concatenate([recogniser.embed(cache.read_batch(chunk, recogniser.spec.template)) for chunk in chunks])
