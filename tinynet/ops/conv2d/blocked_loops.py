"""The loops of `blocked`: bands of images, products of windows and weights. The idea: blocked.py.

x (N, D, H, W, C) and y (N, OD, OH, OW, C_out) are volumes; an image has one slice.
"""

from __future__ import annotations

from numpy.lib.stride_tricks import as_strided

from ...backends.numba.jit import jit
from ...backends.numba.simd import VECTOR_BYTES
from ...backends.numba.tasks import in_parallel
from .._cpu.gemm import multiply, multiply_transposed
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
        # With several blocks, what is beyond a run would be the first block of the next, which is there already.
        may_be_beyond = blocks == 1 or first + width <= count
        direct = rows_to_store(y, steps.pixels, runs, first + width) if may_be_beyond else 0
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
