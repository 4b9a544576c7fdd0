"""Links between the files of the project lead somewhere; the pages to touch load nothing from outside."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it.token import Token
from mdit_py_plugins.anchors.index import slugify
from processes import ROOT
from prose import documents, tokens

from tinynet.tools.examples import examples_folder, find_examples

PAGES = sorted((ROOT / "docs/pages").glob("*.html"))
PATH = re.compile(r"(?<![\w./*<>-])(?:docs|examples|tests|tinynet)/[\w./-]+\.(?:md|py|html|png|json|csv|cuh?|npz)\b")


class Elements(HTMLParser):
    """Of an HTML text: `links` in href and src, `loaded` (those not in <a>), and `names` in id and name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.reads_names = "location.hash" in text
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for key, value in attributes:
            if value and key in ("href", "src", "poster", "data"):
                self.links.append(value)
                self.loaded += [value] if tag != "a" else []
            elif value and key in ("id", "name"):
                self.names.add(value)

    def has(self, name: str) -> bool:
        """True for the name of an element, and in a page whose program reads what follows `#`."""
        return not name or name in self.names or self.reads_names


def inline(text: str) -> Iterator[Token]:
    """Links, images, code and HTML inside of paragraphs, headings and tables."""
    for token in tokens(text):
        yield from token.children or ()
        if token.type == "html_block":
            yield token


def links_of(text: str) -> list[str]:
    found = []
    for token in inline(text):
        found += [str(token.attrGet(key)) for key in ("href", "src") if token.attrGet(key)]
        if token.type.startswith("html"):
            found += Elements(token.content).links
    return found


def anchors_of(document: Path) -> set[str]:
    """The names of a document's headings, as code hosts make them."""
    listed = tokens(document.read_text(encoding="utf-8"))
    titles = [after for token, after in itertools.pairwise(listed) if token.type == "heading_open"]
    texts = ("".join(child.content for child in title.children or ()) for title in titles)
    return {slugify(text) for text in texts}


def problems_of(document: Path) -> list[str]:
    """The links of a document that lead nowhere."""
    wrong = []
    for link in links_of(document.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        file = (document.parent / place) if place else document
        if re.match(r"https?://|mailto:", link):
            continue
        if not file.exists() or (anchor and file.suffix == ".md" and unquote(anchor) not in anchors_of(file)):
            wrong.append(link)
    return wrong


def test_links_of_documents_lead_somewhere():
    wrong = {str(document.relative_to(ROOT)): problems_of(document) for document in documents()}
    assert not {document: links for document, links in wrong.items() if links}


def test_wrong_links_are_noticed(tmp_path):
    text = '# A `b`: c\n[1](b.md) [2](#a-b-c) [3](#d) <a href="e.png"></a> ![f](g.png)\n\n`[4](h)`'
    (tmp_path / "a.md").write_text(text)
    assert problems_of(tmp_path / "a.md") == ["b.md", "#d", "e.png", "g.png"]


def test_files_that_documents_mention_exist():
    for document in documents():
        for token in inline(document.read_text(encoding="utf-8")):
            for path in PATH.findall(token.content) if token.type == "code_inline" else ():
                assert (ROOT / path).exists(), f"{document.relative_to(ROOT)}: {path}"


def test_files_that_docstrings_and_messages_mention_exist():
    for file in [*ROOT.glob("tinynet/**/*.py"), *ROOT.glob("examples/**/*.py"), *ROOT.glob("docs/**/*.py")]:
        for path in PATH.findall(file.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{file.relative_to(ROOT)}: {path}"


def test_the_lectures_lead_to_every_script_and_exercise():
    lectures = (ROOT / "examples/README.md").read_text(encoding="utf-8").partition("## Lecture by lecture")[2]
    links = {Path(link).name for link in re.findall(r"\]\(([^)]+)\)", lectures)}
    course = (ROOT / "tinynet/learn/exercises/course").glob("[a-z]*_[0-9]*.py")
    pages = [*(Path(example.path) for example in find_examples(examples_folder())), *course]
    assert {page.name for page in pages} <= links, "the table in examples/README.md lacks some"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_self_contained(page):
    text = page.read_text(encoding="utf-8")
    elements = Elements(text)
    for link in elements.links:
        place, _, anchor = link.partition("#")
        local = link.startswith("data:") or (place and (page.parent / place).exists())
        assert local or (not place and anchor in elements.names), f"{page.name}: {link}"
    assert not re.search(r"@import|url\(['\"]?(?!data:|#)|\bfetch\(|XMLHttpRequest|\bimport\(|\bfrom ['\"]", text)


def site_problems(folder: Path) -> list[str]:
    """Links of a built site that lead to no file or no id, and what it would load from another host."""
    parsed = {file.resolve(): Elements(file.read_text(encoding="utf-8")) for file in folder.rglob("*.html")}
    problems = []
    for page, elements in parsed.items():
        outside = {link for link in elements.loaded if re.match(r"(https?:)?//", link)}
        problems += [f"{page.name} loads {link}" for link in outside]
        for link in {link for link in elements.links if not re.match(r"\w+:|//", link)}:
            place, _, anchor = unquote(link).partition("#")
            file = (page.parent / place.partition("?")[0]).resolve() if place else page
            if not file.exists() or (file in parsed and not parsed[file].has(anchor)):
                problems.append(f"{page.relative_to(folder.resolve())}: {link}")
    for file in folder.rglob("*.css"):
        loaded = re.findall(r"(?:url\(|@import )['\"]?((?:https?:)?//[^'\")]+)", file.read_text(encoding="utf-8"))
        problems += [f"{file.name} loads {link}" for link in loaded]
    return problems


@pytest.mark.slow
def test_the_site_is_complete_and_needs_no_network(built_site):
    problems = site_problems(built_site)
    assert not problems, "\n".join(problems)


def test_problems_of_a_site_are_noticed(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="x"><a href="b.html#y">1</a><a href="b.html#z">2</a><a href="https://a.org">3</a>'
        '<a href="#x">4</a><img src="c.png"><script src="https://a.org/d.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="y">')
    (tmp_path / "e.css").write_text('@import "https://a.org/f.css"')
    expected = {
        "a.html loads https://a.org/d.js",
        "a.html: b.html#z",
        "a.html: c.png",
        "e.css loads https://a.org/f.css",
    }
    assert set(site_problems(tmp_path)) == expected
