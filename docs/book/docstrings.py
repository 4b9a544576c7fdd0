"""Sphinx extension: docstrings of tinynet are plain text; here they become reStructuredText.

A paragraph stays a paragraph. A line such as `x: (N, H, W, C), float` begins a new item of a list. An indented block
is shown as it is. `code` is shown as code, and signs that mean something in reStructuredText lose their meaning.
"""

from __future__ import annotations

import re
from typing import Any

ITEM = re.compile(r"[A-Za-z_][\w ,()*.]{0,60}: \S")  # `name: what it is`
SIGNS = re.compile(r"([*|_<>\\])")


def escape(text: str) -> str:
    """The text with its `code` in double backticks, and every other sign as it is."""
    parts = re.split(r"`+([^`]+)`+", text)  # text, code, text, code, ..., text
    result = ""
    for number, part in enumerate(parts):
        after_code = number and number % 2 == 0 and part[:1].isalnum()  # "`step`th": a blank that is not shown
        result += f"``{part}``" if number % 2 else ("\\ " if after_code else "") + SIGNS.sub(r"\\\1", part)
    return result


def blocks(lines: list[str]) -> list[list[str]]:
    """The lines between blank lines."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [block for block in found if block]


def to_rst(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText."""
    result: list[str] = []
    for block in blocks(lines):
        if all(line.startswith("    ") for line in block):
            result += ["::", "", *("    " + line for line in block), ""]
            continue
        paragraphs: list[str] = []
        for line in block:
            starts = not paragraphs or (ITEM.match(line) and not line.startswith(" ")) or line.startswith("- ")
            if starts:
                paragraphs.append(line.strip())
            else:
                paragraphs[-1] += " " + line.strip()
        for text in paragraphs:
            mark = "" if len(paragraphs) == 1 or not (ITEM.match(text) or text.startswith("- ")) else "- "
            result += [mark + escape(text.removeprefix("- ")), ""]
    return result


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_rst(lines)


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
