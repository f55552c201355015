"""Pairs of genuine photos, on which thresholds are set."""

import numpy as np
import pandas as pd

from kryptonite.fusion.evidence import EVIDENCE
from kryptonite.runs import fuse


def test_genuine_pairs_extract_each_source_once_and_keep_kinds_apart(monkeypatch):
    """Source 0 shows four people twice and a forgery of each, source 1 three people once."""
    rows = [
        (str(person), f"{source}/{person}/{number}", number == 2, "", source)
        for source, people, photos in ((0, 4, 3), (1, 3, 1))
        for person in range(people)
        for number in range(photos)
    ]
    images = pd.DataFrame(rows, columns=["label", "path", "is_synthetic", "species", "source"])
    extracted = []

    def extract(extractor, differential, pairs):
        extracted.append(pairs)
        zeros = dict.fromkeys(EVIDENCE, np.zeros(len(pairs)))
        return pairs.assign(**{**zeros, "similarity": pairs["label"]}, acquired=True), None

    monkeypatch.setattr(fuse, "extract_pairs", extract)
    first, second = fuse._genuine_pairs(images, None, None)
    assert [len(pairs) for pairs in extracted] == [4 + 24, 3]
    assert all(pairs.index.tolist() == list(range(len(pairs))) for pairs in extracted)
    assert not extracted[0][["synthetic_a", "synthetic_b"]].any(axis=None)
    assert first.mated.similarity.tolist() == [1] * 4
    assert first.non_mated.similarity.tolist() == [0] * 24
    assert len(second.mated.similarity) == 0 and len(second.non_mated.similarity) == 3
