"""Batch normalization on a GPU: a thread for each element, and sums over rows in two kernels; see batch_norm.cu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...backends.cuda.source import Source
from ...backends.launch import blocks, contiguous, empty, launch

SOURCE = Source(Path(__file__).with_name("batch_norm.cu"))
THREADS = 256  # as in batch_norm.cu
# Rows are cut into parts by these numbers and not by what the GPU is: the last bits of a sum depend on them.
ENOUGH_BLOCKS, FEWEST_ROWS = 1024, 64


def statistics(x: Any) -> tuple[Any, Any]:
    """(mean, var) of each channel; the variance is the mean square distance from the mean. The sums are float64."""
    x = contiguous(x)
    rows, channels = _sizes(x)
    partial = _partial(1, x)
    launch(SOURCE, "batch_norm_sums", _grid(x), THREADS, x, partial, rows, channels)
    mean, wide_mean = _finished(partial, rows, like=x)
    launch(SOURCE, "batch_norm_squares", _grid(x), THREADS, x, wide_mean, partial, rows, channels)
    var, _ = _finished(partial, rows, like=x)
    return mean, var


def normalize(x: Any, mean: Any, var: Any, gamma: Any, beta: Any, eps: float) -> Any:
    """y = gamma (x - mean) / sqrt(var + eps) + beta."""
    y = empty(x.shape, x.dtype, like=x)
    arrays = (contiguous(a) for a in (x, mean, var, gamma, beta))
    launch(SOURCE, "batch_norm_normalize", blocks(x.size, THREADS), THREADS, *arrays, y, x.size, x.shape[-1], eps)
    return y


def backward_parameters(gy: Any, x: Any, mean: Any, var: Any, eps: float) -> tuple[Any, Any]:
    """(ggamma, gbeta): the sums of gy u and of gy over all but the channels, u = (x - mean) / sqrt(var + eps)."""
    rows, channels = _sizes(x)
    partial = _partial(2, x)
    arrays = (contiguous(a) for a in (gy, x, mean, var))
    launch(SOURCE, "batch_norm_parameter_sums", _grid(x), THREADS, *arrays, partial, rows, channels, eps)
    sums, _ = _finished(partial, 1, like=x)
    return sums[:channels], sums[channels:]


def backward_input(gy: Any, x: Any, mean: Any, var: Any, gamma: Any, parameters: tuple[Any, Any], eps: float) -> Any:
    """gx = gamma r (gy - gbeta / m - u ggamma / m), where mean and var are those of x itself.

    parameters: (ggamma, gbeta), as `backward_parameters` returns them.
    """
    gx = empty(x.shape, x.dtype, like=x)
    rows, channels = _sizes(x)
    arrays = (contiguous(a) for a in (gy, x, mean, var, gamma, *parameters))
    launch(
        SOURCE, "batch_norm_backward_input", blocks(x.size, THREADS), THREADS, *arrays, gx, x.size, channels, rows, eps
    )
    return gx


def _sizes(x: Any) -> tuple[int, int]:
    """(rows, channels)."""
    return x.size // max(x.shape[-1], 1), x.shape[-1]


def _grid(x: Any) -> tuple[int, int]:
    """Blocks along x share the rows; those along y have 256 channels each."""
    rows, channels = _sizes(x)
    across = blocks(channels, THREADS)
    return max(1, min(ENOUGH_BLOCKS // max(1, across), rows // FEWEST_ROWS)), across


def _partial(sums: int, x: Any) -> Any:
    """An array for the sums of the blocks: (sums, channels, parts)."""
    return empty((sums * x.shape[-1], _grid(x)[0]), "float64", like=x)


def _finished(partial: Any, divisor: float, like: Any) -> tuple[Any, Any]:
    """The sums over the parts, divided: in the dtype of `like`, and in float64."""
    sums, parts = partial.shape
    result, wide = empty((sums,), like.dtype, like=like), empty((sums,), "float64", like=like)
    launch(SOURCE, "batch_norm_finish", sums, 32, partial, result, wide, parts, divisor)
    return result, wide
