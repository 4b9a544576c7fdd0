"""The pages of docs/pages, opened in a browser: what they compute is what tinynet computes."""

import json

import numpy as np
import pytest
from browser import run_in_page
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


def test_convolution_page_computes_what_tinynet_computes(tmp_path):
    settings = json.dumps([dict(zip(NAMES, setting)) for setting in SETTINGS])
    for setting, actual in zip(SETTINGS, run_in_page(CONVOLUTION, READ % settings, tmp_path), strict=True):
        for name, array in zip(("y", "gx", "gw"), expected(*setting)):
            if array is not None:
                np.testing.assert_allclose(actual[name], array, rtol=1e-12, err_msg=f"{name} of {setting}")


KEYS = """
  const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  document.querySelector("table[data-grid=y] td[tabindex='0']").click();
  press("ArrowRight"); press("ArrowDown");
  const lit = (kind) => [...document.querySelectorAll(`table td.${kind}`)].map((cell) => cell.dataset.place);
  const first = {chosen: lit("chosen"), read: lit("read"), text: document.getElementById("explanation").textContent};
  document.querySelector("table[data-grid=x] td[data-place='0,1']").click();
  press("+");
  const second = {edited: values.x[0][1], focus: document.activeElement.dataset.place, y: values.y[1][1]};
  return {first, second};
"""


def test_convolution_page_works_by_keyboard(tmp_path):
    result = run_in_page(CONVOLUTION, KEYS, tmp_path, "op=conv&size=4&kernel=2&stride=2&padding=0&dilation=1")
    first, second = result["first"], result["second"]
    assert first["chosen"] == ["1,1"] and first["read"] == ["2,2", "2,3", "3,2", "3,3"]
    y = expected("conv", 4, 2, 2, 0, 1)[0]
    assert f"= {y[1, 1]:.0f}".replace("-", "\u2212") in first["text"]
    assert second == {"edited": 6, "focus": "0,1", "y": y[1, 1]}


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
def test_convolution_page_says_what_does_not_fit(address, message, tmp_path):
    found = run_in_page(CONVOLUTION, "return document.getElementById('problem').textContent;", tmp_path, address)
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


def test_boxes_page_computes_what_tinynet_computes(tmp_path):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (30, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 40, (30, 2))], axis=1)  # some without an area
    scores = rng.integers(0, 10, 30) / 10  # with ties
    thresholds = [0.0, 0.3, 0.5, 1.0]
    given = {"boxes": boxes.tolist(), "scores": scores.tolist(), "thresholds": thresholds}
    actual = run_in_page(BOXES, COMPUTE_BOXES % json.dumps(given), tmp_path)
    np.testing.assert_allclose(actual["iou"], tn.boxes.box_iou(boxes.astype(float), boxes.astype(float)), rtol=1e-12)
    assert actual["kept"] == [tn.boxes.nms(boxes.astype(float), scores, limit).tolist() for limit in thresholds]
    overlaps = tn.boxes.box_iou(np.array(actual["anchors"]), np.array([[60.0, 70, 120, 150]]))[:, 0]
    labels = np.where((overlaps >= 0.7) | (overlaps == overlaps.max()), 1, np.where(overlaps < 0.3, 0, -1))
    assert actual["labels"] == labels.tolist() and {-1, 0, 1} == set(labels.tolist())


BOX_KEYS = """
  const press = (key, shiftKey) => document.querySelector("#pair [data-box='1']").dispatchEvent(
    new KeyboardEvent("keydown", {key, shiftKey, bubbles: true}));
  press("ArrowDown", false);
  press("ArrowRight", true);
  for (let i = 0; i < 99; i++) press("ArrowUp", false);
  document.getElementById("step").click();
  const first = document.getElementById("ranking").textContent;
  document.getElementById("step").click();
  return {box: state.pair[1], iou: document.getElementById("iou").textContent, first,
          second: document.getElementById("ranking").textContent};
"""


