"""A run put to the test: what was seen in training is noticed, fusions fitted on these people are not believed."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from kryptonite.cli import evaluate as evaluate_script
from kryptonite.core.errors import DataError
from kryptonite.data.pairs import save_pairs
from kryptonite.runs.assess import assess, shortcut_warnings


def remember(run, assessment, split):
    """Writes the assessed images into the run's own list."""
    images = assessment.scored.images.assign(split=split)
    images[["key", "label", "split", "is_synthetic", "species"]].to_csv(
        run / "images.csv", index=False
    )


def test_unknown_images_are_scored_by_the_stored_fusions(pipeline, run, face_pairs):
    assessment = assess(pipeline, run, face_pairs)
    assert assessment.warnings == [] and not assessment.cross_fitted
    scored, _ = pipeline.score_pairs(face_pairs)
    assert assessment.scored.scores["llr"] == pytest.approx(scored["score"].to_numpy(), abs=1e-6)
    images = assessment.scored.images
    assert (
        len(images) == 24
        and images["is_synthetic"].sum() == 8
        and set(images.loc[images["is_synthetic"], "species"]) == {"dark"}
    )
    assert (images.loc[~images["is_synthetic"], "species"] == "").all()


def test_validation_images_are_recognised_by_content_and_fusions_fitted_without_them(
    pipeline, run, face_pairs, tmp_path
):
    first = assess(pipeline, run, face_pairs)
    remember(run, first, "val")
    for path in {*face_pairs["path_a"], *face_pairs["path_b"]}:  # other names, the same contents
        (tmp_path / "photos" / path).rename(path.replace(".png", "-moved.png"))
    moved = face_pairs.assign(
        **{
            name: face_pairs[name].str.replace(".png", "-moved.png")
            for name in ("path_a", "path_b")
        }
    )
    second = assess(pipeline, run, moved)
    assert (
        second.cross_fitted
        and second.seen == {"train": 0, "val": 24}
        and "cross-fitted" in second.warnings[0]
    )
    assert not np.allclose(second.scored.scores["llr"], first.scored.scores["llr"])
    assert np.allclose(second.scored.scores["none"], first.scored.scores["none"])


def test_training_images_are_told(pipeline, run, face_pairs):
    remember(run, assess(pipeline, run, face_pairs), "train")
    assert "24 of the 24 images were trained on" in assess(pipeline, run, face_pairs).warnings[0]


def test_a_photo_under_two_names_is_one_image(pipeline, run, face_pairs, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(face_pairs.at[3, "path_a"]).read_bytes())
    face_pairs.loc[3, "path_a"] = str(copy)
    assert len(assess(pipeline, run, face_pairs).scored.images) == 24


def test_unreadable_pairs_are_counted_and_left_out(pipeline, run, face_pairs):
    Path(face_pairs.at[0, "path_b"]).write_bytes(b"broken")
    assessment = assess(pipeline, run, face_pairs)
    touched = (face_pairs["path_a"] == face_pairs.at[0, "path_b"]) | (
        face_pairs["path_b"] == face_pairs.at[0, "path_b"]
    )
    assert (
        len(assessment.unreadable) == touched.sum()
        and len(assessment.scored.pairs) == (~touched).sum()
    )
    assert f"{touched.sum()} pairs are left out" in assessment.warnings[-1]
    for path in {*face_pairs["path_a"], *face_pairs["path_b"]}:
        Path(path).write_bytes(b"broken")
    with pytest.raises(DataError, match="none of the 48 pairs"):
        assess(pipeline, run, face_pairs)


def test_a_run_without_its_list_of_images_is_not_believed(pipeline, run, face_pairs):
    (run / "images.csv").unlink()
    with pytest.raises(DataError, match=r"images\.csv"):
        assess(pipeline, run, face_pairs)


@pytest.mark.parametrize(
    ("aligner", "cured"), [({}, "without a common"), ({"common_side": 100}, "with a common")]
)
def test_the_report_warns_of_shortcuts_in_the_training_data(run, tmp_path, aligner, cured):
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(
        yaml.safe_dump(
            {**config, "aligner": aligner, "data": {**config["data"], "root": str(tmp_path)}}
        )
    )
    assert shortcut_warnings(run) == []  # nobody looked
    audit = tmp_path / "audit.json"
    audit.write_text(json.dumps({"shortcuts": {"leaks": False, "verdict": "nothing leaks"}}))
    assert shortcut_warnings(run) == []
    audit.write_text(json.dumps({"shortcuts": {"leaks": True, "verdict": "size 0.98"}}))
    (warning,) = shortcut_warnings(run)
    assert "size 0.98" in warning and cured in warning
    audit.write_text("{}")
    with pytest.raises(DataError, match=r"audit\.json"):
        shortcut_warnings(run)


def test_the_script_writes_both_files_and_names_mistakes(
    run, face_pairs, tmp_path, monkeypatch, capsys
):
    save_pairs(tmp_path / "pairs.csv", face_pairs, tmp_path)

    def call(*extra):
        places = [
            "--run",
            str(run),
            "--data_root",
            str(tmp_path),
            "--cache",
            str(tmp_path / "cache"),
            "--device",
            "cpu",
            "--resamples",
            "20",
        ]
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *places, "--resamples", "20", *extra])
        return evaluate_script.main(), capsys.readouterr()

    status, said = call("--pairs", str(tmp_path / "pairs.csv"))
    assert status == 0 and "* llr" in said.out and "  none" in said.out
    figures = json.loads((run / "report.json").read_text())
    assert (
        figures["counts"]["pairs"] == {"same": 8, "different": 24, "synthetic": 16}
        and figures["chosen"] == "llr"
    )
    assert figures["withheld"] == [] and figures["provenance"]["command"].startswith(
        "python evaluate.py --run"
    )
    assert "Kryptonite" in (run / "report.html").read_text(encoding="utf-8")
    for extra, message in (
        (["--pairs", str(tmp_path / "none.csv")], "none.csv"),
        (
            ["--run", str(tmp_path / "empty"), "--pairs", str(tmp_path / "pairs.csv")],
            "no finished run",
        ),
    ):
        status, said = call(*extra)
        assert status == 2 and message in said.err and "Traceback" not in said.err
