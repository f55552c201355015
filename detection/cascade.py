"""MTCNN's three networks over a batch of equal images (Zhang et al. 2016), with the networks and the box arithmetic of facenet-pytorch.

facenet-pytorch's own loop resizes candidate after candidate, which is most of its time, and fails on batches in which some image has no
face. Here all candidates of an image, and its pyramid, are averaged from one table of sums: the same pixels, the same faces.
"""

import cv2
import numpy as np
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils.detect_face import (
    batched_nms_numpy,
    bbreg,
    generateBoundingBox,
    rerec,
)
from torchvision.ops.boxes import batched_nms

_CELL = 12  # pixels that the first network sees at once
_BATCH = 64  # candidates at a time; of 512 the last network makes blocks of 140 MB, each of another size, which cut up the heap


class Cascade:
    """Finds all faces in images of one size.

    Args:
        device: Where it runs.
    """

    def __init__(self, device: torch.device):
        mtcnn = MTCNN(keep_all=True, device=device)
        self._networks = [
            network.to(memory_format=torch.channels_last)
            for network in (mtcnn.pnet, mtcnn.rnet, mtcnn.onet)
        ]
        self._thresholds, self._device = mtcnn.thresholds, device
        self.factor = mtcnn.factor  # from one level of the pyramid to the next

    @torch.inference_mode()
    def __call__(
        self, images: np.ndarray, min_face: int, skip: int = 0
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Detects.

        Args:
            images: uint8, N×H×W×3, RGB.
            min_face: Smallest face in pixels; decides the levels of the pyramid.
            skip: Levels left out, those of the smallest faces first.

        Returns:
            Of each image its M faces: float32 M×5, x1, y1, x2, y2 in pixels and confidence 0..1; float32 M×5×2 landmarks in pixels.
        """
        sums = SumTables(images, self._device)
        boxes, rows, crops = sums.crops(*self._proposals(sums, min_face, skip), 24)
        points = torch.zeros((0, 5, 2), device=self._device)
        if len(boxes):
            boxes, rows, crops = sums.crops(*self._refined(boxes, rows, crops), 48)
        if len(boxes):
            boxes, rows, points = self._final(boxes, rows, crops)
        found = [tensor.cpu().numpy() for tensor in (boxes, rows, points)]
        return [
            tuple(values[found[1] == row].astype(np.float32) for values in (found[0], found[2]))
            for row in range(len(images))
        ]

    def _proposals(
        self, sums: "SumTables", min_face: int, skip: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """First network, on a pyramid: square boxes M×5 and the image each is from; none where faces would be larger than the images."""
        height, width = sums.shape
        parts = [
            (
                torch.zeros((0, 9), device=self._device),
                torch.zeros(0, dtype=torch.long, device=self._device),
            )
        ]
        scale = _CELL / min_face * self.factor**skip
        while min(height, width) * scale >= _CELL:
            small = sums.shrunk(int(height * scale + 1), int(width * scale + 1))
            regression, probability = self._networks[0](_normalised(small))
            boxes, rows = generateBoundingBox(
                regression, probability[:, 1], scale, self._thresholds[0]
            )
            kept = batched_nms(boxes[:, :4], boxes[:, 4], rows, 0.5)
            parts.append((boxes[kept], rows[kept]))
            scale *= self.factor
        boxes, rows = (torch.cat(part) for part in zip(*parts, strict=True))
        kept = batched_nms(boxes[:, :4], boxes[:, 4], rows, 0.7)
        boxes, rows = boxes[kept], rows[kept]
        sides = (boxes[:, 2:4] - boxes[:, :2]).repeat(1, 2)
        return rerec(torch.cat([boxes[:, :4] + boxes[:, 5:9] * sides, boxes[:, 4:5]], 1)), rows

    def _refined(
        self, boxes: torch.Tensor, rows: torch.Tensor, crops: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Second network: those boxes that hold up, moved."""
        boxes, rows, regression = self._passed(1, boxes, rows, crops)
        kept = batched_nms(boxes[:, :4], boxes[:, 4], rows, 0.7)
        return rerec(bbreg(boxes[kept], regression[kept])), rows[kept]

    def _final(
        self, boxes: torch.Tensor, rows: torch.Tensor, crops: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Third network: faces and their landmarks."""
        boxes, rows, regression, points = self._passed(2, boxes, rows, crops)
        sides = (boxes[:, 2:4] - boxes[:, :2] + 1)[:, None]
        points = points.view(-1, 2, 5).permute(0, 2, 1) * sides + boxes[:, None, :2] - 1
        boxes = bbreg(boxes, regression)
        kept = batched_nms_numpy(boxes[:, :4], boxes[:, 4], rows, 0.7, "Min")
        return boxes[kept], rows[kept], points[kept]

    def _passed(
        self, stage: int, boxes: torch.Tensor, rows: torch.Tensor, crops: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Runs a network on the boxes' crops: of those above its threshold the boxes with its score, the rows, and its other answers."""
        parts = [self._networks[stage](part) for part in _normalised(crops).split(_BATCH)]
        *answers, probability = (torch.cat(part) for part in zip(*parts, strict=True))
        score = probability[:, 1]
        passed = score > self._thresholds[stage]
        return (
            torch.cat([boxes[passed, :4], score[passed, None]], 1),
            rows[passed],
            *(answer[passed] for answer in answers),
        )


class SumTables:
    """Averages over rectangles of images by their tables of sums (Crow 1984), as `interpolate(mode="area")` takes them.

    Args:
        images: uint8, N×H×W×3.
        device: Where the averages are wanted.
    """

    def __init__(self, images: np.ndarray, device: torch.device):
        self.shape = images.shape[1:3]
        self._device = device
        sums = np.empty((len(images), self.shape[0] + 1, self.shape[1] + 1, 3), np.int32)
        for table, image in zip(sums, images, strict=True):
            cv2.integral(image, table)
        self._sums = torch.from_numpy(sums).to(device)

    def shrunk(self, height: int, width: int) -> torch.Tensor:
        """All images brought to one size: float32 N×3×height×width in 0..255."""
        start = torch.zeros(1, dtype=torch.long, device=self._device)
        (top, bottom), (left, right) = (
            _bins(start, start + side, number)
            for side, number in zip(self.shape, (height, width), strict=True)
        )
        # All images alike: whole lines first, then columns of what is left: fewer places to look up.
        bands = self._sums.index_select(1, bottom[0]).sub_(self._sums.index_select(1, top[0]))
        total = bands.index_select(2, right[0]).sub_(bands.index_select(2, left[0]))
        area = (bottom - top)[0, :, None] * (right - left)[0]
        return (total / area[:, :, None]).permute(0, 3, 1, 2)

    def crops(
        self, boxes: torch.Tensor, rows: torch.Tensor, side: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cuts boxes from images and averages them down (or repeats them up) to one size.

        Args:
            boxes: M×5; their parts outside the image are left out, and boxes wholly outside dropped.
            rows: M, the image of each.
            side: Of the crops.

        Returns:
            The boxes and rows left, and their crops, float32 K×3×side×side in 0..255.
        """
        height, width = self.shape
        left, top, right, bottom = (
            boxes[:, :4].trunc().long().unbind(1)
        )  # 1-based, the last pixel included
        left, top, right, bottom = (
            left.clamp(min=1) - 1,
            top.clamp(min=1) - 1,
            right.clamp(max=width),
            bottom.clamp(max=height),
        )
        whole = (right > left) & (bottom > top)
        boxes, rows = boxes[whole], rows[whole]
        lines, columns = (
            _bins(top[whole], bottom[whole], side),
            _bins(left[whole], right[whole], side),
        )
        # As if all images were one, below each other.
        first = (rows * (height + 1)).int()[:, None]
        crops = self._averages(tuple(edge + first for edge in lines), columns)
        return boxes, rows, crops.permute(0, 3, 1, 2)

    def _averages(
        self, lines: tuple[torch.Tensor, torch.Tensor], columns: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Averages over the rectangles between M times h lines of all images and M times w columns: float32 M×h×w×3."""
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


def _bins(start: torch.Tensor, end: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First pixel, and pixel after the last, of each of `number` bins between `start` and `end`; neighbours may share a pixel."""
    steps = torch.arange(number, device=start.device)
    length, start = (end - start)[:, None], start[:, None]
    return (start + steps * length // number).int(), (
        start + -(-(steps + 1) * length // number)
    ).int()


def _normalised(images: torch.Tensor) -> torch.Tensor:
    return (images - 127.5) * 0.0078125
