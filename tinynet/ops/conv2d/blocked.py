"""conv2d, `blocked`: the sums of the definition, computed with the register blocks of `ops/simd.py`. How:

* One routine, `_correlate`, serves forward and backward_input, because both are correlations: the gradient
  with respect to the input correlates gy with the flipped kernel, in one piece for stride 1 and in
  stride_y x stride_x pieces ("phases") else. derivation.md derives that.
* Work is cut into bands: some output rows of one image. For each band the input rows it needs are copied into a
  scratch buffer, with the zero padding written out; after that no index can fall outside, and the innermost
  loops need no tests. The buffer stays in the cache while all output channels are computed from it.
* A register block holds 8 neighbouring output pixels x 32 output channels (or 16 x 16; less with AVX2). With channels
  last, the numbers that are summed for one output, over kx and ci, lie next to each other: KW and C_in are one loop.
* Channel counts that do not fill the vectors: the weights are padded with zeros, and the block is computed in a small
  tile of which the valid part is copied.
* backward_weight exchanges the roles: rows of the block are (kx, ci), lanes are output channels, and the sum runs
  over the pixels. Each thread adds up its own bands; the threads' sums are added in a fixed order.
* Zeros of the padding take part in the sums, which changes nothing unless they meet NaN or infinity in w or gy. Where
  that may have happened, `rows` computes the call again: it leaves the padding out.

float64 takes the same code with half as many lanes.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from ...backends.numba.jit import jit
from ...backends.out import contiguous_result, delivered
from .._cpu.old_simd import ROWS_OF_1, ROWS_OF_2, block_of_1, block_of_2, lanes_of
from .._cpu.register_rows import add_rows
from ..concat import cpu as concat
from . import rows as by_rows
from .epilogue import Activation, activate
from .geometry import Pair, output_size, phase

BAND_BYTES = 400_000  # of input per band: with the weights of one block it fits into a core's L2 cache


# ------------------------------------------------------------------------------------- the kernels
def forward(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of x[n, iy, ix, ci] w[ky, kx, ci, co]."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return convolve(x, w, b, Activation.none(x.dtype), **geometry, out=out)


def convolve(
    x: np.ndarray | tuple[np.ndarray, ...],
    w: np.ndarray,
    b: np.ndarray | None,
    activation: Activation,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    out: np.ndarray | None,
) -> np.ndarray:
    """`forward`, and then the activation, on each band of y while that is in the cache."""
    x = concat.forward(*x, axis=3) if isinstance(x, tuple) else x
    size = output_size(x.shape[1:3], w.shape[:2], stride, padding, dilation)
    y = contiguous_result((len(x), *size, w.shape[3]), x.dtype, out)
    if not np.isfinite(w).all():
        by_rows.forward(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups, out=y)
        activate(y.reshape(-1), 0, y.size, activation)
        return delivered(y, out)
    w_grouped = w.reshape(*w.shape[:3], groups, w.shape[3] // groups)
    _correlate_into(y, x, w_grouped, b, activation, stride=stride, padding=padding, dilation=dilation)
    return delivered(y, out)


def backward_input(
    gy: np.ndarray,
    w: np.ndarray,
    *,
    input_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over co and all (oy, ky), (ox, kx) that read this pixel of gy w."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if not np.isfinite(w).all():
        return by_rows.backward_input(gy, w, input_size=input_size, **geometry, out=out)
    kh, kw, c_group, c_out = w.shape
    gx = contiguous_result((len(gy), *input_size, c_group * groups), gy.dtype, out)
    # Exchange the roles of input and output channels: (KH, KW, C_out / groups, groups, C_in / groups).
    w_exchanged = w.reshape(kh, kw, c_group, groups, c_out // groups).transpose(0, 1, 4, 3, 2)
    for a in range(min(stride[0], input_size[0])):
        rows = phase(a, kh, stride[0], padding[0], dilation[0])
        for b in range(min(stride[1], input_size[1])):
            columns = phase(b, kw, stride[1], padding[1], dilation[1])
            if not (rows.taps and columns.taps):  # no tap reaches these pixels
                gx[:, a :: stride[0], b :: stride[1]] = 0
                continue
            _correlate_into(
                gx,
                gy,
                w_exchanged[rows.taps][:, columns.taps],
                None,
                Activation.none(gy.dtype),
                padding=(rows.padding, columns.padding),
                dilation=(rows.dilation, columns.dilation),
                first=(a, b),
                step=stride,
            )
    return delivered(gx, out)


def backward_weight(
    x: np.ndarray,
    gy: np.ndarray,
    *,
    kernel_size: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """gw[ky, kx, ci, co] = sum over n, oy, ox of x[n, iy, ix, ci] gy[n, oy, ox, co]."""
    n, height, width, c_in = x.shape
    _, oh, ow, c_out = gy.shape
    kh, kw = kernel_size
    lanes, i_group, o_group = lanes_of(x.dtype), c_in // groups, c_out // groups
    blocks = Blocks(o_group, lanes)
    gy_padded = gy
    if blocks.padded != o_group:  # channels that do not fill the vectors: fill up with zeros
        gy_padded = np.zeros((n, oh, ow, groups, blocks.padded), gy.dtype)
        gy_padded[..., :o_group] = gy.reshape(n, oh, ow, groups, o_group)
    threads = numba.get_num_threads()
    scratch_width = (ow - 1) * stride[1] + (kw - 1) * dilation[1] + 1
    band, scratch_rows = _band(oh, kh, stride[0], dilation[0], scratch_width * c_in * x.itemsize)
    sums = np.zeros((threads, kh * kw * i_group, groups, blocks.padded), x.dtype)
    if gy.size and x.size:
        _backward_weight(
            flat(x), (n, height, width, c_in), flat(gy_padded), (oh, ow), sums.reshape(threads, -1), kernel_size,
            stride, padding, dilation, (groups, i_group, blocks.padded), blocks.width, lanes, band,
            np.empty((threads, scratch_rows * scratch_width * c_in), x.dtype),
        )  # fmt: skip
    total = sums.sum(axis=0)[..., :o_group].reshape(kh, kw, i_group, c_out)
    if not np.isfinite(total).all():
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return by_rows.backward_weight(x, gy, kernel_size=kernel_size, **geometry, out=out)
    return delivered(np.ascontiguousarray(total), out)


# ------------------------------------------------------------------------------------- the plan
class Blocks:
    """How the output channels of a group are cut into vectors: `width` channels per block, zero-padded."""

    def __init__(self, channels: int, lanes: int) -> None:
        self.width = 2 * lanes if channels > lanes else lanes
        self.count = -(-channels // self.width)
        self.padded = self.count * self.width


def _correlate_into(
    y: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    activation: Activation,
    *,
    stride: Pair = (1, 1),
    padding: Pair,
    dilation: Pair,
    first: Pair = (0, 0),
    step: Pair = (1, 1),
) -> None:
    """y[:, first::step] = correlation of x with w (KH, KW, C_in / groups, groups, C_out / groups), plus b."""
    n, height, width, c_in = x.shape
    kh, kw, i_group, groups, o_group = w.shape
    oh, ow = (len(range(f, s, d)) for f, s, d in zip(first, y.shape[1:3], step))
    if not y.size or not x.size:
        y[:, first[0] :: step[0], first[1] :: step[1]] = 0 if b is None else b
        activate(y.reshape(-1), 0, y.size, activation)
        return
    lanes = lanes_of(x.dtype)
    blocks = Blocks(o_group, lanes)
    pixels = ROWS_OF_2 if blocks.width > lanes else ROWS_OF_1
    # Weights in the order the kernel reads them: group, block of channels, tap, input channel, lane.
    w_padded = np.zeros((groups, blocks.count, kh * kw * i_group, blocks.width), x.dtype)
    by_group = w.transpose(3, 0, 1, 2, 4).reshape(groups, -1, o_group)
    for i in range(blocks.count):
        lanes_here = by_group[:, :, i * blocks.width : (i + 1) * blocks.width]
        w_padded[:, i, :, : lanes_here.shape[2]] = lanes_here
    b_padded = np.zeros((groups, blocks.padded), x.dtype)
    if b is not None:
        b_padded[:, :o_group] = b.reshape(groups, o_group)

    threads = numba.get_num_threads()
    scratch_width = (-(-ow // pixels) * pixels - 1) * stride[1] + (kw - 1) * dilation[1] + 1
    band, scratch_rows = _band(oh, kh, stride[0], dilation[0], scratch_width * c_in * x.itemsize)
    _correlate(
        flat(x), (n, height, width, c_in), w_padded.reshape(-1), b_padded.reshape(-1), y.reshape(-1), y.shape,
        (oh, ow), first, step, (kh, kw), stride, padding, dilation, (groups, i_group, o_group), blocks.width, lanes,
        band, scratch_width, np.empty((threads, scratch_rows * scratch_width * c_in), x.dtype),
        np.empty((threads, pixels * blocks.width), x.dtype), activation,
    )  # fmt: skip


def _band(rows: int, kernel: int, stride: int, dilation: int, row_bytes: int) -> Pair:
    """(output rows per band, input rows they need) such that the input of a band stays in the cache."""
    extra = (kernel - 1) * dilation + 1 - stride  # input rows beyond `stride` for each output row
    band = max(1, min(rows, (BAND_BYTES // max(1, row_bytes) - extra) // stride))
    return band, band * stride + extra


def flat(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1)


# ------------------------------------------------------------------------------------- the loops
@jit
def _fill_scratch(scratch, x, size, n, iy0, rows, ix0, columns):
    """Copy the input window of one band, rows iy0.. and columns ix0.., with zeros where it leaves the image."""
    _, height, width, channels = size
    left = min(max(0, -ix0), columns)
    right = max(left, min(columns, width - ix0))  # scratch columns left .. right - 1 lie inside the image
    zero = x.dtype.type(0)
    for r in range(rows):
        row = r * columns * channels
        iy = iy0 + r
        if iy < 0 or iy >= height:
            scratch[row : row + columns * channels] = zero
        else:
            source = ((n * height + iy) * width + ix0) * channels
            scratch[row : row + left * channels] = zero
            for i in range(left * channels, right * channels):
                scratch[row + i] = x[source + i]
            scratch[row + right * channels : row + columns * channels] = zero


@jit(parallel=True)
def _correlate(
    x, x_size, w, b, y, y_size, out_size, first, step, kernel, stride, padding, dilation, group_sizes, block_width,
    lanes, band, scratch_width, scratches, tiles, activation,
):  # fmt: skip
    n_images, _, _, c_in = x_size
    oh, ow = out_size
    kh, kw = kernel
    groups, i_group, o_group = group_sizes
    c_out = y_size[3]
    bands = (oh + band - 1) // band
    tasks = n_images * bands
    threads = len(scratches)
    # kx and ci are one contiguous sum, unless dilation or groups put gaps between the taps.
    merged = groups == 1 and dilation[1] == 1
    segments = 1 if merged else kw
    inner = kw * c_in if merged else i_group
    taps = kh * kw * i_group
    pixels = ROWS_OF_2 if block_width > lanes else ROWS_OF_1
    a_row, a_outer = stride[1] * c_in, dilation[0] * scratch_width * c_in
    b_outer = kw * i_group * block_width
    blocks = (o_group + block_width - 1) // block_width
    zeros = np.zeros(block_width, x.dtype)
    for i in prange(threads):
        thread = np.int64(i)  # prange may give an unsigned index: the functions below would be compiled for both
        scratch, tile = scratches[thread], tiles[thread]
        for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
            n, oy0 = task // bands, task % bands * band
            rows = min(band, oh - oy0)
            scratch_rows = (rows - 1) * stride[0] + (kh - 1) * dilation[0] + 1
            _fill_scratch(scratch, x, x_size, n, oy0 * stride[0] - padding[0], scratch_rows, -padding[1], scratch_width)
            for g in range(groups):
                for channel in range(0, o_group, block_width):
                    valid_channels = min(block_width, o_group - channel)
                    start0 = g * blocks * block_width + channel
                    w0 = start0 * taps
                    for r in range(rows):
                        y_row = (n * y_size[1] + first[0] + (oy0 + r) * step[0]) * y_size[2] + first[1]
                        for ox in range(0, ow, pixels):
                            valid_pixels = min(pixels, ow - ox)
                            whole = valid_pixels == pixels and valid_channels == block_width
                            y0 = (y_row + ox * step[1]) * c_out + g * o_group + channel
                            # A whole block goes straight to y; one at the edge through the tile.
                            target = y if whole else tile
                            t0 = y0 if whole else 0
                            t_row = step[1] * c_out if whole else block_width
                            for s in range(segments):
                                a0 = (
                                    (r * stride[0] * scratch_width + ox * stride[1] + s * dilation[1]) * c_in
                                ) + g * i_group
                                ws = w0 + s * i_group * block_width
                                start = b if s == 0 else zeros
                                st = start0 if s == 0 else 0
                                block = (
                                    scratch, a0, a_row, 1, a_outer, w, ws, block_width, b_outer, inner, kh,
                                    start, st, target, t0, t_row, s,
                                )  # fmt: skip
                                if block_width > lanes:
                                    block_of_2(*block)
                                else:
                                    block_of_1(*block)
                            if not whole:
                                for p in range(valid_pixels):
                                    for c in range(valid_channels):
                                        y[y0 + p * step[1] * c_out + c] = tile[p * block_width + c]
            # With an activation `step` is (1, 1): the rows of a band lie together.
            row = n * oh + oy0
            activate(y, row * ow * c_out, (row + rows) * ow * c_out, activation)


@jit(parallel=True)
def _backward_weight(
    x, x_size, gy, out_size, sums, kernel, stride, padding, dilation, group_sizes, block_width, lanes, band, scratches
):
    n_images, _, _, c_in = x_size
    oh, ow = out_size
    kh, kw = kernel
    groups, i_group, o_padded = group_sizes
    c_out = groups * o_padded
    bands = (oh + band - 1) // band
    tasks = n_images * bands
    threads = len(scratches)
    scratch_width = (ow - 1) * stride[1] + (kw - 1) * dilation[1] + 1
    merged = groups == 1 and dilation[1] == 1
    segments = 1 if merged else kw
    rows_of_block = kw * c_in if merged else i_group  # (kx, ci) pairs that lie next to each other in x
    a_inner, a_outer = stride[1] * c_in, stride[0] * scratch_width * c_in
    zeros = np.zeros(block_width, x.dtype)
    for i in prange(threads):
        thread = np.int64(i)  # prange may give an unsigned index: the functions below would be compiled for both
        scratch, total = scratches[thread], sums[thread]
        for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
            n, oy0 = task // bands, task % bands * band
            rows = min(band, oh - oy0)
            scratch_rows = (rows - 1) * stride[0] + (kh - 1) * dilation[0] + 1
            _fill_scratch(scratch, x, x_size, n, oy0 * stride[0] - padding[0], scratch_rows, -padding[1], scratch_width)
            gy_band = (n * oh + oy0) * ow * c_out
            for g in range(groups):
                for channel in range(0, o_padded, block_width):
                    b0 = gy_band + g * o_padded + channel
                    for ky in range(kh):
                        for s in range(segments):
                            a_tap = (ky * dilation[0] * scratch_width + s * dilation[1]) * c_in + g * i_group
                            c_tap = (ky * kw + s) * i_group * c_out + g * o_padded + channel
                            add_rows(
                                rows_of_block, block_width // lanes, scratch, a_tap, a_inner, a_outer, gy, b0, c_out,
                                ow * c_out, ow, rows, zeros, total, c_tap, c_out,
                            )  # fmt: skip
