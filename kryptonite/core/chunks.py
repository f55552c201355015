"""Work through long sequences piece by piece, so that memory stays bounded."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

Items = TypeVar("Items", bound=Sequence | np.ndarray)


def chunked(items: Items, size: int) -> Iterator[Items]:
    """Yields consecutive slices of at most `size` items; nothing for an empty sequence."""
    for start in range(0, len(items), size):
        yield items[start : start + size]  # type: ignore[misc]  # slicing keeps the type


def map_chunks(
    function: Callable[..., np.ndarray], size: int, first: np.ndarray, *others: np.ndarray
) -> np.ndarray:
    """Concatenates what a function of aligned arrays returns for chunks of their rows.

    Args:
        function: Maps slices of the arrays to an array with as many rows.
        size: Rows per call. The function is called once, with empty slices, when there are none.
        first: N rows.
        others: Further arrays of N rows.

    Returns:
        N rows.
    """
    starts = range(0, max(len(first), 1), size)
    return np.concatenate(
        [function(*(array[start : start + size] for array in (first, *others))) for start in starts]
    )
