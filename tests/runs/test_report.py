"""`kryptonite evaluate`: both files, and mistakes named in a line."""

import json

import pandas as pd
import pytest

from kryptonite.cli.main import run_command
from kryptonite.core.errors import DataError
from kryptonite.data.pairs import save_pairs
from kryptonite.runs.report import read_transfer
from tests.report.transfer_rows import empty_texts, row_texts


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
    assert figures["transfer"] == []
    table = pd.DataFrame([row_texts(gain=(-0.1, -0.2, -0.05)), empty_texts()])
    table.to_csv(tmp_path / "transfer.csv", index=False)
    transfer = ["--transfer", str(tmp_path / "transfer.csv")]
    status, said = call("--pairs", str(tmp_path / "pairs.csv"), *transfer)
    assert status == 0
    worse, empty = json.loads((run / "report.json").read_text())["transfer"]
    assert worse["spf_eer_gain_high"] == -0.05 and worse["verdict"] == "worse"
    assert empty["pairs"] == 0 and empty["spf_eer_gain"] is empty["verdict"] is None
    assert 'id="transfer"' in (run / "report.html").read_text(encoding="utf-8")
    (tmp_path / "transfer.csv").write_text("source,forgery\nwild,swap\n")
    for extra, message in (
        (["--pairs", str(tmp_path / "none.csv")], "none.csv"),
        (transfer, "transfer.csv: column pairs, auc, bpcer"),
        (
            ["--run", str(tmp_path / "empty"), "--pairs", str(tmp_path / "pairs.csv")],
            "no finished run",
        ),
    ):
        status, said = call(*extra)
        assert status == 2 and message in said.err and "Traceback" not in said.err


def test_read_transfer_names_file_and_row_when_a_number_is_unreadable(tmp_path):
    path = tmp_path / "transfer.csv"
    pd.DataFrame([row_texts(), row_texts(auc="high")]).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"transfer\.csv, row 2: auc .*'high'"):
        read_transfer(path)
