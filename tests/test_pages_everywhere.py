"""Every page of docs/pages: usable by keyboard, on a phone, in the dark, on paper, without a network."""

import re

import pytest
from browser import axe_problems, dark_problems, keyboard_problems, phone_problems, print_problems
from processes import ROOT

PAGES = sorted((ROOT / "docs/pages").glob("*.html"))
LOADS = r"""(?:src|srcset|poster)\s*=\s*["'](?!data:)[^"']+|<link\s|@import|url\((?!["']?data:)"""
CONTENT = "h1, h2, h3, p:not(.keys), figure, svg, canvas, table, pre, ul"
every_page = pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])


def test_there_are_pages():
    assert len(PAGES) >= 5


@every_page
def test_page_is_one_file_that_needs_no_other(path):
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5e6
    assert re.search(r'<html lang="en">', text) and re.search(r"<title>[^<]{10,}</title>", text)
    assert 'name="viewport"' in text
    assert not re.findall(LOADS, text)


@every_page
def test_page_suits_everybody(path, open_page):
    page = open_page(path)
    problems = [*keyboard_problems(page), *axe_problems(page), *dark_problems(page), *phone_problems(page)]
    problems += print_problems(page, CONTENT)
    assert not problems, "\n".join(problems)
