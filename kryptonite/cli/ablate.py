"""`kryptonite ablate`."""

from pathlib import Path

from kryptonite.cli.arguments import (
    SEVERITIES,
    add_protocol,
    add_run,
    command_parser,
    protocol_of,
)

DESCRIPTION = """\
Measure what corruptions and attacks cost a run, and what each part of its training
adds; write ablation/ablation.csv and ablation/report.html to the run's folder.
Called again after an interruption, it goes on where it stopped."""
EXAMPLES = ("--run runs/demo --quick", "--run runs/demo --pairs gt.csv --data_root .")

QUICK = (2,)  # severities


def main(arguments: list[str], program: str) -> int:
    """Writes the table and the page and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    add_run(parser)
    add_protocol(parser, resamples=300)
    parser.add_argument(
        "--severities",
        type=int,
        nargs="+",
        choices=SEVERITIES,
        default=SEVERITIES,
        help="severities of the corruptions and attacks",
    )
    parser.add_argument(
        "--quick", action="store_true", help="the middle severity only, no variants trained"
    )
    options = parser.parse_args(arguments)

    from kryptonite.cli.configuration import read_stored_config
    from kryptonite.core.files import check_writable
    from kryptonite.robustness.ablate import ablate
    from kryptonite.runs.lock import lock_run
    from kryptonite.runs.run_dir import RunDir

    run = RunDir(Path(options.run))
    protocol = protocol_of(options, run)
    config = read_stored_config(run)
    severities = QUICK if options.quick else tuple(sorted(set(options.severities)))
    run.check_finished()
    check_writable(run.ablation / "ablation.csv")
    with lock_run(run):
        table = ablate(config, protocol, severities, variants=not options.quick)
    print(f"{run.ablation}/ablation.csv ({len(table)} rows), {run.ablation}/report.html")
    return 0
