"""The whole chain on embedded data: `python demo.py [--short]`. Needs no data, no account, no GPU."""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from kryptonite.core.errors import KryptoniteError
from kryptonite.data.audit.prepare import prepare
from kryptonite.data.demo import DemoConfig, write_demo
from kryptonite.data.layouts import DataConfig, load_images
from kryptonite.data.protocol import load_protocol
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.inference.pipeline import Pipeline
from kryptonite.report.sheet import draw_sheet
from kryptonite.runs.assess import report
from kryptonite.runs.config import RunConfig
from kryptonite.runs.stages import run_experiment

CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
SHORT = DemoConfig(people=40, test_people=16, forgeries=4, pairs=400)
SHORT_EPOCHS = ["--recognition.fit.epochs", "3", "--liveness.fit.epochs", "3"]


def main() -> int:
    """Makes people and forgeries, prepares, trains, submits, scores, draws; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--short",
        action="store_true",
        help="a third of the people, few epochs: shows that the chain works",
    )
    parser.add_argument(
        "--out", default="runs/demo", help="folder of the run; the data goes to data-root in it"
    )
    arguments = parser.parse_args()
    began, short, out = time.perf_counter(), arguments.short, arguments.out
    run, root = Path(out), Path(out) / "data-root"
    config = auto_cli(
        RunConfig,
        as_positional=False,
        args=[
            "--config",
            str(CONFIG),
            "--run",
            out,
            "--cache",
            f"{out}/crops",
            "--data.root",
            str(root),
            *(SHORT_EPOCHS if short else []),
        ],
    )
    try:
        print("demo: making people and forgeries", file=sys.stderr)
        if write_demo(root, SHORT if short else DemoConfig(), _locator(config.aligner)):
            prepare(config.data, root)
        run_experiment(config)
        pipeline = Pipeline.load(run, cache=config.cache)
        submission = pipeline.submit(root, run / "submission.csv")
        findings = report(
            run,
            root / "gt.csv",
            root,
            run / "report.html",
            config.cache,
            resamples=config.fusion.resamples,
        )
        pairs = load_protocol(root / "gt.csv", root).merge(
            submission.scores.drop(columns=["path_a", "path_b"]), on="pair_id"
        )
        draw_sheet(
            run / "sheet.png",
            load_images(DataConfig(str(root)), "train"),
            pairs,
            pipeline.verifier.threshold,
        )
    except KryptoniteError as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return 2
    fused, alone = findings["systems"][findings["chosen"]], findings["systems"]["none"]
    by_species = {row["species"]: row["system"]["spf_eer"] for row in findings["species"]}
    unseen = ", ".join(findings["withheld"])
    print(
        f"demo: SPF-EER by forgery: {', '.join(f'{name} {value:.4f}' for name, value in by_species.items())} ({unseen} not in training)"
    )
    print(
        f"demo: {run}/report.html, {run}/submission.csv, {run}/metrics.json, {run}/model_card.md, {run}/sheet.png"
    )
    print(
        f"demo: EER {fused['eer_challenge']:.4f} recognition-only {alone['eer_challenge']:.4f} SV {fused['sv_eer']:.4f} "
        f"SPF {fused['spf_eer']:.4f} pairs {len(pairs)} seconds {time.perf_counter() - began:.0f}"
    )
    return 0


def _locator(config: AlignerConfig):
    """Landmarks of the face in each photo, None where there is none."""
    aligner = Aligner(config, [])

    def locate(photos: list[np.ndarray]) -> list[np.ndarray | None]:
        faces = aligner(photos)
        return [
            None if status == CENTRE_CROP else points
            for status, points in zip(faces.status, faces.landmarks, strict=True)
        ]

    return locate


if __name__ == "__main__":
    sys.exit(main())
