"""Planted mislabels have the requested share, are genuine, and repeat by seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryptonite.core.errors import ConfigError
from kryptonite.data.audit.mislabel import plant_mislabels


@given(st.integers(2, 9), st.floats(0, 1), st.integers(0, 99))
def test_plant_mislabels_moves_the_requested_share_of_genuine_photos(people, share, seed):
    label = np.repeat([f"p{n}" for n in range(people)], 5)
    synthetic = np.arange(len(label)) % 5 == 0
    noisy, planted = plant_mislabels(label, synthetic, share, seed)
    assert planted.sum() == round(share * (~synthetic).sum()) and not planted[synthetic].any()
    assert ((noisy != label) == planted).all() and set(noisy) <= set(label)
    assert (plant_mislabels(label, synthetic, share, seed)[0] == noisy).all()


def test_plant_mislabels_keeps_its_input_and_reaches_every_identity():
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


def test_plant_mislabels_depends_on_the_seed():
    label = np.repeat(["a", "b", "c"], 40)
    planted = [plant_mislabels(label, np.zeros(120, bool), 0.2, seed)[1] for seed in (0, 1)]
    assert (planted[0] != planted[1]).any()


def test_plant_mislabels_raises_config_error_when_impossible():
    with pytest.raises(ConfigError, match="two identities"):
        plant_mislabels(np.array(["a", "a"]), np.zeros(2, bool), 0.5, 0)
    with pytest.raises(ConfigError, match="0..1"):
        plant_mislabels(np.array(["a", "b"]), np.zeros(2, bool), 1.5, 0)
