"""Convolution: the gradients of weight and bias.

    y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of  x[n, iy, ix, ci] w[ky, kx, ci, co]

    with  iy = oy s_y + ky - p_y    and    ix = ox s_x + kx - p_x

One weight w[ky, kx, ci, co] is used once for every image and every output pixel, and each time it is multiplied by a
pixel of x. The chain rule sums over all uses:

    gw[ky, kx, ci, co] = sum over n, oy, ox of  x[n, iy, ix, ci] gy[n, oy, ox, co]
    gb[co]             = sum over n, oy, ox of                   gy[n, oy, ox, co]

x = 0 outside the image. s is `geometry.stride`, p is `geometry.padding`; both are pairs (y, x).
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.geometries import CONVOLUTIONS, Geometry
from tinynet.learn.exercises.probe import call, integers, kernels_of

TEACHES = "the gradient of a shared weight is a sum over all its uses, not a mean; the same index arithmetic as forward"
HINTS = (
    "Pad x as in forward. Then fix one tap (ky, kx): which pixels of the padded x do the outputs read through it?",
    "They are padded[:, ky :: s_y, kx :: s_x], cut to OH rows and OW columns; (N, OH, OW, C_in), to be multiplied "
    "with gy and summed over the first three axes.",
    """
    seen = padded[:, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx]
    gw[ky, kx] = np.einsum("nyxi,nyxo->io", seen, gy)
    """,
)
OP = "conv2d"


# ---- your file
def backward_weight(x, gy, kernel_size, geometry):
    """gw (KH, KW, C_in, C_out). x (N, H, W, C_in), gy (N, OH, OW, C_out); kernel_size: (KH, KW)."""
    # ---- solution
    (KH, KW), (sy, sx), (py, px) = kernel_size, geometry.stride, geometry.padding
    OH, OW = gy.shape[1:3]
    padded = np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)))
    gw = np.empty((KH, KW, x.shape[3], gy.shape[3]), x.dtype)
    for ky in range(KH):
        for kx in range(KW):
            seen = padded[:, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx]
            gw[ky, kx] = np.einsum("nyxi,nyxo->io", seen, gy)
    return gw
    # ---- end of solution


def backward_bias(gy):
    """gb (C_out,) from gy (N, OH, OW, C_out)."""
    # ---- solution
    return gy.sum(axis=(0, 1, 2))
    # ---- end of solution


# ---- end of your file


_SEEN = "padded[:, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx]"
WRONG = (
    Wrong(
        "mean over the batch",
        "gw is averaged over the images. The mean is part of the loss, so gy contains it already: sum over the images.",
        ("seen, gy)", "seen, gy) / len(x)"),
    ),
    Wrong(
        "first image only",
        "gw uses the first image only; the sum runs over n, too.",
        ("seen, gy)", "seen[:1], gy[:1])"),
    ),
    Wrong(
        "flipped",
        "gw is flipped in both directions. The layer does not flip its kernel, so its gradient is not flipped either.",
        ("gw[ky, kx] =", "gw[KH - 1 - ky, KW - 1 - kx] ="),
    ),
    Wrong(
        "taps exchanged",
        "The tap (ky, kx) reads the pixels of tap (kx, ky). If the kernel is square, the shapes do not show it.",
        ("            seen =", "            ky, kx = (kx, ky) if KH == KW else (ky, kx)\n            seen ="),
        ("gw[ky, kx] =", "ky, kx = (kx, ky) if KH == KW else (ky, kx)\n            gw[ky, kx] ="),
    ),
    Wrong(
        "stride ignored",
        "You read x as with stride 1. Output oy reads row oy s + ky - p.",
        ("ky : ky + OH * sy : sy, kx : kx + OW * sx : sx", "ky : ky + OH, kx : kx + OW"),
    ),
    Wrong(
        "gy ignored",
        "x is summed but not multiplied by gy: the gradient for a gy of ones.",
        ("seen, gy)", "seen, np.ones(gy.shape))"),
    ),
    Wrong(
        "= for +=",
        "Each output pixel overwrites the contribution of the pixels before it: only the last one remains. Add them.",
        ("seen, gy)", "seen[:, -1:, -1:], gy[:, -1:, -1:])"),
    ),
    Wrong(
        "border repeated",
        "You pad with copies of the border pixels. forward read zeros there, and zeros add nothing.",
        (
            "np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)))",
            'np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)), mode="edge")',
        ),
    ),
    Wrong(
        "bias: mean",
        "gb is a mean over the pixels. b is added to every pixel of every image, so its gradient is a sum.",
        ("gy.sum(axis=(0, 1, 2))", "gy.mean(axis=(0, 1, 2))"),
    ),
    Wrong(
        "bias: mean over the images",
        "gb is summed over the pixels but averaged over the images. All images use the same b: sum over them.",
        ("gy.sum(axis=(0, 1, 2))", "gy.sum(axis=(1, 2)).mean(axis=0)"),
    ),
)
RIGHT = (
    Right(
        "a loop over outputs",
        ("    gw = np.empty(", "    gw = np.zeros("),
        (
            "    for ky in range(KH):\n        for kx in range(KW):\n            seen = "
            + _SEEN
            + '\n            gw[ky, kx] = np.einsum("nyxi,nyxo->io", seen, gy)\n',
            "    for oy in range(OH):\n        for ox in range(OW):\n"
            "            window = padded[:, oy * sy : oy * sy + KH, ox * sx : ox * sx + KW]\n"
            "            gw += np.tensordot(window, gy[:, oy, ox], axes=(0, 0))\n",
        ),
    ),
    Right("tensordot", ('np.einsum("nyxi,nyxo->io", seen, gy)', "np.tensordot(seen, gy, axes=((0, 1, 2), (0, 1, 2)))")),
)


def probes(rng):
    square = ("a square kernel", (2, 5, 6, 2), (3, 3, 2, 4), Geometry(padding=(1, 0)))
    for label, x_shape, w_shape, geometry in (*CONVOLUTIONS, square):
        size = geometry.output_size(x_shape[1:3], w_shape[:2])
        x, gy = integers(rng, *x_shape), integers(rng, x_shape[0], *size, w_shape[3])
        yield call(label, "backward_weight", x, gy, w_shape[:2], geometry, gives={"gw": "ky kx ci co"})
    yield call("one image of one pixel", "backward_bias", integers(rng, 1, 1, 1, 3), gives={"gb": "co"})
    yield call("two images", "backward_bias", integers(rng, 2, 3, 4, 5), gives={"gb": "co"})


def library():
    return kernels_of("conv2d", "backward_weight", "backward_bias")
