"""The pages of docs/pages, opened in a browser: what they compute is what tinynet computes."""

import json

import numpy as np
import pytest
from browser import PHONE, axe_problems, press, read, tab_to, text
from processes import ROOT

import tinynet as tn

CONVOLUTION = ROOT / "docs/pages/convolution.html"
SETTINGS = [  # operation, size, kernel, stride, padding, dilation
    *(("conv", 5, 3, 1, 1, 1), ("conv", 8, 3, 2, 0, 2), ("conv", 3, 2, 3, 2, 1), ("conv", 9, 5, 4, 4, 1)),
    *(("max", 6, 2, 2, 0, 1), ("max", 7, 3, 2, 1, 1), ("max", 5, 3, 1, 2, 1)),
    *(("avg", 6, 2, 2, 0, 1), ("avg", 7, 3, 2, 1, 1)),
    *(("transposed", 3, 3, 2, 0, 1), ("transposed", 4, 2, 3, 1, 2), ("transposed", 5, 3, 1, 1, 1)),
]
NAMES = ("op", "size", "kernel", "stride", "padding", "dilation")
READ = """
  return %s.map((setting) => {
    Object.assign(state, setting);
    draw();
    const {y, gx, gw} = values;
    return {y, gx, gw};
  });
"""


def expected(op, size, kernel, stride, padding, dilation):
    """(y, gx, gw or None) of tinynet, for the start values of the page."""
    r, c = np.mgrid[:9, :9].astype(np.float64)
    x = tn.tensor(((r * 7 + c * 5 + r * c * 3) % 10)[None, :size, :size, None], requires_grad=True)
    w = tn.tensor((((r * 5 + c * 3 + r * c) % 7) - 3)[:kernel, :kernel, None, None], requires_grad=True)
    if op == "conv":
        y = tn.conv2d(x, w, stride=stride, padding=padding, dilation=dilation)
    elif op == "transposed":
        y = tn.conv_transpose2d(x, w, stride=stride, padding=padding, dilation=dilation)
    else:
        y = (tn.max_pool2d if op == "max" else tn.avg_pool2d)(x, kernel, stride, padding)
    r, c = np.mgrid[: y.shape[1], : y.shape[2]].astype(np.float64)
    y.backward(((r * 3 + c * 7 + 2 * r * c) % 9 - 4)[None, :, :, None])
    planes = [y.numpy()[0, :, :, 0], x.grad.numpy()[0, :, :, 0]]
    return [*planes, None if w.grad is None else w.grad.numpy()[:, :, 0, 0]]


def test_convolution_page_computes_what_tinynet_computes(open_page):
    settings = json.dumps([dict(zip(NAMES, setting)) for setting in SETTINGS])
    for setting, actual in zip(SETTINGS, read(open_page(CONVOLUTION), READ % settings), strict=True):
        for name, array in zip(("y", "gx", "gw"), expected(*setting)):
            if array is not None:
                np.testing.assert_allclose(actual[name], array, rtol=1e-12, err_msg=f"{name} of {setting}")


def lit(page, kind):
    """The places of the cells of this color."""
    return page.locator(f"td.{kind}").evaluate_all("(cells) => cells.map((cell) => cell.dataset.place)")


def test_convolution_page_works_by_keyboard(open_page):
    page = open_page(CONVOLUTION, "#op=conv&size=4&kernel=2&stride=2&padding=0&dilation=1")
    tab_to(page, "table[data-grid=y] td")
    press(page, "ArrowRight", "ArrowDown")
    assert lit(page, "chosen") == ["1,1"] and lit(page, "read") == ["2,2", "2,3", "3,2", "3,3"]
    y = expected("conv", 4, 2, 2, 0, 1)[0]
    assert f"= {y[1, 1]:.0f}".replace("-", "\u2212") in text(page, "#explanation")
    page.keyboard.press("Shift+Tab")
    tab_to(page, "table[data-grid=w] td")
    press(page, "ArrowRight", "ArrowRight", "+", "-", "-")  # the kernel has two columns: the second arrow goes nowhere
    place, x, y_now = read(page, "return [document.activeElement.dataset.place, values.x, values.y];")
    assert place == "0,1" and y_now[1][1] == y[1, 1] - x[2][3]


def test_convolution_page_settings_by_keyboard(open_page):
    page = open_page(CONVOLUTION)
    tab_to(page, "#op")
    press(page, "m", "Tab", "b", "Tab", "ArrowRight", "Home", "End")  # max-pooling, backward, the largest input
    settings = read(page, "return state;")
    assert (settings["op"], settings["pass"], settings["size"]) == ("max", "backward", 9)
    assert page.evaluate("location.hash").startswith("#op=max&pass=backward&size=9")
    page.reload()
    assert read(page, "return state;") == settings


