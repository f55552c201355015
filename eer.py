"""The platform's score: `python eer.py --public_test_url gt.csv --public_prediction_url submission.csv`."""

import argparse
import sys

from kryptonite.core.errors import KryptoniteError
from kryptonite.data.submission import join, read_ground_truth, read_submission
from kryptonite.metrics.error_rates import eer, eer_challenge, pair_metrics


def main() -> int:
    """Prints the equal error rate of a submission, joined to the ground truth by pair_id; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--public_test_url",
        required=True,
        help="CSV with pair_id, label and, for figures by kind of pair, kind",
    )
    parser.add_argument(
        "--public_prediction_url", required=True, help="CSV with pair_id, similarity, in any order"
    )
    arguments = parser.parse_args()
    try:
        truth, submission = (
            read_ground_truth(arguments.public_test_url),
            read_submission(arguments.public_prediction_url),
        )
        table = join(truth, submission, arguments.public_prediction_url)
        label, score = table["label"].to_numpy(), table["similarity"].to_numpy()
        print(
            f"EER {eer_challenge(label, score):.6f} (platform)  {eer(label, score):.6f} (mean of FNMR and FMR)  pairs {len(table)}"
        )
        if "kind" in table:
            figures = pair_metrics(table["kind"].to_numpy(), score)
            named = (("SV-EER", "sv_eer"), ("SPF-EER", "spf_eer"), ("pooled SASV-EER", "sasv_eer"))
            print("  ".join(f"{name} {figures[key]:.6f}" for name, key in named if key in figures))
    except KryptoniteError as error:
        print(f"eer.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
