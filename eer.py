"""Score a submission: `python eer.py --public_test_url GT --public_prediction_url SUBMISSION`."""

import sys

from kryptonite.cli.main import run_command


def main() -> int:
    """Runs `kryptonite eer`."""
    return run_command("eer", sys.argv[1:], "eer.py")


if __name__ == "__main__":
    sys.exit(main())
