"""Identity-balanced batches, in one process and divided among several."""

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
def test_identity_balanced_deals_as_many_images_of_each_identity(people, per_batch, photos, seed):
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
            # Rows repeat only where there are too few.
            assert len(set(own)) == min(photos, people[one][0])
            forged = [row for row in batch if synthetic[row] and person[row] == one]
            assert len(forged) == 2 * (people[one][1] > 0) and len(set(forged)) == min(
                2, people[one][1]
            )


def test_identity_balanced_deals_no_synthetic_image_when_none_are_wanted():
    person, synthetic = table([4, 4], [4, 4])
    assert not any(
        synthetic[row] for batch in IdentityBalanced(person, synthetic, 2, 2, 0, 0) for row in batch
    )


def test_identity_balanced_deals_every_image_once_and_redraws_each_epoch():
    person, synthetic = table([6] * 8, [0] * 8)
    sampler = IdentityBalanced(person, synthetic, 4, 3, 0, 0)
    first = list(sampler)
    assert sorted(row for batch in first for row in batch) == list(range(48))
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_ranked_batches_divide_the_epoch_among_two_processes(monkeypatch):
    person, synthetic = table([6] * 8, [0] * 8)
    sampler = IdentityBalanced(person, synthetic, 3, 3, 0, 0)
    whole = list(sampler)
    parts = []
    for rank in range(2):
        monkeypatch.setattr("kryptonite.nn.train.batches.ranks", lambda rank=rank: (rank, 2))
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
    assert len(parts[0]) == len(parts[1])
    assert (
        parts[0] == whole[0 : 2 * len(parts[0]) : 2]
        and parts[1] == whole[1 : 2 * len(parts[1]) : 2]
    )


def test_identity_balanced_raises_data_error_when_no_image_is_bona_fide():
    with pytest.raises(DataError, match="genuine"):
        IdentityBalanced(np.zeros(3, int), np.ones(3, bool), 2, 2, 1, 0)
