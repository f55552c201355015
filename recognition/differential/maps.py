"""Features of crops by which two photos can be compared place by place, as arrays."""

from dataclasses import dataclass

import numpy as np

CELLS = 7  # side of the grid that `FeatureMaps.cells` is pooled to


@dataclass(frozen=True)
class FeatureMaps:
    """Features of N crops from one recogniser.

    Args:
        embeddings: float32, N×D, unit length.
        pooled: float32, N×P: for every stage, each channel's mean over the map, then its standard
            deviation.
        cells: float16, N×C×CELLS×CELLS: the last map with at least CELLS×CELLS places, pooled.
        channels: Channels of every stage, from input to output; P is twice their sum.
    """

    embeddings: np.ndarray
    pooled: np.ndarray
    cells: np.ndarray
    channels: tuple[int, ...]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return {name: getattr(self, name) for name in ("embeddings", "pooled", "cells")}

    @classmethod
    def joined(cls, parts: "list[FeatureMaps]") -> "FeatureMaps":
        """Concatenates features of the same recogniser."""
        sides = zip(*(part.arrays.values() for part in parts), strict=True)
        return cls(*map(np.concatenate, sides), parts[0].channels)

    def rows(self, chosen: np.ndarray) -> "FeatureMaps":
        """Takes the features of some crops: int or bool rows."""
        return FeatureMaps(*(array[chosen] for array in self.arrays.values()), self.channels)
