"""ncc_loss: how similar two images are, window by window, whatever their brightness and contrast there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backends.arrays import array_module
from ...engine.arguments import data_of
from ...engine.basic_ops import astype, maximum, mean, reshape, transpose
from ...engine.tensor import Tensor
from .._shared.checks import check_float, positive
from .._shared.targets import check_not_empty
from ..matmul.op import matmul


def ncc_loss(x: Tensor, target: Any, *, window: int = 9, eps: float = 1e-5) -> Tensor:
    """1 - the mean of the squared normalized cross-correlation of two images in windows: 0 equal, 1 unrelated.

    x, target: float of one shape, images (N, H, W, C) or volumes (N, D, H, W, C). Channels are compared one by one, and
        both arguments may need a gradient. window: the odd side of the square or cube around each pixel; at the border,
        the part inside of the image counts.
    In each window the correlation is cov^2 / (var_x var_target + eps) with sums, not means, over the window: linear
    changes of the brightness do not change it. Where one image is constant it is 0, and eps keeps the gradient finite.

    Returns a Tensor of shape () and the dtype of x; the sums are float64. Raises TypeError or ValueError.
    Source: Balakrishnan et al., VoxelMorph, 2018, equation 6 (IEEE TMI 2019), there with a window of 9.
    """
    check_float("ncc_loss", x=x, target=target)
    check_not_empty("ncc_loss", "x", x)
    if x.shape != target.shape or x.ndim not in (4, 5):
        raise ValueError(
            f"ncc_loss: x has shape {tuple(x.shape)}, target has {tuple(target.shape)}; one shape, (N, H, W, C) or "
            "(N, D, H, W, C), is needed"
        )
    if not isinstance(window, (int, np.integer)) or window < 1 or window % 2 == 0:
        raise ValueError(f"ncc_loss: window is {window}; an odd integer from 1 on is needed")
    eps = positive("ncc_loss", "eps", eps)
    a, b = _images(x), _images(target)
    bands = [_band(n, window, a) for n in a.shape[1:]]
    share = 1 / _window_sums(array_module(data_of(a)).ones((1, *a.shape[1:]), a.dtype), bands)
    sum_a, sum_b = _window_sums(a, bands), _window_sums(b, bands)
    covariance = _window_sums(a * b, bands) - sum_a * sum_b * share
    # Rounding could leave a small negative number where an image is constant.
    var_a = maximum(_window_sums(a * a, bands) - sum_a * sum_a * share, 0.0)
    var_b = maximum(_window_sums(b * b, bands) - sum_b * sum_b * share, 0.0)
    return astype(1 - mean(covariance * covariance / (var_a * var_b + eps)), x.dtype)


def _images(x: Any) -> Any:
    """Each channel as an image of its own, (N C, ...), in float64: a variance is a small difference of large sums."""
    channels_first = transpose(x, (0, x.ndim - 1, *range(1, x.ndim - 1)))
    return astype(reshape(channels_first, (-1, *x.shape[1:-1])), np.float64)


def _band(n: int, window: int, like: Any) -> Any:
    """(n, n), 1 where row and column are less than half a window apart: the sum over a window as a matrix."""
    place = array_module(data_of(like)).arange(n)
    return (abs(place[:, None] - place) <= window // 2).astype(like.dtype)


def _window_sums(x: Any, bands: list[np.ndarray]) -> Any:
    """The sums over all windows of images (N, ...): one axis after the other, each by a matrix product.

    For an axis of 48 and a window of 9 the product has five times as many additions as needed, and is still faster
    than adding nine shifted images, because it reads the image once.
    """
    shape = x.shape
    for axis, band in enumerate(bands, start=1):
        n, after = shape[axis], math.prod(shape[axis + 1 :])
        x = matmul(reshape(x, (-1, n)), band) if after == 1 else matmul(band, reshape(x, (-1, n, after)))
    return reshape(x, shape)
