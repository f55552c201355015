"""Measure where training's time goes, and what caching the crops saves.

python -m benchmarks.training [--run runs/demo]

Needs the run that `make demo` leaves. Trains its detector anew, for one epoch on some of its
identities: once from the cached crops, once with a reader that decodes and aligns a photo each time
it is read, as a loop without a cache does every epoch. Both in turn; medians of images/s.
"""

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pytorch_lightning as pl
import torch

from benchmarks.stages import Stages, Watched
from kryptonite.cli.configuration import read_run_config
from kryptonite.cli.process import configure_process
from kryptonite.core.errors import KryptoniteError
from kryptonite.core.images import read_rgb
from kryptonite.liveness.forgeries import ForgedCrops
from kryptonite.liveness.train import DetectorModule, LivenessInputs, train_detector
from kryptonite.nn.train.augment import Augment
from kryptonite.nn.train.datasets import CropDataset
from kryptonite.nn.train.job import TrainingJob
from kryptonite.runs.data import prepare_training_data
from kryptonite.runs.run_dir import RunDir

WATCHED = [
    Watched(ForgedCrops, "__getitem__", "read"),
    Watched(CropDataset, "__getitem__", "read"),
    Watched(Augment, "forward", "augment"),
    Watched(DetectorModule, "training_step", "forward"),
    Watched(DetectorModule, "validation_step", "forward"),
    Watched(torch.Tensor, "backward", "backward"),
    Watched(torch.optim.AdamW, "step", "step"),
    Watched(pl.Trainer, "fit", "rest"),
]


def main() -> int:
    """Prints a line per way to read, and the ratio; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="runs/demo", help="folder of the demo's run")
    parser.add_argument("--people", type=int, default=20, help="identities taken of each split")
    parser.add_argument("--rounds", type=int, default=3, help="trainings per way to read")
    options = parser.parse_args()
    configure_process()
    try:
        run = RunDir(Path(options.run))
        run.check_finished()
        config = read_run_config(run.config)
        data = prepare_training_data(config)
    except KryptoniteError as error:
        print(f"training.py: {error}", file=sys.stderr)
        return 2
    liveness = replace(config.liveness, fit=replace(config.liveness.fit, epochs=1, workers=0))
    train, val = (
        frame[frame["label"].isin(frame["label"].unique()[: options.people])].reset_index(drop=True)
        for frame in (data.train, data.val)
    )
    inputs = LivenessInputs.select(liveness, train, val)
    path_of = dict(zip([*train["key"], *val["key"]], [*train["path"], *val["path"]], strict=True))

    def decode_and_align(key: str) -> np.ndarray:
        return data.cache.aligner([read_rgb(path_of[key])]).crops[liveness.template][0]

    ways = {
        "crops cached once": data.reader(liveness.template),
        "decode and align each time": decode_and_align,
    }
    stages = {way: Stages() for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds):
            for way, read in ways.items():
                job = TrainingJob(read, Path(folder) / f"{turn} {way}", way)
                began = perf_counter()
                with stages[way].watching(WATCHED):
                    train_detector(liveness, inputs, job)
                seconds[way].append(perf_counter() - began)
    # The initial weights are validated too, hence every validation image is read twice.
    read_images = len(train) + 2 * len(val)
    print(
        f"{len(train)} training and {2 * len(val)} validation images, "
        f"{options.rounds} rounds of one epoch, {torch.get_num_threads()} threads"
    )
    speed = {way: read_images / statistics.median(taken) for way, taken in seconds.items()}
    for way, spent in stages.items():
        total = sum(spent.seconds.values())
        fraction = sum(spent.seconds[stage] for stage in ("forward", "backward", "step")) / total
        print(
            f"{way}: {speed[way]:.1f} images/s; forward, backward and step {fraction:.1%}; "
            f"seconds of all rounds: {spent}"
        )
    cached, uncached = speed.values()
    print(f"ratio {cached / uncached:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
