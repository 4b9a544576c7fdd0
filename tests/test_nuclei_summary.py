"""The page summary.html: what it says, and how it is used in a real browser."""

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from browser import axe_problems, dark_problems, keyboard_problems, phone_problems, print_problems, read
from test_nuclei_outputs import discs, with_labels

from tinynet.errors import DataError
from tinynet.nuclei.outputs import Tables, summary

EVIL = "<script>alert(1)<_script>\"'&"
ROWS = "return [...document.querySelectorAll('tbody tr')]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The results of three images: two nuclei, none, and one that touches the border. The last one has an evil name.

    Two more files could not be read.
    """
    path = tmp_path_factory.mktemp("results")
    with Tables(
        path, skipped=[DataError(f"{EVIL}.tif: truncated"), DataError("{{rows}}\n{{skipped}}\n: {{title}}")]
    ) as tables:
        plain, empty, evil = discs(name="image 10"), discs(name="image 9"), discs(name=EVIL)
        labels = plain.labels % 2
        labels[40:50, 50:60] = 2
        tables.add(with_labels(plain, labels))
        tables.add(with_labels(empty, 0 * labels))
        tables.add(with_labels(evil, plain.labels // 2))
    return path


def test_the_page_is_usable(folder, open_page):
    page = open_page(folder / "summary.html")
    problems = axe_problems(page) + keyboard_problems(page) + dark_problems(page) + phone_problems(page)
    assert problems + print_problems(page, "main :not(script)") == []


def test_the_page_shows_the_run(folder, open_page):
    page = open_page(folder / "summary.html")
    assert page.title() == "3 nuclei in 3 images"
    assert read(page, ROWS + ".map((row) => row.cells[1].textContent)") == [EVIL, "image 10", "image 9"]
    assert read(page, ROWS + ".map((row) => row.cells[2].textContent)") == ["1", "2", "0"]
    assert page.locator("img").count() == 3
    page.get_by_role("link", name="2", exact=True).click()
    skipped = read(page, "return [...document.querySelectorAll('#skipped + ul li')].map((item) => item.textContent)")
    assert skipped == [f"{EVIL}.tif: truncated", "{{rows}}\n{{skipped}}\n: {{title}}"]
    assert read(page, "return [...document.images].every((image) => image.naturalWidth > 0)")
    links = read(page, "return [...document.querySelectorAll('td a')].map((link) => link.href)")
    assert {Path(url2pathname(urlsplit(link).path)) for link in links} == set((folder / "overlays").iterdir())


def test_a_click_sorts_and_a_check_mark_filters(folder, open_page):
    page = open_page(folder / "summary.html")
    order = ROWS + ".map((row) => row.cells[2].textContent)"
    page.get_by_role("button", name="nuclei").click()
    assert read(page, order) == ["0", "1", "2"]
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("nuclei")
    page.get_by_role("button", name="nuclei").click()
    assert read(page, order) == ["2", "1", "0"]
    page.get_by_role("button", name="image").click()
    assert read(page, ROWS + ".map((row) => row.cells[1].textContent)") == [EVIL, "image 9", "image 10"]
    page.get_by_label("only images with a warning").check()
    visible = ROWS + ".filter((row) => row.checkVisibility()).map((row) => row.cells[1].textContent)"
    assert read(page, visible) == [EVIL, "image 9"]


def test_names_are_escaped(folder):
    text = (folder / "summary.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text and text.count("<script>") == 1
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")  # it needs no network


def records(count: int):
    """Records as those of `count` large images; the last one has a flag."""
    for number in range(count):
        yield {
            "name": f"{number:05}",
            "pixel_size": 0.5,
            "columns": ["equivalent_diameter_um", "touches_border"],
            "rows": [[10.0, 0]] * 3,
            "flags": [{"kind": "size", "text": "why"}] if number == count - 1 else [],
            "thumbnail": "data:image/jpeg;base64," + 20_000 * "A",
        }


def test_many_images_make_no_huge_page(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "THUMBNAIL_BYTES", 200_000)
    summary.write_summary(tmp_path / "summary.html", lambda: records(100))
    text = (tmp_path / "summary.html").read_text(encoding="utf-8")
    assert len(text) < 250_000
    assert (text.count("<tr"), text.count("<img")) == (101, 9)
    assert 'alt="overlay of 00099"' in text  # those with a flag come first
    assert "10.0 µm" in text and "would be too large with 91 more overlays" in text


@pytest.mark.parametrize(("value", "step"), [(1, 1), (1.01, 1.2), (0.034, 0.04), (85, 100), (7, 8), (20, 20)])
def test_the_axis_has_round_numbers(value, step):
    assert summary._round_step(value) == pytest.approx(step)
