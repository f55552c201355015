"""Intervals from a bootstrap over identities.

People are drawn with replacement, not pairs: pairs that share a person are not independent. A pair of two people counts as often as the
product of how often they were drawn, a pair of one person as often as that person was (Poh & Bengio 2007; Bolle et al. 2004).
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from common.errors import MetricError
from evaluation.metrics import RankedImages, RankedPairs, pair_metrics

Interval = tuple[float, float]
Weigh = Callable[[np.ndarray], dict[str, float]]


def pair_intervals(
    identity_a: np.ndarray,
    identity_b: np.ndarray,
    kind: np.ndarray,
    score: np.ndarray,
    threshold: float | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of `pair_metrics`.

    Args:
        identity_a: N, who is on the first image.
        identity_b: N, who is on the second.
        kind: N of 'same', 'different', 'synthetic'.
        score: N, finite.
        threshold: As for `pair_metrics`; it stays where it is.
        resamples: Number of draws.
        level: Coverage, 0..1.
        seed: Of the draws.

    Returns:
        (low, high) per metric; `eer_challenge` takes the interval of `eer`, from which it differs on ties only.

    Raises:
        MetricError: As `RankedPairs`, or when no draw contained every kind.
    """
    pairs = RankedPairs(kind, score, threshold)
    names, codes = np.unique(np.concatenate([np.asarray(identity_a), np.asarray(identity_b)]).astype(str), return_inverse=True)
    first, second = codes[: len(identity_a)], codes[len(identity_a) :]
    # The partner of a pair of one person is nobody, who is always drawn once.
    second = np.where(first == second, len(names), second)
    people = {name: (first[rows], second[rows]) for name, rows in pairs.ranked.rows.items()}

    def weigh(times: np.ndarray) -> dict[str, float]:
        times = np.append(times, 1.0)
        return pairs.figures({name: times[a] * times[b] for name, (a, b) in people.items()})

    intervals = _intervals(weigh, len(names), resamples, level, seed)
    return {"eer_challenge": intervals["eer"], **intervals}


def measure_pairs(
    identity_a: np.ndarray,
    identity_b: np.ndarray,
    kind: np.ndarray,
    score: np.ndarray,
    threshold: float | None = None,
    resamples: int = 1000,
) -> dict[str, Any]:
    """`pair_metrics` with `pair_intervals` beside them under `intervals`, as metrics.json holds them."""
    intervals = pair_intervals(identity_a, identity_b, kind, score, threshold, resamples)
    return {**pair_metrics(kind, score, threshold), "intervals": intervals}


def detector_intervals(
    identity: np.ndarray,
    is_synthetic: np.ndarray,
    log_odds: np.ndarray,
    species: Sequence[str] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of `detector_metrics`; an image counts as often as its person was drawn.

    Args:
        identity: N, who is on the image, or is pretended to be.
        is_synthetic: N, true for synthetic images.
        log_odds: N, higher is more synthetic.
        species: As for `detector_metrics`.
        resamples: Number of draws.
        level: Coverage, 0..1.
        seed: Of the draws.

    Raises:
        MetricError: As `RankedImages`, or when no draw contained both classes.
    """
    images = RankedImages(is_synthetic, log_odds, species)
    names, codes = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    people = {name: codes[rows] for name, rows in images.ranked.rows.items()}
    return _intervals(
        lambda times: images.figures({name: times[rows] for name, rows in people.items()}), len(names), resamples, level, seed
    )


def _intervals(weigh: Weigh, people: int, resamples: int, level: float, seed: int) -> dict[str, Interval]:
    def draw(number: int) -> dict[str, float]:
        # A stream of its own for each draw, so that threads do not change the result.
        drawn = np.random.default_rng([seed, number]).integers(0, people, people)
        return weigh(np.bincount(drawn, minlength=people).astype(np.float64))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        draws = [figures for figures in threads.map(draw, range(resamples)) if figures]
    if not draws:
        raise MetricError(f"no bootstrap draw held every kind; there are only {people} identities")
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals = {}
    for name in dict.fromkeys(name for figures in draws for name in figures):
        low, high = np.quantile([figures[name] for figures in draws if name in figures], tails)
        intervals[name] = (float(low), float(high))
    return intervals
