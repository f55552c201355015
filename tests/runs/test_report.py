"""`kryptonite evaluate`: both files, and mistakes named in a line."""

import json

from kryptonite.cli.main import run_command
from kryptonite.data.pairs import save_pairs


def test_evaluate_writes_both_files_and_names_mistakes(run, face_pairs, tmp_path, capsys):
    save_pairs(tmp_path / "pairs.csv", face_pairs, tmp_path)
    places = ["--run", str(run), "--data_root", str(tmp_path), "--cache", str(tmp_path / "cache")]

    def call(*extra):
        options = [*places, "--device", "cpu", "--resamples", "20", *extra]
        return run_command("evaluate", options, "kryptonite evaluate"), capsys.readouterr()

    status, said = call("--pairs", str(tmp_path / "pairs.csv"))
    assert status == 0 and "* llr" in said.out and "  none" in said.out
    figures = json.loads((run / "report.json").read_text())
    assert figures["counts"]["pairs"] == {"same": 8, "different": 24, "synthetic": 16}
    assert figures["chosen"] == "llr" and figures["withheld"] == []
    assert figures["provenance"]["resamples"] == 20
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
