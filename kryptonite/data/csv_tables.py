"""Reads the CSV dialects that spreadsheets and scripts write; refuses what is ambiguous.

A table is read line by line, never guessed at: the header line alone decides on the delimiter, a
row is one line, and no column becomes an index.
"""

import codecs
import io
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from kryptonite.core.errors import DataError

DELIMITERS = (",", ";", "\t")
LINE_LIMIT = 1 << 20  # characters; bounds the memory that a file without line ends takes
LABEL_LIMIT = 255  # characters, as in a folder's name; arrays of labels take the longest for each

_BOMS = (  # UTF-32 first: its mark starts with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BLANK = ' \t\r\n,;"'  # a line of nothing else holds no value
_UNNAMED = re.compile(r"unnamed: \d+|")  # what pandas calls a column without a name
_NOT_A_NUMBER = {"nan", "NaN", "<NA>", "#N/A"}
_PAIR_ID = re.compile(r"([0-9]{1,8})(\.0+)?")
_TRUE, _FALSE = {"true", "1", "1.0", "yes", "y", "t"}, {"false", "0", "0.0", "no", "n", "f"}


def read_table(
    path: Path | str, required: Sequence[str], verbatim: Collection[str] = ()
) -> pd.DataFrame:
    """Reads a CSV as text.

    Accepts commas, semicolons or tabs, UTF-8 or UTF-16 (with its byte order mark), any line ends,
    header names in any case, spaces around names and values, columns without a name (dropped), and
    empty fields beyond the header's. Lines without any value are left out and not counted.

    Args:
        path: The file.
        required: Columns that must exist.
        verbatim: Columns whose values keep the spaces around them.

    Returns:
        The named columns, in lower case, all of text; index 0..N-1.

    Raises:
        DataError: Names the file and the row (1-based, after the header).
    """
    lines = _read_lines(path)
    header = next(lines, None)
    if header is None:
        raise DataError(f"{path}: is empty")
    names, delimiter = _read_header(path, header, required)
    wanted = [position for position, name in enumerate(names) if not _UNNAMED.fullmatch(name)]
    missing = [name for name in required if name not in names]
    if missing:
        found = ", ".join(field.strip() for field in _fields(header, delimiter) or [])
        raise DataError(f"{path}: column {', '.join(missing)} is missing; found {found}")
    for position in wanted:
        if names[position] in names[:position]:
            raise DataError(f"{path}: the header names column {names[position]} twice")
    rows: list[list[str]] = []
    for line in lines:
        fields = _fields(line, delimiter)
        row = f"{path}, row {len(rows) + 1}"
        if fields is None:
            raise DataError(
                f"{row}: a quote opens that is not closed on the same line; values with a line "
                "break or a stray quote are not accepted"
            )
        surplus = [field.strip() for field in fields[len(names) :]]
        if any(surplus):
            raise DataError(
                f"{row}: has {len(fields)} fields where the header names {len(names)} columns; "
                f"the surplus is {', '.join(filter(None, surplus))}"
            )
        rows.append(fields + [""] * (len(names) - len(fields)))
    return pd.DataFrame(
        {
            names[position]: [
                row[position] if names[position] in verbatim else row[position].strip()
                for row in rows
            ]
            for position in wanted
        },
        dtype=str,
    )


def read_header(path: Path | str, known: Sequence[str]) -> list[str]:
    """Reads the names of a CSV's columns, in lower case; none where the file is empty.

    Args:
        path: The file.
        known: Columns by which the delimiter is recognised.

    Raises:
        DataError: The file cannot be read as text.
    """
    header = next(_read_lines(path), None)
    return [] if header is None else _read_header(path, header, known)[0]


def refuse_rows(path: Path | str, wrong: pd.Series, what: str) -> None:
    """Raises DataError with file and row (1-based) if any row is wrong.

    Args:
        path: The file.
        wrong: Per row, whether it is wrong.
        what: Says what is wrong there.
    """
    if wrong.any():
        raise DataError(f"{path}, row {int(wrong.to_numpy().argmax()) + 1}: {what}")


def refuse_blanks(path: Path | str, table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raises DataError with file, row and column if a value is empty or not a number (`NaN`)."""
    for column in columns:
        values = table[column].str.strip()
        refuse_rows(path, values == "", f"{column} is empty")
        refuse_rows(path, values.isin(_NOT_A_NUMBER), f"{column} is empty (NaN)")


def parse_pair_ids(path: Path | str, values: pd.Series) -> pd.Series:
    """Brings ids of pairs (`1`, `1.0`, `00000001`) to eight digits.

    Raises:
        DataError: Names file, row and the value.
    """
    ids = values.map(pair_id)
    wrong = ids == ""
    if wrong.any():
        value = values[wrong].iloc[0]
        refuse_rows(path, wrong, f"pair id {value!r} is not a number of up to eight digits")
    return ids


def pair_id(value: str) -> str:
    """Brings one id to eight digits; empty where it is not a number of up to eight digits."""
    match = _PAIR_ID.fullmatch(value.strip())
    return match[1].zfill(8) if match else ""


def parse_booleans(path: Path | str, values: pd.Series) -> pd.Series:
    """Reads yes/no values in any of their spellings: true, 1, yes, …, whatever the case.

    Raises:
        DataError: Names file, row and the value.
    """
    lower = values.str.lower()
    true = lower.isin(_TRUE)
    wrong = ~(true | lower.isin(_FALSE))
    if wrong.any():
        value = values[wrong].iloc[0]
        refuse_rows(path, wrong, f"{values.name} must be True or False, got {value!r}")
    return true


def parse_labels(path: Path | str, values: pd.Series) -> pd.Series:
    """Strips labels and composes their accents, so that labels that look alike are alike.

    Raises:
        DataError: Names file and row of a label longer than `LABEL_LIMIT`.
    """
    refuse_rows(
        path,
        values.str.len() > LABEL_LIMIT,
        f"{values.name} is longer than {LABEL_LIMIT} characters",
    )
    return values.map(clean_label)


def clean_label(value: str) -> str:
    """Does the same for one label."""
    return unicodedata.normalize("NFC", value.strip())


def _read_lines(path: Path | str) -> Iterator[str]:
    """Gives the lines that hold a value, without their ends."""
    read = 0
    try:
        with open(path, "rb") as stream:
            encoding = _encoding(stream)
            # Universal newlines: CRLF, LF and CR all end a line.
            text = io.TextIOWrapper(stream, encoding=encoding)
            while line := text.readline(LINE_LIMIT + 1):
                where = f"{path}, row {read}" if read else f"{path}, header"
                if len(line) > LINE_LIMIT:
                    raise DataError(f"{where}: longer than {LINE_LIMIT} characters")
                if "\0" in line:
                    raise DataError(f"{where}: holds a NUL character; save the table as UTF-8")
                if line.strip(_BLANK):
                    read += 1
                    yield line.removesuffix("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeError as error:
        raise DataError(f"{_undecodable(path, encoding)}; save the table as UTF-8") from error


def _encoding(stream: BinaryIO) -> str:
    start = stream.peek(4)[:4] if isinstance(stream, io.BufferedReader) else b""
    return next((name for mark, name in _BOMS if start.startswith(mark)), "utf-8-sig")


def _undecodable(path: Path | str, encoding: str) -> str:
    """Says where a file is not text; only bytes of UTF-8 can be searched line by line."""
    if encoding != "utf-8-sig":
        return f"{path}: is not whole {encoding.upper()} text"
    row = 0
    with open(path, "rb") as stream:
        # Lines before the first wrong byte were read already, so none is longer than the limit.
        while line := stream.readline(4 * LINE_LIMIT):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                where = f"row {row}" if row else "header"
                return f"{path}, {where}: is not UTF-8 (byte 0x{line[error.start]:02x})"
            row += bool(line.strip(_BLANK.encode()))
    return f"{path}: is not UTF-8"


def _read_header(path: Path | str, header: str, known: Sequence[str]) -> tuple[list[str], str]:
    """Gives names and delimiter: the delimiter by which most known columns appear."""
    best: tuple[tuple[int, int], list[str], str] | None = None
    for delimiter in DELIMITERS:
        fields = _fields(header, delimiter)
        if fields is None:
            continue
        names = [field.strip().lower() for field in fields]
        rank = len(set(known) & set(names)), len(names)
        if best is None or rank > best[0]:
            best = rank, names, delimiter
    # A header that only a wrong delimiter can split has a quote that is not closed.
    if best is None or (not best[0][0] and _fields(header, DELIMITERS[0]) is None):
        raise DataError(f"{path}, header: a quote opens that is not closed on the same line")
    return best[1], best[2]


_QUOTE = re.compile(' *"')
_QUOTED = {
    delimiter: re.compile(rf' *"([^"]*(?:""[^"]*)*)" *(?={delimiter}|\Z)')
    for delimiter in DELIMITERS
}


def _fields(line: str, delimiter: str) -> list[str] | None:
    """Splits a line; None where a quote opens and does not close in its field."""
    if '"' not in line:
        return line.split(delimiter)
    fields, start = [], 0
    while start <= len(line):
        if _QUOTE.match(line, start):
            match = _QUOTED[delimiter].match(line, start)
            if match is None:
                return None
            fields.append(match[1].replace('""', '"'))
            end = match.end()
        else:
            end = line.find(delimiter, start)
            end = len(line) if end < 0 else end
            fields.append(line[start:end])
        start = end + 1
    return fields
