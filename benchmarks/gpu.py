"""Measure scoring and training on a GPU: images per second, peak memory, and what brakes.

python -m benchmarks.gpu [--run runs/demo]

Needs the run that `make demo` leaves. Scores pairs of the demo's photos in which no content occurs
twice, from an empty cache, several times; then trains both branches for one epoch on some of the
run's identities, at the run's own settings otherwise. Peak memory is what torch reserves on the
GPU, as its system tools show it, without the driver's own few hundred megabytes.

The stages of one more scoring and of each training follow, and the one that takes longest: the
brake. For them, work waits for the GPU at the end of each stage, and in scoring all work is done in
one thread; images per second of scoring are measured without that. Without a GPU everything runs
on the CPU, and no memory is measured.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import torch

from benchmarks.stages import Stages, Watched
from benchmarks.throughput import distinct, in_one_thread, watched
from benchmarks.training import WATCHED
from kryptonite.cli.configuration import read_run_config
from kryptonite.cli.process import configure_process
from kryptonite.core.device import choose_device, describe_device
from kryptonite.core.errors import KryptoniteError
from kryptonite.liveness.train import LivenessInputs, train_detector
from kryptonite.nn.train.job import TrainingJob
from kryptonite.recognition.train import RecognitionInputs, RecognitionModule, train_recogniser
from kryptonite.runs.config import RunConfig
from kryptonite.runs.data import prepare_training_data
from kryptonite.runs.load import load
from kryptonite.runs.run_dir import RunDir

_TRAINING = [
    *WATCHED,
    Watched(RecognitionModule, "training_step", "forward"),
    Watched(RecognitionModule, "validation_step", "forward"),
]


class Memory:
    """Peak of what torch reserves on a device, in bytes, since it was made."""

    def __init__(self, device: torch.device):
        self._device = device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)

    def __str__(self) -> str:
        if self._device.type != "cuda":
            return "no GPU, memory not measured"
        return f"peak {torch.cuda.max_memory_reserved(self._device) / 1e9:.2f} GB"


def measure_scoring(
    run: str, pairs: pd.DataFrame, device: torch.device, rounds: int, settle: Callable[[], None]
) -> None:
    """Prints images per second from file to score, peak memory, stages and brake.

    Args:
        run: The run's folder.
        pairs: Columns pair_id, path_a, path_b.
        device: Computes.
        rounds: How often the pairs are scored.
        settle: As for `Stages`.
    """
    images = len(pd.unique(pairs[["path_a", "path_b"]].to_numpy().ravel()))
    memory, stages, seconds = Memory(device), Stages(settle), []
    with tempfile.TemporaryDirectory() as folder:
        pipeline = load(run, folder, device.type)

        def score() -> float:
            shutil.rmtree(folder)
            began = perf_counter()
            pipeline.score_pairs(pairs, progress=False)
            return perf_counter() - began

        score()  # the first call also plans and warms up
        seconds = [score() for _ in range(rounds)]
        peak = str(memory)
        with in_one_thread(), stages.watching(watched(pipeline)):
            score()
        Path(folder).mkdir(exist_ok=True)
    print(
        f"scoring: {images / statistics.median(seconds):.1f} images/s end to end "
        f"({images} distinct images, {rounds} rounds, median), {peak}"
    )
    print(f"scoring: brake {stages.brake()}; seconds in one thread: {stages}")


def measure_training(
    config: RunConfig, people: int, device: torch.device, settle: Callable[[], None]
) -> None:
    """Trains each branch for one epoch; prints images per second, peak memory, stages and brake.

    Args:
        config: Of the run, with its data and cache.
        people: Identities taken of each split.
        device: Computes.
        settle: As for `Stages`.
    """
    data = prepare_training_data(config)
    train, val = (
        frame[frame["label"].isin(frame["label"].unique()[:people])].reset_index(drop=True)
        for frame in (data.train, data.val)
    )
    paths = set(val["path"])
    pairs = data.val_pairs
    pairs = pairs[pairs["path_a"].isin(paths) & pairs["path_b"].isin(paths)].reset_index(drop=True)
    accelerator = "gpu" if device.type == "cuda" else "cpu"

    def briefly(branch: Any) -> Any:
        return replace(branch, fit=replace(branch.fit, epochs=1, accelerator=accelerator))

    recognition, liveness = briefly(config.recognition), briefly(config.liveness)
    recognition_inputs = RecognitionInputs.select(recognition, train, val, pairs)
    liveness_inputs = LivenessInputs.select(liveness, train, val)
    branches = {
        "recognition": (recognition, partial(train_recogniser, recognition, recognition_inputs)),
        "liveness": (liveness, partial(train_detector, liveness, liveness_inputs)),
    }
    for name, (branch, fit) in branches.items():
        memory, stages = Memory(device), Stages(settle)
        with tempfile.TemporaryDirectory() as folder:
            job = TrainingJob(data.reader(branch.template), Path(folder), name)
            began = perf_counter()
            with stages.watching(_TRAINING):
                fit(job)
            taken = perf_counter() - began
        print(
            f"training {name}: {len(train) / taken:.1f} images/s (one epoch of {len(train)} with "
            f"validation and start), {memory}"
        )
        print(f"training {name}: brake {stages.brake()}; seconds: {stages}")


def main() -> int:
    """Prints two lines for scoring and for each training; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="runs/demo", help="folder of the demo's run")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--pairs", type=int, default=1000, help="pairs to score, at most")
    parser.add_argument("--people", type=int, default=256, help="identities to train on, at most")
    parser.add_argument("--rounds", type=int, default=3, help="scorings")
    options = parser.parse_args()
    configure_process()
    try:
        device = choose_device(options.device)
        settle = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        print(f"device: {describe_device(device)}; torch {torch.__version__}")
        run = RunDir(Path(options.run))
        run.check_finished()
        config = read_run_config(run.config)
        pairs = distinct(Path(config.data.root), options.pairs)
        measure_scoring(options.run, pairs, device, options.rounds, settle)
        measure_training(config, options.people, device, settle)
    except KryptoniteError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
