"""How much arithmetic a kernel does: the numerator of GFLOP/s.

A convolution counts two operations (multiply, add) for each tap that meets a channel, as if each were done in turn
and none fell into the padding. Winograd's trick needs fewer multiplications; it is counted the same, so that its
GFLOP/s can be compared, and may exceed what the machine can do. matmul counts two for each term of each sum, and lstm
those of its products with the recurrent weights: one forwards, two on the way back. All other kernels count one
operation for each number of their result: for them memory is what matters.

What is not counted: the ELU and dropout of a fused convolution, and all of a kernel that works in place and returns
nothing (a step of Adam has 0 GFLOP/s). The bytes of `bench ops` are those of the arguments and the result, each once:
what Adam writes back into its arguments, and what any kernel keeps for itself on the way, is not among them.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

RESULT = -1
# Every convolution slides over one image, each of whose numbers (a pixel's channel) meets KH x KW x C weights: in
# conv2d that image is y, in a transposed convolution x. The table says which of the arguments are the image and the
# weights, or whether they are the result.
CONVOLUTIONS = {
    ("conv2d", "forward"): (RESULT, 1),
    ("conv2d", "backward_input"): (0, 1),
    ("conv2d", "backward_weight"): (1, RESULT),
    ("conv_transpose2d", "forward"): (0, 1),
    ("conv_transpose2d", "backward_input"): (RESULT, 1),
    ("conv_transpose2d", "backward_weight"): (0, RESULT),
}


def flops(op: str, kernel: str, arrays: tuple, parameters: dict[str, Any], result: Any) -> int:
    """The floating-point operations of one call. arrays, parameters, result: as the kernel took and gave them."""
    first = result[0] if isinstance(result, tuple) else result
    if op == "matmul":
        return 2 * first.size * arrays[0].shape[-2 if parameters.get("transpose_x") else -1]
    if op == "lstm":  # weight (H, 4 H); gates (T, N, 4 H) are the second of what forward gives, ga the first backward
        hidden = next(a.shape[0] for a in arrays if a is not None and a.ndim == 2 and a.shape[1] == 4 * a.shape[0])
        return 2 * result[1].size * hidden if kernel == "forward" else 4 * first.size * hidden
    if (op, kernel) in CONVOLUTIONS:
        image, weights = CONVOLUTIONS[op, kernel]
        values = (*arrays, first)
        return 2 * values[image].size * prod(values[weights].shape[:3])
    return first.size if isinstance(first, np.ndarray) else 0  # 0 where nothing is returned
