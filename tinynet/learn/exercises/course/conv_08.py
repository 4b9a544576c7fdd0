"""Convolution of volumes: the gradients of input and weight.

    y[n, oz, oy, ox, co] = b[co] + sum over kz, ky, kx, ci of  x[n, iz, iy, ix, ci] w[kz, ky, kx, ci, co]

    iz = oz s_z + kz - p_z        iy = oy s_y + ky - p_y        ix = ox s_x + kx - p_x                        (*)

The third axis adds an index and no new idea. But a loop over all outputs, as in conv-04 and conv-05, becomes slow: a
volume has many. Loop over the taps instead; there are few. All outputs together read one block of the padded volume
through a tap (kz, ky, kx): it begins at voxel (kz, ky, kx), has the size (OD, OH, OW), and steps by s. In NumPy it is
one slice, and what happens to it is one product of matrices:

    gx[n, iz, iy, ix, ci] += sum over co of            gy[n, oz, oy, ox, co] w[kz, ky, kx, ci, co]
    gw[kz, ky, kx, ci, co] = sum over n, oz, oy, ox of  x[n, iz, iy, ix, ci] gy[n, oz, oy, ox, co]

Each line holds for all (oz, oy, ox), with (*). x = 0 in the padding, which has no gradient.

s is `geometry.stride`, p is `geometry.padding`; both are triples (z, y, x).
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.geometries import VOLUMES, Geometry
from tinynet.learn.exercises.probe import call, integers, kernels_of

TEACHES = "the third axis is only an index more; a loop over the taps with slices does what a loop over outputs does"
HINTS = (
    "`for kz, ky, kx in np.ndindex(KD, KH, KW):` is the loop over the taps. Along z, the tap reads the voxels kz, "
    "kz + s_z, kz + 2 s_z, ... of the padded volume: OD of them.",
    "The block is padded[:, kz : kz + OD * sz : sz, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx]. For gx, start "
    "with zeros for the volume and its padding, add to the block of each tap, and cut the padding off at the end.",
    """
    block = padded[:, kz : kz + OD * sz : sz, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx]
    gx:  block += gy @ w[kz, ky, kx].T                    # a slice is a view: this changes `padded`
    gw:  gw[kz, ky, kx] = np.einsum("nzyxi,nzyxo->io", block, gy)
    """,
)
OP = "conv3d"
USE = "vnet"


# ---- your file
def backward_input(gy, w, input_size, geometry):
    """gx (N, D, H, W, C_in). gy (N, OD, OH, OW, C_out), w (KD, KH, KW, C_in, C_out); input_size: (D, H, W)."""
    # ---- solution
    (D, H, W), (sz, sy, sx), (pz, py, px) = input_size, geometry.stride, geometry.padding
    N, OD, OH, OW, _ = gy.shape
    KD, KH, KW, C_in, _ = w.shape
    padded = np.zeros((N, D + 2 * pz, H + 2 * py, W + 2 * px, C_in), gy.dtype)
    for kz, ky, kx in np.ndindex(KD, KH, KW):
        share = gy @ w[kz, ky, kx].T
        padded[:, kz : kz + OD * sz : sz, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx] += share
    return padded[:, pz : pz + D, py : py + H, px : px + W]
    # ---- end of solution


def backward_weight(x, gy, kernel_size, geometry):
    """gw (KD, KH, KW, C_in, C_out). x (N, D, H, W, C_in), gy (N, OD, OH, OW, C_out); kernel_size: (KD, KH, KW)."""
    # ---- solution
    (KD, KH, KW), (sz, sy, sx), (pz, py, px) = kernel_size, geometry.stride, geometry.padding
    _, OD, OH, OW, C_out = gy.shape
    padded_x = np.pad(x, ((0, 0), (pz, pz), (py, py), (px, px), (0, 0)))
    gw = np.zeros((KD, KH, KW, x.shape[4], C_out), x.dtype)
    for kz, ky, kx in np.ndindex(KD, KH, KW):
        block = padded_x[:, kz : kz + OD * sz : sz, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx]
        gw[kz, ky, kx] = np.einsum("nzyxi,nzyxo->io", block, gy)
    return gw
    # ---- end of solution


# ---- end of your file


_SLICES = "kz : kz + OD * sz : sz, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx"
_ADD = f"padded[:, {_SLICES}] += share"
_LOOP_OVER_TAPS = "    for kz, ky, kx in np.ndindex(KD, KH, KW):\n        share = gy @ w[kz, ky, kx].T\n        " + _ADD
_LOOP_OVER_OUTPUTS = """    for oz, oy, ox in np.ndindex(OD, OH, OW):
        share = np.einsum("no,zyxio->nzyxi", gy[:, oz, oy, ox], w)
        front, top, left = oz * sz, oy * sy, ox * sx
        padded[:, front : front + KD, top : top + KH, left : left + KW] += share"""
_WITH_PADDING = f"""    padded = np.zeros((N, D + 2 * pz, H + 2 * py, W + 2 * px, C_in), gy.dtype)
{_LOOP_OVER_TAPS}
    return padded[:, pz : pz + D, py : py + H, px : px + W]
