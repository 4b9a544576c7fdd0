"""The op folders of tinynet/ops, the tiers and implementations of their kernels, and how to compare results."""

from __future__ import annotations

import contextlib
import functools

import numpy as np
import pytest

from tinynet import cusim
from tinynet.backends.arrays import array_module
from tinynet.backends.cuda.detect import GpuMissing, require_gpu
from tinynet.backends.devices import to_device
from tinynet.backends.launch import address
from tinynet.backends.registry import TIERS, implementations, is_differentiable, ops
from tinynet.learn.gradcheck.tiers import rounding
from tinynet.ops._shared.case import map_arrays

# Operations on Tensors; the other folders hold kernels that are never differentiated, such as the optimizer's.
DIFFERENTIABLE = [op for op in ops() if is_differentiable(op)]
FAST_TIERS = [tier for tier in TIERS if tier != "reference"]


@functools.cache
def missing(tier: str) -> str | None:
    """What this machine lacks to run a tier, as a sentence; None where it can."""
    try:
        if tier == "cuda":
            require_gpu()
        if tier == "cuda-sim":
            cusim.compiler()
    except (GpuMissing, cusim.CompilerMissing) as error:
        return str(error)
    return None


def on(tier: str, *values, **settings):
    """A parameter of a test that runs in a tier: skipped, with the reason, where this machine cannot."""
    reason = missing(tier)
    marks = [pytest.mark.skip(reason=reason)] if reason else []
    return pytest.param(*values, marks=marks, **settings)


IMPLEMENTATIONS = [
    on(tier, op, tier, name, id=f"{op}-{tier}-{name}")
    for op in ops()
    for tier in FAST_TIERS
    for name in implementations(op, tier)
]


def checks(tier: str, order: str) -> contextlib.AbstractContextManager:
    """In the emulator, run with all its checks and the threads in this order; elsewhere nothing."""
    return cusim.checked(order=order, seed=1) if tier == "cuda-sim" else contextlib.nullcontext()


def place(value, tier: str):
    """The value where the tier wants its arrays: on the GPU for `cuda`, else where they are; in lists too."""
    return map_arrays(lambda a: to_device(a, "cuda"), value) if tier == "cuda" else value


def fetch(value):
    """The value with its arrays back in NumPy."""
    return map_arrays(lambda a: to_device(a, "cpu"), value)


def misaligned(x: np.ndarray, tier: str = "cuda-sim"):
    """The same elements in the tier's memory, contiguous, one element behind a multiple of 16 bytes."""
    memory = place(np.zeros(x.size + 16, x.dtype), tier)
    start = -address(memory) % 16 // x.itemsize + 1
    view = memory[start : start + x.size].reshape(x.shape)
    view[...] = place(x, tier)
    return view


def cast(value, dtype):
    """Float arrays in `dtype`, those in a list or tuple too; everything else as it is."""
    return map_arrays(lambda a: a.astype(dtype) if a.dtype.kind == "f" else a, value)


def spread(value):
    """The same values in memory that is not contiguous along any axis."""
    return map_arrays(_spread, value)


def _spread(array):
    if array.ndim == 0:
        return array
    wide = array_module(array).zeros([2 * n for n in array.shape], array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def tolerance(dtype, terms: int, implementation: str | None = None) -> float:
    """Rounding errors of a sum grow like the square root of its length when their signs are random.

    implementation: of the kernel; tensor cores (`tf32`) round float32's factors to 10 bits of mantissa.
    """
    return 8 * rounding(dtype, implementation) * max(1.0, np.sqrt(terms))


def assert_close(actual, expected, dtype, terms, what, implementation=None):
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, the reference has {expected.shape}"
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        return
    scale = np.max(np.abs(expected), initial=1.0)
    atol = tolerance(dtype, terms, implementation)
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=atol, err_msg=what)
