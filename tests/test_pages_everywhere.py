"""Every page of docs/pages: usable by keyboard, on a phone, in the dark, on paper, without a network."""

import re

import pytest
from browser import axe_problems, tab_through
from processes import ROOT

PAGES = sorted((ROOT / "docs/pages").glob("*.html"))
every_page = pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
LOADS = r"""(?:src|srcset|poster)\s*=\s*["'](?!data:)[^"']+|<link\s|@import|url\((?!["']?data:)"""
LUMINANCE = """() => {
  const channels = getComputedStyle(document.body).%s.match(/[\\d.]+/g).map(Number);
  return channels[3] === 0 ? 1 : (0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]) / 255;
}"""
CONTENT = "h1, h2, h3, p:not(.keys), figure, svg, canvas, table, pre, ul"
CUT = """() => [...document.querySelectorAll("body *")].filter((e) => {
  return getComputedStyle(e).overflowX !== "visible" && e.clientWidth && e.scrollWidth > e.clientWidth + 1;
}).map((e) => `${e.outerHTML.slice(0, 120)}: ${e.scrollWidth} > ${e.clientWidth}`)"""


def luminance(page, what="backgroundColor"):
    return page.evaluate(LUMINANCE % what)


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
def test_page_is_accessible_in_light_and_dark(path, open_page):
    page = open_page(path)
    assert luminance(page) > 0.8
    found = axe_problems(page)
    page.emulate_media(color_scheme="dark")
    assert luminance(page) < 0.2
    found += [f"dark: {problem}" for problem in axe_problems(page, "color-contrast")]
    assert not found, "\n".join(found)


@every_page
def test_tab_reaches_every_control(path, open_page):
    tab_through(open_page(path))


@every_page
def test_page_fits_a_phone(path, open_page):
    page = open_page(path, width=360, touch=True)
    assert page.evaluate("() => [innerWidth, document.scrollingElement.scrollWidth]") == [360, 360]


@every_page
def test_page_can_be_printed(path, open_page):
    page = open_page(path, width=718, dark=True)  # A4 without its margins
    seen = page.locator(CONTENT).filter(visible=True).element_handles()
    page.emulate_media(media="print")
    hidden = [e for e in seen if not e.evaluate("(e) => e.checkVisibility()")]
    assert not hidden, [e.evaluate("(e) => e.outerHTML.slice(0, 120)") for e in hidden]
    assert luminance(page) > 0.8 and luminance(page, "color") < 0.2, "dark colors on paper"
    assert not page.evaluate(CUT)
