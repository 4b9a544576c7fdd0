"""The page of `tinynet nuclei serve` in a browser: what a person does with mouse and keys, and what is on disk then."""

from __future__ import annotations

import base64
import io
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
import tifffile
from browser import axe_problems, dark_problems, keyboard_problems, phone_problems, press, tab_to, text
from serving import CENTERS, discs_png, no_net, running  # noqa: F401 (a fixture)

from tinynet.nuclei.serve.guard import Guard

DROP = """([data, name]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  dispatchEvent(new DragEvent("drop", {dataTransfer: transfer}));
}"""
PLACES = """([...points]) => import("/page/main.js").then(({view}) => points.map(([y, x]) => {
  const box = view.canvas.getBoundingClientRect(), [left, top] = view.toScreen([x + 0.5, y + 0.5]);
  return [box.left + left, box.top + top];
}))"""


@pytest.fixture
def served(tmp_path, no_net, open_page):  # noqa: F811
    """The page of a new project."""
    with running(tmp_path / "project") as address:
        page = open_page(address)
        page.wait_for_url(address.partition("?")[0])  # a first document leads there
        yield page


@pytest.fixture
def found(served):
    """The page after an image was dropped and searched: four nuclei, the third of two discs."""
    drop(served, discs_png())
    served.locator("#images .open").wait_for()
    served.click("#find-one")
    said(served, "4 nuclei.")
    return served


def drop(page, data, name="cells.png"):
    page.evaluate(DROP, [base64.b64encode(data).decode(), name])


def said(page, words):
    page.locator("#said", has_text=words).wait_for()


def choose(page, tool):
    page.locator(f"#tool span:text-is('{tool}')").click()


def places(page, *points):
    """Where points (y, x) of the image are in the window."""
    return page.evaluate(PLACES, points)


def click(page, *points):
    for place in places(page, *points):
        page.mouse.click(*place)


def drag(page, *points):
    first, *others = places(page, *points)
    page.mouse.move(*first)
    page.mouse.down()
    for place in others:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def exported(page):
    """The label image in the archive that the page exports."""
    with page.expect_download() as download:
        page.click("#export")
    with zipfile.ZipFile(download.value.path()) as archive:
        return tifffile.imread(io.BytesIO(archive.read("labels/cells.tif")))


@pytest.mark.slow
def test_a_private_file_leads_to_the_page_and_the_address_shows_no_secret(tmp_path, open_page):
    with running(tmp_path / "project") as address:
        guard = Guard(int(address.split(":")[2].split("/")[0]), address.partition("token=")[2])
        guard.write_entrance(tmp_path / "open.html")
        page = open_page((tmp_path / "open.html").as_uri())
        page.wait_for_url(address.partition("?")[0])
        page.locator("#images").wait_for(state="attached")


def test_drop_find_delete_undo(found):
    choose(found, "Delete")
    click(found, CENTERS[0])
    said(found, "Delete: 3 nuclei.")
    found.click("#undo")
    said(found, "Undo: 4 nuclei.")
    assert "4 nuclei, about 20 pixels wide; 160 × 128 pixels." in text(found, "#count")


@contextmanager
def held(page, address):
    """Requests to an address wait for the end of the block."""
    waiting = []
    page.route(address, lambda route: waiting.append(route))
    try:
        yield
        waiting[0].continue_()
    finally:
        page.unroute(address)  # the next test uses the same window


@pytest.fixture
def two(found):
    """The page with a second image, which was not searched and is not shown."""
    drop(found, discs_png(), "second.png")
    found.locator("#images li").nth(1).wait_for()
    return found


@pytest.mark.slow
def test_an_answer_that_comes_late_does_not_change_another_image(two):
    choose(two, "Delete")
    with held(two, "**/edit"):
        click(two, CENTERS[0])
        two.locator("#images .open").nth(1).click()
        said(two, "second, 0 nuclei.")
    two.locator("#images li", has_text="3 nuclei").wait_for()
    assert "not searched" in text(two, "#count") and "second" in text(two, "#said")
    assert two.evaluate("import('/page/main.js').then(({view}) => view.nuclei.size)") == 0


@pytest.mark.slow
def test_the_image_that_was_clicked_last_is_shown(two):
    with two.expect_response("**/0002/outlines"), held(two, "**/0002/outlines"):
        two.locator("#images .open").nth(1).click()
        two.locator("#images .open").nth(0).click()
        said(two, "cells, 4 nuclei.")
    two.wait_for_timeout(200)
    assert text(two, "#images .chosen").startswith("cells")


