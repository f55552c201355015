"""The table of images: its schema and its CSV file."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_path
from kryptonite.data.references import RECORDING

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
        # Photos of one recording share a value; empty where unknown.
        RECORDING: pa.Column(str, required=False),
    },
    strict=True,
    index=pa.Index(int),
)


# What pandera's checks are called, in words of the table.
_PROBLEMS = {
    "field_uniqueness": "stands twice",
    "not_nullable": "is empty",
    "column_in_schema": "unknown column",
    "column_in_dataframe": "missing column",
}


def validate(images: pd.DataFrame, source: str, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Checks a table of images against `IMAGE_SCHEMA`.

    Args:
        images: Columns label, path, split, is_synthetic, species and maybe recording; index 0..N-1
            in file order.
        source: File or folder that messages name.
        names: What messages call each row; `row N` (1-based, after the header) unless given.

    Returns:
        The same table.

    Raises:
        DataError: Names the source, the row and what is wrong there.
    """
    if images.empty:
        raise DataError(f"{source}: contains no images")
    try:
        return IMAGE_SCHEMA.validate(images, lazy=True)
    except SchemaErrors as errors:
        first = errors.failure_cases.iloc[0]
        column, check, value = first["column"], str(first["check"]), first["failure_case"]
        row = int(first["index"]) if pd.notna(first["index"]) else None
        where = "" if row is None else f", {names[row] if names else f'row {row + 1}'}"
        raise DataError(
            f"{source}{where}: column {column}: {_problem(check)}: {value!r}"
        ) from errors


def _problem(check: str) -> str:
    if check.startswith("str_length"):
        return "is empty"
    if check.startswith("isin"):
        return "must be one of train, val"
    if check.startswith("dtype"):
        return f"values are not of type {check.removeprefix('dtype')}"
    return _PROBLEMS.get(check, check)


def save_images(path: Path | str, images: pd.DataFrame) -> None:
    """Writes a table as CSV; paths are relative to its folder, which becomes a data root.

    Raises:
        DataError: A path holds a line break, which tables do not.
    """
    refuse_line_breaks(images["path"])
    folder = os.path.dirname(os.path.abspath(path))
    with atomic_path(path) as temporary:
        images.assign(path=[os.path.relpath(image, folder) for image in images["path"]]).to_csv(
            temporary, index=False
        )


def refuse_line_breaks(paths: Iterable[str]) -> None:
    """Raises DataError with the first path that would not survive a table."""
    for path in paths:
        if "\n" in path or "\r" in path:
            raise DataError(f"{path!r}: the name holds a line break; rename the file")
