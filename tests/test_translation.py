"""README.ru.md says what README.md says: the same sections, commands, figures and links."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*%?")
LANGUAGES = {"README.md", "README.ru.md"}  # each links to the other


def sections(name):
    """A page by its headings; the text before the first is under the title."""
    text = (ROOT / name).read_text(encoding="utf-8")
    code = dict(enumerate(FENCE.findall(text)))
    marked = iter(code)
    plain = FENCE.sub(lambda match: f"@code{next(marked)}@", text)
    parts = re.split(r"^(#+) .+$", plain, flags=re.MULTILINE)
    return code, list(zip(parts[1::2], parts[2::2], strict=True))


ENGLISH, RUSSIAN = sections("README.md"), sections("README.ru.md")
PAIRS = list(zip(ENGLISH[1], RUSSIAN[1], strict=True))


def test_translation_has_the_same_sections():
    assert [level for level, _ in ENGLISH[1]] == [level for level, _ in RUSSIAN[1]]


def test_translation_has_the_same_code():
    def commands(code):
        return [
            (language, [re.sub(r"\s+# .*", "", line) for line in block.splitlines()])
            for language, block in code.values()
        ]

    assert commands(RUSSIAN[0]) == commands(ENGLISH[0])


@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_translation_has_the_same_figures_links_and_names(number):
    def facts(text):
        prose = re.sub(r"@code\d+@|\]\([^)]+\)", "", text)
        figures = sorted(each.replace(",", ".") for each in NUMBER.findall(prose))
        links = set(re.findall(r"\]\(([^)]+)\)", text)) - LANGUAGES
        return figures, links, set(re.findall(r"`[^`]+`", text))

    (_, english), (_, russian) = PAIRS[number]
    assert facts(russian) == facts(english)


def test_translation_has_the_same_tables_with_the_figures_in_the_same_cells():
    def tables(pages):
        rows = re.findall(r"^\|(.+)\|$", "".join(text for _, text in pages), re.MULTILINE)
        return [[NUMBER.findall(cell.replace(",", ".")) for cell in row.split("|")] for row in rows]

    assert tables(RUSSIAN[1]) == tables(ENGLISH[1])


def test_translation_is_russian():
    for _, text in RUSSIAN[1]:
        letters = re.findall(r"[a-zа-яё]", re.sub(r"`[^`]+`|\]\([^)]+\)|@code\d+@", "", text))
        assert sum(letter > "z" for letter in letters) > 0.6 * len(letters), text
