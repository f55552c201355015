"""Commands on an untrained run: what they print, write and return."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from kryptonite.cli.demo import SHORT
from kryptonite.cli.main import main
from kryptonite.data.demo import DemoConfig
from kryptonite.data.submission import read_submission
from kryptonite.inference.pipeline import Verification
from kryptonite.runs import report
from kryptonite.runs.report import Protocol
from kryptonite.runs.run_dir import RunDir

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def system(run):
    return ["--run", str(run), "--device", "cpu"]


@pytest.fixture
def places(system, tmp_path):
    return [*system, "--cache", str(tmp_path / "cache")]


@pytest.fixture
def photos(tmp_path, faces, save):
    return [
        str(save(tmp_path / f"{name}.png", face))
        for name, face in zip("ab", faces[:2], strict=True)
    ]


def test_verify_prints_every_field_of_the_answer_when_json(system, photos, pipeline, capsys):
    assert main(["verify", *photos, *system, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    expected = pipeline.verify(*photos)
    names = [field.name for field in fields(Verification)]
    assert list(answer) == [*names, "synthetic_probability", "boxes", "status"]
    assert answer["code"] == expected.code and answer["parts"].keys() == vars(expected.parts).keys()
    assert [photo["width"] for photo in answer["photos"]] == [160, 160]
    assert answer["score"] == pytest.approx(expected.score, abs=1e-5)
    assert answer["accepted"] is expected.accepted and answer["status"] == ["found_padded"] * 2
    assert all(0 < each < 1 for each in answer["synthetic_probability"])
    assert np.shape(answer["boxes"]) == (2, 4)


def test_commands_state_device_and_engine_once_on_stderr(system, photos, tmp_path):
    """In a process of its own, as what was said before is not said again."""
    for options in ([], ["--json"]):
        command = [sys.executable, "-m", "kryptonite", "verify", *photos, *system, *options]
        done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD)
        assert done.returncode == 0, done.stderr
        parts = "finding faces, recognition, liveness, the differential detector"
        assert done.stderr == f"{parts}: torch on cpu (1 thread)\n"
        assert "cpu" not in done.stdout


def test_verify_prints_reason_scores_and_both_photos(system, photos, pipeline, capsys):
    assert main(["verify", *photos, *system]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = pipeline.verify(*photos)
    assert lines[0] == expected.reason
    assert f"(threshold {expected.threshold:.4f})" in lines[1] and "similarity" in lines[1]
    probabilities = expected.synthetic_probability
    for line, photo, probability in zip(lines[2:4], photos, probabilities, strict=True):
        found = f"face found after padding the photo, probability of synthetic {probability:.4f}"
        assert line == f"{photo}: {found}"
    assert lines[4].endswith(" seconds") and len(lines) == 5


def test_verify_and_explain_escape_names_that_cannot_be_printed(system, photos, tmp_path, capsys):
    odd = [os.fsdecode(os.fsencode(tmp_path) + name) for name in (b"/caf\xe9.png", b"/a\nb.png")]
    for photo, name in zip(photos, odd, strict=True):
        shutil.copy(photo, name)
    assert main(["verify", *odd, *system]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "caf\\udce9.png: face" in lines[2] and "a\\nb.png: face" in lines[3]
    sheet = tmp_path / "sheet.html"
    assert main(["explain", *odd, *system, "--out", str(sheet)]) == 0
    assert "caf\\udce9.png" in sheet.read_text(encoding="utf-8")


def test_verify_decides_at_the_threshold_of_the_name(run, system, photos, capsys):
    stored = json.loads((run / "fusion.json").read_text())
    for fuser in stored["fusers"].values():
        fuser["at_fmr"] = {"fmr=0.1": -500, "fmr=0.01": 500}
    (run / "fusion.json").write_text(json.dumps(stored))
    command = ["verify", *photos, *system, "--json", "--threshold"]
    for name, value in (("fmr=0.1", -500), ("fmr=0.01", 500)):
        assert main([*command, name]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["threshold_name"], answer["threshold"]) == (name, value)
        assert answer["accepted"] is (value < 0)
    assert main([*command, "fmr=0.5"]) == 2
    assert "unknown threshold 'fmr=0.5'; this run has stored, fmr=0.1" in capsys.readouterr().err


def test_verify_returns_0_when_pair_is_refused(system, photos, tmp_path, save, capsys):
    blank = str(save(tmp_path / "blank.png", np.full((90, 90, 3), 127, np.uint8)))
    assert main(["verify", photos[0], blank, *system]) == 0
    out = capsys.readouterr().out
    assert out.startswith("refused: no face found in the second photo\n")
    assert f"{blank}: no face found" in out


def test_verify_returns_2_when_image_cannot_be_read(system, photos, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"broken")
    assert main(["verify", photos[0], str(tmp_path / "broken.png"), *system]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kryptonite verify: ") and "broken.png" in error


def test_verify_compares_a_photo_with_references(system, photos, pipeline, capsys):
    references = [word for photo in photos[::-1] for word in ("--reference", photo)]
    assert main(["verify", photos[0], *references, *system]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = pipeline.verify_references(photos[0], photos[::-1])
    assert lines[0] == expected.reason and f"{expected.score:.4f}" in lines[1]
    assert [line.split(":")[0] for line in lines[2:5]] == [photos[0], *photos[::-1]]


def test_verify_withholds_an_uncertain_decision_when_cannot_say(run, system, photos, capsys):
    stored = json.loads((run / "fusion.json").read_text())
    stored["fusers"]["llr"]["cannot_say"]["least"]["stored"] = 1e6
    (run / "fusion.json").write_text(json.dumps(stored))
    assert main(["verify", *photos, *system, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["code"] != "cannot_say"
    for pair in (photos, [photos[0], "--reference", photos[1]]):
        assert main(["verify", *pair, *system, "--cannot-say"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("cannot say: neither decision is certain enough\nscore ")
    assert main(["verify", *photos, *system, "--cannot-say", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["accepted"], answer["code"]) == (False, "cannot_say")
    del stored["fusers"]["llr"]["cannot_say"]
    (run / "fusion.json").write_text(json.dumps(stored))
    assert main(["verify", *photos, *system, "--cannot-say"]) == 2
    assert "trained by an older version" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        ["a"],
        ["a", "b", "--reference", "c"],
        ["a", "--reference", "b", "--reference", "c", "--cannot-say"],
    ],
)
def test_verify_refuses_photos_that_its_options_do_not_take(given, system):
    with pytest.raises(SystemExit) as end:
        main(["verify", *given, *system])
    assert end.value.code == 2


def test_submit_scores_probes_against_references(places, run, photos, tmp_path, capsys):
    (tmp_path / "probes.csv").write_text("probe_id,path\n7,a.png\n")
    (tmp_path / "references.csv").write_text("reference_id,path\n7,b.png\n7,a.png\n7,c.png\n")
    (tmp_path / "c.png").write_bytes(b"broken")
    tables = [f"--{name}={tmp_path / name}.csv" for name in ("probes", "references")]
    options = ["submit", *tables, "--data_root", str(tmp_path), *places]
    assert main([*options, "--strict"]) == 1
    out, err = capsys.readouterr()
    assert out == (
        f"{run / 'submission.csv'}: 1 probes, 3 images, no face found in 0 (0 probes refused)\n"
    )
    assert err.endswith(f"unreadable: {tmp_path / 'c.png'}\n")
    assert read_submission(run / "submission.csv")["pair_id"].tolist() == ["00000007"]
    with pytest.raises(SystemExit):
        main(["submit", tables[0], *places])


def test_submit_writes_every_pair_and_counts_images(places, run, folders, capsys):
    assert main(["submit", "--data_root", str(folders), *places]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{run / 'submission.csv'}: 4 pairs, 8 images, no face found in ")
    assert out.endswith("recognition by torch on cpu, liveness by torch on cpu\n")
    assert len(read_submission(run / "submission.csv")) == 4 and "unreadable" not in err


def test_submit_returns_1_when_strict_and_image_is_unreadable(places, folders, tmp_path, capsys):
    broken = folders / "data/test_public/images/00000002/0.jpg"
    broken.write_bytes(b"broken")
    options = ["--data_root", str(folders), "--out", str(tmp_path / "out.csv"), *places]
    assert main(["submit", *options, "--strict"]) == 1
    assert "unreadable, refused: pair 00000002 (" in capsys.readouterr().err
    assert main(["submit", *options]) == 0
    assert (
        read_submission(tmp_path / "out.csv").set_index("pair_id").at["00000002", "similarity"]
        == -1000
    )


@pytest.mark.slow
def test_export_writes_networks_that_submit_uses_when_auto(places, run, folders, capsys):
    assert main(["export", "--run", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        str(run / "recognition/model.onnx"),
        str(run / "comparison/comparer.onnx"),
        str(run / "liveness/model.onnx"),
        str(run / "faces"),
    ]
    assert main(["submit", "--data_root", str(folders), *places]) == 0
    assert "recognition by onnx on cpu, liveness by onnx on cpu" in capsys.readouterr().out


def test_evaluate_passes_protocol_on_and_marks_chosen_system(run, monkeypatch, capsys):
    figures = {"eer_challenge": 0.125, "sv_eer": 0.25, "spf_eer": 0.5}
    figures["intervals"] = {"eer_challenge": (0.1, 0.2)}
    calls = []

    def write_run_report(*arguments):
        calls.append(arguments)
        return {
            "warnings": ["small"],
            "systems": {"none": figures, "llr": figures},
            "chosen": "llr",
        }

    monkeypatch.setattr(report, "write_run_report", write_run_report)
    assert main(["evaluate", "--run", str(run), "--pairs", "gt.csv", "--resamples", "9"]) == 0
    protocol = Protocol("gt.csv", "nowhere", resamples=9)
    assert calls == [(RunDir(run), protocol, run / "report.html", None)]
    out, err = capsys.readouterr()
    row = "EER 0.1250 [0.1000, 0.2000]  SV 0.2500  SPF 0.5000"
    assert out.splitlines()[:2] == [f"  none            {row}", f"* llr             {row}"]
    assert out.splitlines()[2] == f"{run}/report.html, {run}/report.json" and err == "note: small\n"


def test_prepare_freezes_split_and_pairs(folders, tmp_path, capsys):
    out = tmp_path / "prepared"
    assert main(["prepare", "--config", "cpu", "--data.root", str(folders), "--out", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"train.csv", "val.csv", "test.csv", "pairs_val.csv", "audit.json"}
    printed = capsys.readouterr().out
    split_hash = json.loads((out / "audit.json").read_text())["split_hash"]
    assert "unreadable: 0\n" in printed and printed.endswith(f"split hash: {split_hash[:12]}\n")


def test_prepare_returns_2_when_network_cannot_tell_faces_apart(folders, capsys):
    assert main(["prepare", "--config", "cpu", "--data.root", str(folders), "--clean"]) == 2
    assert "cleaning needs a face recogniser" in capsys.readouterr().err


def test_demo_is_smaller_when_short():
    short, whole = DemoConfig(**SHORT), DemoConfig()
    assert all(getattr(short, name) < getattr(whole, name) for name in SHORT)


def test_explain_writes_a_sheet_and_prints_the_reason(system, photos, pipeline, tmp_path, capsys):
    out = tmp_path / "why.html"
    assert main(["explain", *photos, *system, "--out", str(out)]) == 0
    reason = pipeline.verify(*photos).reason
    assert capsys.readouterr().out == f"{reason}; wrote {out}\n"
    html = out.read_text(encoding="utf-8")
    assert f"<h1>{reason.capitalize()}</h1>" in html and html.count("data:image/png") == 2
