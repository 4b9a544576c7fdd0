"""The site in a real browser: from files without a network, by keyboard, on a phone, in the dark, on paper."""

import statistics

import pytest
from browser import (
    SCREEN,
    axe_problems,
    dark_problems,
    keyboard_problems,
    phone_problems,
    press,
    print_problems,
    tab_to,
    text,
)

pytestmark = pytest.mark.slow
PAGES = (
    *(
        "index",
        "start/install",
        "glossary",
        "lectures/3",
        "operations/conv2d",
        "operations/softmax_cross_entropy",
        "course/conv-04",
    ),
    *("scripts/segmentation/unet_nuclei", "nuclei", "cuda", "reference/tinynet.nn", "performance", "touch", "search"),
)
CONTENT = "article :is(h1, h2, h3, p, pre, table, img):not(.sd-summary-title *)"
# How many letters fit into a line of each paragraph that has three lines or more.
LETTERS = """(paragraphs) => paragraphs.map((e) => {
  const style = getComputedStyle(e), brush = document.createElement("canvas").getContext("2d");
  const isShort = e.clientHeight < 2.5 * parseFloat(style.lineHeight);
  if (isShort || e.matches("td *") || e.querySelector("img, .math")) return 0;
  brush.font = style.font;
  return e.clientWidth * e.textContent.length / brush.measureText(e.textContent).width;
}).filter((letters) => letters)"""
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
CLOSE = "(all) => all.forEach((e) => e.remove())"


def reading_problems(page):
    """Paragraphs whose lines are too long or too short to read."""
    letters = page.locator("article p").evaluate_all(LETTERS) or [70]
    middle, most = statistics.median(letters), max(letters)
    return [] if 60 <= middle <= 80 and most < 90 else [f"{middle:.0f} letters in a line, at most {most:.0f}"]


@pytest.mark.parametrize("name", PAGES)
def test_page_of_the_site_suits_everybody(name, built_site, open_page):
    page = open_page(built_site / f"{name}.html", width=1400)
    problems = reading_problems(page) + print_problems(page, CONTENT) + phone_problems(page)
    page.locator("details:not([open]) > :not(summary)").evaluate_all(CLOSE)  # 30,000 words of code take axe a minute
    page.set_viewport_size({"width": SCREEN, "height": 800})
    problems += axe_problems(page, *WCAG) + dark_problems(page)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", ["index", "start/install", "operations/softmax_cross_entropy"])
def test_tab_reaches_every_link(name, built_site, open_page):
    assert not keyboard_problems(open_page(built_site / f"{name}.html"))


def test_site_is_used_by_keyboard(built_site, open_page):
    page = open_page(built_site / "nuclei.html", width=1400)
    page.keyboard.press("Tab")
    assert text(page, ":focus") == "Skip to content"
    press(page, "Enter", "Tab")
    assert page.evaluate("() => document.activeElement.closest('article, .content') !== null")
    press(page, "/")
    page.keyboard.type("backward weight")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert "search.html?q=backward+weight" in page.url
    page.wait_for_selector("ul.search li")
    tab_to(page, "ul.search li a")


def test_search_finds_the_page_of_an_operation(built_site, open_page):
    page = open_page(built_site / "search.html", "?q=conv2d+backward+weight")
    page.wait_for_selector("ul.search li a")
    page.wait_for_function("() => !document.querySelector('#search-progress')?.textContent.includes('...')")
    first = page.locator("ul.search li a").evaluate_all(
        "(links) => links.slice(0, 3).map((a) => a.getAttribute('href'))"
    )
    assert any(link.startswith("operations/conv2d.html") for link in first), first


def test_theme_can_be_chosen_and_stays(built_site, open_page):
    page, color = open_page(built_site / "start/install.html"), "() => getComputedStyle(document.body).backgroundColor"
    bright = page.evaluate(color)
    tab_to(page, "button.theme-toggle")
    page.keyboard.press("Enter")
    while page.evaluate("document.body.dataset.theme") != "dark":
        page.keyboard.press("Enter")
    dark = page.evaluate(color)
    page.goto((built_site / "nuclei.html").as_uri())
    assert bright != dark == page.evaluate(color)
    page.evaluate("() => localStorage.clear()")
