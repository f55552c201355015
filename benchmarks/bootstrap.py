"""Measure the bootstrap over identities: seconds for 1,000 resamples of all pair metrics.

python -m benchmarks.bootstrap [--pairs 1000 10000 100000 1000000]
"""

import argparse
import sys
import time

import numpy as np

from kryptonite.metrics.bootstrap import PairScores, pair_intervals

RESAMPLES = 1000
SIZES = [1_000, 10_000, 100_000, 1_000_000]


def make_scores(pairs: int) -> PairScores:
    """Draws scored pairs, ten per identity."""
    generator = np.random.default_rng(0)
    identities = pairs // 10
    kind = generator.choice(["same", "different", "synthetic"], pairs, p=[0.5, 0.25, 0.25])
    first = generator.integers(0, identities, pairs)
    second = np.where(
        kind == "different", (first + generator.integers(1, identities, pairs)) % identities, first
    )
    score = generator.normal(np.select([kind == "same", kind == "different"], [2.0, -1.0], 0.5))
    return PairScores(first, second, kind, score, threshold=0.8)


def main() -> int:
    """Prints a line per number of pairs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, nargs="+", default=SIZES, help="numbers of pairs")
    for pairs in parser.parse_args().pairs:
        scored = make_scores(pairs)
        began = time.perf_counter()
        low, high = pair_intervals(scored, RESAMPLES)["eer"]
        print(
            f"{pairs:>9,} pairs, {pairs // 10:>7,} people: {time.perf_counter() - began:6.1f} s, "
            f"EER in [{low:.4f}, {high:.4f}]",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
