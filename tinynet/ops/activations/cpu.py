"""Activations in Numba: loops around the formulas of the entries, over ranges of flat arrays, in parallel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from numba import njit

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu import fastmath  # noqa: F401 (how Numba compiles the functions that the formulas are written with)
from .._cpu.elementwise import range_count, range_of
from .._cpu.fastmath import ELEMENTWISE
from .entries import ACTIVATIONS
from .op import Activation

U = np.uint64


def _inlined(activation: type[Activation]) -> tuple[Callable, Callable]:
    """value(x, p) and gradient(gy, y, p), p a tuple of the parameters, which become part of the loop that calls them.

    If they stayed functions, LLVM would optimize them before the loop: measured, the sigmoid is then 15 % slower.
    Numba does not inline a call with a star, so the number of parameters is fixed here.
    """
    inlined = njit(inline="always")
    value, gradient = inlined(activation.value), inlined(activation.gradient)
    if activation.has_parameter:
        return inlined(lambda x, p: value(x, p[0])), inlined(lambda gy, y, p: gradient(gy, y, p[0]))
    return inlined(lambda x, p: value(x)), inlined(lambda gy, y, p: gradient(gy, y))


def _loops(activation: type[Activation]) -> SimpleNamespace:
    """forward and backward over flat arrays, and forward_range, the work of one thread.

    p is the tuple of the parameters. Arrays are flat and contiguous, of one dtype, which the parameters have, too. The
    result may be one of them.

    `forward_range` is for other kernels as well. It becomes part of the caller, whose `fastmath` counts, because the
    compiler then sees whether two arrays are the same one: it would not vectorize a loop over arrays that may overlap.
    The index is unsigned: for a signed one, Numba would test whether it is negative.
    """
    value, gradient = _inlined(activation)

    @jit(inline="always")
    def forward_range(x, start, stop, p, y):
        for i in range(U(start), U(stop)):
            y[i] = value(x[i], p)

    @jit(separate=True, fastmath=ELEMENTWISE)
    def forward_task(r, x, p, y):
        first, end = range_of(r, x.size)
        forward_range(x, first, end, p, y)

    @jit(separate=True, fastmath=ELEMENTWISE)
    def backward_task(r, gy, y, p, gx):
        first, end = range_of(r, y.size)
        for i in range(first, end):
            gx[i] = gradient(gy[i], y[i], p)

    @jit
    def forward(x, p, y):
        in_parallel(forward_task, range_count(x.size), (x, p, y))

    @jit
    def backward(gy, y, p, gx):
        in_parallel(backward_task, range_count(y.size), (gy, y, p, gx))

    return SimpleNamespace(forward_range=forward_range, forward=forward, backward=backward)


def _run(loop: Callable, arrays: tuple[np.ndarray, ...], parameters: tuple[float, ...]) -> np.ndarray:
    """loop(*flat arrays, parameters, flat result); parameters and result have the dtype of the first array."""
    first = arrays[0]
    result = memory.empty(first.shape, first.dtype)
    flat = [a.ravel() for a in arrays]  # contiguous: a view where it can be
    loop(*flat, tuple([first.dtype.type(p) for p in parameters]), result.reshape(-1))
    return result


def _kernels(activation: type[Activation], loops: SimpleNamespace) -> SimpleNamespace:
    """The kernels `forward` and `backward`, with the parameters of the formulas."""

    @functools.wraps(activation.value)
    def forward(x, *parameter, **named):
        return _run(loops.forward, (x,), (*parameter, *named.values()))

    @functools.wraps(activation.gradient)
    def backward(gy, y, *parameter, **named):
        return _run(loops.backward, (gy, y), (*parameter, *named.values()))

    return SimpleNamespace(forward=forward, backward=backward)


LOOPS = {op: _loops(activation) for op, activation in ACTIVATIONS.items()}
PARTS = {op: _kernels(activation, LOOPS[op]) for op, activation in ACTIVATIONS.items()}
# For other kernels, which apply an activation to a piece of their result: conv2d and lstm.
elu_range, sigmoid_range, tanh_range = (LOOPS[op].forward_range for op in ("elu", "sigmoid", "tanh"))
