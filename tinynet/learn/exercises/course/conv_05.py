"""Convolution: the gradient of the input.

    y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of  x[n, iy, ix, ci] w[ky, kx, ci, co]

    with  iy = oy s_y + ky - p_y    and    ix = ox s_x + kx - p_x                                (*)

A pixel x[n, iy, ix, ci] is read by several outputs, each time through another tap. Its gradient is a sum over them:

    gx[n, iy, ix, ci] = sum over co and over all (oy, ky), (ox, kx) with (*)  of  gy[n, oy, ox, co] w[ky, kx, ci, co]

As a program, it is the loop of forward with another assignment: where forward *reads* x at (iy, ix), backward
*adds* to gx at (iy, ix). The padding has no gradient: what would be added there is dropped.

s is `geometry.stride`, p is `geometry.padding`; both are pairs (y, x).
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.geometries import CONVOLUTIONS
from tinynet.learn.exercises.probe import call, integers, kernels_of

TEACHES = "the transpose of a gather is a scatter; overlapping windows add up; where the flipped kernel comes from"
HINTS = (
    "Start with zeros for gx and its padding, (N, H + 2 p_y, W + 2 p_x, C_in); add to them; cut the padding off at "
    "the end.",
    "Output (oy, ox) adds gy[n, oy, ox] times w, summed over co, to the window that forward read, of the shape "
    "(N, KH, KW, C_in).",
    """
    padded[:, oy * sy : oy * sy + KH, ox * sx : ox * sx + KW] += np.einsum("no,yxio->nyxi", gy[:, oy, ox], w)
    ...
    return padded[:, py : py + H, px : px + W]
    """,
)
OP = "conv2d"


# ---- your file
def backward_input(gy, w, input_size, geometry):
    """gx (N, H, W, C_in). gy (N, OH, OW, C_out), w (KH, KW, C_in, C_out); input_size: (H, W)."""
    # ---- solution
    (H, W), (sy, sx), (py, px) = input_size, geometry.stride, geometry.padding
    N, OH, OW, _ = gy.shape
    KH, KW, C_in, _ = w.shape
    padded = np.zeros((N, H + 2 * py, W + 2 * px, C_in), gy.dtype)
    for oy in range(OH):
        for ox in range(OW):
            share = np.einsum("no,yxio->nyxi", gy[:, oy, ox], w)
            padded[:, oy * sy : oy * sy + KH, ox * sx : ox * sx + KW] += share
    return padded[:, py : py + H, px : px + W]
    # ---- end of solution


# ---- end of your file


_WINDOW = "padded[:, oy * sy : oy * sy + KH, ox * sx : ox * sx + KW]"
WRONG = (
    Wrong(
        "kernel flipped",
        "The kernel is flipped. As a *scatter* the gradient uses w as it is; the flip appears only if you write it "
        "as a correlation that gathers.",
        ("gy[:, oy, ox], w)", "gy[:, oy, ox], w[::-1, ::-1])"),
    ),
    Wrong(
        "= for +=",
        "Windows overlap, and the gradient of a pixel is a sum over all of them. You assign, so the last window "
        "overwrites the others.",
        (_WINDOW + " += share", _WINDOW + " = share"),
    ),
    Wrong(
        "padding not cut off",
        "The result is cut from the corner of the padded array: it is shifted by the padding. Start at row p_y and "
        "column p_x.",
        ("padded[:, py : py + H, px : px + W]\n", "padded[:, :H, :W]\n"),
    ),
    Wrong(
        "stride ignored",
        "Output (oy, ox) adds to the window that starts at row oy; forward read it from row oy s_y.",
        ("oy * sy : oy * sy + KH, ox * sx : ox * sx + KW", "oy : oy + KH, ox : ox + KW"),
    ),
    Wrong(
        "axes of the stride exchanged",
        "The stride of y is used for x and vice versa. Equal strides hide the mistake.",
        ("sy : oy * sy + KH, ox * sx : ox * sx + KW", "sx : oy * sx + KH, ox * sy : ox * sy + KW"),
    ),
    Wrong(
        "mean over the batch",
        "You divide by the number of images. Each image has a gx of its own; nothing is averaged.",
        ("+= share", "+= share / N"),
    ),
    Wrong(
        "gy ignored",
        "w is added without gy: the gradient for a gy of ones.",
        ("gy[:, oy, ox], w)", "np.ones(gy[:, oy, ox].shape), w)"),
    ),
    Wrong(
        "channels summed away",
        "The channels of gy are summed before they meet w: each output channel has a kernel of its own.",
        ('"no,yxio->nyxi"', '"nq,yxio->nyxi"'),
    ),
    Wrong(
        "last row and column of gy lost",
        "The last row and the last column of gy are not used: range(OH) already excludes OH.",
        ("range(OH)", "range(OH - 1)"),
        ("range(OW)", "range(OW - 1)"),
    ),
)
RIGHT = (
    Right("tensordot", ('np.einsum("no,yxio->nyxi", gy[:, oy, ox], w)', "np.tensordot(gy[:, oy, ox], w, axes=(1, 3))")),
    Right(
        "a loop over taps",
        (
            "    for oy in range(OH):\n        for ox in range(OW):\n"
            '            share = np.einsum("no,yxio->nyxi", gy[:, oy, ox], w)\n            ' + _WINDOW + " += share\n",
            "    for ky in range(KH):\n        for kx in range(KW):\n"
            "            padded[:, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx] += gy @ w[ky, kx].T\n",
        ),
    ),
)


def probes(rng):
    for label, x_shape, w_shape, geometry in CONVOLUTIONS:
        size = geometry.output_size(x_shape[1:3], w_shape[:2])
        gy, w = integers(rng, x_shape[0], *size, w_shape[3]), integers(rng, *w_shape)
        axes = {"gives": {"gx": "n iy ix ci"}, "gy": "n oy ox co"}
        yield call(label, "backward_input", gy, w, x_shape[1:3], geometry, **axes)


def library():
    return kernels_of("conv2d", "backward_input")
