"""`kryptonite evaluate`."""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from kryptonite.cli.arguments import add_protocol, add_run, command_parser, protocol_of

DESCRIPTION = """\
Measure the error rates of a run on labelled pairs and write an HTML report, with
the figures as JSON beside it. With --scores, measure scores from elsewhere instead:
no run and no photo is needed."""
EXAMPLES = (
    "--run runs/demo",
    "--run runs/demo --pairs gt.csv --data_root . --out report.html",
    "--scores scores.csv --pairs pairs.csv --alone similarity --llr fused",
)


def main(arguments: list[str], program: str) -> int:
    """Writes the report, prints the error rates of every fusion and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    add_run(parser)
    parser.add_argument(
        "--out",
        help="HTML file to write, with the figures as JSON beside it; by default report.html in "
        "the run's folder, or beside --scores under its name",
    )
    parser.add_argument(
        "--transfer",
        metavar="CSV",
        help="transfer.csv of the run, which benchmarks/transfer.py wrote: adds how the run does "
        "on other sources and kinds of forgery",
    )
    add_protocol(parser, resamples=1000)
    _add_scores(parser)
    options = parser.parse_args(arguments)
    if options.scores:
        return _evaluate_scores(parser, options)
    if options.alone or options.llr or options.threshold or options.fmr:
        parser.error("--alone, --llr, --threshold and --fmr go with --scores")

    from kryptonite.core.files import check_writable
    from kryptonite.runs.report import write_run_report
    from kryptonite.runs.run_dir import RunDir

    run = RunDir(Path(options.run))
    out = Path(options.out or run.report)
    for file in (out, out.with_suffix(".json")):
        check_writable(file)  # before minutes of scoring
    findings = write_run_report(run, protocol_of(options, run), out, options.transfer)
    _print(findings, findings["chosen"], out)
    return 0


def _add_scores(parser: argparse.ArgumentParser) -> None:
    """Adds --scores and the options that go with it."""
    group = parser.add_argument_group("scores from elsewhere")
    group.add_argument(
        "--scores",
        metavar="CSV",
        help="pair_id and one column of scores per system, higher for 'accept'; needs --pairs",
    )
    group.add_argument(
        "--alone",
        metavar="COLUMN",
        help="the matcher alone: adds how far every other system lies below its error rates",
    )
    group.add_argument(
        "--llr",
        metavar="COLUMN",
        nargs="+",
        default=[],
        help="columns that hold natural-log likelihood ratios of 'accept': adds their Cllr",
    )
    group.add_argument(
        "--threshold",
        metavar="COLUMN=VALUE",
        nargs="+",
        default=[],
        help="thresholds fitted on other pairs",
    )
    group.add_argument(
        "--fmr",
        metavar="RATE",
        type=float,
        nargs="+",
        default=[],
        help="false match rates, 0 to 1, at which thresholds are stated, 0.01 and 0.001 by "
        "default; rates at a threshold are those at the first",
    )


def _evaluate_scores(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if not options.pairs:
        parser.error("--scores needs --pairs")
    if options.transfer:
        parser.error("--transfer goes with --run, not with --scores")
    if not all(0 < fmr < 1 for fmr in options.fmr):
        parser.error("--fmr must lie between 0 and 1")

    from kryptonite.core.files import check_writable
    from kryptonite.report.analysis import FMRS
    from kryptonite.report.scores import ScoreSettings
    from kryptonite.runs.scores import ForeignScores, write_score_report

    # Names of columns are read in lower case.
    alone = options.alone and options.alone.lower()
    llrs = [name.lower() for name in options.llr]
    foreign = ForeignScores(options.scores, options.pairs, llrs, _thresholds(parser, options))
    out = Path(options.out or Path(options.scores).with_suffix(".html"))
    for file in (out, out.with_suffix(".json")):
        check_writable(file)
    settings = ScoreSettings(alone, options.fmr or FMRS, options.resamples)
    _print(write_score_report(foreign, settings, out), alone, out)
    return 0


def _thresholds(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, float]:
    thresholds = {}
    for text in options.threshold:
        name, _, value = text.rpartition("=")
        try:
            thresholds[name.lower()] = float(value)
        except ValueError:
            parser.error(f"--threshold takes COLUMN=VALUE, got {text!r}")
        if not name or not math.isfinite(thresholds[name.lower()]):
            parser.error(f"--threshold takes COLUMN=VALUE, got {text!r}")
    return thresholds


def _print(findings: dict[str, Any], marked: str | None, out: Path) -> None:
    """Prints notes, the error rates of every system, and where the report is."""
    for warning in findings["warnings"]:
        print(f"note: {warning}", file=sys.stderr)
    for name, figures in findings["systems"].items():
        low, high = figures["intervals"]["eer_challenge"]
        kinds = (("SV", "sv_eer"), ("SPF", "spf_eer"))
        print(
            f"{'*' if name == marked else ' '} {name:15} "
            f"EER {figures['eer_challenge']:.4f} [{low:.4f}, {high:.4f}]  "
            + "  ".join(f"{title} {figures[key]:.4f}" for title, key in kinds if key in figures)
        )
    print(f"{out}, {out.with_suffix('.json')}")
