"""One list of dependencies, one import root, and a wheel that brings all it needs."""

import email
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import kryptonite

pytestmark = pytest.mark.slow

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, to which pytest brings tomli
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAPPED = PROJECT["tool"]["setuptools"]["package-dir"]


def requirements(name):
    """The requirements in a file, without their hashes."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.split(" --hash=")[0] for line in lines if line and not line.startswith("#")]


def sources():
    """Every file the wheel must hold, by its path in it."""
    found = {}
    for package, folder in MAPPED.items():
        for pattern in ("**/*.py", "**/*.html", "**/page/*", "*.yaml", "py.typed"):
            for path in (ROOT / folder).glob(pattern):
                inside = path.relative_to(ROOT / folder).as_posix()
                found[f"{package.replace('.', '/')}/{inside}"] = path
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what it is made of: setuptools leaves a build folder."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in MAPPED.values():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_requirements_are_those_of_the_package():
    assert requirements("requirements.txt") == PROJECT["project"]["dependencies"]
    for extra in ("demo", "clip"):
        listed = requirements(f"requirements-{extra}.txt")
        assert listed == PROJECT["project"]["optional-dependencies"][extra]


def test_packages_are_all_folders_with_modules():
    found = {
        name.rpartition("/")[0].replace("/", ".") for name in sources() if name.endswith(".py")
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(sources())


def test_wheel_describes_command_and_dependencies(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (scripts,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        (about,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        assert "kryptonite = kryptonite.cli.main:main" in archive.read(scripts).decode()
        metadata = email.message_from_bytes(archive.read(about))
    declared = [re.sub(r"\s", "", line) for line in metadata.get_all("Requires-Dist")]
    wanted = {re.sub(r"[<>=\[].*", "", line) for line in PROJECT["project"]["dependencies"]}
    plain = {re.sub(r"[<>=\[].*", "", line) for line in declared if "extra==" not in line}
    assert plain == wanted and metadata["Requires-Python"] == "<3.13,>=3.10"
    extras = {"clip", "demo", "dev", "docs", "ray", "serve"}
    assert set(metadata.get_all("Provides-Extra")) == extras


def test_wheel_works_from_any_folder_and_claims_one_import_name(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    parts = sorted(PROJECT["tool"]["setuptools"]["packages"])
    code = (
        "import sys\n"
        "from importlib.resources import files\n"
        "from importlib.util import find_spec\n"
        "import kryptonite.configs, kryptonite.detection.faces\n"
        "print(kryptonite.__file__)\n"
        f"print([name for name in {parts} if find_spec(name)])\n"
        "print(sorted(each.name for each in files('kryptonite.configs').iterdir()))\n"
        "print([name for name in sys.argv[1:] if find_spec(name)])"
    )
    environment = {"PYTHONPATH": str(site)}
    command = [
        sys.executable,
        "-c",
        code,
        *(name for name in MAPPED.values() if name != "kryptonite"),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    configs = sorted(path.name for path in (ROOT / "configs").iterdir() if path.is_file())
    expected = [str(site / "kryptonite/__init__.py"), str(parts), str(configs), "[]"]
    lines = done.stdout.replace("'__pycache__', ", "").splitlines()
    assert lines == expected, done.stderr
    command = [sys.executable, "-m", "kryptonite", "eer", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "kryptonite eer" in done.stdout


def test_import_is_quick_and_brings_no_library():
    code = (
        "import sys, time\n"
        "began = time.perf_counter()\n"
        "import kryptonite\n"
        "print(time.perf_counter() - began < 0.2)\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["True", "[]"], done.stderr


def test_package_has_every_name_it_announces():
    for name in kryptonite.__all__:
        assert getattr(kryptonite, name).__name__.endswith(name) and name in dir(kryptonite)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        kryptonite.nonsense  # noqa: B018


LOCK = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))


def test_lock_is_of_the_requirements_that_the_package_declares():
    (package,) = (each for each in LOCK["package"] if each["name"] == "kryptonite")
    locked = {
        (
            each["name"].replace("-", "_"),
            tuple(each.get("extras", ())),
            frozenset(filter(None, each.get("specifier", "").split(","))),
            each.get("marker", "").removeprefix("extra == ").strip("'"),
        )
        for each in package["metadata"]["requires-dist"]
    }
    declared = [(line, "") for line in PROJECT["project"]["dependencies"]]
    for extra, lines in PROJECT["project"]["optional-dependencies"].items():
        declared += [(line, extra) for line in lines]
    wanted = set()
    for line, extra in declared:
        name, extras, specifiers = re.fullmatch(r"([\w.-]+)(?:\[([\w,]+)\])?(.*)", line).groups()
        wanted.add(
            (
                name.replace("-", "_"),
                tuple(filter(None, (extras or "").split(","))),
                frozenset(filter(None, specifiers.split(","))),
                extra,
            )
        )
    assert locked == wanted, "run `uv lock`"
    versions = PROJECT["project"]["requires-python"].split(",")
    assert set(LOCK["requires-python"].split(", ")) == set(versions)


def test_lock_names_the_public_registry_and_a_hash_for_every_file():
    for package in LOCK["package"]:
        if package["name"] == "kryptonite":
            continue
        assert package["source"] == {"registry": "https://pypi.org/simple"}, package["name"]
        files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        assert files
        for file in files:
            assert file["url"].startswith("https://files.pythonhosted.org/packages/")
            assert re.fullmatch("sha256:[0-9a-f]{64}", file["hash"])
            assert "+" not in file["url"], "a local build"
