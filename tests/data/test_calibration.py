"""Calibration tables: kinds from labels and identities; what is wrong is named by file and row."""

import pytest

from kryptonite.core.errors import DataError
from kryptonite.data.calibration import read_calibration

HEADER = "path_a,path_b,label_a,label_b,similarity"
PHOTOS = ("1.jpg", "2.jpg", "3.jpg", "4.jpg")


@pytest.fixture
def read(tmp_path):
    for name in PHOTOS:
        (tmp_path / name).touch()

    def read(text):
        (tmp_path / "cal.csv").write_text(text)
        return read_calibration(tmp_path / "cal.csv", tmp_path)

    return read


def test_read_calibration_takes_kinds_as_they_are(read, tmp_path):
    table = read(f"{HEADER},kind\n1.jpg,2.jpg,ann,ann,0.5,Same\n2.jpg,3.jpg,ann,bob,-3,different\n")
    assert table["kind"].tolist() == ["same", "different"]
    assert table["similarity"].tolist() == [0.5, -3.0]
    assert table["path_b"].tolist() == [str(tmp_path / name) for name in ("2.jpg", "3.jpg")]


def test_read_calibration_derives_kinds_from_labels_and_identities(read):
    rows = ["1.jpg,2.jpg,ann,ann,1,1", "1.jpg,3.jpg,ann,bob,0,0", "1.jpg,4.jpg,ann,ann,2,false"]
    table = read("\n".join([f"{HEADER},label", *rows]))
    assert table["kind"].tolist() == ["same", "different", "synthetic"]


@pytest.mark.parametrize(
    ("column", "rows", "message"),
    [
        ("kind", ["1.jpg,2.jpg,ann,bob,1,same"], "row 1: a mated pair shows two people"),
        ("kind", ["1.jpg,2.jpg,ann,ann,1,different"], "row 1: .* has one identity"),
        ("kind", ["1.jpg,2.jpg,ann,ann,1,fake"], "row 1: kind must be one of same, different"),
        ("label", ["1.jpg,2.jpg,ann,ann,1,2"], "row 1: label must be 0 or 1"),
        ("label", ["1.jpg,2.jpg,ann,bob,1,1"], "row 1: a mated pair shows two people"),
        ("kind", ["1.jpg,2.jpg,ann,ann,inf,same"], "row 1: similarity is not a finite number"),
        ("kind", ["1.jpg,2.jpg,ann,ann,?,same"], "row 1: similarity is not a finite number"),
        ("kind", ["1.jpg,2.jpg,,ann,1,same"], "row 1: label_a is empty"),
        ("kind", [], "contains no pairs"),
        ("other", ["1.jpg,2.jpg,ann,ann,1,x"], "column kind or label is missing"),
        ("kind,label", ["1.jpg,2.jpg,ann,ann,1,same,0"], "row 1: label contradicts kind"),
        (
            "kind",
            ["1.jpg,2.jpg,ann,ann,1,same", "2.jpg,1.jpg,ann,ann,2,same"],
            "row 2: the same two photos stand there twice",
        ),
        ("kind", ["8.jpg,9.jpg,ann,ann,1,same"], r"row 1: 8\.jpg does not exist"),
    ],
)
def test_read_calibration_names_file_and_row_when_something_is_wrong(read, column, rows, message):
    with pytest.raises(DataError, match=r"cal\.csv.*" + message):
        read("\n".join([f"{HEADER},{column}", *rows]) + "\n")
