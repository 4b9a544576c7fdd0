"""Images to look at: outlines on images, montages and diagrams.

Functions return or write plain RGB images, without a window and without the global state of pyplot.
The colors are from Okabe and Ito (2008), which people with any common color blindness can tell apart.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..files import atomic_path
from ..training.figures import (  # noqa: F401
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    mpl,
    new_figure,
    plot_curve,
    save_figure,
    subplots,
)
from .checks import check_image, check_labels, check_same_shape, check_same_size
from .metrics import auc, auc_interval, iou_matrix, roc_curve
from .volume_views import PLANES, draw_planes, draw_surfaces, rotation, save_gif  # noqa: F401

if TYPE_CHECKING:
    from ..training.figures import Axes as Axes
    from ..training.figures import Figure as Figure

OUTLINES = np.array([ORANGE, SKY, YELLOW, VERMILLION, PURPLE, GREEN], dtype=np.uint8)
HIT, MISS, FALSE_ALARM = SKY, YELLOW, VERMILLION

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
FONT_SIZE = 13  # pixels


def stretch(image: np.ndarray) -> np.ndarray:
    """Brighten a dim image for display: gray percentile 99.8 becomes white, black stays black.

    image: uint8 (H, W, 3). Returns uint8 (H, W, 3); a bright image does not change. Fluorescence images often use only
    a fifth of the gray levels. Use the result for display, never for measurements.
    """
    white = np.percentile(check_image("stretch", image).mean(axis=2), 99.8)
    brighter = np.clip(np.rint(np.arange(256) * (255 / max(white, 1))), 0, 255).astype(np.uint8)
    return brighter[image]


# --- outlines -----------------------------------------------------------------------------------------------


def outline(labels: np.ndarray) -> np.ndarray:
    """The outermost pixels of every nucleus: bool (H, W). It is open at the image border."""
    from skimage.segmentation import find_boundaries  # here, because scripts that draw figures only do not need it

    return find_boundaries(labels, mode="inner")


def casing(labels: np.ndarray) -> np.ndarray:
    """The first pixels outside every nucleus: bool (H, W). Black, they set off light outlines."""
    from skimage.segmentation import find_boundaries

    return find_boundaries(labels, mode="outer")


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The image, brightened by `stretch`, with each nucleus outlined in a color that depends on its number.

    image: uint8 (H, W, 3); labels: integers (H, W). Returns uint8 (H, W, 3).
    """
    labels = check_labels("overlay", "labels", labels)
    drawing = stretch(check_image("overlay", image))
    check_same_size("overlay", labels, image)
    edge = outline(labels)
    drawing[casing(labels)] = BLACK
    drawing[edge] = OUTLINES[labels[edge] % len(OUTLINES)]
    return drawing


