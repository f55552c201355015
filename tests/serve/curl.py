"""Reads the commands of curl that the documentation shows."""

import shlex
from typing import NamedTuple
from urllib.parse import urlsplit


class Call(NamedTuple):
    """A request; of each file its field and its name."""

    method: str
    path: str
    files: list[tuple[str, str]]
    fields: dict[str, str]


def parse_curl(command: str) -> Call:
    """Reads `curl [-F NAME=VALUE | -F NAME=@FILE]… [-o FILE] URL`.

    Raises:
        ValueError: The command has other options.
    """
    program, *words = shlex.split(command)
    files: list[tuple[str, str]] = []
    fields: dict[str, str] = {}
    while words and words[0] == "-F":
        name, _, value = words[1].partition("=")
        if value.startswith("@"):
            files.append((name, value[1:]))
        else:
            fields[name] = value
        words = words[2:]
    if words[:1] == ["-o"]:
        words = words[2:]
    if program != "curl" or len(words) != 1 or not words[0].startswith("http://127.0.0.1:8000/"):
        raise ValueError(f"cannot read {command!r}")
    return Call("POST" if files else "GET", urlsplit(words[0]).path, files, fields)
