"""The audit finds what was planted; prepared tables load as the folders did."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryptonite.core.errors import DataError
from kryptonite.data.audit.integrity import difference_hash, near_pairs
from kryptonite.data.audit.prepare import prepare
from kryptonite.data.layouts import DataConfig, load_images, load_test_pairs
from kryptonite.data.pairs import load_pairs


def test_planted_faults_are_found(folders, save):
    generator = np.random.default_rng(1)
    base = folders / "data/train/images"
    (base / "00000000/2.jpg").write_bytes(b"not an image")
    shutil.copy(base / "00000001/0.jpg", base / "00000001/9.jpg")
    smooth = np.kron(generator.integers(0, 255, (5, 5, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    sides = {
        split: load_images(DataConfig(str(folders)), split)["label"].iloc[0]
        for split in ("train", "val")
    }
    save(base / sides["train"] / "twin.png", smooth)
    save(base / sides["val"] / "twin.png", np.clip(smooth.astype(int) + 2, 0, 255).astype(np.uint8))
    report = prepare(DataConfig(str(folders)), folders)
    assert (
        report["unreadable"]["count"] == 1
        and "00000000/2.jpg" in report["unreadable"]["examples"][0]
    )
    assert report["duplicates"]["count"] == 1 and len(report["duplicates"]["examples"][0]) == 2
    assert report["near_duplicates_across_splits"]["count"] == 1
    assert report["identities_in_two_splits"]["count"] == 0
    assert json.loads((folders / "audit.json").read_text())["split_hash"] == report["split_hash"]


def test_people_in_two_splits_are_found(folders):
    for name in ("train", "val"):
        rows = [
            f"{p},data/train/images/{p:08d}/{f},{name},,"
            for p in ((0, 1) if name == "train" else (1, 2))
            for f in ("0.jpg", "k_0.jpg")
        ]
        if name == "val":
            rows = [
                row.replace("1,data/train/images/00000001/0", "1,data/train/images/00000001/1")
                for row in rows
            ]
            rows += ["2,data/train/images/00000002/1.jpg,val,,"]
        (folders / f"{name}.csv").write_text(
            "\n".join(["label,path,split,is_query,is_gallery", *rows]) + "\n"
        )
    assert prepare(DataConfig(str(folders)), folders / "out")["identities_in_two_splits"][
        "examples"
    ] == ["1"]


def test_prepared_tables_load_as_the_folders_did_and_freeze_the_split(folders):
    before = {split: load_images(DataConfig(str(folders)), split) for split in ("train", "val")}
    test = load_test_pairs(folders)
    first = prepare(DataConfig(str(folders)), folders)
    for split, images in before.items():
        pd.testing.assert_frame_equal(load_images(DataConfig(str(folders), seed=99), split), images)
    pd.testing.assert_frame_equal(load_test_pairs(folders), test)
    pairs = load_pairs(folders / "pairs_val.csv", folders)
    assert set(pairs["path_a"]) <= set(before["val"]["path"])
    assert prepare(DataConfig(str(folders), seed=99), folders)["split_hash"] == first["split_hash"]


def test_the_script_prints_the_audit_and_names_what_is_missing(folders, tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "prepare.py", "--data.root", str(folders)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (
        "train: 65 images, 13 identities, 39 genuine, 26 synthetic" in done.stdout
        and "split hash: " in done.stdout
    )
    empty = str(tmp_path_factory.mktemp("empty"))
    done = subprocess.run(
        [sys.executable, "prepare.py", "--data.root", empty], capture_output=True, text=True
    )
    assert done.returncode == 2 and empty in done.stderr and "Traceback" not in done.stderr


def test_cleaning_moves_training_photos_home_and_leaves_files_and_validation_alone(folders):
    label = load_images(DataConfig(str(folders)), "train").set_index("path")["label"]
    base = folders / "data/train/images"
    home, wrong = sorted(set(label))[:2]
    moved = base / wrong / "7.jpg"
    (base / home / "1.jpg").rename(moved)
    (base / home / "2.jpg").write_bytes(b"broken")
    centres = np.random.default_rng(0).standard_normal((16, 64))

    def embed(paths):
        """Knows the people by where their photos were."""
        readable = np.array([path != str(base / home / "2.jpg") for path in paths])
        who = [int(home) if path == str(moved) else int(path.split("/")[-2]) for path in paths]
        rows = centres[who] + 0.2 * np.random.default_rng(1).standard_normal((len(paths), 64))
        return readable, (rows / np.linalg.norm(rows, axis=1, keepdims=True))[readable]

    before = {path: path.read_bytes() for path in base.rglob("*.jpg")}
    val = load_images(DataConfig(str(folders)), "val")
    report = prepare(DataConfig(str(folders)), folders / "out", embed)
    assert (
        report["cleaning"]
        == {"keep": 63, "move": 1, "drop": 0}
        == json.loads((folders / "out/audit.json").read_text())["cleaning"]
    )
    cleaned = load_images(DataConfig(str(folders / "out")), "train").set_index("path")
    assert (
        len(cleaned) == 65
        and cleaned.at[str(moved), "label"] == home
        and cleaned.at[str(base / home / "2.jpg"), "label"] == home
    )
    findings = pd.read_csv(
        folders / "out/cleaning.csv", dtype=str, keep_default_na=False
    ).set_index("path")
    row = findings.loc[os.path.relpath(moved, folders / "out")]
    assert (
        (row["label"], row["action"], row["new_label"]) == (wrong, "move", home)
        and row["reason"]
        and float(row["probability"]) > 0.9
    )
    assert (findings["action"] == "move").sum() == 1 and (
        folders / "out/cleaning.png"
    ).stat().st_size > 1000
    assert list(load_images(DataConfig(str(folders / "out")), "val")["label"]) == list(val["label"])
    assert before == {path: path.read_bytes() for path in base.rglob("*.jpg")}
    with pytest.raises(DataError, match="tables already"):
        prepare(DataConfig(str(folders / "out")), folders / "out", embed)


def test_cleaning_needs_a_face_recogniser(folders):
    done = subprocess.run(
        [sys.executable, "prepare.py", "--data.root", str(folders), "--clean"],
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 2
        and "needs a face recogniser" in done.stderr
        and "Traceback" not in done.stderr
    )


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=30), st.integers(0, 7))
def test_near_pairs_are_those_of_the_naive_loop(hashes, near):
    hashes = [*hashes, hashes[0] ^ 0b1011]
    expected = [
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if bin(hashes[i] ^ hashes[j]).count("1") <= near
    ]
    assert near_pairs(np.array(hashes, dtype=np.uint64), near) == expected


def test_the_hash_of_a_horizontal_ramp_is_all_ones():
    ramp = np.tile(np.linspace(0, 255, 90).astype(np.uint8)[None, :, None], (80, 1, 3))
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp[:, ::-1]) == 0
