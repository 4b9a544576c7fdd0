r"""Formulas of the documents: GitHub and the site read them alike, and MathJax draws each of them.

GitHub takes Markdown's signs out of a formula before it draws it: `\,` and `\{` lose their backslash, `*` and `<` may
begin something else. So formulas do without them: `\quad`, `\lbrace`, `\cdot`, `\lt`.
"""

from __future__ import annotations

import html
import re

import pytest
from browser import PAPER, read
from processes import ROOT
from prose import documents, tokens

MATHJAX = ROOT / "docs/book/mathjax/tex-svg.js"
TRAPS = re.compile(r"(?<!\\)\\[^a-zA-Z\\]|[<*]|\]\(|\\\\(?!\n)")
# As wide as the text of the site. Typeset when the test asks for it, and an unknown command is an error.
HEAD = """<!doctype html><meta charset='utf-8'><style>body { margin: 0 16px; font-family: sans-serif; }</style>
<script>MathJax = {startup: {typeset: false}, tex: {packages: {"[-]": ["noundefined"]}}}</script>
<script src='MATHJAX'></script>""".replace("MATHJAX", MATHJAX.as_uri())
ERRORS = """return [...document.querySelectorAll("[data-mjx-error]")].map((e) => e.dataset.mjxError);"""
WIDE = """return [...document.querySelectorAll("p")].filter((p) => p.scrollWidth > p.clientWidth).map((p) => p.id);"""


def formulas(text):
    """(line, TeX, stands alone) of each formula."""
    for token in tokens(text):
        if token.type == "math_block":
            yield token.map[0] + 1, token.content, True
        for child in token.children or []:
            if child.type.startswith("math_inline"):
                yield token.map[0] + 1, child.content, False


def math_problems(text):
    """What GitHub and MyST would read in different ways, a line for each."""
    problems, parsed, lines = [], tokens(text), text.splitlines()
    blocks = [range(*token.map) for token in parsed if token.type == "math_block"]
    code = {line for token in parsed if token.type in ("fence", "code_block") for line in range(*token.map)}
    ends = {line for block in blocks for line in (block[0], block[-1])}
    problems += [
        f"{line + 1}: $$ stands alone on its line, before and after a formula"
        for line, words in enumerate(lines)
        if "$$" in words and line not in code and (words != "$$" or line not in ends)
    ]
    for block in blocks:
        around = [lines[i] for i in (block[0] - 1, block[-1] + 1) if 0 <= i < len(lines)]
        problems += [f"{block[0] + 1}: a formula needs an empty line before and after it"] * any(around)
    for token in parsed:
        if any(child.type == "text" and "$" in child.content for child in token.children or []):
            problems.append(f"{token.map[0] + 1}: a $ without a partner")
    return problems + [f"{line}: {trap[0]!r}" for line, tex, _ in formulas(text) if (trap := TRAPS.search(tex))]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_github_and_the_site_read_the_same_formulas(document):
    assert math_problems(document.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    ["a\n$$\nx\n$$\n", "$$\nx\n$$\nb", "$$ x $$", "$$\nx", "a $x", r"$\{x\}$", "$a * b$", "$a < b$", r"$a \\ b$"],
)
def test_mistakes_are_noticed(text):
    assert math_problems(text)


def problems_of_mathjax(open_page, folder, found):
    """What is wrong with (place, TeX, stands alone) on paper: an error, or a formula that is too wide."""
    signs = {True: (r"\[", r"\]"), False: (r"\(", r"\)")}
    body = "".join(f"<p id='{place}'>{signs[d][0]}{html.escape(tex)}{signs[d][1]}</p>" for place, tex, d in found)
    (folder / "all.html").write_text(HEAD + body, encoding="utf-8")
    page = open_page(folder / "all.html", width=PAPER)
    page.evaluate("() => MathJax.startup.promise.then(() => MathJax.typesetPromise()).then(() => 0)")
    assert page.locator("mjx-container").count() == len(found)
    return read(page, ERRORS) + read(page, WIDE)


@pytest.mark.slow
def test_mathjax_draws_every_formula(open_page, tmp_path):
    found = []
    for document in documents():
        name = document.relative_to(ROOT).as_posix()
        found += [(f"{name}:{line}", *rest) for line, *rest in formulas(document.read_text(encoding="utf-8"))]
    assert found
    assert problems_of_mathjax(open_page, tmp_path, found) == []


@pytest.mark.slow
@pytest.mark.parametrize("tex", [r"\frac{1}", r"\nosuchcommand x", r"\begin{aligned} x", "x + " * 60 + "x"])
def test_mistakes_are_noticed_by_mathjax(tex, open_page, tmp_path):
    assert problems_of_mathjax(open_page, tmp_path, [("here", tex, True)])
