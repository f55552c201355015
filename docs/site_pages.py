"""Hooks of the documentation site: the pages that do not lie in docs/, and links between the two.

Links are written for a code host, where README.md lies above docs/. The site has all pages in one
folder.
"""

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Pages at the root by their name in the site.
ROOT_PAGES = {
    "README.md": "index.md",
    "README.ru.md": "ru.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
# What the reference shows beside the names that the package exports.
FURTHER = ("kryptonite.runs.load.RunPipeline", "kryptonite.fusion.verifier.Verifier")
_LINK = re.compile(r"(\]\()(\.\./|docs/)?([\w.-]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages at the root and the reference."""
    for source, name in ROOT_PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "reference.md", content=reference()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between docs/ and the root into links within one folder."""

    def moved(match: re.Match[str]) -> str:
        start, folder, name = match.groups()
        at_root = folder == "../" or (page.file.src_uri in ROOT_PAGES.values() and not folder)
        if at_root:
            return start + ROOT_PAGES.get(name, name)
        return start + name if folder else match[0]

    return _LINK.sub(moved, markdown)


def reference() -> str:
    """The API reference: every name that the package exports, from its docstring."""
    tree = ast.parse((ROOT / "kryptonite/__init__.py").read_text(encoding="utf-8"))
    (exported,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    functions = [name for name in exported if name.islower() and name != "errors"]
    classes = [name for name in exported if not name.islower()]
    names = [f"kryptonite.{name}" for name in [*functions, *classes]]
    modules = ["kryptonite.core.errors"]
    shown = "\n\n".join(f"::: {name}" for name in [*names, *FURTHER, *modules])
    return f"# Python API\n\nNames without a path are imported as `kryptonite.NAME`.\n\n{shown}\n"
