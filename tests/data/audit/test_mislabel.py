"""Planted mislabels are as many as asked for, genuine, and repeatable."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryptonite.core.errors import ConfigError
from kryptonite.data.audit.mislabel import plant_mislabels


@given(st.integers(2, 9), st.floats(0, 1), st.integers(0, 99))
def test_planting_moves_the_share_asked_for_and_genuine_photos_only(people, share, seed):
    label = np.repeat([f"p{n}" for n in range(people)], 5)
    synthetic = np.arange(len(label)) % 5 == 0
    noisy, planted = plant_mislabels(label, synthetic, share, seed)
    assert planted.sum() == round(share * (~synthetic).sum()) and not planted[synthetic].any()
    assert ((noisy != label) == planted).all() and set(noisy) <= set(label)
    assert (plant_mislabels(label, synthetic, share, seed)[0] == noisy).all()


def test_planting_leaves_the_table_it_was_given_alone_and_uses_everybody():
    label = np.repeat([f"p{n}" for n in range(5)], 200)
    noisy, planted = plant_mislabels(label, np.zeros(1000, bool), 0.5, seed=0)
    assert (label == np.repeat([f"p{n}" for n in range(5)], 200)).all()
    counts = np.array(
        [
            [((noisy == b) & (label == a) & planted).sum() for b in np.unique(label)]
            for a in np.unique(label)
        ]
    )
    assert (np.diag(counts) == 0).all() and counts[~np.eye(5, dtype=bool)].min() > 10


def test_other_seeds_plant_others():
    label = np.repeat(["a", "b", "c"], 40)
    planted = [plant_mislabels(label, np.zeros(120, bool), 0.2, seed)[1] for seed in (0, 1)]
    assert (planted[0] != planted[1]).any()


def test_mislabels_need_somebody_else():
    with pytest.raises(ConfigError, match="two people"):
        plant_mislabels(np.array(["a", "a"]), np.zeros(2, bool), 0.5, 0)
    with pytest.raises(ConfigError, match="0..1"):
        plant_mislabels(np.array(["a", "b"]), np.zeros(2, bool), 1.5, 0)
