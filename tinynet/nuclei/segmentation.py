"""From an image to its nuclei in one call: `segment`. `segment_many` does the same for several images at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np

from ..data import to_rgb8
from ..errors import DataError
from ..imaging import segment as imaging
from .looks import doubt
from .net import Net, kept_net
from .tiles import Tile, Tiled, predict

Progress = Callable[[int, int], None]  # called with (tiles done, tiles in all)
GROUP_PIXELS = 2**20  # of images that share passes of the net: 16 images of 256 x 256


@dataclass(frozen=True)
class Nuclei:
    """What was found in one image.

    labels: int32 (H, W), 0 background and 1, 2, ... the nuclei. diameter: the nucleus diameter, in pixels of the image,
    that was given or measured. doubt: why the result may be wrong, in a sentence, or "".
    """

    labels: np.ndarray
    diameter: float
    doubt: str


def segment(
    image: np.ndarray,
    diameter: float | None = None,
    flips: bool = True,
    min_area: float | None = None,
    exclude_border: bool = False,
    weights: str | Path | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Find the nuclei of a microscope image: a label image, int32 (H, W), 0 background and 1, 2, ... the nuclei.

    `labels == 3` are the pixels of nucleus 3, and `labels.max()` is the number of nuclei.

    image: gray (H, W) or color (H, W, 3 or 4), of 8 or 16 bits or floats: the values as the microscope wrote them.
    Nuclei may be bright on dark or dark on bright. Of several fluorescence channels, pass the channel of the nuclei.
    diameter: of a typical nucleus, in pixels of the image, 4.8 to 200; measured if it is not given.
    flips: average over the image and three mirrored ones. `False` takes half of the time, with a `diameter` a tenth;
        its outlines are a little less exact.
    min_area: nuclei of fewer pixels are dropped. By default, those below an eighth of the area of a typical nucleus;
        of a net with one output, below a quarter.
    exclude_border: drop the nuclei that the edge of the image cuts.
    weights: a file from training on images of your own; by default the weights that come with tinynet.
    progress: called with (tiles done, tiles in all). A small image is one tile; a large one is cut into many.

    Raises `DataError` if the image has another shape, no pixels, NaN or infinity; `ValueError` for a `diameter` or a
    `min_area` that makes no sense; `CheckpointError` if `weights` holds no net.
    """
    return segment_many(kept_net(weights), [image], diameter, flips, min_area, exclude_border, progress)[0].labels


def segment_many(
    net: Net,
    images: Sequence[np.ndarray],
    diameter: float | None = None,
    flips: bool = True,
    min_area: float | None = None,
    exclude_border: bool = False,
    progress: Progress | None = None,
) -> list[Nuclei]:
    """The nuclei of several images, each as `segment` finds them alone; faster: the images share passes of the net.

    net: from `load_net`. The other arguments are those of `segment`, for all images; `progress` counts the tiles of the
    images that share passes. Raises as `segment` does; the message names the image by its place, as in `images[2]`.
    """
    check_sizes(diameter, min_area)
    if diameter is not None and net.scale:
        raise ValueError(f"segment: {net.path} was trained with --native, on images as they are; omit diameter")
    names = ["image"] if len(images) == 1 else [f"images[{i}]" for i in range(len(images))]
    found: list[Nuclei] = []
    for pixels in _groups(_rgb(image, name) for image, name in zip(images, names)):
        scales = _scales(net, pixels, diameter)
        tiled = [Tiled(image, scale, flips, min_area) for image, scale in zip(pixels, scales)]
        _fill(net, tiled, progress)
        for image, of_image in zip(pixels, tiled):
            labels = of_image.finish(exclude_border)
            reason = doubt(image, labels, net.looks, None if net.scale else of_image.scale)
            found.append(Nuclei(labels, imaging.DIAMETER / of_image.scale, reason))
    return found


def check_sizes(
    diameter: float | None, min_area: float | None, names: tuple[str, str] = ("segment: diameter", "segment: min_area")
) -> None:
    """Raise ValueError for a diameter that no net can work with, or an area below 0. names: as the user knows both."""
    smallest, largest = imaging.DIAMETER_LIMITS
    if diameter is not None and not (isinstance(diameter, Real) and smallest <= diameter <= largest):
        raise ValueError(
            f"{names[0]} is {diameter!r}; a number of pixels from {smallest:g} to {largest:g} is needed: "
            "resize the image if its nuclei are smaller or larger"
        )
    if min_area is not None and not (isinstance(min_area, Real) and 0 <= min_area < float("inf")):
        raise ValueError(f"{names[1]} is {min_area!r}; a number of pixels, 0 or more, is needed")


def _rgb(image: np.ndarray, name: str) -> np.ndarray:
    """The image as (H, W, 3) uint8. Raises `DataError` as `to_rgb8`, and if its channels come first."""
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[0] <= 4 < image.shape[2]:
        raise DataError(
            f"segment: {name} has shape {image.shape}, (H, W) or (H, W, channels) is needed; if its channels come "
            f"first, pass np.moveaxis({name}, 0, -1) for a color image, or the channel of the nuclei: {name}[0]"
        )
    return to_rgb8(image, f"segment: {name}")


def _groups(images: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Images that follow each other, as many as together have `GROUP_PIXELS`; at least one."""
    group: list[np.ndarray] = []
    for image in images:
        if group and sum(other[:, :, 0].size for other in [*group, image]) > GROUP_PIXELS:
            yield group
            group = []
        group.append(image)
    if group:
        yield group


def _scales(net: Net, images: Sequence[np.ndarray], diameter: float | None) -> list[float]:
    """For each image the factor that enlarges it for the net."""
    if net.scale:
        return [net.scale] * len(images)
    if diameter is not None:
        return [imaging.limited(imaging.DIAMETER / diameter)] * len(images)
    return imaging.estimate_scales(net, images)


def _fill(net: Net, images: Sequence[Tiled], progress: Progress | None) -> None:
    """Find the nuclei of all tiles. Images of one tile share passes of the net; the tiles of a larger one follow."""
    alone = [tile for image in images if len(image.cores) == 1 for tile in image.tiles()]
    batches: list[Sequence[Tile]] = [alone] if alone else []
    total, done = sum(len(image.cores) for image in images), 0
    for image in images:
        if len(image.cores) > 1:
            batches.extend([tile] for tile in image.tiles())
    for batch in batches:
        found = imaging.in_threads(lambda pair: pair[0].nuclei(pair[1]), zip(batch, predict(net, batch)))
        for tile, labels in zip(batch, found):
            tile.of.add(tile, labels)
            done += 1
            if progress is not None:
                progress(done, total)
