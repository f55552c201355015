"""Measure milliseconds per crop of a run's networks, by engine and batch size.

python -m benchmarks.engines [--run runs/demo]

Needs the exports that `kryptonite export --run RUN` writes. PyTorch runs in float32 and under
bfloat16 autocast, ONNX Runtime in float32; in turn, medians of nine rounds on crops of noise.
"""

import argparse
import statistics
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from kryptonite.cli.process import configure_process
from kryptonite.core.crops import Crops
from kryptonite.core.errors import KryptoniteError
from kryptonite.liveness.detector import LOG_ODDS, Detector
from kryptonite.nn.model import BATCH, ENGINES
from kryptonite.recognition.recogniser import EMBEDDING, Recogniser
from kryptonite.runs.run_dir import RunDir

ROUNDS = 9


def main() -> int:
    """Prints a line per network and batch size; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="runs/demo", help="folder of an exported run")
    run = RunDir(Path(parser.parse_args().run))
    configure_process()
    for folder, kind, output in (
        (run.recognition, Recogniser, EMBEDDING[0]),
        (run.liveness, Detector, LOG_ODDS),
    ):
        try:
            models = {engine: kind.load(folder, "cpu", engine) for engine in ENGINES}
        except KryptoniteError as error:
            print(f"engines.py: {error}", file=sys.stderr)
            return 2
        template = models["torch"].spec.template
        for count in (1, BATCH):
            pixels = np.random.default_rng(0).integers(
                0, 256, (count, template.size, template.size, 3), dtype=np.uint8
            )
            seconds: dict[str, list[float]] = {}
            for _ in range(ROUNDS):
                for way in (*ENGINES, "bfloat16"):
                    began = perf_counter()
                    with torch.autocast("cpu", torch.bfloat16, enabled=way == "bfloat16"):
                        models.get(way, models["torch"]).outputs(Crops(pixels, template), output)
                    seconds.setdefault(way, []).append((perf_counter() - began) / count * 1e3)
            median = {way: statistics.median(taken) for way, taken in seconds.items()}
            described = ", ".join(f"{way} {taken:.2f}" for way, taken in median.items())
            print(
                f"{folder.name} at {template.size} px, batch {count}: ms per crop {described}; "
                f"torch / onnx {median['torch'] / median['onnx']:.1f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
