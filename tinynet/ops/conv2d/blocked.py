"""conv2d and conv3d, `blocked`: any kernel size, stride, padding, dilation and groups, as matrix products of views.

An image is a volume with one slice. For one row of outputs and one row (kz, ky) of the kernel, the elements that meet
are a matrix A: its row ox holds the KW C_in neighbors from pixel ox * stride on. These rows overlap, and no element is
copied: A is the image row, seen with other strides.

    image row    p0 p1 p2 p3 p4 p5 ...      KW = 3, stride 1
    A            p0 p1 p2                   row ox = 0
                    p1 p2 p3                row ox = 1           y[oy] = bias + sum over ky of A[ky] w[ky]
                       p2 p3 p4             ...

backward_weight has the same matrices, transposed: gw[ky] = sum over oy of A[oy]^T gy[oy]. backward_input is a forward
pass with other weights. Only a *band* is copied: some image rows with their padding written out, so that no index can
leave the image. With groups, a band holds the channels of one group.

Few output channels would leave lanes of a vector empty (AVX-512 has 16). Then a *run* of neighboring outputs is
computed as one output with more channels, as many as fit into a vector:

    KW = 3, stride 1, 8 channels:   outputs 2j and 2j + 1 read the inputs 2j - 1 .. 2j + 2

                      w of output 2j    w of output 2j + 1
        input 2j - 1  w[kx = 0]         0
        input 2j      w[kx = 1]         w[kx = 0]
        input 2j + 1  w[kx = 2]         w[kx = 1]         3/4 of the lanes are useful instead of 1/2
        input 2j + 2  0                 w[kx = 2]

The rows of x and y stay as they are in memory; only the weights are written out in this *widened* form. It also covers
strides along x in both directions: they decide which weight stands where (`Row`). With dilation, the taps of a kernel
row are not neighbors: the sum over kx comes in *pieces*. In backward_input, strides along z and y make *phases*: a
correlation for each remainder of the input rows (derivation.md).

The padding takes part in the sums: a NaN in w or gy may reach more results at the border than by the definition.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.simd import VECTOR_BYTES, lanes_of
from ...backends.numba.tasks import in_parallel
from .._cpu.gemm import blocks_of, multiply, multiply_transposed
from .._cpu.parts import whole
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Bias, Geometry, Images, phase
from .epilogue import Activation, activate
from .rows import Row, Steps

WIDTH = 2 * VECTOR_BYTES  # bytes of the columns of a product
MOST_PIXELS = 4  # of a run: the more of them, the larger the part of the weights that is 0
BAND_BYTES = 300_000  # of input per band: with the weights of one block it fits into a core's L2 cache


# ------------------------------------------------------------------------------------- the loops over bands
@jit
def rows_of(band, steps, kernel_height):
    """The number of output rows that a band (KD, rows, elements) is for."""
    return (band.shape[1] - (kernel_height - 1) * steps.dilation_y - 1) // steps.stride_y + 1


@jit(separate=True)
def load_rows(image, channel, first, start, band):
    """band (rows, pixels, channels of a group) = the image's rows from `first`, pixels from `start`, channels from
    `channel` on; zeros outside of the image."""
    height, width, all_channels = image.shape
    _, pixels, channels = band.shape
    left, right = min(max(0, -start), pixels), min(max(0, width - start), pixels)
    for i in range(len(band)):
        if 0 <= first + i < height:
            row, target = image[first + i], band[i]
            target[:left] = 0
            target[right:] = 0
            if channels == all_channels:  # then the pixels are one piece of memory
                source, inside = row.reshape(-1)[(start + left) * channels :], target.reshape(-1)[left * channels :]
                for e in range((right - left) * channels):
                    inside[e] = source[e]
            else:
                for pixel in range(left, right):
                    for c in range(channels):
                        target[pixel, c] = row[start + pixel, channel + c]
        else:
            band[i] = 0


@jit(separate=True)
def load_band(volume, channel, oz, oy, steps, band):
    """band (KD, rows, pixels, channels) = the inputs of the output rows from oy on, in slice oz."""
    for kz in range(len(band)):
        z = oz * steps.stride_z + kz * steps.dilation_z - steps.padding_z
        if 0 <= z < len(volume):
            load_rows(volume[z], channel, oy * steps.stride_y - steps.padding_y, steps.start, band[kz])
        else:
            band[kz] = 0


@jit(inline="always")
def windows(band, shape, row_step, step):
    """The view A[kz, row, run, k] of a band (KD, row, element): rows and runs are so many rows and elements apart."""
    return as_strided(band, shape, (band.strides[0], row_step * band.strides[1], step * band.itemsize, band.itemsize))


@jit
def rows_to_store(y, pixels, runs, columns):
    """How many rows of y (rows, OW, channels) take the results of runs as they come, with so many columns in each.

    What a run has beyond its pixels, in columns without a channel, is overwritten by the next run; what the last run
    has beyond the row, by the next row. So there must be a next row of this thread, right behind.
    """
    rows, ow, channels = y.shape
    is_one_piece = y.strides[1] == channels * y.itemsize
    beyond = ((runs - 1) * pixels - ow) * channels + columns
    if columns <= pixels * channels and beyond <= 0:
        return rows if is_one_piece or pixels == 1 else 0
    has_rows_behind = is_one_piece and y.strides[0] == ow * y.strides[1]
    return max(0, rows - 1 - beyond // (ow * channels)) if has_rows_behind else 0


@jit(separate=True)
def correlate_band(band, filters, steps, tile, y):
    """y (rows, OW, channels) = bias + the correlation of a band with the weights of its group.

    filters: w (block, piece, KD, KH, k, column), bias (block * column) and the first element of each piece.
    tile: (runs, column), for the rows of results that cannot be stored as they come.
    """
    w, bias, pieces = filters
    blocks, _, kd, kh, k, width = w.shape
    runs, count = len(tile), steps.pixels * y.shape[2]
    for block in range(blocks):
        first = block * width
        if blocks == 1 or first + width <= count:
            direct = rows_to_store(y, steps.pixels, runs, first + width)
        else:
            direct = 0  # what is beyond would be the first block of the next run, which is there already
        line = as_strided(y, (first + 1,), (y.itemsize,))  # the beginning of the first row
        view = as_strided(line[first:], (len(y), runs, width), (y.strides[0], steps.pixels * y.strides[1], y.itemsize))
        own = as_strided(tile, (runs, width), (tile.strides[0], y.itemsize))
        biases = as_strided(bias[first:], (runs, width), (0, y.itemsize))  # one row, seen as many
        for row in range(len(y)):
            target, start = view[row] if row < direct else own, biases
            for piece in range(len(pieces)):
                part = band[:, row * steps.stride_y :, pieces[piece] :]
                A = windows(part, (kd, kh, runs, k), steps.dilation_y, steps.step)
                multiply(A, w[block, piece], start, target)
                start = target
            if row >= direct:
                store_runs(tile, first, steps.pixels, y[row])


@jit
def store_runs(tile, first, pixels, y):
    """The columns of a tile, elements first, first + 1, ... of each run, to a row of y (pixel, channel)."""
    (ow, channels), (runs, width) = y.shape, tile.shape
    for run in range(runs):
        for ox in range(run * pixels, min((run + 1) * pixels, ow)):
            begin = (ox - run * pixels) * channels - first  # the column of the pixel's channel 0
            for c in range(max(0, -begin), min(channels, width - begin)):
                y[ox, c] = tile[run, begin + c]


@jit(separate=True)
def correlate_bands(thread, x, filters, result, steps, scratch, activation):
    """What one thread does: its share of the bands of all slices. filters: see correlate_band, for each group."""
    (w, bias, pieces), (bands, tiles) = filters, scratch
    band, tile, threads = bands[thread], tiles[thread], len(bands)
    flat = band.reshape(*band.shape[:2], band.shape[2] * band.shape[3])
    y = result[:, steps.first_z :: steps.apart_z, steps.first_y :: steps.apart_y]
    volumes, od, oh, ow, c_out = y.shape
    groups = len(w)
    i_group, o_group, rows = x.shape[4] // groups, c_out // groups, rows_of(band, steps, w.shape[4])
    per_slice = (oh + rows - 1) // rows
    tasks = volumes * per_slice * od
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        n, oy, oz = task // od // per_slice, task // od % per_slice * rows, task % od
        last = min(oy + rows, oh)
        for g in range(groups):
            load_band(x[n], g * i_group, oz, oy, steps, band)
            outputs = y[n, oz, oy:last, :, g * o_group : (g + 1) * o_group]
            correlate_band(flat, (w[g], bias[g], pieces), steps, tile, outputs)
        if activation.elu or activation.dropout:
            slice_start = (n * od + oz) * oh
            activate(result.reshape(-1), (slice_start + oy) * ow * c_out, (slice_start + last) * ow * c_out, activation)


@jit
def correlate_all(x, filters, result, steps, scratch, activation):
    in_parallel(correlate_bands, len(scratch[0]), (x, filters, result, steps, scratch, activation))


@jit(separate=True)
def accumulate_bands(thread, x, gy, gw_of_threads, pieces, steps, scratch):
    """What one thread does: gw (group, piece, KD, KH, k, column) of its share of the bands of all slices."""
    gw, band, tile, threads = gw_of_threads[thread], scratch[0][thread], scratch[1][thread], len(gw_of_threads)
    flat = band.reshape(*band.shape[:2], band.shape[2] * band.shape[3])
    groups, _, kd, kh, k, columns = gw.shape
    volumes, od, oh, _, c_out = gy.shape
    i_group, o_group, rows = x.shape[4] // groups, c_out // groups, rows_of(band, steps, kh)
    per_slice, width = (oh + rows - 1) // rows, min(columns, WIDTH // gw.itemsize)
    tasks = volumes * per_slice * od
    gw[:] = 0
    tile[:] = 0
    for task in range(thread * tasks // threads, (thread + 1) * tasks // threads):
        n, oy, oz = task // od // per_slice, task // od % per_slice * rows, task % od
        last = min(oy + rows, oh)
        for g in range(groups):
            load_band(x[n], g * i_group, oz, oy, steps, band)
            is_last = n == volumes - 1 and oz == od - 1 and last == oh
            outputs = gy[n, oz, oy:last, :, g * o_group : (g + 1) * o_group]
            gradients = gradients_of(outputs, steps.pixels, tile, is_last)
            for piece in range(len(pieces)):
                for ky in range(kh):
                    part = flat[:, ky * steps.dilation_y :, pieces[piece] :]
                    A = windows(part, (kd, last - oy, tile.shape[1], k), steps.stride_y, steps.step)
                    for kz in range(kd):
                        for first in range(0, columns, width):
                            total = gw[g, piece, kz, ky, :, first : first + width]
                            multiply_transposed(A[kz], gradients[:, :, first : first + width], total, total)


@jit
def gradients_of(gy, pixels, tile, is_last):
    """gy (rows, OW, channels) as (rows, runs, columns): seen in place where it fits, else copied into the tile.

    In place, a run's columns without a channel show what lies behind it, so it must not be the last of all; their sums
    are ignored. In the tile they stay 0, and so do runs beyond OW.
    """
    (rows, ow, channels), (_, runs, columns) = gy.shape, tile.shape
    is_in_order = pixels == 1 or gy.strides[1] == channels * gy.itemsize
    is_inside = pixels * channels == columns or (not is_last and columns <= (pixels + ow) * channels)
    if is_in_order and runs * pixels == ow and is_inside:
        return as_strided(gy, (rows, runs, columns), (gy.strides[0], pixels * gy.strides[1], gy.itemsize))
    for row in range(rows):
        for ox in range(ow):
            run, begin = ox // pixels, ox % pixels * channels
            for c in range(channels):
                tile[row, run, begin + c] = gy[row, ox, c]
    return as_strided(tile, (rows, runs, columns), (tile.strides[0], tile.strides[1], tile.itemsize))


@jit
def accumulate_all(x, gy, gw, pieces, steps, scratch):
    in_parallel(accumulate_bands, len(gw), (x, gy, gw, pieces, steps, scratch))


# ------------------------------------------------------------------------------------- the kernels
def forward(x: Images, w: np.ndarray, b: Bias, geometry: Geometry, epilogue: Epilogue = PLAIN) -> np.ndarray:
    """y[n, o, co] = epilogue(b[co] + sum over k, ci of x[n, i, ci] w[k, ci, co]); o, k and i have two or three axes."""
    x = whole(x)
    size = geometry.output_size(x.shape[1:-1], w.shape[:-2])
    y = memory.empty((len(x), *size, w.shape[-1]), x.dtype)
    (sz, sy, sx), (pz, py, px), (dz, dy, dx), groups = of_volumes(geometry)
    row = Row.forward(w.shape[-3], sx, px, dx, pixels_of(w.shape[-1] // groups, x.dtype))
    correlate(volumes(x), by_group(w, groups), b, volumes(y), row, (sz, sy, pz, py, dz, dy, 0, 0, 1, 1), epilogue)
    return y


def backward_input(gy: np.ndarray, w: np.ndarray, input_size: tuple[int, ...], geometry: Geometry) -> np.ndarray:
    """gx[n, i, ci] = sum over co and all pairs of an output o and a tap k that read this pixel of gy w."""
    (sz, sy, sx), (pz, py, px), (dz, dy, dx), groups = of_volumes(geometry)
    result = memory.empty((len(gy), *input_size, w.shape[-2] * groups), gy.dtype)
    exchanged, gy, gx = by_group(w, groups).swapaxes(-1, -2), volumes(whole(gy)), volumes(result)
    row = Row.backward(w.shape[-3], sx, px, dx, pixels_of(w.shape[-2], gy.dtype))
    for a in range(min(sz, gx.shape[1])):
        z = phase(a, exchanged.shape[1], sz, pz, dz)
        for c in range(min(sy, gx.shape[2])):
            y = phase(c, exchanged.shape[2], sy, py, dy)
            if z.taps and y.taps:
                along_z_and_y = 1, 1, z.padding, y.padding, z.dilation, y.dilation, a, c, sz, sy
                correlate(gy, exchanged[:, z.taps][:, :, y.taps], None, gx, row, along_z_and_y, PLAIN)
            else:
                gx[:, a::sz, c::sy] = 0  # no tap reaches these rows
    return result


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: tuple[int, ...], geometry: Geometry) -> np.ndarray:
    """gw[k, ci, co] = sum over n, o of x[n, i, ci] gy[n, o, co]."""
    x, gy = volumes(whole(x)), volumes(whole(gy))
    (sz, sy, sx), (pz, py, px), (dz, dy, dx), groups = of_volumes(geometry)
    kd, kh, kw = (1, *kernel_size)[-3:]
    i_group, o_group = x.shape[4] // groups, gy.shape[4] // groups
    row = Row.forward(kw, sx, px, dx, pixels_of(o_group, x.dtype))
    steps = row.steps((sz, sy, pz, py, dz, dy, 0, 0, 1, 1), i_group)
    runs, (width, blocks) = -(-gy.shape[3] // row.pixels), blocks_of(row.pixels * o_group, x.dtype)
    bands = new_bands(runs, gy.shape[2], (kd, kh, i_group), row, steps, x.dtype)
    rows = (bands.shape[2] - (kh - 1) * dy - 1) // sy + 1
    tiles = memory.empty((len(bands), rows, runs, blocks * width), x.dtype)
    k = len(row.taps) // len(row.pieces) * i_group
    gw = memory.empty((len(bands), groups, len(row.pieces), kd, kh, k, blocks * width), x.dtype)
    accumulate_all(x, gy, gw, np.array(row.pieces) * i_group, steps, (bands, tiles))
    wide = gw.sum(axis=0)[..., : row.pixels * o_group].transpose(0, 2, 3, 1, 4, 5)
    total = row.narrowed(wide, (groups, kd, kh, kw, i_group, o_group)).transpose(1, 2, 3, 4, 0, 5)
    return np.ascontiguousarray(total).reshape(*kernel_size, i_group, groups * o_group)


def correlate(
    x: np.ndarray, w: np.ndarray, b: Bias, y: np.ndarray, row: Row, along_z_and_y: tuple, epilogue: Epilogue
) -> None:
    """y, in the rows that the steps name, = epilogue(b + correlation of x with w). w: (group, KD, KH, KW, C_in, C_out)."""
    groups, kd, kh, _, i_group, o_group = w.shape
    steps, wide = row.steps(along_z_and_y, i_group), row.widened(w)
    runs, (width, blocks) = -(-y.shape[3] // row.pixels), blocks_of(row.pixels * o_group, x.dtype)
    if blocks * width != row.pixels * o_group or runs * row.pixels != y.shape[3]:
        runs = -(-runs // 4) * 4  # of a tile, anyway: a register block of one row takes as long as one of 4
    padded, bias = np.zeros((*wide.shape[:-1], blocks * width), x.dtype), np.zeros((groups, blocks * width), x.dtype)
    padded[..., : row.pixels * o_group] = wide
    if b is not None:
        of_run = np.broadcast_to(b.reshape(groups, 1, o_group), (groups, row.pixels, o_group))
        bias[:, : row.pixels * o_group] = of_run.reshape(groups, -1)
    # In the order in which the loops read it: group, block, piece, KD, KH, k, column.
    by_block = padded.reshape(*padded.shape[:-1], blocks, width).transpose(0, 5, 3, 1, 2, 4, 6)
    filters = np.ascontiguousarray(by_block), bias, np.array(row.pieces) * i_group
    rows = len(range(steps.first_y, y.shape[2], steps.apart_y))
    bands = new_bands(runs, rows, (kd, kh, i_group), row, steps, x.dtype)
    tiles = memory.empty((len(bands), runs, width), x.dtype)
    correlate_all(x, filters, y, steps, (bands, tiles), Activation.of(epilogue, x.dtype))


def of_volumes(geometry: Geometry) -> Geometry:
    """The geometry of images as that of volumes with one slice."""
    stride, padding, dilation, groups = geometry
    return Geometry((1, *stride)[-3:], (0, *padding)[-3:], (1, *dilation)[-3:], groups)


def volumes(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) as volumes (N, 1, H, W, C); volumes as they are."""
    return images if images.ndim == 5 else images[:, None]


