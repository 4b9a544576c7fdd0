"""Initial values of weights.

A layer computes y = sum of `fan_in` products w * x. If x and w are independent and w has mean zero, then
var(y) = fan_in * var(w) * E[x^2], so the size of the signal is kept from layer to layer when var(w) is chosen
to match. The backward pass has the same sum over `fan_out` products.

* He: ReLU and its relatives set half of the signal to zero, so var(w) = 2 / fan_in.
  He et al., Delving Deep into Rectifiers, 2015, section 2.2.
* Glorot: for layers that are nearly linear, a compromise between the two passes,
  var(w) = 2 / (fan_in + fan_out). Glorot and Bengio, Understanding the difficulty of training deep
  feedforward neural networks, 2010, section 4.2.1.

The normal distributions are truncated at two standard deviations, so that no weight starts far from zero, and widened
to keep the variance above. Keras does the same. Every call draws from a new random stream, which `tn.seed` determines.
"""

from __future__ import annotations

import math

import numpy as np

from ..engine.foreign import module_getattr
from ..engine.random import generator

__getattr__ = module_getattr(__name__)

# The standard deviation of a standard normal cut off at -2 and 2: sqrt(1 - 2 * 2 phi(2) / (2 Phi(2) - 1)).
_STD_OF_TRUNCATED = 0.87962566103423978


def fans(shape: tuple[int, ...], transposed: bool = False, groups: int = 1) -> tuple[float, float]:
    """(fan_in, fan_out): how many inputs one output reads, and how many outputs read one input.

    shape: of the weight: (in, out) of a Linear; (KH, KW, C_in / groups, C_out) of a convolution, or with
    transposed=True (KH, KW, C_out / groups, C_in). Strides and padding are ignored, as in other frameworks.
    Raises ValueError for a shape with fewer than two axes.
    """
    if len(shape) < 2:
        raise ValueError(f"fans: a weight has at least two axes (in, out), the shape given is {shape}")
    taps = math.prod(shape[:-2])
    near, far = taps * shape[-2], taps * shape[-1] / groups
    return (far, near) if transposed else (near, far)


def he_normal(shape: tuple[int, ...], transposed: bool = False, groups: int = 1) -> np.ndarray:
    """float32 weights with variance 2 / fan_in, truncated normal. Arguments as in `fans`."""
    fan_in, _ = fans(shape, transposed, groups)
    return _truncated_normal(shape, 2 / fan_in)


def he_uniform(shape: tuple[int, ...], transposed: bool = False, groups: int = 1) -> np.ndarray:
    """float32 weights with variance 2 / fan_in, uniform. Arguments as in `fans`."""
    fan_in, _ = fans(shape, transposed, groups)
    return _uniform(shape, 2 / fan_in)


def glorot_normal(shape: tuple[int, ...], transposed: bool = False, groups: int = 1) -> np.ndarray:
    """float32 weights with variance 2 / (fan_in + fan_out), truncated normal. Arguments as in `fans`."""
    return _truncated_normal(shape, 2 / sum(fans(shape, transposed, groups)))


def glorot_uniform(shape: tuple[int, ...], transposed: bool = False, groups: int = 1) -> np.ndarray:
    """float32 weights with variance 2 / (fan_in + fan_out), uniform. Arguments as in `fans`."""
    return _uniform(shape, 2 / sum(fans(shape, transposed, groups)))


def orthogonal(shape: tuple[int, int]) -> np.ndarray:
    """A random orthogonal float32 matrix (n, n): it keeps the length of vectors. For the weights of a recurrent state.

    It is Q of the QR decomposition of a normal random matrix, with the signs of R's diagonal, so that every orthogonal
    matrix is equally likely.
    Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear neural networks, 2014.
    Raises ValueError for a shape that is not square.
    """
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"orthogonal: a square matrix is needed, the shape given is {shape}")
    q, r = np.linalg.qr(generator().standard_normal(shape))
    return (q * np.sign(np.diag(r))).astype(np.float32)


def _truncated_normal(shape: tuple[int, ...], variance: float) -> np.ndarray:
    rng = generator()
    z = rng.standard_normal(math.prod(shape))
    far = np.flatnonzero(np.abs(z) > 2)  # about 1 value in 22
    while len(far):
        z[far] = rng.standard_normal(len(far))
        far = far[np.abs(z[far]) > 2]
    return (z.reshape(shape) * (math.sqrt(variance) / _STD_OF_TRUNCATED)).astype(np.float32)


def _uniform(shape: tuple[int, ...], variance: float) -> np.ndarray:
    limit = math.sqrt(3 * variance)  # the variance of a uniform distribution on -limit .. limit is limit^2 / 3
    return generator().uniform(-limit, limit, shape).astype(np.float32)
