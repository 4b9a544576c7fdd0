"""conv2d on a GPU: which kernels, and which blocks there are. The versions are told in conv2d.cu.

    blocked   the default: products of matrices, up to 64 results in the registers of a thread
    tiled     tiles in shared memory, four results for each thread; what it does not cover runs naive
    naive     one thread for each result, straight from the formula
    tf32      as blocked, on tensor cores: factors rounded to 10 bits of mantissa, compute capability 8.0 and later

float64 runs `naive` where float32 runs `blocked` or `tf32`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...backends.cuda.source import FLOAT, TENSOR_CORES, Source
from ...backends.launch import blocks, contiguous, empty, is_aligned, launch
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Geometry, Pair
from ..concat import cuda as concat

WIDTHS = (16, 32, 64)  # channels in a block of `blocked`
TF32 = {TENSOR_CORES: 1}
BLOCKED_VARIANTS = [
    {**FLOAT, "TILE_CHANNELS": width, "VECTOR": vector, **engine}
    for engine, width, vector in itertools.product(({}, TF32), WIDTHS, (1, 0))
]
SOURCE = Source(Path(__file__).with_name("conv2d.cu"))
BLOCKED = Source(Path(__file__).with_name("blocked.cu"), BLOCKED_VARIANTS)

# As in conv2d.cu, blocked.cu and gemm.cuh.
THREADS = 256  # of naive and of the bias
TILED_PIXELS, TILED_OUT, TILED_THREADS, MOST_TAPS = 8, 16, 256, 5
ROWS = {16: 256, 32: 128, 64: 128}  # of a block of `blocked`, by its channels
GEMM_THREADS, TILE_K = 128, 8
FINISH_BLOCKS = {False: (256, 1), True: (32, 8)}  # (elements, threads for each): few parts of a sum, or many
MANY_PARTS = 32

# The sum over the pixels, for gw and gb, is cut into parts: one for each block. The numbers are the same for all GPUs,
# because the last bits of the result depend on them.
ENOUGH_BLOCKS = 1024  # a few for each multiprocessor of a large GPU
FEWEST_PIXELS = 128  # of a part: less work would not be worth writing its result
MOST_PIXELS = 8192  # of a part: float32 loses digits in longer sums
MOST_PARTS = 65535  # blocks along the second axis of a grid


class Sizes(NamedTuple):
    """GEOMETRY in conv2d.cu, in its order."""

    images: int
    height: int
    width: int
    c_in: int
    kh: int
    kw: int
    oh: int
    ow: int
    c_out: int
    stride_y: int
    stride_x: int
    padding_y: int
    padding_x: int
    dilation_y: int
    dilation_x: int
    groups: int

    @classmethod
    def of(cls, images: int, size: Pair, kernel: Pair, out: Pair, c_in: int, c_out: int, **geometry: Any) -> Sizes:
        stride, padding, dilation = (geometry[name] for name in ("stride", "padding", "dilation"))
        return cls(images, *size, c_in, *kernel, *out, c_out, *stride, *padding, *dilation, geometry["groups"])

    @property
    def i_group(self) -> int:
        return self.c_in // self.groups

    @property
    def o_group(self) -> int:
        return self.c_out // self.groups

    @property
    def phases(self) -> int:
        return self.stride_y * self.stride_x

    @property
    def pixels(self) -> int:
        """Of all images of y."""
        return self.images * self.oh * self.ow

    @property
    def pixels_of_phase(self) -> int:
        """Of all images of x, in its first phase: the others have no more."""
        return self.images * blocks(self.height, self.stride_y) * blocks(self.width, self.stride_x)


class Activation(NamedTuple):
    """ACTIVATION in conv2d.cu, in its order: what follows the sum of `forward`."""

    elu: int = 0
    alpha: float = 1.0
    scale: float = 1.0
    threshold: int = 0
    seed: int = 0
    stream: int = 0
    step: int = 0

    @classmethod
    def of(cls, epilogue: Epilogue) -> Activation:
        if epilogue.alpha is None:
            return cls()
        alpha, p, *key = epilogue
        return cls(1, alpha, 1 / (1 - p), round(p * 2**32), *key)


class Version(NamedTuple):
    """What launches the kernels of one version."""

    forward: Callable
    backward_input: Callable
    backward_weight: Callable


# ---------------------------------------------------------------------------------------- 1 naive
def _naive_forward(sizes: Sizes, x: Any, w: Any, b: Any, y: Any, activation: Activation) -> None:
    launch(SOURCE, "naive_forward", blocks(y.size, THREADS), THREADS, x, w, b, y, *sizes, *activation)


def _naive_backward_input(sizes: Sizes, gy: Any, w: Any, b: Any, gx: Any) -> None:
    launch(SOURCE, "naive_backward_input", blocks(gx.size, THREADS), THREADS, gy, w, b, gx, *sizes)


def _naive_backward_weight(sizes: Sizes, x: Any, gy: Any, gw: Any) -> None:
    launch(SOURCE, "naive_backward_weight", blocks(gw.size, THREADS), THREADS, x, gy, gw, *sizes)


# ---------------------------------------------------------------------------------------- 2 tiled
def _is_tiled(sizes: Sizes) -> bool:
    is_dense = (sizes.phases, sizes.dilation_y, sizes.dilation_x, sizes.groups) == (1, 1, 1, 1)
    return is_dense and max(sizes.kh, sizes.kw) <= MOST_TAPS


def _tiled_grid(images: int, height: int, width: int, channels: int) -> Pair:
    return images * blocks(height, TILED_PIXELS) * blocks(width, TILED_PIXELS), blocks(channels, TILED_OUT)


def _tiled_forward(sizes: Sizes, x: Any, w: Any, b: Any, y: Any, activation: Activation) -> None:
    if not _is_tiled(sizes) or activation.elu:
        return _naive_forward(sizes, x, w, b, y, activation)
    launch(SOURCE, "tiled_forward", _tiled_grid(*y.shape), TILED_THREADS, x, w, b, y, *sizes)


def _tiled_backward_input(sizes: Sizes, gy: Any, w: Any, b: Any, gx: Any) -> None:
    if not _is_tiled(sizes):
        return _naive_backward_input(sizes, gy, w, b, gx)
    launch(SOURCE, "tiled_backward_input", _tiled_grid(*gx.shape), TILED_THREADS, gy, w, b, gx, *sizes)


# ---------------------------------------------------------------------------------------- 3 blocked, 4 tf32
def _tiles(rows: int, channels: int, sizes: Sizes, *arrays: Any) -> tuple[int, dict[str, Any]]:
    """(blocks for rows x channels results, the macros that say how many channels each has, and whether in fours)."""
    width = next((w for w in WIDTHS if w >= channels), WIDTHS[-1])
    in_fours = sizes.i_group % 4 == 0 and sizes.o_group % 4 == 0 and is_aligned(*(a for a in arrays if a is not None))
    n = blocks(rows, ROWS[width]) * blocks(channels, width)
    return n, {**FLOAT, "TILE_CHANNELS": width, "VECTOR": int(in_fours)}


def _is_blocked(sizes: Sizes, array: Any) -> bool:
    """Whether the kernels of `blocked` can work on it: they count pixels in 32 bits."""
    return array.dtype == np.float32 and max(sizes.pixels, sizes.images * sizes.height * sizes.width) < 2**31 - 2**16


def _blocked_forward(sizes: Sizes, x: Any, w: Any, b: Any, y: Any, activation: Activation, **engine: int) -> None:
    if not _is_blocked(sizes, y):
        return _naive_forward(sizes, x, w, b, y, activation)
    n, macros = _tiles(sizes.pixels, sizes.o_group, sizes, x, w, b, y)
    grid = (n, 1, sizes.groups)
    launch(BLOCKED, "blocked_forward", grid, GEMM_THREADS, x, w, b, y, *sizes, *activation, **macros, **engine)


def _blocked_backward_input(sizes: Sizes, gy: Any, w: Any, b: Any, gx: Any, **engine: int) -> None:
    if not _is_blocked(sizes, gx):
        return _naive_backward_input(sizes, gy, w, b, gx)
    n, macros = _tiles(sizes.pixels_of_phase, sizes.i_group, sizes, gy, w, b, gx)
    grid = (n * sizes.phases, 1, sizes.groups)
    launch(BLOCKED, "blocked_backward_input", grid, GEMM_THREADS, gy, w, b, gx, *sizes, **macros, **engine)


def _blocked_backward_weight(sizes: Sizes, x: Any, gy: Any, gw: Any, **engine: int) -> None:
    if not _is_blocked(sizes, gw) or not (x.size and gy.size):
        return _naive_backward_weight(sizes, x, gy, gw)
    lines = sizes.kh * sizes.kw * blocks(sizes.i_group, 4) * 4  # channels filled up to a multiple of four
    n, macros = _tiles(lines, sizes.o_group, sizes, x, gy)  # the parts are new and begin where they should
    enough = max(ENOUGH_BLOCKS // (n * sizes.groups), blocks(sizes.pixels, MOST_PIXELS))
    affordable = (x.size + gy.size) // gw.size  # the parts take no more memory than what they are made of
    most = min(enough, affordable, sizes.pixels // FEWEST_PIXELS, MOST_PARTS)
    steps = blocks(sizes.pixels, TILE_K * max(1, most))
    parts = blocks(sizes.pixels, TILE_K * steps)

    partial_sums = empty((parts, *gw.shape), gw.dtype, like=gw)
    grid = (n, parts, sizes.groups)
    launch(
        BLOCKED, "blocked_backward_weight", grid, GEMM_THREADS, x, gy, partial_sums, *sizes, steps, **macros, **engine
    )  # fmt: skip
    block = FINISH_BLOCKS[parts >= MANY_PARTS]
    grid = blocks(gw.size, block[0])
    launch(SOURCE, "backward_weight_finish", grid, block, partial_sums, x, gy, gw, *sizes, parts)


# ---------------------------------------------------------------------------------------- the kernels
def forward(version: Version, x: Any, w: Any, b: Any, geometry: Geometry, epilogue: Epilogue = PLAIN) -> Any:
    """y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of x[n, iy, ix, ci] w[ky, kx, ci, co], then the epilogue."""
    x = concat.forward(*x, axis=3) if isinstance(x, tuple) else x
    x, w, b = contiguous(x), contiguous(w), None if b is None else contiguous(b)
    size, kernel = x.shape[1:3], w.shape[:2]
    oy_ox = geometry.output_size(size, kernel)
    y = empty((len(x), *oy_ox, w.shape[3]), x.dtype, like=x)
    sizes = Sizes.of(len(x), size, kernel, oy_ox, x.shape[3], w.shape[3], **geometry._asdict())
    version.forward(sizes, x, w, b, y, Activation.of(epilogue))
    return y


def scatter(version: Callable, gy: Any, w: Any, b: Any, input_size: Pair, geometry: Geometry) -> Any:
    """`backward_input`, and b (C_in,) or None added to each pixel, as conv_transpose2d wants it."""
    gy, w, b = contiguous(gy), contiguous(w), None if b is None else contiguous(b)
    c_in = w.shape[2] * geometry.groups
    gx = empty((len(gy), *input_size, c_in), gy.dtype, like=gy)
    kind = geometry._asdict()
    version(Sizes.of(len(gy), input_size, w.shape[:2], gy.shape[1:3], c_in, w.shape[3], **kind), gy, w, b, gx)
    return gx


def backward_input(version: Version, gy: Any, w: Any, input_size: Pair, geometry: Geometry) -> Any:
    """gx[n, iy, ix, ci] = sum over co and all (oy, ky), (ox, kx) that read this pixel of gy w."""
    return scatter(version.backward_input, gy, w, None, input_size, geometry)


def backward_weight(version: Version, x: Any, gy: Any, kernel_size: Pair, geometry: Geometry) -> Any:
    """gw[ky, kx, ci, co] = sum over n, oy, ox of x[n, iy, ix, ci] gy[n, oy, ox, co]."""
    x, gy = contiguous(x), contiguous(gy)
    c_in, c_out = x.shape[3], gy.shape[3]
    gw = empty((*kernel_size, c_in // geometry.groups, c_out), x.dtype, like=x)
    kind = geometry._asdict()
    sizes = Sizes.of(len(x), x.shape[1:3], kernel_size, gy.shape[1:3], c_in, c_out, **kind)
    version.backward_weight(sizes, x, gy, gw)
    return gw


def backward_bias(gy: Any) -> Any:
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    gy = contiguous(gy)
    pixels, channels = math.prod(gy.shape[:3]), gy.shape[3]
    gb = empty((channels,), gy.dtype, like=gy)
    across = blocks(channels, THREADS)
    parts = max(1, min(ENOUGH_BLOCKS // max(1, across), pixels // FEWEST_PIXELS))
    partial_sums = empty((channels, parts), np.float64, like=gy)
    launch(SOURCE, "backward_bias_parts", (parts, across), THREADS, gy, partial_sums, pixels, channels)
    launch(SOURCE, "backward_bias_finish", channels, 32, partial_sums, gb, parts)
    return gb


VERSIONS = {
    "blocked": Version(_blocked_forward, _blocked_backward_input, _blocked_backward_weight),
    "tiled": Version(_tiled_forward, _tiled_backward_input, _naive_backward_weight),
    "naive": Version(_naive_forward, _naive_backward_input, _naive_backward_weight),
    "tf32": Version(
        *(partial(f, **TF32) for f in (_blocked_forward, _blocked_backward_input, _blocked_backward_weight))
    ),
}
IMPLEMENTATIONS = {
    name: {f.__name__: partial(f, version) for f in (forward, backward_input, backward_weight)}
    for name, version in VERSIONS.items()
}
