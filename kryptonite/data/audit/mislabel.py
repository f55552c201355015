"""Mislabelled photos planted on purpose, to measure what they cost and whether cleaning finds them."""

import numpy as np

from kryptonite.core.errors import ConfigError


def plant_mislabels(
    label: np.ndarray, is_synthetic: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Files some genuine photos under a random other person, as a careless collector would.

    Args:
        label: N identities.
        is_synthetic: N bool; generated images stay where they are.
        share: Of the genuine photos, 0..1.
        seed: Of the draw.

    Returns:
        N identities, and N bool, true where they differ from `label`.

    Raises:
        ConfigError: The share lies outside 0..1, or there is nobody else to file a photo under.
    """
    label, genuine = (
        np.asarray(label).astype(object),
        np.flatnonzero(~np.asarray(is_synthetic).astype(bool)),
    )
    people = np.unique(label.astype(str))
    if not 0 <= share <= 1:
        raise ConfigError(f"the share of mislabelled photos must lie in 0..1, got {share}")
    if share > 0 and len(people) < 2:
        raise ConfigError("mislabels need at least two people")
    generator = np.random.default_rng(seed)
    rows = generator.choice(genuine, round(share * len(genuine)), replace=False)
    # A step of 1..K−1 around the circle of K people never ends where it began.
    own = np.searchsorted(people, label[rows].astype(str))
    noisy, planted = label.copy(), np.zeros(len(label), bool)
    noisy[rows] = people[
        (own + generator.integers(1, max(2, len(people)), len(rows))) % len(people)
    ]
    planted[rows] = True
    return noisy, planted
