"""Convolution by hand: every operation of a convolutional net on a few numbers, small enough for pencil and paper.

    python examples/convnets/convolution_by_hand.py

- **One dimension**: the moving average. Each value becomes the mean of itself and its two neighbors; beyond the ends
  there are zeros (*zero padding*), so the result is as long as the signal. Written as a matrix, it is a band along the
  diagonal. A convolutional layer is a linear layer: most of its weights are zero, and the others are shared.
- **Two dimensions**: the kernel slides over an image; at each place window and kernel are multiplied cell by cell and
  added. The numbers in the kernel decide what it detects: a mean blurs, differences find edges. A ConvNet learns these
  numbers.
- **Padding and stride**: with a border of zeros the image keeps its size; with a stride of 2 the kernel skips every
  other place, and the image shrinks.
- **Max-pooling** keeps the largest value of each window; **max-unpooling** puts it back where it was found, with zeros
  around it. **Transposed convolution** goes in the other direction: every value stamps a copy of the kernel, and copies
  that overlap are added. Its matrix is the transpose of the convolution's matrix.

Nets compute the *cross-correlation*, sum of x[i + a] w[a], and call it convolution. In the convolution of mathematics,
sum of x[i - a] w[a], the kernel is reversed. For a symmetric kernel there is no difference, and a net learns the kernel
that it needs in either case.

The loops below are the definition; the script checks that the framework's fast kernels give the same numbers.

Sources: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016; Sobel and Feldman, 1968 (edge
filters); Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014 (max-unpooling).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import tinynet as tn
from tinynet import viz
from tinynet.tools.cli import ExampleOptions, command_line, option, print_settings, report, run


# ---------------------------------------------------------------------------------------- by hand
def convolve_1d(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """y[i] = sum over a of x[i + a - r] w[a], zeros beyond the ends. x: (N,), w: (2 r + 1,) -> (N,)."""
    padded = np.pad(np.asarray(x, dtype=float), len(w) // 2)
    return np.array([sum(padded[i + a] * w[a] for a in range(len(w))) for i in range(len(x))])


def matrix_of(w: np.ndarray, n: int) -> np.ndarray:
    """The matrix that convolves n numbers with w: each column is the convolution of a single 1."""
    return np.stack([convolve_1d(one, w) for one in np.eye(n)], axis=1)


def convolve_2d(x: np.ndarray, w: np.ndarray, padding: int = 0, stride: int = 1) -> np.ndarray:
    """Cut out a window, multiply by the kernel, add; move on by `stride`. x: (H, W), w: (K, L)."""
    x = np.pad(x, padding)
    height, width = ((x.shape[i] - w.shape[i]) // stride + 1 for i in (0, 1))
    y = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            window = x[i * stride : i * stride + w.shape[0], j * stride : j * stride + w.shape[1]]
            y[i, j] = np.sum(window * w)
    return y


def max_pool(x: np.ndarray, size: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of each size x size window, and its place in x, counted row by row."""
    shape = (x.shape[0] // size, x.shape[1] // size)
    y, place = np.empty(shape), np.empty(shape, dtype=np.int32)
    for i, j in np.ndindex(shape):
        window = x[i * size : (i + 1) * size, j * size : (j + 1) * size]
        row, column = divmod(int(window.argmax()), size)
        y[i, j], place[i, j] = window.max(), (i * size + row) * x.shape[1] + (j * size + column)
    return y, place


def max_unpool(y: np.ndarray, place: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Each value back to its place, zeros elsewhere."""
    x = np.zeros(shape)
    x.flat[place.ravel()] = y.ravel()
    return x


def transposed_convolve_2d(x: np.ndarray, w: np.ndarray, stride: int = 1) -> np.ndarray:
    """Every value of x stamps the kernel, times itself; stamps lie `stride` apart and add up where they overlap."""
    y = np.zeros([(x.shape[i] - 1) * stride + w.shape[i] for i in (0, 1)])
    for i, j in np.ndindex(x.shape):
        y[i * stride : i * stride + w.shape[0], j * stride : j * stride + w.shape[1]] += x[i, j] * w
    return y


# ---------------------------------------------------------------------------------------- by the framework
def as_image(x: np.ndarray) -> tn.Tensor:
    """(H, W) as one image of one channel: (1, H, W, 1)."""
    return tn.tensor(np.asarray(x, dtype=np.float32)[None, :, :, None])


def as_weight(w: np.ndarray) -> tn.Tensor:
    """(K, L) as a kernel from one channel to one: (K, L, 1, 1)."""
    return tn.tensor(np.asarray(w, dtype=np.float32)[:, :, None, None])


def conv2d(x: np.ndarray, w: np.ndarray, padding: int = 0, stride: int = 1) -> np.ndarray:
    """`tinynet.conv2d` on one image (H, W)."""
    return tn.conv2d(as_image(x), as_weight(w), padding=padding, stride=stride).numpy()[0, :, :, 0]


def conv_transpose2d(x: np.ndarray, w: np.ndarray, stride: int = 1) -> np.ndarray:
    """`tinynet.conv_transpose2d` on one image (H, W)."""
    return tn.conv_transpose2d(as_image(x), as_weight(w), stride=stride).numpy()[0, :, :, 0]


def compare(rng: np.random.Generator) -> dict[str, float]:
    """The largest difference between the loops above and the framework, over sizes, paddings and strides."""
    worst = {"conv": 0.0, "pool": 0.0, "transposed": 0.0, "adjoint": 0.0}
    for height, width, kernel, padding, stride in [(5, 5, 3, 0, 1), (5, 5, 3, 1, 1), (7, 5, 3, 1, 2), (8, 9, 5, 2, 3)]:
        x, w = rng.standard_normal((height, width)), rng.standard_normal((kernel, kernel))
        y = convolve_2d(x, w, padding, stride)
        worst["conv"] = max(worst["conv"], np.abs(conv2d(x, w, padding, stride) - y).max())

        stamped = transposed_convolve_2d(y, w, stride)
        worst["transposed"] = max(worst["transposed"], np.abs(conv_transpose2d(y, w, stride) - stamped).max())
        # <A x, y> = <x, A^T y>: it is the transpose of the convolution (here without padding).
        z = np.pad(rng.standard_normal((height, width)), padding)[: stamped.shape[0], : stamped.shape[1]]
        adjoint = np.sum(convolve_2d(z, w, 0, stride) * y) - np.sum(z * stamped)
        worst["adjoint"] = max(worst["adjoint"], abs(adjoint))

        x = x[: height // 2 * 2, : width // 2 * 2].astype(np.float32)
        pooled, places = tn.max_pool2d(as_image(x), 2, return_indices=True)
        back = tn.max_unpool2d(pooled, places, size=x.shape)
        by_hand, by_hand_places = max_pool(x)
        by_hand_back = max_unpool(by_hand, by_hand_places, x.shape)
        for ours, theirs in ((by_hand, pooled.numpy()), (by_hand_places, places), (by_hand_back, back.numpy())):
            worst["pool"] = max(worst["pool"], float(np.abs(ours - np.asarray(theirs)[0, :, :, 0]).max()))
    return {f"{name}_difference": float(value) for name, value in worst.items()}


SIGNAL, MEAN_OF_3 = [10, 50, 60, 10, 20, 30, 40], [1 / 3, 1 / 3, 1 / 3]
MOVING_AVERAGE = [20, 40, 40, 30, 20, 30, 70 / 3]  # with a zero beyond each end


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(ExampleOptions):
    out: str = option("out/convolution_by_hand", "folder for the figures")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Compute everything; return the differences of the loops from the textbook's numbers and from the framework."""
    from skimage import data

    print_settings(config, data=DATA)

    average = convolve_1d(SIGNAL, MEAN_OF_3)
    print("signal          ", "  ".join(f"{value:6.2f}" for value in SIGNAL))
    print("moving average  ", "  ".join(f"{value:6.2f}" for value in average))
    print("as a matrix     ", "  ".join(f"{value:6.2f}" for value in matrix_of(MEAN_OF_3, len(SIGNAL)) @ SIGNAL))
    metrics = {"moving_average_error": float(np.abs(average - MOVING_AVERAGE).max())}
    metrics.update(compare(np.random.default_rng(config.seed)))

    green = data.retina()[200:1160:3, 230:1190:3, 1] / 255  # the color that shows vessels best
    figures = {
        "moving_average.png": draw_moving_average(average),
        "cells.png": draw_cells(),
        "filters.png": draw_filters(green.max() - green),  # as a negative: bright vessels on dark
    }
    return report(config, metrics, EXPECTED, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_moving_average(average: np.ndarray) -> viz.Figure:
    """The signal and its moving average, computed directly and with a matrix."""
    figure, (left, right) = viz.subplots(1, 2, width_ratios=(1.1, 1), figsize=(11, 3.8))
    place = np.arange(1, len(SIGNAL) + 1)
    left.bar(place, SIGNAL, color="0.85", label="signal")
    left.plot(place, average, "o-", color=viz.mpl(viz.VERMILLION), label="mean of 3")
    for x, y in zip(place, average):
        left.annotate(
            f"{y:.4g}", (x, y), (0, 7), textcoords="offset points", ha="center", color=viz.mpl(viz.VERMILLION)
        )
    left.set(xlabel="place", title="moving average, a zero beyond each end", ylim=(0, 70))
    left.legend(loc="upper right")

    matrix = matrix_of(MEAN_OF_3, len(SIGNAL))
    right.imshow(matrix, cmap="Blues", vmin=0, vmax=0.6)
    for (i, j), value in np.ndenumerate(matrix):
        right.text(j, i, "1/3" if value else "0", ha="center", va="center", color="k" if value else "0.6", fontsize=9)
    for i, (x, y) in enumerate(zip(SIGNAL, average)):
        right.text(7.6, i, f"{x}", ha="center", va="center")
        right.text(9.6, i, f"{y:.4g}", ha="center", va="center", color=viz.mpl(viz.VERMILLION))
    right.text(6.75, 3, "\N{MULTIPLICATION SIGN}", ha="center", va="center")
    right.text(8.5, 3, "=", ha="center", va="center")
    right.set(xlim=(-0.5, 10.3), title="the same as a matrix: few weights, shared")
    right.axis("off")
    return figure


ROOM = (3.7, 3.7, 2.2, 2.7)  # half the height of each row of panels, in cells
COLORS = [(*viz.mpl(color), 0.45) for color in (viz.SKY, viz.ORANGE, viz.GREEN, viz.PURPLE)]
QUARTERS = dict(zip(np.ndindex(2, 2), COLORS))  # cells of a 2 x 2 image


def draw_grid(
    axes, values: np.ndarray, title: str, room: float, colors: dict | None = None, faint: np.ndarray | None = None
) -> None:
    """Draw numbers in cells. colors: {(row, column): color}; faint: bool (H, W), where the numbers are gray.

    room: half the height of the panel, in cells.
    """
    from matplotlib.patches import Rectangle

    height, width = values.shape
    for (i, j), value in np.ndenumerate(values):
        color = (colors or {}).get((i, j), "w")
        axes.add_patch(Rectangle((j, i), 1, 1, facecolor=color, edgecolor="0.4", linewidth=0.8))
        shade = "0.5" if faint is not None and faint[i, j] else "k"
        axes.text(j + 0.5, i + 0.5, f"{value:g}", ha="center", va="center", fontsize=10, color=shade)
    # All panels have the same scale, so that an image that shrinks looks smaller.
    axes.set(xlim=(width / 2 - 3.7, width / 2 + 3.7), ylim=(height / 2 + room, height / 2 - room), aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def block(row: int, column: int, size: int, color: str) -> dict:
    """{cell: color} of a size x size window."""
    return {(row + i, column + j): color for i in range(size) for j in range(size)}


def draw_cells() -> viz.Figure:
    """Convolution, stride, pooling, unpooling and transposed convolution, with their numbers."""
    sky, orange, *_ = COLORS
    figure, axes = viz.subplots(4, 3, height_ratios=ROOM, figsize=(10.5, 12.6))
    x = np.array([[1, 2, 0, 1, 3], [0, 1, 2, 2, 1], [3, 1, 1, 0, 0], [2, 0, 4, 1, 1], [1, 2, 0, 3, 2]])
    w = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    padded, ring = np.pad(x, 1), np.pad(np.zeros_like(x), 1, constant_values=1).astype(bool)

    # The window and the output computed from it have the same color.
    for row, (stride, seen) in zip(axes, ((1, (2, 3)), (2, (0, 2)))):
        y = convolve_2d(x, w, padding=1, stride=stride)
        corner = (seen[0] * stride, seen[1] * stride)
        window = padded[corner[0] : corner[0] + 3, corner[1] : corner[1] + 3]
        draw_grid(row[0], padded, "image, with a border of zeros", ROOM[0], block(*corner, 3, sky), ring)
        draw_grid(row[1], w, "kernel", ROOM[0], block(0, 0, 3, orange))
        terms = [
            f"{a}\N{MIDDLE DOT}({b})" if b < 0 else f"{a}\N{MIDDLE DOT}{b}" for a, b in zip(window.flat, w.flat) if b
        ]
        text = f"{' + '.join(terms[:3])}\n+ {' + '.join(terms[3:])} = {np.sum(window * w)}"
        row[1].text(1.5, 4.0, text, ha="center", va="center", fontsize=9)
        what = "convolution" if stride == 1 else "convolution with stride 2"
        draw_grid(row[2], y, f"{what}: {y.shape[0]} x {y.shape[1]}", ROOM[0], {seen: sky})
    draw_pooling(axes[2])
    draw_transposed(axes[3])
    return figure


def draw_pooling(row) -> None:
    """Max-pooling and max-unpooling: a window and its maximum have the same color."""
    x = np.array([[1, 3, 2, 0], [5, 2, 1, 1], [0, 1, 8, 2], [4, 0, 3, 6]])
    y, place = max_pool(x)
    windows = {}
    for (i, j), color in QUARTERS.items():
        windows.update(block(2 * i, 2 * j, 2, color))
    found = np.isin(np.arange(16).reshape(4, 4), place)
    draw_grid(row[0], x, "image, in windows of 2 x 2", ROOM[2], windows, ~found)
    draw_grid(row[1], y, "max-pooling", ROOM[2], QUARTERS)
    back = max_unpool(y, place, (4, 4))
    draw_grid(row[2], back, "max-unpooling", ROOM[2], {cell: windows[cell] for cell in zip(*np.nonzero(found))}, ~found)


def draw_transposed(row) -> None:
    """Transposed convolution: each cell stamps the kernel in its color."""
    x = np.array([[1, 2], [3, 0]])
    w = np.array([[1, 2, 1], [0, 1, 0], [2, 0, 1]])
    draw_grid(row[0], x, "image", ROOM[3], QUARTERS)
    draw_grid(row[1], w, "kernel: stamped once for each cell", ROOM[3])
    y = transposed_convolve_2d(x, w, stride=2)
    draw_grid(row[2], y, "transposed convolution, stride 2", ROOM[3])
    for (i, j), color in QUARTERS.items():  # the stamps, one over the other
        draw_stamp(row[2], 2 * i, 2 * j, 3, color)


def draw_stamp(axes, row: int, column: int, size: int, color: tuple) -> None:
    """Draw a transparent colored window."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column, row), size, size, facecolor=(*color[:3], 0.28), edgecolor=color[:3], linewidth=2))


FILTERS = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "blur: mean of 9 x 9": np.full((9, 9), 1 / 81),
    "blur: binomial": np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256,
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "vertical edges (Sobel)": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "horizontal edges (Sobel)": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "diagonal edges": [[-2, -1, 0], [-1, 0, 1], [0, 1, 2]],
    "spots and lines (Laplace)": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
}


def draw_filters(image: np.ndarray) -> viz.Figure:
    """An image (H, W) through each filter; below, reduced and enlarged again."""
    figure, axes = viz.subplots(3, 4, figsize=(13, 10.2))
    for panel, (name, w) in zip(axes.flat, FILTERS.items()):
        w = np.array(w, dtype=np.float32)
        y = conv2d(image, w, padding=len(w) // 2)
        if w.sum() > 0.5:  # gray levels; a filter of differences gives values around zero, shown as gray
            panel.imshow(y, cmap="gray", vmin=0, vmax=image.max())
        else:
            limit = np.percentile(np.abs(y[2:-2, 2:-2]), 99.5)  # without the edge between image and padding
            panel.imshow(y, cmap="gray", vmin=-limit, vmax=limit)
        panel.set_title(name)

    pooled, places = tn.max_pool2d(as_image(image), 4, return_indices=True)
    unpooled = tn.max_unpool2d(pooled, places, size=image.shape).numpy()[0, :, :, 0]
    pooled = pooled.numpy()[0, :, :, 0]
    # A kernel that falls linearly to zero at the centers of its neighbors: linear interpolation.
    slope = 1 - np.abs(np.arange(-3.5, 4)) / 4
    stages = {
        "mean, stride 4": conv2d(image, np.full((4, 4), 1 / 16), stride=4),
        "max-pooling": pooled,
        "a part of max-unpooling": unpooled[120:200, 120:200],
        "transposed convolution": conv_transpose2d(pooled, np.outer(slope, slope), stride=4),
    }
    for panel, (name, y) in zip(axes[2], stages.items()):
        panel.imshow(y, cmap="gray", vmin=0, vmax=image.max())
        panel.set_title(f"{name}: {y.shape[0]} x {y.shape[1]}")
    for panel in axes.flat:
        panel.axis("off")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Convolution, padding, stride, pooling, transposed convolution"
DATA = "a few numbers; a retina (scikit-image, public domain)"
EXPECTED = {
    "moving_average_error": (None, 1e-12),
    "conv_difference": (None, 1e-5),
    "pool_difference": (0, 0),
    "transposed_difference": (None, 1e-5),
    "adjoint_difference": (None, 1e-10),
}
PICTURE = "filters.png"
NEXT = "python examples/convnets/lenet_mnist.py"


if __name__ == "__main__":
    run(main)
