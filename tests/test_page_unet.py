"""The page "the U-Net from inside" in a browser: its values, products and rectangles are tinynet's."""

import base64
import json
import re

import numpy as np
import pytest
from browser import axe_problems, press, read, tab_to, text
from processes import ROOT
from unet_by_hand import by_hand, data_of, new_net

import tinynet as tn
from tinynet import nn
from tinynet.tools.bench.examples import load_example
from tinynet.tools.page.command import assembled
from tinynet.tools.page.contents import Architecture, activations, contents, unpacked

UNET = ROOT / "docs/pages/unet.html"
MAPS = Architecture(heads=3).maps


def page_and_net():
    """The data of the page, the shipped net, and the image that the page shows."""
    data = data_of(UNET.read_text(encoding="utf-8"))
    model = load_example("segmentation/unet_nuclei.py").load_net(None).model
    return data, model, unpacked(data["input"]).reshape(*data["shape"], 3)


VALUES = """
  const text = (array) => btoa([...new Uint8Array(array.buffer)].map((byte) => String.fromCharCode(byte)).join(""));
  return Object.fromEntries(maps.map((map) => [map.id, text(values[map.id])]));
"""


@pytest.mark.slow
def test_all_values_of_the_page_are_those_of_tinynet(open_page):
    _, model, image = page_and_net()
    hooked, steps = activations(model, image), by_hand(model, image)
    expected = {entry["id"]: hooked[entry["result"]] for entry in MAPS if "result" in entry} | steps
    actual = read(open_page(UNET), VALUES)
    assert len(actual) == 33 and len(expected) == 26
    for name, array in expected.items():
        values = np.frombuffer(base64.b64decode(actual[name]), "<f4").reshape(array.shape)
        np.testing.assert_allclose(values, array, rtol=0, atol=3e-6 * abs(array).max(), err_msg=name)


TERMS = """
  return %s.map(([id, channel, row, column]) => {
    select(id, channel, row, column);
    const {inputs, bias, sum} = terms(mapOf[id], channel, row, column), list = (key) => inputs.map((term) => term[key]);
    const [shown, written] = ["value", "numbers"].map((id) => document.getElementById(id).textContent);
    return {patch: list("patch"), kernel: list("kernel"), sums: list("sum"), bias, sum, shown, written};
  });
"""


@pytest.mark.slow
def test_the_numbers_of_a_value_are_patch_times_kernel(open_page):
    data, model, image = page_and_net()
    hooked, steps, state = activations(model, image), by_hand(model, image), model.state_dict()
    deep = [data["kernels"][name]["channels"][5] for name in ("conv9", "conv11", "conv12")]
    cases = [("conv1", 4, 0, 95, "down1.0", image), ("conv3", 7, 20, 31, "down2.0", max_pooled(steps["conv2"]))]
    cases += [("conv9", deep[0], 5, 2, "bottom.0", steps["pool5"]), ("conv11", deep[1], 7, 4, "up4", steps["conv10"])]
    cases += [("conv12", deep[2], 0, 6, "merge4.0", steps["concat4"])]
    cases += [("conv23", 1, 50, 60, "head", hooked["merge1.4"])]
    found = read(open_page(UNET), TERMS % json.dumps([case[:4] for case in cases]))
    for (name, channel, row, column, module, x), actual in zip(cases, found, strict=True):
        weight, bias = state[f"{module}.weight"], state[f"{module}.bias"][channel]
        patch, kernel = patch_and_kernel(x, weight, channel, row, column, up=module == "up4")
        given = np.array([[v or 0 for v in values] for values in actual["patch"]])  # None: padding
        np.testing.assert_allclose(given, patch, atol=3e-6 * abs(x).max(), err_msg=name)
        np.testing.assert_array_equal(np.array(actual["kernel"], np.float32), kernel, err_msg=name)
        np.testing.assert_allclose(actual["sums"], (patch * kernel).sum(1), atol=3e-5 * abs(x).max(), err_msg=name)
        total = actual["sum"]
        assert np.isclose(total, (patch * kernel).sum() + bias, atol=1e-4) and actual["bias"] == bias
        value = total if module in ("head", "up4") else max(total, np.expm1(min(total, 0)))
        shown = actual["shown"].replace("\u2212", "-")
        assert len(shown.partition(".")[2]) == 4 and shown != "-0.0000"
        assert float(shown) == pytest.approx(value, rel=3e-6, abs=6e-5), "rounded to four digits, as the page shows it"
        assert actual["shown"] in actual["written"] and f"{patch.size:,} products" in actual["written"]


def max_pooled(x):
    return tn.max_pool2d(tn.tensor(x[None]), 2).numpy()[0]


