"""Transposed convolution, forward.

It leads from a small image to a large one: each pixel of x *paints* a copy of the kernel, scaled by its value, into y.
Where copies overlap, they are added. Then p pixels are cut off on each side.

    y[n, oy, ox, co] = b[co] + sum over ci and all (iy, ky), (ix, kx) with (*)  of  x[n, iy, ix, ci] w[ky, kx, co, ci]

    oy = iy s_y + ky - p_y        ox = ix s_x + kx - p_x                                                      (*)

    one row, KW = 3, s = 2, p = 1:     ox   -1   0   1   2   3   4   5
                                            [0   1   2]                     painted by ix = 0
                                                    [0   1   2]             by ix = 1: at ox = 1 two copies are added
                                            cut

s is `geometry.stride`, p is `geometry.padding`; both are pairs (y, x). The order of the channels in the weight is
opposite to conv2d: w (KH, KW, C_out, C_in). It is the weight of a convolution from C_out to C_in channels, and this
operation is the transpose of that convolution. The size (OH, OW) is given, because a strided convolution rounds down:
several sizes lead to the same small size. There may be rows that no copy reaches; they hold only the bias.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.geometries import TRANSPOSED, Geometry
from tinynet.learn.exercises.probe import call, integers, kernels_of

TEACHES = "painting instead of reading; what the decoder of a U-Net computes; it is conv-05 with other names"
HINTS = (
    "It is the gradient of the input of a convolution: x takes the place of gy, and y the place of gx.",
    "Paint into an array that includes the padding, (N, OH + 2 p_y, OW + 2 p_x, C_out), cut it off at the end, "
    "and add the bias once, to everything.",
    """
    copy = np.einsum("ni,yxoi->nyxo", x[:, iy, ix], w)
    padded[:, iy * sy : iy * sy + KH, ix * sx : ix * sx + KW] += copy
    """,
)
OP = "conv_transpose2d"


# ---- your file
def forward(x, w, b, output_size, geometry):
    """y (N, OH, OW, C_out). x (N, H, W, C_in), w (KH, KW, C_out, C_in), b (C_out,) or None; output_size: (OH, OW)."""
    # ---- solution
    (OH, OW), (sy, sx), (py, px) = output_size, geometry.stride, geometry.padding
    N, H, W, _ = x.shape
    KH, KW, C_out, _ = w.shape
    padded = np.zeros((N, OH + 2 * py, OW + 2 * px, C_out), x.dtype)
    for iy in range(H):
        for ix in range(W):
            copy = np.einsum("ni,yxoi->nyxo", x[:, iy, ix], w)
            padded[:, iy * sy : iy * sy + KH, ix * sx : ix * sx + KW] += copy
    y = padded[:, py : py + OH, px : px + OW]
    return y if b is None else y + b
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "= for +=",
        "Copies of the kernel overlap, and what they paint is added. You assign, so the last copy overwrites the "
        "others.",
        ("KW] += copy", "KW] = copy"),
    ),
    Wrong(
        "flipped kernel",
        "The kernel is painted flipped. The transpose of a convolution uses the weight as it is.",
        ("x[:, iy, ix], w)", "x[:, iy, ix], w[::-1, ::-1])"),
    ),
    Wrong(
        "padding not cut off",
        "The result is cut from the corner of the painted area. Here padding makes the result smaller: remove p rows "
        "and columns at *each* side.",
        ("padded[:, py : py + OH, px : px + OW]", "padded[:, :OH, :OW]"),
    ),
    Wrong(
        "bias painted",
        "The bias is painted with every copy: pixels get it several times if copies overlap, and not at all if "
        "no copy reaches them. Add it once to every pixel.",
        ("            padded[:, iy", "            copy = copy if b is None else copy + b\n            padded[:, iy"),
        ("return y if b is None else y + b", "return y"),
    ),
    Wrong(
        "bias inside of the loop",
        "The bias is added to the whole of y inside of the loop, once for each pixel of x. Add it once, at the end.",
        ("return y if b is None else y + b", "return y if b is None else y + H * W * b"),
    ),
    Wrong(
        "bias for every tap",
        "The bias is added to the whole of y once for each tap of the kernel. Add it once, at the end.",
        ("return y if b is None else y + b", "return y if b is None else y + KH * KW * b"),
    ),
    Wrong(
        "stride ignored",
        "The copies are painted one pixel apart. Pixel iy paints a copy that begins at row iy s_y.",
        ("iy * sy : iy * sy + KH, ix * sx : ix * sx + KW", "iy : iy + KH, ix : ix + KW"),
    ),
    Wrong(
        "channels summed too early",
        "The input channels are summed before they meet w: each input channel paints with a kernel of its own.",
        ('"ni,yxoi->nyxo"', '"nq,yxoi->nyxo"'),
    ),
    Wrong(
        "bias forgotten",
        "The bias b is not added.",
        ("return y if b is None else y + b", "return y"),
    ),
)
RIGHT = (
    Right(
        "a loop over taps",
        (
            "    for iy in range(H):\n        for ix in range(W):\n"
            '            copy = np.einsum("ni,yxoi->nyxo", x[:, iy, ix], w)\n'
            "            padded[:, iy * sy : iy * sy + KH, ix * sx : ix * sx + KW] += copy\n",
            "    for ky in range(KH):\n        for kx in range(KW):\n"
            "            padded[:, ky : ky + H * sy : sy, kx : kx + W * sx : sx] += x @ w[ky, kx].T\n",
        ),
        (
            "np.zeros((N, OH + 2 * py, OW + 2 * px, C_out), x.dtype)",
            "np.zeros((N, OH + 2 * py + sy, OW + 2 * px + sx, C_out))",
        ),
    ),
)


def probes(rng):
    gives = {"y": "n oy ox co"}
    for label, x_shape, w_shape, size, geometry in TRANSPOSED:
        x, w, b = integers(rng, *x_shape), integers(rng, *w_shape), integers(rng, w_shape[2])
        yield call(label, "forward", x, w, b, size, geometry, gives=gives)
    x, w, apart = integers(rng, 1, 2, 3, 2), integers(rng, 1, 1, 1, 2), Geometry(stride=(2, 2))
    yield call("no bias, pixels that no copy reaches", "forward", x, w, None, (3, 5), apart, gives=gives)


def library():
    return kernels_of("conv_transpose2d", "forward")
