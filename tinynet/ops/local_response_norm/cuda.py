"""Local response normalization on a GPU: a thread for each channel of each pixel; see local_response_norm.cu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, launch

SOURCE = Source(Path(__file__).with_name("local_response_norm.cu"))
THREADS = 256


def forward(x: Any, *, size: int, k: float, alpha: float, beta: float) -> Any:
    """y_c = x_c s_c^-beta with s_c = k + alpha sum of x_j^2 over the `size` channels around c. x (..., C)."""
    y = empty(x.shape, x.dtype, like=x)
    _run("lrn_forward", contiguous(x), y, size=size, scalars=(k, alpha, beta))
    return y


def backward(gy: Any, x: Any, *, size: int, k: float, alpha: float, beta: float) -> Any:
    """gx_i = gy_i s_i^-beta - 2 alpha beta x_i sum of gy_c x_c s_c^(-beta - 1) over the channels around i."""
    gx = empty(x.shape, x.dtype, like=x)
    gy, x, t = contiguous(gy), contiguous(x), empty(x.shape, x.dtype, like=x)
    _run("lrn_terms", gy, x, t, size=size, scalars=(k, alpha, beta))
    _run("lrn_backward", gy, x, t, gx, size=size, scalars=(k, alpha, beta))
    return gx


def _run(kernel: str, *arrays: Any, size: int, scalars: tuple[float, ...]) -> None:
    n, channels = arrays[0].size, arrays[0].shape[-1]
    launch(SOURCE, kernel, blocks(n, THREADS), THREADS, *arrays, n, channels, size // 2, *scalars)
