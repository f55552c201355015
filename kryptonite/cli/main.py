"""Entry points: find a command, run it, turn its errors into a message and an exit status."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from kryptonite.cli.process import (
    INTERRUPTED,
    TERMINATED,
    Terminated,
    configure_process,
    raise_on_signals,
)
from kryptonite.core.errors import KryptoniteError

COMMANDS = {
    "prepare": "audit a data set, freeze its splits and validation pairs, drop mislabelled photos",
    "train": "train a run: recognition, liveness, comparison, fusion",
    "submit": "score the test pairs with a run and write submission.csv",
    "evaluate": "report the error rates of a run on labelled pairs",
    "ablate": "measure a run under corruptions and attacks, and without each of its parts",
    "export": "write the networks of a run as ONNX",
    "publish": "write a run as a folder to give away: safetensors, JSON, a model card",
    "eer": "score a submission against the ground truth",
    "demo": "make data, train, submit and report: the whole chain, from nothing",
    "gate": "put a run's evidence of forgery behind another face matcher",
    "verify": "decide whether two photos are genuine and show the same person",
    "explain": "write why two photos are accepted or refused as one HTML sheet",
    "serve": "answer the same over HTTP, with a page",
}

REFUSED, FAILED = 1, 2

_DESCRIPTION = "Face verification that detects deepfakes."
_EPILOG = f"""commands:
{chr(10).join(f"  {name:10}{summary}" for name, summary in COMMANDS.items())}

`kryptonite COMMAND --help` lists the options of a command, with examples.

exit status:
  0    done
  {REFUSED}    submit --strict: done, but pairs with an unreadable image were refused
  {FAILED}    the request or the data are wrong; the last line on stderr says why
  {INTERRUPTED}  interrupted (Ctrl-C)
  {TERMINATED}  terminated (SIGTERM)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `kryptonite COMMAND …` and returns its exit status.

    Args:
        arguments: What follows the program's name; the process's own arguments unless given.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Only the chosen command's module is imported: the help must not wait for torch.
    if arguments and arguments[0] in COMMANDS:
        return run_command(arguments[0], arguments[1:], f"kryptonite {arguments[0]}")
    parser = argparse.ArgumentParser(
        prog="kryptonite",
        usage="kryptonite COMMAND [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.parse_args(arguments[:1])  # prints the help or an error, and exits
    raise AssertionError("argparse accepted an unknown command")


def run_command(name: str, arguments: Sequence[str], program: str) -> int:
    """Runs one command and returns its exit status.

    A KryptoniteError, a full disk, a forbidden folder, Ctrl-C and SIGTERM become one line on
    stderr; errors of the program itself keep their traceback.

    Args:
        name: One of `COMMANDS`.
        arguments: Its options.
        program: Name of the program in usage lines and messages.
    """
    configure_process()
    try:
        with raise_on_signals():
            return import_module(f"kryptonite.cli.{name}").main(list(arguments), program)
    except KryptoniteError as error:
        print(f"{program}: {_one_line(str(error))}", file=sys.stderr)
        return FAILED
    except OSError as error:
        if error.errno is None:
            raise
        reason = error.strerror or str(error)
        named = f"{_shown(error.filename)}: {reason}" if error.filename is not None else reason
        print(f"{program}: {_one_line(named)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as interrupt:
        return _interrupted(program, interrupt)
    except SystemExit as stop:
        # Lightning turns an interrupt during training into sys.exit(1).
        if (behind := _interrupt_behind(stop)) is not None:
            return _interrupted(program, behind)
        raise
    except RuntimeError as error:
        # Its clean-up fails if the interrupt comes before the first batch is read.
        if (behind := _interrupt_behind(error)) is not None:
            return _interrupted(program, behind)
        raise


def _interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """Finds the interrupt during whose handling an error was raised, if there is one."""
    context = error.__context__
    while context is not None and not isinstance(context, KeyboardInterrupt):
        context = context.__context__
    return context


def _one_line(message: str) -> str:
    """Joins the lines that YAML's and torch's reasons take."""
    return " ".join(line.strip() for line in message.splitlines())


def _shown(filename: Any) -> str:
    """Gives a file's name for a message; names need not be text."""
    return os.fsdecode(filename) if isinstance(filename, (str, bytes, os.PathLike)) else "?"


def _interrupted(program: str, interrupt: KeyboardInterrupt) -> int:
    terminated = isinstance(interrupt, Terminated)
    print(f"{program}: {'terminated' if terminated else 'interrupted'}", file=sys.stderr)
    return TERMINATED if terminated else INTERRUPTED
