"""Forgeries of genuine training crops, made while the crops are read.

A batch sampler deals numbers. Below N, the count of training rows, a number is a row's own; from N on it stands for a forgery of row
`number % N`. Whatever is random about a forgery is seeded by its number, which the sampler drew from (seed, epoch): any process makes the
same forgery of it, and so does a resumed run.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import DataError
from kryptonite.data.forgery import face_swap, resynthesise, self_blend
from kryptonite.detection.warp import template_points
from kryptonite.nn.train.datasets import CropDataset


def forgery_numbers(sources: np.ndarray, rows: int, generator: np.random.Generator) -> np.ndarray:
    """Draws numbers that stand for forgeries.

    Args:
        sources: M, rows that forgeries are to be made of.
        rows: N, the number of training rows.
        generator: Source of the draws.

    Returns:
        int64, M.
    """
    return sources + rows * generator.integers(1, 2**31, len(sources))


def targets(numbers: torch.Tensor, synthetic: torch.Tensor) -> torch.Tensor:
    """Classes to train towards: float32, M, 1 is synthetic.

    Args:
        numbers: int64, M.
        synthetic: float32, N, class of every training row.
    """
    forged = numbers >= len(synthetic)
    return torch.where(forged, 1.0, synthetic[numbers % len(synthetic)])


class ForgedCrops(CropDataset):
    """Crops and forgeries by number.

    An aligned crop's landmarks lie near its template's points, so those stand in for them.

    Args:
        keys: Face-cache keys, one per row.
        read: Gives the uint8 S×S×3 RGB crop of a key.
        person: N, identity of each row.
        synthetic: N bool.
        template: How the crops were cut.
        kinds: Names from `data.forgery.FORGERIES`; each forgery is of one of them, evenly.

    Raises:
        DataError: A face swap has nobody to swap with.
    """

    def __init__(
        self,
        keys: Sequence[str],
        read: Callable[[str], np.ndarray],
        person: np.ndarray,
        synthetic: np.ndarray,
        template: CropTemplate,
        kinds: Sequence[str],
    ):
        super().__init__(keys, read)
        self._person = np.asarray(person)
        self._genuine = np.flatnonzero(~np.asarray(synthetic).astype(bool))
        self._points = template_points(template)
        self._kinds = list(kinds)
        if "face_swap" in self._kinds and len(np.unique(self._person[self._genuine])) < 2:
            raise DataError("face_swap needs genuine photos of two training identities")

    def pixels(self, number: int) -> np.ndarray:
        """Gives the crop, or the forgery, of a number: uint8, S×S×3, RGB."""
        if number < len(self):
            return super().pixels(number)
        row = number % len(self)
        photo = super().pixels(row)
        generator = np.random.default_rng(number)
        kind = self._kinds[generator.integers(len(self._kinds))]
        if kind == "face_swap":
            return face_swap(
                super().pixels(self._stranger(row, generator)), self._points, photo, self._points
            )
        if kind == "resynthesis":
            return resynthesise(photo, self._points, generator)
        # From hardly to plainly recoloured: only where the tint is slight must the seam and the sharpness be looked at.
        return self_blend(photo, self._points, generator, colour=generator.uniform())

    def _stranger(self, row: int, generator: np.random.Generator) -> int:
        """A genuine row of another person: keeps hair, pose and background of a swap, while the row's own face is put in."""
        while True:
            other = int(generator.choice(self._genuine))
            if self._person[other] != self._person[row]:
                return other
