"""Train a run, installed or not: `python train.py [--config cpu] [--any.field value]`."""

import sys

from kryptonite.cli.main import run_command


def main() -> int:
    """Runs `kryptonite train`."""
    return run_command("train", sys.argv[1:], "train.py")


if __name__ == "__main__":
    sys.exit(main())
