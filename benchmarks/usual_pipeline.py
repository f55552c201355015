"""The usual way to score pairs, written plainly: the baseline of `benchmarks/throughput.py`.

Each pair's two photos are processed anew, one at a time: facenet-pytorch's MTCNN with a smallest
face of 20 pixels, the run's float32 networks at a batch of one, then the run's own differential
detector and fusion. Networks, weights, templates and fusion are those of
`kryptonite.inference.pipeline`.
"""

from time import perf_counter

import cv2
import numpy as np
import pandas as pd
from facenet_pytorch import MTCNN

from benchmarks.stages import Stages
from kryptonite.core.crops import Crops
from kryptonite.core.images import decode_rgb, read_bytes
from kryptonite.detection.aligner import centre, choose_face, leaves, settled
from kryptonite.detection.warp import estimate_similarity, template_points, warp
from kryptonite.fusion.evidence import Evidence
from kryptonite.inference.evidence import pair_evidence
from kryptonite.inference.extractor import CropFeatures
from kryptonite.inference.pipeline import Pipeline
from kryptonite.recognition.differential.maps import FeatureMaps


class UsualPipeline:
    """Scores pairs one by one.

    Args:
        pipeline: Provides networks, differential detector and fusion, but not its aligner and not
            its cache.
        passes: Searches for the face in the aligner's passes: with its two smallest sizes, then in
            the padded photo where the box leaves the photo; and rounds landmarks as it does. It
            still does so one photo at a time with facenet-pytorch. This is for comparing errors:
            both pipelines then see the same crops of photos that are not shrunk for the search.

    Attributes:
        stages: Seconds by stage over all calls.
    """

    def __init__(self, pipeline: Pipeline, passes: bool = False):
        self._pipeline, self._passes = pipeline, passes
        self._mtcnn = MTCNN(keep_all=True, device=pipeline.extractor.recogniser.device)
        self.stages = Stages()

    def score(self, pairs: pd.DataFrame) -> np.ndarray:
        """Scores pairs of readable photos: float32, N.

        Args:
            pairs: Columns path_a, path_b; N rows.
        """
        return np.array(
            [self._pair(pair.path_a, pair.path_b) for pair in pairs.itertuples()], np.float32
        )

    def _pair(self, *paths: str) -> float:
        embeddings, maps, log_odds = zip(*(self._extract(path) for path in paths), strict=True)
        began = perf_counter()
        differential = self._pipeline.differential
        joined = FeatureMaps.joined(maps) if differential else None
        features = CropFeatures(np.concatenate(embeddings), np.concatenate(log_odds), joined)
        evidence = pair_evidence(features, differential, np.array([0]), np.array([1]))
        score = self._pipeline.verifier.fuser.score(Evidence.of(evidence))
        self._count("fuse", began)
        return float(score[0])

    def _extract(self, path: str) -> tuple[np.ndarray, FeatureMaps | None, np.ndarray]:
        began = perf_counter()
        photo = decode_rgb(read_bytes(path), path)
        began = self._count("decode", began)
        points = self._landmarks(photo)
        began = self._count("detect", began)
        extractor = self._pipeline.extractor
        crops = []
        for template in (extractor.recogniser.spec.template, extractor.detector.spec.template):
            matrix = estimate_similarity(points, template_points(template))
            crops.append(Crops(warp(photo, matrix, template.size)[None], template))
        began = self._count("align", began)
        embedding, maps = extractor.embed(crops[0])
        began = self._count("embed", began)
        log_odds = extractor.detector.log_odds(crops[1])
        self._count("detect synthetic", began)
        return embedding, maps, log_odds

    def _landmarks(self, photo: np.ndarray) -> np.ndarray:
        config = self._pipeline.extractor.cache.aligner.config
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
        points = found[1] if found else centre(photo)[1]
        return settled(points) if self._passes else points

    def _face(
        self, photo: np.ndarray, min_face: int, shift: int = 0
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Finds the subject's box and landmarks; `shift` pixels on each side are padding."""
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
