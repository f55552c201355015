"""What corruptions cost a run and what each part of its training adds: `python ablate.py --run runs/default [--quick]`."""

import argparse
import sys
from pathlib import Path

from jsonargparse import auto_cli

from kryptonite.core.errors import KryptoniteError
from kryptonite.robustness.ablate import ablate
from kryptonite.robustness.corruptions import SEVERITIES
from kryptonite.runs.assess import data_root_of
from kryptonite.runs.config import RunConfig
from kryptonite.runs.stages import PAIRS

QUICK = (2,)  # severities


def main() -> int:
    """Writes ablation/ablation.csv and ablation/report.html in the run's folder; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/default", help="folder of a finished run")
    parser.add_argument(
        "--pairs",
        help="frozen pairs, or a ground truth of the test pairs; the run's validation pairs unless given",
    )
    parser.add_argument(
        "--data_root",
        help="folder the pairs' photos lie in; that of the run's training unless given",
    )
    parser.add_argument(
        "--cache", default=".cache/crops", help="folder of aligned crops, safe to delete"
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument(
        "--resamples",
        type=int,
        default=300,
        help="bootstrap resamples over identities behind the intervals",
    )
    parser.add_argument(
        "--severities",
        type=int,
        nargs="+",
        choices=SEVERITIES,
        default=SEVERITIES,
        help="of the corruptions and attacks",
    )
    parser.add_argument(
        "--quick", action="store_true", help="the middle severity, nothing trained anew"
    )
    arguments = parser.parse_args()
    run = Path(arguments.run)
    try:
        root = data_root_of(run)
        config = auto_cli(
            RunConfig,
            as_positional=False,
            args=["--config", str(run / "config.yaml"), "--run", str(run)],
        )
        pairs, data_root = arguments.pairs or run / PAIRS, arguments.data_root or root
        severities = QUICK if arguments.quick else tuple(sorted(set(arguments.severities)))
        table = ablate(
            config,
            pairs,
            data_root,
            arguments.cache,
            arguments.device,
            arguments.resamples,
            severities,
            variants=not arguments.quick,
        )
    except KryptoniteError as error:
        print(f"ablate.py: {error}", file=sys.stderr)
        return 2
    print(f"{run}/ablation/ablation.csv ({len(table)} rows), {run}/ablation/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