def comparison_overlay(image: np.ndarray, true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Hits, misses and false alarms as outlines, with their counts in a legend below the image.

    A hit is a predicted nucleus with an IoU above 0.5 with a true nucleus (the predicted outline is drawn). A miss is a
    true nucleus without such a partner, a false alarm a predicted nucleus without one.

    image: uint8 (H, W, 3); true, pred: integers (H, W). Returns uint8 (H + legend, W, 3), or a wider image if the
    legend's longest entry needs it.
    """
    true, pred = (check_labels("comparison_overlay", name, x) for name, x in (("true", true), ("pred", pred)))
    check_same_shape("comparison_overlay", true, pred)
    drawing = stretch(check_image("comparison_overlay", image))
    check_same_size("comparison_overlay", true, image)

    matched = iou_matrix(true, pred) > 0.5
    true_ids, pred_ids = (np.unique(labels[labels > 0]) for labels in (true, pred))
    missed, hit = true_ids[~matched.any(axis=1)], matched.any(axis=0)
    groups = (
        (np.where(np.isin(true, missed), true, 0), MISS),
        (np.where(np.isin(pred, pred_ids[~hit]), pred, 0), FALSE_ALARM),
        (np.where(np.isin(pred, pred_ids[hit]), pred, 0), HIT),
    )
    for labels, _ in groups:  # all black pixels first, so that they cover no outline
        drawing[casing(labels)] = BLACK
    for labels, color in groups:
        drawing[outline(labels)] = color

    legend = (
        (f"hit (IoU > 0.5): {hit.sum()}", HIT),
        (f"missed: {len(missed)}", MISS),
        (f"false alarm: {(~hit).sum()}", FALSE_ALARM),
    )
    return _stack(drawing, _legend(legend, drawing.shape[1]))


# --- text and montage ---------------------------------------------------------------------------------------


def _font(size: int = FONT_SIZE) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _legend(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> np.ndarray:
    """Colored text on black, as many entries per line as fit into `width` pixels. The font grows with the width."""
    font_size = max(FONT_SIZE, width // 30)
    font, gap, line_height = _font(font_size), font_size, font_size + 5
    lengths = [int(np.ceil(font.getlength(text))) + gap for text, _ in entries]
    places, x, y = [], 0, 0
    for length in lengths:
        if x and x + length > width:
            x, y = 0, y + line_height
        places.append((x + gap // 2, y + 1))
        x += length
    strip = Image.new("RGB", (max(width, *lengths), y + line_height), BLACK)
    draw = ImageDraw.Draw(strip)
    for place, (text, color) in zip(places, entries, strict=True):
        draw.text(place, text, fill=color, font=font)
    return np.asarray(strip)


def _stack(*drawings: np.ndarray) -> np.ndarray:
    """Images below each other, the narrower ones padded with black on the right."""
    width = max(drawing.shape[1] for drawing in drawings)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0))) for p in drawings])


def _to_width(drawing: np.ndarray, width: int) -> Image.Image:
    """Scale to a width and keep the proportions. Enlarged images show single pixels."""
    image = Image.fromarray(drawing)
    height = max(1, round(image.height * width / image.width))
    smooth, sharp = Image.Resampling.LANCZOS, Image.Resampling.NEAREST
    return image.resize((width, height), sharp if width > image.width else smooth)


def panel(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    captions: Sequence[str] | None = None,
    width: int = 256,
) -> np.ndarray:
    """A montage: rows of images, a title above each column, a caption below each row.

    rows: lists of uint8 images (H, W, 3) of any size; titles: one for each column; captions: one for each row, or None;
    width: of each image after scaling, in pixels. Returns uint8 (height, width, 3); `save_png` writes it.
    Raises ValueError if the numbers of images, titles and captions do not agree.
    """
    if not rows:
        raise ValueError("panel: rows is empty, at least one row of images is needed")
    for number, row in enumerate(rows):
        if len(row) != len(titles):
            raise ValueError(f"panel: row {number} has {len(row)} images, titles name {len(titles)} columns")
    if captions is not None and len(captions) != len(rows):
        raise ValueError(f"panel: {len(captions)} captions for {len(rows)} rows")

    font_size = max(FONT_SIZE, width // 20)
    font, gap, text_height = _font(font_size), 8, font_size + 7
    scaled = [[_to_width(check_image("panel", drawing), width) for drawing in row] for row in rows]
    below = gap if captions is None else gap + text_height
    heights = [max(drawing.height for drawing in row) + below for row in scaled]
    canvas = Image.new("RGB", (gap + len(titles) * (width + gap), text_height + sum(heights)), WHITE)
    draw = ImageDraw.Draw(canvas)
    lefts = [gap + column * (width + gap) for column in range(len(titles))]
    for left, title in zip(lefts, titles, strict=True):
        draw.text((left, 2), title, fill=BLACK, font=font)
    top = text_height
    for number, (images, height) in enumerate(zip(scaled, heights, strict=True)):
        for left, drawing in zip(lefts, images, strict=True):
            canvas.paste(drawing, (left, top))
        if captions is not None:
            draw.text((gap, top + height - below + 2), captions[number], fill=BLACK, font=font)
        top += height
    return np.asarray(canvas)


def save_png(path: str | os.PathLike, drawing: np.ndarray) -> None:
    """Write a uint8 image (H, W, 3) as PNG. An older file is replaced in one step."""
    with atomic_path(path) as temporary:
        Image.fromarray(check_image("save_png", drawing)).save(temporary, format="PNG")


def checkerboard(first: np.ndarray, second: np.ndarray, squares: int = 8) -> np.ndarray:
    """Two images in the squares of a checkerboard: where they fit, edges go on from square to square.

    first, second: arrays of one shape, (H, W) or (H, W, C). squares: along the shorter side; the upper left one is of
    `first`. Returns the same shape. Raises ValueError for other shapes and for squares < 1.
    """
    if first.shape != second.shape or first.ndim not in (2, 3) or first.size == 0:
        raise ValueError(
            f"checkerboard: first has shape {first.shape}, second {second.shape}; (H, W) or (H, W, C) twice is needed"
        )
    if squares < 1:
        raise ValueError(f"checkerboard: squares is {squares}; at least 1 is needed")
    height, width = first.shape[:2]
    side = max(1, -(-min(height, width) // squares))
    odd = (np.arange(height)[:, None] // side + np.arange(width) // side) % 2 == 1
    return np.where(odd.reshape(height, width, *(1,) * (first.ndim - 2)), second, first)


def compare_masks(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two masks, bool (H, W), in one drawing, uint8 (H, W, 3): gray both, blue only the first, orange only the second.

    Raises ValueError for other types or shapes.
    """
    for mask in (first, second):
        if mask.dtype != bool or mask.ndim != 2 or mask.shape != first.shape:
            raise ValueError(
                f"compare_masks: first is {first.dtype} {first.shape}, second {second.dtype} {second.shape}; need two "
                "masks, bool (H, W), of the same shape"
            )
    drawing = np.full((*first.shape, 3), 255, np.uint8)
    for pixels, color in ((first & second, (110, 110, 110)), (first & ~second, BLUE), (second & ~first, ORANGE)):
        drawing[pixels] = color
    return drawing


def busiest_square(mask: np.ndarray, size: int) -> tuple[slice, slice]:
    """The square of `size` pixels that holds most pixels of a mask, bool (H, W): where to look in a large image.

    A smaller image gives its largest square. Raises ValueError if the mask has no pixels or size < 1.
    """
    if mask.ndim != 2 or not mask.size or size < 1:
        raise ValueError(f"busiest_square: mask {mask.shape}, size {size}; need (H, W) with pixels, and 1 or more")
    size = min(size, *mask.shape)
    sums = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # pixels above and to the left
    counts = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    row, column = (int(n) for n in np.unravel_index(counts.argmax(), counts.shape))
    return slice(row, row + size), slice(column, column + size)


# --- diagrams -----------------------------------------------------------------------------------------------


def draw_roc(
    axes: "Axes", true: np.ndarray, score: np.ndarray, label: str = "", color: tuple[int, int, int] = BLUE
) -> None:
    """Draw a ROC curve, with its area and 95 % interval in the legend, and the diagonal that guessing gives.

    true, score: as for `metrics.roc_curve`. label: the text before the area, for axes with several curves.
    """
    false_positive_rate, true_positive_rate, _ = roc_curve(true, score)
    low, high = auc_interval(true, score)
    text = f"{label} AUC {auc(true, score):.3f} ({low:.3f} to {high:.3f})".strip()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    axes.step(false_positive_rate, true_positive_rate, where="post", color=mpl(color), label=text)
    axes.set(xlabel="false positive rate (1 - specificity)", ylabel="true positive rate (sensitivity)", aspect="equal")
    axes.legend(loc="lower right")


def draw_confusion(axes: "Axes", table: np.ndarray, classes: Sequence[str]) -> None:
    """Draw a table of `metrics.confusion_matrix`: counts, shaded by their share of the true class (the row)."""
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        if count:
            shade = "w" if shares[row, column] > 0.5 else "k"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=shade)
    long_names = max(len(name) for name in classes) > 3
    axes.set_xticks(
        range(len(classes)), classes, rotation=35 if long_names else 0, ha="right" if long_names else "center"
    )
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true")


