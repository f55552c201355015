"""Error rates of verification and of synthetic-image detection.

Higher scores mean 'accept'; a pair is accepted when score ≥ threshold. FMR is the share of
non-mated pairs (two people) accepted, FNMR the share of mated pairs (one person, both images bona
fide) rejected (ISO/IEC 19795-1). APCER, BPCER, IAPAR and RIAPAR follow ISO/IEC 30107-3:2023. All
rates lie in 0..1.

BSCER and MACER are the terms of ISO/IEC 20059:2025 for telling manipulated samples from bona fide
ones: MACER is the share of attack samples classified as bona fide, BSCER the share of bona fide
samples classified as attacks. The sample of a differential detector is a pair. Here the attacks are
pairs with a synthetic image, the bona fide samples are mated pairs, and BSCER is read at the lowest
threshold whose MACER does not exceed a stated share (`MACERS`).

Metrics are functions of error curves, and the curves are functions of per-item weights, so that one
definition serves both the metric itself (weight 1 for every item) and its bootstrap
(`metrics.bootstrap`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import xlogy
from sklearn.metrics import roc_curve

from kryptonite.core.errors import MetricError
from kryptonite.metrics.kinds import KINDS

# Priors and costs of the a-DCF (Shim et al. 2024), in the order of KINDS.
ADCF_PRIORS = (0.9, 0.05, 0.05)
ADCF_COSTS = (1.0, 10.0, 20.0)
DCF_PRIOR = 0.05  # of mated pairs in minDCF, both costs 1 (NIST SRE)
# Shares of attacks that may pass where BSCER is read, by the ends of the figures' names.
MACERS = {"1e1": 0.1, "5e2": 0.05, "1e2": 0.01}


@dataclass(frozen=True)
class Curves:
    """Error rates at every distinct score.

    Args:
        threshold: T falling thresholds; the first is +inf (nothing accepted).
        fnmr: T shares of target items rejected, falling from 1 to 0.
        fmr: Maps each non-target class to T shares of its items accepted, rising from 0 to 1.
    """

    threshold: np.ndarray
    fnmr: np.ndarray
    fmr: dict[str, np.ndarray]


class Ranked:
    """Items of several classes sorted once, so that curves for any weights cost one pass.

    Args:
        score: N finite scores.
        classes: Maps class names to N bool; disjoint. The first is the target class, which should
            be accepted.

    Raises:
        MetricError: A score is not finite, shapes differ, or a class is empty.
    """

    def __init__(self, score: np.ndarray, classes: dict[str, np.ndarray]):
        score = np.asarray(score, np.float64)
        if score.ndim != 1 or any(np.shape(chosen) != score.shape for chosen in classes.values()):
            shapes = ", ".join(str(np.shape(chosen)) for chosen in classes.values())
            raise MetricError(
                f"labels {shapes} and scores {score.shape} must be vectors of one length"
            )
        if not np.isfinite(score).all():
            raise MetricError(f"score {int(np.flatnonzero(~np.isfinite(score))[0])} is not finite")
        for name, chosen in classes.items():
            if not chosen.any():
                raise MetricError(
                    f"an error rate needs both classes, but none of {len(score)} items is {name!r}"
                )
        order = np.argsort(-score, kind="stable")
        in_any_class = np.zeros(len(score), bool)
        for chosen in classes.values():
            in_any_class |= chosen
        order = order[in_any_class[order]]
        ranked = score[order]
        ends = np.append(np.flatnonzero(np.diff(ranked) != 0), len(ranked) - 1)
        self.threshold = np.append(np.inf, ranked[ends])
        self.target, *self.others = classes
        # Rows of each class by falling score, and how many of them reach each threshold.
        self.rows = {name: order[chosen[order]] for name, chosen in classes.items()}
        self._reaching = {
            name: np.append(0, np.cumsum(chosen[order])[ends]) for name, chosen in classes.items()
        }

    def at(self, threshold: float) -> int:
        """Index into the curves of the operating point 'accept when score ≥ threshold'."""
        # Thresholds fall: take the last one that is not below.
        return int(np.searchsorted(-self.threshold, -threshold, side="right")) - 1

    def accepted(self, weight: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Mass of each class at or above each threshold.

        Args:
            weight: Maps each class to the weights of its items, in the order of `rows`; None weighs
                every item 1.
        """
        if weight is None:
            return {name: reaching.astype(np.float64) for name, reaching in self._reaching.items()}
        return {
            name: np.append(0.0, np.cumsum(weight[name]))[reaching]
            for name, reaching in self._reaching.items()
        }

    def curves(self, accepted: dict[str, np.ndarray]) -> Curves | None:
        """Turns accepted masses into rates; None when a class has no mass."""
        if any(mass[-1] <= 0 for mass in accepted.values()):
            return None
        rates = {name: mass / mass[-1] for name, mass in accepted.items()}
        return Curves(
            self.threshold, 1 - rates[self.target], {name: rates[name] for name in self.others}
        )


