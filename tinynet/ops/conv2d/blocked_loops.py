"""The loops of `blocked`: bands of images, products of windows and weights. The idea: blocked.py.

x (N, D, H, W, C) and y (N, OD, OH, OW, C_out) are volumes; an image has one slice.
"""

from __future__ import annotations

from ...backends.numba.jit import jit
from ...backends.numba.simd import VECTOR_BYTES
from ...backends.numba.tasks import in_parallel, share_of
from .._cpu.gemm import multiply, multiply_transposed
from .._cpu.strided import strided
from .epilogue import activate

WIDTH = 2 * VECTOR_BYTES  # bytes of the columns of a product


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


@jit(separate=True)
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
        # With several blocks, what is beyond a run would be the first block of the next, which is there already.
        may_be_beyond = blocks == 1 or first + width <= count
        direct = rows_to_store(y, steps.pixels, runs, first + width) if may_be_beyond else 0
        line = strided(y, (first + 1,), (y.itemsize,))  # the beginning of the first row
        view = strided(line[first:], (len(y), runs, width), (y.strides[0], steps.pixels * y.strides[1], y.itemsize))
        own = strided(tile, (runs, width), (tile.strides[0], y.itemsize))
        biases = strided(bias[first:], (runs, width), (0, y.itemsize))  # one row, seen as many
        for row in range(len(y)):
            target, start = view[row] if row < direct else own, biases
            for piece in range(len(pieces)):
                # A[kz, ky, run, k]: rows and runs are so many rows and elements apart.
                part = band[:, row * steps.stride_y :, pieces[piece] :]
                strides = part.strides[0], steps.dilation_y * part.strides[1], steps.step * part.itemsize, part.itemsize
                A = strided(part, (kd, kh, runs, k), strides)
                multiply(A, w[block, piece], start, target)
                start = target
            if row >= direct:
                store_runs(tile, first, steps.pixels, y[row])


@jit(separate=True)
def store_runs(tile, first, pixels, y):
    """The columns of a tile, elements first, first + 1, ... of each run, to a row of y (pixel, channel)."""
    (ow, channels), (runs, width) = y.shape, tile.shape
    for run in range(runs):
        for ox in range(run * pixels, min((run + 1) * pixels, ow)):
            begin = (ox - run * pixels) * channels - first  # the column of the pixel's channel 0
            for c in range(max(0, -begin), min(channels, width - begin)):
                y[ox, c] = tile[run, begin + c]


@jit(separate=True)
def correlate_bands(thread, x, filters, y, steps, scratch, activation):
    """What one thread does: its share of the bands of all slices. filters: see correlate_band, for each group."""
    (w, bias, pieces), (bands, tiles) = filters, scratch
    band, tile, threads = bands[thread], tiles[thread], len(bands)
    flat = band.reshape(*band.shape[:2], band.shape[2] * band.shape[3])
    volumes, od, oh, ow, c_out = y.shape
    groups = len(w)
    i_group, o_group, rows = x.shape[4] // groups, c_out // groups, rows_of(band, steps, w.shape[4])
    per_slice = (oh + rows - 1) // rows
    tasks = volumes * per_slice * od
    first, end = share_of(thread, threads, tasks)
    for task in range(first, end):
        n, oy, oz = task // od // per_slice, task // od % per_slice * rows, task % od
        last = min(oy + rows, oh)
        for g in range(groups):
            load_band(x[n], g * i_group, oz, oy, steps, band)
            outputs = y[n, oz, oy:last, :, g * o_group : (g + 1) * o_group]
            correlate_band(flat, (w[g], bias[g], pieces), steps, tile, outputs)
        if activation.elu or activation.dropout:
            slice_start = (n * od + oz) * oh
            activate(y.reshape(-1), (slice_start + oy) * ow * c_out, (slice_start + last) * ow * c_out, activation)


@jit
def correlate_all(x, filters, y, steps, scratch, activation):
    in_parallel(correlate_bands, len(scratch[0]), (x, filters, y, steps, scratch, activation))


