"""Intervals from a bootstrap over identities.

People are drawn with replacement, not pairs: pairs that share a person are not independent. A pair of two people counts as often as the
product of how often they were drawn, a pair of one person as often as that person was (Poh & Bengio 2007; Bolle et al. 2004).
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from kryptonite.core.errors import MetricError
from kryptonite.metrics.error_rates import RankedImages, RankedPairs, pair_metrics

Interval = tuple[float, float]
Draws = dict[str, np.ndarray]
Weigh = Callable[[np.ndarray], dict[str, float]]


def pair_draws(
    identity_a: np.ndarray,
    identity_b: np.ndarray,
    kind: np.ndarray,
    score: np.ndarray,
    threshold: float | None = None,
    llr: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Draws:
    """Values of `pair_metrics` over resampled people.

    Draw n holds the same people whatever the scores are, so that the draws of two systems on the same pairs may be subtracted: the interval
    of the difference then knows that both were measured on the same people.

    Args:
        identity_a: N, who is on the first image.
        identity_b: N, who is on the second.
        kind: N of 'same', 'different', 'synthetic'.
        score: N, finite.
        threshold: As for `pair_metrics`; it stays where it is.
        llr: As for `pair_metrics`.
        resamples: Number of draws.
        seed: Of the draws.

    Returns:
        Per metric `resamples` values, NaN where a draw lacked a kind; `eer_challenge` has those of `eer`: they differ on ties only.

    Raises:
        MetricError: As `RankedPairs`, or when no draw contained every kind.
    """
    pairs = RankedPairs(kind, score, threshold, llr)
    names, codes = np.unique(
        np.concatenate([np.asarray(identity_a), np.asarray(identity_b)]).astype(str),
        return_inverse=True,
    )
    first, second = codes[: len(identity_a)], codes[len(identity_a) :]
    # The partner of a pair of one person is nobody, who is always drawn once.
    second = np.where(first == second, len(names), second)
    people = {name: (first[rows], second[rows]) for name, rows in pairs.ranked.rows.items()}

    def weigh(times: np.ndarray) -> dict[str, float]:
        times = np.append(times, 1.0)
        return pairs.figures({name: times[a] * times[b] for name, (a, b) in people.items()})

    draws = _draws(weigh, len(names), resamples, seed)
    return {"eer_challenge": draws["eer"], **draws}


def intervals(draws: Draws, level: float = 0.95) -> dict[str, Interval]:
    """Percentile intervals (low, high) of what `pair_draws` gives, or of differences of it.

    Args:
        draws: Per metric the values of all draws; NaN are left out.
        level: Coverage, 0..1.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    return {name: tuple(np.nanquantile(values, tails).tolist()) for name, values in draws.items()}


def pair_intervals(
    identity_a: np.ndarray,
    identity_b: np.ndarray,
    kind: np.ndarray,
    score: np.ndarray,
    threshold: float | None = None,
    llr: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """95% intervals of `pair_metrics`; see `pair_draws`."""
    return intervals(
        pair_draws(identity_a, identity_b, kind, score, threshold, llr, resamples, seed)
    )


def measure_pairs(
    identity_a: np.ndarray,
    identity_b: np.ndarray,
    kind: np.ndarray,
    score: np.ndarray,
    threshold: float | None = None,
    llr: np.ndarray | None = None,
    resamples: int = 1000,
) -> dict[str, Any]:
    """`pair_metrics` with `pair_intervals` beside them under `intervals`, as metrics.json holds them."""
    return {
        **pair_metrics(kind, score, threshold, llr),
        "intervals": pair_intervals(identity_a, identity_b, kind, score, threshold, llr, resamples),
    }


def detector_intervals(
    identity: np.ndarray,
    is_synthetic: np.ndarray,
    log_odds: np.ndarray,
    species: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """95% intervals of `detector_metrics`; an image counts as often as its person was drawn.

    Args:
        identity: N, who is on the image, or is pretended to be.
        is_synthetic: N, true for synthetic images.
        log_odds: N, higher is more synthetic.
        species: As for `detector_metrics`.
        resamples: Number of draws.
        seed: Of the draws.

    Raises:
        MetricError: As `RankedImages`, or when no draw contained both classes.
    """
    images = RankedImages(is_synthetic, log_odds, species)
    names, codes = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    people = {name: codes[rows] for name, rows in images.ranked.rows.items()}
    return intervals(
        _draws(
            lambda times: images.figures({name: times[rows] for name, rows in people.items()}),
            len(names),
            resamples,
            seed,
        )
    )


def share_interval(
    identity: np.ndarray, hit: np.ndarray, resamples: int = 1000, seed: int = 0
) -> Interval:
    """95% interval of the share of images that `hit` is true of, for example of failures to acquire.

    Args:
        identity: N, who is on the image.
        hit: N bool.
        resamples: Number of draws.
        seed: Of the draws.
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


def _draws(weigh: Weigh, people: int, resamples: int, seed: int) -> Draws:
    def draw(number: int) -> dict[str, float]:
        # A stream of its own for each draw, so that threads do not change the result.
        drawn = np.random.default_rng([seed, number]).integers(0, people, people)
        return weigh(np.bincount(drawn, minlength=people).astype(np.float64))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        draws = list(threads.map(draw, range(resamples)))
    names = dict.fromkeys(name for figures in draws for name in figures)
    if not names:
        raise MetricError(f"no bootstrap draw held every kind; there are only {people} identities")
    return {name: np.array([figures.get(name, np.nan) for figures in draws]) for name in names}
