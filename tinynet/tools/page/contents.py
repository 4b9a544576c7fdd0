"""What the page needs to know of a net and an image: the maps of the net, its kernels, and the values of the deep maps.

With all 1.9 million weights the page would have 6 MB for the shipped float16 weights, and 10 MB for float32. Levels 1
to 3 have a seventh of the weights and nearly all the pixels. So the page holds every kernel of levels 1 to 3, and the
browser computes the maps of these levels itself. Of levels 4 and 5 it holds all values, but of each layer only the
kernels of the `KERNELS` output channels that vary most on this image: 2 MB, or at most 4 MB for float32. Nothing is
rounded: every array is the float32 that tinynet computed with.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

import tinynet as tn

SIDE = 96  # pixels: height and width of the crop
KERNELS = 32  # output channels of a layer of levels 4 and 5 whose kernels are on the page
FIRST_STORED_LEVEL = 4
CHANNELS = (16, 32, 64, 128, 256)  # of levels 1 to 5
OUTPUTS = ("mask", "touching border", "distance")


class Architecture:
    """The maps of the U-Net in the order in which they are computed.

    maps: for each map its `id`, `op` (input, conv, pool, up, concat or sigmoid), the ids it is computed `from`, `level`
    (1 to 5; level l has 1 / 2^(l - 1) of the pixels a side), `arm` of the U (down, bottom, up or out), `channels`, and
    for the 23 convolutions `module` (whose weights it has), `result` (the module whose output it is) and `size` of the
    kernel.
    """

    def __init__(self, heads: int) -> None:
        self.maps: list[dict[str, Any]] = []
        source = self.add("input", "input", [], level=1, arm="down", channels=3)
        skips = []
        for level in (1, 2, 3, 4, 5):
            arm = "down" if level < 5 else "bottom"
            if level > 1:
                facts = {"level": level, "arm": arm, "channels": CHANNELS[level - 2]}
                source = self.add("pool", f"pool{level}", [source], **facts)
            source = self.block(source, level, arm, f"down{level}" if level < 5 else "bottom")
            skips.append(source)
        for level in (4, 3, 2, 1):
            facts = {"level": level, "arm": "up"}
            source = self.convolution("up", source, f"up{level}", size=2, channels=CHANNELS[level - 1], **facts)
            sources = [source, skips[level - 1]]
            source = self.add("concat", f"concat{level}", sources, channels=2 * CHANNELS[level - 1], **facts)
            source = self.block(source, level, "up", f"merge{level}")
        source = self.convolution("conv", source, "head", size=1, channels=heads, level=1, arm="out")
        self.add("sigmoid", "sigmoid", [source], level=1, arm="out", channels=heads)

    def add(self, op: str, name: str, sources: list[str], **facts: Any) -> str:
        """Append a map; returns its id."""
        self.maps.append({"id": name, "op": op, "from": sources, **facts})
        return name

    def convolution(self, op: str, source: str, module: str, **facts: Any) -> str:
        """Append the map of a convolution; its id has the next number."""
        number = 1 + sum("module" in entry for entry in self.maps)
        return self.add(op, f"conv{number}", [source], **{"module": module, "result": module, **facts})

    def block(self, source: str, level: int, arm: str, module: str) -> str:
        """Append the maps of two 3 x 3 convolutions, each followed by ELU."""
        facts = {"size": 3, "channels": CHANNELS[level - 1], "level": level, "arm": arm}
        for conv, elu in ((0, 1), (3, 4)):
            source = self.convolution("conv", source, f"{module}.{conv}", result=f"{module}.{elu}", **facts)
        return source


def is_stored(entry: dict[str, Any]) -> bool:
    """True for the maps whose values are on the page; the browser computes the others."""
    return "module" in entry and entry["level"] >= FIRST_STORED_LEVEL


def crop(net: tn.segment.Net, image: np.ndarray, scale: float | None) -> np.ndarray:
    """The middle of an image (H, W, 3) uint8 as the net sees it: float32, at most `SIDE` pixels a side.

    Height and width are multiples of 16, because the net halves them four times. scale: the factor that enlarges the
    image for the net; None: the factor that brings its nuclei to the size the net was trained on.
    """
    size = tn.segment.size_at_scale(image.shape[:2], scale or tn.segment.estimate_scale(net, image))
    scaled = tn.segment.resize(tn.data.normalize(image), size)
    height, width = (min(SIDE, n - n % tn.segment.MULTIPLE) for n in size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


def activations(model: tn.nn.Module, image: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs (H, W, C) of all modules of a model for one image (H, W, 3), by the names of the modules.

    A module that is called several times, such as the pooling, has the output of its last call.
    """
    names = {id(module): name for name, module in model.named_modules()}
    found: dict[str, np.ndarray] = {}

    def keep(module: tn.nn.Module, inputs: tuple, output: tn.Tensor) -> None:
        found[names[id(module)]] = output.numpy()[0]

    with tn.no_grad(), tn.nn.observe(keep):
        model(tn.tensor(image[None]))
    return found


def contents(model: tn.nn.Module, image: np.ndarray) -> dict[str, Any]:
    """Everything that the page is made from, ready for JSON; arrays as in `packed`.

    model: the U-Net of examples/segmentation/unet_nuclei.py in evaluation mode. image: (H, W, 3) float32, H and W
    multiples of 16. `kernels` has for each convolution `weight` in tinynet's layout, `bias`, and `channels`: the output
    channels that they belong to.
    """
    heads = model.head.out_channels
    maps, values, state = Architecture(heads).maps, activations(model, image), model.state_dict()
    kernels = {}
    for entry in (entry for entry in maps if "module" in entry):
        chosen = np.arange(entry["channels"])
        if is_stored(entry):
            spread = values[entry["result"]].std(axis=(0, 1))
            chosen = np.sort(np.argsort(-spread, kind="stable")[:KERNELS])
        weight, bias = (state[f"{entry['module']}.{kind}"] for kind in ("weight", "bias"))
        weight = weight[:, :, chosen] if entry["op"] == "up" else weight[..., chosen]
        arrays = {"weight": packed(weight), "bias": packed(bias[chosen])}
        kernels[entry["id"]] = {"channels": chosen.tolist(), **arrays}
    stored = {entry["id"]: packed(values[entry["result"]]) for entry in maps if is_stored(entry)}
    keys = ("id", "op", "from", "level", "arm", "channels", "size")
    return {
        "shape": image.shape[:2],
        "outputs": OUTPUTS[:heads],
        "maps": [{key: entry[key] for key in keys if key in entry} for entry in maps],
        "input": packed(image),
        "kernels": kernels,
        "values": stored,
    }


def packed(array: np.ndarray) -> str:
    """The elements of an array as little-endian float32, compressed by zlib, as base64. Nothing is lost."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array, "<f4").tobytes(), 9)).decode()


def unpacked(text: str) -> np.ndarray:
    """The elements of `packed`, one after the other: (n,) float32."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<f4")
