"""Find one face in each photo and cut aligned crops.

The face detector is MTCNN (Zhang et al. 2016), as in facenet-pytorch.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from kryptonite.core.chunks import chunked
from kryptonite.core.crops import CropTemplate
from kryptonite.core.device import choose_device, cpu_threads
from kryptonite.core.errors import ConfigError
from kryptonite.detection.cascade_onnx import OnnxCascade
from kryptonite.detection.faces import CENTRE_CROP, FOUND, FOUND_PADDED, FOUND_SMALL, AlignedFaces
from kryptonite.detection.uniform import make_uniform
from kryptonite.detection.warp import estimate_similarity, template_points, warp

if TYPE_CHECKING:  # torch takes seconds to import, and exported networks do without it
    import torch

_BATCH_PIXELS = 2**23  # bounds the memory of batches of large photos, over all threads
_GPU_BATCHES = 8  # a GPU waits for launches: it takes so many batches at a time
# The first search expects a face of this fraction of the shorter side, or larger.
_LARGE = 0.6
# A face this many times larger than the smallest face of a level is found the same without that
# level.
_SAFE_RATIO = 1.7
# A photo more elongated than this, such as a panorama, is shrunk and padded as if its longer side
# were this many times the shorter one: otherwise no face in it would be large enough to be found.
_ELONGATED = 4
_CANVAS_SIDE = 2**15  # bounds the memory that the search of one elongated photo takes, in pixels
# Landmarks lie on a grid of so many parts of a pixel, the one on which OpenCV samples. Between
# batches and engines a landmark moves by some 1e-5 pixel; without the grid, that changed greys
# here and there in most crops.
_GRID = 32
_REVISION = 2  # bump when crops change under unchanged settings, to ignore old cache entries


@dataclass
class AlignerConfig:
    """Settings of the face search.

    Args:
        min_face: Smallest face of the first pass, in pixels of the image as searched.
        retry_min_face: Smallest face of the second pass, on images where the first found none.
        pad: Border on each side, as a fraction of the longer side, for photos in which no face was
            found or its box leaves the photo.
        search_side: Longer side, in pixels, to which photos are shrunk for the search; crops are
            cut from the full photo. Photos more elongated than 4:1 are shrunk less, and padded
            less: to a shorter side of a quarter of this.
        batch_size: Images per batch of the face detector; a GPU takes eight times as many.
        device: `auto`, `cpu` or `cuda`.
        common_side: Longer side, in pixels, to which every photo is first resized; 0 keeps the
            size.
        common_quality: JPEG quality, 1..100, in which every photo is first encoded; 0 skips this.
            Use both if `kryptonite prepare` finds that size or compression distinguish genuine
            from `k_` images; see `detection.uniform`.
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
class _Photo:
    """An image, and a copy of the size in which faces are searched, made once for all searches.

    Args:
        pixels: RGB uint8, H×W×3.
        search_side: As in `AlignerConfig`.
    """

    pixels: np.ndarray
    search_side: int

    @cached_property
    def scale(self) -> float:
        """Size of the copy over that of the image."""
        height, width = self.pixels.shape[:2]
        longer = min(max(height, width), _ELONGATED * min(height, width))
        return min(1.0, self.search_side / longer, _CANVAS_SIDE / max(height, width))

    @cached_property
    def small(self) -> np.ndarray:
        """The copy; the image itself where it is small enough."""
        if self.scale == 1:
            return self.pixels
        height, width = self.pixels.shape[:2]
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        return cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class _Search:
    """An image prepared for the search: canvas pixels are image pixels · scale + shift."""

    canvas: np.ndarray
    scale: float
    shift: int


