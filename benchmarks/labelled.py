"""Open the run and the labelled pairs that a benchmark's options name."""

import argparse
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kryptonite.cli.arguments import add_protocol, add_run, protocol_of
from kryptonite.inference.pipeline import Pipeline
from kryptonite.runs.load import load
from kryptonite.runs.report import load_labelled
from kryptonite.runs.run_dir import RunDir


class Labelled(NamedTuple):
    """A run, loaded, and the pairs to measure it on.

    Args:
        run: Its folder.
        pipeline: The run.
        pairs: Columns `data.pairs.PAIR_COLUMNS`.
    """

    run: RunDir
    pipeline: Pipeline
    pairs: pd.DataFrame


def make_parser(description: str | None, resamples: int) -> argparse.ArgumentParser:
    """Makes a parser of the options that `open_labelled` reads.

    Args:
        description: The benchmark's docstring.
        resamples: Default of --resamples.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run(parser)
    add_protocol(parser, resamples)
    return parser


def open_labelled(options: argparse.Namespace) -> Labelled:
    """Loads what the options name.

    Raises:
        KryptoniteError: The run or the pairs are wrong.
    """
    run = RunDir(Path(options.run))
    protocol = protocol_of(options, run)
    pairs = load_labelled(run, protocol)
    return Labelled(run, load(run.path, protocol.cache, protocol.device), pairs)
