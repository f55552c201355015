"""Score the test pairs with a trained run: `python make_submission.py [--run runs/default] [--data_root .]`."""

import sys
from pathlib import Path

from jsonargparse import auto_cli

from common.errors import KryptoniteError
from pipeline import Pipeline


def main(
    run: str = "runs/default",
    data_root: str = ".",
    out: str | None = None,
    cache: str = ".cache/crops",
    device: str = "auto",
    strict: bool = False,
) -> int:
    """Writes submission.csv with every test pair once.

    Args:
        run: Folder of a finished run.
        data_root: Folder with test.csv or data/test_public.
        out: Where to write; submission.csv in the run's folder unless given.
        cache: Folder of aligned crops.
        device: auto, cpu or cuda.
        strict: Exit with 1 when a pair has an unreadable image.

    Returns:
        Exit status.
    """
    target = Path(out or Path(run) / "submission.csv")
    try:
        report = Pipeline.load(run, cache=cache, device=device).submit(data_root, target)
    except KryptoniteError as error:
        print(f"make_submission.py: {error}", file=sys.stderr)
        return 2
    print(
        f"{target}: {report.pairs} pairs, {report.images} images, no face found in {report.failures_to_acquire} (scored on a centre crop)"
    )
    for pair in report.unreadable.itertuples():
        print(f"unreadable, scored lowest: pair {pair.pair_id} ({pair.path_a}, {pair.path_b})", file=sys.stderr)
    return 1 if strict and len(report.unreadable) else 0


if __name__ == "__main__":
    sys.exit(auto_cli(main, as_positional=False))
