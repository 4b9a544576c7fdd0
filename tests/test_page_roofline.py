"""The page of the roofline: its points are where Python computes them from docs/kernels.json."""

import importlib.util
import json
import math

import pytest
from browser import axe_problems, press, read, tab_to, text
from processes import ROOT

PAGE, KERNELS = ROOT / "docs/pages/roofline.html", ROOT / "docs/kernels.json"
REPORT = json.loads(KERNELS.read_text(encoding="utf-8"))
POINTS = """
  const points = [...document.querySelectorAll("[data-point]")].map((point) => {
    const [x, y] = point.getAttribute("transform").match(/[\\d.]+/g).map(Number);
    return {index: Number(point.dataset.point), x, y};
  });
  return {points: points.sort((a, b) => a.index - b.index), rows: state.report.rows, area: state.area,
          roof: document.querySelector(".roof")?.getAttribute("d").match(/[\\d.]+/g).map(Number)};
"""


def made_report(**changes):
    """A report with a ladder of three versions and another call, round numbers, and these changes."""
    same = {"op": "conv2d", "kernel": "forward", "shapes": "8x8", "per_step": 1, "quiet": True}
    rows = [
        {**same, "implementation": "blocked", "ms": 1.0, "flops": 10**8, "bytes": 10**6},  # 100 GFLOP/s at 100
        {**same, "implementation": "naive", "ms": 50.0, "flops": 10**8, "bytes": 10**6},
        {**same, "implementation": "reference", "ms": 10.0, "flops": 10**8, "bytes": 10**6},
        {**same, "op": "<elu>", "implementation": "reference", "ms": 2.0, "flops": 10**6, "bytes": 10**7},
    ]
    machine = {"processor": "a made machine", "sgemm_gflops": 200.0, "triad_gbytes": 10.0}
    return {"command": "ops", "settings": {"threads": 3}, "machine": machine, "rows": rows, **changes}


def load(page, tmp_path, report, name="mine.json"):
    """Choose a file with this report, or with this text, as a user does."""
    path = tmp_path / name
    path.write_text(report if isinstance(report, str) else json.dumps(report), encoding="utf-8")
    page.set_input_files("#file", path)
    page.wait_for_function("(name) => document.querySelector('#loaded').textContent.startsWith(name) || "
                           "document.querySelector('#problem').textContent.startsWith(name)", arg=name)  # fmt: skip


def expected_places(rows, peak, area):
    """(x, y) of each row, by logarithms between the powers of ten around all points and the ridge."""
    x = [math.log10(row["flops"] / row["bytes"]) for row in rows]
    y = [math.log10(row["flops"] / row["ms"] / 1e6) for row in rows]
    ridge = math.log10(peak[0] / peak[1])
    low_x, high_x = math.floor(min(*x, ridge)), math.ceil(max(*x, ridge))
    low_y, high_y = math.floor(min(y)), math.ceil(max(*y, math.log10(peak[0])))
    left, top, width, height = (area[name] for name in ("left", "top", "width", "height"))
    return (
        [left + width * (v - low_x) / (high_x - low_x) for v in x],
        [top + height * (high_y - v) / (high_y - low_y) for v in y],
    )


