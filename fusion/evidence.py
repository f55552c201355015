"""What the two branches measured on a set of pairs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from kryptonite.core.errors import DataError

EVIDENCE = ("similarity", "log_odds_a", "log_odds_b", "comparison")
# Score of a pair without a face in both images: below all others, hence below every threshold.
REFUSED = -1000.0


@dataclass(frozen=True)
class Evidence:
    """The branches' outputs for N pairs.

    Args:
        similarity: N cosines of the embeddings.
        log_odds_a: N log-odds that the first image is synthetic.
        log_odds_b: N log-odds that the second image is synthetic.
        comparison: N log-odds that both images are bona fide, given that they show one person
            (`recognition.differential.detector`). None, where there is no differential detector,
            counts as 0, undecided.
        acquired: N bool, whether a face was found in both images. Where it was not, the other
            values are meaningless and the pair is refused. None means all of them.
        agreement: N means of what the differential detector says of the references of each pair
            among themselves (`fusion.references`). None, where each pair has one reference, counts
            as 0.

    Raises:
        DataError: Shapes differ or a value is not finite.
    """

    similarity: np.ndarray
    log_odds_a: np.ndarray
    log_odds_b: np.ndarray
    comparison: np.ndarray = None  # type: ignore[assignment]  # __post_init__ replaces None
    acquired: np.ndarray = None  # type: ignore[assignment]
    agreement: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self):
        shape = np.shape(self.similarity)
        acquired = np.ones(shape, bool) if self.acquired is None else self.acquired
        acquired = np.asarray(acquired, bool)
        object.__setattr__(self, "acquired", acquired)
        if acquired.shape != shape:
            raise DataError(
                f"acquired has shape {acquired.shape}, similarity {shape}; "
                "both must have the same length"
            )
        for name in ("comparison", "agreement"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.zeros(shape))
        for name in (*EVIDENCE, "agreement"):
            value = np.asarray(getattr(self, name), np.float64)
            object.__setattr__(self, name, value)
            if value.shape != shape or value.ndim != 1:
                raise DataError(
                    f"{name} has shape {value.shape}; "
                    "all evidence must be one-dimensional and of the same length"
                )
            if not np.isfinite(value).all():
                raise DataError(
                    f"{name} of pair {int(np.argmax(~np.isfinite(value)))} is not finite; "
                    "leave out unreadable images"
                )

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray] | pd.DataFrame) -> "Evidence":
        """Takes the fields from columns of the same names.

        `agreement` and `acquired` may be missing.
        """
        required = {name: columns[name] for name in EVIDENCE}
        optional = {name: columns.get(name) for name in ("agreement", "acquired")}
        return cls(**required, **optional)  # type: ignore[arg-type]

    @property
    def max_log_odds(self) -> np.ndarray:
        """Log-odds of the image that looks more synthetic."""
        return np.maximum(self.log_odds_a, self.log_odds_b)

    @property
    def min_log_odds(self) -> np.ndarray:
        """Log-odds of the image that looks less synthetic."""
        return np.minimum(self.log_odds_a, self.log_odds_b)

    def rows(self, chosen: np.ndarray) -> "Evidence":
        """Selects pairs by index or mask."""
        return Evidence(**{each.name: getattr(self, each.name)[chosen] for each in fields(self)})
