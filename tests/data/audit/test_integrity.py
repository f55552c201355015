"""The integrity audit counts images and finds duplicates as naive loops do."""

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.images import read_rgb
from kryptonite.data.audit.integrity import (
    NEAR,
    SHOWN,
    audit_integrity,
    difference_hash,
    near_pairs,
)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=30), st.integers(0, 7))
def test_near_pairs_equal_naive_loop(hashes, near):
    hashes = [*hashes, hashes[0] ^ 0b1011]
    expected = [
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if bin(hashes[i] ^ hashes[j]).count("1") <= near
    ]
    assert near_pairs(np.array(hashes, dtype=np.uint64), near) == expected


def test_difference_hash_is_all_ones_when_brightness_rises():
    ramp = np.tile(np.linspace(0, 255, 90).astype(np.uint8)[None, :, None], (80, 1, 3))
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp[:, ::-1]) == 0


def test_difference_hash_is_nearly_unchanged_when_an_image_is_resized_or_brightened(faces):
    for face in faces:
        small = cv2.resize(face, (96, 96), interpolation=cv2.INTER_AREA)
        brighter = np.clip(face.astype(int) + 9, 0, 255).astype(np.uint8)
        for changed in (small, brighter):
            assert bin(difference_hash(face) ^ difference_hash(changed)).count("1") <= NEAR
    distances = [
        bin(difference_hash(a) ^ difference_hash(b)).count("1") for a, b in combinations(faces, 2)
    ]
    assert min(distances) > NEAR


def write_table(folder, save, people=3, photos=4):
    """Random smooth photos, the last of each person synthetic; people alternate between splits."""
    generator = np.random.default_rng(0)
    rows = []
    for person in range(people):
        for number in range(photos):
            pixels = np.kron(generator.integers(0, 255, (8, 9, 3)), np.ones((8, 8, 1)))
            path = save(folder / f"{person}" / f"{number}.png", pixels.astype(np.uint8))
            split = "train" if person % 2 == 0 else "val"
            rows.append((f"p{person}", str(path), split, number == photos - 1))
    return pd.DataFrame(rows, columns=["label", "path", "split", "is_synthetic"])


def test_audit_integrity_counts_per_split_and_finds_nothing_when_all_is_well(tmp_path, save):
    report = audit_integrity(write_table(tmp_path, save))
    readable = {"unreadable": 0}
    assert report.pop("counts") == {
        "train": {"images": 8, "identities": 2, "genuine": 6, "synthetic": 2} | readable,
        "val": {"images": 4, "identities": 1, "genuine": 3, "synthetic": 1} | readable,
    }
    assert set(report) == {
        "unreadable",
        "duplicates",
        "identities_in_two_splits",
        "near_duplicates_across_splits",
    }
    assert all(finding == {"count": 0, "examples": []} for finding in report.values())


def test_audit_integrity_equals_naive_loops_when_faults_are_planted(tmp_path, save):
    images = write_table(tmp_path, save, people=5)
    paths = images["path"].to_numpy()
    Path(paths[0]).write_bytes(b"broken")
    for copy, original in ((5, 1), (6, 1), (9, 8), (13, 2)):
        Path(paths[copy]).write_bytes(Path(paths[original]).read_bytes())
    images.loc[19, "label"] = "p1"
    report = audit_integrity(images.sample(frac=1, random_state=1))
    readable = paths[1:]
    content = {path: Path(path).read_bytes() for path in readable}
    split = dict(zip(paths, images["split"], strict=True))
    hashes = {path: difference_hash(read_rgb(path)) for path in readable}
    groups = {frozenset(p for p in readable if content[p] == content[q]) for q in readable}
    near = {
        frozenset(pair)
        for pair in combinations(readable, 2)
        if split[pair[0]] != split[pair[1]]
        and bin(hashes[pair[0]] ^ hashes[pair[1]]).count("1") <= NEAR
    }
    assert report["unreadable"]["count"] == 1 and paths[0] in report["unreadable"]["examples"][0]
    assert {frozenset(group) for group in report["duplicates"]["examples"]} == {
        group for group in groups if len(group) > 1
    }
    found = {frozenset(pair) for pair in report["near_duplicates_across_splits"]["examples"]}
    assert found == near and len(near) >= 3
    assert report["identities_in_two_splits"] == {"count": 1, "examples": ["p1"]}


def test_audit_integrity_counts_all_findings_but_lists_only_some(tmp_path):
    missing = [str(tmp_path / f"{number}.jpg") for number in range(SHOWN + 5)]
    images = pd.DataFrame({"label": "p", "path": missing, "split": "train", "is_synthetic": False})
    report = audit_integrity(images)
    assert report["unreadable"]["count"] == SHOWN + 5
    assert len(report["unreadable"]["examples"]) == SHOWN
