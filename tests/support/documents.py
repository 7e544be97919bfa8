"""The project's documents: their sections, fenced blocks and tables."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.basics import ROOT

CHANGELOG = ROOT / "CHANGELOG.md"
DOCUMENTS = sorted([*ROOT.glob("[A-Z]*.md"), *ROOT.glob("[a-z]*/README.md"), *ROOT.glob("tests/bench/*.md")])


def section(document: Path, heading: str) -> str:
    """The text below a heading, up to the next heading of the same or a higher level."""
    found: list[str] = []
    level = 0
    for line, fenced in lines(document):
        match = None if fenced else re.match(r"(#+) (.*)", line)
        if match and level and len(match[1]) <= level:
            break
        if match and not level and match[2] == heading:
            level = len(match[1])
        if level:
            found.append(line)
    assert found, f"{document} has no heading {heading!r}"
    return "\n".join(found)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = (line.lstrip("#") for line, fenced in lines(document) if not fenced and line.startswith("#"))
    return {re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def lines(document: Path) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is in a fenced block."""
    fenced = False
    for line in document.read_text().splitlines():
        fenced ^= line.lstrip().startswith("```")
        yield line, fenced


def fences(text: str) -> Iterator[tuple[str, str]]:
    """The info string and the text of each fenced block."""
    for match in re.finditer(r"^ *```([^\n]*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        yield match[1].strip(), match[2]


def code(text: str) -> str:
    """The fenced blocks and the code spans, a line each."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*(block for _, block in fences(text)), *spans])


def table_cells(text: str, column: int) -> list[str]:
    """One column of every table in the text."""
    rows = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [re.split(r"(?<!\\)\|", row)[column].strip() for row in rows]
