"""Fuses a foreign similarity with the spoof evidence, calibrated to likelihood ratios."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kryptonite.core.errors import MALFORMED, DataError
from kryptonite.fusion.calibration import Calibration, fit_calibration
from kryptonite.fusion.evidence import REFUSED, Evidence
from kryptonite.fusion.fusers import Fuser, fit_fuser
from kryptonite.fusion.guard import GenuinePairs, guard
from kryptonite.fusion.verifier import read_calibration, read_fuser

# Of the guard: FMR of the threshold, and how many mated pairs the spoof evidence may cost there.
GUARD_FMR, GUARD_COST = 0.01, 0.005


@dataclass(frozen=True)
class CalibratedFuser:
    """A fuser whose scores a calibration turns into likelihood ratios.

    The guard may have lowered the weight of the spoof evidence, after which a fuser's own scores
    are no likelihood ratios; the calibration makes them so again.

    Args:
        fuser: Its similarity is a matcher's, on any scale.
        calibration: Of the fuser's scores.
    """

    fuser: Fuser
    calibration: Calibration

    @classmethod
    def fit(cls, name: str, evidence: Evidence, kind: np.ndarray) -> "CalibratedFuser":
        """Fits, guards and calibrates on pairs that have a face in both images.

        Args:
            name: One of `fusers.FUSERS`.
            evidence: N pairs; those without a face in both images are left out.
            kind: N of 'same', 'different', 'synthetic'.

        Raises:
            ConfigError: No fuser has this name.
            MetricError: A kind of pair is missing.
        """
        kind, evidence = np.asarray(kind)[evidence.acquired], evidence.rows(evidence.acquired)
        mated, non_mated = (evidence.rows(kind == each) for each in ("same", "different"))
        genuine = [GenuinePairs(mated, non_mated)]
        fuser = guard(fit_fuser(name, evidence, kind), genuine, GUARD_FMR, GUARD_COST)
        return cls(fuser, fit_calibration(kind == "same", fuser.score(evidence)))

    def score(self, evidence: Evidence) -> np.ndarray:
        """Natural-log likelihood ratios of 'same' against the other pairs of the fit, as mixed.

        Returns:
            float64, N; `REFUSED` where a face is missing, above it elsewhere.
        """
        llr = np.maximum(self.calibration(self.fuser.score(evidence)), REFUSED + 1)
        return np.where(evidence.acquired, llr, REFUSED)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, for `from_dict`."""
        return {
            "name": self.fuser.name,
            "parameters": asdict(self.fuser),  # type: ignore[call-overload]
            "calibration": asdict(self.calibration),
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "CalibratedFuser":
        """Inverse of `to_dict`; scores are the same to the bit.

        Raises:
            DataError: The form is another, or a number is not finite.
        """
        try:
            fuser = read_fuser(value["name"], value["parameters"])
            return cls(fuser, read_calibration(value["calibration"]))
        except MALFORMED as error:
            raise DataError(f"not a calibrated fuser ({error})") from error
