"""What `keep_freed_memory` gains: images/s of EfficientNet-Lite0 at 224 pixels on the CPU, settings interleaved in processes of their own.

python -m benchmarks.allocator [rounds]
"""

import subprocess
import sys
import time

import numpy as np

ROUNDS = 3


def measure(keep: bool) -> tuple[float, float]:
    """Images/s of (inference at 64, training at 32), median of five batches."""
    import timm
    import torch

    from kryptonite.core.memory import keep_freed_memory

    if keep:
        keep_freed_memory()
    network = timm.create_model("tf_efficientnet_lite0", num_classes=1).to(
        memory_format=torch.channels_last
    )

    def rate(batch: int, step) -> float:
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


def main() -> None:
    """Prints medians and ratios."""
    if sys.argv[1:2] == ["--one"]:
        print(*measure(sys.argv[2] == "keep"))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    rates: dict[str, list[list[float]]] = {"default": [], "keep": []}
    for _ in range(rounds):
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
        before, after = median["default"][column], median["keep"][column]
        print(
            f"{name}: default {before:.0f} images/s, freed memory kept {after:.0f} images/s, ratio {after / before:.2f}"
        )


if __name__ == "__main__":
    main()
