"""Max-pooling, and which pixel won.

    y[n, oy, ox, c] = max over ky, kx of x[n, iy, ix, c]            iy = oy s_y + ky - p_y,  ix = ox s_x + kx - p_x

The padding counts as minus infinity: it never wins. backward needs to know *where* the maximum was:

    indices[n, oy, ox, c] = iy W + ix         of the winner: its index in the plane of x, row by row

    k = 2, s = 2      x   1  5 | 2  2        y   5  2        indices   1  2         W = 4
                          4  0 | 2  1            7  9                 13 14         of the three 2s the first
                          -----+-----
                          3  6 | 8  0
                          0  7 | 9  1

Of equal values the first wins (row by row). Ties are common: after a ReLU whole windows may be 0. The stride s is
`geometry.stride`, the padding p is `geometry.padding`; both are pairs (y, x).
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.geometries import POOLINGS, Geometry
from tinynet.learn.exercises.probe import call, integers, kernels_of

TEACHES = "argmax and its indices; ties need a rule; padding is not always zero"
HINTS = (
    "np.pad takes constant_values=-np.inf. For one output the window is an array (N, KH, KW, C).",
    "window.reshape(N, KH * KW, C).argmax(axis=1) is the winner's index k *within the window*; of equal values it is "
    "the first.",
    "In the window this is row k // KW and column k % KW; in x row oy s_y - p_y + k // KW, column ox s_x - p_x + k % "
    "KW.",
)
OP = "max_pool2d"


# ---- your file
def forward(x, kernel_size, geometry):
    """(y, indices), both (N, OH, OW, C). x (N, H, W, C); kernel_size: (KH, KW) of a window."""
    # ---- solution
    (KH, KW), (sy, sx), (py, px) = kernel_size, geometry.stride, geometry.padding
    N, H, W, C = x.shape
    padded = np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)), constant_values=-np.inf)
    OH, OW = (H + 2 * py - KH) // sy + 1, (W + 2 * px - KW) // sx + 1
    y = np.empty((N, OH, OW, C), x.dtype)
    indices = np.empty((N, OH, OW, C), np.int32)
    for oy in range(OH):
        for ox in range(OW):
            window = padded[:, oy * sy : oy * sy + KH, ox * sx : ox * sx + KW].reshape(N, KH * KW, C)
            k = window.argmax(axis=1)
            iy = oy * sy - py + k // KW
            ix = ox * sx - px + k % KW
            y[:, oy, ox] = window.max(axis=1)
            indices[:, oy, ox] = iy * W + ix
    return y, indices
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "padded with zeros",
        "The padding is zero, and zero wins in a window of negative values. It counts as minus infinity.",
        (", constant_values=-np.inf", ""),
    ),
    Wrong(
        "padding at one end",
        "There is padding above and to the left only: windows at the other two borders are missing. Each side gets p "
        "rows or columns.",
        ("(py, py), (px, px)", "(py, 0), (px, 0)"),
        ("(H + 2 * py - KH)", "(H + py - KH)"),
        ("(W + 2 * px - KW)", "(W + px - KW)"),
    ),
    Wrong(
        "the last of equal values",
        "Of equal values you take the last. The rule is the first, row by row: a later value wins only if it is "
        "larger (`>`, not `>=`).",
        ("k = window.argmax(axis=1)", "k = KH * KW - 1 - window[:, ::-1].argmax(axis=1)"),
    ),
    Wrong(
        "place in the window",
        "indices holds the index within the window. It must be the index in the plane of x: iy W + ix.",
        ("= iy * W + ix", "= k"),
    ),
    Wrong(
        "place in the padded plane",
        "indices counts in the padded image. Subtract the padding: iy = oy s - p + k // KW.",
        ("= iy * W + ix", "= (iy + py) * (W + 2 * px) + ix + px"),
    ),
    Wrong(
        "width of the result",
        "You count rows by the width of the result, iy OW + ix. A row of x has W pixels.",
        ("iy * W + ix", "iy * OW + ix"),
    ),
    Wrong(
        "H for W",
        "You multiply the row by the height H. A row has W pixels; square images hide the mistake.",
        ("iy * W + ix", "iy * H + ix"),
    ),
    Wrong(
        "channels together",
        "The winner is the largest over all channels. Each channel is pooled on its own.",
        ("k = window.argmax(axis=1)", "k = window.max(axis=2, keepdims=True).argmax(axis=1)"),
        ("window.max(axis=1)", "window.max(axis=(1, 2))[:, None]"),
    ),
    Wrong(
        "mean",
        "y is the mean of the window (average pooling); it must be the maximum.",
        ("window.max(axis=1)", "np.mean(np.where(np.isinf(window), 0, window), axis=1)"),
    ),
    Wrong(
        "stride is the window",
        "The windows lie side by side for every stride. That is only the default.",
        ("oy * sy : oy * sy + KH, ox * sx : ox * sx + KW]", "oy * KH : oy * KH + KH, ox * KW : ox * KW + KW]"),
    ),
)
RIGHT = (
    Right(
        "unravel",
        (
            "            iy = oy * sy - py + k // KW\n            ix = ox * sx - px + k % KW\n",
            "            ky, kx = np.unravel_index(k, (KH, KW))\n"
            "            iy, ix = oy * sy - py + ky, ox * sx - px + kx\n",
        ),
    ),
    Right("a fancy read", ("window.max(axis=1)", "np.take_along_axis(window, k[:, None], axis=1)[:, 0]")),
)


def probes(rng):
    axes = {"y": "n oy ox c", "indices": "n oy ox c"}
    for label, shape, size, geometry in POOLINGS:
        x = rng.permutation(int(np.prod(shape))).reshape(shape) - 10.0  # no two equal
        yield call(label, "forward", x, size, geometry, gives=axes)
    x = -rng.permutation(40).reshape(1, 4, 5, 2) - 1.0
    yield call("negative numbers, padding (1, 1)", "forward", x, (3, 3), Geometry((2, 2), (1, 1)), gives=axes)
    x = np.maximum(integers(rng, 2, 4, 6, 3), 0)
    yield call("ties, as behind a ReLU", "forward", x, (2, 3), Geometry((2, 3)), gives=axes)


def library():
    return kernels_of("max_pool2d", "forward")
