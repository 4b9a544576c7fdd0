"""Backward of a matrix product.

    y[i, j] = sum over k of x[i, k] w[k, j]              y = x w,  x (I, K), w (K, J)

By the chain rule, summed over all y that depend on an element:

    gx[i, k] = sum over j of gy[i, j] w[k, j]            gw[k, j] = sum over i of x[i, k] gy[i, j]

Write both as matrix products. x may have more leading axes, (N, I, K). Then y and gy have them too, and all N products
use the same w (`x @ w` of NumPy repeats w).
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers

TEACHES = "transposes come from which index is summed; a shared weight adds up over the batch"
HINTS = (
    "Which index is summed in gx? It must be the inner one of a matrix product: write w with its axes exchanged.",
    "gx = gy w^T and gw = x^T gy, for matrices. With more axes gx needs no change.",
    "For gw make two matrices of x and gy first: x.reshape(-1, K) and gy.reshape(-1, J). The sum over i then runs "
    "over the whole batch.",
)


# ---- your file
def backward_matmul(gy, x, w):
    """(gx, gw) for y = x @ w; x (..., I, K), w (K, J), gy (..., I, J)."""
    # ---- solution
    gx = gy @ w.T
    gw = x.reshape(-1, x.shape[-1]).T @ gy.reshape(-1, gy.shape[-1])
    return gx, gw
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "w not transposed",
        "gx uses w, but it needs w transposed. With a square w the shapes fit in both cases, and only the values "
        "show the mistake.",
        ("gy @ w.T", "gy @ w"),
    ),
    Wrong(
        "mean over the batch",
        "gw is averaged over the batch. The mean is part of the loss, so gy contains it already; here it is a sum.",
        ("@ gy.reshape(-1, gy.shape[-1])", "@ gy.reshape(-1, gy.shape[-1]) / (x.size / x.shape[-2] / x.shape[-1])"),
    ),
    Wrong(
        "first of the batch",
        "gw uses only the first product of the batch; all products used w, so all add to its gradient.",
        (
            "gw = x.reshape(-1, x.shape[-1]).T @ gy.reshape(-1, gy.shape[-1])",
            "first = (0,) * (x.ndim - 2)\n    gw = x[first].T @ gy[first]",
        ),
    ),
    Wrong(
        "gw transposed",
        "gw has its axes exchanged: it is gy^T x. If w is square, the shape does not show it.",
        ("    return gx, gw", "    return gx, gw.T"),
    ),
    Wrong(
        "gy ignored in gx",
        "gx sums over the columns of w without multiplying by gy: it is the gradient for a gy of ones.",
        ("gy @ w.T", "np.ones(gy.shape) @ w.T"),
    ),
    Wrong(
        "gy ignored in gw",
        "gw sums over the rows of x without multiplying by gy: it is the gradient for a gy of ones.",
        ("@ gy.reshape(-1, gy.shape[-1])", "@ np.ones(gy.shape).reshape(-1, gy.shape[-1])"),
    ),
)
RIGHT = (
    Right(
        "a sum over products",
        (
            "gw = x.reshape(-1, x.shape[-1]).T @ gy.reshape(-1, gy.shape[-1])",
            "gw = np.swapaxes(x, -1, -2) @ gy\n    gw = gw.reshape(-1, *gw.shape[-2:]).sum(axis=0)",
        ),
    ),
    Right("einsum", ("gy @ w.T", 'np.einsum("...ij,kj->...ik", gy, w)')),
)


def probes(rng):
    gives = {"gx": "i k", "gw": "k j"}
    for label, I, K, J in (("2 x 3 times 3 x 4", 2, 3, 4), ("w is square", 2, 3, 3), ("one row", 1, 4, 2)):
        gy, x, w = integers(rng, I, J), integers(rng, I, K), integers(rng, K, J)
        yield call(label, "backward_matmul", gy, x, w, gives=gives, gy="i j")
    gy, x, w = integers(rng, 5, 2, 4), integers(rng, 5, 2, 3), integers(rng, 3, 4)
    yield call("a batch of 5", "backward_matmul", gy, x, w, gives={**gives, "gx": "n i k"}, gy="n i j")
    gy, x, w = integers(rng, 3, 2, 2, 2), integers(rng, 3, 2, 2, 2), integers(rng, 2, 2)
    yield call(
        "two leading axes, all square", "backward_matmul", gy, x, w, gives={**gives, "gx": "m n i k"}, gy="m n i j"
    )


def library():
    from tinynet import matmul, tensor
    from tinynet.engine.tensor import grad

    def backward_matmul(gy, x, w):
        x, w = tensor(x, requires_grad=True), tensor(w, requires_grad=True)
        return tuple(np.asarray(g.data) for g in grad(matmul(x, w), [x, w], gy))

    return {"backward_matmul": backward_matmul}