def _nearest(fmr: np.ndarray, fnmr: np.ndarray) -> int:
    """Index where both rates are closest.

    Of two equally close points on either side of the crossing it takes the stricter one, instead of
    leaving the choice to rounding.
    """
    gap = fmr - fnmr  # never falls
    after = int(np.searchsorted(gap, 0.0))
    if after == len(gap):
        after -= 1
    best = (
        after
        if after == 0 or round(abs(gap[after]), 12) < round(abs(gap[after - 1]), 12)
        else after - 1
    )
    # Several thresholds may share these rates; return the highest.
    return int(np.searchsorted(gap, gap[best]))


def _eer(fmr: np.ndarray, fnmr: np.ndarray) -> float:
    nearest = _nearest(fmr, fnmr)
    return float((fmr[nearest] + fnmr[nearest]) / 2)


def _fnmr_at(fmr: np.ndarray, fnmr: np.ndarray, wanted: float) -> float:
    """FNMR at the lowest threshold whose FMR does not exceed `wanted`."""
    return float(fnmr[np.searchsorted(fmr, wanted * (1 + 1e-9), side="right") - 1])


def _auc(fmr: np.ndarray, fnmr: np.ndarray) -> float:
    """Area under the ROC curve by trapezoids, which counts ties as half."""
    steps = np.diff(fmr)
    return float(1 - (steps @ fnmr[1:] + steps @ fnmr[:-1]) / 2)


def a_dcf(fnmr: np.ndarray, fmr: np.ndarray, iapar: np.ndarray) -> np.ndarray:
    """Architecture-agnostic detection cost (Shim et al. 2024) with `ADCF_PRIORS` and `ADCF_COSTS`.

    Normalised so that the cheaper of accepting everything and rejecting everything costs 1.

    Args:
        fnmr: Shares of mated pairs rejected.
        fmr: Shares of non-mated pairs accepted.
        iapar: Shares of pairs with a synthetic image accepted.
    """
    weights = np.array(ADCF_PRIORS) * np.array(ADCF_COSTS)
    weights /= min(weights[0], weights[1] + weights[2])
    return weights[0] * fnmr + weights[1] * fmr + weights[2] * iapar


def _min_dcf(fmr: np.ndarray, fnmr: np.ndarray) -> float:
    return float((DCF_PRIOR * fnmr + (1 - DCF_PRIOR) * fmr).min() / min(DCF_PRIOR, 1 - DCF_PRIOR))


def _min_cllr(target: np.ndarray, other: np.ndarray) -> float:
    """Cllr after the best monotone calibration (pool adjacent violators).

    Args:
        target: Mass of target items at each score, scores falling.
        other: Mass of the other items at each score.
    """
    target, other = target / target.sum(), other / other.sum()
    mass = target + other
    if not mass.all():  # scores that only identities outside this bootstrap draw have
        kept = mass > 0
        mass, target, other = mass[kept], target[kept], other[kept]
    # All scores of a pool share one LLR: the log-odds of the share of target mass in the pool.
    pools = isotonic_regression(target / mass, weights=mass, increasing=False).blocks[:-1]
    target, other = np.add.reduceat(target, pools), np.add.reduceat(other, pools)
    share = target / (target + other)
    # Cllr = mean over classes of E[log2(1 + exp(∓LLR))].
    return float(-(xlogy(target, share).sum() + xlogy(other, 1 - share).sum()) / (2 * np.log(2)))


