"""`kryptonite evaluate --scores`: from two tables to a report, without a run."""

import json

import pandas as pd
import pytest

from kryptonite.cli.main import main
from kryptonite.data.scores import LABEL_COLUMNS
from tests.report.population import scored_pairs


@pytest.fixture
def tables(tmp_path):
    drawn = scored_pairs(pairs=200)
    drawn.pairs[LABEL_COLUMNS].to_csv(tmp_path / "pairs.csv", index=False)
    scores = {"similarity": drawn.scores["none"], "Fused": drawn.scores["llr"]}
    table = pd.DataFrame({"pair_id": drawn.pairs["pair_id"], **scores})
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "scores.csv", index=False)
    return ["--scores", str(tmp_path / "scores.csv"), "--pairs", str(tmp_path / "pairs.csv")]


def test_evaluate_reports_scores_from_elsewhere(tables, tmp_path, capsys):
    options = ["--alone", "similarity", "--llr", "Fused", "--threshold", "Fused=1.5"]
    assert main(["evaluate", *tables, *options, "--fmr", "0.1", "--resamples", "10"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("* similarity ") and "\n  fused " in out
    assert "too few to measure FMR 10%" in err  # of 50 non-mated pairs
    figures = json.loads((tmp_path / "scores.json").read_text())
    assert figures["systems"]["fused"]["threshold"] == 1.5
    assert "cllr" in figures["systems"]["fused"] and figures["provenance"]["resamples"] == 10
    assert (tmp_path / "scores.html").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alone", "theirs"], "no column of scores 'theirs'; it has similarity, fused"),
        (["--llr", "x"], "no column of scores 'x'"),
    ],
)
def test_evaluate_returns_2_when_a_named_column_is_missing(tables, options, message, capsys):
    assert main(["evaluate", *tables, *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scores", "s.csv"], "--scores needs --pairs"),
        (["--alone", "x"], "go with --scores"),
        (["--scores", "s.csv", "--pairs", "p.csv", "--threshold", "x=high"], "COLUMN=VALUE"),
        (["--scores", "s.csv", "--pairs", "p.csv", "--threshold", "x=nan"], "COLUMN=VALUE"),
        (["--scores", "s.csv", "--pairs", "p.csv", "--fmr", "1.5"], "between 0 and 1"),
        (["--scores", "s.csv", "--pairs", "p.csv", "--transfer", "t.csv"], "--transfer goes with"),
    ],
)
def test_evaluate_refuses_options_that_do_not_go_together(options, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *options])
    assert end.value.code == 2 and message in capsys.readouterr().err
