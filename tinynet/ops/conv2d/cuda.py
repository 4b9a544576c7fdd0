"""conv2d on a GPU: which version runs, and which blocks of threads. What the versions do is written in conv2d.cu.

    blocked   the default: products of matrices, up to 64 results in the registers of a thread
    tiled     tiles in shared memory, four results for each thread
    naive     one thread for each result, straight from the formula
    tf32      as blocked, on tensor cores: factors rounded to 10 bits of mantissa, compute capability 8.0 and later

`naive` covers every case. `choose` says where it stands in for another version.
"""

from __future__ import annotations

import itertools
import math
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
BLOCKED_WEIGHT = Source(Path(__file__).with_name("blocked_weight.cu"), BLOCKED_VARIANTS)

# As in conv2d.cu, tile.cuh and product.cuh.
THREADS = 256  # of naive and of the bias
TILED_PIXELS, TILED_OUT, TILED_THREADS, MOST_TAPS = 8, 16, 256, 5
ROWS = {16: 256, 32: 128, 64: 128}  # of a block of `blocked`, by its channels
GEMM_THREADS, TILE_K = 128, 8
FINISH_BLOCKS = {False: (256, 1), True: (32, 8)}  # (elements, threads for each): few parts of a sum, or many
MANY_PARTS = 32

# The sum over the pixels, for gw and gb, is cut into parts, one for each block. The constants are the same for all
# GPUs, because the last bits of the result depend on them.
ENOUGH_BLOCKS = 1024  # a few for each multiprocessor of a large GPU
FEWEST_PIXELS = 128  # of a part: less work would not be worth writing its result
MOST_PIXELS = 8192  # of a part: float32 loses digits in longer sums
MOST_PARTS = 65535  # blocks along the second axis of a grid
MOST_COUNTED = 2**31 - 2**16  # pixels: the kernels of `blocked` count them in 32 bits


class Sizes(NamedTuple):
    """GEOMETRY in geometry.cuh, in its order."""

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
    def of(cls, x_shape: tuple[int, ...], kernel_size: Pair, y_shape: tuple[int, ...], geometry: Geometry) -> Sizes:
        stride, padding, dilation, groups = geometry
        return cls(*x_shape, *kernel_size, *y_shape[1:], *stride, *padding, *dilation, groups)

    @property
    def i_group(self) -> int:
        """Channels of x in a group."""
        return self.c_in // self.groups

    @property
    def o_group(self) -> int:
        """Channels of y in a group."""
        return self.c_out // self.groups

    @property
    def phases(self) -> int:
        return self.stride_y * self.stride_x

    @property
    def pixels(self) -> int:
        """Pixels in all images of y."""
        return self.images * self.oh * self.ow

    @property
    def pixels_of_phase(self) -> int:
        """Pixels of the first phase in all images of x. No other phase has more."""
        return self.images * blocks(self.height, self.stride_y) * blocks(self.width, self.stride_x)


def choose(asked: str, kernel: str, sizes: Sizes, dtype: Any) -> str:
    """The version that runs if `asked` is asked for: itself if it covers the case, else `naive`."""
    if asked == "tiled":
        is_dense = (sizes.phases, sizes.dilation_y, sizes.dilation_x, sizes.groups) == (1, 1, 1, 1)
        is_covered = kernel != "backward_weight" and is_dense and max(sizes.kh, sizes.kw) <= MOST_TAPS
    else:
        pixels = max(sizes.pixels, sizes.images * sizes.height * sizes.width)
        is_covered = dtype == np.float32 and pixels < MOST_COUNTED and 0 not in sizes[:9]
    return asked if is_covered else "naive"


# ---------------------------------------------------------------------------------------- the versions
# arrays: the pointers of the kernel in the order of its signature; the last is the result. epilogue: for `forward`.
def _naive(kernel: str, sizes: Sizes, arrays: tuple[Any, ...], epilogue: tuple[Any, ...]) -> None:
    launch(SOURCE, f"naive_{kernel}", blocks(arrays[-1].size, THREADS), THREADS, *arrays, *sizes, *epilogue)


def _tiled(kernel: str, sizes: Sizes, arrays: tuple[Any, ...], epilogue: tuple[Any, ...]) -> None:
    images, height, width, channels = arrays[-1].shape
    tiles = images * blocks(height, TILED_PIXELS) * blocks(width, TILED_PIXELS)
    grid = tiles, blocks(channels, TILED_OUT)
    launch(SOURCE, f"tiled_{kernel}", grid, TILED_THREADS, *arrays, *sizes, *epilogue)


def _blocked(kernel: str, sizes: Sizes, arrays: tuple[Any, ...], epilogue: tuple[Any, ...], **engine: int) -> None:
    if kernel == "backward_weight":
        return _blocked_backward_weight(sizes, *arrays, **engine)
    rows, channels, phases = sizes.pixels, sizes.o_group, 1
    if kernel == "backward_input":
        rows, channels, phases = sizes.pixels_of_phase, sizes.i_group, sizes.phases
    n, macros = _tiles(rows, channels, sizes, arrays)
    if epilogue and epilogue[-1] % 4:  # `first`: four neighboring channels then need the words of two counters
        macros["VECTOR"] = 0
    grid = (n * phases, 1, sizes.groups)
    launch(BLOCKED, f"blocked_{kernel}", grid, GEMM_THREADS, *arrays, *sizes, *epilogue, **macros, **engine)