def test_convolution_page_follows_the_mouse(open_page):
    page = open_page(CONVOLUTION, "#op=conv&pass=backward", dark=True)
    page.hover("table[data-grid=gx] td[data-place='0,0']")
    assert lit(page, "chosen") == ["0,0", "0,0"]  # in g_x and in x
    corner = ["0,0", "0,1", "1,0", "1,1"]
    assert lit(page, "read") == corner and lit(page, "tap") == 2 * corner  # in g_y; in w and in g_w
    assert text(page, "#explanation").startswith("gx[0, 0] = ")
    assert not axe_problems(page, "color-contrast")
    page.click("table[data-grid=gy] td[data-place='2,2']")
    assert page.evaluate("document.activeElement.dataset.place") == "2,2" and lit(page, "chosen") == ["2,2"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("op=conv&size=2&kernel=5&padding=0", "The kernel reaches over 5 values"),
        ("op=max&kernel=2&padding=2", "A window could lie in the padding alone"),
        ("op=transposed&size=2&kernel=1&stride=1&padding=4&dilation=1", "Nothing is left"),
        ("op=nonsense&size=99&kernel=x&padding=-3", ""),  # what makes no sense is left out or clipped
    ],
)
@pytest.mark.slow
def test_convolution_page_says_what_does_not_fit(address, message, open_page):
    found = text(open_page(CONVOLUTION, f"#{address}"), "#problem")
    assert found.startswith(message) and bool(found) == bool(message)


BOXES = ROOT / "docs/pages/boxes.html"
COMPUTE_BOXES = """
  const {boxes, scores, thresholds} = %s;
  return {
    iou: boxes.map((a) => boxes.map((b) => iou(a, b))),
    kept: thresholds.map((threshold) => nmsSteps(boxes, scores, threshold).map((step) => step.kept)),
    anchors: allAnchors(30),
    labels: match(allAnchors(30), [60, 70, 120, 150], 0.7, 0.3),
  };
"""


def test_boxes_page_computes_what_tinynet_computes(open_page):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (30, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 40, (30, 2))], axis=1)  # some without an area
    scores = rng.integers(0, 10, 30) / 10  # with ties
    thresholds = [0.0, 0.3, 0.5, 1.0]
    given = {"boxes": boxes.tolist(), "scores": scores.tolist(), "thresholds": thresholds}
    actual = read(open_page(BOXES), COMPUTE_BOXES % json.dumps(given))
    np.testing.assert_allclose(actual["iou"], tn.boxes.box_iou(boxes.astype(float), boxes.astype(float)), rtol=1e-12)
    assert actual["kept"] == [tn.boxes.nms(boxes.astype(float), scores, limit).tolist() for limit in thresholds]
    overlaps = tn.boxes.box_iou(np.array(actual["anchors"]), np.array([[60.0, 70, 120, 150]]))[:, 0]
    labels = np.where((overlaps >= 0.7) | (overlaps == overlaps.max()), 1, np.where(overlaps < 0.3, 0, -1))
    assert actual["labels"] == labels.tolist() and {-1, 0, 1} == set(labels.tolist())


def test_boxes_page_works_by_keyboard(open_page):
    page = open_page(BOXES)
    tab_to(page, "#pair [data-box='1']")
    press(page, "ArrowDown", "Shift+ArrowRight", *["ArrowUp"] * 40)
    box = read(page, "return state.pair[1];")
    assert box == [0, 80, 80, 192]  # down, wider, and up to the edge of the image
    assert f"{tn.boxes.box_iou([[40, 40, 120, 130.0]], [box])[0, 0]:.3f}" in text(page, "#iou")
    tab_to(page, "#step")
    page.keyboard.press("Enter")
    ranking = text(page, "#ranking")
    assert "after 1 of" in ranking and ranking.count("stays") == 1
    page.keyboard.press("Space")
    ranking = text(page, "#ranking")
    assert "after 2 of" in ranking and ranking.count("stays") == 2


def test_boxes_page_works_by_mouse(open_page):
    page = open_page(BOXES)
    frame = page.locator("#pair").bounding_box()
    for *start, y, x in ((60, 60, 70, 80), (128, 148, 150, 170)):  # box 0 as a whole, then its lower right corner
        for place, step in ((start, page.mouse.down), ((y, x), page.mouse.up)):
            shift = (place[1] * frame["width"] / 240, place[0] * frame["height"] / 180)
            page.mouse.move(frame["x"] + shift[0], frame["y"] + shift[1], steps=4)
            step()
    np.testing.assert_allclose(read(page, "return state.pair[0];"), [50, 60, 152, 172], atol=1)


