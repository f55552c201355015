"""Commands killed, terminated and interrupted; started again, they end in the same bytes.

The long form, 20 moments for every command, runs in `make faults`.
"""

import http.client
import json
import re
import shutil
import signal
import threading
import time

import numpy as np
import pytest

from tests.faults.processes import Command
from tests.faults.system import message, options
from tests.serve.process import FORM, form, serving

MADE = re.compile(rb"20\d\d-\d\d-\d\d \d\d:\d\d UTC")  # when a report was written


# Trainings of one part of a finished run, and the folder where changes of files are moments.
PARTS = {
    "soup": (["--comparison.fit.soup", 2], "run/comparison/training/1"),
    "probe": (
        ["--liveness.backbone.name", "test_vit", "--liveness.probe.passes", 35],
        "run/liveness/training",
    ),
}


def arguments(command, data, place):
    """The command's options: it reads a run at `place`, and writes below `place` alone."""
    run, cache = place / "run", place / "cache"
    scored = ["--run", run, "--cache", cache, "--device", "cpu", "--data_root", data]
    training = [*options(data, run)[:-1], cache]
    return {
        "prepare": ["--config", data / "tiny.yaml", "--data.root", data, "--out", place / "out"],
        "train": training,
        **{part: [*training, *changed] for part, (changed, _) in PARTS.items()},
        "submit": scored,
        "evaluate": [*scored, "--resamples", 5],
        "ablate": [*scored, "--resamples", 5, "--quick"],
        "export": ["--run", run],
        "publish": ["--run", run, "--out", place / "published"],
    }[command]


class Place:
    """A folder that every process finds as the first one did, at the same path.

    Args:
        command: The command to run, or one of `PARTS`.
        data: The data root.
        trained: A finished run.
        folder: For the place, and for what commands say.
    """

    def __init__(self, command, data, trained, folder):
        self._command, self._data, self._trained = command, data, trained
        self.path, self._said = folder / "place", folder / "said"
        self._arguments = arguments(command, data, self.path)

    def clear(self):
        """Makes the place as it is before the command is first called."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()
        if self._command not in ("prepare", "train"):
            shutil.copytree(self._trained, self.path / "run")
        if self._command in PARTS:
            shutil.copytree(self._data / "cache", self.path / "cache")

    def start(self, moment=0, number=signal.SIGKILL):
        name, counted = self._command, self.path
        if name in PARTS:
            name, counted = "train", self.path / PARTS[name][1]
        return Command(name, self._arguments, counted, self._said, moment, number)

    def run(self):
        """Runs the command to its end; gives what it left, and the number of changes."""
        process = self.start()
        assert process.wait() == 0, self.said
        return self.files(), process.changes

    @property
    def said(self):
        return self._said.read_text()

    def name(self, path):
        """A file's name; an entry of the cache on its way to its place is called as it will be."""
        if path.parent.name.startswith("group-"):
            path = path.parents[1] / path.name[:2] / path.name
        return str(path.relative_to(self.path))

    def files(self):
        """Every file by name, without hidden ones and without logs of trainings."""
        return {
            self.name(path): MADE.sub(b"", path.read_bytes())
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
            and not path.name.startswith("events.out")
            and not any(part.startswith(".") for part in path.relative_to(self.path).parts)
        }


@pytest.fixture
def place(data, trained, tmp_path):
    """Gives a command's place, as it was before, and what the command leaves of itself there."""

    def of(command):
        made = Place(command, data, trained, tmp_path)
        made.clear()
        before = made.files()
        whole, changes = made.run()
        return made, before, whole, changes

    return of


def check_killed(made, before, whole, moments):
    for moment in moments:
        made.clear()
        assert made.start(moment).wait() == -signal.SIGKILL, made.said
        # Files are only ever replaced whole. (Checkpoints hold times, and are replaced whole, too.)
        for name, content in made.files().items():
            assert content in (before.get(name), whole.get(name)) or "/training/" in name, (
                moment,
                name,
            )
        # Killed while it cleared up, it is done; publish then refuses to write the folder again.
        if ended(made.files()) != ended(whole):
            assert ended(made.run()[0]) == ended(whole), moment


def ended(files):
    """What a command leaves, without the progress of trainings, which holds times."""
    return {name: content for name, content in files.items() if "/training/" not in name}


