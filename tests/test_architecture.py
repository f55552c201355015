"""Imports between the parts of the package point one way; see docs/architecture.md."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("kryptonite", "detection", "recognition", "liveness", "fusion")

# What each part may import. `core` imports no other part, the two branches do not know each other,
# fusion sees only arrays, and only `inference` and what builds on it joins the trained parts.
ALLOWED = {
    "core": set(),
    "metrics": {"core"},
    "data": {"core", "metrics"},
    "detection": {"core"},
    "nn": {"core", "metrics"},
    "recognition": {"core", "metrics", "data", "detection", "nn"},
    "liveness": {"core", "metrics", "data", "detection", "nn"},
    "fusion": {"core", "metrics"},
    "report": {"core", "metrics"},
}
_BRANCHES = {"detection", "nn", "recognition", "liveness", "fusion"}
ALLOWED["inference"] = {"core", "metrics", "data"} | _BRANCHES
ALLOWED["runs"] = ALLOWED["inference"] | {"inference", "report"}
ALLOWED["robustness"] = ALLOWED["runs"] | {"runs"}
ALLOWED["serve"] = {"core", "metrics", "data", "nn", "fusion", "inference", "report", "runs"}
ALLOWED["cli"] = ALLOWED["robustness"] | {"robustness", "serve"}

# Parts that join the others.
JOINING = {"inference", "runs", "robustness", "serve", "cli"}

# Single imports beyond `ALLOWED`, each with its reason.
EXCEPTIONS = {
    # The demo's face generator comes from a pip package; its weights are read like all others.
    ("kryptonite.data.demo", "kryptonite.nn.weights"),
    # A training's fingerprint names photos by their content, which is part of the crop cache's key.
    ("kryptonite.nn.train.fingerprints", "kryptonite.detection.cache"),
}


@cache
def modules() -> dict[str, ast.Module]:
    """Syntax trees of all modules, by their names."""
    trees = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            parts = [*path.relative_to(ROOT).with_suffix("").parts]
            if parts[0] != "kryptonite":
                parts.insert(0, "kryptonite")
            if parts[-1] == "__init__":
                parts.pop()
            trees[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


def imported_names(module: str) -> Iterator[tuple[str, str]]:
    """Module and name of each of the package's own imports; the name is empty for `import x`.

    Imports inside functions and for type checkers count as well.
    """
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            pairs = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            pairs = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        yield from (pair for pair in pairs if pair[0].split(".")[0] == "kryptonite")


def imported_modules(module: str) -> set[str]:
    """The package's own modules that a module imports."""
    return {
        f"{source}.{name}" if f"{source}.{name}" in modules() else source
        for source, name in imported_names(module)
    }


def part_of(module: str) -> str:
    """The part a module belongs to; empty for the package's root."""
    return [*module.split("."), ""][1]


def forbidden_imports(part: str) -> set[tuple[str, str]]:
    """Imports of a part's modules that `ALLOWED` does not cover."""
    return {
        (module, target)
        for module in modules()
        if part_of(module) == part
        for target in imported_modules(module)
        if part_of(target) not in ALLOWED[part] | {part, ""}
    }


def test_modules_belong_to_a_known_part():
    assert {part_of(module) for module in modules()} == {*ALLOWED, "", "__main__"}


@pytest.mark.parametrize("part", ALLOWED)
def test_part_imports_only_allowed_parts(part):
    assert not forbidden_imports(part) - EXCEPTIONS


def test_exceptions_are_all_in_use():
    assert set().union(*(forbidden_imports(part) for part in ALLOWED)) >= EXCEPTIONS


@pytest.mark.parametrize(
    ("part", "others"),
    [
        ("core", set(ALLOWED) - {"core"}),
        ("recognition", {"liveness"}),
        ("liveness", {"recognition"}),
        ("fusion", set(ALLOWED) - {"fusion", "core", "metrics"}),
        *((part, JOINING) for part in ALLOWED if part not in JOINING),
    ],
)
def test_part_never_imports(part, others):
    """Holds whatever `EXCEPTIONS` lists."""
    targets = {
        target
        for module in modules()
        if part_of(module) == part
        for target in imported_modules(module)
    }
    assert not {part_of(target) for target in targets} & others


def test_modules_form_no_import_cycle():
    # The root resolves its attributes lazily, so importing it imports no part.
    graph = {module: imported_modules(module) - {"kryptonite"} for module in modules()}
    graph.pop("kryptonite")
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_modules_import_no_private_names_from_each_other():
    private = {
        (module, f"{source}.{name}")
        for module in modules()
        for source, name in imported_names(module)
        if any(part.startswith("_") for part in [*source.split("."), name])
    }
    assert not private


def test_packages_do_not_re_export_functions_under_the_names_of_their_modules():
    for module, tree in modules().items():
        defined = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert not {name for name in defined if f"{module}.{name}" in modules()}, module
