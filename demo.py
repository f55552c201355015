"""The whole chain on embedded data: `python demo.py [--short]`. Needs no data, no account, no GPU."""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from common.errors import KryptoniteError
from common.files import write_json
from dataset.demo import DemoConfig, write_demo
from dataset.layouts import DataConfig, load_images
from dataset.prepare import prepare
from dataset.submission import join, read_ground_truth, read_submission
from detection.aligner import Aligner, AlignerConfig
from detection.faces import CENTRE_CROP
from evaluation.bootstrap import measure_pairs
from evaluation.metrics import pair_metrics
from evaluation.sheet import draw_sheet
from experiment import RunConfig, run_experiment
from pipeline import Pipeline

CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
SHORT = DemoConfig(people=40, test_people=16, forgeries=4, pairs=400)
SHORT_EPOCHS = ["--recognition.fit.epochs", "3", "--liveness.fit.epochs", "3"]


def main() -> int:
    """Makes people and forgeries, prepares, trains, submits, scores, draws; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a third of the people, few epochs: shows that the chain works")
    parser.add_argument("--out", default="runs/demo", help="folder of the run; the data goes to data-root in it")
    arguments = parser.parse_args()
    began, short, out = time.perf_counter(), arguments.short, arguments.out
    run, root = Path(out), Path(out) / "data-root"
    config = auto_cli(
        RunConfig,
        as_positional=False,
        args=["--config", str(CONFIG), "--run", out, "--cache", f"{out}/crops", "--data.root", str(root), *(SHORT_EPOCHS if short else [])],
    )
    try:
        print("demo: making people and forgeries", file=sys.stderr)
        if write_demo(root, SHORT if short else DemoConfig(), _locator(config.aligner)):
            prepare(config.data, root)
        run_experiment(config)
        pipeline = Pipeline.load(run, cache=config.cache)
        report = pipeline.submit(root, run / "submission.csv")
        truth = read_ground_truth(root / "gt.csv")
        submitted = join(truth, read_submission(run / "submission.csv"), "submission.csv").rename(columns={"similarity": "score"})
        table = submitted.merge(report.scores.drop(columns="score"), on="pair_id")
        kind, species = table["kind"].to_numpy(), table["species"].to_numpy()
        people = [table[name].to_numpy() for name in ("label_a", "label_b")]
        fused, alone = (
            measure_pairs(*people, kind, table[name].to_numpy(), resamples=config.fusion.resamples) for name in ("score", "similarity")
        )
        by_species = {
            name: pair_metrics(kind[chosen], table["score"].to_numpy()[chosen])["spf_eer"]
            for name in np.unique(species[kind == "synthetic"])
            for chosen in [(kind == "same") | (species == name)]
        }
        test = {"pairs": len(table), "fused": fused, "recognition_alone": alone, "spf_eer_by_species": by_species}
        kept = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        write_json(run / "metrics.json", {**kept, "test": test})
        images = load_images(DataConfig(str(root)), "train")
        draw_sheet(run / "sheet.png", images, table, pipeline.judge.threshold)
    except KryptoniteError as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return 2
    unseen = DemoConfig().withheld
    print(f"demo: SPF-EER by forgery: {', '.join(f'{name} {value:.4f}' for name, value in by_species.items())} ({unseen} not in training)")
    print(f"demo: {run}/submission.csv, {run}/metrics.json, {run}/model_card.md, {run}/sheet.png")
    print(
        f"demo: EER {fused['eer_challenge']:.4f} recognition-only {alone['eer_challenge']:.4f} SV {fused['sv_eer']:.4f} "
        f"SPF {fused['spf_eer']:.4f} pairs {len(table)} seconds {time.perf_counter() - began:.0f}"
    )
    return 0


def _locator(config: AlignerConfig):
    """Landmarks of the face in each photo, None where there is none."""
    aligner = Aligner(config, [])

    def locate(photos: list[np.ndarray]) -> list[np.ndarray | None]:
        faces = aligner(photos)
        return [None if status == CENTRE_CROP else points for status, points in zip(faces.status, faces.landmarks, strict=True)]

    return locate


if __name__ == "__main__":
    sys.exit(main())
