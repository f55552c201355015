"""Both layouts load alike, and faulty ones are reported with file and row."""

import json
import shutil

import pandas as pd
import pytest

from kryptonite.core.errors import DataError
from kryptonite.data.layouts import DataConfig, load_images, load_test_pairs
from kryptonite.data.table import COLUMNS


def both(root):
    return [load_images(DataConfig(str(root)), split) for split in ("train", "val")]


def test_load_images_splits_folders_by_identity_and_classes_by_name(folders):
    train, val = both(folders)
    assert list(train.columns) == COLUMNS
    assert len(train) + len(val) == 80 and not set(train["label"]) & set(val["label"])
    assert val["label"].nunique() == 3
    assert (train["is_synthetic"] == train["path"].str.contains("/k_")).all()
    assert train["is_synthetic"].sum() == 26


def test_load_images_is_unchanged_when_there_is_no_images_folder(folders):
    names = {
        path.split("/data/train/images/")[1] for frame in both(folders) for path in frame["path"]
    }
    for person in (folders / "data/train/images").iterdir():
        shutil.move(person, folders / "data/train" / person.name)
    (folders / "data/train/images").rmdir()
    assert {
        path.split("/data/train/")[1] for frame in both(folders) for path in frame["path"]
    } == names


def test_load_images_prefers_meta_json_to_names(folders):
    (folders / "data/train/meta.json").write_text(
        json.dumps({"00000000/0.jpg": 1, "00000000/k_0.jpg": 0})
    )
    rows = pd.concat(both(folders)).set_index("path")["is_synthetic"]
    base = str(folders / "data/train/images/00000000")
    assert rows[f"{base}/0.jpg"] and not rows[f"{base}/k_0.jpg"] and rows[f"{base}/k_1.jpg"]


@pytest.mark.parametrize("content", ["{", "[1]", '{"00000000/0.jpg": 2}'])
def test_load_images_names_meta_json_when_it_is_wrong(folders, content):
    (folders / "data/train/meta.json").write_text(content)
    with pytest.raises(DataError, match=r"meta\.json"):
        load_images(DataConfig(str(folders)), "train")


def write_csvs(root, prefix="data/train/images/"):
    for name, people in (("train", (0, 1, 2)), ("val", (3, 4))):
        rows = [
            f"{p},{prefix}{p:08d}/{f},{name},,"
            for p in people
            for f in ("0.jpg", "1.jpg", "k_0.jpg")
        ]
        (root / f"{name}.csv").write_text(
            "\n".join(["label,path,split,is_query,is_gallery", *rows]) + "\n"
        )


@pytest.mark.parametrize("prefix", ["data/train/images/", "train/images/"])
def test_load_images_resolves_csv_paths_relative_to_root_or_data(folders, prefix):
    write_csvs(folders, prefix)
    train, val = both(folders)
    assert sorted(train["label"].unique()) == ["0", "1", "2"] and sorted(val["label"].unique()) == [
        "3",
        "4",
    ]
    assert train["path"].iloc[2] == str(folders / "data/train/images/00000000/k_0.jpg")
    assert train["is_synthetic"].tolist() == [False, False, True] * 3


def test_load_images_keeps_a_row_when_its_file_is_missing(folders):
    write_csvs(folders)
    (folders / "data/train/images/00000001/0.jpg").unlink()
    assert str(folders / "data/train/images/00000001/0.jpg") in both(folders)[0]["path"].tolist()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",data/train/images/00000000/0.jpg,train,,", r"train\.csv, row 2: label is empty"),
        ("7,,train,,", r"train\.csv, row 2: path is empty"),
        (
            "7,data/train/images/00000000/0.jpg,train,,",
            r"train\.csv, row 2: column path: stands twice",
        ),
    ],
)
def test_load_images_names_file_and_row_when_a_csv_is_wrong(folders, line, message):
    write_csvs(folders)
    (folders / "train.csv").write_text(
        f"label,path,split,is_query,is_gallery\n0,data/train/images/00000000/0.jpg,train,,\n{line}\n"
    )
    with pytest.raises(DataError, match=message):
        load_images(DataConfig(str(folders)), "train")


def test_loaders_name_what_is_missing(folders, tmp_path_factory):
    write_csvs(folders)
    (folders / "train.csv").write_text("label,file\n0,x.jpg\n")
    with pytest.raises(DataError, match=r"train\.csv: column path is missing; found label, file"):
        load_images(DataConfig(str(folders)), "train")
    (folders / "train.csv").write_text("label,path\n0,nowhere/x.jpg\n")
    with pytest.raises(DataError, match=r"nowhere/x\.jpg does not exist"):
        load_images(DataConfig(str(folders)), "train")
    with pytest.raises(DataError, match="neither train.csv nor data/train"):
        load_images(DataConfig(str(tmp_path_factory.mktemp("empty"))), "train")
    with pytest.raises(DataError, match="neither test.csv nor data/test_public"):
        load_test_pairs(tmp_path_factory.mktemp("empty"))


def test_load_images_names_the_root_when_one_person_cannot_be_split(folders):
    for folder in sorted((folders / "data/train/images").iterdir())[1:]:
        shutil.rmtree(folder)
    with pytest.raises(DataError, match=f"{folders}: a split by identity needs at least two"):
        load_images(DataConfig(str(folders)), "train")


def test_load_test_pairs_agrees_between_layouts_in_any_order(folders):
    by_folder = load_test_pairs(folders)
    assert by_folder["pair_id"].tolist() == [f"{i:08d}" for i in range(4)]
    assert (
        by_folder["path_a"].str.endswith("/0.jpg").all()
        and by_folder["path_b"].str.endswith("/1.jpg").all()
    )
    rows = [
        f"{p},data/test_public/images/{p:08d}/{n}.jpg,test,True,True"
        for p in (2, 0, 3, 1)
        for n in (1, 0)
    ]
    (folders / "test.csv").write_text(
        "\n".join(["label,path,split,is_query,is_gallery", *rows]) + "\n"
    )
    pd.testing.assert_frame_equal(load_test_pairs(folders), by_folder)


def test_load_test_pairs_keeps_a_pair_when_an_image_is_missing(folders):
    before = load_test_pairs(folders)
    (folders / "data/test_public/images/00000002/1.jpg").unlink()
    pd.testing.assert_frame_equal(load_test_pairs(folders), before)


def test_load_test_pairs_raises_data_error_when_a_pair_has_one_row(folders):
    (folders / "test.csv").write_text("label,path\n0,data/test_public/images/00000000/0.jpg\n")
    with pytest.raises(DataError, match=r"test\.csv, row 1: pair 00000000 has 1 rows"):
        load_test_pairs(folders)
