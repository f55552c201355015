"""`kryptonite eer`, and eer.py at the root of a checkout."""

from kryptonite.cli.arguments import command_parser

DESCRIPTION = """\
Score a submission as the challenge's platform does: join it to the ground truth by
pair_id and print the equal error rate. Where the ground truth has a column `kind`,
also print the error rates by kind of pair."""
EXAMPLES = ("--public_test_url gt.csv --public_prediction_url submission.csv",)


def main(arguments: list[str], program: str) -> int:
    """Prints the equal error rate and returns the exit status."""
    parser = command_parser(program, DESCRIPTION, EXAMPLES)
    parser.add_argument(
        "--public_test_url",
        required=True,
        help="CSV with pair_id, label and, for error rates by kind of pair, kind",
    )
    parser.add_argument(
        "--public_prediction_url", required=True, help="CSV with pair_id, similarity, in any order"
    )
    options = parser.parse_args(arguments)

    from kryptonite.data.submission import join, read_ground_truth, read_submission
    from kryptonite.metrics.error_rates import eer, eer_challenge, pair_metrics

    truth = read_ground_truth(options.public_test_url)
    submission = read_submission(options.public_prediction_url)
    table = join(truth, submission, options.public_prediction_url)
    label, score = table["label"].to_numpy(), table["similarity"].to_numpy()
    print(
        f"EER {eer_challenge(label, score):.6f} (platform)  "
        f"{eer(label, score):.6f} (mean of FNMR and FMR)  pairs {len(table)}"
    )
    if "kind" in table:
        figures = pair_metrics(table["kind"].to_numpy(), score)
        named = (("SV-EER", "sv_eer"), ("SPF-EER", "spf_eer"), ("pooled SASV-EER", "sasv_eer"))
        print("  ".join(f"{name} {figures[key]:.6f}" for name, key in named if key in figures))
    return 0
