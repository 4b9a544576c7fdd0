"""Write a page that shows a U-Net from inside: an image on its way through all 23 convolutions.

    python -m tinynet page                                            # the net and an image that come with tinynet
    python -m tinynet page --weights out/unet_nuclei/best.npz --image cells.png --out cells.html

Open the file in a browser; it needs no network. The net is the U-Net of examples/segmentation/unet_nuclei.py, with one
output or three. The page shows the middle of the image, 96 x 96 pixels after it was scaled for the net.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinynet as tn

from ...errors import DataError
from ...files import atomic_path
from ..bench.examples import load_example
from ..cli import docstring, option, parse
from .contents import SIDE, contents, crop

FOLDER = Path(__file__).parent
SCRIPTS = ("geometry.js", "net.js", "numbers.js", "view.js", "main.js")
MARK = '<meta name="generator" content="python -m tinynet page">'
EXAMPLE = "segmentation/unet_nuclei.py"
EXAMPLE_SOURCE = (
    "2018 Data Science Bowl (Caicedo et al., Nature Methods 2019; CC0), one that the net was not trained on"
)


@dataclass
class PageConfig:
    """The flags of the command."""

    weights: str | None = option(None, "weights from training (default: those that come with tinynet)")
    image: str | None = option(None, "an image file (default: nuclei of the 2018 Data Science Bowl)")
    out: str = option("out/unet.html", "the page; an older page is replaced, another file is not")

    def __post_init__(self) -> None:
        out = Path(self.out)
        if out.is_dir():
            raise ValueError(f"--out is the folder {out}; the name of a file is needed, such as {out / 'unet.html'}")
        if out.exists() and not is_page(out):
            raise ValueError(f"--out: {out} exists and is not a page of this command; choose another name")


def is_page(path: Path) -> bool:
    """True if this command wrote the file."""
    with open(path, "rb") as file:
        return MARK.encode() in file.read(1000)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page. Raises UsageError for flags that make no sense, and as `page` and `atomic_path` do."""
    config = parse(PageConfig, argv, prog="python -m tinynet page", description=docstring(sys.modules[__name__]))
    text = page(config.weights, config.image)
    with atomic_path(config.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(
        f"{config.out}: {len(text) / 1e6:.1f} MB, the middle {SIDE} x {SIDE} pixels of the image; open it in a browser"
    )


def page(weights: str | None = None, image: str | None = None) -> str:
    """The text of the page for the weights and the image in two files; None: those that come with tinynet.

    Raises DataError if `image` is not one image, and CheckpointError if the weights are missing or of another net.
    """
    net = load_example(EXAMPLE).load_net(weights)
    pixels = read_image(Path(image)) if image else tn.data.example_nuclei().image
    shown = crop(net, pixels, net.scale)
    facts = {
        "weights": Path(weights).name if weights else "the weights that come with tinynet",
        "image": Path(image).name if image else EXAMPLE_SOURCE,
        "whole": pixels.shape[:2],
    }
    return assembled({**facts, **contents(net.model, shown)})


def read_image(path: Path) -> np.ndarray:
    """The one image of a file: (H, W, 3) uint8. Raises DataError if there is none, or if there are several."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; --image needs one image file")
    images = [image for _, image in tn.data.read_images(path)]
    if len(images) != 1:
        raise DataError(f"{path} holds {len(images)} images; --image needs a file of one image")
    return images[0]


def assembled(data: dict) -> str:
    """The page: the template with style, scripts and data in their places."""
    text = (FOLDER / "template.html").read_text(encoding="utf-8")
    parts = {
        "style": (FOLDER / "style.css").read_text(encoding="utf-8"),
        "script": "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "data": json.dumps(data, ensure_ascii=True).replace("</", "<\\/"),  # a file name must not end the script
    }
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text
