"""Submissions: every pair once, refused pairs listed."""

import re

import numpy as np
import pytest

from kryptonite.core.errors import DataError
from kryptonite.data.submission import read_submission
from kryptonite.detection.aligner import Aligner
from kryptonite.fusion.evidence import REFUSED
from kryptonite.inference.submission import submit, submit_references
from kryptonite.runs.load import load


def test_submit_refuses_and_lists_unreadable_pairs_and_pairs_without_a_face(
    pipeline, tmp_path, faces, save
):
    folder = tmp_path / "data/test_public/images"
    for pair in range(4):
        for name in (0, 1):
            save(folder / f"{pair:08d}/{name}.jpg", faces[(2 * pair + name) % 8])
    (folder / "00000001/1.jpg").write_bytes(b"broken")
    (folder / "00000003/0.jpg").unlink()
    save(folder / "00000002/1.jpg", np.zeros((160, 160, 3), np.uint8))
    report = submit(pipeline, tmp_path, tmp_path / "submission.csv")
    table = read_submission(tmp_path / "submission.csv")
    assert table["pair_id"].tolist() == [f"{n:08d}" for n in range(4)]
    assert report.unreadable["pair_id"].tolist() == ["00000001", "00000003"]
    assert report.no_face["pair_id"].tolist() == ["00000002"] and report.failures_to_acquire == 1
    scores = table["similarity"].to_numpy()
    assert (scores[1:] == REFUSED).all() and scores[0] > REFUSED
    assert report.pairs == 4 and report.images == 8


def test_submit_without_crops_writes_the_same_bytes_and_looks_for_no_face_again(
    run, tmp_path, faces, save, monkeypatch
):
    for number, face in enumerate(faces):
        save(tmp_path / f"data/test_public/images/{number // 2:08d}/{number % 2}.png", face)
    submit(load(run, tmp_path / "kept", "cpu"), tmp_path, tmp_path / "kept.csv")
    first, again = (load(run, tmp_path / "bare", "cpu", keep_crops=False) for _ in range(2))
    submit(first, tmp_path, tmp_path / "bare.csv")
    assert (tmp_path / "bare.csv").read_bytes() == (tmp_path / "kept.csv").read_bytes()
    kept = [file.parts for file in (tmp_path / "bare").rglob("*.safetensors")]
    assert len(kept) == 1 and "sights" in kept[0]
    monkeypatch.setattr(Aligner, "__call__", lambda *_: pytest.fail("aligned again"))
    submit(again, tmp_path, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "kept.csv").read_bytes()


@pytest.mark.parametrize(("damaged", "refused"), [(2, False), (3, True), (4, True)])
def test_submit_refuses_a_list_most_images_of_which_cannot_be_read(
    pipeline, tmp_path, faces, save, damaged, refused
):
    folder = tmp_path / "data/test_public/images"
    for number in range(4):
        path = save(folder / f"{number // 2:08d}/{number % 2}.jpg", faces[number])
        if number >= 4 - damaged:
            path.write_bytes(b"<html>")
    out = tmp_path / "s.csv"
    if refused:
        wanted = f"{damaged} of 4 files cannot be read; the first is .*"
        with pytest.raises(DataError, match=re.escape(str(tmp_path)) + ": " + wanted):
            submit(pipeline, tmp_path, out)
        assert not out.exists()
        return
    assert len(submit(pipeline, tmp_path, out).unreadable) == 1
    first, second = read_submission(out)["similarity"]
    assert first > second == REFUSED


def test_submit_references_scores_each_probe_as_verify_does(pipeline, tmp_path, faces, save):
    for number, face in enumerate(faces):
        save(tmp_path / f"{number}.png", face)
    save(tmp_path / "black.png", np.zeros((160, 160, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"broken")
    sets = {"ann": ["1", "2", "black"], "ben": ["3"], "none": ["black", "broken"]}
    rows = [f"{name},{photo}.png" for name, photos in sets.items() for photo in photos]
    (tmp_path / "references.csv").write_text("\n".join(["reference_id,path", *rows]))
    claims = [("0", "ann"), ("4", "ben"), ("5", "none"), ("black", "ann"), ("6", "ann")]
    rows = [f"{number},{photo}.png,{name}" for number, (photo, name) in enumerate(claims)]
    (tmp_path / "probes.csv").write_text("\n".join(["probe_id,path,reference_id", *rows]))
    tables = tmp_path / "probes.csv", tmp_path / "references.csv", tmp_path
    report = submit_references(pipeline, *tables, tmp_path / "submission.csv")
    assert report.scores["count"].tolist() == [2, 1, 0, 2, 2] and report.images == 9
    assert report.unreadable == [str(tmp_path / "broken.png")] and report.refused == 2
    assert report.no_face == [str(tmp_path / "black.png")]
    table = read_submission(tmp_path / "submission.csv")
    assert table["pair_id"].tolist() == [f"{number:08d}" for number in range(5)]
    score = table["similarity"].to_numpy()
    assert score[2] == score[3] == REFUSED
    for row, probe, references in ((0, 0, (1, 2)), (1, 4, (3,)), (4, 6, (1, 2))):
        (answer,) = pipeline.verify_enrolled(
            [(faces[probe], pipeline.enrol([faces[number] for number in references]))]
        )
        assert score[row] == pytest.approx(answer.score, abs=1e-4)
