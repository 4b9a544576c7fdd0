"""Batch normalisation on Tensors."""

from __future__ import annotations

from typing import Any

from ...backends.devices import common_device
from ...backends.memory import named_error
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
    mean, var: (C,) arrays, constants to normalise with, as in use. Without them, as in training, those of x itself,
    over all axes but the last; at least two numbers for each channel are needed then, and gradients flow through them.
    Returns the shape and dtype of x; with return_statistics (y, mean, var), of which mean and var are arrays and the
    variance is the biased one, divided by m and not by m - 1.

    `nn.BatchNorm2d` is the layer that gathers running statistics for use.
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
    data = {name: a.data if isinstance(a, Tensor) else a for name, a in arrays.items()}
    common_device(op, data)
    if mean is not None:
        y = NormalizedByConstants.apply(x, gamma, beta, mean=data["mean"], var=data["var"], eps=float(eps))
        return (y, data["mean"], data["var"]) if return_statistics else y
    if x.size < 2 * x.shape[-1] or x.size == 0:
        raise ValueError(f"{op}: x {tuple(x.shape)} has one number for each channel or none; a variance needs two")
    try:
        mean, var = statistics(data["x"])
    except MemoryError as error:  # outside of a Function, which would name the operation
        raise named_error(op, error) from None
    y = BatchNorm.apply(x, gamma, beta, mean=mean, var=var, eps=float(eps))
    return (y, mean, var) if return_statistics else y


def _check_shapes(op: str, x: Any, **numbers: Any) -> None:
    if x.ndim < 2:
        raise ValueError(f"{op}: x has shape {tuple(x.shape)}; at least 2 axes, the channels last, are needed")
    for name, array in numbers.items():
        if tuple(array.shape) != tuple(x.shape[-1:]):
            raise ValueError(
                f"{op}: {name} has shape {tuple(array.shape)}; x {tuple(x.shape)} needs one number for each of its "
                f"{x.shape[-1]} channels"
            )


class BatchNorm(Function):
    """mean and var are those of x, found before: arrays, but the gradient knows that they depend on x."""

    def forward(self, x, gamma, beta, *, mean, var, eps):
        self.save(x, gamma)
        self.mean, self.var, self.eps = mean, var, eps
        return normalize(x, mean, var, gamma, beta, eps=eps)

    def backward(self, gy):
        x, gamma = self.saved
        if isinstance(gy, Tensor):  # a graph of the gradient is wanted: the same formulas in basic ops
            axes = tuple(range(x.ndim - 1))
            centred = x - mean_of(x, axes)
            r = 1 / sqrt(mean_of(centred * centred, axes) + self.eps)
            u = centred * r
            ggamma, gbeta = sum(gy * u, axes), sum(gy, axes)
            m = x.size // x.shape[-1]
            return gamma * r * (gy - gbeta / m - u * (ggamma / m)), ggamma, gbeta
        ggamma, gbeta = backward_parameters(gy, x, self.mean, self.var, eps=self.eps)
        gx = None
        if self.needs_grad[0]:
            gx = backward_input(gy, x, self.mean, self.var, gamma, ggamma, gbeta, eps=self.eps)
        return gx, ggamma, gbeta


class NormalizedByConstants(Function):
    """mean and var do not depend on x."""

    def forward(self, x, gamma, beta, *, mean, var, eps):
        self.save(x, gamma)
        self.mean, self.var, self.eps = mean, var, eps
        return normalize(x, mean, var, gamma, beta, eps=eps)

    def backward(self, gy):
        x, gamma = self.saved
        if isinstance(gy, Tensor):
            axes = tuple(range(x.ndim - 1))
            r = 1 / sqrt(self.var + self.var.dtype.type(self.eps))
            return gy * (gamma * r), sum(gy * ((x - self.mean) * r), axes), sum(gy, axes)
        gx, none = None, self.mean * 0
        if self.needs_grad[0]:  # gamma r gy is gy normalised, with a mean of 0 and no beta
            gx = normalize(gy, none, self.var, gamma, none, eps=self.eps)
        return gx, *backward_parameters(gy, x, self.mean, self.var, eps=self.eps)