BACKPROPAGATION = ROOT / "docs/pages/backpropagation.html"
COMPUTE_GRAPHS = """
  return Object.entries(GRAPHS).map(([name, graph]) => {
    const leaves = Object.fromEntries(Object.keys(graph.leaves).map((leaf, i) => [leaf, 0.75 - 0.5 * i]));
    const {values, gradients} = compute(graph, leaves);
    return {name, leaves, nodes: graph.nodes, values, gradients};
  });
"""
FUNCTIONS = {"square": lambda a: a * a} | {  # operation of the page -> function of tinynet
    name: getattr(tn, name) for name in ("add", "sub", "mul", "div", "exp", "log", "neg", "sigmoid", "relu")
}


def test_backpropagation_page_computes_what_tinynet_computes(open_page):
    graphs = read(open_page(BACKPROPAGATION), COMPUTE_GRAPHS)
    assert {operation for graph in graphs for _, operation, _ in graph["nodes"]} == set(FUNCTIONS)
    for graph in graphs:
        tensors = {name: tn.tensor(np.float64(v), np.float64, True) for name, v in graph["leaves"].items()}
        for name, operation, inputs in graph["nodes"]:
            tensors[name] = FUNCTIONS[operation](*(tensors[i] for i in inputs))
            tensors[name].retain_grad()
        tensors["loss"].backward()
        for name, x in tensors.items():
            message = f"{name} of {graph['name']}"
            assert graph["values"][name] == pytest.approx(x.item(), rel=1e-12), message
            assert graph["gradients"][name] == pytest.approx(x.grad.item(), rel=1e-12, abs=1e-15), message


def test_backpropagation_page_adds_up_what_meets(open_page):
    """loss = x^2 w x with x = 2, w = 3: u = 4, v = 6; d loss / d x = 6 * 4 + 4 * 3 = 36."""
    page, said, x = open_page(BACKPROPAGATION), [], "#drawing g[data-name=x] text"
    tab_to(page, "#graph")
    press(page, "ArrowDown", "Tab")  # a diamond: two paths meet; "back" is disabled, so Tab goes to "step"
    for _ in range(8):
        page.keyboard.press("ArrowRight")
        said.append(text(page, "#said"))
    assert "The loss is known" in said[2] and "= 24" in said[2]
    assert page.locator(x).all_text_contents() == ["x", "2", "36"]
    assert "together 12 + 24 = 36" in said[5] and "Done." in said[5] and said[6] == said[7] == said[5]
    page.keyboard.press("ArrowLeft")
    assert page.locator(x).all_text_contents() == ["x", "2", "12"]
    tab_to(page, "[data-leaf=x]")
    page.keyboard.press("ArrowRight")  # x = 2.25: the arrow moves the slider and takes no step
    assert page.locator(x).all_text_contents() == ["x", "2.25", "15.188"]


def test_backpropagation_page_buttons_and_phone(open_page):
    page = open_page(BACKPROPAGATION, width=PHONE)
    page.click("#all")
    assert "Done." in text(page, "#said") and page.locator("#next").is_disabled()
    drawing, box = page.locator("#scroll").bounding_box(), page.locator("g.active rect").bounding_box()
    assert drawing["x"] <= box["x"] and box["x"] + box["width"] <= drawing["x"] + drawing["width"]
    page.click("#reset")
    assert text(page, "#said") == "The inputs are given. Step forward."


WARP = ROOT / "docs/pages/warp.html"
COMPUTE_WARPS = """
  return %s.map((settings) => {
    const all = {...START, ...settings}, d = displacement(all), image = makeImage(all.image);
    return {image, d, warped: warp(image, d, all.padding), determinants: determinants(d)};
  });
"""
WARPS = (
    {},
    {"image": "checkerboard", "rotation": 30, "scale": 0.6, "padding": "zeros", "shiftX": 4.5},
    {"image": "rings", "bumpY": 24, "width": 3, "shiftY": -7, "padding": "zeros"},
    {"rotation": -20, "bumpX": -20, "width": 4, "centerY": 10},
)


def test_warp_page_computes_what_tinynet_computes(open_page):
    results = read(open_page(WARP), COMPUTE_WARPS % json.dumps(WARPS))
    for settings, result in zip(WARPS, results, strict=True):
        image, field = np.array(result["image"])[None, ..., None], np.array(result["d"])[None]
        warped = tn.warp(tn.tensor(image), tn.tensor(field), settings.get("padding", "border")).numpy()
        np.testing.assert_allclose(result["warped"], warped[0, ..., 0], atol=1e-12)
        expected_determinants = tn.metrics.jacobian_determinant(field[0])
        np.testing.assert_allclose(result["determinants"], expected_determinants, atol=1e-12)
    assert tn.metrics.folded_share(np.array(results[2]["d"])) > 0 == tn.metrics.folded_share(np.array(results[1]["d"]))