@pytest.mark.slow
def test_split_merge_draw_and_export(found):
    before = exported(found)
    choose(found, "Split")
    drag(found, (65, 48), (95, 48))
    said(found, "Split: 5 nuclei.")
    labels = exported(found)
    np.testing.assert_array_equal(labels > 0, before > 0)
    assert labels[CENTERS[2]] != labels[CENTERS[3]]
    choose(found, "Merge")
    click(found, CENTERS[2], CENTERS[3])
    said(found, "Merge: 4 nuclei.")
    choose(found, "Draw")
    drag(found, (100, 20), (100, 40), (120, 40), (120, 20))
    said(found, "Draw: 5 nuclei.")
    labels = exported(found)
    np.testing.assert_array_equal(np.unique(labels[before > 0]), [1, 2, 3, 4])
    assert (labels == 5).sum() == pytest.approx(400, rel=0.2) and labels[110, 30] == 5
    drag(found, (1, 149), (2, 151), (1, 151))
    said(found, "the outline encloses")
    press(found, "Control+z", "Control+z", "Control+z")
    said(found, "Undo: 4 nuclei.")
    np.testing.assert_array_equal(exported(found), before)
    press(found, "Control+Shift+Z")
    said(found, "Redo: 5 nuclei.")
    found.reload()
    said(found, "cells, 5 nuclei.")


@pytest.mark.slow
def test_zoom_and_pan_keep_the_place_of_a_click(found):
    for action in (
        lambda: found.mouse.wheel(0, -600),
        lambda: found.click("#larger"),
        lambda: drag(found, CENTERS[1], (CENTERS[1][0] - 8, CENTERS[1][1] + 9)),
    ):
        found.mouse.move(*places(found, CENTERS[1])[0])
        action()
        choose(found, "Look")
        click(found, CENTERS[1])
        said(found, "Nucleus ")
        assert found.evaluate("import('/page/main.js').then(({view}) => view.chosen)")
        found.locator("#canvas").press("Escape")


@pytest.mark.slow
def test_everything_by_keyboard(served):
    drop(served, discs_png())
    served.locator("#images .open").wait_for()
    tab_to(served, "#find-one")
    press(served, "Enter")
    said(served, "4 nuclei.")
    served.locator("body").press("Tab")
    tab_to(served, "#canvas")
    press(served, "2", "n")  # to the first nucleus, with the tool Delete
    assert served.locator("#tool :checked").get_attribute("value") == "delete"
    tab_to(served, "#canvas")
    press(served, "n", "Space")
    said(served, "Delete: 3 nuclei.")
    press(served, "Control+z")
    said(served, "Undo: 4 nuclei.")
    press(served, "3", "n", "Space", "p", "Enter")  # too far apart
    said(served, "pixels apart")
    press(served, "5", "0", "ArrowLeft", "Space")
    press(served, *["ArrowLeft"] * 12, "Space", *["ArrowDown"] * 9, "Enter")
    said(served, "Draw: 5 nuclei.")
    press(served, "4", "n", "n", "n", *["ArrowUp"] * 9, "Space", *["ArrowDown"] * 18, "Enter")
    said(served, "Split: 6 nuclei.")


@pytest.mark.slow
def test_the_page_is_accessible(found):
    assert axe_problems(found) == []
    assert dark_problems(found) == []
    assert phone_problems(found) == []
    found.reload()
    found.locator("#images .open").wait_for()
    assert keyboard_problems(found) == []


@pytest.mark.slow
def test_a_file_that_is_no_image_is_named_and_the_others_are_read(served):
    drop(served, b"hello", "<b>notes.png")
    served.locator("#messages p").wait_for()
    assert "<b>notes.png: not a readable image" in text(served, "#messages p")
    drop(served, discs_png())
    said(served, "1 of 1 files read.")
    tab_to(served, "#messages button")
    press(served, "Enter")
    assert served.locator("#messages p").count() == 0


@pytest.mark.slow
def test_two_images_are_corrected_and_training_begins(two):
    two.check("#corrected")
    two.locator("#images .open").nth(1).click()
    said(two, "second, 0 nuclei.")
    choose(two, "Draw")
    drag(two, (20, 20), (20, 40), (40, 40), (40, 20))
    said(two, "Draw: 1 nucleus.")
    assert "2 corrected images" in text(two, "#chosen")
    assert two.is_enabled("#start")
