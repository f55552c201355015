"""Validation pairs as rows of the validation images."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from kryptonite.data.pairs import pair_rows


class ValidationPairs(NamedTuple):
    """M pairs that validation scores.

    Args:
        rows: int, M×2, rows of the validation loader.
        mated: bool, M, whether both images are bona fide and show the same person.
    """

    rows: np.ndarray
    mated: np.ndarray

    @classmethod
    def of(cls, pairs: pd.DataFrame, images: pd.DataFrame) -> "ValidationPairs":
        """Looks up the images of pairs.

        Args:
            pairs: Columns path_a, path_b, kind.
            images: Column path; one row per validation image.
        """
        return cls(pair_rows(pairs, images), (pairs["kind"] == "same").to_numpy())
