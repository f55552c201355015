"""CITATION.cff, CHANGELOG.md and the pages at the root agree with the package."""

import re
import sys
from pathlib import Path

import pytest
import yaml

import kryptonite
from kryptonite.cli.main import COMMANDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_citation_has_what_its_schema_requires_and_the_package_says():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert all(set(author) == {"name"} for author in citation["authors"])
    assert citation["version"] == kryptonite.__version__
    assert f'license = "{citation["license"]}"' in read("pyproject.toml")
    assert len(set(citation["keywords"])) == len(citation["keywords"])


def test_changelog_keeps_its_form_and_lists_the_version_and_every_command():
    text = read("CHANGELOG.md")
    assert text.startswith("# Changelog\n")
    kinds = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {*kinds}
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[0] == "[Unreleased]"
    assert kryptonite.__version__ in text
    for command in COMMANDS:
        assert re.search(rf"`(kryptonite )?{command}`", text), command


def test_image_is_built_of_every_folder_of_the_package_and_its_context_has_them():
    project = tomllib.loads(read("pyproject.toml"))
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", read("Dockerfile"), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    folders = set(project["tool"]["setuptools"]["package-dir"].values())
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    assert sources == {*folders, *needed, "pyproject.toml", "uv.lock"}
    context = set(read(".dockerignore").splitlines())
    assert context >= {"*", *(f"!{source}" for source in sources)}
    stages = read("Dockerfile").split("\nFROM ")
    assert len(stages) == 3 and "\nUSER kryptonite\n" in stages[-1]
    assert "\nHEALTHCHECK " in stages[-1] and '\nENTRYPOINT ["kryptonite"]\n' in stages[-1]
    assert "kryptonite" in project["project"]["scripts"]


@pytest.mark.parametrize("name", PAGES)
def test_page_links_lead_to_files_and_its_make_targets_exist(name):
    text = read(name)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link.startswith("https://") or (ROOT / link).is_file(), link
    targets = re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE)
    for target in re.findall(r"^make ([\w-]+)", text, re.MULTILINE):
        assert target in targets
