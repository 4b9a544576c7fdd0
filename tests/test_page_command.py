"""`python -m tinynet page`: the page holds the values and kernels of the net, and what is wrong is said."""

import re

import numpy as np
import pytest
from PIL import Image
from processes import ROOT
from unet_by_hand import by_hand, check_kernels, data_of, new_net

import tinynet as tn
from tinynet import nn
from tinynet.errors import CheckpointError, DataError, UsageError
from tinynet.tools.bench.examples import load_example
from tinynet.tools.page.command import MARK, main, page
from tinynet.tools.page.contents import Architecture, unpacked

UNET = ROOT / "docs/pages/unet.html"
MAPS = Architecture(heads=3).maps


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the weights of an untrained net, an image, and the page of both."""
    folder = tmp_path_factory.mktemp("page")
    tn.io.save_weights(folder / "net.npz", new_net(), {"settings": {"native": True}})
    pixels = np.random.default_rng(0).integers(0, 256, (70, 110, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "<b>cells.png")
    main(["--weights", f"{folder}/net.npz", "--image", f"{folder}/<b>cells.png", "--out", f"{folder}/page.html"])
    return folder


def test_the_23_convolutions_are_all_of_the_net():
    model = new_net()
    modules = dict(model.named_modules())
    convolutions = [entry["module"] for entry in MAPS if "module" in entry]
    assert [entry["id"] for entry in MAPS if "module" in entry] == [f"conv{n}" for n in range(1, 24)]
    assert sum(p.size for name in convolutions for p in modules[name].parameters()) == 1_941_105
    assert len(MAPS) == 33


def test_page_holds_the_values_and_kernels_of_the_net(files):
    html = (files / "page.html").read_text(encoding="utf-8")
    assert len(html) < 5e6 and MARK in html and "<b>cells" not in html.partition('id="data"')[0]
    data, model = data_of(html), new_net()
    assert (data["shape"], data["outputs"], data["image"]) == ([64, 96], ["mask"], "<b>cells.png")
    image = unpacked(data["input"]).reshape(64, 96, 3)
    pixels = np.asarray(Image.open(files / "<b>cells.png"))
    np.testing.assert_array_equal(image, tn.data.normalize(pixels)[3:67, 7:103])  # the middle, multiples of 16
    expected = by_hand(model, image)
    assert list(data["values"]) == ["conv7", "conv8", "conv9", "conv10", "conv11", "conv12", "conv13"]
    for name in data["values"].keys() & expected.keys():
        actual = unpacked(data["values"][name]).reshape(expected[name].shape)
        np.testing.assert_allclose(actual, expected[name], rtol=0, atol=1e-5 * abs(expected[name]).max(), err_msg=name)
    check_kernels(data, model)


@pytest.mark.slow
def test_page_is_written_again_as_it_was(files):
    before = (files / "page.html").read_bytes()
    main(["--weights", f"{files}/net.npz", "--image", f"{files}/<b>cells.png", "--out", f"{files}/page.html"])
    assert (files / "page.html").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        (["--image", "missing.png"], DataError, "missing.png: no such file"),
        (["--image", "text.png"], DataError, "text.png"),
        (["--image", "."], DataError, "is a folder; --image needs one image file"),
        (["--weights", "missing.npz"], CheckpointError, "missing.npz"),
        (["--weights", "other.npz"], CheckpointError, "holds no U-Net"),
        (["--out", "text.png"], UsageError, "exists and is not a page of this command"),
        (["--out", "."], UsageError, "is the folder"),
    ],
)
def test_page_says_what_is_wrong(flags, error, message, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    tn.io.save_weights(tmp_path / "other.npz", nn.Linear(3, 2))
    net = [] if "--weights" in flags else ["--weights", str(files / "net.npz")]
    image = [] if "--image" in flags else ["--image", str(files / "<b>cells.png")]
    out = [] if "--out" in flags else ["--out", "page.html"]
    with pytest.raises(error, match=re.escape(message)):
        main([*flags, *net, *image, *out])
    assert (tmp_path / "text.png").read_text() == "no image"
    assert {path.name for path in tmp_path.iterdir()} == {"text.png", "other.npz"}


@pytest.mark.slow
def test_the_committed_page_is_what_the_command_writes():
    committed, written = UNET.read_text(encoding="utf-8"), page()
    assert len(committed) < 3e6
    actual, expected = data_of(committed), data_of(written)
    assert committed.partition('id="data">')[0] == written.partition('id="data">')[0]
    assert committed.rpartition("</script>\n<script>")[2] == written.rpartition("</script>\n<script>")[2]
    for key in ("weights", "image", "whole", "shape", "outputs", "maps"):
        assert actual[key] == expected[key], key
    arrays = {"input": (actual["input"], expected["input"])}
    arrays |= {name: (actual["values"][name], expected["values"][name]) for name in expected["values"]}
    for name, pair in arrays.items():  # processors add in different orders
        a, b = map(unpacked, pair)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * abs(b).max(), err_msg=name)
    check_kernels(actual, load_example("segmentation/unet_nuclei.py").load_net(None).model)
