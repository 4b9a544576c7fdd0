"""The pages of docs/pages and of the site in a real browser: Chromium without a window, driven by Playwright.

A test asks for the fixture `open_page`. It is skipped where Chromium, Playwright or axe-core is missing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOCUSED = """() => {
  const element = document.activeElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
  const isNew = element !== document.body && !element.reachedByTab;
  element.reachedByTab = true;
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1 || style.boxShadow !== "none";
  return {isNew, isVisible: ring && element.matches(":focus-visible"), html: element.outerHTML.slice(0, 120),
          isInView: box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight};
}"""
CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex='0']"
WITHOUT_FOCUS = """(controls) => {  // those that a user can reach and that `tab_through` has not marked
  const skip = (e) => e.disabled || !e.checkVisibility({visibilityProperty: true}) || e.type === "radio" && !e.checked;
  return controls.filter((e) => !skip(e) && !e.reachedByTab).map((e) => e.outerHTML.slice(0, 120));
}"""


@pytest.fixture(scope="session")
def browser() -> Any:
    """Chromium, started once for each process of pytest."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: no page was opened")
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium is installed: no page was opened")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Any:
    """A function that opens a file in a new window without a network and returns the page of Playwright.

    address: what follows # or ?, with this letter. width: of the window, in CSS pixels. The test fails at its end if a
    page reported an error or asked for anything that is not a file of this computer.
    """
    contexts, problems = [], []

    def open_page(path: Path, address: str = "", width: int = 1000, dark: bool = False, touch: bool = False) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
            offline=True,
            has_touch=touch,
            is_mobile=touch,
        )
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(f"not loaded: {request.url}"))
        page.on("request", lambda request: problems.extend(_outside(request.url)))
        page.goto(path.as_uri() + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, problems


def _outside(url: str) -> list[str]:
    return [] if url.startswith(("file:", "data:", "blob:")) else [f"not a file of this computer: {url}"]


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


def tab_through(page: Any) -> None:
    """Press Tab once around the page. Raises AssertionError for a control without, or with an invisible, focus."""
    for _ in range(page.locator(CONTROLS).count() + 1):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if not focused["isNew"]:
            break
        assert focused["isVisible"], f"the focus is not visible: {focused['html']}"
        assert focused["isInView"], f"the focus is outside of the window: {focused['html']}"
    left = page.locator(CONTROLS).evaluate_all(WITHOUT_FOCUS)
    assert not left, f"Tab does not reach {left}"


def axe_problems(page: Any, *rules: str) -> list[str]:
    """What axe-core finds: contrast below WCAG AA, controls without names, and about 90 other rules, or these alone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [f"{rule['id']}: {node['html'][:160]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]
