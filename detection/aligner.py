"""Find one face in each photo and cut the aligned crops (MTCNN: Zhang et al. 2016, as in facenet-pytorch)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import ConfigError
from kryptonite.core.memory import keep_freed_memory
from kryptonite.detection.cascade import Cascade
from kryptonite.detection.faces import CENTRE_CROP, FOUND, FOUND_PADDED, FOUND_SMALL, AlignedFaces
from kryptonite.detection.uniform import make_uniform
from kryptonite.detection.warp import estimate_similarity, template_points, warp
from kryptonite.nn.model import choose_device

_PIXELS = 2**23  # of a batch, bounds the memory of large photos
_LARGE = 0.6  # of the shorter side: as large a face is expected at first
_SURE = 1.7  # a face so many times larger than those not looked for is found the same without their levels of the pyramid
_REVISION = (
    1  # raise when the crops of unchanged settings change: old cache entries are then left alone
)


@dataclass
class AlignerConfig:
    """How faces are looked for.

    Args:
        min_face: Smallest face of the first pass, in pixels of the image as it is searched.
        retry_min_face: Smallest face of the second pass, on images where the first found none.
        pad: Added on each side, as a fraction of the longer side, for photos in which no face was found or its box leaves the photo.
        search_side: Photos are searched at this size of the longer side at most; crops are cut from the full photo.
        batch_size: Images per batch of the detector.
        device: `auto`, `cpu` or `cuda`.
        common_side: Every photo is first brought to this size of its longer side, in pixels; 0 leaves it.
        common_quality: Every photo is first sent through JPEG of this quality, 1..100; 0 does not. Together they are the cure where
            `prepare.py` finds that size or compression tell genuine from `k_` images; see `detection.uniform`.
    """

    min_face: int = 40
    retry_min_face: int = 20
    pad: float = 0.5
    search_side: int = 640
    batch_size: int = 32
    device: str = "auto"
    common_side: int = 0
    common_quality: int = 0


@dataclass(frozen=True)
class _Search:
    """An image prepared for the detector: `canvas` pixels are (image pixels · scale + shift)."""

    canvas: np.ndarray
    scale: float
    shift: int


class Aligner:
    """Aligns one face per image; an image in which none is found gives its centre, flagged.

    Args:
        config: How faces are looked for.
        templates: Crops to cut from every image.

    Raises:
        ConfigError: A common size or quality that cannot be.
    """

    def __init__(self, config: AlignerConfig, templates: Sequence[CropTemplate]):
        if config.common_side < 0 or not 0 <= config.common_quality <= 100:
            raise ConfigError(
                f"common_side must be 0 or more and common_quality 0..100, got {config.common_side} and {config.common_quality}"
            )
        keep_freed_memory()
        self.config = config
        self.templates = list(templates)
        self._cascade = Cascade(choose_device(config.device))

    @property
    def search_settings(self) -> dict[str, Any]:
        """Everything that decides where a face is found, whatever is cut of it; JSON-able."""
        config = self.config
        # Named only when they do something, so that caches from before there was a cure stay valid.
        common = (
            {"common": [config.common_side, config.common_quality]}
            if config.common_side or config.common_quality
            else {}
        )
        return {
            "revision": _REVISION,
            "min_face": [config.min_face, config.retry_min_face],
            "pad": config.pad,
            "search_side": config.search_side,
            **common,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides what a crop looks like, for cache keys; JSON-able."""
        return {
            **self.search_settings,
            "templates": sorted(template.name for template in self.templates),
        }

    def __call__(self, images: Sequence[np.ndarray]) -> AlignedFaces:
        """Aligns RGB uint8 H×W×3 images of any sizes; the result does not depend on what else is in the batch."""
        photos, images = (
            images,
            [
                make_uniform(image, self.config.common_side, self.config.common_quality)
                for image in images
            ],
        )
        landmarks = np.zeros((len(images), 5, 2), np.float32)
        boxes = np.zeros((len(images), 4), np.float32)
        confidence = np.zeros(len(images), np.float32)
        status = [CENTRE_CROP] * len(images)
        config = self.config

        def search(
            rows: list[int], name: str, min_face: int | None, pad: float, large: bool = False
        ) -> None:
            for row, face in self._search(images, rows, min_face, pad, large).items():
                boxes[row], confidence[row], landmarks[row], status[row] = *face, name

        def missing() -> list[int]:
            return [row for row in range(len(images)) if status[row] == CENTRE_CROP]

        # In most photos one face is so large that the pyramid's finest levels, which cost most, do not change what is found
        # (`benchmarks/cascade.py` counts; only a face drawn inside a face was seen to).
        search(missing(), FOUND, config.min_face, 0.0, large=True)
        search(missing(), FOUND, config.min_face, 0.0)
        search(missing(), FOUND_SMALL, config.retry_min_face, 0.0)
        # MTCNN squeezes what is left of a box that leaves the photo into its input square, so its landmarks come out stretched. Padding
        # brings the whole box in. Such faces are large, so that only the top of the pyramid has to be searched again.
        cut = [
            row
            for row, box in enumerate(boxes)
            if status[row] != CENTRE_CROP and leaves(box, images[row].shape)
        ]
        search(cut, FOUND_PADDED, None, config.pad)
        search(missing(), FOUND_PADDED, config.retry_min_face, config.pad)
        for row, image in enumerate(images):
            if status[row] == CENTRE_CROP:
                boxes[row], landmarks[row] = centre(image)
        crops = {
            template: np.stack(
                [
                    warp(
                        image, estimate_similarity(points, template_points(template)), template.size
                    )
                    for image, points in zip(images, landmarks, strict=True)
                ]
            )
            if len(images)
            else np.zeros((0, template.size, template.size, 3), np.uint8)
            for template in self.templates
        }
        for row, (photo, image) in enumerate(zip(photos, images, strict=True)):
            back = np.array(
                [photo.shape[1] / image.shape[1], photo.shape[0] / image.shape[0]], np.float32
            )
            landmarks[row] *= back
            boxes[row] *= np.tile(back, 2)
        return AlignedFaces(crops, landmarks, boxes, confidence, status)

    def _search(
        self,
        images: Sequence[np.ndarray],
        rows: list[int],
        min_face: int | None,
        pad: float,
        large: bool,
    ) -> dict[int, tuple[np.ndarray, float, np.ndarray]]:
        """Box, confidence and landmarks of the chosen face, in image pixels, for those of `rows` that have one.

        Without `min_face` only faces that fill at least a quarter of the padded image's shorter side are looked for. With `large`, the
        pyramid's levels that are too fine for a large face are left out, and only such faces are given as no face of those could take
        the place of.
        """
        groups: dict[tuple[int, ...], list[tuple[int, _Search]]] = defaultdict(list)
        for row in rows:
            search = _prepare(images[row], self.config.search_side, pad)
            groups[search.canvas.shape].append((row, search))
        found = {}
        for shape, group in groups.items():
            smallest = min_face or max(self.config.min_face, min(shape[:2]) // 4)
            levels = (
                np.log(_LARGE * min(shape[:2]) / _SURE / smallest) / -np.log(self._cascade.factor)
                if large
                else 0
            )
            skip = max(0, int(levels))
            if large and not skip:
                continue
            unseen = smallest / self._cascade.factor**skip if large else 0.0
            batch_size = max(1, min(self.config.batch_size, _PIXELS // (shape[0] * shape[1])))
            for start in range(0, len(group), batch_size):
                batch = group[start : start + batch_size]
                seen = self._cascade(
                    np.stack([search.canvas for _, search in batch]), smallest, skip
                )
                for (row, search), (faces, points) in zip(batch, seen, strict=True):
                    if len(faces):
                        boxes = (faces[:, :4] - search.shift) / search.scale
                        best = choose_face(boxes, images[row].shape[:2], unseen / search.scale)
                        if best is not None:
                            found[row] = (
                                boxes[best],
                                float(faces[best, 4]),
                                (points[best] - search.shift) / search.scale,
                            )
        return found


def leaves(box: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether more than a fiftieth of the box's side lies outside the image on some side."""
    slack = 0.02 * max(box[2] - box[0], box[3] - box[1])
    return bool(
        box[0] < -slack or box[1] < -slack or box[2] > shape[1] + slack or box[3] > shape[0] + slack
    )


def choose_face(boxes: np.ndarray, shape: tuple[int, int], unseen: float = 0.0) -> int | None:
    """Picks the subject among several faces: the central one unless another is much larger.

    A face's merit is (side relative to the largest face) − 2·(distance of its centre from the image's, over half the diagonal). Taking the
    largest blindly names bystanders the subject: 96.3% against 99.3% for the central face on LFW.

    Args:
        boxes: N×(4 or more), x1, y1, x2, y2 in pixels.
        shape: Height and width of the image.
        unseen: Side up to which faces were not looked for, in pixels.

    Returns:
        Index of the chosen box; None where it is not much larger than `unseen`, or a face not looked for could be chosen in its stead.
    """
    middle = np.array([shape[1], shape[0]]) / 2
    half_diagonal = np.hypot(*middle)
    sides = np.sqrt(np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1e-6))
    centres = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2], 1)
    merits = sides / sides.max() - 2 * np.linalg.norm(centres - middle, axis=1) / half_diagonal
    best = int(np.argmax(merits))
    # A face not looked for lies beside the chosen one, not in it, and so this far from the middle at least.
    off = max(0.0, float(min(*(middle - boxes[best, :2]), *(boxes[best, 2:4] - middle))))
    rival = unseen / sides.max() - 2 * off / half_diagonal
    return best if not unseen or (sides[best] >= _SURE * unseen and merits[best] > rival) else None


def _prepare(image: np.ndarray, search_side: int, pad: float) -> _Search:
    """Shrinks to `search_side`, pads by `pad`, and fills up to a multiple of 32 so that photos of similar size share a batch.

    The canvas depends on the image alone, so a photo gives the same face in any batch.
    """
    height, width = image.shape[:2]
    scale = min(1.0, search_side / max(height, width))
    if scale < 1:
        image = cv2.resize(
            image,
            (max(1, round(width * scale)), max(1, round(height * scale))),
            interpolation=cv2.INTER_AREA,
        )
    shift = round(max(image.shape[:2]) * pad)
    if shift:
        image = cv2.copyMakeBorder(image, shift, shift, shift, shift, cv2.BORDER_REPLICATE)
    bottom, right = (-image.shape[0]) % 32, (-image.shape[1]) % 32
    if bottom or right:
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
    return _Search(image, scale, shift)


def centre(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box and landmarks of the central square, as if a face filled it as the ArcFace template with a quarter's margin does."""
    height, width = image.shape[:2]
    side = min(height, width)
    corner = np.array([(width - side) / 2, (height - side) / 2], np.float32)
    points = template_points(CropTemplate(side, 0.25)) + corner
    return np.array([*corner, *(corner + side)], np.float32), points
