"""Submissions: every pair once, refused pairs listed."""

import numpy as np

from kryptonite.data.submission import read_submission
from kryptonite.fusion.evidence import REFUSED
from kryptonite.inference.submission import submit


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


def test_submit_writes_every_pair_when_no_image_can_be_read(pipeline, tmp_path):
    for name in (0, 1):
        path = tmp_path / f"data/test_public/images/00000000/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert len(submit(pipeline, tmp_path, tmp_path / "s.csv").unreadable) == 1
    assert read_submission(tmp_path / "s.csv")["similarity"].tolist() == [REFUSED]
