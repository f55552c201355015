"""The platform's score: `python eer.py --public_test_url gt.csv --public_prediction_url submission.csv`."""

import sys

from jsonargparse import auto_cli

from common.errors import KryptoniteError
from dataset.submission import join, read_ground_truth, read_submission
from evaluation.metrics import eer, eer_challenge, spoof_aware_eers


def main(public_test_url: str, public_prediction_url: str) -> int:
    """Prints the equal error rate of a submission, joined to the ground truth by pair_id.

    Args:
        public_test_url: CSV with pair_id, label and, for the figures by kind of pair, kind.
        public_prediction_url: CSV with pair_id, similarity, in any order.

    Returns:
        Exit status.
    """
    try:
        truth, submission = read_ground_truth(public_test_url), read_submission(public_prediction_url)
        table = join(truth, submission, public_prediction_url)
        label, score = table["label"].to_numpy(), table["similarity"].to_numpy()
        print(f"EER {eer_challenge(label, score):.6f} (platform)  {eer(label, score):.6f} (mean of FNMR and FMR)  pairs {len(table)}")
        if "kind" in table:
            figures = spoof_aware_eers(table["kind"].to_numpy(), score)
            print(
                "  ".join(
                    f"{name.upper().replace('_', '-')} {figures[name]:.6f}" for name in ("sv_eer", "spf_eer", "sasv_eer") if name in figures
                )
            )
    except KryptoniteError as error:
        print(f"eer.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(auto_cli(main, as_positional=False))
