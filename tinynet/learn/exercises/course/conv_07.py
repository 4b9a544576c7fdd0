"""Transposed convolution: its gradients.

    y[n, oy, ox, co] = b[co] + sum over ci and all (iy, ky), (ix, kx) with (*)  of  x[n, iy, ix, ci] w[ky, kx, co, ci]

    oy = iy s_y + ky - p_y        ox = ix s_x + kx - p_x                                                      (*)

Pixel x[iy, ix] painted KH KW pixels of y; each of them contributes to its gradient, through the same tap:

    gx[n, iy, ix, ci]  = sum over ky, kx, co of  gy[n, oy, ox, co] w[ky, kx, co, ci]
    gw[ky, kx, co, ci] = sum over n, iy, ix of   gy[n, oy, ox, co] x[n, iy, ix, ci]

gy = 0 if (*) leads outside y: that part of the copy was cut off. s is `geometry.stride`, p is `geometry.padding`. The
first formula reads gy with a window, a stride and a padding: the transpose of the transpose is the convolution.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.geometries import TRANSPOSED, Geometry
from tinynet.learn.exercises.probe import call, integers, kernels_of

TEACHES = "the transpose of a transpose; which array is the large one; the order of the channels in a weight"
HINTS = (
    "gx is the forward of a convolution, with gy as its input and w as its weight: from C_out to C_in channels.",
    "gw is the weight gradient of a convolution: gy is the large image, read in windows, and x is the small one.",
    """
    window = padded_gy[:, iy * sy : iy * sy + KH, ix * sx : ix * sx + KW]
    gx[:, iy, ix] = np.tensordot(window, w, axes=3)
    gw += np.tensordot(window, x[:, iy, ix], axes=(0, 0))
    """,
)
OP = "conv_transpose2d"


# ---- your file
def backward_input(gy, w, geometry):
    """gx (N, H, W, C_in). gy (N, OH, OW, C_out), w (KH, KW, C_out, C_in). H and W are as large as possible."""
    # ---- solution
    (sy, sx), (py, px) = geometry.stride, geometry.padding
    KH, KW, _, C_in = w.shape
    padded = np.pad(gy, ((0, 0), (py, py), (px, px), (0, 0)))
    H, W = (padded.shape[1] - KH) // sy + 1, (padded.shape[2] - KW) // sx + 1
    gx = np.empty((len(gy), H, W, C_in), gy.dtype)
    for iy in range(H):
        for ix in range(W):
            window = padded[:, iy * sy : iy * sy + KH, ix * sx : ix * sx + KW]
            gx[:, iy, ix] = np.tensordot(window, w, axes=3)
    return gx
    # ---- end of solution


def backward_weight(x, gy, kernel_size, geometry):
    """gw (KH, KW, C_out, C_in). x (N, H, W, C_in), gy (N, OH, OW, C_out); kernel_size: (KH, KW)."""
    # ---- solution
    (KH, KW), (sy, sx), (py, px) = kernel_size, geometry.stride, geometry.padding
    padded_gy = np.pad(gy, ((0, 0), (py, py), (px, px), (0, 0)))
    gw = np.zeros((KH, KW, gy.shape[3], x.shape[3]), x.dtype)
    for iy in range(x.shape[1]):
        for ix in range(x.shape[2]):
            painted = padded_gy[:, iy * sy : iy * sy + KH, ix * sx : ix * sx + KW]
            gw += np.tensordot(painted, x[:, iy, ix], axes=(0, 0))
    return gw
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "input: flipped kernel",
        "In gx the kernel is flipped. The transpose of the transpose is the convolution again, which does not flip.",
        ("np.tensordot(window, w, axes=3)", "np.tensordot(window, w[::-1, ::-1], axes=3)"),
    ),
    Wrong(
        "input: stride ignored",
        "In gx the windows are one pixel apart. Pixel iy painted a copy that begins at row iy s_y, so its window "
        "begins there.",
        (
            "window = padded[:, iy * sy : iy * sy + KH, ix * sx : ix * sx + KW]",
            "window = padded[:, iy : iy + KH, ix : ix + KW]",
        ),
    ),
    Wrong(
        "input: padding on one side",
        "In gx the whole padding is added above and to the left: everything is shifted.",
        (
            "padded = np.pad(gy, ((0, 0), (py, py), (px, px), (0, 0)))",
            "padded = np.pad(gy, ((0, 0), (2 * py, 0), (2 * px, 0), (0, 0)))",
        ),
    ),
    Wrong(
        "weight: channels exchanged",
        "The channels of gw are in the order of conv2d, (C_in, C_out). Here the weight is (KH, KW, C_out, C_in).",
        ("    return gw", "    return gw.swapaxes(2, 3)"),
    ),
    Wrong(
        "weight: flipped",
        "gw is flipped in both directions: in (*) tap ky lies ky rows *below* iy s_y - p_y.",
        ("    return gw", "    return gw[::-1, ::-1]"),
    ),
    Wrong(
        "weight: mean over the batch",
        "gw is averaged over the images: sum over them.",
        ("    return gw", "    return gw / len(x)"),
    ),
    Wrong(
        "weight: = for +=",
        "Each pixel of x overwrites the contribution of the pixels before it to gw: only the last one remains.",
        ("gw += np.tensordot", "gw[...] = np.tensordot"),
    ),
    Wrong(
        "weight: padding ignored",
        "gw reads gy without its padding: the windows are shifted by p rows and columns.",
        (
            "padded_gy = np.pad(gy, ((0, 0), (py, py), (px, px), (0, 0)))",
            "padded_gy = np.pad(gy, ((0, 0), (0, 2 * py), (0, 2 * px), (0, 0)))",
        ),
    ),
    Wrong(
        "weight: first image only",
        "gw uses the first image only; the sum runs over n, too.",
        ("np.tensordot(painted, x[:, iy, ix], axes=(0, 0))", "np.tensordot(painted[:1], x[:1, iy, ix], axes=(0, 0))"),
    ),
)
RIGHT = (
    Right(
        "a loop over taps",
        (
            "    for iy in range(x.shape[1]):\n        for ix in range(x.shape[2]):\n"
            "            painted = padded_gy[:, iy * sy : iy * sy + KH, ix * sx : ix * sx + KW]\n"
            "            gw += np.tensordot(painted, x[:, iy, ix], axes=(0, 0))\n",
            "    H, W = x.shape[1:3]\n    for ky in range(KH):\n        for kx in range(KW):\n"
            "            painted = padded_gy[:, ky : ky + H * sy : sy, kx : kx + W * sx : sx][:, :H, :W]\n"
            "            gw[ky, kx] = np.tensordot(painted, x, axes=((0, 1, 2), (0, 1, 2)))\n",
        ),
    ),
    Right("einsum", ("np.tensordot(window, w, axes=3)", 'np.einsum("nyxo,yxoi->ni", window, w)')),
)


def probes(rng):
    same = "3 x 3 kernel, as many channels in as out"
    square = (same, (2, 3, 4, 3), (3, 3, 3, 3), (6, 8), Geometry((2, 2), (1, 1)))
    for label, x_shape, w_shape, size, geometry in (*TRANSPOSED, square):
        x, w, gy = integers(rng, *x_shape), integers(rng, *w_shape), integers(rng, x_shape[0], *size, w_shape[2])
        yield call(label, "backward_input", gy, w, geometry, gives={"gx": "n iy ix ci"}, gy="n oy ox co")
        yield call(label, "backward_weight", x, gy, w_shape[:2], geometry, gives={"gw": "ky kx co ci"})


def library():
    return kernels_of("conv_transpose2d", "backward_input", "backward_weight")
