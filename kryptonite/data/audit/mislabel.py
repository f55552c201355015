"""Plants mislabels on purpose, to measure what they cost and whether cleaning finds them."""

import numpy as np

from kryptonite.core.errors import ConfigError


def plant_mislabels(
    label: np.ndarray, is_synthetic: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Files some genuine photos under a random other identity, as a careless collector would.

    Args:
        label: N identities.
        is_synthetic: N bool, true for synthetic images; these keep their label.
        share: Share of the genuine photos to mislabel, 0..1.
        seed: Seeds the draw.

    Returns:
        N identities, and N bool, true where they differ from `label`.

    Raises:
        ConfigError: The share lies outside 0..1, or there is no other identity.
    """
    label = np.asarray(label).astype(object)
    bona_fide = np.flatnonzero(~np.asarray(is_synthetic).astype(bool))
    identities = np.unique(label.astype(str))
    if not 0 <= share <= 1:
        raise ConfigError(f"the share of mislabelled photos must lie in 0..1, got {share}")
    if share > 0 and len(identities) < 2:
        raise ConfigError("mislabels need at least two identities")
    generator = np.random.default_rng(seed)
    rows = generator.choice(bona_fide, round(share * len(bona_fide)), replace=False)
    # A step of 1..K−1 modulo K never returns to the same identity.
    own = np.searchsorted(identities, label[rows].astype(str))
    noisy, planted = label.copy(), np.zeros(len(label), bool)
    noisy[rows] = identities[
        (own + generator.integers(1, max(2, len(identities)), len(rows))) % len(identities)
    ]
    planted[rows] = True
    return noisy, planted
