"""The pages of docs/pages and of the site in a real browser: Chromium without a window, driven by Playwright.

A test asks for the fixture `open_page`. It is skipped where Chromium, Playwright or axe-core is missing. The functions
whose names end in `_problems` return what is wrong with a page, a line for each, so that a test shows all of it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE, PAPER, SCREEN = 360, 718, 1000  # widths in CSS pixels; the paper is A4 without its margins
CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex='0']"
FOCUSED = """() => {
  const element = document.activeElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
  const isNew = element !== document.body && !element.reachedByTab;
  element.reachedByTab = true;
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1 || style.boxShadow !== "none";
  return {isNew, isVisible: ring && element.matches(":focus-visible"), html: element.outerHTML.slice(0, 120),
          isInView: box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight};
}"""
WITHOUT_FOCUS = """(controls) => {  // those that a user can reach and that Tab has not reached
  const skip = (e) => e.disabled || !e.checkVisibility({visibilityProperty: true}) || e.type === "radio" && !e.checked;
  return controls.filter((e) => !skip(e) && !e.reachedByTab).map((e) => e.outerHTML.slice(0, 120));
}"""
TOO_WIDE = """() => {
  const page = document.scrollingElement, edge = innerWidth + 1, isWide = (e) => e.getBoundingClientRect().right > edge;
  const isBox = (e) => getComputedStyle(e).overflowX !== "visible";
  const scrolls = (e) => e && e !== document.body && (isBox(e) || scrolls(e.parentElement));
  if (page.scrollWidth <= innerWidth) return [];
  const wide = [...document.querySelectorAll("body *")].filter((e) => isWide(e) && !scrolls(e.parentElement));
  const inner = wide.filter((e) => ![...e.children].some(isWide));
  return [`${page.scrollWidth} pixels wide`, ...inner.slice(0, 5).map((e) => e.outerHTML.slice(0, 120))];
}"""
CUT = """() => [...document.querySelectorAll("body *")].filter((e) => {
  return getComputedStyle(e).overflowX !== "visible" && e.clientWidth && e.scrollWidth > e.clientWidth + 1;
}).map((e) => `${e.outerHTML.slice(0, 120)}: ${e.scrollWidth} > ${e.clientWidth}`)"""
SEEN = "(all) => all.forEach((e) => { e.wasSeen = e.checkVisibility(); })"
HIDDEN = "(all) => all.filter((e) => e.wasSeen && !e.checkVisibility()).map((e) => e.outerHTML.slice(0, 120))"
REFUSED = "status of 422"  # a file that a page sent to its server, which the page then shows to the person
LUMINANCE = """(what) => {
  const [r, g, b, alpha] = getComputedStyle(document.body)[what].match(/[\\d.]+/g).map(Number);
  return alpha === 0 ? 1 : (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
}"""


@pytest.fixture(scope="session")
def browser_page() -> Any:
    """The page of a Chromium without a network. A process of pytest starts it once: an empty page costs a second."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: no page was opened")
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium is installed: no page was opened")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = chromium.new_context(offline=True, reduced_motion="reduce").new_page()
        page.set_default_timeout(20_000)
        yield page
        chromium.close()


@pytest.fixture
def open_page(browser_page: Any) -> Any:
    """A function that opens a file and returns the page of Playwright; the file before it is closed.

    path: of the file, or the address of a server on this computer. address: what follows, from # or ? on. width: of
    the window, in CSS pixels. The test fails at its end if a file reported an error or asked for anything that is not
    on this computer.
    """
    problems: list[str] = []
    listeners = {
        "console": lambda message: problems.extend(_errors(message)),
        "pageerror": lambda error: problems.append(str(error)),
        "requestfailed": lambda request: problems.append(f"not loaded: {request.url}"),
        "request": lambda request: problems.extend(_outside(request.url)),
    }
    for event, listener in listeners.items():
        browser_page.on(event, listener)

    def open_page(path: Path | str, address: str = "", width: int = SCREEN, dark: bool = False) -> Any:
        browser_page.goto("about:blank")  # the same file with another # would not be read again
        browser_page.set_viewport_size({"width": width, "height": 800})
        browser_page.emulate_media(media="screen", color_scheme="dark" if dark else "light")
        browser_page.mouse.move(0, 0)
        browser_page.context.set_offline(isinstance(path, Path))
        browser_page.goto(path.as_uri() + address if isinstance(path, Path) else path)
        browser_page.locator("[aria-busy=true]").wait_for(state="detached", timeout=120_000)
        return browser_page

    yield open_page
    for event, listener in listeners.items():
        browser_page.remove_listener(event, listener)
    assert not problems, problems


