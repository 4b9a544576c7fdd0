"""im2col: a convolution as one matrix product.

For every output pixel, write all the values that it reads into one row of a large matrix:

    columns[(n, oy, ox), (ky, kx, ci)] = x[n, oy s_y + ky - p_y, ox s_x + kx - p_x, ci]         (0 outside the image)

The rows are ordered by n, then oy, then ox. The columns are ordered by ky, then kx, then ci, as w (KH, KW, C_in, C_out)
is in memory. Then the whole convolution is a product of two matrices:

    y as (N OH OW, C_out)  =  columns (N OH OW, KH KW C_in)  times  w as (KH KW C_in, C_out)

This is fast, because matrix products are fast, but it needs much memory: with a 3 x 3 kernel every pixel is stored nine
times.

Write im2col, and forward with it (no bias). s is `geometry.stride`, p is `geometry.padding`; both are pairs (y, x).
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.geometries import CONVOLUTIONS
from tinynet.learn.exercises.probe import call, integers, kernels_of

TEACHES = "how libraries turn convolutions into matrix products, and what reshape does to the order of axes"
HINTS = (
    "Build an array with six axes (N, OH, OW, KH, KW, C_in) first, and reshape at the end.",
    "For one tap (ky, kx), all outputs at once read padded[:, ky :: s_y, kx :: s_x], cut to OH rows and OW columns.",
    """
    columns[:, :, :, ky, kx] = padded[:, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx]
    ...
    return columns.reshape(N * OH * OW, KH * KW * C)
    """,
)


# ---- your file
def im2col(x, kernel_size, geometry):
    """(N OH OW, KH KW C) from x (N, H, W, C); kernel_size: (KH, KW)."""
    # ---- solution
    (KH, KW), (sy, sx), (py, px) = kernel_size, geometry.stride, geometry.padding
    padded = np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)))
    N, H, W, C = padded.shape
    OH, OW = (H - KH) // sy + 1, (W - KW) // sx + 1
    columns = np.empty((N, OH, OW, KH, KW, C), x.dtype)
    for ky in range(KH):
        for kx in range(KW):
            columns[:, :, :, ky, kx] = padded[:, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx]
    return columns.reshape(N * OH * OW, KH * KW * C)
    # ---- end of solution


def forward(x, w, geometry):
    """y (N, OH, OW, C_out) from x (N, H, W, C_in) and w (KH, KW, C_in, C_out), by im2col."""
    # ---- solution
    columns = im2col(x, w.shape[:2], geometry)
    OH = (x.shape[1] + 2 * geometry.padding[0] - w.shape[0]) // geometry.stride[0] + 1
    y = columns @ w.reshape(-1, w.shape[3])
    return y.reshape(len(x), OH, -1, w.shape[3])
    # ---- end of solution


# ---- end of your file


_AXES = "(N, OH, OW, KH, KW, C)"
_FILL = "columns[:, :, :, ky, kx] ="
_END = "columns.reshape(N * OH * OW, KH * KW * C)"
WRONG = (
    Wrong(
        "channels first",
        "In a row the channels come before the taps, (ci, ky, kx). The columns need the order of w in memory, "
        "(ky, kx, ci).",
        (_END, "columns.transpose(0, 1, 2, 5, 3, 4).reshape(N * OH * OW, KH * KW * C)"),
    ),
    Wrong(
        "taps exchanged",
        "ky and kx are exchanged in the order of the columns. With a square kernel the shape does not show it.",
        (_END, "columns.swapaxes(3, 4).reshape(N * OH * OW, KH * KW * C)"),
    ),
    Wrong(
        "reshape for transpose",
        "The array was filled with its axes in another order and then reshaped. reshape keeps the order of "
        "the values in memory: transpose first.",
        (_AXES, "(KH, KW, N, OH, OW, C)"),
        (_FILL, "columns[ky, kx] ="),
    ),
    Wrong(
        "rows in another order",
        "The rows are ordered by pixel first and image second. Order them by image, then row, then column.",
        (_END, "columns.transpose(1, 2, 0, 3, 4, 5).reshape(N * OH * OW, KH * KW * C)"),
    ),
    Wrong(
        "stride ignored",
        "The windows are one pixel apart for every stride; only their number is right.",
        ("ky : ky + OH * sy : sy, kx : kx + OW * sx : sx", "ky : ky + OH, kx : kx + OW"),
    ),
    Wrong(
        "border repeated",
        "You pad with copies of the border pixels. The layer pads with zeros.",
        ("(0, 0)))\n", '(0, 0)), mode="edge")\n'),
    ),
    Wrong(
        "transposed",
        "Rows and columns of the matrix are exchanged: it must have one row for each output pixel.",
        (_END, _END + ".T"),
    ),
)
RIGHT = (
    Right(
        "sliding windows",
        (
            "    for ky in range(KH):\n        for kx in range(KW):\n"
            "            columns[:, :, :, ky, kx] = padded[:, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx]\n",
            "    windows = np.lib.stride_tricks.sliding_window_view(padded, (KH, KW), axis=(1, 2))\n"
            "    columns[...] = windows[:, ::sy, ::sx].transpose(0, 1, 2, 4, 5, 3)\n",
        ),
    ),
)


def probes(rng):
    axes = "(n,oy,ox) (ky,kx,ci)"
    for label, x_shape, w_shape, geometry in CONVOLUTIONS:
        x, w = integers(rng, *x_shape), integers(rng, *w_shape)
        yield call(label, "im2col", x, w_shape[:2], geometry, gives={"columns": axes})
        yield call(label, "forward", x, w, geometry, gives={"y": "n oy ox co"})


def library():
    conv2d = kernels_of("conv2d", "forward")["forward"]

    def im2col(x, kernel_size, geometry):
        # A kernel that copies every tap and channel to an output channel of its own.
        taps = kernel_size[0] * kernel_size[1] * x.shape[3]
        w = np.eye(taps).reshape(*kernel_size, x.shape[3], taps)
        return conv2d(x, w, None, geometry).reshape(-1, taps)

    return {"im2col": im2col, "forward": lambda x, w, geometry: conv2d(x, w, None, geometry)}
