"""Error rates of verification and of synthetic-image detection, with intervals from a bootstrap over identities.

Scores are higher for 'accept'; a pair is accepted when score ≥ threshold. FMR is the share of impostor pairs accepted, FNMR the share of
genuine pairs rejected (ISO/IEC 19795-1). APCER and BPCER are of ISO/IEC 30107-3.
"""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

from common.errors import MetricError

KINDS = ("same", "different", "synthetic")
PAIR_METRICS = ("eer_challenge", "eer", "sv_eer", "spf_eer", "sasv_eer")


def _checked(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    label, score = np.asarray(label).astype(bool), np.asarray(score, dtype=np.float64)
    if label.shape != score.shape or label.ndim != 1:
        raise MetricError(f"labels {label.shape} and scores {score.shape} must be one-dimensional and of one length")
    if not np.isfinite(score).all():
        raise MetricError(f"score {int(np.flatnonzero(~np.isfinite(score))[0])} is not finite")
    if not label.any() or label.all():
        raise MetricError(f"an error rate needs both classes; of {len(label)} items {int(label.sum())} are positive")
    return label, score


def error_curves(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives (threshold, FMR, FNMR) at every distinct score, thresholds falling, first +inf (nothing accepted).

    Args:
        label: N, true for the pairs to be accepted.
        score: N, finite.

    Raises:
        MetricError: A class is missing or a score is not finite.
    """
    label, score = _checked(label, score)
    fmr, tar, threshold = roc_curve(label, score, drop_intermediate=False)
    return threshold, fmr, 1 - tar


def _nearest(fmr: np.ndarray, fnmr: np.ndarray) -> int:
    """Where both rates are closest; of two points on either side of the crossing the stricter, not the one that rounding favours."""
    return int(np.argmin(np.round(np.abs(fnmr - fmr), 12)))


def eer_challenge(label: np.ndarray, score: np.ndarray) -> float:
    """The platform's EER: FNR at the index of the smallest |FNR − FPR| of scikit-learn's ROC curve, 0..1.

    The platform calls `roc_curve` with its defaults, which drop collinear points; so does this. See `error_curves` for errors.
    """
    label, score = _checked(label, score)
    fpr, tpr, _ = roc_curve(label, score)
    fnr = 1 - tpr
    return float(fnr[np.nanargmin(np.abs(fnr - fpr))])


def eer(label: np.ndarray, score: np.ndarray) -> float:
    """Equal error rate: the mean of FNMR and FMR where they are closest, 0..1. See `error_curves` for errors."""
    _, fmr, fnmr = error_curves(label, score)
    nearest = _nearest(fmr, fnmr)
    return float((fmr[nearest] + fnmr[nearest]) / 2)


def eer_threshold(label: np.ndarray, score: np.ndarray) -> float:
    """The score at which `eer` is read: accept when score ≥ it. See `error_curves` for errors."""
    threshold, fmr, fnmr = error_curves(label, score)
    nearest = _nearest(fmr, fnmr)
    # The curve begins at +inf, where nothing is accepted; no stored threshold may be that.
    return float(threshold[max(nearest, 1)])


def spoof_aware_eers(kind: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """EERs of accepted pairs against each kind of pair that must be refused (Jung et al., SASV 2022).

    Args:
        kind: N of 'same', 'different', 'synthetic'.
        score: N, finite.

    Returns:
        `eer_challenge` and `eer` over all pairs, `sv_eer` against different people, `spf_eer` against pairs with a synthetic image,
        `sasv_eer` against both pooled (the mean-EER convention; equals `eer` when there is no other kind). A kind that does not occur has
        no figure.

    Raises:
        MetricError: No 'same' pair, no other pair, an unknown kind, or a score that is not finite.
    """
    kind, score = np.asarray(kind).astype(str), np.asarray(score, dtype=np.float64)
    unknown = set(np.unique(kind)) - set(KINDS)
    if unknown:
        raise MetricError(f"unknown kinds of pairs: {sorted(unknown)}; known are {KINDS}")
    same = kind == "same"
    figures = {"eer_challenge": eer_challenge(same, score), "eer": eer(same, score)}
    for name, other in (("sv_eer", "different"), ("spf_eer", "synthetic")):
        chosen = same | (kind == other)
        if (kind == other).any():
            figures[name] = eer(same[chosen], score[chosen])
    figures["sasv_eer"] = figures["eer"]
    return figures


def detector_metrics(is_synthetic: np.ndarray, log_odds: np.ndarray) -> dict[str, float]:
    """The detector alone: `eer`, `auc`, and `bpcer20`, the BPCER at the threshold where APCER is at most 5%.

    Args:
        is_synthetic: N, true for synthetic images (attacks).
        log_odds: N, higher is more synthetic.

    Raises:
        MetricError: A class is missing or a value is not finite.
    """
    _, flagged_bona_fide, missed_attacks = error_curves(is_synthetic, log_odds)
    return {
        "eer": eer(is_synthetic, log_odds),
        "auc": float(roc_auc_score(np.asarray(is_synthetic).astype(bool), log_odds)),
        "bpcer20": float(flagged_bona_fide[missed_attacks <= 0.05 + 1e-12].min()),
    }


def weighted_eer(positive: np.ndarray, weight: np.ndarray, starts: np.ndarray) -> float:
    """Mean EER of items sorted by falling score, each counted `weight` times.

    Args:
        positive: N bool, sorted by falling score.
        weight: N ≥ 0.
        starts: Index of the last item of every run of equal scores: only there may a threshold lie.

    Returns:
        EER in 0..1, NaN when a class has no weight.
    """
    accepted_positive = np.cumsum(weight * positive)[starts]
    accepted_negative = np.cumsum(weight * ~positive)[starts]
    if accepted_positive[-1] == 0 or accepted_negative[-1] == 0:
        return float("nan")
    fnmr = np.append(1.0, 1 - accepted_positive / accepted_positive[-1])
    fmr = np.append(0.0, accepted_negative / accepted_negative[-1])
    nearest = _nearest(fmr, fnmr)
    return float((fmr[nearest] + fnmr[nearest]) / 2)


def bootstrap_interval(
    identity_a: np.ndarray,
    identity_b: np.ndarray,
    kind: np.ndarray,
    score: np.ndarray,
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of `spoof_aware_eers` from a bootstrap over identities.

    People are drawn with replacement, not pairs: pairs that share a person are not independent. A pair of two people counts as often
    as the product of how often they were drawn, a pair of one person as often as that person was (Poh & Bengio 2007; Bolle et al. 2004).

    Args:
        identity_a: N, who is on the first image.
        identity_b: N, who is on the second.
        kind: N of 'same', 'different', 'synthetic'.
        score: N, finite.
        resamples: Number of draws.
        level: Coverage, 0..1.
        seed: Of the draws.

    Returns:
        (low, high) per metric; `eer_challenge` takes the interval of `eer`, from which it differs on ties only.

    Raises:
        MetricError: As `spoof_aware_eers`, or when no draw contained both classes.
    """
    present = spoof_aware_eers(kind, score)
    kind, score = np.asarray(kind).astype(str), np.asarray(score, dtype=np.float64)
    people, codes = np.unique(np.concatenate([np.asarray(identity_a), np.asarray(identity_b)]).astype(str), return_inverse=True)
    a, b = codes[: len(score)], codes[len(score) :]
    order = np.argsort(-score, kind="stable")
    a, b, kind, score = a[order], b[order], kind[order], score[order]
    same = kind == "same"

    sets: dict[str, Callable[[], np.ndarray]] = {
        "eer": lambda: np.ones(len(score), bool),
        "sv_eer": lambda: same | (kind == "different"),
        "spf_eer": lambda: same | (kind == "synthetic"),
    }
    chosen = {name: np.flatnonzero(make()) for name, make in sets.items() if name in present}
    ends = {name: np.append(np.flatnonzero(np.diff(score[rows]) != 0), len(rows) - 1) for name, rows in chosen.items()}

    generator = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(resamples):
        times = np.bincount(generator.integers(0, len(people), len(people)), minlength=len(people)).astype(np.float64)
        weight = np.where(a == b, times[a], times[a] * times[b])
        for name, rows in chosen.items():
            draws[name].append(weighted_eer(same[rows], weight[rows], ends[name]))
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals: dict[str, tuple[float, float]] = {}
    for name, values in draws.items():
        finite = np.array(values)[np.isfinite(values)]
        if not len(finite):
            raise MetricError(f"{name}: no bootstrap draw held both classes; there are only {len(people)} identities")
        low, high = np.quantile(finite, tails)
        intervals[name] = (float(low), float(high))
    intervals["eer_challenge"] = intervals["sasv_eer"] = intervals["eer"]
    return intervals
