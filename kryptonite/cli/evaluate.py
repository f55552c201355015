"""How good a run is, in one report: `python evaluate.py --run runs/default [--pairs gt.csv --data_root .]`."""

import argparse
import sys
from pathlib import Path

from kryptonite.core.errors import KryptoniteError
from kryptonite.runs.assess import data_root_of, report
from kryptonite.runs.stages import PAIRS


def main() -> int:
    """Writes report.html and report.json; gives the exit status."""
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
        "--out",
        help="HTML file to write, figures as JSON beside it; report.html in the run's folder unless given",
    )
    parser.add_argument(
        "--cache", default=".cache/crops", help="folder of aligned crops, safe to delete"
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        help="bootstrap resamples over identities behind the intervals",
    )
    arguments = parser.parse_args()
    run = Path(arguments.run)
    out = Path(arguments.out or run / "report.html")
    try:
        findings = report(
            run,
            arguments.pairs or run / PAIRS,
            arguments.data_root or data_root_of(run),
            out,
            arguments.cache,
            arguments.device,
            arguments.resamples,
        )
    except KryptoniteError as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    for warning in findings["warnings"]:
        print(f"note: {warning}", file=sys.stderr)
    for name, figures in findings["systems"].items():
        low, high = figures["intervals"]["eer_challenge"]
        print(
            f"{'*' if name == findings['chosen'] else ' '} {name:15} EER {figures['eer_challenge']:.4f} [{low:.4f}, {high:.4f}]  "
            f"SV {figures['sv_eer']:.4f}  SPF {figures['spf_eer']:.4f}"
        )
    print(f"{out}, {out.with_suffix('.json')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
