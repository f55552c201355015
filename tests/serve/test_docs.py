"""docs/service.md is true: its requests are answered, its tables are complete."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from kryptonite.inference.verdict import REASONS, REASONS_OF_GATE
from kryptonite.serve.errors import CODES
from tests.serve.curl import parse_curl

PAGE = (Path(__file__).parents[2] / "docs/service.md").read_text(encoding="utf-8")
CALLS = re.findall(r"^curl .+$", PAGE, re.MULTILINE)
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path, photos, monkeypatch):
    """Photos as the page calls them, in the working folder."""
    for name, photo in zip("abc", photos, strict=False):
        (tmp_path / f"{name}.jpg").write_bytes(photo)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", CALLS)
def test_service_answers_the_command_of_the_page(make_client, served_gate, folder, command):
    method, path, files, fields = parse_curl(command)
    contents = [(name, Path(file).read_bytes()) for name, file in files]
    client = make_client(gate=served_gate)
    answer = client.request(method, path, files=contents or None, data=fields or None)
    assert answer.status_code == 200, answer.text


def test_service_answers_the_python_example(client, folder, monkeypatch, capsys):
    monkeypatch.setattr(httpx, "post", lambda url, **body: client.post(urlsplit(url).path, **body))
    assert len(EXAMPLES) == 1
    exec(EXAMPLES[0], {})
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"True accepted|False refused: .+", first)
    assert re.fullmatch(r"(True|False) -?[\d.]+ \{'recognition': .+\}", second)


def test_page_lists_every_code():
    assert set(re.findall(r"`(\w+)`", PAGE)) >= {*REASONS, *REASONS_OF_GATE, *CODES}
    statuses = {}
    for row in re.findall(r"^\| ([\d, ]+\d).* \| (`.+) \|$", PAGE, re.MULTILINE):
        for code in re.findall(r"`(\w+)`", row[1]):
            statuses[code] = {int(status) for status in row[0].split(", ")}
    assert statuses.keys() == CODES.keys()
    for code, (status, _) in CODES.items():
        assert status in statuses[code], code


def test_page_lists_every_address_that_answers(client):
    listed = set(re.findall(r"(/[\w./-]+)", PAGE))
    documented = {path for path in client.get("/openapi.json").json()["paths"] if "{" not in path}
    assert documented <= listed
