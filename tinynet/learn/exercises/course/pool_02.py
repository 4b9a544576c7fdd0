"""Max-pooling, backward.

A small change of x changes y only through the pixel that won, and by the same amount. So each gy is added to the pixel
that `indices` names (pool-01), and all other pixels get 0:

    gx[n, iy, ix, c] = sum over all (oy, ox) with indices[n, oy, ox, c] = iy W + ix  of  gy[n, oy, ox, c]

It is a *sum*: if windows overlap, one pixel may have won in several of them.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.geometries import POOLINGS
from tinynet.learn.exercises.probe import call, integers, kernels_of

TEACHES = "scatter-add, and why `array[indices] += values` is not one"
HINTS = (
    "Use (N, H * W, C) as the shape of gx: then `indices` index the second axis. Reshape at the end.",
    "If an index appears twice, gx[indices] += gy of NumPy adds only once. A loop, or np.add.at, adds every time.",
    "For each image n and channel c: `np.add.at(gx[n, :, c], indices[n, :, :, c], gy[n, :, :, c])`.",
)
OP = "max_pool2d"


# ---- your file
def scatter(gy, indices, *, size):
    """gx (N, H, W, C). gy and indices (N, OH, OW, C), indices: iy W + ix of each winner; size: (H, W)."""
    # ---- solution
    H, W = size
    N, _, _, C = gy.shape
    gx = np.zeros((N, H * W, C), gy.dtype)
    for n in range(N):
        for c in range(C):
            np.add.at(gx[n, :, c], indices[n, :, :, c], gy[n, :, :, c])
    return gx.reshape(N, H, W, C)
    # ---- end of solution


# ---- end of your file


_ADD = "np.add.at(gx[n, :, c], indices[n, :, :, c], gy[n, :, :, c])"
WRONG = (
    Wrong(
        "added once",
        "If an index appears twice, only one gy is added: gx[indices] += gy reads all, adds, and writes all. "
        "Use np.add.at or a loop.",
        (_ADD, "gx[n, indices[n, :, :, c], c] += gy[n, :, :, c]"),
    ),
    Wrong(
        "divided among windows",
        "You divide gy by the number of windows in which the pixel won. Each window passes on its whole gy.",
        (
            "    return gx.reshape(N, H, W, C)",
            "    count = np.zeros_like(gx)\n    for n in range(N):\n        for c in range(C):\n"
            "            np.add.at(count[n, :, c], indices[n, :, :, c], 1)\n"
            "    return (gx / np.maximum(count, 1)).reshape(N, H, W, C)",
        ),
    ),
    Wrong(
        "gy ignored",
        "The winners get 1 instead of their gy.",
        (_ADD, "np.add.at(gx[n, :, c], indices[n, :, :, c], 1)"),
    ),
    Wrong(
        "first channel for all",
        "You use the winners of the first channel for all channels. Each channel has its own.",
        ("indices[n, :, :, c]", "indices[n, :, :, 0]"),
    ),
    Wrong(
        "first image for all",
        "You use the winners of the first image for all images. Each image has its own.",
        ("indices[n, :, :, c]", "indices[0, :, :, c]"),
    ),
    Wrong(
        "rows and columns exchanged",
        "H and W are exchanged in the result: an index counts row by row, with W pixels in a row.",
        ("gx.reshape(N, H, W, C)", "gx.reshape(N, W, H, C).swapaxes(1, 2)"),
    ),
    Wrong(
        "channels first",
        "You reshape an array of shape (N, C, H W) into (N, H, W, C). reshape does not exchange axes; transpose does.",
        ("gx.reshape(N, H, W, C)", "gx.swapaxes(1, 2).reshape(N, H, W, C)"),
    ),
)
RIGHT = (
    Right(
        "plain loops",
        (
            "            " + _ADD,
            "            for index, g in zip(indices[n, :, :, c].flat, gy[n, :, :, c].flat):\n"
            "                gx[n, index, c] += g",
        ),
    ),
    Right("bincount", (_ADD, "gx[n, :, c] = np.bincount(indices[n, :, :, c].ravel(), gy[n, :, :, c].ravel(), H * W)")),
)


def probes(rng):
    for label, shape, window, geometry in POOLINGS:
        indices = winners(rng, shape, window, geometry)
        gy = integers(rng, *indices.shape)
        yield call(label, "scatter", gy, indices, size=shape[1:3], gives={"gx": "n iy ix c"}, gy="n oy ox c")
    indices = np.full((1, 2, 2, 1), 4, np.int32)
    gy = integers(rng, 1, 2, 2, 1)
    yield call("one pixel won all", "scatter", gy, indices, size=(2, 3), gives={"gx": "n iy ix c"}, gy="n oy ox c")


def winners(rng, shape, window, geometry):
    """The indices of max-pooling of a random image."""
    (N, H, W, C), (OH, OW) = shape, geometry.output_size(shape[1:3], window)
    values = rng.permutation(N * H * W * C).reshape(shape)
    indices = np.empty((N, OH, OW, C), np.int32)
    for n, oy, ox, c in np.ndindex(*indices.shape):
        top, left = (o * s - p for o, s, p in zip((oy, ox), geometry.stride, geometry.padding))
        pixels = [
            (values[n, iy, ix, c], iy * W + ix)
            for iy in range(max(top, 0), min(top + window[0], H))
            for ix in range(max(left, 0), min(left + window[1], W))
        ]
        indices[n, oy, ox, c] = max(pixels)[1]
    return indices


def library():
    return kernels_of("max_pool2d", "scatter")
