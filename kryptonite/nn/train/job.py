"""Where a training stage reads its crops and keeps its progress."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class TrainingJob:
    """What a stage's training function needs besides its configuration and its tables.

    Args:
        read: Maps a face-cache key to its crop: uint8, S×S×3, RGB.
        folder: Holds checkpoints and logs.
        fingerprint: Identifies everything that decides the result; checkpoints of another
            fingerprint are discarded.
    """

    read: Callable[[str], np.ndarray]
    folder: Path
    fingerprint: str
