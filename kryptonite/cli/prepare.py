"""Audit a data set, freeze its splits and validation pairs, take mislabels out: `python prepare.py [--data.root .] [--out .] [--clean]`."""

import sys
from functools import partial
from pathlib import Path

from jsonargparse import ArgumentParser

from kryptonite.core.errors import ConfigError, KryptoniteError
from kryptonite.data.audit.cleaning import CleanConfig
from kryptonite.data.audit.prepare import FINDINGS, SHEET, Embed, prepare
from kryptonite.inference.pipeline import embed_photos
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.runs.config import RunConfig
from kryptonite.runs.stages import crop_cache


def main() -> int:
    """Writes train.csv, val.csv, test.csv, pairs_val.csv and audit.json, with --clean also cleaning.csv and cleaning.png.

    Takes the same configuration as train.py, of which it reads `data` and, to clean, `recognition`, `aligner` and `cache`.

    Returns:
        Exit status.
    """
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", action="config", help="YAML as for train.py")
    parser.add_argument("--out", help="folder to write to; the data's root unless given")
    parser.add_argument(
        "--clean",
        action="store_true",
        help="move or leave out training photos that are filed under the wrong person",
    )
    parser.add_class_arguments(CleanConfig, "cleaning")
    parser.add_class_arguments(RunConfig)
    try:
        arguments = parser.instantiate(parser.parse_args())
        out = Path(arguments.out or arguments.data.root)
        report = prepare(
            arguments.data,
            out,
            _embedder(arguments) if arguments.clean else None,
            arguments.cleaning,
        )
    except KryptoniteError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2
    for split, counts in report["counts"].items():
        print(f"{split}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    for name in (
        "unreadable",
        "duplicates",
        "identities_in_two_splits",
        "near_duplicates_across_splits",
    ):
        print(f"{name}: {report[name]['count']}")
    shortcuts = report["shortcuts"]
    cure = " ".join(f"--aligner.{name} {value}" for name, value in shortcuts["cure"].items())
    print(f"shortcuts: {shortcuts['verdict']}" + (f"; train with {cure}" if cure else ""))
    if arguments.clean:
        counts = ", ".join(f"{action} {count}" for action, count in report["cleaning"].items())
        print(
            f"cleaning (train): {counts}; {out / FINDINGS}, {out / SHEET}; train with --data.root {out}"
        )
    print(f"split hash: {report['split_hash'][:12]}")
    return 0


def _embedder(config: RunConfig) -> Embed:
    """The recogniser that the recognition branch starts from, on crops that training will use too."""
    if config.recognition.backbone.weights in ("pip", "scratch"):
        raise ConfigError(
            f"recognition.backbone.weights is {config.recognition.backbone.weights!r}, which tells no faces apart; cleaning needs a face "
            "recogniser: its file, or a hub model (see configs/edgeface-cpu.yaml and configs/default.yaml)"
        )
    return partial(
        embed_photos,
        Recogniser.pretrained(config.recognition, config.aligner.device),
        crop_cache(config),
    )


if __name__ == "__main__":
    sys.exit(main())
