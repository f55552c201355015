"""Score fusions of the two branches.

Every fuser maps the evidence on a pair to one score, higher for 'accept', which does not depend on
the order of the two images.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from kryptonite.core.errors import ConfigError, MetricError
from kryptonite.fusion.calibration import Calibration, fit_calibration, fit_llr
from kryptonite.fusion.evidence import REFUSED, Evidence

REVISION = 8  # bump when a fit on unchanged evidence changes: runs then fit their fusers again
RHO_GRID = (
    *(1e-6, 1e-5, 1e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5),
    *(0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99),
)
# A χ² of one degree of freedom exceeds it once in 100,000; pairs of the same people depend on one
# another, so the usual levels would be too low.
_LEAST_DEVIANCE = 20.0
RHO_SLACK = 0.005  # of EER, well below what a validation set can resolve


@dataclass(frozen=True)
class Parts:
    """What each branch says of N pairs, as natural-log likelihood ratios; above 0 for 'accept'.

    Each part but `recognition` is a term of the LLR that both images are bona fide against that one
    is a forgery, `bona_fide`. The terms of the detectors are 0 where their log-odds are; what is
    left, the intercept, belongs to the similarity's term, or to the detector's where the similarity
    has none.

    Args:
        recognition: N, the LLR that both images show the same person against different people.
        detector: N, the term of the synthetic-image detector.
        similarity: N, the term of the similarity: a forgery keeps only part of the identity.
        differential_detector: N, the term of the comparison; with several references, of how far
            it lies above the references' agreement among themselves.
    """

    recognition: np.ndarray
    detector: np.ndarray
    similarity: np.ndarray
    differential_detector: np.ndarray

    @property
    def bona_fide(self) -> np.ndarray:
        """LLR that both images are bona fide."""
        return self.detector + self.similarity + self.differential_detector


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

    @abstractmethod
    def forgery(self, evidence: Evidence) -> np.ndarray:
        """Gives N log-odds of 'a forgery' against 'different people': why a pair is no mated one.

        Infinite where the fusion knows only one of them.
        """

    def parts(self, evidence: Evidence) -> Parts | None:
        """Splits the evidence into what each branch says; None where the fusion has no such parts.

        The fusion's own docstring says how its score follows from them.
        """
        return None

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

    def forgery(self, evidence: Evidence) -> np.ndarray:
        return np.full(evidence.similarity.shape, -np.inf)


@dataclass(frozen=True)
class DetectorAlone(_Unfitted):
    """Minus the larger log-odds: what the synthetic-image detector achieves without recognition."""

    name: ClassVar[str] = "detector"

    def combine(self, evidence: Evidence) -> np.ndarray:
        return -evidence.max_log_odds

    def forgery(self, evidence: Evidence) -> np.ndarray:
        return np.full(evidence.similarity.shape, np.inf)


@dataclass(frozen=True)
class _Calibrated(Fuser, ABC):
    """Base of the fusers that calibrate each branch on its own.

    The bona fide part is the detector's alone, and a pair fails by the lower of both LLRs.
    """

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

    def parts(self, evidence: Evidence) -> Parts:
        none = np.zeros(evidence.similarity.shape)
        return Parts(*self.llrs(evidence), similarity=none, differential_detector=none)

    def forgery(self, evidence: Evidence) -> np.ndarray:
        identity, genuine = self.llrs(evidence)
        return identity - genuine


@dataclass(frozen=True)
class Product(_Calibrated):
    """Log of the product of both probabilities at equal priors."""

    name: ClassVar[str] = "product"

    def combine(self, evidence: Evidence) -> np.ndarray:
        identity, genuine = self.llrs(evidence)
        # As scipy.special.log_expit, whose import would slow every cold start.
        return -np.logaddexp(0, -identity) - np.logaddexp(0, -genuine)


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
    """Sum of both LLRs: optimal if the branches were independent evidence for one question.

    The score is the sum of the parts.
    """

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
    one, is a third feature, and with several references their agreement among themselves, which
    tells what score a bona fide photo of this person reaches, is a fourth. ρ minimises the pooled
    EER of the fitting pairs.

    LLR_id is the part `recognition` and LLR_gen the sum of the others.
    """

    identity_slope: float
    identity_intercept: float
    genuine_slope: float
    genuine_similarity_slope: float
    genuine_comparison_slope: float
    genuine_intercept: float
    rho: float = 0.5
    genuine_agreement_slope: float = 0.0
    name: ClassVar[str] = "llr"
    llr_offset: ClassVar[float | None] = 0.0

    @classmethod
    def fit(cls, evidence: Evidence, kind: np.ndarray) -> "NonLinearLLR":
        # Imported here because it brings in scikit-learn: see `fusion.calibration`.
        from kryptonite.metrics.error_rates import eer

        kind = np.asarray(kind)
        identity = fit_identity(evidence, kind)
        detector, similarity, comparison, agreement, intercept = fit_bona_fide(
            kind,
            -evidence.max_log_odds,
            evidence.similarity,
            evidence.comparison,
            -evidence.agreement,
        )
        start = cls(
            identity.slope,
            identity.intercept,
            detector,
            similarity,
            comparison,
            intercept,
            genuine_agreement_slope=agreement,
        )
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
        return -np.logaddexp(*self._failures(evidence))

    def forgery(self, evidence: Evidence) -> np.ndarray:
        different, forged = self._failures(evidence)
        return forged - different

    def parts(self, evidence: Evidence) -> Parts:
        detector = -self.genuine_slope * evidence.max_log_odds
        similarity = self.genuine_similarity_slope * evidence.similarity
        if self.genuine_similarity_slope:
            similarity = similarity + self.genuine_intercept
        else:
            detector = detector + self.genuine_intercept
        return Parts(
            Calibration(self.identity_slope, self.identity_intercept)(evidence.similarity),
            detector,
            similarity,
            self.genuine_comparison_slope * evidence.comparison
            - self.genuine_agreement_slope * evidence.agreement,
        )

    def _failures(self, evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds, N each, of 'different people' and of 'a forgery' against a mated pair."""
        parts = self.parts(evidence)
        return np.log1p(-self.rho) - parts.recognition, np.log(self.rho) - parts.bona_fide


@dataclass(frozen=True)
class Multinomial(Fuser):
    """Three-class logistic regression; the score is the log-odds of 'same'.

    Its features are the similarity, the larger and the smaller log-odds, and the comparison. As an
    LLR the score follows from the parts as that of `llr` does, at ρ = ½; but `recognition`, the LLR
    of 'same' against 'different', draws on every feature.
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
                f"multinomial fusion needs pairs of kinds {', '.join(cls.classes)}, got only "
                f"{', '.join(sorted(set(kind)))}"
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
        logits = self._logits(evidence)
        return logits[:, 1] - np.logaddexp(logits[:, 0], logits[:, 2])

    def forgery(self, evidence: Evidence) -> np.ndarray:
        logits = self._logits(evidence)
        return logits[:, 2] - logits[:, 0]

    def parts(self, evidence: Evidence) -> Parts:
        logits = self._logits(evidence)
        _, same, synthetic = np.array(self.coefficients) / np.array(self.spread)
        terms = self._features(evidence) * (same - synthetic)
        detector, comparison = terms[:, 1] + terms[:, 2], terms[:, 3]
        bona_fide = logits[:, 1] - logits[:, 2]
        return Parts(
            logits[:, 1] - logits[:, 0], detector, bona_fide - detector - comparison, comparison
        )

    def _logits(self, evidence: Evidence) -> np.ndarray:
        scaled = (self._features(evidence) - np.array(self.centre)) / np.array(self.spread)
        return scaled @ np.array(self.coefficients).T + np.array(self.intercepts)


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
