"""ELU, forward and backward.

    y = x                      where x > 0
    y = alpha (exp(x) - 1)     where x <= 0

(Clevert, Unterthiner, Hochreiter, ICLR 2016.) For tiny |x| the difference exp(x) - 1 loses its digits; np.expm1(x) does
not. Note that np.where computes both branches: for x = 800, exp(800) must do no harm.

The derivative, again written with the output: for x > 0 it is 1; for x <= 0 it is alpha exp(x) = y + alpha. At x = 0
take the left derivative, as the formula says.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers, kernels_of, reals

TEACHES = "piecewise functions, which side a kink belongs to, and parameters that hide mistakes if they are 1"
HINTS = (
    "np.where(x > 0, ..., ...) for both. In forward, keep large x away from exp: np.minimum(x, 0).",
    "What is alpha exp(x), written with y = alpha (exp(x) - 1)?",
    "forward: `np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))`; backward: gy times 1 or times (y + alpha).",
)
OP = "elu"


# ---- your file
def forward(x, *, alpha):
    """y, of the shape of x. alpha: a positive number."""
    # ---- solution
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    # ---- end of solution


def backward(gy, y, *, alpha):
    """gx from gy and y, the result of forward."""
    # ---- solution
    return np.where(y > 0, gy, gy * (y + alpha))
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "y + 1",
        "You add 1, but alpha exp(x) = y + alpha. With alpha = 1 there is no difference; try another alpha.",
        ("y + alpha", "y + 1"),
    ),
    Wrong(
        "alpha forgotten in forward",
        "alpha is missing in forward: the left branch is alpha (exp(x) - 1).",
        ("alpha * np.expm1", "np.expm1"),
    ),
    Wrong(
        "1 forgotten",
        "The left branch is alpha exp(x) without the - 1: at 0 the function jumps from alpha to 0.",
        ("np.expm1(np.minimum(x, 0))", "np.exp(np.minimum(x, 0))"),
    ),
    Wrong(
        "digits lost",
        "exp(x) - 1 cancels: for x = -1e-12 only four digits are left. np.expm1(x) keeps all digits.",
        ("np.expm1(np.minimum(x, 0))", "(np.exp(np.minimum(x, 0)) - 1)"),
    ),
    Wrong(
        "the kink on the other side",
        "At y = 0 you take the right-hand derivative, 1. The formula has x <= 0 on the left: alpha.",
        ("y > 0", "y >= 0"),
    ),
    Wrong(
        "0 times infinity",
        "A branch that is not taken is multiplied by 0, but exp overflows there, and 0 times inf is NaN. "
        "np.where chooses instead; or keep large x away from exp.",
        ("np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))", "(x > 0) * x + (x <= 0) * alpha * np.expm1(x)"),
    ),
    Wrong(
        "exp of the output",
        "backward gets y, not x: alpha exp(y) is not the derivative. Written with y, the derivative is y + alpha.",
        ("gy * (y + alpha)", "gy * alpha * np.exp(y)"),
    ),
)
RIGHT = (
    Right("np.where chooses, overflow does not matter", ("np.expm1(np.minimum(x, 0))", "np.expm1(x)")),
    Right("from a copy", ("np.where(y > 0, gy, gy * (y + alpha))", "gy * np.where(y > 0, 1.0, y + alpha)")),
)


def probes(rng):
    x = integers(rng, 2, 3)
    x[0, :2] = -2.0, 3.0  # one value on each side
    yield call("alpha = 1", "forward", x, alpha=1.0, gives={"y": "row column"})
    yield call("alpha = 0.5", "forward", x, alpha=0.5, gives={"y": "row column"})
    yield call("tiny negative numbers", "forward", -1e-12 * np.arange(1.0, 4.0), alpha=2.0, gives={"y": "i"})
    yield call("zero and large numbers", "forward", np.array([-800.0, 0.0, 800.0]), alpha=2.0, gives={"y": "i"})
    yield call("four axes", "forward", reals(rng, 2, 3, 4, 2), alpha=1.5, gives={"y": "n y x c"})
    y = np.array([[-0.5, 2.0, -0.25], [1.0, -0.75, 3.0]])
    gy = integers(rng, 2, 3)
    yield call("alpha = 1", "backward", gy, y, alpha=1.0, gives={"gx": "row column"}, gy="row column")
    yield call("alpha = 2", "backward", gy, 2 * y, alpha=2.0, gives={"gx": "row column"}, gy="row column")
    yield call("y = 0, alpha = 0.5", "backward", np.array([3.0]), np.array([0.0]), alpha=0.5, gives={"gx": "i"}, gy="i")


def library():
    return kernels_of("elu", "forward", "backward")
