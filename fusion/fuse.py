"""Fusions of the two branches behind one call.

Every fuser takes the evidence on a pair: the cosine similarity, the log-odds of 'synthetic' of its two images and, where there is a
comparer, what it says of the two together. It does not care which image comes first, and gives a score that is higher for 'accept'.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.special import log_expit

from kryptonite.core.errors import ConfigError, DataError, MetricError
from kryptonite.core.files import write_json
from kryptonite.fusion.calibration import Calibration, fit_calibration, fit_llr

REVISION = 5  # raise when the same evidence comes to give another fusion: runs then fit theirs anew
EVIDENCE = ("similarity", "log_odds_a", "log_odds_b", "comparison")
REFUSED = (
    -1000.0
)  # score of a pair without a face in both images: below every other, so below every threshold
RHO_GRID = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
RHO_SLACK = 0.005  # of EER, well below what a validation set can tell apart


@dataclass(frozen=True)
class Evidence:
    """What the branches say of N pairs.

    Args:
        similarity: N cosines.
        log_odds_a: N log-odds that the first image is synthetic.
        log_odds_b: Of the second.
        comparison: N log-odds that both images are genuine, given that one person is meant (`recognition.differential.detector`); nothing where there is
            no comparer, which counts as undecided.
        acquired: N bool, whether a face was found in both images; where it was not, the other values say nothing and the pair is refused.
            Nothing stands for all of them.

    Raises:
        DataError: Shapes differ or a value is not finite.
    """

    similarity: np.ndarray
    log_odds_a: np.ndarray
    log_odds_b: np.ndarray
    comparison: np.ndarray | None = None
    acquired: np.ndarray | None = None

    def __post_init__(self):
        acquired = (
            np.ones(np.shape(self.similarity), bool)
            if self.acquired is None
            else np.asarray(self.acquired, bool)
        )
        object.__setattr__(self, "acquired", acquired)
        if acquired.shape != np.shape(self.similarity):
            raise DataError(
                f"acquired has shape {acquired.shape}, similarity {np.shape(self.similarity)}; they must be of one length"
            )
        if self.comparison is None:
            object.__setattr__(self, "comparison", np.zeros(np.shape(self.similarity)))
        for name in EVIDENCE:
            value = np.asarray(getattr(self, name), np.float64)
            object.__setattr__(self, name, value)
            if value.shape != np.shape(self.similarity) or value.ndim != 1:
                raise DataError(
                    f"{name} has shape {value.shape}; all must be one-dimensional and of one length"
                )
            if not np.isfinite(value).all():
                raise DataError(
                    f"{name} of pair {int(np.argmax(~np.isfinite(value)))} is not finite; unreadable images must be left out"
                )

    @classmethod
    def of(cls, columns: Mapping[str, np.ndarray] | pd.DataFrame) -> "Evidence":
        """From a table's or a mapping's columns of these names; without `acquired` all pairs are."""
        return cls(**{name: columns[name] for name in EVIDENCE}, acquired=columns.get("acquired"))

    @property
    def max_log_odds(self) -> np.ndarray:
        """Log-odds of the image that looks more synthetic."""
        return np.maximum(self.log_odds_a, self.log_odds_b)

    @property
    def min_log_odds(self) -> np.ndarray:
        """Log-odds of the image that looks more genuine."""
        return np.minimum(self.log_odds_a, self.log_odds_b)

    def rows(self, chosen: np.ndarray) -> "Evidence":
        """The chosen pairs."""
        return Evidence(**{name: getattr(self, name)[chosen] for name in (*EVIDENCE, "acquired")})


def fit_identity(evidence: Evidence, kind: np.ndarray) -> Calibration:
    """LLR of 'same person' from the similarity: same against different people."""
    genuine = kind != "synthetic"
    return fit_calibration(kind[genuine] == "same", evidence.similarity[genuine])


def fit_genuine(kind: np.ndarray, *features: np.ndarray) -> tuple[float, ...]:
    """LLR of 'both genuine', as `fit_llr` gives it: of pairs of one person, those of two genuine photos against those with a synthetic one.

    Args:
        kind: N.
        features: Each N, higher for 'both genuine'; those of other pairs are left aside.
    """
    person = kind != "different"
    return fit_llr(kind[person] == "same", np.stack(features, 1)[person])


class Fuser(ABC):
    """A way to join the branches; parameters are plain numbers, so that JSON holds a fuser whole."""

    name: ClassVar[str]
    llr_offset: ClassVar[float | None] = None

    @classmethod
    @abstractmethod
    def fit(cls, evidence: Evidence, kind: np.ndarray) -> "Fuser":
        """Fits on validation pairs of kinds 'same', 'different', 'synthetic'."""

    @abstractmethod
    def combine(self, evidence: Evidence) -> np.ndarray:
        """Scores of the pairs, float64, higher is 'accept'."""

    @classmethod
    def llr(cls, score: np.ndarray) -> np.ndarray | None:
        """What scores mean as natural-log likelihood ratios of 'accept'; None where they promise no such thing.

        Without a face there is no evidence for either answer, so that the ratio of a refused pair is 1.
        """
        if cls.llr_offset is None:
            return None
        score = np.asarray(score, np.float64)
        return np.where(score > REFUSED, score + cls.llr_offset, 0.0)

    def score(self, evidence: Evidence) -> np.ndarray:
        """Scores pairs: float32, N, higher is 'accept'; `REFUSED` where no face was found in one of the images, above it elsewhere."""
        return np.where(
            evidence.acquired, np.maximum(self.combine(evidence), REFUSED + 1), REFUSED
        ).astype(np.float32)


class _Unfitted(Fuser, ABC):
    """Base of the verifiers that have nothing to learn."""

    @classmethod
    def fit(cls, evidence: Evidence, kind: np.ndarray) -> "Fuser":
        return cls()


@dataclass(frozen=True)
class RecognitionAlone(_Unfitted):
    """The similarity as it is: what every fusion has to beat."""

    name: ClassVar[str] = "none"

    def combine(self, evidence: Evidence) -> np.ndarray:
        return evidence.similarity


@dataclass(frozen=True)
class DetectorAlone(_Unfitted):
    """Minus the worse log-odds: what the detector does without looking at who is on the photos."""

    name: ClassVar[str] = "detector"

    def combine(self, evidence: Evidence) -> np.ndarray:
        return -evidence.max_log_odds


@dataclass(frozen=True)
class _Calibrated(Fuser, ABC):
    """Base of the fusions of two calibrated branches."""

    identity_slope: float
    identity_intercept: float
    genuine_slope: float
    genuine_intercept: float

    @classmethod
    def fit(cls, evidence: Evidence, kind: np.ndarray) -> "Fuser":
        kind = np.asarray(kind)
        identity = fit_identity(evidence, kind)
        return cls(identity.slope, identity.intercept, *fit_genuine(kind, -evidence.max_log_odds))

    def llrs(self, evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
        """LLR of 'same person' and LLR of 'both genuine'."""
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
    """A hard gate: pairs that look synthetic at equal priors come after all others, each group in the order of similarity."""

    name: ClassVar[str] = "gate"

    def combine(self, evidence: Evidence) -> np.ndarray:
        _, genuine = self.llrs(evidence)
        # Cosines lie in -1..1, so 2 parts the groups.
        return evidence.similarity - 2.0 * (genuine < 0)


@dataclass(frozen=True)
class CalibratedSum(_Calibrated):
    """Sum of both LLRs: what independent evidence for one question would call for."""

    name: ClassVar[str] = "calibrated_sum"
    llr_offset: ClassVar[float | None] = 0.0

    def combine(self, evidence: Evidence) -> np.ndarray:
        identity, genuine = self.llrs(evidence)
        return identity + genuine


@dataclass(frozen=True)
class NonLinearLLR(Fuser):
    """s = −log[(1−ρ)·e^(−LLR_id) + ρ·e^(−LLR_gen)]: a pair fails by either branch, whichever is the worse.

    From spoof-aware speaker verification (ASVspoof 5), with one change that measurement asked for: LLR_gen takes the similarity beside the
    lower genuine log-odds of the two images. A forgery keeps only part of the identity, so a middling cosine speaks for one; on the real
    validation pairs the formula without it was no better than the similarity alone. The comparison, where there is one, comes on top. ρ is
    picked on the fitting pairs by pooled EER.
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
        from kryptonite.metrics.error_rates import (
            eer,
        )  # brings scikit-learn: see `fusion.calibration`

        kind = np.asarray(kind)
        identity = fit_identity(evidence, kind)
        genuine = fit_genuine(
            kind, -evidence.max_log_odds, evidence.similarity, evidence.comparison
        )
        candidates = [cls(identity.slope, identity.intercept, *genuine, rho) for rho in RHO_GRID]
        rates = np.array([eer(kind == "same", fuser.combine(evidence)) for fuser in candidates])
        # Among those as good the one nearest to no preference: ρ shifts the scores, and chance must not choose it anew for every fit.
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
    """Three-class logistic regression on (similarity, worse and better log-odds, comparison); the score is the log-odds of 'same'."""

    coefficients: list[list[float]]
    intercepts: list[float]
    centre: list[float]
    spread: list[float]
    name: ClassVar[str] = "multinomial"
    llr_offset: ClassVar[float | None] = math.log(
        2
    )  # three classes of equal mass: prior log-odds of 'same' are −log 2
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
        from sklearn.linear_model import LogisticRegression  # late: see `fusion.calibration`

        kind = np.asarray(kind).astype(str)
        if sorted(set(kind)) != cls.classes:
            raise MetricError(
                f"multinomial fusion needs pairs of the kinds {cls.classes}, got {sorted(set(kind))}"
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


@dataclass(frozen=True)
class Verifier:
    """A fitted fuser and the score at which pairs are accepted."""

    fuser: Fuser
    threshold: float


def fuser_class(name: str) -> type[Fuser]:
    """Gives the fusion of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in FUSERS:
        raise ConfigError(f"no fusion is called {name!r}; there are {', '.join(FUSERS)}")
    return FUSERS[name]


def fit_fuser(name: str, evidence: Evidence, kind: np.ndarray) -> Fuser:
    """Fits the fuser of that name on those validation pairs that have a face in both images.

    Raises:
        ConfigError: No such name.
        MetricError: A kind of pair is missing.
    """
    return fuser_class(name).fit(
        evidence.rows(evidence.acquired), np.asarray(kind)[evidence.acquired]
    )


def save_verifiers(path: Path | str, chosen: str, verifiers: dict[str, Verifier]) -> None:
    """Writes every fitted fuser with its threshold, and which one scores submissions, as JSON."""
    fusers = {
        name: {"parameters": asdict(judge.fuser), "threshold": float(judge.threshold)}
        for name, judge in verifiers.items()
    }
    write_json(path, {"chosen": chosen, "fusers": fusers})


def load_verifiers(path: Path | str) -> tuple[str, dict[str, Verifier]]:
    """Reads what `save_verifiers` wrote; scores are the same to the bit.

    Returns:
        Name of the chosen fuser, and all of them by name.

    Raises:
        DataError: Not such a file.
    """
    try:
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
        verifiers = {
            name: Verifier(FUSERS[name](**fuser["parameters"]), float(fuser["threshold"]))
            for name, fuser in kept["fusers"].items()
        }
        if kept["chosen"] not in verifiers:
            raise ValueError(f"{kept['chosen']!r} is chosen but not there")
        return kept["chosen"], verifiers
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: holds no fusion ({error})") from error
