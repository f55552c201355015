"""The commands' help, exit statuses and messages; the scripts at the root of the checkout."""

import errno
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import eer as eer_script
import make_submission as submission_script
import train as train_script
from kryptonite.cli.main import COMMANDS, main, run_command
from kryptonite.core.errors import DataError

ROOT = Path(__file__).parents[2]


def help_of(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.fixture
def answers(monkeypatch):
    """Replaces the command `eer` by a function."""

    def replace(function):
        module = importlib.import_module("kryptonite.cli.eer")
        monkeypatch.setattr(module, "main", function)

    return replace


@pytest.fixture
def scores(tmp_path):
    """A ground truth and a submission that separates it; gives the arguments of `eer`."""
    ids = [f"{n:08d}" for n in range(4)]
    pd.DataFrame({"pair_id": ids, "label": [1, 1, 0, 0]}).to_csv(tmp_path / "gt.csv", index=False)
    pd.DataFrame({"pair_id": ids, "similarity": [0.9, 0.8, 0.2, 0.1]}).to_csv(
        tmp_path / "submission.csv", index=False
    )
    return ["--public_test_url", "gt.csv", "--public_prediction_url", "submission.csv"]


def test_main_lists_every_command_and_exit_status_when_asked_for_help(capsys):
    text = help_of(["--help"], capsys)
    lines = [line.split(None, 1) for line in text.splitlines() if line.startswith("  ")]
    assert dict(line for line in lines if line[0] in COMMANDS) == COMMANDS
    assert [line[0] for line in lines if line[0].isdigit()] == ["0", "1", "2", "130", "143"]


def test_main_imports_nothing_heavy_when_asked_for_help():
    code = (
        "import sys\n"
        "from kryptonite.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'jsonargparse'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_command_describes_itself_with_examples_when_asked_for_help(command, capsys):
    text = help_of([command, "--help"], capsys)
    description, examples = text.split("examples:\n")
    assert description.startswith(f"usage: kryptonite {command} ")
    assert importlib.import_module(f"kryptonite.cli.{command}").DESCRIPTION[:40] in description
    calls = examples.strip("\n").splitlines()
    assert calls and all(call.startswith(f"  kryptonite {command}") for call in calls)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["verify", "a.jpg"], "give either a second image or --reference"),
        (["submit", "--device", "abacus"], "invalid choice: 'abacus'"),
        (["train", "--nonsense", "1"], "nonsense"),
    ],
)
def test_main_exits_with_2_when_arguments_are_wrong(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_run_command_returns_what_the_command_returns(answers):
    answers(lambda arguments, program: 1 if (arguments, program) == (["--x"], "kr") else 0)
    assert run_command("eer", ["--x"], "kr") == 1


def test_run_command_prints_one_line_and_returns_2_when_data_is_wrong(answers, capsys):
    def fail(arguments, program):
        raise DataError("gt.csv: row 3 has no label")

    answers(fail)
    assert run_command("eer", [], "eer.py") == 2
    assert capsys.readouterr() == ("", "eer.py: gt.csv: row 3 has no label\n")


def test_run_command_raises_when_error_is_a_bug(answers):
    def fail(arguments, program):
        raise ZeroDivisionError

    answers(fail)
    with pytest.raises(ZeroDivisionError):
        run_command("eer", [], "eer.py")


def test_run_command_returns_130_when_interrupted(answers, capsys):
    def interrupt(arguments, program):
        raise KeyboardInterrupt

    answers(interrupt)
    assert run_command("eer", [], "kryptonite eer") == 130
    assert capsys.readouterr().err == "kryptonite eer: interrupted\n"


def test_run_command_returns_130_when_interrupted_in_training(answers):
    def interrupt(arguments, program):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)  # as Lightning does

    answers(interrupt)
    assert run_command("eer", [], "kryptonite eer") == 130