def _two_classes(label: np.ndarray, score: np.ndarray) -> Ranked:
    label = np.asarray(label).astype(bool)
    return Ranked(score, {"accept": label, "reject": ~label})


def error_curves(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes (threshold, FMR, FNMR) at every distinct score.

    Thresholds fall; the first is +inf (nothing accepted).

    Args:
        label: N bool, true for the pairs to accept.
        score: N finite scores.

    Raises:
        MetricError: A class is missing or a score is not finite.
    """
    ranked = _two_classes(label, score)
    curves = ranked.curves(ranked.accepted())
    return curves.threshold, curves.fmr["reject"], curves.fnmr


def eer_challenge(label: np.ndarray, score: np.ndarray) -> float:
    """The platform's EER: FNR where |FNR − FPR| of scikit-learn's ROC curve is smallest, 0..1.

    Calls `roc_curve` with its defaults, which drop collinear points, because the platform does. See
    `error_curves` for errors.
    """
    _two_classes(label, score)  # raises the same errors as the other metrics
    fpr, tpr, _ = roc_curve(np.asarray(label).astype(bool), score)
    fnr = 1 - tpr
    return float(fnr[np.nanargmin(np.abs(fnr - fpr))])


def eer(label: np.ndarray, score: np.ndarray) -> float:
    """Equal error rate: mean of FNMR and FMR where closest, 0..1. Raises as `error_curves`."""
    _, fmr, fnmr = error_curves(label, score)
    return _eer(fmr, fnmr)


def eer_threshold(label: np.ndarray, score: np.ndarray) -> float:
    """Threshold at which `eer` is read; accept when score ≥ it. Raises as `error_curves`."""
    threshold, fmr, fnmr = error_curves(label, score)
    # The curve begins at +inf, where nothing is accepted; a stored threshold must be finite.
    return float(threshold[max(_nearest(fmr, fnmr), 1)])


def fmr_threshold(kind: np.ndarray, score: np.ndarray, wanted: float) -> float:
    """The lowest score whose FMR does not exceed `wanted`; +inf if one false match is too many.

    Raises:
        MetricError: As `pair_curves`, or there are no pairs of different people.
    """
    curves, _ = pair_curves(kind, score)
    if "different" not in curves.fmr:
        raise MetricError("an FMR needs pairs of different people, but there are none")
    return float(
        curves.threshold[
            np.searchsorted(curves.fmr["different"], wanted * (1 + 1e-9), side="right") - 1
        ]
    )


def _cllr_bits(llr: np.ndarray, accept: bool) -> np.ndarray:
    """What each pair adds to Cllr (Brümmer & du Preez 2006), in bits: how far its LLR misleads."""
    llr = np.asarray(llr, np.float64)
    return np.logaddexp(0, -llr if accept else llr) / np.log(2)


class RankedPairs:
    """Scored pairs, ranked once; `figures` evaluates them under any weights.

    Args:
        kind: N pair kinds, each one of `KINDS`.
        score: N finite scores.
        threshold: Operating point for the rates at a threshold; None omits them.
        llr: N natural-log likelihood ratios of 'accept' that the scores stand for; None omits Cllr.

    Raises:
        MetricError: There is no 'same' pair, no other pair, an unknown kind, or a score that is not
            finite.
    """

    def __init__(
        self,
        kind: np.ndarray,
        score: np.ndarray,
        threshold: float | None = None,
        llr: np.ndarray | None = None,
    ):
        kind = np.asarray(kind).astype(str)
        unknown = set(np.unique(kind)) - set(KINDS)
        if unknown:
            raise MetricError(
                f"unknown kinds of pairs: {', '.join(sorted(unknown))}; expected {', '.join(KINDS)}"
            )
        classes = {name: kind == name for name in KINDS}
        present = {
            name: chosen for name, chosen in classes.items() if chosen.any() or name == "same"
        }
        if len(present) == 1:
            raise MetricError(
                f"an error rate needs both classes, but all {len(kind)} pairs are mated"
            )
        self.ranked = Ranked(score, present)
        self._point = None if threshold is None else self.ranked.at(threshold)
        # In the order of the ranked rows.
        self._bits = None
        if llr is not None:
            self._bits = {
                name: _cllr_bits(np.asarray(llr)[rows], name == "same")
                for name, rows in self.ranked.rows.items()
            }

    def figures(self, weight: dict[str, np.ndarray] | None = None) -> dict[str, float]:
        """Computes `pair_metrics`; an empty dict where `weight` leaves a class without mass."""
        accepted = self.ranked.accepted(weight)
        curves = self.ranked.curves(accepted)
        if curves is None:
            return {}
        fnmr = curves.fnmr
        others = reduce(np.add, (accepted[name] for name in self.ranked.others))
        pooled = others / others[-1]
        figures = {"eer": _eer(pooled, fnmr)}
        figures["sasv_eer"] = figures["eer"]
        if "different" in curves.fmr:
            fmr = curves.fmr["different"]
            figures["sv_eer"] = _eer(fmr, fnmr)
            figures["fnmr_at_fmr_1e2"] = _fnmr_at(fmr, fnmr, 1e-2)
            figures["fnmr_at_fmr_1e3"] = _fnmr_at(fmr, fnmr, 1e-3)
            figures["min_dcf"] = _min_dcf(fmr, fnmr)
        if "synthetic" in curves.fmr:
            figures["spf_eer"] = _eer(curves.fmr["synthetic"], fnmr)
            for end, macer in MACERS.items():
                figures[f"bscer_at_macer_{end}"] = _fnmr_at(curves.fmr["synthetic"], fnmr, macer)
        costs = None
        if len(curves.fmr) == 2:
            costs = a_dcf(fnmr, curves.fmr["different"], curves.fmr["synthetic"])
            figures["min_a_dcf"] = float(costs.min())
        figures["auc"] = _auc(pooled, fnmr)
        figures["min_cllr"] = _min_cllr(np.diff(accepted["same"]), np.diff(others))
        if self._bits is not None:
            bits = {
                name: bits.sum() if weight is None else bits @ weight[name]
                for name, bits in self._bits.items()
            }
            other_bits = sum(bits[name] for name in self.ranked.others)
            figures["cllr"] = (
                float(bits["same"] / accepted["same"][-1] + other_bits / others[-1]) / 2
            )
        if self._point is not None:
            point = self._point
            figures["fnmr"] = float(fnmr[point])
            if "different" in curves.fmr:
                figures["fmr"] = float(curves.fmr["different"][point])
            if "synthetic" in curves.fmr:
                figures["iapar"] = float(curves.fmr["synthetic"][point])
                figures["riapar"] = figures["iapar"] + figures["fnmr"]
            if costs is not None:
                figures["a_dcf"] = float(costs[point])
        return figures


def pair_curves(kind: np.ndarray, score: np.ndarray) -> tuple[Curves, np.ndarray]:
    """Error curves per kind of non-target pair, and the FMR curve of all of them pooled.

    Raises:
        MetricError: As `RankedPairs`.
    """
    ranked = RankedPairs(kind, score).ranked
    accepted = ranked.accepted()
    others = reduce(np.add, (accepted[name] for name in ranked.others))
    return ranked.curves(accepted), others / others[-1]


def pair_metrics(
    kind: np.ndarray,
    score: np.ndarray,
    threshold: float | None = None,
    llr: np.ndarray | None = None,
) -> dict[str, float]:
    """All metrics of scored pairs.

    Args:
        kind: N pair kinds, each one of `KINDS`.
        score: N finite scores.
        threshold: Operating point, fitted on other data; None omits the rates at a threshold.
        llr: N natural-log likelihood ratios of 'accept' that the scores stand for; None omits
            `cllr`.

    Returns:
        Over all pairs: `eer_challenge` (the platform's), `eer` and `sasv_eer` (mean of FNMR and
        FMR where closest: one number under the two names in use), `auc`, `min_cllr` (bits, after
        the best monotone calibration), `cllr` (bits, as calibrated; 0 is perfect, 1 carries no
        information). Mated against different people: `sv_eer`, `fnmr_at_fmr_1e2`,
        `fnmr_at_fmr_1e3`, `min_dcf` (prior 0.05, costs 1). Mated against pairs with a synthetic
        image: `spf_eer`, `bscer_at_macer_<share>` for the shares of `MACERS`. Against both:
        `min_a_dcf`. At the threshold: `fnmr`, `fmr`, `iapar` (share of pairs with a synthetic image
        accepted), `riapar` (IAPAR + FNMR), `a_dcf`. Metrics of a kind that does not occur are
        omitted.

    Raises:
        MetricError: As `RankedPairs`.
    """
    figures = RankedPairs(kind, score, threshold, llr).figures()
    return {
        "eer_challenge": eer_challenge(np.asarray(kind).astype(str) == "same", score),
        **figures,
    }


class RankedImages:
    """Images ranked once by their log-odds; `figures` evaluates them under any weights.

    Args:
        is_synthetic: N bool, true for synthetic images (attacks).
        log_odds: N log-odds of 'synthetic'.
        species: N names of what made each attack, empty where unknown; None if all are unknown.

    Raises:
        MetricError: A class is missing or a value is not finite.
    """

    def __init__(
        self, is_synthetic: np.ndarray, log_odds: np.ndarray, species: Sequence[str] | None = None
    ):
        is_synthetic = np.asarray(is_synthetic).astype(bool)
        self.species = np.where(
            is_synthetic, "" if species is None else np.asarray(species).astype(str), ""
        )
        self.ranked = Ranked(log_odds, {"attack": is_synthetic, "bona_fide": ~is_synthetic})
        rows = self.ranked.rows["attack"]
        self._named = {
            name: self.species[rows] == name for name in np.unique(self.species[rows]) if name
        }
        self._caught = np.asarray(log_odds)[rows] >= 0
        self._point = self.ranked.at(0.0)

    def figures(self, weight: dict[str, np.ndarray] | None = None) -> dict[str, float]:
        """Computes `detector_metrics`; an empty dict where `weight` leaves a class without mass."""
        curves = self.ranked.curves(self.ranked.accepted(weight))
        if curves is None:
            return {}
        missed, flagged = curves.fnmr, curves.fmr["bona_fide"]
        point = self._point
        figures = {
            "eer": _eer(flagged, missed),
            "auc": _auc(flagged, missed),
            "bpcer20": float(flagged[missed <= 0.05 + 1e-12].min()),
            "bpcer": float(flagged[point]),
            "apcer": float(missed[point]),
        }
        mass = np.ones(len(self._caught)) if weight is None else weight["attack"]
        by_species = {
            name: float((mass * ~self._caught)[chosen].sum() / mass[chosen].sum())
            for name, chosen in self._named.items()
            if mass[chosen].sum() > 0
        }
        figures["apcer_max"] = max(by_species.values(), default=figures["apcer"])
        return {**figures, **{f"apcer_{name}": rate for name, rate in by_species.items()}}


def detector_metrics(
    is_synthetic: np.ndarray, log_odds: np.ndarray, species: Sequence[str] | None = None
) -> dict[str, float]:
    """All metrics of the detector alone.

    Args:
        is_synthetic: N bool, true for synthetic images (attacks).
        log_odds: N log-odds of 'synthetic'.
        species: N names of what made each attack, empty where unknown; None if all are unknown.

    Returns:
        `eer`, `auc`, `bpcer20` (BPCER where APCER is at most 5%); at log-odds 0: `bpcer`, `apcer`
        over all attacks, `apcer_<species>` and `apcer_max`, the highest of these (`apcer` when no
        species is known).

    Raises:
        MetricError: A class is missing or a value is not finite.
    """
    return RankedImages(is_synthetic, log_odds, species).figures()
