"""The steps from a trained net and an image to its nuclei: one nucleus size, the net's maps, instances.

A net finds nuclei best at the size it was trained on. So an image is first scaled until its nuclei have a median
diameter of `DIAMETER` pixels. The diameter is not known in advance; `estimate_scale` finds it with the net's own
predictions. `predict_maps` gives what the net predicts at this scale, and `labels_at_scale` cuts the maps into nuclei
in the image's own pixels. `tinynet.nuclei.segment` takes these steps in one call, for images of any size.

A `net` here is any function from float32 (N, H, W, 3), H and W multiples of 16, to maps (N, H, W, heads) in [0, 1]:
the mask alone, or mask, touching border and distance as in `data.maps.targets`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from .certainty import keep_certain
from .checks import check_image, check_maps
from .instances import distance_watershed, drop_small, median_diameter, otsu_watershed, seeded_watershed
from .intensity import apply_normalization, normalization

Net = Callable[[np.ndarray], np.ndarray]
Item = TypeVar("Item")
Result = TypeVar("Result")

DIAMETER = 24.0  # pixels: median diameter of the nuclei, once an image has been scaled
SCALE_LIMITS = (0.12, 5.0)
DIAMETER_LIMITS = (DIAMETER / SCALE_LIMITS[1], DIAMETER / SCALE_LIMITS[0])  # pixels of an image: 4.8 to 200
TILE = 1280  # pixels: with its margins, such a tile takes about 1 GB
BATCH_PIXELS = 2**19  # of images that share a pass of the net: eight of 256 x 256
MULTIPLE = 16  # a U-Net with four poolings halves the size four times
# A pixel of the U-Net's output depends on inputs at most 107 pixels away (see `nn.summary`). A multiple of 16.
MARGIN = 112
GUESSES = 3  # of the size of the nuclei
ENOUGH_TO_MEASURE = 1024  # pixels: an image of this height and width shows enough nuclei to measure their size
MASK_THRESHOLD = 0.6  # chosen on training images; the score is flat between 0.55 and 0.65
# Square pixels at the common scale; smaller objects are dropped. A median nucleus has 450. With three maps, `certainty`
# decides too, so the area need not.
MIN_AREA = {1: 100, 3: 60}  # maps: area
MIN_AREA_MEASURED = 100  # of the nuclei whose size is measured: where nuclei are few, specks would set the median


def predict_tiled(net: Net, image: np.ndarray, tile: int = TILE, margin: int = MARGIN) -> np.ndarray:
    """Maps (H, W, heads) of a normalized image (H, W, 3) of any size, without seams.

    The image is padded by mirroring to multiples of 16 and cut into tiles of at most `tile` pixels. Each tile is
    predicted with `margin` more pixels on every side, which are then cut off. If the margin exceeds the net's receptive
    field, every pixel depends on the same inputs as in a prediction of the whole image.
    Raises ValueError for another shape, values that are not finite, and a `tile` or `margin` not a multiple of 16.
    """
    if tile % MULTIPLE or margin % MULTIPLE or tile < MULTIPLE or margin < 0:
        raise ValueError(f"predict_tiled: tile {tile} and margin {margin} must be multiples of {MULTIPLE}")
    height, width = check_maps("predict_tiled", "image", image, (3,)).shape[:2]
    return _predict_padded(net, _padded(image)[None], tile, margin)[0, :height, :width]


def predict_batch(net: Net, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What `predict_tiled` finds in each of several images; images of one size, once padded, share passes of the net.

    To pad images further, to the size of larger ones, would change what the net sees at their edges.
    """
    padded = [_padded(check_maps("predict_batch", "image", image, (3,))) for image in images]
    maps: list[np.ndarray] = [np.empty(0)] * len(images)
    for shape in dict.fromkeys(image.shape for image in padded):
        same = [i for i, image in enumerate(padded) if image.shape == shape]
        count = max(1, BATCH_PIXELS // (shape[0] * shape[1]))
        for batch in (same[start : start + count] for start in range(0, len(same), count)):
            predicted = _predict_padded(net, np.stack([padded[i] for i in batch]), TILE, MARGIN)
            for i, of_image in zip(batch, predicted):
                maps[i] = of_image[: images[i].shape[0], : images[i].shape[1]]
    return maps


def _padded(image: np.ndarray) -> np.ndarray:
    """The image, mirrored at its lower and right edge until height and width are multiples of 16."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)), mode="symmetric")


def _predict_padded(net: Net, images: np.ndarray, tile: int, margin: int) -> np.ndarray:
    """Maps (N, H, W, heads) of images (N, H, W, 3) whose height and width are multiples of 16."""
    height, width = images.shape[1:3]
    tile_height, tile_width = _even(height, tile), _even(width, tile)
    maps = None
    for top in range(0, height, tile_height):
        for left in range(0, width, tile_width):
            rows = slice(max(0, top - margin), top + tile_height + margin)
            columns = slice(max(0, left - margin), left + tile_width + margin)
            seen = net(np.ascontiguousarray(images[:, rows, columns]))
            if maps is None:
                maps = np.empty((*images.shape[:3], seen.shape[3]), seen.dtype)
            inner = seen[:, top - rows.start :, left - columns.start :][:, :tile_height, :tile_width]
            maps[:, top : top + tile_height, left : left + tile_width] = inner
    assert maps is not None  # an image has at least one tile
    return maps


def _even(length: int, tile: int) -> int:
    """The smallest multiple of 16 with which as few tiles cover this length as with `tile`."""
    tiles = -(-length // tile)
    return -(-length // (tiles * MULTIPLE)) * MULTIPLE


def resize(
    image: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Resize (H, W, C) float32 to `size`: linear interpolation; averages over pixels if the image gets smaller.

    box: (left, top, right, bottom), the part of the image that is resized, not always of whole pixels.
    """
    from PIL import Image

    height, width = size
    if image.shape[:2] == (height, width) and box is None:
        return image
    planes = [
        Image.fromarray(np.ascontiguousarray(image[:, :, c])).resize((width, height), Image.Resampling.BILINEAR, box)
        for c in range(image.shape[2])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label image (H, W) at another size: each pixel takes the number of the nearest pixel."""
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size, labels.shape))
    return labels[rows[:, None], columns]


def size_at_scale(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(H, W) of an image of `size` after scaling, at least 16 pixels a side."""
    height, width = (max(MULTIPLE, round(n * scale)) for n in size)
    return height, width


def middle_of(size: tuple[int, int], side: int) -> tuple[slice, slice]:
    """The rows and columns of the middle `side` x `side` pixels of an image of `size`; all if it is smaller."""
    top, left = (max(0, (n - side) // 2) for n in size)
    return slice(top, top + side), slice(left, left + side)


def predict_maps(net: Net, image: np.ndarray, scale: float) -> np.ndarray:
    """Maps of a normalized image at `scale`: (round(H scale), round(W scale), heads), at least 16 pixels a side."""
    return predict_tiled(net, resize(image, size_at_scale(image.shape[:2], scale)))


def labels_from_maps(maps: np.ndarray, zoom: float = 1.0, min_area: int | None = None) -> np.ndarray:
    """Nuclei (H, W) int32 from predicted maps (H, W, 1 or 3) in which they are about `DIAMETER` * zoom pixels wide.

    One map: distance-transform watershed of the mask. Three maps: the inside of nuclei, mask - border, gives the seeds,
    a watershed regrows them, and nuclei that the maps leave too uncertain are dropped (`certainty`). Lengths and areas
    of both methods are multiplied by zoom and zoom^2.
    min_area: nuclei of fewer pixels are dropped; by default `MIN_AREA` * zoom^2.
    """
    pieces = pieces_from_maps(maps, zoom, min_area)
    return keep_certain(pieces, maps) if maps.shape[2] == 3 else pieces


def pieces_from_maps(maps: np.ndarray, zoom: float = 1.0, min_area: int | None = None) -> np.ndarray:
    """`labels_from_maps`, uncertain nuclei included."""
    mask = check_maps("labels_from_maps", "maps", maps, (1, 3))[:, :, 0]
    if min_area is None:
        min_area = round(MIN_AREA[maps.shape[2]] * zoom**2)
    if maps.shape[2] == 1:
        labels = distance_watershed(mask > MASK_THRESHOLD, sigma=2 * zoom, min_distance=round(5 * zoom))
        return drop_small(labels, min_area)
    return seeded_watershed(
        mask, maps[:, :, 1], min_seed=round(3 * zoom**2), mask_threshold=MASK_THRESHOLD, min_size=min_area
    )


def labels_at_scale(maps: np.ndarray, scale: float, size: tuple[int, int]) -> np.ndarray:
    """Nuclei in the pixels of an image of `size`, from its maps at `scale`: int32 (H, W).

    The maps are resized, not the nuclei: then a pixel of the image is nucleus if the net is sure of it on average.
    """
    return labels_from_maps(resize(maps.astype(np.float32), size), 1 / scale)


def estimate_scale(net: Net, image: np.ndarray) -> float:
    """The factor that brings the median nucleus of an image (H, W, 3) uint8 to `DIAMETER` pixels.

    There are three guesses: the median diameter that Otsu's method finds, its area-weighted median, and no scaling. For
    each guess the net predicts, and the nuclei found are measured. The result is the median of the measurements: each
    alone is wrong by more than a factor of 1.5 on some images. A measurement does not count if another one found as
    many nuclei on three times the area: at a wrong scale the net finds the texture inside of large nuclei. If an image
    has more than `ENOUGH_TO_MEASURE` pixels a side, only its middle is used.
    """
    return estimate_scales(net, [image])[0]


def estimate_scales(net: Net, images: Sequence[np.ndarray]) -> list[float]:
    """`estimate_scale` of each of several images (H, W, 3) uint8, which share passes of the net."""
    parts = [(check_image("estimate_scale", image), middle_of(image.shape[:2], ENOUGH_TO_MEASURE)) for image in images]
    guesses = in_threads(_guessed_scales, [image[middle] for image, middle in parts])
    scaled, jobs = {}, []  # guesses that lead to the same size share a pass
    for i, (image, middle) in enumerate(parts):
        normal = apply_normalization(image[middle], *normalization(image))
        for scale in guesses[i]:
            size = size_at_scale(normal.shape[:2], scale)
            jobs.append((scale, (i, size)))
            if (i, size) not in scaled:
                scaled[i, size] = resize(normal, size)
    maps = dict(zip(scaled, predict_batch(net, list(scaled.values()))))
    found = in_threads(_measured, [(scale, maps[key]) for scale, key in jobs])
    return [_agreed_scale(found[i : i + GUESSES]) for i in range(0, len(found), GUESSES)]


def _guessed_scales(image: np.ndarray) -> list[float]:
    baseline = otsu_watershed(image)
    guesses = [median_diameter(baseline), median_diameter(baseline, area_weighted=True), DIAMETER]
    assert len(guesses) == GUESSES
    return [limited(DIAMETER / (DIAMETER if np.isnan(guess) else guess)) for guess in guesses]


def _measured(seen: tuple[float, np.ndarray]) -> tuple[float, int, float]:
    """(median diameter, number, area) of the nuclei in the pixels of an image, from (a guessed scale, its maps)."""
    scale, maps = seen
    labels = labels_from_maps(maps, min_area=MIN_AREA_MEASURED)
    diameter = median_diameter(labels) / scale
    area = np.count_nonzero(labels) / scale**2
    return DIAMETER / scale if np.isnan(diameter) else diameter, int(labels.max()), area


def _agreed_scale(found: Sequence[tuple[float, int, float]]) -> float:
    """The scale at which the median nucleus has `DIAMETER` pixels, from what was measured for each guess."""
    diameters = sorted(
        diameter
        for diameter, count, area in found
        if not any(0 < more >= count and larger >= 3 * area for _, more, larger in found)
    )
    return limited(DIAMETER / diameters[len(diameters) // 2])


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The results of a function of NumPy, SciPy or scikit-image, which let other threads work. Not for kernels."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def limited(scale: float) -> float:
    """The scale, clipped to SCALE_LIMITS."""
    return float(np.clip(scale, *SCALE_LIMITS))
