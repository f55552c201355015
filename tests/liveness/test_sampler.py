"""Batches that pair genuine and synthetic images of one person."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import DataError
from liveness.sampler import PairedBatches


def table(people):
    person = np.concatenate([np.full(genuine + forged, index) for index, (genuine, forged) in enumerate(people)])
    synthetic = np.concatenate([np.arange(genuine + forged) >= genuine for genuine, forged in people])
    order = np.random.default_rng(0).permutation(len(person))
    return person[order], synthetic[order]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=9), st.integers(1, 8), st.integers(0, 5))
def test_every_forgery_stands_beside_a_genuine_photo_of_its_person(people, pairs, seed):
    person, synthetic = table(people)
    sampler = PairedBatches(person, synthetic, pairs, seed)
    batches = list(sampler)
    assert len(batches) == len(sampler) and sampler.left_out == 0
    for batch in batches:
        assert len(batch) % 2 == 0 and len(batch) <= 2 * pairs
        for first, second in zip(batch[::2], batch[1::2], strict=True):
            assert person[first] == person[second] and not synthetic[first] and synthetic[second]


def test_an_epoch_deals_the_frequent_class_once_and_the_rare_one_evenly():
    person, synthetic = table([(6, 2)] * 4)
    dealt = [row for batch in PairedBatches(person, synthetic, 4, 0) for row in batch]
    times = np.bincount(dealt, minlength=len(person))
    assert (times[~synthetic] == 1).all() and (times[synthetic] == 3).all()


def test_people_of_one_class_are_left_out_and_counted():
    person, synthetic = table([(3, 2), (4, 0), (0, 5)])
    sampler = PairedBatches(person, synthetic, 2, 0)
    assert sampler.left_out == 9
    assert {person[row] for batch in sampler for row in batch} == {0}
    with pytest.raises(DataError, match="k_"):
        PairedBatches(*table([(4, 0), (0, 5)]), 2, 0)
