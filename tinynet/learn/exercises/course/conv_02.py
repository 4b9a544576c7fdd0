"""Convolution, forward.

    y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of  x[n, iy, ix, ci] w[ky, kx, ci, co]

    with  iy = oy s_y + ky - p_y    and    ix = ox s_x + kx - p_x

and x = 0 where iy or ix lies outside the image. Channels come last: x (N, H, W, C_in), w (KH, KW, C_in, C_out),
b (C_out,). The stride s is `geometry.stride`, the padding p is `geometry.padding`; both are pairs (y, x).

(The kernel is not flipped: what deep learning calls a convolution is a cross-correlation.)

It may be slow. Loops over oy and ox are fine.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.geometries import CONVOLUTIONS
from tinynet.learn.exercises.probe import call, integers, kernels_of

TEACHES = "the formula of the layer, its index arithmetic, and four mistakes at the border"
HINTS = (
    "Pad x first (np.pad takes one pair for each axis); then no index lies outside.",
    "In the padded image the window of output (oy, ox) starts at row oy s_y and column ox s_x and has KH rows, KW "
    "columns.",
    """
    window = padded[:, oy * sy : oy * sy + KH, ox * sx : ox * sx + KW]      # (N, KH, KW, C_in)
    y[:, oy, ox] = np.tensordot(window, w, axes=3) + b
    """,
)
OP = "conv2d"


# ---- your file
def forward(x, w, b, geometry):
    """y (N, OH, OW, C_out). x (N, H, W, C_in), w (KH, KW, C_in, C_out), b (C_out,)."""
    # ---- solution
    (sy, sx), (py, px) = geometry.stride, geometry.padding
    KH, KW = w.shape[:2]
    padded = np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)))
    OH = (padded.shape[1] - KH) // sy + 1
    OW = (padded.shape[2] - KW) // sx + 1
    y = np.empty((len(x), OH, OW, w.shape[3]), x.dtype)
    for oy in range(OH):
        for ox in range(OW):
            window = padded[:, oy * sy : oy * sy + KH, ox * sx : ox * sx + KW]
            y[:, oy, ox] = np.tensordot(window, w, axes=3) + b
    return y
    # ---- end of solution


# ---- end of your file


_PAD = "np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)))"
WRONG = (
    Wrong(
        "flipped kernel",
        "The kernel is flipped: this is the mathematical convolution. The layer of deep learning does not flip it.",
        ("np.tensordot(window, w, axes=3)", "np.tensordot(window, w[::-1, ::-1], axes=3)"),
    ),
    Wrong(
        "stride ignored",
        "The windows move by one pixel for every stride; only their number is right.",
        ("oy * sy : oy * sy + KH, ox * sx : ox * sx + KW", "oy : oy + KH, ox : ox + KW"),
    ),
    Wrong(
        "axes of the stride exchanged",
        "The stride of y is used for x and vice versa. Equal strides hide the mistake.",
        ("(sy, sx), (py, px) =", "(sx, sy), (py, px) ="),
    ),
    Wrong(
        "axes of the padding exchanged",
        "The padding of y is used for x and vice versa. Equal paddings hide the mistake.",
        ("(sy, sx), (py, px) =", "(sy, sx), (px, py) ="),
    ),
    Wrong(
        "padding on one side",
        "The whole padding is added above and to the left: the image is shifted.",
        ("(py, py), (px, px)", "(2 * py, 0), (2 * px, 0)"),
    ),
    Wrong(
        "padding on the other side",
        "The whole padding is added below and to the right: the image is shifted. Each side gets p rows or columns.",
        ("(py, py), (px, px)", "(0, 2 * py), (0, 2 * px)"),
    ),
    Wrong(
        "padding at one end",
        "p rows are added above and p columns to the left, but none below and to the right: rows and columns of the "
        "result are missing. Each side gets p of them.",
        ("(py, py), (px, px)", "(py, 0), (px, 0)"),
    ),
    Wrong(
        "lower bound missing",
        "Above and to the left of the image you read the pixels of the opposite side: a negative index counts from the "
        "end in NumPy. Test iy >= 0 and ix >= 0, too.",
        (
            _PAD,
            'np.pad(np.pad(x, ((0, 0), (py, 0), (px, 0), (0, 0)), mode="wrap"), ((0, 0), (0, py), (0, px), (0, 0)))',
        ),
    ),
    Wrong(
        "border repeated",
        "You pad with copies of the border pixels. The layer pads with zeros.",
        (_PAD, 'np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)), mode="edge")'),
    ),
    Wrong(
        "wrapped around",
        "Outside the image you read the pixels of the opposite side: a negative index counts from the end in NumPy. "
        "Outside, x is 0.",
        (_PAD, 'np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)), mode="wrap")'),
    ),
    Wrong(
        "bias forgotten",
        "The bias b is not added.",
        ("np.tensordot(window, w, axes=3) + b", "np.tensordot(window, w, axes=3)"),
    ),
    Wrong(
        "bias for every tap",
        "The bias is added once for each tap of the kernel. Add it once to each output.",
        ("axes=3) + b", "axes=3) + KH * KW * b"),
    ),
    Wrong(
        "last row and column lost",
        "The last row and the last column of outputs are missing or never written: range(OH) already excludes OH.",
        ("y = np.empty(", "y = np.zeros("),
        ("range(OH)", "range(OH - 1)"),
        ("range(OW)", "range(OW - 1)"),
    ),
)
RIGHT = (
    Right(
        "a loop over taps",
        (
            "    for oy in range(OH):\n        for ox in range(OW):\n"
            "            window = padded[:, oy * sy : oy * sy + KH, ox * sx : ox * sx + KW]\n"
            "            y[:, oy, ox] = np.tensordot(window, w, axes=3) + b\n",
            "    y[...] = b\n    for ky in range(KH):\n        for kx in range(KW):\n"
            "            y += padded[:, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx][:, :OH, :OW] @ w[ky, kx]\n",
        ),
    ),
    Right("einsum", ("np.tensordot(window, w, axes=3)", 'np.einsum("nyxi,yxio->no", window, w)')),
)


def probes(rng):
    for label, x_shape, w_shape, geometry in CONVOLUTIONS:
        x, w, b = integers(rng, *x_shape), integers(rng, *w_shape), integers(rng, w_shape[3])
        yield call(label, "forward", x, w, b, geometry, gives={"y": "n oy ox co"})


def library():
    return kernels_of("conv2d", "forward")