def draw(changes, count, seed=0):
    drawn = np.random.default_rng(seed).choice(changes, min(count, changes), replace=False)
    return sorted(int(each) + 1 for each in drawn)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", "submit", *PARTS])
def test_command_ends_in_the_same_bytes_when_it_was_killed(place, command):
    made, before, whole, changes = place(command)
    check_killed(made, before, whole, draw(changes, 1 if command in PARTS else 2))


@pytest.mark.faults
@pytest.mark.parametrize(
    "command", ["prepare", "submit", "evaluate", "ablate", "export", "publish", "train", *PARTS]
)
def test_command_ends_in_the_same_bytes_when_it_was_killed_at_twenty_moments(place, command):
    made, before, whole, changes = place(command)
    check_killed(made, before, whole, draw(changes, 20, seed=1))


def check_signalled(made, whole, moment, number):
    made.clear()
    process = made.start(moment, number)
    status = process.wait()
    assert process.seconds < 10  # less than 5, but those of a busy machine are longer
    expected = {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert status == expected, made.said
    assert "Traceback" not in made.said and message(made.said).endswith("ed")
    assert not list(made.path.rglob(".*-*"))  # nothing unfinished
    assert ended(made.run()[0]) == ended(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number"),
    [("prepare", signal.SIGTERM), ("submit", signal.SIGINT)],
)
def test_command_leaves_nothing_unfinished_when_it_is_signalled(place, command, number):
    made, _, whole, changes = place(command)
    check_signalled(made, whole, draw(changes // 2, 1, seed=2)[0], number)


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "command", ["prepare", "submit", "evaluate", "ablate", "export", "publish"]
)
def test_command_leaves_nothing_unfinished_when_it_is_signalled_at_ten_moments(
    place, command, number
):
    made, _, whole, changes = place(command)
    for moment in draw(changes - 2, 10, seed=3):  # after the last changes it may have ended
        check_signalled(made, whole, moment, number)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", "submit"])
def test_two_processes_leave_whole_files_when_they_write_the_same_ones(place, command):
    made, _, whole, _ = place(command)
    made.clear()
    pair = [made.start(), made.start()]
    assert [process.wait() for process in pair] == [0, 0], made.said
    assert made.files() == whole


# The service


def verify(address, body):
    """The service's answer to a pair, without the seconds that it took."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request("POST", "/v1/verify", body, {"Content-Type": FORM})
        answer = connection.getresponse()
        content = json.loads(answer.read())
    finally:
        connection.close()
    assert answer.status == 200, content
    return {name: value for name, value in content.items() if name != "seconds"}


class Clients:
    """Threads that ask until the service is gone; their answers end up in `scores`, by body."""

    def __init__(self, address, bodies):
        self._address, self._bodies = address, bodies
        self.scores, self.failures, self.answered = [], [], threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(each,)) for each in range(6)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number):
        while True:
            place = number % len(self._bodies)
            try:
                answer = verify(self._address, self._bodies[place])
            except (OSError, http.client.HTTPException):  # the service is gone
                return
            except BaseException as error:  # to be raised in the test's thread
                self.failures.append(error)
                return
            self.scores.append((place, answer["score"]))
            self.answered.set()
            number += 1

    def join(self):
        for thread in self._threads:
            thread.join(60)
        assert not self.failures, self.failures[0]


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.faults)])
def test_serve_answers_the_same_and_leaves_nothing_when_it_was_killed_under_load(
    data, trained, tmp_path, kills
):
    """Killed while requests wait, are received and are computed, at moments drawn by seed."""
    run = shutil.copytree(trained, tmp_path / "tiny")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    photos = [path.read_bytes() for path in sorted(data.glob("data/test_public/images/*/*.jpg"))]
    bodies = [form(*photos[first : first + 2]) for first in range(len(photos) - 1)]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    expected, generator = None, np.random.default_rng(0)
    for start in range(kills + 1):
        with serving(run, temporary, OMP_NUM_THREADS="1") as (process, *address):
            answers = [verify(address, body) for body in bodies]
            expected = expected or answers
            assert answers == expected, start
            if start == kills:
                break
            clients = Clients(address, bodies)
            assert clients.answered.wait(60)
            time.sleep(generator.uniform(0, 0.5))
            process.kill()
            assert process.wait(60) == -signal.SIGKILL
            clients.join()
        for place, score in clients.scores:
            assert score == pytest.approx(expected[place]["score"], abs=1e-3)
        assert not list(temporary.iterdir())
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
