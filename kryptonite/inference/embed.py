"""Embed photos by a recogniser alone, from cached crops."""

from collections.abc import Sequence

import numpy as np

from kryptonite.core.chunks import chunked
from kryptonite.core.errors import DataError
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.faces import UNREADABLE
from kryptonite.recognition.recogniser import Recogniser

CHUNK = 512  # photos whose crops are in memory at once


def embed_photos(
    recogniser: Recogniser, cache: FaceCache, paths: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Embeds image files.

    Args:
        recogniser: Its template is one that the cache's aligner cuts.
        cache: Aligned crops.
        paths: N image files.

    Returns:
        N bool, which of them can be read; and the embeddings of those, float32, unit length.

    Raises:
        DataError: None of them can be read.
    """
    faces = cache.ensure(list(paths))
    readable = (faces["status"] != UNREADABLE).to_numpy()
    keys = faces.loc[readable, "key"].tolist()
    if not keys:
        raise DataError(f"none of the {len(paths)} photos can be read")
    template = recogniser.spec.template
    parts = [recogniser.embed(cache.read_batch(part, template)) for part in chunked(keys, CHUNK)]
    return readable, np.concatenate(parts)
