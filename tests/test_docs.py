"""README.md and docs/ are true: commands parse, links lead somewhere, examples run."""

import argparse
import ast
import os
import re
import runpy
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import jsonargparse
import pytest
from torch.distributed.run import get_args_parser as torchrun_parser

from kryptonite.cli.main import COMMANDS, main
from tests.serve.curl import parse_curl
from tests.tiny import write_gate, write_run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
SCRIPTS = ("train.py", "make_submission.py", "eer.py")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
CALL = re.compile(r"(python|make|pip|curl|torchrun|kryptonite|[a-z_]+\.py|benchmarks/\w+\.sh) .+")
SECTION = re.compile(r"(recognition|comparison|liveness|fusion|aligner|data)\.[a-z_][a-z_.]*")
# Options of other people's programs that are named without a call of theirs.
FOREIGN_OPTIONS = {"--no-deps"}


def blocks(path: Path, language: str) -> list[str]:
    return [block for name, block in FENCE.findall(TEXTS[path]) if name == language]


def inline_code(path: Path) -> list[str]:
    return INLINE.findall(FENCE.sub("", TEXTS[path]))


def calls(path: Path) -> set[str]:
    """Every command that a page calls, in a block or in a sentence."""
    lines = [line for block in blocks(path, "bash") for line in block.splitlines() if line.strip()]
    return {
        *(line.split("#")[0].strip() for line in lines),
        *filter(CALL.fullmatch, inline_code(path)),
    }


class Parsed(Exception):
    """Stops a command once its options are parsed."""


def call(words: list[str]) -> None:
    """Runs a command of this project."""
    if words[0] == "kryptonite":
        main(words[1:])
        return
    sys.argv = words[1:]
    if words[1] == "-m":
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(str(ROOT / words[1]), run_name="__main__")


def stop_parsing(monkeypatch, *, before: bool = False) -> list[argparse.ArgumentParser]:
    """Lets the next command end in `Parsed`, and gives the list that its parser will be put in."""
    parsers = []

    def stopping(parse):
        def parse_args(self, *args, **kwargs):
            outermost = not parsers
            parsers.append(self)
            if not before:
                parse(self, *args, **kwargs)
            if outermost:
                raise Parsed
            return parse(self, *args, **kwargs)

        return parse_args

    for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
        monkeypatch.setattr(parser, "parse_args", stopping(parser.parse_args))
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.chdir(ROOT)
    return parsers


@cache
def options(command: str) -> frozenset[str]:
    """Option strings that a command's own parser knows."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        parsers = stop_parsing(monkeypatch, before=True)
        with pytest.raises(Parsed):
            call(["kryptonite", command])
    return frozenset(parsers[0]._option_string_actions)


@pytest.mark.parametrize("command", sorted(set().union(*map(calls, PAGES))))
def test_docs_call_parses(command, monkeypatch):
    words = shlex.split(command)
    if words[0].endswith(".py"):
        words = ["python", *words]
    if words[0] == "torchrun":
        launch = torchrun_parser().parse_args(words[1:])
        words = ["python", launch.training_script, *launch.training_script_args]
    if words[0] == "make":
        dry = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True)
        assert dry.returncode == 0, dry.stderr
    elif words[0] == "pip":
        assert words[1] == "install"
        for word in words[2:]:
            name, _, extras = word.rstrip("]").partition("[")
            assert name in ("-r", "-e", "--no-deps") or (ROOT / name).exists(), word
            assert set(filter(None, extras.split(","))) <= set(project()["optional-dependencies"])
    elif words[0] == "curl":
        parse_curl(command)  # tests/serve/test_docs.py sends it
    elif words[0].endswith(".sh"):
        assert os.access(ROOT / words[0], os.X_OK)
        assert subprocess.run(["bash", "-n", words[0]], cwd=ROOT).returncode == 0
    elif words[:2] == ["python", "-m"] and is_benchmark_without_parser(words[2]):
        assert not words[3:] or "sys.argv" in module_text(words[2]), "takes no arguments"
    else:
        assert words[0] == "kryptonite" or words[1] in (*SCRIPTS, "-m"), "unknown program"
        parsers = stop_parsing(monkeypatch)
        ends = SystemExit if {"--help", "--print_config"} & set(words) else Parsed
        with pytest.raises(ends) as end:
            call(words)
        assert ends is Parsed or end.value.code in (0, None)
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= set(parsers[0]._option_string_actions), "abbreviated"


def module_text(name: str) -> str:
    path = ROOT / name.replace(".", "/")
    source = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    return source.read_text(encoding="utf-8")


def is_benchmark_without_parser(name: str) -> bool:
    """Whether calling the module would start to measure instead of parsing options."""
    return name.startswith("benchmarks.") and "parse_args(" not in module_text(name)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_docs_option_exists_when_named_alone(path):
    known = FOREIGN_OPTIONS.union(*map(options, COMMANDS), torchrun_parser()._option_string_actions)
    for code in inline_code(path):
        if code.startswith("--") and "…" not in code:
            for word in code.split():
                assert word in known or not word.startswith("--"), code
        elif SECTION.fullmatch(code.split()[0]) and not code.endswith(".json"):
            assert "--" + code.split()[0] in options("train"), code


def test_readme_shows_every_command():
    shown = {shlex.split(call)[1] for call in calls(PAGES[0]) if call.startswith("kryptonite ")}
    assert shown >= set(COMMANDS)
    assert {f"python {script}" for script in SCRIPTS} <= {
        " ".join(call.split()[:2]) for call in calls(PAGES[0])
    }


def test_readme_is_short():
    assert len(TEXTS[PAGES[0]].splitlines()) <= 150


def test_readme_links_to_every_page():
    for path in PAGES[1:]:
        assert f"](docs/{path.name})" in TEXTS[PAGES[0]], path.name


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_docs_link_leads_to_a_file_and_a_heading(path):
    for link in re.findall(r"\]\(([^)]+)\)", TEXTS[path]):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor:
            text = FENCE.sub("", target.read_text(encoding="utf-8"))
            assert anchor in map(slug, re.findall(r"^#+ (.+)$", text, re.MULTILINE)), link


def test_docs_pictures_are_all_shown():
    shown = {name for text in TEXTS.values() for name in re.findall(r"!\[.+\]\((.+)\)", text)}
    pictures = {path.name for path in (ROOT / "docs").glob("*.png")}
    assert {Path(name).name for name in shown} == pictures


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_docs_file_exists_when_named(path):
    pattern = re.compile(r"(benchmarks/|configs/|tests/)[\w./-]+|requirements[\w-]*\.txt")
    for code in inline_code(path):
        if code in SCRIPTS or pattern.fullmatch(code):
            assert (ROOT / code).exists(), code


def table(name: str, header: str) -> list[list[str]]:
    """Cells of a table of a page in docs/, by the start of its header, without the header."""
    text = TEXTS[ROOT / "docs" / name]
    lines = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def folder_of(room: str) -> Path:
    return ROOT / room.strip("`")


def imported_rooms(folder: Path) -> set[str]:
    """Rooms that a folder's modules import, by the last part of their names."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kryptonite."):
                found.add(node.module.split(".")[1])
            elif isinstance(node, ast.ImportFrom) and node.module == "kryptonite":
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                names = [alias.name.split(".") for alias in node.names]
                found |= {parts[1] for parts in names if parts[0] == "kryptonite" and parts[1:]}
    return found - {folder.name}


