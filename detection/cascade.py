"""MTCNN's three networks over a batch of images of one size (Zhang et al. 2016).

Networks and box arithmetic come from facenet-pytorch. Its own loop resizes one candidate at a time,
which takes most of its time, and fails on batches in which an image has no face. Here all
candidates of an image, and its pyramid, are averaged from one summed-area table, which gives the
same pixels and the same faces.
"""

from pathlib import Path

import cv2
import facenet_pytorch
import numpy as np
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils.detect_face import bbreg, generateBoundingBox, rerec
from torch.nn.functional import pad
from torchvision.ops.boxes import batched_nms

from kryptonite.core.pinned import check_pinned
from kryptonite.detection.boxes import CELL, SIDES, suppress_contained

# Candidates per forward pass. On the CPU, with 512 the last network allocates blocks of 140 MB of
# varying size, which fragment the heap; a GPU waits for launches when there are fewer.
_BATCH, _GPU_BATCH = 64, 512


class Cascade:
    """Finds all faces in images of one size.

    Args:
        device: Runs the networks.

    Raises:
        WeightsError: The networks' weights are not those of the pinned package.
    """

    def __init__(self, device: torch.device):
        self._networks, self._thresholds, self.factor = load_networks(device)
        self._device = device
        self._batch = _BATCH if device.type == "cpu" else _GPU_BATCH

    @torch.inference_mode()
    def __call__(
        self, images: np.ndarray, min_face: int, skip: int = 0
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Detects the faces in each image.

        Args:
            images: uint8, N×H×W×3, RGB.
            min_face: Smallest face in pixels; determines the levels of the pyramid.
            skip: Number of levels to skip, starting with the finest.

        Returns:
            The M faces of each image: float32 M×5, x1, y1, x2, y2 in pixels and confidence 0..1;
            float32 M×5×2, landmarks in pixels.
        """
        sums = SumTables(images, self._device)
        boxes, rows = sums.inside(*self._proposals(sums, min_face, skip))
        points = torch.zeros((0, 5, 2), device=self._device)
        if len(boxes):
            boxes, rows = sums.inside(*self._refined(sums, boxes, rows))
        if len(boxes):
            boxes, rows, points = self._final(sums, boxes, rows)
        found = [tensor.cpu().numpy() for tensor in (boxes, rows, points)]
        return [
            tuple(values[found[1] == row].astype(np.float32) for values in (found[0], found[2]))
            for row in range(len(images))
        ]

    def _proposals(
        self, sums: "SumTables", min_face: int, skip: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs the first network on a pyramid.

        Returns:
            Square boxes, M×5, and the image of each, M; empty if `min_face` exceeds the images.
        """
        height, width = sums.shape
        parts = [
            (
                torch.zeros((0, 9), device=self._device),
                torch.zeros(0, dtype=torch.long, device=self._device),
            )
        ]
        scale = CELL / min_face * self.factor**skip
        while min(height, width) * scale >= CELL:
            small = sums.shrunk(int(height * scale + 1), int(width * scale + 1))
            regression, probability = self._networks[0](_normalised(small))
            boxes, rows = generateBoundingBox(
                regression, probability[:, 1], scale, self._thresholds[0]
            )
            kept = _suppress_overlapping(boxes, rows, 0.5)
            parts.append((boxes[kept], rows[kept]))
            scale *= self.factor
        boxes, rows = (torch.cat(part) for part in zip(*parts, strict=True))
        kept = _suppress_overlapping(boxes, rows, 0.7)
        boxes, rows = boxes[kept], rows[kept]
        sides = (boxes[:, 2:4] - boxes[:, :2]).repeat(1, 2)
        return rerec(torch.cat([boxes[:, :4] + boxes[:, 5:9] * sides, boxes[:, 4:5]], 1)), rows

    def _refined(
        self, sums: "SumTables", boxes: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs the second network: drops boxes and moves the others."""
        boxes, rows, _, regression = self._passed(1, sums, boxes, rows)
        kept = _suppress_overlapping(boxes, rows, 0.7)
        return rerec(bbreg(boxes[kept], regression[kept])), rows[kept]

    def _final(
        self, sums: "SumTables", boxes: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Runs the third network: gives boxes, the image of each, and landmarks."""
        boxes, rows, log_odds, regression, points = self._passed(2, sums, boxes, rows)
        sides = (boxes[:, 2:4] - boxes[:, :2] + 1)[:, None]
        points = points.view(-1, 2, 5).permute(0, 2, 1) * sides + boxes[:, None, :2] - 1
        boxes = bbreg(boxes, regression)
        kept = torch.from_numpy(
            suppress_contained(
                *(values.cpu().numpy() for values in (boxes[:, :4], log_odds, rows)), 0.7
            )
        ).to(self._device)
        return boxes[kept], rows[kept], points[kept]

    def _passed(
        self, stage: int, sums: "SumTables", boxes: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Runs a network on boxes cut from the images and keeps those above its threshold.

        Returns:
            Boxes with the network's probability of a face, the image of each, the log-odds of a
            face, and the network's other outputs.
        """
        parts = [
            self._networks[stage](_normalised(sums.crops(*part, SIDES[stage])))
            for part in zip(boxes.split(self._batch), rows.split(self._batch), strict=True)
        ]
        *outputs, logits = (torch.cat(part) for part in zip(*parts, strict=True))
        score = logits.softmax(1)[:, 1]
        passed = score > self._thresholds[stage]
        return (
            torch.cat([boxes[passed, :4], score[passed, None]], 1),
            rows[passed],
            (logits[:, 1] - logits[:, 0])[passed],
            *(output[passed] for output in outputs),
        )


def load_networks(
    device: torch.device,
) -> tuple[list[torch.nn.Module], list[float], float]:
    """Loads MTCNN: its three networks, their thresholds, and the pyramid's factor.

    The last outputs of the second and the third network are logits.

    Raises:
        WeightsError: The networks' weights are not those of the pinned package.
    """
    # facenet-pytorch reads these files itself, from beside its code.
    data = Path(facenet_pytorch.__file__).parent / "data"
    for network in ("pnet", "rnet", "onet"):
        check_pinned("facenet_pytorch", data / f"{network}.pt")
    mtcnn = MTCNN(keep_all=True, device=device)
    # A large face's boxes have probabilities so close to 1 that one face in several hundred has
    # two equal ones in float32. Log-odds still tell them apart.
    mtcnn.rnet.softmax5_1 = mtcnn.onet.softmax6_1 = torch.nn.Identity()
    networks = [
        network.to(memory_format=torch.channels_last)
        for network in (mtcnn.pnet, mtcnn.rnet, mtcnn.onet)
    ]
    return networks, mtcnn.thresholds, mtcnn.factor


class SumTables:
    """Averages over rectangles of images, from summed-area tables (Crow 1984).

    The averages equal those of `interpolate(mode="area")`.

    Args:
        images: uint8, N×H×W×3.
        device: Holds the tables and the averages.
    """

    def __init__(self, images: np.ndarray, device: torch.device):
        self.shape = images.shape[1:3]
        self._device = device
        if device.type == "cpu":
            sums = np.empty((len(images), self.shape[0] + 1, self.shape[1] + 1, 3), np.int32)
            for table, image in zip(sums, images, strict=True):
                cv2.integral(image, table)
            self._sums = torch.from_numpy(sums)
        else:  # a table has four times the bytes of its image, which would all be carried over
            pixels = torch.from_numpy(images).to(device)
            lines = pad(pixels, (0, 0, 1, 0, 1, 0)).cumsum(1, dtype=torch.int32)
            self._sums = lines.cumsum(2, dtype=torch.int32)

    def shrunk(self, height: int, width: int) -> torch.Tensor:
        """Shrinks all images to one size: float32 N×3×height×width in 0..255."""
        start = torch.zeros(1, dtype=torch.long, device=self._device)
        (top, bottom), (left, right) = (
            _bins(start, start + side, number)
            for side, number in zip(self.shape, (height, width), strict=True)
        )
        # All images have the same bins: taking whole lines first, then columns, needs fewer
        # look-ups.
        bands = self._sums.index_select(1, bottom[0]).sub_(self._sums.index_select(1, top[0]))
        total = bands.index_select(2, right[0]).sub_(bands.index_select(2, left[0]))
        area = (bottom - top)[0, :, None] * (right - left)[0]
        return (total / area[:, :, None]).permute(0, 3, 1, 2)

    def inside(self, boxes: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Drops boxes that lie entirely outside their image.

        Args:
            boxes: M×5.
            rows: M, the image of each box.
        """
        left, top, right, bottom = self._edges(boxes)
        whole = (right > left) & (bottom > top)
        return boxes[whole], rows[whole]

    def crops(self, boxes: torch.Tensor, rows: torch.Tensor, side: int) -> torch.Tensor:
        """Cuts boxes from images and averages them down (or repeats pixels up) to one size.

        Args:
            boxes: M×5, clipped to the image; none may lie entirely outside.
            rows: M, the image of each box.
            side: Side of the crops in pixels.

        Returns:
            float32, M×3×side×side in 0..255.
        """
        left, top, right, bottom = self._edges(boxes)
        lines, columns = _bins(top, bottom, side), _bins(left, right, side)
        # Addresses the images as one tall image.
        first = (rows * (self.shape[0] + 1)).int()[:, None]
        crops = self._averages(tuple(edge + first for edge in lines), columns)
        return crops.permute(0, 3, 1, 2)

    def _edges(self, boxes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """First column and line within the image, and those after the last, M each."""
        height, width = self.shape
        # 1-based, the last pixel included.
        left, top, right, bottom = boxes[:, :4].trunc().long().unbind(1)
        return (
            left.clamp(min=1) - 1,
            top.clamp(min=1) - 1,
            right.clamp(max=width),
            bottom.clamp(max=height),
        )

    def _averages(
        self, lines: tuple[torch.Tensor, torch.Tensor], columns: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Averages over rectangles between lines of the tall image and columns.

        Args:
            lines: First and last edges, M×h each.
            columns: First and last edges, M×w each.

        Returns:
            float32, M×h×w×3.
        """
        (top, bottom), (left, right) = lines, columns
        upper, lower = ((edge * (self.shape[1] + 1))[:, :, None] for edge in (top, bottom))
        places = [
            lower + right[:, None],
            upper + right[:, None],
            lower + left[:, None],
            upper + left[:, None],
        ]
        sums = self._sums.view(-1, 3)
        total, *others = (sums.index_select(0, place.flatten()) for place in places)
        total = total.sub_(others[0]).sub_(others[1]).add_(others[2]).view(*places[0].shape, 3)
        return total / ((bottom - top)[:, :, None] * (right - left)[:, None])[..., None]


def _suppress_overlapping(
    boxes: torch.Tensor, rows: torch.Tensor, threshold: float
) -> torch.Tensor:
    """Non-maximum suppression within each image.

    Args:
        boxes: M×(5 or more), x1, y1, x2, y2 and the score.
        rows: M, the image of each box.
        threshold: Largest intersection over union of two boxes that stay.

    Returns:
        Indices of the boxes that stay, by falling score, equal ones in the order of the boxes.
    """
    # `batched_nms` moves each image's boxes by an offset that depends on the batch, which rounds
    # nothing in float64, and leaves the order of equal scores open.
    exact = boxes[:, :5].double()
    kept = batched_nms(exact[:, :4], exact[:, 4], rows, threshold).sort().values
    return kept[boxes[kept, 4].argsort(descending=True, stable=True)]


def _bins(start: torch.Tensor, end: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First pixel, and pixel after the last, of `number` bins between `start` and `end`.

    Neighbouring bins may share a pixel.
    """
    steps = torch.arange(number, device=start.device)
    length, start = (end - start)[:, None], start[:, None]
    return (start + steps * length // number).int(), (
        start + -(-(steps + 1) * length // number)
    ).int()


def _normalised(images: torch.Tensor) -> torch.Tensor:
    return (images - 127.5) * 0.0078125
