"""Trials are fair; tables of probes and references name their mistakes."""

import numpy as np
import pandas as pd
import pytest

from kryptonite.core.errors import DataError
from kryptonite.data.layouts import DataConfig, load_images
from kryptonite.data.references import draw_trials, load_probes

COUNTS = {"same": 100, "different": 60, "synthetic": 100}


@pytest.fixture
def images():
    """Six people of eight photos in four recordings, and three forgeries of each but the last."""
    rows = [
        (f"p{person}", number >= 8, f"{person}-{number}", f"r{number // 2}" if number < 8 else "")
        for person in range(6)
        for number in range(11 if person < 5 else 8)
    ]
    return pd.DataFrame(rows, columns=["label", "is_synthetic", "key", "recording"])


def test_draw_trials_takes_bona_fide_references_of_the_claimed_person(images):
    drawn = draw_trials(images, 5, COUNTS)
    label, synthetic = images["label"].to_numpy(), images["is_synthetic"].to_numpy()
    kinds = dict(zip(*np.unique(drawn.kind, return_counts=True), strict=True))
    assert kinds == {"same": 100, "different": 60, "synthetic": 45}
    for row, (probe, kind) in enumerate(zip(drawn.probe, drawn.kind, strict=True)):
        references = drawn.references[row]
        references = references[references >= 0]
        assert len(set(references)) == len(references) == 5 and probe not in references
        (claimed,) = set(label[references])
        assert not synthetic[references].any()
        assert (claimed == label[probe]) == (kind != "different")
        assert synthetic[probe] == (kind == "synthetic")
        forged = drawn.forged[row]
        assert (forged == -1) == (claimed == "p5") and forged != probe
        assert forged == -1 or (synthetic[forged] and label[forged] == claimed)
    claims = [tuple(pair) for pair in np.stack([drawn.probe, drawn.references[:, 0]], 1)]
    assert len({probe for probe, _ in claims}) == len(images)


def test_draw_trials_draws_no_photo_of_the_probes_recording_or_content(images):
    images["key"] = images["key"].where(images["key"] != "0-7", "0-0")
    drawn = draw_trials(images, 9, COUNTS)
    recording, key = images["recording"].to_numpy(), images["key"].to_numpy()
    own = drawn.kind == "same"
    assert own.any()
    for probe, references in zip(drawn.probe[own], drawn.references[own], strict=True):
        found = references[references >= 0]
        assert len(found) in ((5, 6) if images["label"][probe] == "p0" else (6,))
        assert recording[probe] not in recording[found] and key[probe] not in key[found]
    without = draw_trials(images.drop(columns="recording"), 9, COUNTS)
    assert ((without.references >= 0).sum(1)[without.kind == "same"] >= 6).all()


def test_counts_lists_the_numbers_that_enough_people_have(images):
    drawn, labels = draw_trials(images, 10, COUNTS), images["label"].to_numpy()
    assert drawn.counts(labels, 5) == [1, 2, 3, 4, 5, 6]
    assert drawn.counts(labels, 6) == []  # only five people have forgeries
    poisoned = drawn.rows(drawn.forged >= 0).forged_first()
    assert np.array_equal(poisoned.references[:, 0], poisoned.forged)
    moved = drawn.mapped(np.arange(len(images)) + 7)
    assert np.array_equal(moved.probe, drawn.probe + 7)
    assert ((moved.references == -1) == (drawn.references == -1)).all()


def test_load_images_keeps_recordings_where_the_table_tells(tmp_path):
    for split, name in (("train", "a"), ("val", "b")):
        (tmp_path / f"{name}.jpg").write_bytes(b"")
        extra, value = (",recording", ",7") if split == "val" else ("", "")
        text = f"label,path{extra}\n{name},{name}.jpg{value}\n"
        (tmp_path / f"{split}.csv").write_text(text)
    config = DataConfig(str(tmp_path))
    assert load_images(config, "val")["recording"].tolist() == ["7"]
    assert "recording" not in load_images(config, "train")


@pytest.fixture
def tables(tmp_path):
    def write(probes, references="reference_id,path\nann,a.jpg\nann,b.jpg\n1,c.jpg\n"):
        for name in "abcd":
            (tmp_path / f"{name}.jpg").write_bytes(b"")
        for name, text in (("probes", probes), ("references", references)):
            (tmp_path / f"{name}.csv").write_text(text)
        return load_probes(tmp_path / "probes.csv", tmp_path / "references.csv", tmp_path)

    return write


def test_load_probes_joins_by_reference_id_or_else_by_probe_id(tables, tmp_path):
    probes, references = tables("probe_id,path,reference_id\n1,d.jpg,ann\n2,c.jpg,ann\n")
    assert probes["probe_id"].tolist() == ["00000001", "00000002"]
    assert probes["reference_id"].tolist() == ["ann", "ann"]
    assert probes["path"].tolist() == [str(tmp_path / "d.jpg"), str(tmp_path / "c.jpg")]
    assert references.groupby("reference_id").size().to_dict() == {"ann": 2, "1": 1}
    probes, _ = tables("probe_id,path\n1,d.jpg\n")
    assert probes["reference_id"].tolist() == ["1"]


@pytest.mark.parametrize(
    ("probes", "references", "message"),
    [
        ("probe_id\n1\n", None, r"probes\.csv: column path is missing"),
        ("probe_id,path\n", None, r"probes\.csv: contains no rows"),
        ("probe_id,path\nx,d.jpg\n", "reference_id,path\nx,a.jpg\n", r"row 1: pair id 'x'"),
        ("probe_id,path\n1,d.jpg\n01,a.jpg\n", "reference_id,path\n1,a.jpg\n", "row 2: probe_id"),
        ("probe_id,path\n2,d.jpg\n", None, r"probes\.csv, row 1: its reference_id is not in"),
        ("probe_id,path,reference_id\n1,d.jpg,\n", None, "row 1: reference_id is empty"),
        (
            "probe_id,path\n1,d.jpg\n",
            "reference_id,path\n1,a.jpg\n1,a.jpg\n",
            r"references\.csv, row 2: the same photo stands twice",
        ),
    ],
)
def test_load_probes_names_file_and_row_when_a_table_is_wrong(tables, probes, references, message):
    with pytest.raises(DataError, match=message):
        tables(probes, *([references] if references else []))