def test_boxes_page_works_by_keyboard(tmp_path):
    result = run_in_page(BOXES, BOX_KEYS, tmp_path)
    assert result["box"] == [0, 80, 80, 192]  # down, wider, and up to the edge of the image
    assert f"{tn.boxes.box_iou([[40, 40, 120, 130.0]], [result['box']])[0, 0]:.3f}" in result["iou"]
    assert "after 1 of" in result["first"] and "after 2 of" in result["second"]
    assert result["first"].count("stays") == 1 and result["second"].count("stays") == 2


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


def test_backpropagation_page_computes_what_tinynet_computes(tmp_path):
    graphs = run_in_page(BACKPROPAGATION, COMPUTE_GRAPHS, tmp_path)
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


GRAPH_KEYS = """
  chooseGraph("a diamond: two paths meet");
  const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  const said = () => document.getElementById("said").textContent;
  const shown = (name) => [...document.querySelectorAll(`g[data-name=${name}] text`)].map((text) => text.textContent);
  const texts = [];
  for (let i = 0; i < 8; i++) { press("ArrowRight"); texts.push(said()); }
  const x = shown("x");
  press("ArrowLeft");
  return {texts, x, before: shown("x")};
"""


def test_backpropagation_page_adds_up_what_meets(tmp_path):
    """loss = x^2 w x with x = 2, w = 3: u = 4, v = 6; d loss / d x = 6 * 4 + 4 * 3 = 36."""
    result = run_in_page(BACKPROPAGATION, GRAPH_KEYS, tmp_path)
    assert "The loss is known" in result["texts"][2] and "= 24" in result["texts"][2]
    assert result["x"] == ["x", "2", "36"] and result["before"] == ["x", "2", "12"]
    assert "together 12 + 24 = 36" in result["texts"][5] and "Done." in result["texts"][5]
    assert result["texts"][6] == result["texts"][7] == result["texts"][5]


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


def test_warp_page_computes_what_tinynet_computes(tmp_path):
    results = run_in_page(WARP, COMPUTE_WARPS % json.dumps(WARPS), tmp_path)
    for settings, result in zip(WARPS, results, strict=True):
        image, field = np.array(result["image"])[None, ..., None], np.array(result["d"])[None]
        warped = tn.warp(tn.tensor(image), tn.tensor(field), settings.get("padding", "border")).numpy()
        np.testing.assert_allclose(result["warped"], warped[0, ..., 0], atol=1e-12)
        expected_determinants = tn.metrics.jacobian_determinant(field[0])
        np.testing.assert_allclose(result["determinants"], expected_determinants, atol=1e-12)
    assert tn.metrics.folded_share(np.array(results[2]["d"])) > 0 == tn.metrics.folded_share(np.array(results[1]["d"]))


WARP_KEYS = """
  const at = (id) => document.getElementById(id);
  const press = (id, key) => at(id).dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  press("to", "ArrowDown");
  press("from", "ArrowLeft");
  const moved = {pixel: state.pixel, center: [state.centerY, state.centerX], said: at("said").textContent};
  Object.assign(state, {bumpY: 24, width: 2});
  draw();
  return {...moved, folded: at("said").textContent};
"""


def test_warp_page_works_by_keyboard_and_names_folds(tmp_path):
    result = run_in_page(WARP, WARP_KEYS, tmp_path)
    assert (result["pixel"], result["center"]) == ([25, 30], [32, 31])
    assert result["said"].startswith("y[25, 30] is read at (25, 30)") and "No pixel is folded" in result["said"]
    assert "% of the pixels are folded" in result["folded"]


THRESHOLD = ROOT / "docs/pages/threshold.html"
COMPUTE_MEASURES = """
  document.querySelector("[data-best=dice]").click();
  return {
    mask: [...mask], probability: [...probability], table: [0, 1, 128, 255, 256].map((t) => table[t]),
    auc: auc(counts), ap: averagePrecision(counts), best: threshold, said: document.getElementById("best").textContent,
  };
"""


def test_threshold_page_computes_what_tinynet_computes(tmp_path):
    page = run_in_page(THRESHOLD, COMPUTE_MEASURES, tmp_path)
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
