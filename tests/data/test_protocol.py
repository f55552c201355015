"""Labelled pairs load from both files, and mistakes are reported with file and row."""

import pandas as pd
import pytest

from kryptonite.core.errors import DataError
from kryptonite.data.layouts import DataConfig, load_images, load_test_pairs
from kryptonite.data.pairs import PAIR_COLUMNS, PairConfig, make_pairs, save_pairs
from kryptonite.data.protocol import load_protocol


@pytest.fixture
def pairs(folders):
    return make_pairs(load_images(DataConfig(str(folders)), "train"), PairConfig(count=40))


def test_load_protocol_restores_frozen_pairs(folders, pairs):
    save_pairs(folders / "pairs.csv", pairs, folders)
    pd.testing.assert_frame_equal(
        load_protocol(folders / "pairs.csv", folders), pairs, check_dtype=False
    )


def test_load_protocol_takes_photos_from_the_test_pairs_when_given_a_ground_truth(folders, pairs):
    truth = (
        pairs.drop(columns=["path_a", "path_b"])
        .head(4)
        .iloc[::-1]
        .assign(pair_id=["3", "2", "1", "0"])
    )
    truth.to_csv(folders / "gt.csv", index=False)
    protocol = load_protocol(folders / "gt.csv", folders)
    assert list(protocol.columns) == PAIR_COLUMNS and set(protocol["pair_id"]) == {
        f"{n:08d}" for n in range(4)
    }
    photos = load_test_pairs(folders).set_index("pair_id")
    for pair in protocol.itertuples():
        assert (pair.path_a, pair.path_b) == tuple(photos.loc[pair.pair_id, ["path_a", "path_b"]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, r"row 1: kind must be one of"),
        ({"synthetic_a": 7}, r"row 1: synthetic_a and synthetic_b"),
        (
            {"kind": "synthetic", "label": 0, "synthetic_a": 0, "synthetic_b": 0},
            r"row 1: kind contradicts synthetic_a",
        ),
        ({"kind": "same", "label": 0}, r"row 1: label contradicts kind"),
    ],
)
def test_load_protocol_names_the_row_when_it_is_wrong(folders, pairs, change, message):
    for name, value in change.items():
        pairs.loc[0, name] = value
    save_pairs(folders / "pairs.csv", pairs, folders)
    with pytest.raises(DataError, match=r"pairs\.csv, " + message):
        load_protocol(folders / "pairs.csv", folders)


def test_load_protocol_raises_data_error_when_the_file_does_not_suffice(folders, pairs):
    with pytest.raises(DataError, match="nowhere"):
        load_protocol(folders / "nowhere.csv", folders)
    (folders / "gt.csv").write_text("pair_id,label\n0,1\n")
    # The platform's own ground truth suffices for eer.py only.
    with pytest.raises(DataError, match=r"gt\.csv: column .*kind"):
        load_protocol(folders / "gt.csv", folders)
    pairs.drop(columns=["path_a", "path_b"]).head(3).to_csv(folders / "gt.csv", index=False)
    with pytest.raises(DataError, match="00000003"):
        load_protocol(folders / "gt.csv", folders)