def by_group(w: np.ndarray, groups: int) -> np.ndarray:
    """w ([KD,] KH, KW, C_in / groups, C_out) as (group, KD, KH, KW, C_in / groups, C_out / groups)."""
    w = w if w.ndim == 5 else w[None]
    return w.reshape(*w.shape[:4], groups, -1).transpose(4, 0, 1, 2, 3, 5)


def pixels_of(channels: int, dtype: np.dtype) -> int:
    """How many neighboring pixels with so many channels fill a vector; at most MOST_PIXELS."""
    return min(MOST_PIXELS, max(1, lanes_of(dtype) // max(1, channels)))


def new_bands(
    runs: int, rows: int, kernel: tuple[int, int, int], row: Row, steps: Steps, dtype: np.dtype
) -> np.ndarray:
    """An uninitialized band for each thread: (threads, KD, rows, pixels, channels), as many rows as the cache holds.

    kernel: (KD, KH, channels of a group).
    """
    kd, kh, channels = kernel
    pixels = (runs - 1) * row.step + row.taps[-1] + 1
    extra = (kh - 1) * steps.dilation_y + 1 - steps.stride_y
    fitting = (BAND_BYTES // max(1, kd * pixels * channels * dtype.itemsize) - extra) // steps.stride_y
    rows = max(1, min(rows, fitting))
    return memory.empty((numba.get_num_threads(), kd, rows * steps.stride_y + extra, pixels, channels), dtype)
