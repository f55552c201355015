"""Measure MTCNN over batches: our cascade against facenet-pytorch's loop on the same photos.

python -m benchmarks.cascade PHOTO [PHOTO ...]

The photos must all have one size. Both run in turn, five rounds; printed are the median speeds,
their ratio and the largest difference between landmarks. Then the same for the aligner with and
without skipping the pyramid's finest levels, and how many faces the skipping moves.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils.detect_face import detect_face

from kryptonite.cli.process import configure_process
from kryptonite.core.chunks import chunked
from kryptonite.core.crops import CropTemplate
from kryptonite.core.images import read_rgb
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.cascade import Cascade
from kryptonite.detection.faces import AlignedFaces

BATCH, ROUNDS = 32, 5
MIN_FACES = (40, 20)  # the aligner's first and second pass

Faces = list[tuple[np.ndarray, np.ndarray]]  # per photo, boxes and landmarks


def main() -> int:
    """Prints a line per smallest face, and one for the aligner."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO")
    photos = np.stack([read_rgb(path) for path in parser.parse_args().photos])
    compare_cascades(photos)
    # The commands run the aligner with this allocator; the loops above ran with the default one.
    configure_process()
    compare_levels(photos)
    return 0


def compare_cascades(photos: np.ndarray) -> None:
    """Prints speeds and differences of the two cascades.

    Args:
        photos: uint8 N×H×W×3, RGB.
    """
    cpu = torch.device("cpu")
    reference, ours = MTCNN(keep_all=True), Cascade(cpu)

    @torch.inference_mode()
    def theirs(batch: np.ndarray, min_face: int) -> Faces:
        networks = reference.pnet, reference.rnet, reference.onet
        boxes, points = detect_face(
            batch, min_face, *networks, reference.thresholds, reference.factor, cpu
        )
        return list(zip(boxes, points, strict=True))

    def over_all(cascade: Callable[[np.ndarray, int], Faces], min_face: int) -> Callable[[], Faces]:
        return lambda: [
            face for batch in chunked(photos, BATCH) for face in cascade(batch, min_face)
        ]

    for min_face in MIN_FACES:
        (their_seconds, expected), (our_seconds, found) = _alternate(
            over_all(theirs, min_face), over_all(ours, min_face)
        )
        pairs = list(zip(expected, found, strict=True))
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
            f"min_face {min_face}: {len(photos)} photos of {photos.shape[1]}x{photos.shape[2]}, "
            f"facenet-pytorch {len(photos) / their_seconds:.1f} images/s, "
            f"ours {len(photos) / our_seconds:.1f}, ratio {their_seconds / our_seconds:.2f}, "
            f"number of faces differs in {differing}, landmarks apart {apart:.1e} pixels"
        )


def compare_levels(photos: np.ndarray) -> None:
    """Prints what skipping the pyramid's finest levels gains the aligner.

    Args:
        photos: uint8 N×H×W×3, RGB.
    """
    aligner = Aligner(AlignerConfig(device="cpu"), [CropTemplate()])

    def skipping() -> AlignedFaces:
        return aligner(list(photos))

    def all_levels() -> AlignedFaces:
        # No level is too fine for a face of a hundredth of the photo.
        with patch("kryptonite.detection.aligner._LARGE", 0.01):
            return aligner(list(photos))

    (all_seconds, expected), (seconds, found) = _alternate(all_levels, skipping)
    moved = int((np.abs(expected.landmarks - found.landmarks).max((1, 2)) > 0.01).sum())
    print(
        f"aligner: all levels {len(photos) / all_seconds:.1f} images/s, "
        f"ours {len(photos) / seconds:.1f}, ratio {all_seconds / seconds:.2f}, "
        f"faces moved {moved}"
    )


def _alternate(*ways: Callable) -> list[tuple]:
    """Runs each way in turn, `ROUNDS` times; returns its median seconds and its last result."""
    seconds: list[list[float]] = [[] for _ in ways]
    results = [None] * len(ways)
    for _ in range(ROUNDS):
        for number, way in enumerate(ways):
            began = time.perf_counter()
            results[number] = way()
            seconds[number].append(time.perf_counter() - began)
    return list(zip(map(statistics.median, seconds), results, strict=True))


if __name__ == "__main__":
    sys.exit(main())
