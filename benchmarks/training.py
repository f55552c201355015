"""Where training's time goes, and what cached crops save: `python -m benchmarks.training [--run runs/demo]` after `make demo`.

Trains the detector of a run anew, for one epoch on some of its people: once from the crops in the cache, once with a reader that decodes
and aligns a photo whenever it is asked for, as a loop without a cache does each epoch. Both in turn; medians of images/s.
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
from jsonargparse import auto_cli

from benchmarks.stages import Stages, Watched
from kryptonite.core.errors import KryptoniteError
from kryptonite.core.images import read_rgb
from kryptonite.liveness.forgeries import ForgedCrops
from kryptonite.liveness.train import DetectorModule, train_detector
from kryptonite.nn.train.augment import Augment
from kryptonite.nn.train.datasets import CropDataset
from kryptonite.runs.config import RunConfig
from kryptonite.runs.stages import prepare_training_data

WATCHED: list[Watched] = [
    (ForgedCrops, "__getitem__", "read"),
    (CropDataset, "__getitem__", "read"),
    (Augment, "forward", "augment"),
    (DetectorModule, "training_step", "forward"),
    (DetectorModule, "validation_step", "forward"),
    (torch.Tensor, "backward", "backward"),
    (torch.optim.AdamW, "step", "step"),
    (pl.Trainer, "fit", "rest"),
]


def main() -> int:
    """Prints a line per way and the ratio; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/demo")
    parser.add_argument("--people", type=int, default=20, help="training people taken")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    try:
        config = auto_cli(
            RunConfig, as_positional=False, args=["--config", f"{arguments.run}/config.yaml"]
        )
        data = prepare_training_data(config)
    except KryptoniteError as error:
        print(f"training.py: {error}", file=sys.stderr)
        return 2
    liveness = replace(config.liveness, fit=replace(config.liveness.fit, epochs=1, workers=0))
    train, val = (
        frame[frame["label"].isin(frame["label"].unique()[: arguments.people])].reset_index(
            drop=True
        )
        for frame in (data.train, data.val)
    )
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
        for turn in range(arguments.rounds):
            for way, read in ways.items():
                began = perf_counter()
                with stages[way].watching(WATCHED):
                    train_detector(liveness, train, val, read, Path(folder) / f"{turn} {way}", way)
                seconds[way].append(perf_counter() - began)
    threads = torch.get_num_threads()
    print(
        f"{len(train)} training and {2 * len(val)} validation images, {arguments.rounds} rounds of one epoch, {threads} threads"
    )
    speed = {
        way: (len(train) + 2 * len(val)) / statistics.median(taken)
        for way, taken in seconds.items()
    }
    for way, spent in stages.items():
        total = sum(spent.seconds.values())
        share = sum(spent.seconds[stage] for stage in ("forward", "backward", "step")) / total
        print(
            f"{way}: {speed[way]:.1f} images/s; forward, backward and step {share:.1%}; seconds of all rounds: {spent}"
        )
    cached, anew = speed.values()
    print(f"ratio {cached / anew:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
