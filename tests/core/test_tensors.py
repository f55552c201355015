"""Tensors on disk: the same bytes, and no flipped bit or cut that passes for data."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from kryptonite.core.errors import DataError
from kryptonite.core.tensors import load_tensors, save_tensors

TENSORS = {
    "crop": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
    "points": np.array([[0.5, -1.0]], np.float32),
    "none": np.zeros((0, 4), np.float32),
}
TEXTS = {"status": "found"}


@pytest.fixture
def file(tmp_path):
    save_tensors(tmp_path / "kept.safetensors", TENSORS, TEXTS)
    return tmp_path / "kept.safetensors"


def same(stored):
    return (
        stored.texts == TEXTS
        and stored.tensors.keys() >= TENSORS.keys()
        and all(
            stored.tensors[name].dtype == tensor.dtype
            and np.array_equal(stored.tensors[name], tensor)
            for name, tensor in TENSORS.items()
        )
    )


def test_load_tensors_gives_what_save_tensors_got(file):
    assert same(load_tensors(file))
    assert load_tensors(file, ["points"]).tensors["points"].tolist() == [[0.5, -1.0]]


def test_save_tensors_repeats_its_bytes(file, tmp_path):
    save_tensors(tmp_path / "again.safetensors", dict(reversed(TENSORS.items())), TEXTS)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_load_tensors_notices_every_flipped_bit_or_gives_the_same(file):
    content = file.read_bytes()
    noticed = 0
    bits = range(0, 8 * len(content), 3)
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            assert same(load_tensors(file)), bit
        except DataError:
            noticed += 1
    assert noticed > 0.9 * len(bits)


def test_load_tensors_notices_every_cut(file):
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"kept\.safetensors: missing or damaged"):
            load_tensors(file)


def test_load_tensors_takes_files_of_older_versions_as_they_are(tmp_path):
    save_file(TENSORS, tmp_path / "old.safetensors", metadata=TEXTS)
    assert same(load_tensors(tmp_path / "old.safetensors"))


def test_load_tensors_names_the_file_when_it_or_a_tensor_is_missing(file):
    with pytest.raises(DataError, match=r"kept\.safetensors: missing or damaged .*colour"):
        load_tensors(file, ["colour"])
    file.unlink()
    with pytest.raises(DataError, match=r"kept\.safetensors: missing or damaged"):
        load_tensors(file)
