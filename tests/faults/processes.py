"""Commands in processes of their own, ended from outside at a chosen moment.

A process is forked from a server that has imported the package once, so that a moment costs no
imports. Moments are counted in changes of files, which are the same on every machine.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_IMPORTED = (
    "kryptonite.cli.configuration",
    "kryptonite.cli.main",
    "kryptonite.data.audit.prepare",
    "kryptonite.inference.submission",
    "kryptonite.robustness.ablate",
    "kryptonite.runs.export",
    "kryptonite.runs.load",
    "kryptonite.runs.publish",
    "kryptonite.runs.report",
    "kryptonite.runs.stages",
    "tests.faults.processes",
)
_REMOVALS = {"os.remove", "os.rmdir"}
_CHANGES = _REMOVALS | {"os.rename", "os.mkdir", "os.chmod", "os.truncate"}


class Command:
    """A command in a process of its own.

    Args:
        name: The command.
        arguments: Its options.
        folder: Changes of files in it are counted.
        said: File that gets its stderr.
        moment: Number of the change before which the process is signalled; 0 for never.
        number: The signal.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[object],
        folder: Path,
        said: Path,
        moment: int = 0,
        number: int = signal.SIGKILL,
    ):
        self.said = said
        self._changes, self._reached = _CONTEXT.Value("i", 0), _CONTEXT.Event()
        self._moment, self._number = moment, number
        with _one_thread():
            _CONTEXT.set_forkserver_preload(list(_IMPORTED))
            forkserver.ensure_running()
        words = [str(each) for each in arguments]
        self.process = _CONTEXT.Process(
            target=_run,
            args=(
                name,
                words,
                str(folder),
                str(said),
                self._changes,
                self._reached,
                moment,
                number,
            ),
        )
        self.process.start()

    def wait(self) -> int:
        """Waits for the end; returns the exit status, negative for a signal as `subprocess` does.

        SIGTERM and SIGINT come from here, while the process waits for them at that moment.
        """
        if self._moment and self._number != signal.SIGKILL:
            while not self._reached.wait(0.05) and self.process.is_alive():
                pass
            if self.process.is_alive():
                os.kill(self.process.pid, self._number)
        began = time.monotonic()
        self.process.join(300)
        self.seconds = time.monotonic() - began  # from the signal to the end
        assert self.process.exitcode is not None, "still running"
        return self.process.exitcode

    @property
    def changes(self) -> int:
        """How many changes of files there were."""
        return self._changes.value


def _run(
    name: str,
    arguments: list[str],
    folder: str,
    said: str,
    changes,
    reached,
    moment: int,
    number: int,
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells' background jobs ignore it
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)

    def count(event: str, values: tuple) -> None:
        writes = event == "open" and isinstance(values[2], int) and values[2] & os.O_ACCMODE
        if not (writes or event in _CHANGES) or not str(values[0]).startswith(folder):
            return
        with changes.get_lock():
            changes.value += 1
            passed = changes.value
        if number == signal.SIGKILL:
            if passed == moment:
                os.kill(os.getpid(), signal.SIGKILL)
        # Not while it clears up: what it was about to remove would stay.
        elif passed >= moment > 0 and event not in _REMOVALS and not reached.is_set():
            reached.set()
            time.sleep(1)

    sys.addaudithook(count)
    from kryptonite.cli.main import run_command

    raise SystemExit(run_command(name, arguments, f"kryptonite {name}"))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums add up in one order in the processes, so that they end in the same bytes."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
