"""The usual way to score pairs, written plainly as the baseline of `benchmarks/throughput.py`.

Every pair's two photos are processed anew, one at a time: facenet-pytorch's MTCNN with its smallest face of 20 pixels, the float32 networks
of the run at a batch of one, then the run's own comparer and fusion. Networks, weights, templates and fusion are those of `pipeline.py`.
"""

from time import perf_counter

import cv2
import numpy as np
import pandas as pd
from facenet_pytorch import MTCNN

from benchmarks.stages import Stages
from common.images import decode_rgb, read_bytes
from common.inputs import Crops
from detection.aligner import centre, choose_face, leaves
from detection.warp import estimate_similarity, template_points, warp
from fusion.fuse import Evidence
from pipeline import Pipeline
from recognition.perception import Perception


class UsualPipeline:
    """Scores pairs one by one.

    Args:
        pipeline: Lends its networks, comparer and fusion; not its aligner nor its cache.
        padding: Look again in the padded photo where the face's box leaves the photo, as the aligner does and the usual way does not. For
            comparing errors: it is slower, and with it both see the same crops.
    """

    def __init__(self, pipeline: Pipeline, padding: bool = False):
        self._pipeline, self._padding = pipeline, padding
        self._mtcnn = MTCNN(min_face_size=20, keep_all=True, device=pipeline.recogniser.device)
        self.stages = Stages()  # of all calls

    def score(self, pairs: pd.DataFrame) -> np.ndarray:
        """Scores pairs of readable photos with columns path_a and path_b: float32, N."""
        return np.array([self._pair(pair.path_a, pair.path_b) for pair in pairs.itertuples()], np.float32)

    def _pair(self, *paths: str) -> float:
        (one, other), (odds_a, odds_b) = zip(*(self._look(path) for path in paths), strict=True)
        began = perf_counter()
        if isinstance(one, Perception):
            comparison = self._pipeline.compare(Perception.joined([one, other]), np.array([0]), np.array([1]))
            one, other = one.embeddings, other.embeddings
        else:
            comparison = np.zeros(1, np.float32)
        score = self._pipeline.judge.fuser.score(Evidence((one * other).sum(1), odds_a, odds_b, comparison))
        self._count("fuse", began)
        return float(score[0])

    def _look(self, path: str) -> tuple[np.ndarray | Perception, np.ndarray]:
        began = perf_counter()
        photo = decode_rgb(read_bytes(path), path)
        began = self._count("decode", began)
        points = self._landmarks(photo)
        began = self._count("detect", began)
        recogniser, detector = self._pipeline.recogniser, self._pipeline.detector
        crops = []
        for template in (recogniser.spec.template, detector.spec.template):
            matrix = estimate_similarity(points, template_points(template))
            crops.append(Crops(warp(photo, matrix, template.size)[None], template))
        began = self._count("align", began)
        seen = recogniser.perceive(crops[0]) if self._pipeline.comparer else recogniser.embed(crops[0])
        began = self._count("embed", began)
        log_odds = detector.log_odds(crops[1])
        self._count("detect synthetic", began)
        return seen, log_odds

    def _landmarks(self, photo: np.ndarray) -> np.ndarray:
        found = self._face(photo)
        if self._padding and (found is None or leaves(found[0], photo.shape)):
            shift = round(max(photo.shape[:2]) * self._pipeline.aligner.config.pad)
            padded = self._face(cv2.copyMakeBorder(photo, *[shift] * 4, cv2.BORDER_REPLICATE))
            found = found if padded is None else (padded[0] - shift, padded[1] - shift)
        return centre(photo)[1] if found is None else found[1]

    def _face(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Box and landmarks of the subject."""
        boxes, _, points = self._mtcnn.detect(photo, landmarks=True)
        if boxes is None:
            return None
        best = choose_face(boxes.astype(np.float32), photo.shape[:2])
        return boxes[best].astype(np.float32), points[best].astype(np.float32)

    def _count(self, stage: str, began: float) -> float:
        now = perf_counter()
        self.stages.seconds[stage] = self.stages.seconds.get(stage, 0.0) + now - began
        return now
