"""The schema of the table of images, and its CSV file."""

import pandas as pd
import pytest

from kryptonite.core.errors import DataError
from kryptonite.data.layouts import DataConfig, load_images
from kryptonite.data.table import COLUMNS, save_images, validate


def table(root="/root"):
    rows = [
        ("anna", f"{root}/anna/0.jpg", "train", False, ""),
        ("anna", f"{root}/anna/k_0.jpg", "train", True, "swap"),
        ("ben", f"{root}/ben/0.jpg", "val", False, ""),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_validate_returns_a_valid_table_unchanged():
    pd.testing.assert_frame_equal(validate(table(), "here"), table())


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (1, "label", ""),
        (2, "path", ""),
        (2, "path", "/root/anna/0.jpg"),
        (0, "split", "test"),
    ],
)
def test_validate_names_source_row_and_column_when_a_value_is_wrong(row, column, value):
    images = table()
    images.loc[row, column] = value
    with pytest.raises(DataError, match=rf"^here, row {row + 1}: column {column}: .*{value!r}$"):
        validate(images, "here")


def test_validate_refuses_other_types_columns_and_empty_tables():
    with pytest.raises(DataError, match="column is_synthetic"):
        validate(table().astype({"is_synthetic": int}), "here")
    with pytest.raises(DataError, match="here: .*extra"):
        validate(table().assign(extra=0), "here")
    with pytest.raises(DataError, match="here: contains no images"):
        validate(table()[:0], "here")


def test_save_images_makes_its_folder_a_data_root_when_loaded(tmp_path, save, faces):
    images = table(tmp_path / "photos")
    for path in images["path"]:
        save(tmp_path / path, faces[0])
    parts = {
        split: images[images["split"] == split].reset_index(drop=True) for split in ("train", "val")
    }
    for split, part in parts.items():
        save_images(tmp_path / f"{split}.csv", part)
        assert not pd.read_csv(tmp_path / f"{split}.csv")["path"].str.startswith("/").any()
    for split, part in parts.items():
        pd.testing.assert_frame_equal(load_images(DataConfig(str(tmp_path)), split), part)
