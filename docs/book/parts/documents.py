"""The documents, as they are; the glossary becomes one of Sphinx's, so that each term has an anchor."""

from __future__ import annotations

import re

from .pages import ROOT, Site

TERM = re.compile(r"^- \*\*(.+?)\*\*: (.+)$", re.MULTILINE)
LIST = re.compile(r"^- \*\*.+(?:\n- \*\*.+)*$", re.MULTILINE)


def documents(site: Site) -> None:
    """The documents, the pages of the first hour among them; README.md is the page `one_page`."""
    for path in sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs/start").glob("*.md")]):
        file = path.relative_to(ROOT).as_posix()
        site.add(file.removeprefix("docs/").removesuffix(".md"), path.read_text(encoding="utf-8"), file)
    for path in (ROOT / "docs/start").glob("*.py"):  # Sphinx-Gallery makes a page of each
        site.page_of[path.relative_to(ROOT).as_posix()] = f"start/{path.stem}"
    site.page_of["docs/start"] = "start/index"
    site.pages["glossary"] = glossary(site.pages["glossary"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    site.add("one_page", readme.replace("# tinynet\n", "# tinynet in one page\n", 1), "README.md")
    site.add("contributing", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "CONTRIBUTING.md")


def glossary(text: str) -> str:
    """Each list of `- **term, other name**: what it means` as a directive; a term's anchor is `#term-` and its name."""

    def entry(match: re.Match) -> str:
        return "\n".join([*match[1].split(", "), f"  {match[2]}\n"])

    return LIST.sub(lambda terms: ":::{glossary}\n" + TERM.sub(entry, terms[0]) + "\n:::", text)
