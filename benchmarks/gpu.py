"""Measure scoring and training on a GPU: images per second, peak memory, and the bottleneck.

python -m benchmarks.gpu [--run runs/demo] [--config configs/default.yaml]

Needs the run that `make demo` leaves. Scores pairs of the demo's photos in which no content occurs
twice, from an empty cache, several times; then trains both branches for one epoch on some of the
run's identities, at the run's own settings otherwise. With --config, crops and networks are those
of that file, with random weights, which take as long and as much memory as any; the comparison of
photos by a differential detector is left out. Peak memory is what torch reserves on the GPU, as its
system tools show it, without the driver's own few hundred megabytes.

The stages of one more scoring and of each training follow, and the one that takes longest, the
bottleneck. For them, work waits for the GPU at the end of each stage, and in scoring all work of
this process is done in one thread; images per second of scoring are measured without that. On a GPU
other processes find the faces, for which MTCNN is exported to the run's folder. Without a GPU
everything runs in this process on the CPU, and no memory is measured.
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
from kryptonite.core.crops import InputSpec
from kryptonite.core.device import choose_device, cpu_threads, describe_device
from kryptonite.core.errors import KryptoniteError
from kryptonite.detection.aligner import Aligner
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.cascade_onnx import has_cascade
from kryptonite.detection.mtcnn_export import export_cascade
from kryptonite.detection.processes import FaceProcesses
from kryptonite.inference.extractor import FeatureExtractor
from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.detector import Detector
from kryptonite.liveness.probe import BONA_FIDE, KNOWN, Probe
from kryptonite.liveness.train import LivenessInputs, train_detector
from kryptonite.nn.encoders import build_encoder
from kryptonite.nn.train.job import TrainingJob
from kryptonite.nn.weights import BackboneConfig, build_timm
from kryptonite.recognition.backbones import build_backbone
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.recognition.train import RecognitionInputs, RecognitionModule, train_recogniser
from kryptonite.runs.config import RunConfig
from kryptonite.runs.data import prepare_training_data
from kryptonite.runs.load import RunPipeline, load
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


def untrained(config: RunConfig) -> RunConfig:
    """The same settings with random weights, of which none must be downloaded."""

    def branch(settings: Any) -> Any:
        name = settings.backbone.name.rpartition("/")[2].partition(".")[0]  # of a hub's name
        return replace(settings, backbone=BackboneConfig(name, "scratch"))

    return replace(config, recognition=branch(config.recognition), liveness=branch(config.liveness))


def with_networks_of(config: RunConfig, pipeline: RunPipeline, device: str) -> Pipeline:
    """A pipeline with new networks, and crops for them; its fusion stays.

    Args:
        config: Settings of both branches.
        pipeline: Gives the face search, the cache's folder and the fusion.
        device: Computes.
    """
    face, liveness = config.recognition, config.liveness
    embedder = build_backbone(face.backbone, face.embedding_dim)
    spec = InputSpec(face.template, "RGB", embedder.mean, embedder.std)
    recogniser = Recogniser(embedder.network, embedder.blueprint, spec, embedder.source, device)
    side, kinds = liveness.template.size, [BONA_FIDE, KNOWN, *liveness.made_kinds]
    if liveness.probe.passes:
        encoder = build_encoder(liveness.backbone, side)
        network: torch.nn.Module = Probe(encoder.network, kinds)
        blueprint = {"encoder": encoder.blueprint, "kinds": kinds}
    else:
        encoder = build_timm(liveness.backbone, 1)
        network, blueprint = encoder.network, encoder.blueprint
    spec = InputSpec(liveness.template, "RGB", encoder.mean, encoder.std)
    detector = Detector(network, blueprint, spec, encoder.source, device)
    cache = pipeline.extractor.cache
    templates = list(dict.fromkeys([face.template, liveness.template]))
    aligner = Aligner(cache.aligner.config, templates)
    faces = FaceCache(cache.folder, aligner)
    processes = pipeline.extractor.processes and FaceProcesses(
        faces, pipeline.run.faces, cpu_threads()
    )
    extractor = FeatureExtractor(recogniser, detector, faces, processes=processes)
    return replace(pipeline, extractor=extractor)


def measure_scoring(
    pipeline: Pipeline,
    pairs: pd.DataFrame,
    device: torch.device,
    rounds: int,
    settle: Callable[[], None],
) -> None:
    """Prints images per second from file to score, peak memory, stages and bottleneck.

    Args:
        pipeline: Its cache's folder is removed.
        pairs: Columns pair_id, path_a, path_b.
        device: Computes.
        rounds: How often the pairs are scored.
        settle: As for `Stages`.
    """
    images = len(pd.unique(pairs[["path_a", "path_b"]].to_numpy().ravel()))
    memory, stages = Memory(device), Stages(settle)

    def score() -> float:
        shutil.rmtree(pipeline.extractor.cache.folder, ignore_errors=True)
        began = perf_counter()
        pipeline.score_pairs(pairs, progress=False)
        return perf_counter() - began

    score()  # the first call also plans and warms up
    seconds = [score() for _ in range(rounds)]
    print(
        f"scoring: {images / statistics.median(seconds):.1f} images/s end to end "
        f"({images} distinct images, {rounds} rounds, median), {memory}"
    )
    waiting = Watched(FaceProcesses, "_wait", "wait for faces")
    with in_one_thread(), stages.watching([*watched(pipeline), waiting]):
        score()
    print(f"scoring: bottleneck {stages.bottleneck()}; seconds in one thread: {stages}")


def measure_training(
    config: RunConfig, people: int, device: torch.device, settle: Callable[[], None]
) -> None:
    """Trains each branch for one epoch; prints images/s, peak memory, stages and bottleneck.

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
        print(f"training {name}: bottleneck {stages.bottleneck()}; seconds: {stages}")


def main() -> int:
    """Prints two lines for scoring and for each training; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="runs/demo", help="folder of the demo's run")
    parser.add_argument("--config", help="settings to measure in place of the run's own")
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
        if options.config:
            asked = untrained(read_run_config(Path(options.config)))
            config = replace(asked, data=config.data, cache=config.cache, aligner=config.aligner)
        with tempfile.TemporaryDirectory() as folder:
            if not has_cascade(run.faces):
                export_cascade(run.faces)
            own = load(options.run, Path(folder) / "cache", device.type, "auto")
            new = with_networks_of(config, own, device.type) if options.config else own
            measure_scoring(new, pairs, device, options.rounds, settle)
        measure_training(config, options.people, device, settle)
    except KryptoniteError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
