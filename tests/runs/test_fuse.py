"""Pairs of genuine photos, on which thresholds are set."""

import pandas as pd
import pytest

from kryptonite.fusion.evidence import EVIDENCE
from kryptonite.runs import fuse


def test_draw_genuine_pairs_takes_sources_apart_and_shows_no_forgery():
    """Source 0 shows four people twice and a forgery of each, source 1 three people once."""
    rows = [
        (str(person), f"{source}/{person}/{number}", number == 2, "", source)
        for source, people, photos in ((0, 4, 3), (1, 3, 1))
        for person in range(people)
        for number in range(photos)
    ]
    images = pd.DataFrame(rows, columns=["label", "path", "is_synthetic", "species", "source"])
    first, second = fuse._draw_genuine_pairs(images)
    assert first["kind"].value_counts().to_dict() == {"different": 24, "same": 4}
    assert second["kind"].tolist() == ["different"] * 3
    for source, pairs in enumerate((first, second)):
        assert pairs.index.tolist() == list(range(len(pairs)))
        assert not pairs[["synthetic_a", "synthetic_b"]].any(axis=None)
        assert pairs["path_a"].str.startswith(f"{source}/").all()


def test_genuine_pairs_keep_kinds_apart():
    pairs = pd.DataFrame({"kind": ["same", "different", "same"], "similarity": [0.9, 0.1, 0.8]})
    rest = dict.fromkeys(set(EVIDENCE) - {"similarity"}, 0.0)
    found = fuse._genuine_pairs(pairs.assign(**rest, acquired=True))
    assert found.mated.similarity.tolist() == pytest.approx([0.9, 0.8])
    assert found.non_mated.similarity.tolist() == pytest.approx([0.1])