"""
_PLAIN_LOOPS = """    gx = np.zeros((N, D, H, W, C_in), gy.dtype)
    for oz, oy, ox in np.ndindex(OD, OH, OW):
        for kz, ky, kx in np.ndindex(KD, KH, KW):
            iz, iy, ix = oz * sz + kz - pz, oy * sy + ky - py, ox * sx + kx - px
            if 0 <= iz < D and 0 <= iy < H and 0 <= ix < W:
                gx[:, iz, iy, ix] += gy[:, oz, oy, ox] @ w[kz, ky, kx].T
    return gx
"""
_BLOCK = f"block = padded_x[:, {_SLICES}]"
WRONG = (
    Wrong(
        "input: kernel flipped",
        "In gx the kernel is flipped. A scatter uses w as it is: what forward read through tap (kz, ky, kx) gets its "
        "gradient through the same tap.",
        ("w[kz, ky, kx].T", "w[::-1, ::-1, ::-1][kz, ky, kx].T"),
    ),
    Wrong(
        "input: kernel flipped in y and x only",
        "In gx the kernel is flipped in y and x, as if each slice were an image. A scatter flips no axis.",
        ("w[kz, ky, kx].T", "w[:, ::-1, ::-1][kz, ky, kx].T"),
    ),
    Wrong(
        "input: = for +=",
        "In gx each tap overwrites what the taps before it wrote. A voxel is read through several taps: add.",
        ("] += share", "] = share"),
    ),
    Wrong(
        "input: = for +=, output by output",
        "In gx the window of each output overwrites what the outputs before it wrote. Windows overlap: add.",
        (_LOOP_OVER_TAPS, _LOOP_OVER_OUTPUTS.replace("+=", "=")),
    ),
    Wrong(
        "input: negative index",
        "A negative index is used for gx, which NumPy counts from the end: what belongs to the padding is added to the "
        "last slices, rows and columns. Skip it.",
        (_WITH_PADDING, _PLAIN_LOOPS.replace("0 <= ", "")),
    ),
    Wrong(
        "input: stride of z ignored",
        "In gx the blocks have no step along z: output oz read slice oz s_z + kz - p_z, not oz + kz - p_z.",
        (
            "kz : kz + OD * sz : sz, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx] +=",
            "kz : kz + OD, ky : ky + OH * sy : sy, kx : kx + OW * sx : sx] +=",
        ),
    ),
    Wrong(
        "input: padding of z not cut off",
        "gx is cut out of the padded array at slice 0: it is shifted by the padding of z. Start at slice p_z.",
        ("padded[:, pz : pz + D, py", "padded[:, :D, py"),
    ),
    Wrong(
        "input: padding not cut off",
        "gx is cut out of the corner of the padded array: it is shifted by the padding. Start at voxel (p_z, p_y, "
        "p_x).",
        ("padded[:, pz : pz + D, py : py + H, px : px + W]\n", "padded[:, :D, :H, :W]\n"),
    ),
    Wrong(
        "input: weight not transposed",
        "In gx the weight of a tap, (C_in, C_out), is not transposed: gy has C_out channels, and gx needs C_in. Equal "
        "numbers of channels hide the mistake.",
        ("w[kz, ky, kx].T", "w[kz, ky, kx]"),
    ),
    Wrong(
        "weight: kz ignored",
        "For gw, all slices of the kernel read the same block: the block of tap kz begins kz slices deeper.",
        (_BLOCK, _BLOCK.replace("kz : kz + OD * sz", "0 : OD * sz")),
    ),
    Wrong(
        "weight: flipped",
        "gw is flipped: tap (kz, ky, kx) reads the block that begins at voxel (kz, ky, kx) of the padded volume.",
        ("    return gw", "    return gw[::-1, ::-1, ::-1]"),
    ),
    Wrong(
        "weight: order of the axes",
        "The axes of gw are (KW, KH, KD, ...) in your result. The order is z, y, x, as in the volume.",
        ("    return gw", "    return gw.swapaxes(0, 2)"),
    ),
    Wrong(
        "weight: channels exchanged",
        "The channels of gw are (C_out, C_in) in your result; the weight is (KD, KH, KW, C_in, C_out).",
        ("    return gw", "    return gw.swapaxes(3, 4)"),
    ),
    Wrong(
        "weight: mean over the batch",
        "gw is averaged over the volumes of the batch: sum over them.",
        ("    return gw", "    return gw / len(x)"),
    ),
    Wrong(
        "weight: mean over all outputs",
        "gw is a mean over all outputs: a shared weight gets the sum over all its uses.",
        ("    return gw", "    return gw / (len(x) * OD * OH * OW)"),
    ),
    Wrong(
        "weight: mean over the positions",
        "gw is a mean over the positions of the kernel: a shared weight gets the sum over all its uses.",
        ("    return gw", "    return gw / (OD * OH * OW)"),
    ),
    Wrong(
        "weight: padding on one side",
        "For gw, the whole padding is added behind the volume: all blocks are shifted by p.",
        ("(pz, pz), (py, py), (px, px), (0, 0)))", "(0, 2 * pz), (0, 2 * py), (0, 2 * px), (0, 0)))"),
    ),
)
RIGHT = (
    Right(
        "a loop over outputs",
        (_LOOP_OVER_TAPS, _LOOP_OVER_OUTPUTS),
        (
            "    for kz, ky, kx in np.ndindex(KD, KH, KW):\n        " + _BLOCK + "\n"
            '        gw[kz, ky, kx] = np.einsum("nzyxi,nzyxo->io", block, gy)',
            "    for oz, oy, ox in np.ndindex(OD, OH, OW):\n        front, top, left = oz * sz, oy * sy, ox * sx\n"
            "        window = padded_x[:, front : front + KD, top : top + KH, left : left + KW]\n"
            '        gw += np.einsum("nzyxi,no->zyxio", window, gy[:, oz, oy, ox])',
        ),
    ),
    Right("a loop over everything", (_WITH_PADDING, _PLAIN_LOOPS)),
    Right(
        "tensordot",
        ("gy @ w[kz, ky, kx].T", "np.tensordot(gy, w[kz, ky, kx], axes=(4, 1))"),
        (
            'np.einsum("nzyxi,nzyxo->io", block, gy)',
            "np.tensordot(block, gy, axes=((0, 1, 2, 3), (0, 1, 2, 3)))",
        ),
    ),
)


def probes(rng):
    for label, x_shape, w_shape, stride, padding in VOLUMES:
        geometry = Geometry(stride, padding, (1, 1, 1))
        size = geometry.output_size(x_shape[1:4], w_shape[:3])
        x, w, gy = integers(rng, *x_shape), integers(rng, *w_shape), integers(rng, x_shape[0], *size, w_shape[4])
        axes = {"gives": {"gx": "n iz iy ix ci"}, "gy": "n oz oy ox co"}
        yield call(label, "backward_input", gy, w, x_shape[1:4], geometry, **axes)
        yield call(label, "backward_weight", x, gy, w_shape[:3], geometry, gives={"gw": "kz ky kx ci co"})


def library():
    return kernels_of("conv3d", "backward_input", "backward_weight")