def test_the_page_has_the_report_of_the_benchmark():
    spec = importlib.util.spec_from_file_location("book_roofline", ROOT / "docs/book/roofline.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition('<script type="application/json" id="data">')
    assert before and json.loads(rest.partition("</script>")[0]) == REPORT
    assert script.DATA.search(PAGE.read_text(encoding="utf-8")) and PAGE.stat().st_size < 1e6


@pytest.mark.parametrize("width", [1200, 360])
def test_every_point_is_where_its_figures_are(open_page, width):
    found = read(open_page(PAGE, width=width), POINTS)
    peak = REPORT["machine"]["sgemm_gflops"], REPORT["machine"]["triad_gbytes"]
    assert [point["index"] for point in found["points"]] == list(range(len(REPORT["rows"])))
    xs, ys = expected_places(REPORT["rows"], peak, found["area"])
    for point, row, shown, x, y in zip(found["points"], REPORT["rows"], found["rows"], xs, ys, strict=True):
        assert (point["x"], point["y"]) == (pytest.approx(x, abs=0.01), pytest.approx(y, abs=0.01))
        for name, value in row.items():
            assert shown[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), name
    ridge, top = found["roof"][2:4]
    area = found["area"]
    assert top == found["roof"][5] and area["left"] < ridge < area["left"] + area["width"]


def test_the_roof_is_bandwidth_and_arithmetic(open_page, tmp_path):
    """Bandwidth 10 GB/s, 200 GFLOP/s: the ridge is at 20 FLOP for a byte."""
    page = open_page(PAGE)
    load(page, tmp_path, made_report())
    found = read(page, POINTS)
    area = found["area"]
    assert (area["x"], area["y"]) == ([-1, 2], [-1, 3])  # the slowest: 1e6 / 2 ms = 0.5 GFLOP/s at 0.1
    x = [area["left"] + area["width"] * (math.log10(v) + 1) / 3 for v in (0.1, 20, 100)]
    y = [area["top"] + area["height"] * (3 - math.log10(v)) / 4 for v in (1, 200, 200)]
    assert found["roof"] == pytest.approx([v for pair in zip(x, y) for v in pair], abs=1e-6)
    shares = {row["implementation"]: row["share"] for row in found["rows"][:3]}
    assert shares == pytest.approx({"blocked": 0.5, "naive": 0.01, "reference": 0.05})
    assert found["rows"][3]["share"] == pytest.approx(0.5), "memory allows 1 GFLOP/s at 0.1 FLOP for a byte"


def test_another_report_is_shown(open_page, tmp_path):
    page = open_page(PAGE, "#conv2d")
    assert page.input_value("#op") == "conv2d"
    load(page, tmp_path, made_report())
    assert "a made machine, 3 threads" in text(page, "#machine") and "200 GFLOP/s" in text(page, "#machine")
    assert text(page, "#count") == "3 of 4 points are shown."
    page.select_option("#op", "")
    page.click("summary")
    page.wait_for_selector("#table td")
    rows = page.locator("#table tr").all_inner_texts()
    assert rows[1].split("\t")[:8] == ["conv2d.forward", "8x8", "blocked", "1", "100 M", "1 MB", "100", "100"]
    assert rows[4].split("\t")[0] == "<elu>.forward" and len(rows) == 5
    assert not text(page, "#problem")


ROW = made_report()["rows"][0]
WRONG = {  # file -> how the message begins
    "1.json": ("not json", "This is no JSON"),
    "2.json": ([1], "This is no report of `bench ops`"),
    "3.json": ({"command": "unet", "rows": []}, "This is no report of `bench ops`"),
    "4.json": (made_report(rows=[]), "The report has no rows"),
    "5.json": (made_report(rows=[{**ROW, "ms": None}]), 'Row 1 of the report (conv2d.forward) has no positive "ms"'),
    "6.json": (made_report(rows=[ROW, {"op": "elu"}]), 'Row 2 of the report has no "kernel"'),
}


def test_a_wrong_file_is_a_sentence_and_changes_nothing(open_page, tmp_path):
    page = open_page(PAGE)
    before = text(page, "#count")
    for name, (report, message) in WRONG.items():
        load(page, tmp_path, report, name)
        said = text(page, "#problem")
        assert said.startswith(f"{name}: {message}") and "python -m tinynet bench ops --json" in said
        assert text(page, "#count") == before and text(page, "#loaded") == ""
    load(page, tmp_path, made_report())
    assert text(page, "#problem") == "" and text(page, "#loaded") == "mine.json: 4 points are shown above."


DROP = """(text) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([text], "dropped.json"));
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
}"""


def test_a_file_can_be_dropped_on_the_page(open_page):
    page = open_page(PAGE)
    page.evaluate(DROP, json.dumps(made_report()))
    page.wait_for_selector("#loaded:not(:empty)")
    assert text(page, "#loaded") == "dropped.json: 4 points are shown above."


def test_without_a_peak_there_are_points_and_no_roof(open_page, tmp_path):
    page = open_page(PAGE)
    load(page, tmp_path, made_report(machine={"processor": "busy", "sgemm_gflops": None, "triad_gbytes": None}))
    assert page.locator("[data-point]").count() == 4 and page.locator(".roof").count() == 0
    assert "the roof is not known" in text(page, "#machine")


def test_keys_go_along_the_ladder_and_to_the_next(open_page, tmp_path):
    page = open_page(PAGE)
    load(page, tmp_path, made_report())

    def chosen():
        return text(page, "#said h2"), page.locator("#said dd").nth(1).inner_text()

    assert chosen() == ("conv2d.forward", "blocked, runs by default")
    tab_to(page, "[data-point]")
    press(page, "ArrowUp")
    assert chosen()[1] == "blocked, runs by default", "it is the fastest"
    press(page, "ArrowDown", "ArrowDown", "ArrowDown")
    assert chosen() == ("conv2d.forward", "naive")
    said = text(page, "#said")
    for fact in ("50 ms", "100 MFLOP", "1 MB", "100 FLOP / byte", "2 GFLOP/s", "1.0 %", "0.2 times as fast"):
        assert fact in said, fact
    press(page, "ArrowLeft")
    assert chosen() == ("<elu>.forward", "reference (the definition), runs by default")
    press(page, "End")
    assert chosen() == ("conv2d.forward", "blocked, runs by default")
    press(page, "Home", "ArrowRight")
    assert chosen() == ("conv2d.forward", "reference (the definition)"), "the same version of the next ladder"
    assert page.evaluate("document.activeElement.dataset.point") == "2"


def test_operations_and_versions_can_be_hidden(open_page, tmp_path):
    page = open_page(PAGE)
    load(page, tmp_path, made_report())
    page.uncheck("#versions input[value=naive]")
    assert page.locator("[data-point]").count() == 3 and text(page, "#count") == "3 of 4 points are shown."
    page.select_option("#op", "<elu>")
    assert page.locator("[data-point]").count() == 1 and text(page, "#said h2") == "<elu>.forward"
    assert page.locator("#versions input").count() == 1
    page.uncheck("#versions input")
    assert page.locator("[data-point]").count() == 0 and text(page, "#said") == ""
    page.select_option("#op", "")
    page.check("#versions input[value=naive]")
    page.check("#versions input[value=reference]")
    assert page.locator("[data-point]").count() == 4


def test_the_pointer_chooses_the_nearest_point(open_page, tmp_path):
    page = open_page(PAGE, dark=True)
    load(page, tmp_path, made_report())
    point, box = read(page, POINTS)["points"][1], page.locator("#plot svg").bounding_box()
    page.mouse.move(box["x"] + point["x"] + 6, box["y"] + point["y"] - 6)
    assert "naive" in text(page, "#said")
    assert page.locator(".ladder.chosen").count() == 1
    assert not axe_problems(page, "color-contrast")
