"""The U-Net's kernels as courses write them in NumPy: a convolution is unrolled into one matrix product.

*im2col*: the window that each output pixel sees is copied into a row of a matrix, so that convolving is multiplying
by the weights as a matrix. Its transpose, *col2im*, adds rows back into windows. The rest of the net is vectorized
NumPy, too. The tests check all of it; it shows how much time hand-written kernels save. It covers only what the U-Net
needs: no dilation, no groups, pooling without overlap.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from ....backends.registry import use_backend, use_kernels
from ....ops._shared.epilogue import PLAIN, Epilogue
from ....ops._shared.geometry import Geometry, Pair
from . import Contestant, tinynet_peer


# ---------------------------------------------------------------------------------------- im2col and col2im
def im2col(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """(N, H, W, C) -> (N, OH, OW, KH * KW * C): the window of each output pixel, copied."""
    (py, px), (kh, kw) = padding, kernel
    padded = np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))[:, :: stride[0], :: stride[1]]
    n, oh, ow, c = windows.shape[:4]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(n, oh, ow, kh * kw * c)


def col2im(columns: np.ndarray, size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """(N, OH, OW, KH * KW * C) -> (N, H, W, C): each window added back where it came from."""
    (height, width), (py, px), (kh, kw) = size, padding, kernel
    n, oh, ow, _ = columns.shape
    taps = columns.reshape(n, oh, ow, kh, kw, -1)
    padded = np.zeros((n, height + 2 * py, width + 2 * px, taps.shape[-1]), columns.dtype)
    for ky in range(kh):
        for kx in range(kw):
            rows = slice(ky, ky + oh * stride[0], stride[0])
            padded[:, rows, kx : kx + ow * stride[1] : stride[1]] += taps[:, :, :, ky, kx]
    return padded[:, py : py + height, px : px + width]


# ---------------------------------------------------------------------------------------- conv2d
def conv_forward(x, w, b, geometry, epilogue=PLAIN):
    stride, padding = _plain(geometry, epilogue)
    x = np.concatenate(x, axis=3) if isinstance(x, tuple) else x
    y = im2col(x, w.shape[:2], stride, padding) @ w.reshape(-1, w.shape[3])
    return y if b is None else y + b


def conv_backward_input(gy, w, input_size, geometry):
    stride, padding = _plain(geometry)
    return col2im(gy @ w.reshape(-1, w.shape[3]).T, input_size, w.shape[:2], stride, padding)


def conv_backward_weight(x, gy, kernel_size, geometry):
    columns = im2col(x, kernel_size, *_plain(geometry))
    gw = columns.reshape(-1, columns.shape[3]).T @ gy.reshape(-1, gy.shape[3])
    return gw.reshape(*kernel_size, x.shape[3], gy.shape[3])


def _plain(geometry: Geometry, epilogue: Epilogue = PLAIN) -> tuple[Pair, Pair]:
    """(stride, padding). Raises ValueError for what the textbook convolution cannot do."""
    if geometry.dilation != (1, 1) or geometry.groups != 1 or epilogue != PLAIN:
        raise ValueError(f"the textbook convolution has no dilation, groups and epilogue: {geometry}, {epilogue}")
    return geometry.stride, geometry.padding


# ---------------------------------------------------------------------------------------- conv_transpose2d
def up_forward(x, w, b, output_size, geometry):
    y = conv_backward_input(x, w, output_size, geometry)
    return y if b is None else y + b


def up_backward_input(gy, w, geometry):
    return conv_forward(gy, w, None, geometry)


def up_backward_weight(x, gy, kernel_size, geometry):
    return conv_backward_weight(gy, x, kernel_size, geometry)


# ---------------------------------------------------------------------------------------- pooling, dropout
def pool_forward(x, kernel_size, geometry):
    """Windows that do not overlap: a reshape and an argmax. Returns (y, indices in the plane)."""
    if geometry != Geometry(stride=kernel_size):
        raise ValueError(f"the textbook pooling has no overlap: kernel_size {kernel_size}, {geometry}")
    (kh, kw), (n, height, width, c) = kernel_size, x.shape
    oh, ow = height // kh, width // kw
    windows = x[:, : oh * kh, : ow * kw].reshape(n, oh, kh, ow, kw, c).transpose(0, 1, 3, 2, 4, 5)
    windows = windows.reshape(n, oh, ow, kh * kw, c)
    k = windows.argmax(axis=3)
    y = np.take_along_axis(windows, k[:, :, :, None], axis=3)[:, :, :, 0]
    rows = np.arange(oh)[:, None, None] * kh + k // kw
    columns = np.arange(ow)[:, None] * kw + k % kw
    return y, (rows * width + columns).astype(np.int32)


def pool_scatter(g, indices, *, size, cell):
    n, oh, ow, c = g.shape
    planes = np.zeros((n, size[0] * size[1], c), g.dtype)
    np.put_along_axis(planes, indices.reshape(n, oh * ow, c), g.reshape(n, oh * ow, c), axis=1)
    return planes.reshape(n, *size, c)


def dropout(x, *, p, seed, stream, step, first=0):
    """Masks from NumPy's own generator: the same work as in tinynet, but other masks."""
    keep = np.random.default_rng((seed, stream, step)).random(x.shape, dtype=np.float32) >= p
    return x * keep * x.dtype.type(1 / (1 - p))


# ---------------------------------------------------------------------------------------- all of it
CONVOLUTIONS = {
    "conv2d": {
        "forward": conv_forward,
        "backward_input": conv_backward_input,
        "backward_weight": conv_backward_weight,
    },
    "conv_transpose2d": {
        "forward": up_forward,
        "backward_input": up_backward_input,
        "backward_weight": up_backward_weight,
    },
}
POOLING = {"max_pool2d": {"forward": pool_forward, "scatter": pool_scatter}}
DROPOUT = {"dropout": {"forward": dropout}}


@contextlib.contextmanager
def textbook() -> Iterator[None]:
    """Inside `with textbook():` everything runs in plain NumPy, with the kernels above in place of the loops."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(use_backend("reference"))
        for op, kernels in (CONVOLUTIONS | POOLING | DROPOUT).items():
            stack.enter_context(use_kernels(op, **kernels))
        yield


def contestant(case: str, threads: int) -> Contestant:
    """tinynet's U-Net and engine with these kernels; NumPy's matrix product takes the threads."""
    plain = tinynet_peer.contestant(case, threads)

    def step() -> float:
        with textbook():
            return plain.step()

    return Contestant(step, plain.parameters, {"numpy": np.__version__})