def test_run_command_returns_130_when_clearing_up_after_an_interrupt_fails(answers):
    def interrupt(arguments, program):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            try:
                sys.exit(1)
            finally:
                raise RuntimeError("no loader yet")  # as Lightning before the first batch

    answers(interrupt)
    assert run_command("eer", [], "kryptonite eer") == 130


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EISDIR])
def test_run_command_names_the_file_in_one_line_when_it_cannot_be_written(answers, code, capsys):
    def fail(arguments, program):
        raise OSError(code, os.strerror(code), "runs/x/metrics.json")

    answers(fail)
    assert run_command("eer", [], "kr") == 2
    assert capsys.readouterr().err == f"kr: runs/x/metrics.json: {os.strerror(code)}\n"


def test_run_command_raises_when_an_error_has_no_number(answers):
    def fail(arguments, program):
        raise OSError("a bug")

    answers(fail)
    with pytest.raises(OSError, match="a bug"):
        run_command("eer", [], "kr")


@pytest.mark.parametrize("in_training", [False, True])
def test_run_command_returns_143_when_terminated(answers, in_training, capsys):
    before = signal.getsignal(signal.SIGTERM)

    def terminate(arguments, program):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt:
            if in_training:
                sys.exit(1)  # as Lightning does
            raise

    answers(terminate)
    began = time.monotonic()
    assert run_command("eer", [], "kr") == 143 and time.monotonic() - began < 5
    assert capsys.readouterr().err == "kr: terminated\n"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_run_command_ends_all_the_same_when_clearing_up_hangs(number, status):
    code = (
        "import os, signal, sys, time, types\n"
        "from kryptonite.cli.main import run_command\n"
        "def hang(arguments, program):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), {number:d})\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        time.sleep(60)\n"
        "sys.modules['kryptonite.cli.eer'] = types.SimpleNamespace(main=hang)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a shell's jobs ignore
        "print('ready', flush=True)\n"
        "run_command('eer', [], 'kr')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    process.stdout.readline()
    began = time.monotonic()
    try:
        assert process.wait(30) == status and time.monotonic() - began < 10
    finally:
        process.kill()


@pytest.fixture
def sigint():
    """Sets the handler of SIGINT for a test."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_run_command_clears_up_to_the_end_when_signalled_again(answers, sigint, first, capsys):
    cleared = []

    def interrupt(arguments, program):
        try:
            os.kill(os.getpid(), first)
            time.sleep(60)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            cleared.append(True)

    sigint(signal.default_int_handler)
    answers(interrupt)
    assert run_command("eer", [], "kr") == 128 + first and cleared
    assert capsys.readouterr().err == f"kr: {'interrupted' if first == 2 else 'terminated'}\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_run_command_leaves_sigint_alone_when_it_is_ignored_or_handled(answers, sigint, handler):
    def answer(arguments, program):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return 0

    sigint(handler)
    answers(answer)
    assert run_command("eer", [], "kr") == 0
    assert signal.getsignal(signal.SIGINT) is handler


def test_run_command_passes_other_exits_on(answers):
    answers(lambda arguments, program: sys.exit(3))
    with pytest.raises(SystemExit) as stop:
        run_command("eer", [], "kryptonite eer")
    assert stop.value.code == 3


@pytest.mark.parametrize(
    ("script", "name", "arguments", "message"),
    [
        (train_script, "train.py", ["--config", "nonsense"], "--config nonsense: no such file"),
        (submission_script, "make_submission.py", ["--run", "nowhere"], "nowhere: no finished run"),
        (
            eer_script,
            "eer.py",
            ["--public_test_url", "none.csv", "--public_prediction_url", "none.csv"],
            "none.csv",
        ),
    ],
)
def test_script_puts_its_name_before_messages(
    script, name, arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    assert script.main() == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{name}: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize("program", ["script", "module"])
def test_eer_runs_uninstalled_in_any_folder(program, scores, tmp_path):
    start = [str(ROOT / "eer.py")] if program == "script" else ["-m", "kryptonite", "eer"]
    done = subprocess.run(
        [sys.executable, *start, *scores],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT) if program == "module" else ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expected = "EER 0.000000 (platform)  0.000000 (mean of FNMR and FMR)  pairs 4\n"
    assert done.stdout == expected and done.stderr == ""
