"""The table "lecture by lecture" of examples/README.md: which script, operation and exercise belong to an idea.

The idea of each row is explained in docs/lectures, in the section of the same name.
"""

from __future__ import annotations

import ast
import posixpath
import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from .pages import ROOT

FOLDER, TITLE = "examples", "Lecture by lecture, slide by slide"
LINKED = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)#?([^)\s]*)\)")


class Link(NamedTuple):
    """A link of the table. file: relative to ROOT."""

    text: str
    file: str
    anchor: str

    @property
    def target(self) -> str:
        return f"{self.file}#{self.anchor}" if self.anchor else self.file


@dataclass(frozen=True)
class Row:
    """An idea of a lecture and what belongs to it."""

    lecture: int
    idea: str
    text: Link  # the section that explains the idea
    scripts: list[Link]
    operations: list[Link]
    exercises: list[Link]
    documents: list[Link]


@dataclass(frozen=True)
class Lecture:
    """A lecture: its heading and rows in the table, its text in docs/lectures."""

    number: int
    title: str
    rows: list[Row]

    @property
    def file(self) -> str:
        return f"docs/lectures/{self.number}.md"

    @cached_property
    def sections(self) -> dict[str, str]:
        """Heading -> text; the introduction has the heading "", the title "# ..." is left out."""
        start, *others = (ROOT / self.file).read_text(encoding="utf-8").split("\n## ")
        pairs = (section.partition("\n")[::2] for section in others)
        return {"": start.partition("\n")[2].strip(), **{heading.strip(): text.strip() for heading, text in pairs}}


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def heading(link: Link) -> str:
    """The heading of a document that a link leads to; without an anchor, the first one. Of a script, its title.

    Raises KeyError if the document has no such heading.
    """
    text = (ROOT / link.file).read_text(encoding="utf-8")
    if link.file.endswith(".py"):
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].rstrip(".")
    lines = re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines()
    headings = [line.lstrip("# ") for line in lines if line.startswith("#")]
    return {slug(h): h for h in headings}[link.anchor] if link.anchor else headings[0]


def lectures_of_table() -> list[Lecture]:
    """The lectures in the order of the table."""
    _, _, table = (ROOT / FOLDER / "README.md").read_text(encoding="utf-8").partition(f"\n## {TITLE}\n")
    found = []
    for part in table.partition("\n## ")[0].split("\n### ")[1:]:
        title = part.partition("\n")[0]
        number = int(re.match(r"Lecture (\d+)", title)[1])
        cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in part.splitlines() if line.startswith("|")][2:]
        found.append(Lecture(number, title, [_row(number, [_links(cell) for cell in row]) for row in cells]))
    return found


def _row(number: int, cells: list[list[Link]]) -> Row:
    (text,), *others = cells
    return Row(number, text.text, text, *others)


def _links(cell: str) -> list[Link]:
    return [
        Link(text, posixpath.normpath(posixpath.join(FOLDER, target)), anchor)
        for text, target, anchor in LINKED.findall(cell)
    ]
