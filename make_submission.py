"""Score the test pairs: `python make_submission.py [--run runs/default] [--data_root .]`."""

import sys

from kryptonite.cli.main import run_command


def main() -> int:
    """Runs `kryptonite submit`."""
    return run_command("submit", sys.argv[1:], "make_submission.py")


if __name__ == "__main__":
    sys.exit(main())