def patch_and_kernel(x, weight, channel, row, column, up):
    """(patch, kernel) of one output value, both (input channels, taps); x (H, W, C)."""
    if up:
        return x[row // 2, column // 2][:, None], weight[row % 2, column % 2, channel][:, None]
    size = weight.shape[0]
    half = size // 2
    padded = np.pad(x, ((half, half), (half, half), (0, 0)))
    patch = padded[row : row + size, column : column + size].astype(np.float64)
    return (a.reshape(size * size, -1).T for a in (patch, weight[..., channel].astype(np.float64)))


# ---------------------------------------------------------------------------------------- rectangles
RECTANGLES = """
  return %s.map(([id, channel, row, column]) => {
    const box = {rows: [row, row], columns: [column, column], channels: [channel, channel]};
    const found = receptiveField(mapOf[id], box);
    return Object.fromEntries(maps.map((map) => [map.id, [...Array(map.channels).keys()].map((k) => {
      const {rows, columns} = rectangle(found[map.id], k) ?? {rows: [0, -1], columns: [0, -1]};
      return [...rows, ...columns];
    })]));
  });
"""
PLACES = [("conv2", 3, 5, 40), ("conv6", 9, 3, 7), ("conv9", 100, 0, 1), ("conv11", 17, 3, 3), ("conv14", 2, 7, 0)]
PLACES += [("conv13", 77, 2, 5), ("conv19", 30, 15, 9), ("conv23", 0, 31, 20)]


@pytest.fixture(scope="module")
def small_page(tmp_path_factory):
    """A page of 32 x 48 pixels."""
    path = tmp_path_factory.mktemp("small") / "unet.html"
    image = np.random.default_rng(1).random((32, 48, 3), np.float32)
    facts = {"weights": "untrained", "image": "noise", "whole": (32, 48)}
    path.write_text(assembled({**facts, **contents(new_net(), image)}), encoding="utf-8")
    return path


def gradients(model, place, image):
    """{id: |d value / d map| (H, W, C)} of the maps that are outputs of modules, before the map of the place."""
    name, channel, row, column = place
    ids = {entry["result"]: entry["id"] for entry in Architecture(1).maps if "result" in entry}
    modules = {id(module): ids[name] for name, module in model.named_modules() if name in ids}
    x = tn.tensor(image[None], requires_grad=True)
    outputs = {"input": x}

    def keep(module, inputs, output):
        if id(module) in modules:
            outputs[modules[id(module)]] = output

    with nn.observe(keep):
        model(x)
    earlier = [key for key in outputs if key == "input" or int(key[4:]) < int(name[4:])]
    found = tn.grad(outputs[name][0, row, column, channel], [outputs[key] for key in earlier])
    return {key: abs(g.numpy()[0]) for key, g in zip(earlier, found)}


@pytest.mark.slow
def test_receptive_fields_are_where_gradients_are(open_page, small_page):
    found = read(open_page(small_page), RECTANGLES % json.dumps(PLACES))
    image = np.random.default_rng(2).random((32, 48, 3))
    random, positive = new_net().astype(np.float64), new_net().astype(np.float64)
    positive.pool = nn.AvgPool2d(2)  # a maximum has a gradient at one of its four inputs only, a mean at all
    with tn.no_grad():
        for parameter in positive.parameters():
            parameter[...] = abs(parameter.data) + 1e-3
    for place, rectangles in zip(PLACES, found, strict=True):
        inside, exact = gradients(random, place, image), gradients(positive, place, image)
        assert inside.keys() == exact.keys() and len(exact) == int(place[0][4:])
        for name, gradient in exact.items():
            mask = np.zeros(gradient.shape, bool)
            for k, (top, bottom, left, right) in enumerate(rectangles[name]):
                mask[top : bottom + 1, left : right + 1, k] = True
            np.testing.assert_array_equal(gradient > 0, mask, err_msg=f"{name} from {place}")
            assert not (inside[name] > 0)[~mask].any(), f"{name} from {place}"


DUALITY = """
  const one = (row, column, channel) => ({rows: [row, row], columns: [column, column], channels: [channel, channel]});
  const problems = [];
  for (const [id, channel, row, column] of %s) {
    const reached = influence(mapOf[id], one(row, column, channel));
    for (const map of maps.slice(mapOf[id].index + 1)) for (const k of [0, map.channels - 1]) {
      const mine = rectangle(reached[map.id], k);
      for (let r = 0; r < map.height; r++) for (let c = 0; c < map.width; c++) {
        const back = rectangle(receptiveField(map, one(r, c, k))[id], channel);
        const reads = Boolean(back) && contains(back.rows, row) && contains(back.columns, column);
        const isReached = Boolean(mine) && contains(mine.rows, r) && contains(mine.columns, c);
        if (reads !== isReached) problems.push([id, map.id, k, r, c]);
      }
    }
  }
  return problems.slice(0, 5);
"""


@pytest.mark.slow
def test_influence_is_the_receptive_field_seen_from_the_other_end(open_page, small_page):
    places = [("input", 1, 31, 0), ("conv2", 3, 5, 40), ("pool3", 4, 2, 2), ("conv10", 9, 1, 1), ("concat3", 70, 4, 5)]
    assert read(open_page(small_page), DUALITY % json.dumps(places)) == []


# ---------------------------------------------------------------------------------------- keys, pointer, looks
@pytest.mark.slow
def test_page_works_by_keyboard(open_page):
    window = open_page(UNET, "#map=conv4&channel=3&row=10&column=12", width=1280)
    tab_to(window, "[data-map=conv4]")
    press(window, "ArrowDown", "ArrowRight", "Shift+ArrowRight", "+", "+", "-")
    assert read(window, "const {map, channel, row, column} = state; return [map, channel, row, column];") == [
        "conv4",
        4,
        11,
        21,
    ]
    value = read(window, "return at(mapOf.conv4, 11, 21, 4);")
    assert text(window, "#value").replace("\u2212", "-") == f"{value:.4f}"
    press(window, "n", "n")
    assert read(window, "return [state.map, document.activeElement.dataset.map, state.row, state.column];") == [
        "conv5",
        "conv5",
        5,
        10,
    ]
    press(window, "p", "p", "p", "ArrowLeft")
    assert (
        window.evaluate("() => location.hash")
        == "#map=conv3&channel=" + str(read(window, "return state.channel;")) + "&row=11&column=20"
    )
    tab_to(window, "#numbers button")
    press(window, "Enter")
    assert read(window, "return [state.map, document.activeElement.dataset.map];") == ["pool2", "pool2"]
    press(window, *["ArrowUp"] * 60, "Escape")
    assert read(window, "return [state.row, state.held];") == [0, False]


@pytest.mark.slow
def test_pointer_leads_until_a_click_holds_the_pixel(open_page):
    window = open_page(UNET, width=1400)
    target = window.locator("[data-map=conv19]")
    size = target.bounding_box()
    spot = {"x": size["width"] * 30.5 / 48, "y": size["height"] * 7.5 / 48}
    target.hover(position=spot)
    assert read(window, "return [state.map, state.row, state.column, state.held];") == ["conv19", 7, 30, False]
    target.click(position=spot)
    window.locator("[data-map=conv2]").hover()
    assert read(window, "return [state.map, state.held];") == ["conv19", True]
    target.click(position=spot)
    window.locator("[data-map=conv2]").hover()
    assert read(window, "return [state.map, state.held];") == ["conv2", False]


PIXELS = """
  const {marks} = frames.input, {width, height} = marks, all = [...Array(96).keys()];
  const {data} = marks.getContext("2d").getImageData(0, 0, width, height);
  const pixel = (n, size) => Math.floor((n + 0.5) * size / 96);
  const lit = (row, column) => data[4 * (pixel(row, height) * width + pixel(column, width)) + 3] > 0;
  return [rectangle(state.reads.input, 0), all.map((row) => all.map((column) => lit(row, column)))];
"""


@pytest.mark.slow
def test_highlight_covers_the_pixels_of_the_receptive_field(open_page):
    window = open_page(UNET, "#map=conv6&channel=3&row=12&column=9", width=1700)
    rectangle, lit = read(window, PIXELS)
    (top, bottom), (left, right) = rectangle["rows"], rectangle["columns"]
    assert (bottom - top + 1, right - left + 1) == (32, 32)
    lit = np.array(lit)
    assert lit[top : bottom + 1, left : right + 1].all()
    assert not lit[: top - 4].any() and not lit[bottom + 5 :].any() and not lit[:, : left - 4].any()  # the line around


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (900, True), (1600, True)])
def test_page_is_readable_everywhere(width, dark, open_page):
    window = open_page(UNET, "#map=conv12&channel=0", width=width, dark=dark)
    assert window.evaluate("() => document.scrollingElement.scrollWidth") == width
    for address in ("#map=conv12&channel=1", "#map=pool3", "#map=conv11", "#map=concat2", "#map=sigmoid", "#map=input"):
        window.evaluate("(address) => { location.hash = address; }", address)
        window.wait_for_function("(id) => state.map === id", arg=re.findall("map=([a-z0-9]+)", address)[0])
        assert window.evaluate("() => document.scrollingElement.scrollWidth") == width, address
        assert not axe_problems(window, "color-contrast"), address
