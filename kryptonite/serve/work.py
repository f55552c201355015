"""Answers a batch of requests with one call of the pipeline."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kryptonite.core.errors import ImageReadError, ImageTooLargeError
from kryptonite.core.images import decode_rgb
from kryptonite.inference.pipeline import PhotoFacts, Pipeline, Verification
from kryptonite.serve.errors import ServiceError
from kryptonite.serve.limits import Limits

_BATCH_PIXELS = 60_000_000  # 180 MB when decoded; a larger pair is a batch of its own


@dataclass(frozen=True, eq=False)
class Job:
    """A request to compute.

    Args:
        photos: One photo, for the detector alone, or two to compare: the name of each and its
            file's bytes.
        pixels: Size of the photos together, as their headers announce it.
        threshold: Name of the threshold of a pair.
    """

    photos: tuple[tuple[str, bytes], ...]
    pixels: int
    threshold: str = ""


Answer = Verification | PhotoFacts


class Worker:
    """Decodes photos and asks the pipeline.

    Args:
        pipeline: The trained system.
        limits: Bounds on photos and batches.
    """

    def __init__(self, pipeline: Pipeline, limits: Limits):
        self._pipeline, self._limits = pipeline, limits
        self._threads = ThreadPoolExecutor(thread_name_prefix="decode")

    def warm_up(self) -> None:
        """Answers a blank pair, so that the first request finds everything loaded."""
        blank = np.zeros((64, 64, 3), np.uint8)
        self._pipeline.verify_many([(blank, blank)])

    def weigh(self, job: Job) -> float:
        """A job's share of a batch."""
        return max(1 / self._limits.batch, job.pixels / _BATCH_PIXELS)

    def __call__(self, jobs: Sequence[Job]) -> list[Answer | Exception]:
        """Answers jobs together; `ServiceError` in the place of one that shows no image."""
        photos = [(row, *photo) for row, job in enumerate(jobs) for photo in job.photos]
        decoded: list[list[np.ndarray]] = [[] for _ in jobs]
        answers: dict[int, Answer | Exception] = {}
        for (row, _, _), image in zip(photos, self._threads.map(self._decode, photos), strict=True):
            if isinstance(image, Exception):
                answers.setdefault(row, image)
            else:
                decoded[row].append(image)
        pairs = [row for row, job in enumerate(jobs) if len(job.photos) == 2 and row not in answers]
        alone = [row for row, job in enumerate(jobs) if len(job.photos) == 1 and row not in answers]
        verified = self._pipeline.verify_many(
            [(decoded[row][0], decoded[row][1]) for row in pairs],
            [jobs[row].threshold for row in pairs],
        )
        inspected = self._pipeline.inspect([decoded[row][0] for row in alone])
        answers |= dict(zip(pairs, verified, strict=True))
        answers |= dict(zip(alone, inspected, strict=True))
        return [answers[row] for row in range(len(jobs))]

    def _decode(self, photo: tuple[int, str, bytes]) -> np.ndarray | ServiceError:
        _, name, content = photo
        try:
            image = decode_rgb(content, name)
        except ImageTooLargeError:
            return too_many_pixels(name, self._limits)
        except ImageReadError as error:
            return ServiceError("unreadable_image", str(error))
        # Some files hold another image than their header says.
        if image.shape[0] * image.shape[1] > self._limits.photo_pixels:
            return too_many_pixels(name, self._limits)
        return image


def too_many_pixels(name: str, limits: Limits) -> ServiceError:
    """Refuses a photo by its size in pixels."""
    return ServiceError("image_too_large", f"{name}: exceeds {limits.megapixels:g} megapixels.")
