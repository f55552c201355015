"""Every benchmark imports, and those that are called answer --help."""

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODULES = sorted(FOLDER.glob("*.py"))
SCRIPTS = sorted(FOLDER.glob("*.sh"))


def test_benchmarks_are_found():
    assert {"throughput", "usual_pipeline"} <= {path.stem for path in MODULES}
    assert "real" in {path.stem for path in SCRIPTS}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_benchmark_answers_help_when_it_has_a_parser(path, monkeypatch, capsys):
    source = path.read_text(encoding="utf-8")
    module = import_module(f"benchmarks.{path.stem}")
    assert hasattr(module, "main") == ("parse_args(" in source)
    if not hasattr(module, "main"):
        return
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0
    output = capsys.readouterr().out
    summary = ast.get_docstring(ast.parse(source)).splitlines()[0]
    assert f"usage: {path.name}" in output and summary in output
    assert f"python -m benchmarks.{path.stem}" in output


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_benchmark_script_fails_with_usage_when_called_without_arguments(path):
    assert os.access(path, os.X_OK)
    done = subprocess.run([path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")
