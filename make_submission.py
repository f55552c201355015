"""Score the test pairs with a trained run: `python make_submission.py [--run runs/default] [--data_root .]`."""

import argparse
import sys
from pathlib import Path

from kryptonite.core.errors import KryptoniteError
from kryptonite.inference.pipeline import Pipeline
from kryptonite.inference.ray_executor import RayExecutor
from kryptonite.nn.model import ENGINES


def main() -> int:
    """Writes submission.csv with every test pair once; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/default", help="folder of a finished run")
    parser.add_argument("--data_root", default=".", help="folder with test.csv or data/test_public")
    parser.add_argument(
        "--out", help="where to write; submission.csv in the run's folder unless given"
    )
    parser.add_argument(
        "--cache", default=".cache/crops", help="folder of aligned crops, safe to delete"
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument(
        "--engine",
        default="auto",
        choices=["auto", *ENGINES],
        help="onnx: what export.py wrote; auto: that, where the CPU computes",
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="look on a Ray cluster: auto, local or its address"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 when a pair has an unreadable image"
    )
    arguments = parser.parse_args()
    target = Path(arguments.out or Path(arguments.run) / "submission.csv")
    try:
        spread = (
            RayExecutor(arguments.ray, arguments.run, arguments.cache, arguments.engine)
            if arguments.ray
            else None
        )
        device = "cpu" if spread else arguments.device  # the cluster looks, on CPUs
        pipeline = Pipeline.load(arguments.run, arguments.cache, device, arguments.engine, spread)
        report = pipeline.submit(arguments.data_root, target)
    except KryptoniteError as error:
        print(f"make_submission.py: {error}", file=sys.stderr)
        return 2
    print(
        f"{target}: {report.pairs} pairs, {report.images} images, no face found in {report.failures_to_acquire} "
        f"({len(report.no_face)} pairs refused); "
        f"recognition by {pipeline.recogniser.engine}, liveness by {pipeline.detector.engine}"
    )
    for pair in report.unreadable.itertuples():
        print(
            f"unreadable, refused: pair {pair.pair_id} ({pair.path_a}, {pair.path_b})",
            file=sys.stderr,
        )
    return 1 if arguments.strict and len(report.unreadable) else 0


if __name__ == "__main__":
    sys.exit(main())
