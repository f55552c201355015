"""Confidence intervals from a bootstrap over identities.

The bootstrap resamples identities rather than pairs, because pairs that share an identity are not
independent. A pair of two identities weighs the product of how often each was drawn, a pair within
one identity as often as that identity was drawn (Poh & Bengio 2007; Bolle et al. 2004).
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from kryptonite.core.errors import MetricError
from kryptonite.metrics.error_rates import RankedImages, RankedPairs, pair_metrics

Interval = tuple[float, float]
Draws = dict[str, np.ndarray]
# Maps weights, such as how often each identity was drawn, to metrics.
Measure = Callable[[np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class PairScores:
    """Scored pairs and the identities on them.

    Args:
        identity_a: N identities on the first image.
        identity_b: N identities on the second image.
        kind: N pair kinds, each one of `metrics.kinds.KINDS`.
        score: N finite scores, higher means 'accept'.
        threshold: Operating point, as for `pair_metrics`; the same in every draw.
        llr: N log-likelihood ratios, as for `pair_metrics`.
    """

    identity_a: Sequence | np.ndarray
    identity_b: Sequence | np.ndarray
    kind: Sequence | np.ndarray
    score: Sequence | np.ndarray
    threshold: float | None = None
    llr: Sequence | np.ndarray | None = None


def pair_draws(scored: PairScores, resamples: int = 1000, seed: int = 0) -> Draws:
    """Computes `pair_metrics` for each of `resamples` draws of identities.

    Draw n holds the same identities whatever the scores are, so that the draws of two systems on
    the same pairs may be subtracted to get the interval of a paired difference.

    Args:
        scored: Pairs with their scores.
        resamples: Number of draws.
        seed: Seeds the draws.

    Returns:
        Maps each metric to `resamples` values, NaN where a draw lacked a kind. `eer_challenge` has
        the values of `eer`: the two differ on ties only.

    Raises:
        MetricError: As `RankedPairs`, or no draw contained every kind.
    """
    pairs = RankedPairs(scored.kind, scored.score, scored.threshold, scored.llr)

    def measure(weight: np.ndarray) -> dict[str, float]:
        return pairs.figures({name: weight[rows] for name, rows in pairs.ranked.rows.items()})

    draws = weighted_draws(scored.identity_a, scored.identity_b, measure, resamples, seed)
    return {"eer_challenge": draws["eer"], **draws}


def weighted_draws(
    identity_a: Sequence | np.ndarray,
    identity_b: Sequence | np.ndarray,
    measure: Measure,
    resamples: int = 1000,
    seed: int = 0,
) -> Draws:
    """Computes figures of pairs for each of `resamples` draws of identities; see `pair_draws`.

    Args:
        identity_a: N identities on the first image.
        identity_b: N identities on the second image.
        measure: Maps the weights of the N pairs to figures.
        resamples: Number of draws.
        seed: Seeds the draws.

    Returns:
        Maps each figure to `resamples` values, NaN where a draw did not give it.

    Raises:
        MetricError: No draw gave any.
    """
    names, codes = np.unique(
        np.concatenate([np.asarray(identity_a), np.asarray(identity_b)]).astype(str),
        return_inverse=True,
    )
    first, second = np.split(codes, [len(identity_a)])
    # A pair within one identity gets a dummy partner, which every draw holds once.
    second = np.where(first == second, len(names), second)

    def weighed(times: np.ndarray) -> dict[str, float]:
        times = np.append(times, 1.0)
        return measure(times[first] * times[second])

    return _draws(weighed, len(names), resamples, seed)


def intervals(draws: Draws, level: float = 0.95) -> dict[str, Interval]:
    """Percentile intervals (low, high) of the values from `pair_draws`, or of their differences.

    Args:
        draws: Maps each metric to its values over all draws; NaN are ignored.
        level: Coverage, 0..1.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    return {name: tuple(np.nanquantile(values, tails).tolist()) for name, values in draws.items()}


def pair_intervals(scored: PairScores, resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """95% intervals of `pair_metrics`; see `pair_draws`."""
    return intervals(pair_draws(scored, resamples, seed))


def measure_pairs(scored: PairScores, resamples: int) -> dict[str, Any]:
    """Computes `pair_metrics` and, under `intervals`, `pair_intervals`; as in metrics.json."""
    return {
        **pair_metrics(scored.kind, scored.score, scored.threshold, scored.llr),
        "intervals": pair_intervals(scored, resamples),
    }


def detector_intervals(
    identity: np.ndarray,
    is_synthetic: np.ndarray,
    log_odds: np.ndarray,
    species: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """95% intervals of `detector_metrics`; an image weighs as often as its identity was drawn.

    Args:
        identity: N identities that the images show or pretend to show.
        is_synthetic: N bool, true for synthetic images.
        log_odds: N log-odds of 'synthetic'.
        species: What made each image, as for `detector_metrics`.
        resamples: Number of draws.
        seed: Seeds the draws.

    Raises:
        MetricError: As `RankedImages`, or no draw contained both classes.
    """
    images = RankedImages(is_synthetic, log_odds, species)
    names, codes = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    identities = {name: codes[rows] for name, rows in images.ranked.rows.items()}
    return intervals(
        _draws(
            lambda times: images.figures({name: times[rows] for name, rows in identities.items()}),
            len(names),
            resamples,
            seed,
        )
    )


def share_interval(
    identity: np.ndarray, hit: np.ndarray, resamples: int = 1000, seed: int = 0
) -> Interval:
    """95% interval of the share of images with `hit`, for example of failures to acquire.

    Args:
        identity: N identities that the images show.
        hit: N bool.
        resamples: Number of draws.
        seed: Seeds the draws.
    """
    names, codes = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    hits, images = np.bincount(codes, hit, len(names)), np.bincount(codes, minlength=len(names))
    return intervals(
        _draws(
            lambda times: {"share": float(times @ hits / (times @ images))},
            len(names),
            resamples,
            seed,
        )
    )["share"]


def _draws(measure: Measure, identities: int, resamples: int, seed: int) -> Draws:
    def draw(number: int) -> dict[str, float]:
        # Each draw has its own random stream, so that threads do not change the result.
        drawn = np.random.default_rng([seed, number]).integers(0, identities, identities)
        return measure(np.bincount(drawn, minlength=identities).astype(np.float64))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        draws = list(threads.map(draw, range(resamples)))
    names = dict.fromkeys(name for figures in draws for name in figures)
    if not names:
        raise MetricError(
            f"no bootstrap draw contained every kind: there are only {identities} identities"
        )
    return {name: np.array([figures.get(name, np.nan) for figures in draws]) for name in names}
