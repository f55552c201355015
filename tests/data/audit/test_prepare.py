"""The audit finds planted faults; prepared tables load like the folders they came from."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from kryptonite.core.errors import DataError
from kryptonite.data.audit.prepare import prepare
from kryptonite.data.layouts import DataConfig, load_images, load_test_pairs
from kryptonite.data.pairs import load_pairs

pytestmark = pytest.mark.slow

PREPARE = [sys.executable, "-m", "kryptonite", "prepare"]


def test_prepare_finds_planted_faults(folders, save):
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


def test_prepare_finds_people_in_two_splits(folders):
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


def test_prepare_writes_tables_that_load_as_the_folders_did(folders):
    before = {split: load_images(DataConfig(str(folders)), split) for split in ("train", "val")}
    test = load_test_pairs(folders)
    first = prepare(DataConfig(str(folders)), folders)
    for split, images in before.items():
        pd.testing.assert_frame_equal(load_images(DataConfig(str(folders), seed=99), split), images)
    pd.testing.assert_frame_equal(load_test_pairs(folders), test)
    pairs = load_pairs(folders / "pairs_val.csv", folders)
    assert set(pairs["path_a"]) <= set(before["val"]["path"])
    assert prepare(DataConfig(str(folders), seed=99), folders)["split_hash"] == first["split_hash"]


def test_prepare_command_prints_the_audit_and_names_what_is_missing(folders, tmp_path_factory):
    done = subprocess.run([*PREPARE, "--data.root", str(folders)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        "train: 65 images, 13 identities, 39 genuine, 26 synthetic" in done.stdout
        and "split hash: " in done.stdout
    )
    empty = str(tmp_path_factory.mktemp("empty"))
    done = subprocess.run([*PREPARE, "--data.root", empty], capture_output=True, text=True)
    assert done.returncode == 2 and empty in done.stderr and "Traceback" not in done.stderr


def test_prepare_relabels_training_photos_and_keeps_files_and_validation_when_cleaning(folders):
    label = load_images(DataConfig(str(folders)), "train").set_index("path")["label"]
    base = folders / "data/train/images"
    home, wrong = sorted(set(label))[:2]
    moved = base / wrong / "7.jpg"
    (base / home / "1.jpg").rename(moved)
    (base / home / "2.jpg").write_bytes(b"broken")
    centres = np.random.default_rng(0).standard_normal((16, 64))

    def embed(paths):
        """Recognises people by the folders that their photos came from."""
        readable = np.array([path != str(base / home / "2.jpg") for path in paths])
        identity = [int(home) if path == str(moved) else int(path.split("/")[-2]) for path in paths]
        rows = centres[identity] + 0.2 * np.random.default_rng(1).standard_normal((len(paths), 64))
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
    with pytest.raises(DataError, match="already has tables"):
        prepare(DataConfig(str(folders / "out")), folders / "out", embed)


def test_prepare_command_needs_a_face_recogniser_when_cleaning(folders):
    done = subprocess.run(
        [*PREPARE, "--data.root", str(folders), "--clean"],
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 2
        and "needs a face recogniser" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_prepare_refuses_a_split_of_which_no_image_can_be_read(folders):
    held_out = set(load_images(DataConfig(str(folders)), "val")["label"])
    for file in (folders / "data/train/images").rglob("*.jpg"):
        if file.parent.name in held_out:
            file.write_bytes(b"not an image")
    with pytest.raises(
        DataError, match=r"none of the 15 images of the val split can be read; .*jpg"
    ):
        prepare(DataConfig(str(folders)), folders / "out")
    assert not (folders / "out").exists()


def test_prepare_names_a_photo_whose_name_holds_a_line_break_before_it_reads_any(folders, save):
    def embed(paths):
        raise AssertionError("photos were read")

    save(folders / "data/train/images/00000001/a\nb.jpg", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\\nb.jpg'?: the name holds a line break"):
        prepare(DataConfig(str(folders)), folders / "out", embed)
    assert not (folders / "out").exists()
