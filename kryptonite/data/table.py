"""The table of images: its schema and its CSV file."""

import os
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_path

COLUMNS = ["label", "path", "split", "is_synthetic", "species"]

IMAGE_SCHEMA = pa.DataFrameSchema(
    {
        "label": pa.Column(str, pa.Check.str_length(min_value=1)),
        "path": pa.Column(
            str, pa.Check.str_length(min_value=1), unique=True, report_duplicates="exclude_first"
        ),
        "split": pa.Column(str, pa.Check.isin(["train", "val"])),
        "is_synthetic": pa.Column(bool),
        "species": pa.Column(str),  # forgery kind, empty where unknown
    },
    strict=True,
    index=pa.Index(int),
)


def validate(images: pd.DataFrame, source: str) -> pd.DataFrame:
    """Checks a table of images against `IMAGE_SCHEMA`.

    Args:
        images: Columns label, path, split, is_synthetic, species; index 0..N-1 in file order.
        source: File or folder that messages name.

    Returns:
        The same table.

    Raises:
        DataError: Names the source, the row (1-based, after the header) and what is wrong there.
    """
    if images.empty:
        raise DataError(f"{source}: contains no images")
    try:
        return IMAGE_SCHEMA.validate(images, lazy=True)
    except SchemaErrors as errors:
        first = errors.failure_cases.iloc[0]
        where = f", row {int(first['index']) + 1}" if pd.notna(first["index"]) else ""
        raise DataError(
            f"{source}{where}: column {first['column']}: {first['check']}: "
            f"{first['failure_case']!r}"
        ) from errors


def save_images(path: Path | str, images: pd.DataFrame) -> None:
    """Writes a table as CSV; paths are relative to its folder, which becomes a data root."""
    folder = os.path.dirname(os.path.abspath(path))
    with atomic_path(path) as temporary:
        images.assign(path=[os.path.relpath(image, folder) for image in images["path"]]).to_csv(
            temporary, index=False
        )
