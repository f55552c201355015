"""Assessment: images seen in training are noticed, and fusions fitted on them are refitted."""

from pathlib import Path

import numpy as np
import pytest

from kryptonite.core.errors import DataError
from kryptonite.fusion.evidence import REFUSED
from kryptonite.runs.assess import assess
from kryptonite.runs.run_dir import RunDir

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(run):
    return RunDir(run)


def remember(folder, assessment, split):
    """Writes the assessed images into the run's own list."""
    images = assessment.scored.images.assign(split=split)
    images[["key", "label", "split", "is_synthetic", "species"]].to_csv(folder.images, index=False)


def test_assess_uses_the_stored_fusions_when_the_images_are_new(pipeline, folder, face_pairs):
    assessment = assess(pipeline, folder, face_pairs)
    assert assessment.warnings == [] and not assessment.cross_fitted
    scored, _ = pipeline.score_pairs(face_pairs)
    expected = scored["score"].to_numpy()
    assert assessment.scored.scores["llr"] == pytest.approx(expected, abs=1e-6)
    images = assessment.scored.images
    synthetic = images["is_synthetic"]
    assert len(images) == 24 and synthetic.sum() == 8
    assert set(images.loc[synthetic, "species"]) == {"dark"}
    assert (images.loc[~synthetic, "species"] == "").all()


def test_assess_cross_fits_when_validation_images_recur_under_other_names(
    pipeline, folder, face_pairs, tmp_path
):
    first = assess(pipeline, folder, face_pairs)
    remember(folder, first, "val")
    for path in {*face_pairs["path_a"], *face_pairs["path_b"]}:
        (tmp_path / "photos" / path).rename(path.replace(".png", "-moved.png"))
    moved = face_pairs.assign(
        **{
            name: face_pairs[name].str.replace(".png", "-moved.png")
            for name in ("path_a", "path_b")
        }
    )
    second = assess(pipeline, folder, moved)
    assert second.cross_fitted and second.seen == {"train": 0, "val": 24}
    images, fusions = second.warnings
    assert "24 of the 24 images are validation images of the run" in images
    assert "cross-fitted" in fusions
    assert not np.allclose(second.scored.scores["llr"], first.scored.scores["llr"])
    assert np.allclose(second.scored.scores["none"], first.scored.scores["none"])


def test_assess_warns_when_images_were_trained_on(pipeline, folder, face_pairs):
    remember(folder, assess(pipeline, folder, face_pairs), "train")
    (warning,) = assess(pipeline, folder, face_pairs).warnings
    assert "24 of the 24 images were trained on" in warning


def test_assess_counts_a_photo_under_two_names_once(pipeline, folder, face_pairs, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(face_pairs.at[3, "path_a"]).read_bytes())
    face_pairs.loc[3, "path_a"] = str(copy)
    assert len(assess(pipeline, folder, face_pairs).scored.images) == 24


def test_assess_counts_and_leaves_out_unreadable_pairs(pipeline, folder, face_pairs):
    broken = face_pairs.at[0, "path_b"]
    Path(broken).write_bytes(b"broken")
    assessment = assess(pipeline, folder, face_pairs)
    touched = (face_pairs["path_a"] == broken) | (face_pairs["path_b"] == broken)
    assert len(assessment.unreadable) == touched.sum()
    assert len(assessment.scored.pairs) == (~touched).sum()
    assert f"{touched.sum()} pairs are left out" in assessment.warnings[-1]
    for path in {*face_pairs["path_a"], *face_pairs["path_b"]}:
        Path(path).write_bytes(b"broken")
    with pytest.raises(DataError, match="24 of 24 files cannot be read"):
        assess(pipeline, folder, face_pairs)


def test_assess_refuses_pairs_without_a_face_by_every_fusion(pipeline, folder, face_pairs, save):
    before = assess(pipeline, folder, face_pairs).scored.pairs["acquired"].to_numpy()
    black = face_pairs.at[int(np.argmax(before)), "path_b"]
    save(Path(black), np.zeros((160, 160, 3), np.uint8))
    scored = assess(pipeline, folder, face_pairs).scored
    touched = ((face_pairs["path_a"] == black) | (face_pairs["path_b"] == black)).to_numpy()
    touched = touched | ~before
    assert (~scored.pairs["acquired"]).tolist() == touched.tolist() != (~before).tolist()
    for name, scores in scored.scores.items():
        assert (scores[touched] == REFUSED).all() and (scores[~touched] > REFUSED).all(), name
    assert (scored.llrs["llr"][touched] == 0).all()


def test_assess_names_the_list_of_images_when_it_is_missing(pipeline, folder, face_pairs):
    folder.images.unlink()
    with pytest.raises(DataError, match=r"images\.csv"):
        assess(pipeline, folder, face_pairs)
