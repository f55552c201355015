"""The README's commands exist as written, its links lead somewhere, and its Python runs."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from jsonargparse import auto_cli

from kryptonite.runs.config import RunConfig
from tests.tiny import write_run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for language, block in BLOCKS
    if language != "python"
    for line in block.splitlines()
]
INLINE = re.findall(r"`(python [^`]+|make [^`]+)`", README)


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            c
            for c in [*COMMANDS, *INLINE]
            if c.startswith(("python ", "make ", "benchmarks/", "torchrun "))
        }
    ),
)
def test_a_command_names_what_is_there(command):
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = ["python", *words[words.index("train.py") :]]
    if words[0] == "make":
        assert (
            subprocess.run(
                ["make", "--dry-run", *words[1:2]], cwd=ROOT, capture_output=True
            ).returncode
            == 0
        )
        return
    if words[0].startswith("benchmarks/"):
        assert (ROOT / words[0]).exists()
        return
    if words[1] == "-m":
        assert (ROOT / (words[2].replace(".", "/") + ".py")).exists()
        return
    assert (ROOT / words[1]).exists()
    if words[1] == "train.py" and "--help" not in words and "--print_config" not in words:
        config = [] if "--config" in words else ["--config", str(ROOT / "configs/default.yaml")]
        assert auto_cli(RunConfig, as_positional=False, args=[*config, *words[2:]])
    else:
        text = (ROOT / words[1]).read_text(encoding="utf-8")
        for flag in (
            word
            for word in words[2:]
            if word.startswith("--")
            and "." not in word
            and word not in ("--help", "--print_config")
        ):
            assert flag in text


def test_links_and_pictures_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    rooms = re.findall(r"^\| `([a-z]+/)`", README, re.MULTILINE)
    for path in [*rooms, *re.findall(r"`([a-z_]+\.py|configs/[\w-]+\.yaml)`", README)]:
        assert (ROOT / path).exists(), path
    assert len(rooms) > 8


def test_every_requirement_has_its_reason():
    table = README[README.index("| dependency | why |") :].split("\n\n")[0]
    for name in (
        "requirements.txt",
        "requirements-dev.txt",
        "requirements-demo.txt",
        "requirements-ray.txt",
    ):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            package = re.match(r"[\w-]+", line)
            if package:
                assert package[0] in table, (
                    f"{package[0]} of {name} has no line in the README's table"
                )


def test_the_python_example_runs(tmp_path, faces, save, monkeypatch, capsys):
    write_run(tmp_path / "runs/default")
    for name, face in zip("ab", faces, strict=False):
        save(tmp_path / f"{name}.jpg", face)
    monkeypatch.chdir(tmp_path)
    for language, block in BLOCKS:
        if language == "python":
            exec(block, {})
    assert capsys.readouterr().out.startswith(("True", "False"))