class Aligner:
    """Aligns one face per image; without a face it cuts the centre and says so in the status.

    Args:
        config: Settings of the face search.
        templates: Crops to cut from every image.
        exports: Folder of MTCNN's exported networks, which then search on the CPU by ONNX Runtime;
            None searches by torch.

    Raises:
        ConfigError: The common size or quality is out of range.
    """

    def __init__(
        self,
        config: AlignerConfig,
        templates: Sequence[CropTemplate],
        exports: Path | None = None,
    ):
        if config.common_side < 0 or not 0 <= config.common_quality <= 100:
            raise ConfigError(
                "common_side must be 0 or more and common_quality 0..100, "
                f"got {config.common_side} and {config.common_quality}"
            )
        self.config = config
        self.templates = list(templates)
        self.exports = exports
        self._cascade = OnnxCascade(exports) if exports else _torch_cascade(self.device)

    @cached_property
    def _threads(self) -> int:
        """Parts of a batch that are aligned at a time: torch and a GPU take a batch whole."""
        return cpu_threads() if self.exports else 1

    @cached_property
    def _batch_size(self) -> int:
        """Images per batch of the face detector."""
        on_gpu = not self.exports and self.device.type != "cpu"
        return self.config.batch_size * (_GPU_BATCHES if on_gpu else 1)

    @cached_property
    def device(self) -> "torch.device":
        """Where torch searches for faces."""
        return choose_device(self.config.device)

    @property
    def search_settings(self) -> dict[str, Any]:
        """All settings that affect where a face is found, whatever is cut; JSON-able."""
        config = self.config
        # Absent when off, so that caches older than these settings stay valid.
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
        """All settings that affect the crops, for cache keys; JSON-able."""
        return {
            **self.search_settings,
            "templates": sorted(template.name for template in self.templates),
        }

    def __call__(self, images: Sequence[np.ndarray]) -> AlignedFaces:
        """Aligns RGB uint8 H×W×3 images of any sizes, each independently of the others."""
        if self._threads == 1 or len(images) < 2:
            return self._align(images)
        size = min(self._batch_size, -(-len(images) // self._threads))
        with ThreadPoolExecutor(self._threads) as threads:
            return AlignedFaces.joined(list(threads.map(self._align, chunked(images, size))))

    def _align(self, images: Sequence[np.ndarray]) -> AlignedFaces:
        """Aligns images in this thread."""
        config = self.config
        photos = images
        images = [
            make_uniform(photo, config.common_side, config.common_quality) for photo in photos
        ]
        searched = [_Photo(image, config.search_side) for image in images]
        landmarks = np.zeros((len(images), 5, 2), np.float32)
        boxes = np.zeros((len(images), 4), np.float32)
        confidence = np.zeros(len(images), np.float32)
        status = [CENTRE_CROP] * len(images)

        def search(
            rows: list[int], name: str, min_face: int | None, pad: float, large: bool = False
        ) -> None:
            for row, face in self._search(searched, rows, min_face, pad, large).items():
                boxes[row], confidence[row], landmarks[row], status[row] = *face, name

        def missing() -> list[int]:
            return [row for row in range(len(images)) if status[row] == CENTRE_CROP]

        # In most photos one face is so large that the pyramid's finest levels, the most expensive,
        # do not change the result (counted by `benchmarks/cascade.py`; the only exceptions were
        # faces drawn inside a face).
        search(missing(), FOUND, config.min_face, 0.0, large=True)
        search(missing(), FOUND, config.min_face, 0.0)
        search(missing(), FOUND_SMALL, config.retry_min_face, 0.0)
        # MTCNN squeezes the visible part of a box that leaves the photo into its square input, so
        # the landmarks come out stretched. Padding brings in the whole box. Such faces are large,
        # so only the top of the pyramid is searched again.
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
        landmarks = settled(landmarks)
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
        # Report positions in pixels of the photo, not of its uniform copy.
        for row, (photo, image) in enumerate(zip(photos, images, strict=True)):
            ratio = np.array(
                [photo.shape[1] / image.shape[1], photo.shape[0] / image.shape[0]], np.float32
            )
            landmarks[row] *= ratio
            boxes[row] *= np.tile(ratio, 2)
        return AlignedFaces(crops, landmarks, boxes, confidence, status)

    def _search(
        self,
        photos: Sequence[_Photo],
        rows: list[int],
        min_face: int | None,
        pad: float,
        large: bool,
    ) -> dict[int, tuple[np.ndarray, float, np.ndarray]]:
        """Finds the subject's face in some of the images.

        Args:
            photos: Images of any sizes.
            rows: Indices of the images to search.
            min_face: Smallest face in pixels of the image as searched; None for a quarter of the
                padded image's shorter side.
            pad: Border on each side, as a fraction of the longer side.
            large: Skips pyramid levels that are too fine for a large face, and leaves out faces to
                which a face of those levels might have been preferred.

        Returns:
            Box, confidence and landmarks, in image pixels, by row; rows without a face are missing.
        """
        groups: dict[tuple[int, ...], list[tuple[int, _Search]]] = defaultdict(list)
        for row in rows:
            search = _prepare(photos[row], pad)
            groups[search.canvas.shape].append((row, search))
        found = {}
        for shape, group in groups.items():
            smallest = min_face or max(self.config.min_face, min(shape[:2]) // 4)
            levels = (
                np.log(_LARGE * min(shape[:2]) / _SAFE_RATIO / smallest)
                / -np.log(self._cascade.factor)
                if large
                else 0
            )
            skip = max(0, int(levels))
            if large and not skip:
                continue
            skipped_side = smallest / self._cascade.factor**skip if large else 0.0
            fitting = _BATCH_PIXELS // self._threads // (shape[0] * shape[1])
            batch_size = max(1, min(self._batch_size, fitting))
            for batch in chunked(group, batch_size):
                detected = self._cascade(
                    np.stack([search.canvas for _, search in batch]), smallest, skip
                )
                for (row, search), (faces, points) in zip(batch, detected, strict=True):
                    if len(faces):
                        boxes = (faces[:, :4] - search.shift) / search.scale
                        best = choose_face(
                            boxes, photos[row].pixels.shape[:2], skipped_side / search.scale
                        )
                        if best is not None:
                            found[row] = (
                                boxes[best],
                                float(faces[best, 4]),
                                (points[best] - search.shift) / search.scale,
                            )
        return found


def _torch_cascade(device: "torch.device") -> Any:
    from kryptonite.detection.cascade import Cascade

    return Cascade(device)


def settled(landmarks: np.ndarray) -> np.ndarray:
    """Rounds landmarks in pixels to a grid, so that rounding errors of a search change no crop."""
    return np.rint(landmarks * _GRID) / np.float32(_GRID)


def leaves(box: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether the box extends beyond the image by more than a fiftieth of its longer side."""
    slack = 0.02 * max(box[2] - box[0], box[3] - box[1])
    return bool(
        box[0] < -slack or box[1] < -slack or box[2] > shape[1] + slack or box[3] > shape[0] + slack
    )


def choose_face(boxes: np.ndarray, shape: tuple[int, int], skipped_side: float = 0.0) -> int | None:
    """Picks the subject among several faces: the central one unless another is much larger.

    A face's merit is its side relative to the largest face, minus twice the distance of its centre
    from the image's centre over half the diagonal. Always taking the largest face picks bystanders
    (on LFW 96.3%, against 99.3% for the central face).

    Args:
        boxes: N×(4 or more), x1, y1, x2, y2 in pixels.
        shape: Height and width of the image.
        skipped_side: Side in pixels up to which faces were not searched for.

    Returns:
        Index of the chosen box; None if it is not much larger than `skipped_side`, or a face that
        was not searched for could have been preferred.
    """
    middle = np.array([shape[1], shape[0]]) / 2
    half_diagonal = np.hypot(*middle)
    sides = np.sqrt(np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1e-6))
    centres = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2], 1)
    merits = sides / sides.max() - 2 * np.linalg.norm(centres - middle, axis=1) / half_diagonal
    best = int(np.argmax(merits))
    if not skipped_side:
        return best
    # A face that was not searched for lies beside the chosen one, hence at least this far from the
    # middle.
    distance = max(0.0, float(min(*(middle - boxes[best, :2]), *(boxes[best, 2:4] - middle))))
    rival = skipped_side / sides.max() - 2 * distance / half_diagonal
    certain = sides[best] >= _SAFE_RATIO * skipped_side and merits[best] > rival
    return best if certain else None


def _prepare(photo: _Photo, pad: float) -> _Search:
    """Pads the copy to search by `pad`, and fills it up to a multiple of 32.

    Filling up lets photos of similar sizes share a batch. The canvas depends on the image alone, so
    a photo gives the same face in any batch.
    """
    image = photo.small
    shift = round(min(max(image.shape[:2]), _ELONGATED * min(image.shape[:2])) * pad)
    if shift:
        image = cv2.copyMakeBorder(image, shift, shift, shift, shift, cv2.BORDER_REPLICATE)
    bottom, right = (-image.shape[0]) % 32, (-image.shape[1]) % 32
    if bottom or right:
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
    return _Search(image, photo.scale, shift)


def centre(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box and landmarks of the central square, as if it were a crop of margin 0.25."""
    height, width = image.shape[:2]
    side = min(height, width)
    corner = np.array([(width - side) / 2, (height - side) / 2], np.float32)
    points = template_points(CropTemplate(side, 0.25)) + corner
    return np.array([*corner, *(corner + side)], np.float32), points
