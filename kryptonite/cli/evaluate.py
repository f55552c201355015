"""`kryptonite evaluate`."""

import sys
from pathlib import Path

from kryptonite.cli.arguments import add_protocol, add_run, command_parser, protocol_of

DESCRIPTION = """\
Measure the error rates of a run on labelled pairs and write an HTML report, with
the figures as JSON beside it."""
EXAMPLES = (
    "--run runs/demo",
    "--run runs/demo --pairs gt.csv --data_root . --out report.html",
)


def main(arguments: list[str], program: str) -> int:
    """Writes the report, prints the error rates of every fusion and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    add_run(parser)
    parser.add_argument(
        "--out",
        help="HTML file to write, with the figures as JSON beside it; by default report.html in "
        "the run's folder",
    )
    parser.add_argument(
        "--transfer",
        metavar="CSV",
        help="transfer.csv of the run, which benchmarks/transfer.py wrote: adds how the run does "
        "on other sources and kinds of forgery",
    )
    add_protocol(parser, resamples=1000)
    options = parser.parse_args(arguments)

    from kryptonite.core.files import check_writable
    from kryptonite.runs.report import write_run_report
    from kryptonite.runs.run_dir import RunDir

    run = RunDir(Path(options.run))
    out = Path(options.out or run.report)
    for file in (out, out.with_suffix(".json")):
        check_writable(file)  # before minutes of scoring
    findings = write_run_report(run, protocol_of(options, run), out, options.transfer)
    for warning in findings["warnings"]:
        print(f"note: {warning}", file=sys.stderr)
    for name, figures in findings["systems"].items():
        low, high = figures["intervals"]["eer_challenge"]
        print(
            f"{'*' if name == findings['chosen'] else ' '} {name:15} "
            f"EER {figures['eer_challenge']:.4f} [{low:.4f}, {high:.4f}]  "
            f"SV {figures['sv_eer']:.4f}  SPF {figures['spf_eer']:.4f}"
        )
    print(f"{out}, {out.with_suffix('.json')}")
    return 0
