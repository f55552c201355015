"""Measure what `keep_freed_memory` gains: images/s of EfficientNet-Lite0 at 224 pixels on the CPU.

python -m benchmarks.allocator [ROUNDS]

The settings alternate, each in processes of its own.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

ROUNDS = 3
DEFAULT, KEEP = "default", "keep"


def measure(keep: bool) -> tuple[float, float]:
    """Images/s of inference at a batch of 64 and of training at 32, medians of five batches."""
    import timm
    import torch

    from kryptonite.core.memory import keep_freed_memory

    if keep:
        keep_freed_memory()
    network = timm.create_model("tf_efficientnet_lite0", num_classes=1).to(
        memory_format=torch.channels_last
    )

    def rate(batch: int, step: Callable[[torch.Tensor], object]) -> float:
        images = torch.rand(batch, 3, 224, 224).contiguous(memory_format=torch.channels_last)
        seconds = []
        for _ in range(6):
            began = time.perf_counter()
            step(images)
            seconds.append(time.perf_counter() - began)
        return batch / float(np.median(seconds[1:]))

    network.eval()
    with torch.inference_mode():
        inference = rate(64, network)
    network.train()
    return inference, rate(32, lambda images: network(images).mean().backward())


def main() -> int:
    """Prints medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rounds", nargs="?", type=int, default=ROUNDS, help="processes per setting")
    # What each process is started with.
    parser.add_argument("--one", choices=[DEFAULT, KEEP], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(*measure(options.one == KEEP))
        return 0
    rates: dict[str, list[list[float]]] = {DEFAULT: [], KEEP: []}
    for _ in range(options.rounds):
        for setting, results in rates.items():
            out = subprocess.run(
                [sys.executable, "-m", "benchmarks.allocator", "--one", setting],
                capture_output=True,
                text=True,
                check=True,
            )
            results.append([float(value) for value in out.stdout.split()])
    median = {setting: np.median(results, axis=0) for setting, results in rates.items()}
    for column, name in enumerate(("inference, batch 64", "training, batch 32")):
        before, after = median[DEFAULT][column], median[KEEP][column]
        print(
            f"{name}: default {before:.0f} images/s, freed memory kept {after:.0f} images/s, "
            f"ratio {after / before:.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