def _errors(message: Any) -> list[str]:
    return [message.text] if message.type == "error" and REFUSED not in message.text else []


def _outside(url: str) -> list[str]:
    here = ("file:", "data:", "blob:", "about:", "http://127.0.0.1:")
    return [] if url.startswith(here) else [f"not a file of this computer: {url}"]


def read(page: Any, script: str) -> Any:
    """What the body of a JavaScript function returns in the page. JSON is much faster here than Playwright's format."""
    return json.loads(page.evaluate(f"() => JSON.stringify((() => {{ {script} }})())"))


def text(page: Any, selector: str) -> str:
    return page.locator(selector).inner_text()


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until the element has the focus."""
    for _ in range(200):
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {selector}")


def keyboard_problems(page: Any) -> list[str]:
    """Press Tab once around the page: every control must get the focus, which must be visible."""
    problems = []
    for _ in range(page.locator(CONTROLS).count() + 1):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if not focused["isNew"]:
            break
        if not focused["isVisible"]:
            problems.append(f"the focus is not visible: {focused['html']}")
        if not focused["isInView"]:
            problems.append(f"the focus is outside of the window: {focused['html']}")
    left = page.locator(CONTROLS).evaluate_all(WITHOUT_FOCUS)
    return problems + [f"Tab does not reach {html}" for html in left]


def axe_problems(page: Any, *rules: str) -> list[str]:
    """What axe-core finds: contrast below WCAG AA, controls without names, and about 90 other rules.

    rules: these rules alone, by their names or by their tags, such as "wcag2aa".
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    options = {"resultTypes": ["violations"], "preload": False, **({"runOnly": list(rules)} if rules else {})}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [f"{rule['id']}: {node['html'][:160]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def dark_problems(page: Any) -> list[str]:
    """Whether the page is bright in light mode and dark in dark mode, with enough contrast."""
    bright = page.evaluate(LUMINANCE, "backgroundColor")
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(LUMINANCE, "backgroundColor")
    problems = [] if dark < 0.2 and bright > 0.8 else [f"luminance {bright} in light, {dark} in dark mode"]
    problems += [f"in dark mode, {problem}" for problem in axe_problems(page, "color-contrast")]
    page.emulate_media(color_scheme="light")
    return problems


def resize(page: Any, width: int) -> None:
    """Set the width of the window, and wait until the page has drawn itself anew."""
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def phone_problems(page: Any) -> list[str]:
    """What is wider than a phone, if the page as a whole would have to be scrolled to the side."""
    resize(page, PHONE)
    problems = page.evaluate(TOO_WIDE)
    resize(page, SCREEN)
    return [f"on a phone, {problem}" for problem in problems]


def print_problems(page: Any, content: str) -> list[str]:
    """Content (a selector) that is hidden on paper, what is cut off there, and dark colors in dark mode."""
    page.locator(content).evaluate_all(SEEN)
    resize(page, PAPER)
    page.emulate_media(media="print", color_scheme="dark")
    problems = [f"hidden: {html}" for html in page.locator(content).evaluate_all(HIDDEN)]
    if page.evaluate(LUMINANCE, "backgroundColor") < 0.8 or page.evaluate(LUMINANCE, "color") > 0.3:
        problems.append("dark colors")
    problems += [f"cut off: {html}" for html in page.evaluate(CUT)]
    page.emulate_media(media="screen", color_scheme="light")
    resize(page, SCREEN)
    return [f"on paper, {problem}" for problem in problems]
