"""Audit a data set and freeze its splits and validation pairs: `python prepare.py [--data.root .] [--out .]`."""

import sys
from pathlib import Path

from jsonargparse import auto_cli

from common.errors import KryptoniteError
from dataset.layouts import DataConfig
from dataset.prepare import prepare


def main(data: DataConfig, out: str | None = None) -> int:
    """Writes train.csv, val.csv, test.csv, pairs_val.csv and audit.json.

    Args:
        data: Where the data is, how it is split and paired.
        out: Folder to write to; the data's root unless given.

    Returns:
        Exit status.
    """
    try:
        report = prepare(data, Path(out or data.root))
    except KryptoniteError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2
    for split, counts in report["counts"].items():
        print(f"{split}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    for name in ("unreadable", "duplicates", "identities_in_two_splits", "near_duplicates_across_splits"):
        print(f"{name}: {report[name]['count']}")
    shortcuts = report["shortcuts"]
    cure = " ".join(f"--aligner.{name} {value}" for name, value in shortcuts["cure"].items())
    print(f"shortcuts: {shortcuts['verdict']}" + (f"; train with {cure}" if cure else ""))
    print(f"split hash: {report['split_hash'][:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(auto_cli(main, as_positional=False))
