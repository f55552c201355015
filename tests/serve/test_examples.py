"""Example pairs come from the demo's generated people alone."""

import json

import pytest
from PIL import Image

from kryptonite.core.errors import DataError
from kryptonite.serve.examples import PER_KIND, load_examples

COLUMNS = "pair_id,label_a,label_b,synthetic_a,synthetic_b,kind,label,species"
SAME, DIFFERENT = "7,7,0,0,same,1,", "7,8,0,0,different,0,"
SWAP, BLEND = "7,7,0,1,synthetic,0,face_swap", "7,7,1,0,synthetic,0,self_blend"


@pytest.fixture
def demo(tmp_path):
    """Writes a demo with the given test pairs; each photo's red tells pair and side."""

    def write(*pairs):
        (tmp_path / "demo.json").write_text(json.dumps({"config": {}}))
        lines = [f"{number:08d},{pair}" for number, pair in enumerate(pairs)]
        (tmp_path / "gt.csv").write_text("\n".join([COLUMNS, *lines, ""]))
        for number in range(len(pairs)):
            folder = tmp_path / f"data/test_public/images/{number:08d}"
            folder.mkdir(parents=True)
            for side in (0, 1):
                colour = (16 * number + 8 * side, 0, 0)
                Image.new("RGB", (8, 8), colour).save(folder / f"{side}.jpg")
        return tmp_path

    return write


def test_load_examples_takes_the_first_pairs_of_each_kind(demo):
    root = demo(SWAP, DIFFERENT, SAME, SWAP, BLEND, SWAP, SAME, SAME)
    examples = load_examples(root)
    assert PER_KIND == 2
    assert [(example.name, example.kind, example.species) for example in examples] == [
        ("pair-1", "same", ""),
        ("pair-2", "same", ""),
        ("pair-3", "different", ""),
        ("pair-4", "synthetic", "face_swap"),
        ("pair-5", "synthetic", "face_swap"),
        ("pair-6", "synthetic", "self_blend"),
    ]
    for example, number in zip(examples, (2, 6, 1, 0, 3, 4), strict=True):
        folder = root / f"data/test_public/images/{number:08d}"
        assert example.photos == tuple((folder / f"{n}.jpg").read_bytes() for n in (0, 1))


def test_load_examples_gives_none_when_the_data_is_no_demo(demo):
    root = demo(SAME, DIFFERENT)
    (root / "demo.json").unlink()
    assert load_examples(root) == []
    assert load_examples(root / "missing") == []


def test_load_examples_raises_when_the_demo_is_damaged(demo):
    root = demo(SAME, DIFFERENT)
    (root / "gt.csv").write_text("pair_id\n")
    with pytest.raises(DataError, match="gt.csv"):
        load_examples(root)
