"""Winograd's transforms of the weights, U = G w G^T, and of their gradient, gw = G^T gU G.

U and gU: (position, input channel, output channel). The output channels are cut into blocks, the columns of a product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .tiles import LANES


@jit(separate=True)
def copy_taps(w, rotated, ci, co, taps):
    """taps (3, 3, LANES, LANES) between the input channels from ci and the output channels from co on, zero-padded.

    rotated: of the kernel that is rotated by 180 degrees and has the roles of its channels exchanged.
    """
    taps[:] = 0
    for i in range(len(taps)):  # range(3) would be unrolled, with all loops inside: twice the time to compile
        for j in range(len(taps)):
            if rotated:
                for o in range(min(LANES, w.shape[2] - co)):
                    for c in range(min(LANES, w.shape[3] - ci)):
                        taps[i, j, c, o] = w[2 - i, 2 - j, co + o, ci + c]
            else:
                for c in range(min(LANES, w.shape[2] - ci)):
                    for o in range(min(LANES, w.shape[3] - co)):
                        taps[i, j, c, o] = w[i, j, ci + c, co + o]


def weight_loader(transform: Callable) -> tuple[Callable, Callable]:
    """load_block(w, rotated, block, U) and load(w, rotated, U): U = G w G^T, with zeros for channels that do not exist.

    load_block: the output channels of one block, U (position, input channel, column). load: all blocks.
    """

    @jit(separate=True)
    def load_channels(w, rotated, ci, co, U):
        """The input channels ci .. ci + LANES - 1 and the output channels of the block that begins with co."""
        taps = np.empty((3, 3, LANES, LANES), np.float32)
        for column in range(0, U.shape[2], LANES):
            copy_taps(w, rotated, ci, co + column, taps)
            for c in range(LANES):
                transform(taps[:, :, c], 0, 0, U[:, ci + c, column:], 0)

    @jit(separate=True)
    def load_block(w, rotated, block, U):
        for ci in range(0, U.shape[1], LANES):
            load_channels(w, rotated, ci, block * U.shape[2], U)

    @jit(separate=True)
    def load_part(task, w, rotated, U):
        block, part = divmod(task, U.shape[2] // LANES)
        load_channels(w, rotated, part * LANES, block * U.shape[3], U[block])

    @jit
    def load(w, rotated, U):
        in_parallel(load_part, len(U) * (U.shape[2] // LANES), (w, rotated, U))

    return load_block, load


def weight_storer(transform: Callable) -> tuple[Callable, Callable]:
    """store_block(gU, gw): gw = G^T gU G. store(gU, gw): the same of the sum of the threads' gU, in a fixed order."""

    @jit(separate=True)
    def store_channel(gU, ci, gw):
        zeros = np.zeros(gw.shape[3], np.float32)
        for c in range(0, gw.shape[3], LANES):
            transform(gU[:, ci], gw[:, :, ci], 0, 0, c, zeros)

    @jit(separate=True)
    def store_block(gU, gw):
        for ci in range(gw.shape[2]):
            store_channel(gU, ci, gw)

    @jit(separate=True)
    def store_sum(ci, gU, gw):
        for thread in range(1, len(gU)):
            for s in range(gU.shape[1]):
                for co in range(gU.shape[3]):
                    gU[0, s, ci, co] += gU[thread, s, ci, co]
        store_channel(gU[0], ci, gw)

    @jit
    def store(gU, gw):
        in_parallel(store_sum, gw.shape[2], (gU, gw))

    return store_block, store
