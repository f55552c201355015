"""MTCNN's cascade by numpy and ONNX Runtime: what `detection.cascade` finds, without torch.

torch and torchvision take most of a cold start, and on a CPU these small networks run faster in
ONNX Runtime. `detection.mtcnn_export` writes the networks.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from kryptonite.core.errors import WeightsError
from kryptonite.core.pinned import PINNED
from kryptonite.detection.boxes import CELL, SIDES, suppress_contained

if TYPE_CHECKING:  # imported where an export is opened
    import onnxruntime

NETWORKS = ("pnet", "rnet", "onet")
INPUT_NAME = "images"  # float32 N×h×w×3, RGB, 0..255
THRESHOLDS = (0.6, 0.7, 0.7)  # probability of a face that each network asks for
FACTOR = 0.709  # from one level of the pyramid to the next
_BATCH = 16  # candidates cut and passed at a time: more do not fit the processor's cache
_SLACK = 1e-6  # boxes that overlap by exactly the threshold both stay, as in torchvision


def has_cascade(folder: Path) -> bool:
    """Whether a folder holds all three exports."""
    return all((folder / f"{name}.onnx").is_file() for name in NETWORKS)


class OnnxCascade:
    """Finds all faces in images of one size, on one core; several threads may call it at a time.

    Args:
        folder: Holds the exported networks.

    Raises:
        WeightsError: An export is missing, damaged, or made from other weights.
    """

    factor = FACTOR

    def __init__(self, folder: Path):
        self._sessions = [_open(folder / f"{name}.onnx") for name in NETWORKS]

    def __call__(
        self, images: np.ndarray, min_face: int, skip: int = 0
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Detects the faces in each image; as `detection.cascade.Cascade`."""
        sums = _SumTables(images)
        boxes, rows = self._proposals(sums, min_face, skip)
        points = np.zeros((0, 5, 2), np.float32)
        if len(boxes):
            boxes, rows, _, regression = self._passed(1, sums, boxes, rows)
            kept = _suppress_overlapping(boxes, rows, 0.7)
            boxes, rows = _squared(_moved(boxes[kept], regression[kept])), rows[kept]
        if len(boxes):
            boxes, rows, log_odds, regression, points = self._passed(2, sums, boxes, rows)
            sides = (boxes[:, 2:4] - boxes[:, :2] + 1)[:, None]
            points = points.reshape(-1, 2, 5).transpose(0, 2, 1) * sides + boxes[:, None, :2] - 1
            boxes = _moved(boxes, regression)
            kept = suppress_contained(boxes[:, :4], log_odds, rows, 0.7)
            boxes, rows, points = boxes[kept], rows[kept], points[kept]
        return [(boxes[rows == row], points[rows == row]) for row in range(len(images))]

    def _proposals(
        self, sums: "_SumTables", min_face: int, skip: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Runs the first network on a pyramid: square boxes, M×5, and the image of each, M."""
        height, width = sums.shape
        parts = [(np.zeros((0, 9), np.float32), np.zeros(0, np.int64))]
        scale = CELL / min_face * self.factor**skip
        while min(height, width) * scale >= CELL:
            small = sums.shrunk(int(height * scale + 1), int(width * scale + 1))
            regression, probability = self._sessions[0].run(None, {INPUT_NAME: small})
            boxes, rows = _candidates(regression, probability[:, 1], scale)
            kept = _suppress_overlapping(boxes, rows, 0.5)
            parts.append((boxes[kept], rows[kept]))
            scale *= self.factor
        boxes, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
        kept = _suppress_overlapping(boxes, rows, 0.7)
        boxes, rows = boxes[kept], rows[kept]
        sides = np.tile(boxes[:, 2:4] - boxes[:, :2], 2)
        return _squared(np.hstack([boxes[:, :4] + boxes[:, 5:9] * sides, boxes[:, 4:5]])), rows

    def _passed(
        self, stage: int, sums: "_SumTables", boxes: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Runs a network on boxes cut from the images and keeps those above its threshold.

        Returns:
            Boxes with the network's probability of a face, the image of each, the log-odds of a
            face, and the network's other outputs.
        """
        parts = []
        for start in range(0, len(boxes), _BATCH):
            batch = slice(start, start + _BATCH)
            *whole, crops = sums.crops(boxes[batch], rows[batch], SIDES[stage])
            parts.append([*whole, *self._sessions[stage].run(None, {INPUT_NAME: crops})])
        boxes, rows, *outputs, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
        log_odds = logits[:, 1] - logits[:, 0]
        with np.errstate(over="ignore"):
            score = 1 / (1 + np.exp(-log_odds))
        passed = score > THRESHOLDS[stage]
        return (
            np.hstack([boxes[passed, :4], score[passed, None]]),
            rows[passed],
            log_odds[passed],
            *(output[passed] for output in outputs),
        )


class _SumTables:
    """Averages over rectangles of images, as `detection.cascade.SumTables`.

    Args:
        images: uint8, N×H×W×3.
    """

    def __init__(self, images: np.ndarray):
        self.shape = images.shape[1:3]
        self._sums = np.empty((len(images), self.shape[0] + 1, self.shape[1] + 1, 3), np.int32)
        for table, image in zip(self._sums, images, strict=True):
            cv2.integral(image, table)

    def shrunk(self, height: int, width: int) -> np.ndarray:
        """Shrinks all images to one size: float32 N×height×width×3 in 0..255."""
        start = np.zeros(1, np.int64)
        (top, bottom), (left, right) = (
            _bins(start, start + side, number)
            for side, number in zip(self.shape, (height, width), strict=True)
        )
        bands = self._sums.take(bottom[0], 1) - self._sums.take(top[0], 1)
        total = bands.take(right[0], 2) - bands.take(left[0], 2)
        area = (bottom - top)[0, :, None] * (right - left)[0]
        return total.astype(np.float32) / area[:, :, None].astype(np.float32)

    def crops(
        self, boxes: np.ndarray, rows: np.ndarray, side: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cuts boxes, clipped to the image, and averages them to one size.

        Returns:
            The boxes not entirely outside, their rows, and crops, float32 K×side×side×3 in 0..255.
        """
        height, width = self.shape
        # 1-based, the last pixel included.
        left, top, right, bottom = boxes[:, :4].astype(np.int64).T
        left, top = np.maximum(left, 1) - 1, np.maximum(top, 1) - 1
        right, bottom = np.minimum(right, width), np.minimum(bottom, height)
        whole = (right > left) & (bottom > top)
        boxes, rows = boxes[whole], rows[whole]
        upper, lower = _bins(top[whole], bottom[whole], side)
        before, after = _bins(left[whole], right[whole], side)
        area = (lower - upper)[:, :, None] * (after - before)[:, None]
        first = rows[:, None] * (height + 1)  # addresses the images as one tall image
        upper, lower = (((edge + first) * (width + 1))[:, :, None] for edge in (upper, lower))
        before, after = before[:, None], after[:, None]
        sums = self._sums.reshape(-1, 3)
        total = sums.take(lower + after, 0)
        total -= sums.take(upper + after, 0)
        total -= sums.take(lower + before, 0)
        total += sums.take(upper + before, 0)
        return boxes, rows, total.astype(np.float32) / area[..., None].astype(np.float32)


def _open(file: Path) -> "onnxruntime.InferenceSession":
    """Opens an exported network.

    Raises:
        WeightsError: It is missing, damaged, or made from other weights.
    """
    import onnxruntime

    again = "`kryptonite export` writes it again"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more gain little, and each core gets photos of its own
    try:
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        facts = json.loads(session.get_modelmeta().custom_metadata_map["facts"])
        weights = facts["weights_sha256"]
    except Exception as error:  # ONNX Runtime's exceptions share no public base
        raise WeightsError(f"{file}: not a valid export ({error}); {again}") from error
    if weights != PINNED[f"facenet_pytorch/{file.stem}.pt"]:
        raise WeightsError(f"{file}: exported from other weights; {again}")
    return session


def _candidates(
    regression: np.ndarray, probability: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of the first network's cells: float32 M×9 (box, score, regression), and images, M."""
    rows, line, column = np.nonzero(probability >= np.float32(THRESHOLDS[0]))
    corner = np.stack([column, line], 1).astype(np.float32) * 2
    return (
        np.hstack(
            [
                np.floor((corner + 1) / np.float32(scale)),
                np.floor((corner + CELL) / np.float32(scale)),
                probability[rows, line, column, None],
                regression[rows, :, line, column],
            ]
        ),
        rows,
    )


def _moved(boxes: np.ndarray, regression: np.ndarray) -> np.ndarray:
    """Moves each edge by a fraction of the box's side."""
    sides = np.tile(boxes[:, 2:4] - boxes[:, :2] + 1, 2)
    return np.hstack([boxes[:, :4] + regression * sides, boxes[:, 4:]])


def _squared(boxes: np.ndarray) -> np.ndarray:
    """Grows the shorter side of each box to the longer, about its centre."""
    sides = boxes[:, 2:4] - boxes[:, :2]
    longest = sides.max(1, keepdims=True)
    corner = boxes[:, :2] + sides * np.float32(0.5) - longest * np.float32(0.5)
    return np.hstack([corner, corner + longest, boxes[:, 4:]])


def _suppress_overlapping(boxes: np.ndarray, rows: np.ndarray, threshold: float) -> np.ndarray:
    """Non-maximum suppression within each image: indices of the boxes that stay."""
    exact = boxes[:, :5].astype(np.float64)
    exact[:, 2:4] -= exact[:, :2]  # left, top, width, height
    kept = []
    for row in np.unique(rows):
        mine = np.flatnonzero(rows == row)
        chosen = cv2.dnn.NMSBoxes(exact[mine, :4], exact[mine, 4], 0.0, threshold + _SLACK)
        kept.append(mine[np.asarray(chosen, np.int64).ravel()])
    return np.concatenate(kept) if kept else np.zeros(0, np.int64)


def _bins(start: np.ndarray, end: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel, and pixel after the last, of `number` bins; neighbours may share a pixel."""
    steps = np.arange(number)
    length, start = (end - start)[:, None], start[:, None]
    return start + steps * length // number, start + -(-(steps + 1) * length // number)
