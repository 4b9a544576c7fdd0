"""The floating-point operations of a kernel call: the numerator of GFLOP/s.

A convolution counts two operations (multiply, add) for each tap and channel, as if none fell into the padding. Winograd
needs fewer multiplications, but counts the same, so that its GFLOP/s can be compared; they may exceed what the machine
can do. matmul counts two for each product of two elements, lstm its products with the recurrent weights: one forward,
two backward. Every other kernel counts one operation for each element of the largest array that it reads or writes,
because memory limits it; a list of arrays, such as the parameters of an optimizer, counts as one array.

Not counted: the epilogue of a convolution. The bytes of `bench ops` are the bytes of the arguments and the result, each
once; an array that a kernel changes in place is an argument, and counts once.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

RESULT = -1
# Each element of one image meets KH x KW x C weights: the image is y in conv2d, and x in a transposed convolution. The
# table says which arguments are the image and the weights, or RESULT.
CONVOLUTIONS = {
    ("conv2d", "forward"): (RESULT, 1),
    ("conv2d", "backward_input"): (0, 1),
    ("conv2d", "backward_weight"): (1, RESULT),
    ("conv3d", "forward"): (RESULT, 1),
    ("conv3d", "backward_input"): (0, 1),
    ("conv3d", "backward_weight"): (1, RESULT),
    ("conv_transpose2d", "forward"): (0, 1),
    ("conv_transpose2d", "backward_input"): (RESULT, 1),
    ("conv_transpose2d", "backward_weight"): (0, RESULT),
}


def flops(op: str, kernel: str, arrays: tuple, parameters: dict[str, Any], result: Any) -> int:
    """The floating-point operations of one call, from a kernel's positional and keyword arguments and its result."""
    first = result[0] if isinstance(result, tuple) else result
    if op == "matmul":
        return 2 * first.size * arrays[0].shape[-2 if parameters.get("transpose_x") else -1]
    if op == "lstm":  # weight (H, 4 H); gates (T, N, 4 H) are the second of what forward gives, ga the first backward
        hidden = next(a.shape[0] for a in arrays if a is not None and a.ndim == 2 and a.shape[1] == 4 * a.shape[0])
        return 2 * result[1].size * hidden if kernel == "forward" else 4 * first.size * hidden
    if (op, kernel) in CONVOLUTIONS:
        image, weights = CONVOLUTIONS[op, kernel]
        values = (*arrays, first)
        return 2 * values[image].size * prod(values[weights].shape[:-1])
    results = result if isinstance(result, tuple) else (result,)
    return max(_elements(value) for value in (*arrays, *results))


def _elements(value: Any) -> int:
    """The elements of an array, or of all arrays in a list; 0 for anything else."""
    if isinstance(value, (list, tuple)):
        return sum(map(_elements, value))
    return value.size if isinstance(value, np.ndarray) else 0
