"""Batch normalization on Tensors."""

from __future__ import annotations

from typing import Any

from ...backends.arrays import array_module, plain_array
from ...backends.devices import common_device
from ...engine import share
from ...engine.basic_ops import mean as mean_of
from ...engine.basic_ops import sqrt, sum
from ...engine.tensor import Function, Tensor
from .._shared.checks import check_float
from .reference import backward_input, backward_parameters, normalize, statistics


def batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Any = None,
    var: Any = None,
    *,
    eps: float = 1e-5,
    return_statistics: bool = False,
) -> Any:
    """gamma (x - mean) / sqrt(var + eps) + beta, for each channel.

    x: (N, H, W, C) or (N, C), float; any number of axes, channels last. gamma, beta: (C,). eps: positive.
    mean, var: (C,) arrays, constants, as in inference. If they are None, as in training, the mean and the variance of x
    over all axes but the last are used: x needs at least two values for each channel, and gradients flow through both.
    Returns the shape and dtype of x; with return_statistics (y, mean, var), where mean and var are arrays and var is
    the biased variance: the sum of squares is divided by m, not by m - 1.

    `nn.BatchNorm2d` is the layer that collects running statistics for inference.
    Raises TypeError or ValueError, naming the argument, for what does not fit.
    Source: Ioffe and Szegedy, Batch Normalization, ICML 2015, section 3, algorithms 1 and 2.
    """
    op = "batch_norm"
    if (mean is None) != (var is None):
        raise ValueError(f"{op}: only one of mean and var is given; both are needed, or none")
    constants = {} if mean is None else {"mean": mean, "var": var}
    arrays = {"x": x, "gamma": gamma, "beta": beta, **constants}
    check_float(op, **arrays)
    _check_shapes(op, **arrays)
    if not eps > 0:
        raise ValueError(f"{op}: eps is {eps}; it must be positive")
    data = {name: plain_array(f"{op}: {name}", _array(a)) for name, a in arrays.items()}
    common_device(op, data)
    if mean is not None:
        y = NormalizedByConstants.apply(x, gamma, beta, mean=data["mean"], var=data["var"], eps=float(eps))
        return (y, data["mean"], data["var"]) if return_statistics else y
    if values_per_channel(x) < 2:
        raise ValueError(f"{op}: x {tuple(x.shape)} has one value for each channel or none; a variance needs two")
    y, mean, var = BatchNorm.apply(x, gamma, beta, eps=float(eps))
    return (y, *(_array(a) for a in (mean, var))) if return_statistics else y


def values_per_channel(x: Any) -> int:
    """How many values of the batch each channel of x (..., C) has, the other parts of a split batch included."""
    return round(x.size // max(x.shape[-1], 1) / share.current().weight)


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def _check_shapes(op: str, x: Any, **per_channel: Any) -> None:
    if x.ndim < 2:
        raise ValueError(f"{op}: x has shape {tuple(x.shape)}; at least 2 axes, the channels last, are needed")
    for name, array in per_channel.items():
        if tuple(array.shape) != tuple(x.shape[-1:]):
            raise ValueError(
                f"{op}: {name} has shape {tuple(array.shape)}; x {tuple(x.shape)} needs one number for each of its "
                f"{x.shape[-1]} channels"
            )


class BatchNorm(Function):
    """(y, mean, var): mean and var are those of x, and the gradient knows that they depend on x."""

    def forward(self, x, gamma, beta, *, eps):
        self.save(x, gamma)
        self.share = share.current()
        self.mean, self.var = _over_batch(self.share, *statistics(x))
        self.eps = eps
        return normalize(x, self.mean, self.var, gamma, beta, eps), self.mean, self.var

    def backward(self, gy):
        x, gamma = self.saved
        parameters = backward_parameters(gy, x, self.mean, self.var, self.eps)
        gx = None
        if self.needs_grad[0]:
            over_batch = parameters
            if not self.share.is_whole:  # the kernel divides by the number of values of this part
                over_batch = self.share.sum(_stacked(*parameters)) * gy.dtype.type(self.share.weight)
            gx = backward_input(gy, x, self.mean, self.var, gamma, tuple(over_batch), self.eps)
        return gx, *parameters

    def backward_graph(self, gy):
        self.share.refuse_second_derivatives("batch_norm")
        x, gamma = self.saved
        axes = tuple(range(x.ndim - 1))
        centered = x - mean_of(x, axes)
        r = 1 / sqrt(mean_of(centered * centered, axes) + self.eps)
        u = centered * r
        ggamma, gbeta = sum(gy * u, axes), sum(gy, axes)
        m = x.size // x.shape[-1]
        return gamma * r * (gy - gbeta / m - u * (ggamma / m)), ggamma, gbeta


def _over_batch(part: share.Share, mean: Any, var: Any) -> tuple[Any, Any]:
    """(mean, var) over all parts of the batch, from the mean and the variance of this part.

    Each part adds its weighted mean and its weighted mean of squares, E[x^2] = var + mean^2, in float64.
    """
    if part.is_whole:
        return mean, var
    m, v = (a.astype("float64") for a in (mean, var))
    mean_of_all, square_of_all = part.sum(_stacked(m, v + m**2) * part.weight)
    var_of_all = square_of_all - mean_of_all**2
    return mean_of_all.astype(mean.dtype), var_of_all.clip(0).astype(var.dtype)


def _stacked(*per_channel: Any) -> Any:
    """Arrays (C,) as one, so that one exchange adds them all."""
    return array_module(per_channel[0]).stack(per_channel)


class NormalizedByConstants(Function):
    """y; mean and var do not depend on x."""

    def forward(self, x, gamma, beta, *, mean, var, eps):
        self.save(x, gamma)
        self.mean, self.var, self.eps = mean, var, eps
        return normalize(x, mean, var, gamma, beta, eps)

    def backward(self, gy):
        x, gamma = self.saved
        gx, zeros = None, self.mean * 0
        if self.needs_grad[0]:  # gamma r gy is gy normalized, with a mean of 0 and no beta
            gx = normalize(gy, zeros, self.var, gamma, zeros, self.eps)
        return gx, *backward_parameters(gy, x, self.mean, self.var, self.eps)

    def backward_graph(self, gy):
        x, gamma = self.saved
        axes = tuple(range(x.ndim - 1))
        r = 1 / sqrt(self.var + self.var.dtype.type(self.eps))
        return gy * (gamma * r), sum(gy * ((x - self.mean) * r), axes), sum(gy, axes)
