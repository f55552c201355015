"""`kryptonite demo`."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kryptonite.cli.arguments import command_parser

if TYPE_CHECKING:
    import numpy as np

    from kryptonite.detection.aligner import AlignerConfig

DESCRIPTION = """\
Run the whole chain on generated faces: make people and forgeries, prepare, train,
submit, report, and draw a sheet of examples. Needs no data, no account and no GPU."""
EXAMPLES = ("", "--short", "--out runs/other")

SHORT: dict[str, Any] = {"people": 40, "test_people": 16, "forgeries": 4, "pairs": 400}
SHORT_EPOCHS = ("--recognition.fit.epochs", "3", "--liveness.fit.epochs", "3")

_log = logging.getLogger(__name__)


def main(arguments: list[str], program: str) -> int:
    """Makes the data, trains, submits, reports, draws, and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--short",
        action="store_true",
        help="a third of the people and few epochs: shows that the chain works",
    )
    parser.add_argument(
        "--out", default="runs/demo", help="folder of the run; the data goes to data-root in it"
    )
    options = parser.parse_args(arguments)
    began = time.perf_counter()

    from kryptonite.cli.configuration import packaged_configs, read_run_config
    from kryptonite.data.audit.prepare import prepare
    from kryptonite.data.demo import DemoConfig, write_demo
    from kryptonite.data.layouts import DataConfig, load_images
    from kryptonite.data.protocol import load_protocol
    from kryptonite.inference.submission import submit
    from kryptonite.report.sheet import draw_sheet
    from kryptonite.runs.load import load
    from kryptonite.runs.report import Protocol, write_run_report
    from kryptonite.runs.run_dir import RunDir
    from kryptonite.runs.stages import train

    run = RunDir(Path(options.out))
    root, truth = run.demo, run.demo / "gt.csv"
    places = ["--run", options.out, "--cache", f"{options.out}/crops", "--data.root", str(root)]
    epochs = SHORT_EPOCHS if options.short else ()
    config = read_run_config(packaged_configs()["demo"], [*places, *epochs])
    _log.info("demo: making people and forgeries")
    size = SHORT if options.short else {}
    if write_demo(root, DemoConfig(**size), _locator(config.aligner)):
        prepare(config.data, root)
    train(config)
    pipeline = load(run.path, cache=config.cache)
    submission = submit(pipeline, root, run.submission)
    protocol = Protocol(truth, root, config.cache, resamples=config.fusion.resamples)
    findings = write_run_report(run, protocol, run.report)
    pairs = load_protocol(truth, root).merge(
        submission.scores.drop(columns=["path_a", "path_b"]), on="pair_id"
    )
    draw_sheet(
        run.path / "sheet.png",
        load_images(DataConfig(str(root)), "train"),
        pairs,
        pipeline.verifier.threshold,
    )
    _print_summary(findings, run.path, len(pairs), time.perf_counter() - began)
    return 0


def _print_summary(findings: dict[str, Any], run: Path, pairs: int, seconds: float) -> None:
    fused, alone = findings["systems"][findings["chosen"]], findings["systems"]["none"]
    by_species = ", ".join(
        f"{row['species']} {row['system']['spf_eer']:.4f}" for row in findings["species"]
    )
    unseen = ", ".join(findings["withheld"])
    print(f"demo: SPF-EER by forgery: {by_species} ({unseen} not in training)")
    names = ("report.html", "submission.csv", "metrics.json", "model_card.md", "sheet.png")
    print(f"demo: {', '.join(f'{run}/{name}' for name in names)}")
    print(
        f"demo: EER {fused['eer_challenge']:.4f} recognition-only {alone['eer_challenge']:.4f} "
        f"SV {fused['sv_eer']:.4f} SPF {fused['spf_eer']:.4f} pairs {pairs} seconds {seconds:.0f}"
    )


def _locator(
    config: "AlignerConfig",
) -> Callable[[list["np.ndarray"]], list["np.ndarray | None"]]:
    """Returns a function from photos to the landmarks of the face in each, None where none is."""
    from kryptonite.detection.aligner import Aligner
    from kryptonite.detection.faces import CENTRE_CROP

    aligner = Aligner(config, [])

    def locate(photos: list["np.ndarray"]) -> list["np.ndarray | None"]:
        faces = aligner(photos)
        return [
            None if status == CENTRE_CROP else points
            for status, points in zip(faces.status, faces.landmarks, strict=True)
        ]

    return locate
