"""What the losses share: targets and weights are constants, and the common mistakes with them get an error message.

The values of a NumPy array are checked; then the array is moved to the device of the prediction. The values of an array
on a GPU are not checked: reading one element would make the CPU wait until the GPU has finished all its work.
"""

from __future__ import annotations

from typing import Any

from ...backends.arrays import device_of, plain_array
from ...backends.devices import to_device
from ...engine.tensor import Tensor


def constant(op: str, name: str, value: Any) -> Any:
    """The array of an argument that gets no gradient. Raises TypeError where one would be expected."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise TypeError(f"{op}: {name} requires a gradient, but it is a constant here; pass {name}.detach()")
        return value.data
    if not hasattr(value, "dtype"):
        raise TypeError(f"{op}: {name} is a {type(value).__name__}; a Tensor or an array is needed")
    return plain_array(f"{op}: {name}", value)


def beside(op: str, name: str, value: Any, x: Any) -> Any:
    """The array `value` where x is: moved to the GPU if x is there. Raises ValueError where only `value` is."""
    device = device_of(x.data if isinstance(x, Tensor) else x)
    if device == "cpu" and device_of(value) == "cuda":
        raise ValueError(f"{op}: {name} is on the GPU, the prediction on the CPU; move one of them with .to")
    return to_device(value, device)


def soft_target(op: str, target: Any, name: str, x: Any) -> Any:
    """`target` as an array of the dtype of x (called `name`), where x is, after checking its shape and values.

    In a NumPy array they must be in 0..1. Booleans and integers, as masks often are, are converted; float32 and float64
    are not mixed.
    """
    target = constant(op, "target", target)
    if target.shape != x.shape:
        # Broadcasting (N, 1) against (N,) would silently compare everything with everything.
        raise ValueError(f"{op}: target has shape {tuple(target.shape)}, {name} has {tuple(x.shape)}; they must agree")
    if target.dtype.kind not in "fbiu" or (target.dtype.kind == "f" and target.dtype != x.dtype):
        raise TypeError(f"{op}: target is {target.dtype}, {name} is {x.dtype}; convert one with .astype")
    check_unit_range(op, "target", target, "a mask of 0 and 255: divide")
    # Moved before it is converted: a mask of bytes is a quarter of one in float32.
    return beside(op, "target", target, x).astype(x.dtype, copy=False)


def class_indices(op: str, target: Any, x: Any, advice: str = "") -> Any:
    """`target` as an array of class indices, where the logits x (..., C) are, after checking its shape and values.

    In a NumPy array they must be in 0 .. C - 1. advice: for the error message; {} stands for the wrong class.
    """
    target = constant(op, "target", target)
    if x.ndim == 0:
        raise ValueError(f"{op}: x has no axes; the last one is needed for the classes")
    if target.shape != x.shape[:-1]:
        cause = "one-hot: target.argmax(-1)" if target.shape == x.shape else "the classes are the last axis of x"
        raise ValueError(
            f"{op}: target has shape {tuple(target.shape)}; x {tuple(x.shape)} needs class indices of shape "
            f"{tuple(x.shape[:-1])} ({cause})"
        )
    if target.dtype.kind not in "iu":
        raise TypeError(f"{op}: target is {target.dtype}; class indices, integers, are needed: .astype('int64')")
    if device_of(target) == "cpu":
        classes = x.shape[-1]
        for value in (int(target.min()), int(target.max())):
            if not 0 <= value < classes:
                known = f"x has {classes} classes, 0 to {classes - 1}"
                raise ValueError(f"{op}: target holds class {value}; {known}{advice.format(value)}")
    return beside(op, "target", target, x)


def check_unit_range(op: str, name: str, values: Any, advice: str, tolerance: float = 0.0) -> None:
    """Raise ValueError unless the values of a NumPy array lie in 0..1. NaN is passed on to the loss."""
    if device_of(values) == "cpu" and (values.min() < -tolerance or values.max() > 1 + tolerance):
        low, high = values.min(), values.max()
        raise ValueError(f"{op}: {name} has values from {low} to {high}; 0..1 is needed ({advice})")


def check_reduction(op: str, reduction: str) -> None:
    """Raise ValueError unless the reduction is "mean", "sum" or "none"."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{op}: reduction is {reduction!r}; 'mean', 'sum' or 'none' is needed")


def check_not_empty(op: str, name: str, x: Any) -> None:
    """A mean over no elements is not defined."""
    if x.size == 0:
        raise ValueError(f"{op}: {name} has shape {tuple(x.shape)}; a loss needs at least one element")
