"""MTCNN over batches: our cascade against facenet-pytorch's loop on the same photos: `python -m benchmarks.cascade PHOTOS [PHOTOS ...]`.

The photos must be of one size. Both run in turn, five rounds; prints the medians, their ratio and the largest difference of a landmark.
Then likewise the aligner with and without leaving out the finest levels, and how many faces that moves.
"""

import argparse
import statistics
import sys
import time
from unittest.mock import patch

import numpy as np
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils.detect_face import detect_face

from kryptonite.core.crops import CropTemplate
from kryptonite.core.images import read_rgb
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.cascade import Cascade
from kryptonite.detection.faces import AlignedFaces

BATCH, ROUNDS = 32, 5


def main() -> int:
    """Measures at the smallest faces of both passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+")
    photos = np.stack([read_rgb(path) for path in parser.parse_args().photos])
    batches = [photos[start : start + BATCH] for start in range(0, len(photos), BATCH)]
    cpu = torch.device("cpu")
    oracle, ours = MTCNN(keep_all=True), Cascade(cpu)

    @torch.inference_mode()
    def theirs(batch: np.ndarray, min_face: int) -> list[tuple[np.ndarray, np.ndarray]]:
        networks = oracle.pnet, oracle.rnet, oracle.onet
        boxes, points = detect_face(
            batch, min_face, *networks, oracle.thresholds, oracle.factor, cpu
        )
        return list(zip(boxes, points, strict=True))

    for min_face in (40, 20):
        seconds = {theirs: [], ours: []}
        found = {}
        for _ in range(ROUNDS):
            for way, taken in seconds.items():
                began = time.perf_counter()
                found[way] = [face for batch in batches for face in way(batch, min_face)]
                taken.append(time.perf_counter() - began)
        other, mine = (statistics.median(taken) for taken in seconds.values())
        pairs = list(zip(found[theirs], found[ours], strict=True))
        differing = sum(len(a) != len(b) for (a, _), (b, _) in pairs)
        apart = max(
            (
                np.abs(np.asarray(a, np.float32) - b).max(initial=0)
                for (_, a), (_, b) in pairs
                if len(a) == len(b)
            ),
            default=0,
        )
        print(
            f"min_face {min_face}: {len(photos)} photos of {photos.shape[1]}x{photos.shape[2]}, facenet-pytorch {len(photos) / other:.1f} "
            f"images/s, ours {len(photos) / mine:.1f}, ratio {other / mine:.2f}, other number of faces in {differing}, "
            f"landmarks apart {apart:.1e} pixels"
        )
    aligner = Aligner(AlignerConfig(device="cpu"), [CropTemplate()])

    def fast() -> AlignedFaces:
        return aligner(list(photos))

    def whole() -> AlignedFaces:
        with patch(
            "kryptonite.detection.aligner._LARGE", 0.01
        ):  # no level is too fine for a hundredth of the photo
            return aligner(list(photos))

    seconds, found = {whole: [], fast: []}, {}
    for _ in range(ROUNDS):
        for way, taken in seconds.items():
            began = time.perf_counter()
            found[way] = way()
            taken.append(time.perf_counter() - began)
    other, mine = (statistics.median(taken) for taken in seconds.values())
    moved = int((np.abs(found[whole].landmarks - found[fast].landmarks).max((1, 2)) > 0.01).sum())
    speeds = f"all levels {len(photos) / other:.1f} images/s, ours {len(photos) / mine:.1f}, ratio {other / mine:.2f}"
    print(f"aligner: {speeds}, faces moved {moved}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
