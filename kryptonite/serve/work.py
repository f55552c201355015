"""Answers a batch of requests with one call of the pipeline."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kryptonite.core.errors import ImageReadError, ImageTooLargeError, ImageTooLongError
from kryptonite.core.images import decode_rgb
from kryptonite.inference.gate import GateScore, MatcherGate
from kryptonite.inference.pipeline import PhotoFacts, Pipeline, Verification
from kryptonite.serve.errors import ServiceError
from kryptonite.serve.limits import Limits

_BATCH_PIXELS = 60_000_000  # 180 MB when decoded; a larger pair is a batch of its own


@dataclass(frozen=True, eq=False)
class Job:
    """A request to compute.

    Args:
        photos: One photo, for the detector alone, two to compare, or more: a probe and several
            references. The name of each and its file's bytes.
        pixels: Size of the photos together, as their headers announce it.
        threshold: Name of the threshold; none for one photo.
        similarity: Another matcher's similarity of two photos, for the gate.
    """

    photos: tuple[tuple[str, bytes], ...]
    pixels: int
    threshold: str = ""
    similarity: float | None = None


Answer = Verification | PhotoFacts | GateScore
Images = Sequence[np.ndarray]  # of one job


class Worker:
    """Decodes photos and asks the pipeline.

    Args:
        pipeline: The trained system.
        limits: Bounds on photos and batches.
        gate: Answers jobs with a similarity, if there is one.
    """

    def __init__(self, pipeline: Pipeline, limits: Limits, gate: MatcherGate | None = None):
        self._pipeline, self._limits, self._gate = pipeline, limits, gate
        self._threads = ThreadPoolExecutor(thread_name_prefix="decode")

    def warm_up(self) -> None:
        """Answers a blank pair, so that the first request finds everything loaded."""
        blank = np.zeros((64, 64, 3), np.uint8)
        self._pipeline.verify_many([(blank, blank)])

    def weigh(self, job: Job) -> float:
        """A job's share of a batch."""
        pairs = max(1, len(job.photos) / 2)
        return max(pairs / self._limits.batch, job.pixels / _BATCH_PIXELS)

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
        alike: dict[Callable[..., Sequence[Answer]], list[int]] = defaultdict(list)
        for row, job in enumerate(jobs):
            if row not in answers:
                alike[self._answerer(job)].append(row)
        for answer, rows in alike.items():
            found = answer([jobs[row] for row in rows], [decoded[row] for row in rows])
            answers |= dict(zip(rows, found, strict=True))
        return [answers[row] for row in range(len(jobs))]

    def _answerer(self, job: Job) -> Callable[..., Sequence[Answer]]:
        """What answers jobs of this one's kind."""
        if job.similarity is not None:
            return self._score
        if len(job.photos) == 1:
            return self._inspect
        return self._verify if len(job.photos) == 2 else self._verify_references

    def _inspect(self, jobs: Sequence[Job], images: Sequence[Images]) -> Sequence[Answer]:
        return self._pipeline.inspect([image for (image,) in images])

    def _verify(self, jobs: Sequence[Job], images: Sequence[Images]) -> Sequence[Answer]:
        pairs = [(first, second) for first, second in images]
        return self._pipeline.verify_many(pairs, [job.threshold for job in jobs])

    def _verify_references(self, jobs: Sequence[Job], images: Sequence[Images]) -> Sequence[Answer]:
        claims = [(probe, self._pipeline.enrol(references)) for probe, *references in images]
        return self._pipeline.verify_enrolled(claims, [job.threshold for job in jobs])

    def _score(self, jobs: Sequence[Job], images: Sequence[Images]) -> Sequence[Answer]:
        assert self._gate is not None  # without one, no job has a similarity
        return self._gate.score_many(
            [job.similarity for job in jobs if job.similarity is not None],
            [(first, second) for first, second in images],
            [job.threshold for job in jobs],
        )

    def _decode(self, photo: tuple[int, str, bytes]) -> np.ndarray | ServiceError:
        _, name, content = photo
        try:
            image = decode_rgb(content, name)
        # Limits of the decoder's.
        except ImageTooLongError as error:
            return ServiceError("image_too_long", str(error))
        except ImageTooLargeError as error:
            return ServiceError("image_too_large", str(error))
        except ImageReadError as error:
            return ServiceError("unreadable_image", str(error))
        # Some files hold another image than their header says.
        if image.shape[0] * image.shape[1] > self._limits.photo_pixels:
            return too_many_pixels(name, self._limits)
        return image


def too_many_pixels(name: str, limits: Limits) -> ServiceError:
    """Refuses a photo by its size in pixels."""
    return ServiceError("image_too_large", f"{name}: exceeds {limits.megapixels:g} megapixels.")
