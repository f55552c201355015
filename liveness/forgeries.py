"""Forgeries of bona fide training crops, made while the crops are read.

A batch sampler deals `Draw`s. One with a forgery seed stands for a forgery of its row. The seed
decides everything random about the forgery, and the sampler draws it from (seed, epoch): every
process makes the same forgery of it, and so does a resumed run.
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from torch.utils.data import Dataset

from kryptonite.core.errors import DataError
from kryptonite.data.forgery import face_swap, paste_inner_face, resynthesise, self_blend
from kryptonite.detection.warp import template_points
from kryptonite.liveness.config import AUTOENCODER, LivenessConfig
from kryptonite.nn.autoencoder import FACTOR, RoundTrip
from kryptonite.nn.train.datasets import CropDataset, Sample, channels_first


class Draw(NamedTuple):
    """A training sample to make.

    Args:
        row: The crop to read.
        forgery_seed: Seeds a forgery of that crop; None takes the crop itself.
    """

    row: int
    forgery_seed: int | None = None


def draw_forgeries(sources: np.ndarray, rows: int, generator: np.random.Generator) -> list[Draw]:
    """Draws forgeries with seeds of their own.

    Args:
        sources: M, rows to make forgeries of.
        rows: Number of training rows; keeps the seeds of different sources apart.
        generator: Source of the seeds.
    """
    seeds = sources + rows * generator.integers(1, 2**31, len(sources))
    return [Draw(*pair) for pair in zip(sources.tolist(), seeds.tolist(), strict=True)]


class ForgedCrops(Dataset):
    """Crops, and forgeries of them, by `Draw`.

    Forgeries need landmarks. Those of an aligned crop lie near its template's points, which are
    used instead.

    Args:
        crops: The crops, with identities and classes.
        config: Template of the crops; kinds of forgeries, drawn evenly.
        source: N, the data source of each crop; a face swap takes both photos from one. None means
            that all crops come from the same.

    Raises:
        DataError: A face swap is wanted, but all bona fide crops of a source show the same person.
        WeightsError: The autoencoder's weights cannot be read.
    """

    def __init__(
        self, crops: CropDataset, config: LivenessConfig, source: np.ndarray | None = None
    ):
        self._crops = crops
        self._source = np.zeros(len(crops)) if source is None else source
        self._bona_fide = np.flatnonzero(~crops.synthetic)
        self._points = template_points(config.template)
        self._kinds = config.made_kinds
        self._round_trip = RoundTrip.load(Path(config.autoencoder)) if config.autoencoder else None
        for each in np.unique(self._source) if "face_swap" in self._kinds else []:
            if len(np.unique(crops.identity[self._bona_fide_of(each)])) < 2:
                raise DataError(
                    "face_swap needs genuine photos of two training identities in every data source"
                )

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, draw: Draw) -> Sample:
        """Reads the crop with its labels, or makes the forgery, which is synthetic."""
        if draw.forgery_seed is None:
            return self._crops[draw.row]
        identity = int(self._crops.identity[draw.row])
        return Sample(channels_first(self.forge(draw)), identity, True, draw.row)

    def forge(self, draw: Draw) -> np.ndarray:
        """Makes a forgery: uint8, S×S×3, RGB.

        Args:
            draw: Has a forgery seed.
        """
        crop = self._crops.pixels(draw.row)
        kind, generator = self._begin(draw)
        if kind == "face_swap":
            target = self._crops.pixels(self._other_identity(draw.row, generator))
            return face_swap(target, self._points, crop, self._points)
        if kind == "resynthesis":
            return resynthesise(crop, self._points, generator)
        if kind == AUTOENCODER:
            return self._decoded(crop, generator)
        # The tint ranges from slight to plain: only where it is slight must the detector learn the
        # seam and the sharpness.
        return self_blend(crop, self._points, generator, colour=generator.uniform())

    def _decoded(self, crop: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Makes the round trip of a crop, whole or pasted into its inner face.

        A face is seldom cut at the scale at which it was generated, so the scale varies.
        """
        side = len(crop)
        scaled = FACTOR * round(side * generator.uniform(0.67, 1.33) / FACTOR)
        resized = cv2.resize(crop, (scaled, scaled), interpolation=cv2.INTER_AREA)
        decoded = cv2.resize(self._round_trip(resized), (side, side), interpolation=cv2.INTER_CUBIC)
        if generator.random() < 0.5:
            return decoded
        return paste_inner_face(crop, self._points, decoded, generator)

    def kind(self, draw: Draw) -> str:
        """Tells which kind of forgery a draw gives."""
        return self._begin(draw)[0]

    def _begin(self, draw: Draw) -> tuple[str, np.random.Generator]:
        generator = np.random.default_rng(draw.forgery_seed)
        return self._kinds[generator.integers(len(self._kinds))], generator

    def _other_identity(self, row: int, generator: np.random.Generator) -> int:
        """Draws a bona fide row of another person.

        A swap keeps its hair, pose and background and puts in the face of `row`.
        """
        near = self._bona_fide_of(self._source[row])
        while True:
            other = int(generator.choice(near))
            if self._crops.identity[other] != self._crops.identity[row]:
                return other

    def _bona_fide_of(self, source: object) -> np.ndarray:
        return self._bona_fide[self._source[self._bona_fide] == source]
