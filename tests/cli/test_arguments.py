"""Options that commands share."""

from pathlib import Path

import pytest

from kryptonite.cli.arguments import (
    ENGINES,
    SEVERITIES,
    add_protocol,
    command_parser,
    format_examples,
    protocol_of,
)
from kryptonite.core.errors import DataError
from kryptonite.nn import model
from kryptonite.robustness import corruptions
from kryptonite.runs.report import Protocol
from kryptonite.runs.run_dir import RunDir


def test_choices_are_those_of_the_library():
    assert ENGINES == model.ENGINES and SEVERITIES == corruptions.SEVERITIES


def parsed(*arguments):
    parser = command_parser("kryptonite test", "Tests.", [])
    add_protocol(parser, resamples=7)
    return parser.parse_args(arguments)


def test_protocol_of_takes_validation_pairs_of_the_run_when_none_are_given(run):
    assert protocol_of(parsed(), RunDir(run)) == Protocol(
        run / "pairs_val.csv", "nowhere", ".cache/crops", "auto", 7
    )


def test_protocol_of_takes_what_the_options_say_when_given(run):
    places = ["--pairs", "gt.csv", "--data_root", "d", "--cache", "c"]
    options = [*places, "--device", "cpu", "--resamples", "9"]
    expected = Protocol("gt.csv", "d", "c", "cpu", 9)
    assert protocol_of(parsed(*options), RunDir(run)) == expected


def test_protocol_of_raises_when_folder_holds_no_run(tmp_path):
    with pytest.raises(DataError, match="no finished run"):
        protocol_of(parsed(), RunDir(Path(tmp_path)))


@pytest.mark.parametrize(
    ("program", "call"),
    [("kryptonite eer", "  kryptonite eer --x"), ("eer.py", "  python eer.py --x")],
)
def test_format_examples_writes_calls_as_a_shell_takes_them(program, call):
    assert format_examples(program, ["--x"]) == f"examples:\n{call}"
