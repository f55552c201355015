"""The command as a process: its socket, its signals, its key."""

import http.client
import re
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import uvicorn

from kryptonite.cli import serve
from kryptonite.cli.main import main
from kryptonite.serve.server import listen
from kryptonite.serve.work import Worker
from tests.serve.process import FORM, form, serving


@pytest.fixture
def start(served_run, tmp_path):
    """Starts `kryptonite serve` and gives the process, its host and its port."""
    with ExitStack() as stack:
        yield lambda *options, **others: stack.enter_context(
            serving(served_run, tmp_path, *options, **others)
        )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_the_request_it_has_when_it_is_stopped(start, photos, tmp_path, number):
    process, host, port = start()
    body = form(*photos[:2])
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.putrequest("POST", "/v1/verify")
    connection.putheader("Content-Type", FORM)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[:1000])
    other = http.client.HTTPConnection(host, port, timeout=60)
    other.request("GET", "/v1/health")  # the first request is in the house by now
    assert other.getresponse().status == 200
    other.close()
    other.request("POST", "/v1/verify", b"private", {"Content-Type": FORM})
    assert other.getresponse().status == 400  # of which the log below says nothing
    process.send_signal(number)
    while True:  # until it takes no more
        try:
            socket.create_connection((host, port), timeout=60).close()
        except ConnectionRefusedError:
            break
        time.sleep(0.05)
    assert process.poll() is None
    connection.send(body[1000:])
    answer = connection.getresponse()
    assert answer.status == 200 and b'"accepted":' in answer.read()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    parts = "finding faces, recognition, liveness, the differential detector"
    assert re.fullmatch(rf"{parts}: torch on cpu \(.+\)\n", err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_serve_takes_the_key_of_the_environment(start):
    process, host, port = start(KRYPTONITE_API_KEY="secret")
    for headers, status in (({}, 401), ({"X-API-Key": "secret"}, 200)):
        connection = http.client.HTTPConnection(host, port, timeout=60)
        connection.request("GET", "/v1/info", headers=headers)
        assert connection.getresponse().status == status
    assert b"secret" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()


@pytest.mark.slow
def test_serve_answers_behind_a_matcher_and_counts_clients_behind_a_proxy(start, photos, gate_file):
    _, host, port = start("--gate", str(gate_file), "--uploads", "1")

    def begin(client):
        """Posts for a client, as a proxy on this machine does, all but the body."""
        connection = http.client.HTTPConnection(host, port, timeout=60)
        connection.putrequest("POST", "/v1/gate")
        for name, value in (
            ("Content-Type", FORM),
            ("Content-Length", str(len(body))),
            ("X-Forwarded-For", client),
        ):
            connection.putheader(name, value)
        connection.endheaders()
        return connection

    similarity = b'--b\r\nContent-Disposition: form-data; name="similarity"\r\n\r\n0.4\r\n'
    body = similarity + form(*photos[:2])
    slow = begin("10.0.0.1")
    slow.send(body[:1000])
    other = begin("10.0.0.2")
    other.send(body)
    answer = other.getresponse()
    assert answer.status == 200 and b'"llr":' in answer.read()
    refused = begin("10.0.0.1")
    refused.send(body)
    answer = refused.getresponse()
    assert answer.status == 429 and b'"too_many_uploads"' in answer.read()
    slow.send(body[1000:])
    assert slow.getresponse().status == 200


@pytest.mark.slow
def test_serve_answers_when_more_sockets_are_silent_than_its_soft_limit_allows(start):
    _, host, port = start(files=256)
    with ExitStack() as idle:
        for _ in range(400):
            idle.enter_context(socket.create_connection((host, port), timeout=60))
        connection = http.client.HTTPConnection(host, port, timeout=20)
        connection.request("GET", "/v1/health")
        assert connection.getresponse().status == 200


def test_serve_says_what_to_install_when_the_extra_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else name)
    assert main(["serve", "--run", "nowhere"]) == 2
    assert capsys.readouterr().err == (
        "kryptonite serve: the service needs uvicorn: pip install 'kryptonite[serve]'\n"
    )


def test_serve_names_the_address_when_it_is_taken(served_run, capsys):
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        call = ["serve", "--run", str(served_run), "--device", "cpu", "--port", port]
        assert main(call) == 2
    assert "in use" in capsys.readouterr().err


@pytest.mark.parametrize("uvicorn_returns", [False, True])
def test_serve_ends_with_2_and_one_line_when_it_cannot_start(
    served_run, monkeypatch, capfd, uvicorn_returns
):
    def warm_up(self):
        raise RuntimeError("no memory\nleft")

    run = uvicorn.Server.run

    def run_as_before(self, sockets):
        """Returns where the start failed, as uvicorn did before it exited with 3."""
        with suppress(SystemExit):
            run(self, sockets)

    monkeypatch.setattr(Worker, "warm_up", warm_up)
    if uvicorn_returns:
        monkeypatch.setattr(uvicorn.Server, "run", run_as_before)
    assert main(["serve", "--run", str(served_run), "--device", "cpu", "--port", "0"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if "torch on cpu" not in line] == [
        "kryptonite serve: the service could not start: RuntimeError: no memory left"
    ]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--megapixels", "0", "megapixels must be above 0"),
        ("--megapixels", "100.5", "megapixels must be at most 100, "),
        ("--answer_seconds", "inf", "answer_seconds must be above 0 and finite"),
        ("--port", "65536", "port 65536: must be from 0 to 65535"),
        ("--api_key_file", "empty", "holds no API key"),
        ("--api_key_file", "gone", "gone: No such file"),
        ("--api_key_file", "binary", "binary: holds no API key: it is not UTF-8 text"),
    ],
)
def test_serve_refuses_wrong_options(tmp_path, monkeypatch, capsys, option, value, says):
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("\n")
    Path("binary").write_bytes(b"\xff\xfekey")
    assert main(["serve", "--run", "nowhere", option, value]) == 2
    assert says in capsys.readouterr().err


def test_read_key_takes_one_of_file_and_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(serve.KEY_VARIABLE, raising=False)
    file = tmp_path / "key"
    file.write_text("from file\n")
    assert serve.read_key(None) == "" and serve.read_key(str(file)) == "from file"
    monkeypatch.setenv(serve.KEY_VARIABLE, "from environment")
    assert serve.read_key(None) == "from environment"
    with pytest.raises(serve.ConfigError, match="give one of them"):
        serve.read_key(str(file))
