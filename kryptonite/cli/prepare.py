"""`kryptonite prepare`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from kryptonite.cli.arguments import format_examples
from kryptonite.cli.configuration import CONFIG, CONFIG_HELP, HelpFormatter, find_configs
from kryptonite.core.errors import ConfigError
from kryptonite.data.audit.cleaning import CleanConfig
from kryptonite.runs.config import RunConfig

if TYPE_CHECKING:
    from kryptonite.data.audit.prepare import Embed

DESCRIPTION = """\
Audit a data set, split it, and freeze the split and the validation pairs: write
train.csv, val.csv, test.csv, pairs_val.csv and audit.json. With --clean, also find
training photos that are filed under the wrong person, move or drop them, and list
them in cleaning.csv and cleaning.png.

Takes the configuration of `kryptonite train` and reads its `data` section; to clean,
also `recognition`, `aligner` and `cache`."""
EXAMPLES = (
    "--data.root .",
    "--config edgeface-cpu --data.root . --clean --out cleaned",
)


def main(arguments: list[str], program: str) -> int:
    """Writes the tables and the audit, prints what was found and returns the exit status."""
    parser = ArgumentParser(
        prog=program,
        usage="%(prog)s [--config CONFIG] [--out OUT] [--clean] [--FIELD VALUE ...]",
        description=DESCRIPTION,
        epilog=format_examples(program, EXAMPLES),
        formatter_class=HelpFormatter,
    )
    parser.add_argument(CONFIG, action="config", help=CONFIG_HELP)
    parser.add_argument("--out", help="folder to write to; by default the root of the data")
    parser.add_argument(
        "--clean",
        action="store_true",
        help="move or drop training photos that are filed under the wrong person",
    )
    parser.add_class_arguments(CleanConfig, "cleaning")
    parser.add_class_arguments(RunConfig)
    options = parser.instantiate(parser.parse_args(find_configs(arguments)))

    from kryptonite.core.files import check_writable
    from kryptonite.data.audit.prepare import AUDIT, FINDINGS, SHEET, prepare

    out = Path(options.out or options.data.root)
    check_writable(out / AUDIT)  # before minutes of reading
    embed = _embedder(options) if options.clean else None
    report = prepare(options.data, out, embed, options.cleaning)
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
    remedy = " ".join(f"--aligner.{name} {value}" for name, value in shortcuts["cure"].items())
    print(f"shortcuts: {shortcuts['verdict']}" + (f"; train with {remedy}" if remedy else ""))
    if options.clean:
        counts = ", ".join(f"{action} {count}" for action, count in report["cleaning"].items())
        print(
            f"cleaning (train): {counts}; {out / FINDINGS}, {out / SHEET}; "
            f"train with --data.root {out}"
        )
    print(f"split hash: {report['split_hash'][:12]}")
    return 0


def _embedder(config: RunConfig) -> "Embed":
    """Returns the recogniser that training starts from, on the crops that training will use."""
    weights = config.recognition.backbone.weights
    if weights in ("pip", "scratch"):
        raise ConfigError(
            f"recognition.backbone.weights is {weights!r}, a network that cannot tell faces apart; "
            "cleaning needs a face recogniser: its file, or a hub model "
            "(see configs/edgeface-cpu.yaml and configs/default.yaml)"
        )
    from kryptonite.inference.embed import embed_photos
    from kryptonite.recognition.recogniser import Recogniser
    from kryptonite.runs.data import crop_cache

    recogniser = Recogniser.pretrained(config.recognition, config.aligner.device)
    return partial(embed_photos, recogniser, crop_cache(config))
