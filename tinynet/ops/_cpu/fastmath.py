"""exp and its relatives for Numba kernels, fast where speed is needed: float32.

`_shared/formulas.py` has the functions as NumPy sees them; what stands here replaces them in compiled code.

LLVM vectorizes loops of additions and multiplications, but calls the C library element by element for exp;
that is forty times slower. A branch-free polynomial keeps the loop vectorized. float64 is for checking and
takes the C library's function.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from .._shared.formulas import TWO, exp_of_nonpositive, expm1_of_nonpositive, log1p_of_unit, tanh, where

F = np.float32

# What the optimizer may do in element-wise kernels: use fused multiply-add and ignore the sign of zero.
# Not the rest of `fastmath=True`: it would assume that there is no NaN, and hide the ones there are.
ELEMENTWISE = {"contract", "nsz"}


@intrinsic
def _float_of_bits(typing_context, bits):
    """The float32 whose 32 bits are those of an int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@njit(inline="always")
def _two_to_n_and_expm1_r(x):
    """(2^n, exp(r) - 1) with x = n log 2 + r and |r| <= (log 2) / 2: Cody-Waite range reduction and a polynomial.

    The coefficients are the minimax polynomial of the Cephes library's expf.
    """
    x = F(-87) if x < F(-87) else x  # below, 2^n would leave the range of float32; a NaN stays a NaN
    n = np.floor(x * F(1.44269504) + F(0.5))
    r = (x - n * F(0.693359375)) + n * F(2.12194440e-4)  # log 2 in two parts: the first product is exact
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    expm1_r = p * (r * r) + r
    return _float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23)), expm1_r


@njit(inline="always")
def _expm1_float32(x):
    """exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1); error below 2 units in the last place."""
    two_to_n, expm1_r = _two_to_n_and_expm1_r(x)
    return two_to_n * expm1_r + (two_to_n - F(1))


@njit(inline="always")
def _exp_float32(x):
    """exp(x) = 2^n (exp(r) - 1) + 2^n, not 1 + (exp(x) - 1): that would lose the digits of a small exp(x).

    Below -87 the result would leave the normal range of float32; it is 0.
    """
    two_to_n, expm1_r = _two_to_n_and_expm1_r(x)
    return F(0) if x < F(-87) else two_to_n * expm1_r + two_to_n


@overload(expm1_of_nonpositive, inline="always")
def _expm1_of_nonpositive(x):
    if x == types.float32:
        return lambda x: _expm1_float32(x)
    return lambda x: math.expm1(x)


@overload(exp_of_nonpositive, inline="always")
def _exp_of_nonpositive(x):
    if x == types.float32:
        return lambda x: _exp_float32(x)
    return lambda x: math.exp(x)


@njit(inline="always")
def _log1p_of_unit_float32(u):
    """log(1 + u) = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...) with s = u / (2 + u).

    s <= 1/3, so nine terms are enough: the tenth is below 2e-10 of the first.
    """
    s = u / (F(2) + u)
    s2 = s * s
    p = F(1 / 17)
    p = p * s2 + F(1 / 15)
    p = p * s2 + F(1 / 13)
    p = p * s2 + F(1 / 11)
    p = p * s2 + F(1 / 9)
    p = p * s2 + F(1 / 7)
    p = p * s2 + F(1 / 5)
    p = p * s2 + F(1 / 3)
    return F(2) * (s + s * s2 * p)


@overload(log1p_of_unit, inline="always")
def _log1p_of_unit(u):
    if u == types.float32:
        return lambda u: _log1p_of_unit_float32(u)
    return lambda u: math.log1p(u)


@njit(inline="always")
def _tanh(x):
    """-t / (2 + t) with t = exp(-2 |x|) - 1, and the sign of x: see activations/derivation.md."""
    t = expm1_of_nonpositive(TWO * -abs(x))
    size = -t / (TWO + t)
    return -size if x < 0 else size


@overload(tanh, inline="always")
def _overload_tanh(x):
    return lambda x: _tanh(x)


@overload(where, inline="always")
def _where(condition, x, y):
    real = x if isinstance(x, types.Float) else y  # a plain number beside it takes its dtype
    return lambda condition, x, y: real(x) if condition else real(y)