def test_architecture_lists_every_room_and_no_other():
    listed = {folder_of(row[0]) for row in table("architecture.md", "| room |")}
    packages = {path.parent for path in (ROOT / "kryptonite").glob("*/__init__.py")}
    at_root = {path.parent for path in ROOT.glob("*/__init__.py")} - {
        ROOT / name for name in ("kryptonite", "configs", "tests", "benchmarks")
    }
    assert listed == packages | at_root
    for row in table("architecture.md", "| elsewhere |"):
        for name in INLINE.findall(row[0]):
            assert (ROOT / name).exists(), name
    for row in table("architecture.md", "| room |"):
        for name in re.findall(r"`([\w/]+/)`", row[1]):
            assert any((base / name).is_dir() for base in (ROOT, ROOT / "kryptonite")), name


def test_architecture_arrows_are_those_of_the_imports():
    above = set()
    for room, _, listed in table("architecture.md", "| room |"):
        folder = folder_of(room)
        allowed = above if listed == "every room" else set(re.findall(r"\w+", listed)) - {"–"}
        assert allowed <= above, f"{room} comes before what it imports"
        assert imported_rooms(folder) <= allowed, room
        above.add(folder.name)


def package_of(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower()


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements() -> set[str]:
    """Names of everything that pyproject.toml and requirements*.txt install."""
    extras = project()["optional-dependencies"].values()
    found = [*project()["dependencies"], *(line for extra in extras for line in extra)]
    for path in ROOT.glob("requirements*.txt"):
        lines = path.read_text(encoding="utf-8").splitlines()
        found += [line for line in lines if line.strip() and not line.startswith(("#", "-"))]
    return {package_of(line) for line in found} - {project()["name"]}


def test_contributing_gives_a_reason_for_every_dependency():
    rows = table("contributing.md", "| dependency | why |")
    names = [row[0].lower() for row in rows]
    assert len(names) == len(set(names))
    assert set(names) == requirements()
    assert all(len(row[1]) >= 5 for row in rows)


# Examples of the service need one; tests/serve/test_docs.py runs them.
PYTHON_PAGES = [path for path in PAGES if blocks(path, "python") and path.stem != "service"]


@pytest.mark.parametrize("path", PYTHON_PAGES, ids=lambda path: path.stem)
def test_docs_python_example_runs(path, tmp_path, faces, save, monkeypatch, capsys):
    write_gate(tmp_path / "gate.json", write_run(tmp_path / "runs/demo"))
    write_run(tmp_path / "runs/default")
    for name, face in zip(("a", "b", "c", "probe"), faces, strict=False):
        save(tmp_path / f"{name}.jpg", face)
    monkeypatch.chdir(tmp_path)
    for block in blocks(path, "python"):
        exec(block, {})
        assert re.match(r"Verification\(score=.+accepted=|(True|False) ", capsys.readouterr().out)
