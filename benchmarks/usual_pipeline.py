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
from kryptonite.core.crops import Crops
from kryptonite.core.images import decode_rgb, read_bytes
from kryptonite.detection.aligner import centre, choose_face, leaves
from kryptonite.detection.warp import estimate_similarity, template_points, warp
from kryptonite.fusion.fuse import Evidence
from kryptonite.inference.pipeline import Pipeline
from kryptonite.recognition.differential.features import FeatureMaps


class UsualPipeline:
    """Scores pairs one by one.

    Args:
        pipeline: Lends its networks, comparer and fusion; not its aligner nor its cache.
        passes: Look for the face in the aligner's passes (two smallest sizes, then in the padded photo where its box leaves the photo),
            still one photo at a time by facenet-pytorch. For comparing errors: with it both see the same crops of photos that are not
            shrunk for the search.
    """

    def __init__(self, pipeline: Pipeline, passes: bool = False):
        self._pipeline, self._passes = pipeline, passes
        self._mtcnn = MTCNN(keep_all=True, device=pipeline.recogniser.device)
        self.stages = Stages()  # of all calls

    def score(self, pairs: pd.DataFrame) -> np.ndarray:
        """Scores pairs of readable photos with columns path_a and path_b: float32, N."""
        return np.array(
            [self._pair(pair.path_a, pair.path_b) for pair in pairs.itertuples()], np.float32
        )

    def _pair(self, *paths: str) -> float:
        (one, other), perceptions, (odds_a, odds_b) = zip(
            *(self._look(path) for path in paths), strict=True
        )
        began = perf_counter()
        seen = FeatureMaps.joined(perceptions) if self._pipeline.comparer else None
        comparison = self._pipeline.compare(seen, np.array([0]), np.array([1]))
        score = self._pipeline.verifier.fuser.score(
            Evidence((one * other).sum(1), odds_a, odds_b, comparison)
        )
        self._count("fuse", began)
        return float(score[0])

    def _look(self, path: str) -> tuple[np.ndarray, FeatureMaps | None, np.ndarray]:
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
        embedding, perception = self._pipeline.eyes.see(crops[0])
        began = self._count("embed", began)
        log_odds = detector.log_odds(crops[1])
        self._count("detect synthetic", began)
        return embedding, perception, log_odds

    def _landmarks(self, photo: np.ndarray) -> np.ndarray:
        config = self._pipeline.aligner.config
        if not self._passes:
            found = self._face(photo, 20)
        else:
            found = self._face(photo, config.min_face) or self._face(photo, config.retry_min_face)
            if found is None or leaves(found[0], photo.shape):
                shift = round(max(photo.shape[:2]) * config.pad)
                padded = cv2.copyMakeBorder(photo, *[shift] * 4, cv2.BORDER_REPLICATE)
                smallest = (
                    max(config.min_face, min(padded.shape[:2]) // 4)
                    if found
                    else config.retry_min_face
                )
                whole = self._face(padded, smallest, shift)
                found = whole or found
        return found[1] if found else centre(photo)[1]

    def _face(
        self, photo: np.ndarray, min_face: int, shift: int = 0
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Box and landmarks of the subject; `shift` pixels on each side are padding."""
        self._mtcnn.min_face_size = min_face
        boxes, _, points = self._mtcnn.detect(photo, landmarks=True)
        if boxes is None:
            return None
        boxes, points = boxes.astype(np.float32) - shift, points.astype(np.float32) - shift
        best = choose_face(boxes, (photo.shape[0] - 2 * shift, photo.shape[1] - 2 * shift))
        return boxes[best], points[best]

    def _count(self, stage: str, began: float) -> float:
        now = perf_counter()
        self.stages.add(stage, now - began)
        return now
