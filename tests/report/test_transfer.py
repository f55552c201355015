"""Rows of transfer.csv: how they are read, judged and summed up."""

from dataclasses import asdict

import pandas as pd
import pytest

from kryptonite.core.errors import DataError
from kryptonite.report.transfer import BETTER, COLUMNS, UNCLEAR, WORSE, parse_transfer, summary
from tests.report.transfer_rows import empty_texts, row_texts


def parse(*texts):
    return parse_transfer(pd.DataFrame(texts, columns=COLUMNS, dtype=str), "t.csv")


def test_parse_transfer_gives_every_column_as_a_number():
    texts = row_texts(gain=(-0.1, -0.2, -0.05), pairs="7", auc="1", bpcer="0", eer_gain="-1")
    (row,) = parse(texts)
    numbers = {name: float(value) for name, value in texts.items() if name not in COLUMNS[:2]}
    assert asdict(row) == {"source": "wild", "forgery": "swap", **numbers}


def test_parse_transfer_keeps_figures_empty_when_there_are_no_pairs():
    (row,) = parse(empty_texts() | {"auc": "0.5"})
    assert (row.pairs, row.auc, row.verdict) == (0, 0.5, None)
    assert {getattr(row, name) for name in COLUMNS[4:]} == {None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": ""}, "source is empty"),
        ({"pairs": ""}, "pairs must be a whole number, got ''"),
        ({"pairs": "-3"}, "pairs must be a whole number"),
        ({"auc": ""}, "auc must be a number in 0..1, got ''"),
        ({"bpcer": "7%"}, "bpcer must be a number in 0..1, got '7%'"),
        ({"fnmr_alone": "nan"}, "fnmr_alone must be a number"),
        ({"iapar_fused": "12.5"}, "iapar_fused must be a number in 0..1"),
        ({"eer_gain": "-1.5"}, "eer_gain must be a number in -1..1"),
        ({"spf_eer_gain_low": "(-0.1, 0.2)"}, "spf_eer_gain_low must be a number"),
        ({"spf_eer_gain_low": "0.9"}, "spf_eer_gain_low lies above spf_eer_gain_high"),
    ],
)
def test_parse_transfer_names_file_and_row_when_a_value_is_wrong(changes, message):
    with pytest.raises(DataError) as error:
        parse(row_texts(), row_texts(**changes))
    assert str(error.value).startswith("t.csv, row 2: ") and message in str(error.value)


def test_parse_transfer_raises_when_there_are_no_rows():
    with pytest.raises(DataError, match=r"t\.csv: contains no rows"):
        parse()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.2, -0.01, WORSE),
        (-0.2, 0.0, UNCLEAR),
        (-0.2, 0.1, UNCLEAR),
        (0.0, 0.1, UNCLEAR),
        (0.01, 0.1, BETTER),
    ],
)
def test_verdict_is_clear_only_when_interval_excludes_zero(low, high, verdict):
    assert parse(row_texts(gain=(-0.05, low, high)))[0].verdict == verdict


def test_verdict_is_worse_when_pairs_of_different_people_alone_make_it_so():
    changes = {"eer_gain": "-0.12", "eer_gain_low": "-0.2", "eer_gain_high": "-0.01"}
    (row,) = parse(row_texts(**changes))
    assert row.spf_eer_gain_low > 0 and row.verdict == WORSE
    assert "in 1 of 1 cells" in summary([row])


def test_summary_names_the_worst_of_the_worse_cells():
    rows = parse(
        row_texts("home", "swap"),
        row_texts("wild", "swap", (-0.2, -0.5, 0.1)),  # lower, but not clearly below zero
        row_texts("wild", "blend", (-0.1, -0.15, -0.05)),
        row_texts("wild", "round", (-0.05, -0.08, -0.02)),
        empty_texts(),
    )
    assert summary(rows) == (
        "Fusion is worse than recognition alone, beyond the 95% interval, in 2 of 4 cells; "
        "the worst is wild, blend: EER 25.0% alone, 25.0% fused; SPF-EER 30.0% alone, 40.0% fused."
    )


def test_summary_names_the_lowest_gain_when_no_cell_is_worse():
    text = summary(parse(row_texts(), row_texts("demo", gain=(-0.1, -0.3, 0.1))))
    assert (
        "in none of 2 cells; the lowest gain is that of demo, swap: EER 25.0% alone, 25.0% fused; "
        "SPF-EER 30.0% alone, 40.0%" in text
    )


def test_summary_compares_nothing_when_no_cell_has_pairs():
    assert summary(parse(empty_texts())).startswith("No cell has pairs")
