"""Class-balanced batches, paired by identity or not, with and without forgeries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.errors import DataError
from kryptonite.liveness.forgeries import Draw
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


def dealt(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def is_forgery(draw):
    return draw.forgery_seed is not None


def rows_of(sampler, epoch=0):
    """Rows of an epoch that has no forgeries."""
    batches = dealt(sampler, epoch)
    assert all(draw == Draw(draw.row) for batch in batches for draw in batch)
    return [[draw.row for draw in batch] for batch in batches]


def as_arrays(batch):
    """Rows, and whether they are forged, of a batch's first and second images: 2×N each."""
    rows, forged = zip(*((draw.row, is_forgery(draw)) for draw in batch), strict=True)
    return np.reshape(rows, (-1, 2)).T, np.reshape(forged, (-1, 2)).T


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=9),
    st.integers(1, 8),
    st.integers(0, 5),
)
def test_paired_batches_pair_each_synthetic_image_with_its_person(people, pairs, seed):
    person, synthetic = table(people)
    sampler = PairedBatches(person, synthetic, pairs, seed)
    batches = rows_of(sampler)
    assert len(batches) == len(sampler) and sampler.left_out == 0
    for batch in batches:
        assert len(batch) % 2 == 0 and len(batch) <= 2 * pairs
        for first, second in zip(batch[::2], batch[1::2], strict=True):
            assert person[first] == person[second] and not synthetic[first] and synthetic[second]


def test_paired_batches_deal_frequent_class_once_and_rare_class_evenly():
    person, synthetic = table([(6, 2)] * 4)
    rows = [row for batch in rows_of(PairedBatches(person, synthetic, 4, 0)) for row in batch]
    times = np.bincount(rows, minlength=len(person))
    assert (times[~synthetic] == 1).all() and (times[synthetic] == 3).all()


def test_paired_batches_leave_out_and_count_people_of_one_class():
    person, synthetic = table([(3, 2), (4, 0), (0, 5)])
    sampler = PairedBatches(person, synthetic, 2, 0)
    assert sampler.left_out == 9
    assert {person[row] for batch in rows_of(sampler) for row in batch} == {0}
    with pytest.raises(DataError, match="k_"):
        PairedBatches(*table([(4, 0), (0, 5)]), 2, 0)


def test_paired_batches_draw_from_shuffles_alone_when_there_are_no_forgeries():
    """Older runs must be reproducible: only these shuffles may take numbers from the generator."""
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
        sampler = PairedBatches(person, synthetic, 4, seed)
        assert rows_of(sampler, epoch) == expected.tolist()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=2, max_size=9),
    st.integers(1, 8),
    st.integers(0, 5),
)
def test_unpaired_batches_are_balanced_and_leave_no_image_out(people, pairs, seed):
    synthetic = table([*people, (3, 0), (0, 2)])[1]
    sampler = UnpairedBatches(synthetic, pairs, seed)
    batches = rows_of(sampler)
    assert len(batches) == len(sampler) and sampler.left_out == 0
    assert all(synthetic[batch].mean() == 0.5 and len(batch) <= 2 * pairs for batch in batches)
    assert all(len(batch) == 2 * pairs for batch in batches) or len(batches) == 1


def test_unpaired_batches_deal_every_image_in_an_epoch():
    person, synthetic = table([(6, 2), (4, 0), (0, 3), (2, 1)])  # 12 bona fide, 6 synthetic
    rows = [row for batch in rows_of(UnpairedBatches(synthetic, 4, 0)) for row in batch]
    times = np.bincount(rows, minlength=len(person))
    assert (times[~synthetic] == 1).all() and (times[synthetic] == 2).all()


def test_unpaired_batches_rarely_pair_the_same_person():
    person, synthetic = table([(5, 5)] * 20)
    together = np.concatenate(
        [np.reshape(batch, (-1, 2)) for batch in rows_of(UnpairedBatches(synthetic, 10, 0))]
    )
    assert (person[together[:, 0]] == person[together[:, 1]]).mean() < 0.2


def test_unpaired_batches_raise_data_error_when_a_class_is_missing():
    with pytest.raises(DataError, match="k_"):
        UnpairedBatches(np.ones(4), 2, 0)


def batches_of(paired, person, synthetic, forgeries, seed=0, pairs=10):
    if paired:
        return PairedBatches(person, synthetic, pairs, seed, forgeries)
    return UnpairedBatches(synthetic, pairs, seed, forgeries)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_balanced_batches_spread_forgeries_of_bona_fide_rows_evenly(paired, fraction):
    person, synthetic = table([(5, 3), (2, 6)] * 20)
    sampler = batches_of(paired, person, synthetic, fraction)
    batches = [as_arrays(batch) for batch in dealt(sampler)]
    for (first, second), (of_first, forged) in batches:
        assert not of_first.any() and not synthetic[first].any()
        assert abs(forged.sum() - fraction * len(second)) <= 1
        assert synthetic[second[~forged]].all() and not synthetic[second[forged]].any()
        if paired:
            assert (second[forged] == first[forged]).all()
    (first, second), (_, forged) = (np.concatenate(part, 1) for part in zip(*batches, strict=True))
    assert forged.mean() == pytest.approx(fraction, abs=0.02)
    if not paired:
        assert (second[forged] == first[forged]).mean() < 0.1


@pytest.mark.parametrize("paired", [True, False])
def test_balanced_batches_change_nothing_but_the_forged_draws(paired):
    person, synthetic = table([(5, 3), (2, 6)] * 4)
    plain, some = (
        [draw for batch in dealt(batches_of(paired, person, synthetic, part)) for draw in batch]
        for part in (0.0, 0.5)
    )
    assert not any(is_forgery(draw) for draw in plain)
    forged = [is_forgery(draw) for draw in some]
    assert 0 < sum(forged) < len(forged)
    for before, after, changed in zip(plain, some, forged, strict=True):
        assert changed or after == before


@pytest.mark.parametrize("paired", [True, False])
def test_balanced_batches_repeat_forgeries_by_seed_and_epoch(paired):
    person, synthetic = table([(5, 5)] * 6)

    def draw(seed, epoch):
        return dealt(batches_of(paired, person, synthetic, 0.5, seed), epoch)

    assert draw(0, 3) == draw(0, 3)
    forged = [
        drawn
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
        for batch in draw(seed, epoch)
        for drawn in batch
        if is_forgery(drawn)
    ]
    assert len(forged) == len({drawn.forgery_seed for drawn in forged}) == 45