def _blocked_backward_weight(sizes: Sizes, x: Any, gy: Any, gw: Any, **engine: int) -> None:
    lines = sizes.kh * sizes.kw * blocks(sizes.i_group, 4) * 4  # channels padded to a multiple of four
    n, macros = _tiles(lines, sizes.o_group, sizes, (x, gy))  # the parts are new arrays, which are aligned
    enough = max(ENOUGH_BLOCKS // (n * sizes.groups), blocks(sizes.pixels, MOST_PIXELS))
    affordable = (x.size + gy.size) // gw.size  # the parts take no more memory than x and gy
    most = min(enough, affordable, sizes.pixels // FEWEST_PIXELS, MOST_PARTS)
    steps = blocks(sizes.pixels, TILE_K * max(1, most))
    parts = blocks(sizes.pixels, TILE_K * steps)

    partial_sums = empty((parts, *gw.shape), gw.dtype, like=gw)
    grid, arguments = (n, parts, sizes.groups), (x, gy, partial_sums, *sizes, steps)
    launch(BLOCKED_WEIGHT, "blocked_backward_weight", grid, GEMM_THREADS, *arguments, **macros, **engine)
    block = FINISH_BLOCKS[parts >= MANY_PARTS]
    launch(SOURCE, "backward_weight_finish", blocks(gw.size, block[0]), block, partial_sums, gw, gw.size, parts)


def _tiles(rows: int, channels: int, sizes: Sizes, arrays: tuple[Any, ...]) -> tuple[int, dict[str, Any]]:
    """(blocks for rows x channels results, macros: the channels of a block, and whether it reads four at once)."""
    width = next((w for w in WIDTHS if w >= channels), WIDTHS[-1])
    in_fours = sizes.i_group % 4 == 0 and sizes.o_group % 4 == 0 and is_aligned(*(a for a in arrays if a is not None))
    n = blocks(rows, ROWS[width]) * blocks(channels, width)
    return n, {**FLOAT, "TILE_CHANNELS": width, "VECTOR": int(in_fours)}


VERSIONS = {"blocked": _blocked, "tiled": _tiled, "naive": _naive, "tf32": partial(_blocked, **TF32)}


def _run(asked: str, kernel: str, sizes: Sizes, arrays: tuple[Any, ...], epilogue: tuple[Any, ...] = ()) -> Any:
    """The result, the last of the arrays, once the kernel is launched in the version that `choose` names."""
    VERSIONS[choose(asked, kernel, sizes, arrays[-1].dtype)](kernel, sizes, arrays, epilogue)
    return arrays[-1]


# ---------------------------------------------------------------------------------------- the kernels
def forward(version: str, x: Any, w: Any, b: Any, geometry: Geometry, epilogue: Epilogue = PLAIN) -> Any:
    """y[n, oy, ox, co] = b[co] + sum over ky, kx, ci of x[n, iy, ix, ci] w[ky, kx, ci, co], then the epilogue.

    x may be a tuple of arrays whose channels follow each other.
    """
    x = concat.forward(*x, axis=3) if isinstance(x, tuple) else x
    x, w, b = contiguous(x), contiguous(w), None if b is None else contiguous(b)
    y = empty((len(x), *geometry.output_size(x.shape[1:3], w.shape[:2]), w.shape[3]), x.dtype, like=x)
    alpha, p, *key = epilogue
    values = (alpha is not None, 1.0 if alpha is None else alpha, 1 / (1 - p), round(p * 2**32), *key)  # EPILOGUE
    return _run(version, "forward", Sizes.of(x.shape, w.shape[:2], y.shape, geometry), (x, w, b, y), values)


def scatter(version: str, gy: Any, w: Any, b: Any, input_size: Pair, geometry: Geometry) -> Any:
    """`backward_input`, then b (C_in,) or None added to each pixel: the forward kernel of conv_transpose2d."""
    gy, w, b = contiguous(gy), contiguous(w), None if b is None else contiguous(b)
    gx = empty((len(gy), *input_size, w.shape[2] * geometry.groups), gy.dtype, like=gy)
    return _run(version, "backward_input", Sizes.of(gx.shape, w.shape[:2], gy.shape, geometry), (gy, w, b, gx))


def backward_input(version: str, gy: Any, w: Any, input_size: Pair, geometry: Geometry) -> Any:
    """gx[n, iy, ix, ci] = sum over co and all (oy, ky), (ox, kx) that read this pixel of gy w."""
    return scatter(version, gy, w, None, input_size, geometry)


def backward_weight(version: str, x: Any, gy: Any, kernel_size: Pair, geometry: Geometry) -> Any:
    """gw[ky, kx, ci, co] = sum over n, oy, ox of x[n, iy, ix, ci] gy[n, oy, ox, co]."""
    x, gy = contiguous(x), contiguous(gy)
    gw = empty((*kernel_size, x.shape[3] // geometry.groups, gy.shape[3]), x.dtype, like=x)
    return _run(version, "backward_weight", Sizes.of(x.shape, kernel_size, gy.shape, geometry), (x, gy, gw))


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


IMPLEMENTATIONS = {
    name: {f.__name__: partial(f, name) for f in (forward, backward_input, backward_weight)} for name in VERSIONS
}
