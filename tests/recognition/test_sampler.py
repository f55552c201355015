"""Identity-balanced batches, alone and shared among processes."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.errors import DataError
from kryptonite.recognition.sampler import IdentityBalanced


def table(sizes, forged):
    person = np.repeat(
        np.arange(len(sizes)), [size + extra for size, extra in zip(sizes, forged, strict=True)]
    )
    synthetic = np.concatenate(
        [[False] * size + [True] * extra for size, extra in zip(sizes, forged, strict=True)]
    )
    return person, synthetic


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(0, 9),
)
def test_batches_are_balanced(people, per_batch, photos, seed):
    person, synthetic = table(*zip(*people, strict=True))
    sampler = IdentityBalanced(person, synthetic, per_batch, photos, 2, seed)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    for batch in batches:
        genuine = [row for row in batch if not synthetic[row]]
        counts = Counter(person[genuine].tolist())
        assert len(counts) == min(per_batch, len(people)) and set(counts.values()) == {photos}
        for one in counts:
            own = [row for row in genuine if person[row] == one]
            assert len(set(own)) == min(
                photos, people[one][0]
            )  # repeats only where there are too few
            forged = [row for row in batch if synthetic[row] and person[row] == one]
            assert len(forged) == 2 * (people[one][1] > 0) and len(set(forged)) == min(
                2, people[one][1]
            )


def test_without_the_spoof_term_no_forgery_is_dealt():
    person, synthetic = table([4, 4], [4, 4])
    assert not any(
        synthetic[row] for batch in IdentityBalanced(person, synthetic, 2, 2, 0, 0) for row in batch
    )


def test_an_epoch_deals_every_photo_about_once_and_epochs_differ_by_seed():
    person, synthetic = table([6] * 8, [0] * 8)
    sampler = IdentityBalanced(person, synthetic, 4, 3, 0, 0)
    first = list(sampler)
    assert sorted(row for batch in first for row in batch) == list(range(48))
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_two_processes_share_the_batches(monkeypatch):
    person, synthetic = table([6] * 8, [0] * 8)
    sampler = IdentityBalanced(person, synthetic, 3, 3, 0, 0)
    whole = list(sampler)
    shares = []
    for rank in range(2):
        monkeypatch.setattr("kryptonite.nn.train.batches.ranks", lambda rank=rank: (rank, 2))
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    assert len(shares[0]) == len(shares[1])
    assert (
        shares[0] == whole[0 : 2 * len(shares[0]) : 2]
        and shares[1] == whole[1 : 2 * len(shares[1]) : 2]
    )


def test_nobody_genuine_is_an_error():
    with pytest.raises(DataError, match="genuine"):
        IdentityBalanced(np.zeros(3, int), np.ones(3, bool), 2, 2, 1, 0)
