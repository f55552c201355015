"""Chunks cover a sequence in order, and mapping over them equals one call."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kryptonite.core.chunks import chunked, map_chunks

LENGTHS, SIZES = st.integers(0, 30), st.integers(1, 12)


@given(LENGTHS, SIZES)
def test_chunked_concatenates_to_the_input(length, size):
    items = list(range(length))
    chunks = list(chunked(items, size))
    assert [item for chunk in chunks for item in chunk] == items
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(1 <= len(chunk) <= size for chunk in chunks)


def test_chunked_yields_views_when_given_an_array():
    rows = np.arange(10).reshape(5, 2)
    chunks = list(chunked(rows, 2))
    assert np.array_equal(np.concatenate(chunks), rows)
    assert all(np.shares_memory(chunk, rows) for chunk in chunks)


@given(LENGTHS, SIZES)
def test_map_chunks_equals_one_call(length, size):
    first = np.arange(2.0 * length).reshape(length, 2)
    second = np.arange(length) % 3

    def function(rows, scale):
        return rows.sum(1) * scale

    mapped = map_chunks(function, size, first, second)
    assert np.array_equal(mapped, function(first, second))
    assert mapped.dtype == function(first, second).dtype


@given(LENGTHS, SIZES)
def test_map_chunks_limits_the_rows_per_call(length, size):
    sizes = []
    map_chunks(lambda rows: sizes.append(len(rows)) or rows, size, np.zeros(length))
    assert sum(sizes) == length and max(sizes) <= size
    assert len(sizes) == max(1, -(-length // size))


def test_map_chunks_keeps_shape_and_dtype_when_there_are_no_rows():
    mapped = map_chunks(
        lambda rows: np.repeat(rows[:, None], 7, 1).astype(np.float32), 4, np.zeros(0)
    )
    assert mapped.shape == (0, 7) and mapped.dtype == np.float32
