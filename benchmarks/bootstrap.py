"""What the bootstrap over identities costs: seconds for 1,000 resamples of all pair metrics against the number of pairs.

python -m benchmarks.bootstrap
"""

import time

import numpy as np

from kryptonite.metrics.bootstrap import pair_intervals

RESAMPLES = 1000


def main() -> None:
    """Prints a line per size; people grow with the pairs, ten pairs each."""
    for pairs in (1_000, 10_000, 100_000, 1_000_000):
        generator = np.random.default_rng(0)
        people = pairs // 10
        kind = generator.choice(["same", "different", "synthetic"], pairs, p=[0.5, 0.25, 0.25])
        first = generator.integers(0, people, pairs)
        second = np.where(
            kind == "different", (first + generator.integers(1, people, pairs)) % people, first
        )
        score = generator.normal(np.select([kind == "same", kind == "different"], [2.0, -1.0], 0.5))
        began = time.perf_counter()
        low, high = pair_intervals(first, second, kind, score, threshold=0.8, resamples=RESAMPLES)[
            "eer"
        ]
        print(
            f"{pairs:>9,} pairs, {people:>7,} people: {time.perf_counter() - began:6.1f} s, EER in [{low:.4f}, {high:.4f}]",
            flush=True,
        )


if __name__ == "__main__":
    main()
