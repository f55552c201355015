"""Write both networks of a run as ONNX: `python export.py --run RUN`; `make_submission.py` then uses them wherever the CPU computes."""

import argparse
import sys
from pathlib import Path

from kryptonite.core.errors import KryptoniteError
from kryptonite.inference.pipeline import Pipeline
from kryptonite.nn.onnx_runtime import EXPORT


def main() -> int:
    """Writes model.onnx beside each branch's weights; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/default", help="folder of a finished run")
    run = Path(parser.parse_args().run)
    try:
        largest = Pipeline.load(run, device="cpu").export()
    except KryptoniteError as error:
        print(f"export.py: {error}", file=sys.stderr)
        return 2
    for branch, apart in largest.items():
        print(f"{run / branch / EXPORT}: largest difference from PyTorch {apart:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
