"""Score fusions of the two branches.

Every fuser maps the evidence on a pair to one score, higher for 'accept', which does not depend on
the order of the two images.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.special import log_expit

from kryptonite.core.errors import ConfigError, MetricError
from kryptonite.fusion.calibration import Calibration, fit_calibration, fit_llr
from kryptonite.fusion.evidence import REFUSED, Evidence

REVISION = 6  # bump when a fit on unchanged evidence changes: runs then fit their fusers again
RHO_GRID = (
    *(1e-6, 1e-5, 1e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5),
    *(0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99),
)
# A χ² of one degree of freedom exceeds it once in 100,000; pairs of the same people depend on one
# another, so the usual levels would be too low.
_LEAST_DEVIANCE = 20.0
RHO_SLACK = 0.005  # of EER, well below what a validation set can resolve


class Fuser(ABC):
    """A way to combine the branches; its fields are plain numbers, so JSON stores it completely."""

    name: ClassVar[str]
    llr_offset: ClassVar[float | None] = None

    @classmethod
    @abstractmethod
    def fit(cls, evidence: Evidence, kind: np.ndarray) -> "Fuser":
        """Fits the parameters on validation pairs.

        Args:
            evidence: N pairs, each with a face in both images.
            kind: N of 'same', 'different', 'synthetic'.
        """

    @abstractmethod
    def combine(self, evidence: Evidence) -> np.ndarray:
        """Gives N scores, float64, higher for 'accept', as if every face had been found."""

    @classmethod
    def llr(cls, score: np.ndarray) -> np.ndarray | None:
        """Converts scores to natural-log likelihood ratios of 'accept'.

        Returns:
            None if the fuser's scores are not calibrated. Refused pairs get 0: without a face there
            is no evidence either way.
        """
        if cls.llr_offset is None:
            return None
        score = np.asarray(score, np.float64)
        return np.where(score > REFUSED, score + cls.llr_offset, 0.0)

    def score(self, evidence: Evidence) -> np.ndarray:
        """Scores pairs.

        Returns:
            float32, N, higher for 'accept': `REFUSED` where a face is missing, above it elsewhere.
        """
        return np.where(
            evidence.acquired, np.maximum(self.combine(evidence), REFUSED + 1), REFUSED
        ).astype(np.float32)


class _Unfitted(Fuser, ABC):
    """Base of the fusers without parameters."""

    @classmethod
    def fit(cls, evidence: Evidence, kind: np.ndarray) -> "Fuser":
        return cls()


@dataclass(frozen=True)
class RecognitionAlone(_Unfitted):
    """The plain similarity: the baseline that every fusion has to beat."""

    name: ClassVar[str] = "none"

    def combine(self, evidence: Evidence) -> np.ndarray:
        return evidence.similarity


@dataclass(frozen=True)
class DetectorAlone(_Unfitted):
    """Minus the larger log-odds: what the synthetic-image detector achieves without recognition."""

    name: ClassVar[str] = "detector"

    def combine(self, evidence: Evidence) -> np.ndarray:
        return -evidence.max_log_odds


@dataclass(frozen=True)
class _Calibrated(Fuser, ABC):
    """Base of the fusers that calibrate each branch on its own."""

    identity_slope: float
    identity_intercept: float
    genuine_slope: float
    genuine_intercept: float

    @classmethod
    def fit(cls, evidence: Evidence, kind: np.ndarray) -> "Fuser":
        kind = np.asarray(kind)
        identity = fit_identity(evidence, kind)
        genuine = fit_bona_fide(kind, -evidence.max_log_odds)
        return cls(identity.slope, identity.intercept, *genuine)

    def llrs(self, evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
        """LLR of 'same person' and LLR of 'both bona fide'."""
        return (
            Calibration(self.identity_slope, self.identity_intercept)(evidence.similarity),
            Calibration(self.genuine_slope, self.genuine_intercept)(-evidence.max_log_odds),
        )


@dataclass(frozen=True)
class Product(_Calibrated):
    """Log of the product of both probabilities at equal priors."""

    name: ClassVar[str] = "product"

    def combine(self, evidence: Evidence) -> np.ndarray:
        identity, genuine = self.llrs(evidence)
        return log_expit(identity) + log_expit(genuine)


@dataclass(frozen=True)
class Gate(_Calibrated):
    """Ranks pairs that look synthetic at equal priors below all others.

    The cosine orders the pairs within both groups.
    """

    name: ClassVar[str] = "gate"

    def combine(self, evidence: Evidence) -> np.ndarray:
        _, genuine = self.llrs(evidence)
        # Cosines lie in -1..1, so an offset of 2 separates the groups.
        return evidence.similarity - 2.0 * (genuine < 0)


@dataclass(frozen=True)
class CalibratedSum(_Calibrated):
    """Sum of both LLRs: optimal if the branches were independent evidence for one question."""

    name: ClassVar[str] = "calibrated_sum"
    llr_offset: ClassVar[float | None] = 0.0

    def combine(self, evidence: Evidence) -> np.ndarray:
        identity, genuine = self.llrs(evidence)
        return identity + genuine


@dataclass(frozen=True)
class NonLinearLLR(Fuser):
    """s = −log[(1−ρ)·e^(−LLR_id) + ρ·e^(−LLR_gen)]: the worse branch decides.

    From spoof-aware speaker verification (ASVspoof 5), with one change: LLR_gen uses the similarity
    beside the lower bona fide log-odds of the two images. A forgery keeps only part of the
    identity, so a middling cosine suggests one; without this term the formula was no better than
    the similarity alone on real validation pairs. The differential detector's score, where there is
    one, is a third feature. ρ minimises the pooled EER of the fitting pairs.
    """

    identity_slope: float
    identity_intercept: float
    genuine_slope: float
    genuine_similarity_slope: float
    genuine_comparison_slope: float
    genuine_intercept: float
    rho: float = 0.5
    name: ClassVar[str] = "llr"
    llr_offset: ClassVar[float | None] = 0.0

    @classmethod
    def fit(cls, evidence: Evidence, kind: np.ndarray) -> "NonLinearLLR":
        # Imported here because it brings in scikit-learn: see `fusion.calibration`.
        from kryptonite.metrics.error_rates import eer

        kind = np.asarray(kind)
        identity = fit_identity(evidence, kind)
        genuine = fit_bona_fide(
            kind, -evidence.max_log_odds, evidence.similarity, evidence.comparison
        )
        start = cls(identity.slope, identity.intercept, *genuine)
        candidates = [replace(start, rho=rho) for rho in RHO_GRID]
        rates = np.array([eer(kind == "same", fuser.combine(evidence)) for fuser in candidates])
        # Of the candidates within the slack, take ρ nearest 0.5: ρ shifts the scores, and chance
        # should not move it from one fit to the next.
        best = min(
            np.flatnonzero(rates <= rates.min() + RHO_SLACK),
            key=lambda row: abs(RHO_GRID[row] - 0.5),
        )
        return candidates[best]

    def combine(self, evidence: Evidence) -> np.ndarray:
        identity = Calibration(self.identity_slope, self.identity_intercept)(evidence.similarity)
        genuine = (
            -self.genuine_slope * evidence.max_log_odds
            + self.genuine_similarity_slope * evidence.similarity
            + self.genuine_comparison_slope * evidence.comparison
            + self.genuine_intercept
        )
        return -np.logaddexp(np.log1p(-self.rho) - identity, np.log(self.rho) - genuine)


@dataclass(frozen=True)
class Multinomial(Fuser):
    """Three-class logistic regression; the score is the log-odds of 'same'.

    Its features are the similarity, the larger and the smaller log-odds, and the comparison.
    """

    coefficients: list[list[float]]
    intercepts: list[float]
    centre: list[float]
    spread: list[float]
    name: ClassVar[str] = "multinomial"
    # Three classes of equal mass: the prior log-odds of 'same' are −log 2.
    llr_offset: ClassVar[float | None] = math.log(2)
    classes: ClassVar[list[str]] = ["different", "same", "synthetic"]  # in scikit-learn's order

    @staticmethod
    def _features(evidence: Evidence) -> np.ndarray:
        return np.stack(
            [
                evidence.similarity,
                evidence.max_log_odds,
                evidence.min_log_odds,
                evidence.comparison,
            ],
            1,
        )

    @classmethod
    def fit(cls, evidence: Evidence, kind: np.ndarray) -> "Multinomial":
        from sklearn.linear_model import LogisticRegression  # see `fusion.calibration`

        kind = np.asarray(kind).astype(str)
        if sorted(set(kind)) != cls.classes:
            raise MetricError(
                f"multinomial fusion needs pairs of kinds {cls.classes}, got {sorted(set(kind))}"
            )
        features = cls._features(evidence)
        centre, spread = features.mean(0), np.where(features.std(0) > 0, features.std(0), 1.0)
        model = LogisticRegression(C=100.0, class_weight="balanced", max_iter=1000).fit(
            (features - centre) / spread, kind
        )
        return cls(
            model.coef_.tolist(), model.intercept_.tolist(), centre.tolist(), spread.tolist()
        )

    def combine(self, evidence: Evidence) -> np.ndarray:
        scaled = (self._features(evidence) - np.array(self.centre)) / np.array(self.spread)
        logits = scaled @ np.array(self.coefficients).T + np.array(self.intercepts)
        return logits[:, 1] - np.logaddexp(logits[:, 0], logits[:, 2])


FUSERS: dict[str, type[Fuser]] = {
    cls.name: cls
    for cls in (
        RecognitionAlone,
        DetectorAlone,
        Product,
        Gate,
        CalibratedSum,
        Multinomial,
        NonLinearLLR,
    )
}


def fuser_class(name: str) -> type[Fuser]:
    """Looks a fuser up by name.

    Raises:
        ConfigError: No fuser has this name.
    """
    if name not in FUSERS:
        raise ConfigError(f"unknown fusion {name!r}; choose from {', '.join(FUSERS)}")
    return FUSERS[name]


def fit_fuser(name: str, evidence: Evidence, kind: np.ndarray) -> Fuser:
    """Fits a fuser on those validation pairs that have a face in both images.

    Args:
        name: One of `FUSERS`.
        evidence: N pairs.
        kind: N of 'same', 'different', 'synthetic'.

    Raises:
        ConfigError: No fuser has this name.
        MetricError: A kind of pair is missing.
    """
    return fuser_class(name).fit(
        evidence.rows(evidence.acquired), np.asarray(kind)[evidence.acquired]
    )


def fit_identity(evidence: Evidence, kind: np.ndarray) -> Calibration:
    """Fits the LLR of 'same person' on the similarity of 'same' and 'different' pairs."""
    bona_fide = kind != "synthetic"
    return fit_calibration(kind[bona_fide] == "same", evidence.similarity[bona_fide])


def fit_bona_fide(kind: np.ndarray, *features: np.ndarray) -> tuple[float, ...]:
    """Fits the LLR of 'both images bona fide' on the 'same' and 'synthetic' pairs.

    Args:
        kind: N of 'same', 'different', 'synthetic'.
        features: Arrays of N values, higher for 'both bona fide'; 'different' pairs are ignored.

    Returns:
        One slope per feature, then the intercept, as `fit_llr`.
    """
    one_person = kind != "different"
    return fit_llr(kind[one_person] == "same", np.stack(features, 1)[one_person], _LEAST_DEVIANCE)