def test_warp_page_works_by_keyboard_and_names_folds(open_page):
    page = open_page(WARP)
    tab_to(page, "#to")
    page.keyboard.press("ArrowDown")
    assert text(page, "#said").startswith("y[25, 30] is read at ")
    page.keyboard.press("Shift+Tab")
    press(page, "ArrowLeft", "ArrowUp")
    assert read(page, "return [state.centerY, state.centerX];") == [31, 31]
    assert "No pixel is folded" in text(page, "#said")
    page.keyboard.press("Shift+Tab")
    tab_to(page, "#reset")
    press(page, "Shift+Tab", "Shift+Tab", "Home", "Shift+Tab", "Shift+Tab", "End")  # width 2, bump down 24
    assert read(page, "return [state.width, state.bumpY];") == [2, 24]
    assert "% of the pixels are folded" in text(page, "#said")


def test_warp_page_works_by_mouse(open_page):
    page = open_page(WARP)
    frame = page.locator("#to").bounding_box()
    page.mouse.move(frame["x"] + 10.5 / 64 * frame["width"], frame["y"] + 20.5 / 64 * frame["height"])
    assert text(page, "#said").startswith("y[20, 10] is read at ")
    page.locator("#from").click(position={"x": 5, "y": 5})
    assert read(page, "return state.centerY < 2 && state.centerX < 2;")


THRESHOLD = ROOT / "docs/pages/threshold.html"
COMPUTE_MEASURES = """
  document.querySelector("[data-best=dice]").click();
  return {
    mask: [...mask], probability: [...probability], table: [0, 1, 128, 255, 256].map((t) => table[t]),
    auc: auc(counts), ap: averagePrecision(counts), best: threshold, said: document.getElementById("best").textContent,
  };
"""


def test_threshold_page_computes_what_tinynet_computes(open_page):
    page = read(open_page(THRESHOLD), COMPUTE_MEASURES)
    mask, probability = np.array(page["mask"]) > 0, np.array(page["probability"])
    assert mask.size == 128**2 and page["auc"] == pytest.approx(tn.metrics.auc(mask, probability), rel=1e-12)
    assert page["ap"] == pytest.approx(tn.metrics.ranking_ap(mask, probability), rel=1e-12)
    for threshold, measured in zip((0, 1, 128, 255, 256), page["table"], strict=True):
        said = probability >= threshold
        assert measured["dice"] == pytest.approx(tn.metrics.dice(mask, said), rel=1e-12)
        assert measured["iou"] == pytest.approx(tn.metrics.iou(mask, said), rel=1e-12)
        assert measured["sensitivity"] == said[mask].mean() and measured["specificity"] == 1 - said[~mask].mean()
    scores = [tn.metrics.dice(mask, probability >= t) for t in range(257)]
    assert page["best"] == np.argmax(scores) and f"{max(scores):.3f}" in page["said"]


def test_threshold_page_works_by_keyboard(open_page):
    page = open_page(THRESHOLD)
    tab_to(page, "#threshold")
    press(page, "Home", "ArrowRight", "ArrowRight")
    assert text(page, "#value") == f"{2 / 255:.3f}"
    page.keyboard.press("End")  # nothing reaches the threshold: TP = FP = 0
    assert "TP 0" in text(page, "#counts") and "FP 0" in text(page, "#counts")
    tab_to(page, "[data-best=half]")
    page.keyboard.press("Enter")
    assert text(page, "#value") == f"{128 / 255:.3f}"


@pytest.mark.slow
def test_threshold_page_shows_what_the_shipped_net_predicts():
    import base64
    import importlib.util
    import re

    spec = importlib.util.spec_from_file_location("book_threshold", ROOT / "docs/book/threshold.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    if tn.data.data_path(script.NUCLEI) is None:
        pytest.skip(f"{script.NUCLEI} is neither in TINYNET_DATA nor in the cache")
    (text,) = re.findall(r'id="data">(.*?)</script>', THRESHOLD.read_text(encoding="utf-8"))
    for name, array in script.crop().items():
        shown = np.frombuffer(base64.b64decode(json.loads(text)[name]), np.uint8).reshape(array.shape)
        np.testing.assert_allclose(shown, array, atol=1 if name == "probability" else 0)
