"""Batches of as many genuine as synthetic images: of one person side by side, or of anybody; forgeries in the place of some."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.errors import DataError
from kryptonite.liveness.sampler import PairedBatches, UnpairedBatches


def table(people):
    person = np.concatenate(
        [np.full(genuine + forged, index) for index, (genuine, forged) in enumerate(people)]
    )
    synthetic = np.concatenate(
        [np.arange(genuine + forged) >= genuine for genuine, forged in people]
    )
    order = np.random.default_rng(0).permutation(len(person))
    return person[order], synthetic[order]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=9),
    st.integers(1, 8),
    st.integers(0, 5),
)
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


def dealt(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_without_forgeries_the_draws_are_those_of_the_shuffles_alone():
    """A run of an older version must repeat: nothing but the shuffles below may take numbers from the generator."""
    person, synthetic = table([(6, 2), (3, 5), (4, 0), (1, 1), (0, 3)])
    rows = np.arange(len(person))
    for seed, epoch in ((0, 0), (0, 1), (3, 2)):
        generator, pairs = np.random.default_rng([seed, epoch]), []
        for one in (0, 1, 3):
            both = rows[(person == one) & ~synthetic], rows[(person == one) & synthetic]
            number = max(map(len, both))
            rounds = [
                [generator.permutation(each) for _ in range(-(-number // len(each)))]
                for each in both
            ]
            pairs.append(np.stack([np.concatenate(each)[:number] for each in rounds], 1))
        expected = generator.permutation(np.concatenate(pairs))[:12].reshape(3, 8)
        assert dealt(PairedBatches(person, synthetic, 4, seed), epoch) == expected.tolist()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=2, max_size=9),
    st.integers(1, 8),
    st.integers(0, 5),
)
def test_unpaired_batches_are_balanced_and_leave_nobody_out(people, pairs, seed):
    synthetic = table([*people, (3, 0), (0, 2)])[1]
    sampler = UnpairedBatches(synthetic, pairs, seed)
    batches = list(sampler)
    assert len(batches) == len(sampler) and sampler.left_out == 0
    assert all(synthetic[batch].mean() == 0.5 and len(batch) <= 2 * pairs for batch in batches)
    assert all(len(batch) == 2 * pairs for batch in batches) or len(batches) == 1


def test_an_unpaired_epoch_deals_every_image():
    person, synthetic = table([(6, 2), (4, 0), (0, 3), (2, 1)])  # 12 genuine, 6 synthetic
    times = np.bincount(
        [row for batch in UnpairedBatches(synthetic, 4, 0) for row in batch], minlength=len(person)
    )
    assert (times[~synthetic] == 1).all() and (times[synthetic] == 2).all()


def test_unpaired_images_stand_beside_anybody():
    person, synthetic = table([(5, 5)] * 20)
    together = np.concatenate(
        [np.reshape(batch, (-1, 2)) for batch in UnpairedBatches(synthetic, 10, 0)]
    )
    assert (person[together[:, 0]] == person[together[:, 1]]).mean() < 0.2


def test_unpaired_batches_need_both_classes():
    with pytest.raises(DataError, match="k_"):
        UnpairedBatches(np.ones(4), 2, 0)


def batches_of(paired, person, synthetic, forgeries, seed=0, pairs=10):
    if paired:
        return PairedBatches(person, synthetic, pairs, seed, forgeries)
    return UnpairedBatches(synthetic, pairs, seed, forgeries)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_every_batch_has_its_share_of_forgeries_of_genuine_rows(paired, share):
    person, synthetic = table([(5, 3), (2, 6)] * 20)
    rows = len(person)
    batches = dealt(batches_of(paired, person, synthetic, share))
    for batch in batches:
        first, second = np.reshape(batch, (-1, 2)).T
        forged = second >= rows
        assert abs(forged.sum() - share * len(second)) <= 1
        assert (
            (first < rows).all() and not synthetic[first].any() and synthetic[second[~forged]].all()
        )
        assert not synthetic[second[forged] % rows].any()
        if paired:
            assert (second[forged] % rows == first[forged]).all()
    numbers = np.concatenate(batches)
    assert (numbers >= rows).mean() == pytest.approx(share / 2, abs=0.01)
    if not paired:
        first, second = numbers.reshape(-1, 2).T
        assert (second[second >= rows] % rows == first[second >= rows]).mean() < 0.1


@pytest.mark.parametrize("paired", [True, False])
def test_forgeries_take_places_and_change_nothing_else(paired):
    person, synthetic = table([(5, 3), (2, 6)] * 4)
    plain, some = (
        np.concatenate(dealt(batches_of(paired, person, synthetic, share))) for share in (0.0, 0.5)
    )
    kept = some < len(person)
    assert (
        (plain < len(person)).all()
        and (plain[kept] == some[kept]).all()
        and 0 < (~kept).sum() < len(kept)
    )


@pytest.mark.parametrize("paired", [True, False])
def test_forgeries_repeat_by_seed_and_epoch_and_differ_between_them(paired):
    person, synthetic = table([(5, 5)] * 6)

    def draw(seed, epoch):
        return dealt(batches_of(paired, person, synthetic, 0.5, seed), epoch)

    assert draw(0, 3) == draw(0, 3)
    numbers = [
        number
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
        for batch in draw(seed, epoch)
        for number in batch
    ]
    forged = [number for number in numbers if number >= len(person)]
    assert len(forged) == len(set(forged)) == 45