def draw_warped_grid(axes: "Axes", displacement: np.ndarray, step: int = 3) -> None:
    """Draw where the grid lines of an image lie after `tn.warp(image, displacement)`; row 0 is at the bottom.

    displacement: (H, W, 2) in pixels, (y, x). step: pixels between two lines. The pixel p of the result shows what lay
    at p + displacement[p], so the line y = 6 of the image lies where y + displacement is 6: it is a contour.
    """
    for axis, size in enumerate(displacement.shape[:2]):
        place = np.indices(displacement.shape[:2])[axis] + displacement[..., axis]
        axes.contour(place, np.arange(0, size, step), colors=[mpl(BLUE)], linewidths=0.8)
    axes.set(aspect="equal")


def draw_box(axes: "Axes", box: np.ndarray, color: Any, text: str = "", **style: Any) -> None:
    """Draw the frame of a box (y1, x1, y2, x2), edges in pixels as in `tinynet.boxes`, and a small text in its corner.

    color: a color of Matplotlib. style: of its lines, such as linestyle="--".
    """
    y1, x1, y2, x2 = np.asarray(box) - 0.5  # imshow puts the center of the first pixel at 0
    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=color, **({"linewidth": 1.5} | style))
    if text:
        label = {"facecolor": color, "pad": 0.5, "linewidth": 0}
        axes.text(x1 + 1, y1 + 1, text, color="w", fontsize=6, va="top", bbox=label)
