"""`python -m kryptonite` is the `kryptonite` command."""

import sys

from kryptonite.cli.main import main

if __name__ == "__main__":
    sys.argv[0] = "kryptonite"  # reports name the command that made them
    sys.exit(main())
