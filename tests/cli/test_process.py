"""What a command sets for its process, and what the library leaves alone."""

import contextlib
import io
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from kryptonite.cli.process import configure_process

ROOT = Path(__file__).parents[2]


def test_configure_process_logs_messages_plainly_to_stderr(capsys):
    configure_process()
    logging.getLogger("kryptonite.runs.stages").info("recognition: %s", "done already")
    logging.getLogger("kryptonite.runs.stages").debug("nobody asked")
    assert capsys.readouterr() == ("", "recognition: done already\n")


def test_configure_process_logs_once_when_called_twice(capsys):
    configure_process()
    configure_process()
    logging.getLogger("kryptonite").warning("once")
    assert capsys.readouterr().err == "once\n"


def test_configure_process_follows_stderr_when_redirected(capsys):
    configure_process()
    with contextlib.redirect_stderr(io.StringIO()) as elsewhere:
        logging.getLogger("kryptonite").info("there")
    assert elsewhere.getvalue() == "there\n" and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("The 'train_dataloader' does not have many workers which may be a bottleneck.", False),
        ("`isinstance(treespec, LeafSpec)` is deprecated", False),
        ("Checkpoint directory runs/x exists and is not empty.", False),
        ("It is recommended to use `self.log('val_eer', ..., sync_dist=True)`", False),
        ("invalid value encountered in divide", True),
    ],
)
def test_configure_process_ignores_only_hints_of_lightning(message, shown):
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        configure_process()
        warnings.warn(message, stacklevel=1)
    assert bool(caught) == shown


def test_configure_process_silences_table_of_devices():
    configure_process()
    assert not logging.getLogger("pytorch_lightning.utilities.rank_zero").isEnabledFor(logging.INFO)


@pytest.mark.slow
def test_library_leaves_process_alone_when_run_is_loaded(run, tmp_path):
    code = (
        "import logging, sys, kryptonite\n"
        "from kryptonite.core.memory import keep_freed_memory\n"
        "kryptonite.load(sys.argv[1], cache=sys.argv[2], device='cpu')\n"
        "logger = logging.getLogger('kryptonite')\n"
        "print(keep_freed_memory.cache_info().misses, logger.handlers, logger.level)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run), str(tmp_path / "cache")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "0 [] 0\n", done.stderr
