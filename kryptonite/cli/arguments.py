"""Parsers and options that several commands share."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kryptonite.runs.report import Protocol
    from kryptonite.runs.run_dir import RunDir

# As nn.model.ENGINES and robustness.corruptions.SEVERITIES, which would import torch for a help
# text; tests/cli compares them.
ENGINES = ("torch", "onnx")
SEVERITIES = (1, 2, 3)


def command_parser(
    program: str, description: str, examples: Sequence[str]
) -> argparse.ArgumentParser:
    """Returns a parser whose help ends in examples.

    Args:
        program: Name of the program, as it is called.
        description: What the command does.
        examples: Arguments of example calls.
    """
    return argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=format_examples(program, examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def format_examples(program: str, examples: Sequence[str]) -> str:
    """Returns the Examples section of a help text."""
    call = f"python {program}" if program.endswith(".py") else program
    return "examples:\n" + "\n".join(f"  {call} {example}".rstrip() for example in examples)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds --run."""
    parser.add_argument("--run", default="runs/default", help="folder of a finished run")


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Adds --cache."""
    parser.add_argument(
        "--cache", default=".cache/crops", help="folder of aligned crops, safe to delete"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --device."""
    parser.add_argument(
        "--device",
        default="auto",
        choices=["auto", "cpu", "cuda"],
        help="where the networks compute; auto: the GPU if there is one",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Adds --engine."""
    parser.add_argument(
        "--engine",
        default="auto",
        choices=["auto", *ENGINES],
        help="onnx: the networks that `kryptonite export` wrote; auto: those, where there are any "
        "and the CPU computes",
    )


def add_protocol(parser: argparse.ArgumentParser, resamples: int) -> None:
    """Adds --pairs, --data_root, --cache, --device and --resamples, which `protocol_of` reads.

    Args:
        parser: Gets the options.
        resamples: Default of --resamples.
    """
    parser.add_argument(
        "--pairs",
        help="frozen pairs, or a ground truth of the test pairs; by default the validation pairs "
        "of the run",
    )
    parser.add_argument(
        "--data_root",
        help="folder that holds the photos of the pairs; by default the one the run was trained on",
    )
    add_cache(parser)
    add_device(parser)
    parser.add_argument(
        "--resamples",
        type=int,
        default=resamples,
        help=f"bootstrap resamples over identities behind the intervals, {resamples} by default",
    )


def protocol_of(options: argparse.Namespace, run: "RunDir") -> "Protocol":
    """Returns the labelled pairs that the options ask for.

    Args:
        options: Parsed by a parser that `add_protocol` has extended.
        run: Folder of the run, whose validation pairs are the default.

    Raises:
        DataError: The folder holds no run.
    """
    from kryptonite.runs.report import Protocol

    trained_on = run.read_config()["data"]["root"]
    return Protocol(
        options.pairs or run.pairs,
        options.data_root or trained_on,
        options.cache,
        options.device,
        options.resamples,
    )
