"""The service under mixed load with hostile clients: documented answers alone, in flat memory.

The long form, an hour of it, runs in `make faults`.
"""

import http.client
import json
import random
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kryptonite.runs.load import load
from kryptonite.serve.errors import CODES
from tests.faults.test_images import ALL
from tests.serve.conftest import encoded
from tests.serve.process import FORM, form, serving
from tests.tiny import write_run

pytestmark = pytest.mark.slow

CLIENTS = 6
SOCKETS = 10_000
LIMITS = ("--upload_seconds", "2", "--photo_megabytes", "1", "--requests", "16", "--uploads", "500")
DOCUMENTED = {"answered": 200, **{code: status for code, (status, _) in CODES.items()}}
# What a request is refused with that is no fault of its own.
BUSY = {"busy", "too_many_uploads", "answer_timeout"}


class Service:
    """A running service, and what its clients were answered.

    Args:
        process: Its number.
        address: Host and port.
        photos: Files that it can read.
        scores: Of every pair of them, what `verify` answers.
    """

    def __init__(self, process: int, address: tuple[str, int], photos, scores):
        self.address, self._process = address, process
        self.photos, self.scores = photos, scores
        self.answers: Counter[tuple[str, int, str]] = Counter()

    @property
    def megabytes(self) -> float:
        """Memory that the process holds."""
        lines = Path(f"/proc/{self._process}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("Pss:"))

    def post(self, kind: str, path: str, body: bytes, form: str = FORM) -> dict:
        """Posts a body; counts the answer and gives it."""
        connection = http.client.HTTPConnection(*self.address, timeout=120)
        try:
            # A body that is too large is refused before all of it was sent.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", path, body, {"Content-Type": form})
            return self._count(kind, connection.getresponse())
        except (ConnectionResetError, BrokenPipeError):
            assert kind == "large", f"{kind}: the connection was cut"
            return {}
        finally:
            connection.close()

    def _count(self, kind: str, answer: http.client.HTTPResponse) -> dict:
        content = json.loads(answer.read())
        code = content["code"] if answer.status >= 400 else "answered"
        assert DOCUMENTED.get(code) == answer.status, (kind, answer.status, code)
        assert answer.status < 500 or answer.status == 503, (kind, content)
        assert answer.status not in (429, 503) or answer.headers["Retry-After"]
        self.answers[kind, answer.status, code] += 1
        return content

    @contextmanager
    def raw(self) -> Iterator[socket.socket]:
        """Opens a connection that speaks for itself."""
        with socket.create_connection(self.address, timeout=120) as connection:
            yield connection

    def head(self, length: str) -> bytes:
        return (
            f"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n{length}\r\n\r\n"
        ).encode()

    def read(self, kind: str, connection: socket.socket) -> None:
        """Counts the answer to what a raw connection sent."""
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        self._count(kind, answer)


def verified(service: Service, draws: random.Random) -> None:
    """Two good photos: the answer is that of `verify`."""
    pair = draws.sample(range(len(service.photos)), 2)
    answer = service.post("pair", "/v1/verify", form(*(service.photos[each] for each in pair)))
    if answer.get("code") not in BUSY:
        assert answer["score"] == pytest.approx(service.scores[tuple(pair)], abs=1e-3)


def hostile_photo(service: Service, draws: random.Random) -> None:
    case = draws.choice(ALL)
    body = form(service.photos[0], case.content)
    answer = service.post("photo", "/v1/verify", body)
    allowed = {"unreadable_image", "image_too_large", "image_too_long", "body_too_large"}
    allowed |= BUSY
    assert "photos" in answer or answer["code"] in allowed, (case.name, answer)


def hostile_body(service: Service, draws: random.Random) -> None:
    body, kind = draws.choice(
        [
            (b"", FORM),
            (b"--b\r\n\r\n--b--", FORM),
            (draws.randbytes(5000), FORM),
            (form(*service.photos[:2])[:-40], FORM),
            (b"[" * 50_000, "application/json"),
            (b'{"photo_a": 1e999, "photo_b": null}', "application/json"),
            (b'{"photo_a": "%%%", "photo_b": "AAAA"}', "application/json"),
            (b"\xff\xfe", "application/json"),
            (b"<a/>", "text/xml"),
        ]
    )
    assert service.post("body", "/v1/verify", body, kind)["code"] in {*CODES} - {"internal_error"}


def large_body(service: Service, draws: random.Random) -> None:
    service.post("large", "/v1/score-image", form(bytes(5_000_000), b""))


def endless_body(service: Service, draws: random.Random) -> None:
    """Chunks without an end are cut off by size or by time."""
    with service.raw() as connection, suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(service.head("Transfer-Encoding: chunked"))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        raise AssertionError("the service reads an endless body")


def slow_body(service: Service, draws: random.Random) -> None:
    """A body that comes byte by byte is refused when its time is over."""
    with service.raw() as connection:
        connection.sendall(service.head("Content-Length: 9000") + b"-")
        service.read("slow", connection)


def cut(service: Service, draws: random.Random) -> None:
    """A connection that ends within its body."""
    with service.raw() as connection:
        body = form(*service.photos[:2])
        connection.sendall(service.head(f"Content-Length: {len(body)}"))
        connection.sendall(body[: draws.randrange(len(body))])


def noise(service: Service, draws: random.Random) -> None:
    """Bytes that are no HTTP: answered by 400 or by the end of the connection."""
    with service.raw() as connection, suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(draws.randbytes(draws.randrange(1, 3000)) + b"\r\n\r\n")
        assert connection.recv(99)[:12] in (b"", b"HTTP/1.1 400")


ATTACKS = (hostile_photo, hostile_body, large_body, endless_body, slow_body, cut, noise)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """The run, and a pipeline of it."""
    folder = tmp_path_factory.mktemp("service")
    run = write_run(folder / "tiny")
    return run, load(run, cache=folder / "cache", device="cpu")


@pytest.fixture
def service(system, tmp_path, faces):
    run, pipeline = system
    photos = [encoded(face) for face in faces[:4]]
    scores = {
        (a, b): pipeline.verify(photos[a], photos[b]).score
        for a in range(4)
        for b in range(4)
        if a != b
    }
    with serving(run, tmp_path, *LIMITS, OMP_NUM_THREADS="1") as (process, *address):
        yield Service(process.pid, tuple(address), photos, scores)


def together(tasks: list[Callable[[], None]]) -> None:
    """Runs tasks in threads of their own; raises what the first of them raised."""
    failures: list[BaseException] = []

    def run(task):
        try:
            task()
        except BaseException as error:  # of a thread, to be raised in this one
            failures.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("seconds", [20, pytest.param(3600, marks=pytest.mark.faults)])
def test_service_answers_as_documented_in_flat_memory_when_clients_are_hostile(service, seconds):
    """Memory is compared once every kind of request has come, after the first third."""
    began, held = time.monotonic(), []

    def client(number):
        draws = random.Random(number)
        while time.monotonic() < began + seconds:
            for request in (verified, draws.choice(ATTACKS)):
                request(service, draws)
            if number == 0:
                held.append((time.monotonic() - began, service.megabytes))

    together([lambda number=number: client(number) for number in range(CLIENTS)])
    verified(service, random.Random(0))
    assert service.answers["pair", 200, "answered"] > CLIENTS
    kinds = {kind for kind, _, code in service.answers if code not in BUSY}
    assert kinds == {"pair", "photo", "body", "large", "slow"}, service.answers
    before, after = (
        max(size for second, size in held if (second > seconds / 3) == late)
        for late in (False, True)
    )
    assert after < 1.1 * before, held[:: max(1, len(held) // 20)]


def test_service_answers_or_refuses_all_of_500_requests_at_once(service):
    together([lambda: verified(service, random.Random(0))] * 500)
    assert sum(service.answers.values()) == 500
    assert {code for _, _, code in service.answers} <= {"answered", *BUSY}
    assert service.answers["pair", 200, "answered"] >= 16
    verified(service, random.Random(1))
    assert service.answers["pair", 200, "answered"] >= 17


def test_service_answers_while_ten_thousand_sockets_are_open(service):
    """As many as the machine allows this process and the service."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = []
    try:
        for _ in range(min(SOCKETS, hard - 500)):
            idle.append(socket.create_connection(service.address, timeout=60))
        verified(service, random.Random(0))
        assert service.answers == {("pair", 200, "answered"): 1}
    finally:
        for each in idle:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    verified(service, random.Random(1))
    assert service.answers == {("pair", 200, "answered"): 2}