@jit(separate=True)
def accumulate_bands(thread, x, gy, gw_of_threads, pieces, steps, scratch):
    """What one thread does: gw (group, piece, KD, KH, k, column) of its share of the bands of all slices."""
    gw, band, tile, threads = gw_of_threads[thread], scratch[0][thread], scratch[1][thread], len(gw_of_threads)
    flat = band.reshape(*band.shape[:2], band.shape[2] * band.shape[3])
    groups, (volumes, od, oh, _, c_out) = len(gw), gy.shape
    i_group, o_group, rows = x.shape[4] // groups, c_out // groups, rows_of(band, steps, gw.shape[3])
    per_slice = (oh + rows - 1) // rows
    tasks = volumes * per_slice * od
    gw[:] = 0
    tile[:] = 0
    first, end = share_of(thread, threads, tasks)
    for task in range(first, end):
        n, oy, oz = task // od // per_slice, task // od % per_slice * rows, task % od
        last = min(oy + rows, oh)
        is_last = n == volumes - 1 and oz == od - 1 and last == oh
        for g in range(groups):
            load_band(x[n], g * i_group, oz, oy, steps, band)
            gradients = gy[n, oz, oy:last, :, g * o_group : (g + 1) * o_group]
            accumulate_band(flat, gradients, tile, is_last, pieces, steps, gw[g])


@jit(separate=True)
def accumulate_band(band, gy, tile, is_last, pieces, steps, gw):
    """gw (piece, KD, KH, k, column) += the products of a band and gy (rows, OW, channels), both of one group."""
    (_, kd, kh, k, columns), (_, runs, _), rows = gw.shape, tile.shape, len(gy)
    width = min(columns, WIDTH // gw.itemsize)
    strides = tile.strides
    if are_in_place(gy, steps.pixels, tile, is_last):
        strides = gy.strides[0], steps.pixels * gy.strides[1], gy.itemsize
        gradients = strided(gy, (rows, runs, columns), strides)
    else:
        load_gradients(gy, steps.pixels, tile)
        gradients = strided(tile, (rows, runs, columns), strides)
    for piece in range(len(pieces)):
        for kz in range(kd):
            for ky in range(kh):
                # (row, run, k): rows and runs are so many rows and elements apart.
                part = band[kz, ky * steps.dilation_y :, pieces[piece] :]
                strides = steps.stride_y * part.strides[0], steps.step * part.itemsize, part.itemsize
                A = strided(part, (rows, runs, k), strides)
                for first in range(0, columns, width):
                    total = gw[piece, kz, ky, :, first : first + width]
                    multiply_transposed(A, gradients[:, :, first : first + width], total, total)


@jit(separate=True)
def are_in_place(gy, pixels, tile, is_last):
    """Whether gy (rows, OW, channels) can be read as (rows, runs, columns) where it lies.

    A run's columns without a channel then show what lies behind the run, and their sums are ignored. So it must not
    be the last run of all.
    """
    (_, ow, channels), (_, runs, columns) = gy.shape, tile.shape
    is_in_order = pixels == 1 or gy.strides[1] == channels * gy.itemsize
    is_inside = pixels * channels == columns or (not is_last and columns <= (pixels + ow) * channels)
    return is_in_order and runs * pixels == ow and is_inside


@jit(separate=True)
def load_gradients(gy, pixels, tile):
    """tile (rows, runs, columns) = gy (rows, OW, channels). Runs beyond OW and columns without a channel stay 0."""
    for row in range(len(gy)):
        for ox in range(gy.shape[1]):
            run, begin = ox // pixels, ox % pixels * gy.shape[2]
            for c in range(gy.shape[2]):
                tile[row, run, begin + c] = gy[row, ox, c]


@jit
def accumulate_all(x, gy, gw, pieces, steps, scratch):
    in_parallel(accumulate_bands, len(gw), (x, gy, gw, pieces, steps, scratch))
