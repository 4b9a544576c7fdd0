"""Dropout, forward and backward.

In training each element is dropped with probability p. The others are divided by 1 - p, so that the mean stays the
same, and inference needs neither dropout nor rescaling:

    y[i] = 0                  where u[i] < p
    y[i] = x[i] / (1 - p)     elsewhere

u holds random numbers between 0 and 1, one for each element. Here it is an argument: forward and backward of one
step get the same u. A dropped element is 0 for every x, including infinity and NaN.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers

TEACHES = "randomness is an input; backward must use the same mask; inverted scaling"
HINTS = (
    "For a given u dropout is linear: each element is multiplied by 0 or by 1 / (1 - p). What is the derivative of "
    "that?",
    "backward is the forward formula applied to gy, with the same u.",
    "`np.where(u < p, 0.0, x / (1 - p))`: a product with a mask would turn a dropped infinity into NaN.",
)
OP = "dropout"
# tinynet's own dropout draws the same random numbers for this key and step, so that the two can be compared.
KEY = {"seed": 7, "stream": 3, "step": 11}


# ---- your file
def forward(x, u, *, p):
    """y, of the shape of x. u: random numbers in 0 .. 1, of the shape of x. p: from 0 to below 1."""
    # ---- solution
    return np.where(u < p, 0.0, x / (1 - p))
    # ---- end of solution


def backward(gy, u, *, p):
    """gx from gy; u and p as in forward."""
    # ---- solution
    return np.where(u < p, 0.0, gy / (1 - p))
    # ---- end of solution


# ---- end of your file


_FORWARD, _BACKWARD = "np.where(u < p, 0.0, x / (1 - p))", "np.where(u < p, 0.0, gy / (1 - p))"
WRONG = (
    Wrong(
        "not rescaled",
        "The elements that stay are not divided by 1 - p: the mean becomes smaller, and so do the inputs of all later "
        "layers.",
        (_FORWARD, "np.where(u < p, 0.0, x)"),
    ),
    Wrong(
        "divided by p",
        "You divide by p. An element stays with probability 1 - p, so dividing by 1 - p restores the mean (p = 0.5 "
        "hides the mistake).",
        (_FORWARD, "np.where(u < p, 0.0, x / p)"),
    ),
    Wrong(
        "divided by the share",
        "You divide by the share of elements that stayed this time. Divide by 1 - p, which it is on average: otherwise "
        "every element depends on what was drawn for the others.",
        (_FORWARD, "np.where(u < p, 0.0, x / max(np.mean(u >= p), 1e-9))"),
    ),
    Wrong(
        "kept for dropped",
        "You keep the elements with u < p, so that a fraction 1 - p is dropped instead of p (p = 0.5 hides the "
        "mistake).",
        (_FORWARD, "np.where(u < p, x / (1 - p), 0.0)"),
    ),
    Wrong(
        "factor in forward only",
        "backward lacks the factor 1 / (1 - p): it is part of the function, hence of its derivative.",
        (_BACKWARD, "np.where(u < p, 0.0, gy)"),
    ),
    Wrong(
        "gy passed on",
        "backward returns gy unchanged. A dropped element has no influence on the loss: its gradient is 0.",
        (_BACKWARD, "1 * gy"),
    ),
    Wrong(
        "mask inverted in backward",
        "backward keeps the elements that forward dropped: both must use the same mask.",
        (_BACKWARD, "np.where(u < p, gy / (1 - p), 0.0)"),
    ),
    Wrong(
        "multiplied by a mask",
        "You multiply by a mask of zeros and ones. A dropped infinity becomes 0 times inf = NaN; np.where drops it.",
        (_FORWARD, "x * (u >= p) / (1 - p)"),
    ),
    Wrong(
        "gy ignored",
        "backward returns the mask without gy: the derivative of y, not of the loss.",
        (_BACKWARD, "np.where(u < p, 0.0, 1 / (1 - p))"),
    ),
)
RIGHT = (
    Right(
        "fill and assign",
        ("    return " + _FORWARD, "    y = x / (1 - p)\n    y[u < p] = 0\n    return y"),
        ("    return " + _BACKWARD, "    return forward(gy, u, p=p)"),
    ),
)


def probes(rng):
    for label, shape, axes, p in (
        ("p = 0.5", (2, 4), "row column", 0.5),
        ("p = 0.25", (2, 4), "row column", 0.25),
        ("p = 0: everything stays", (3,), "i", 0.0),
        ("four axes, p = 0.75", (2, 3, 4, 2), "n y x c", 0.75),
    ):
        yield call(label, "forward", integers(rng, *shape), numbers(shape, **KEY), p=p, gives={"y": axes})
        yield call(label, "backward", integers(rng, *shape), numbers(shape, **KEY), p=p, gives={"gx": axes}, gy=axes)
    u = numbers((5,), **KEY)  # three of these five are dropped
    label = "more is dropped than p = 0.5"
    yield call(label, "forward", integers(rng, 5), u, p=0.5, gives={"y": "i"})
    yield call(label, "backward", integers(rng, 5), u, p=0.5, gives={"gx": "i"}, gy="i")
    u = numbers((8,), **KEY)
    x = np.where(u < 0.5, np.inf, 2.0)
    yield call("infinity where it is dropped", "forward", x, u, p=0.5, gives={"y": "i"})


def numbers(shape, seed, stream, step, first=0):
    """The random numbers of tinynet's dropout as fractions of 1."""
    from tinynet.ops.dropout.reference import _words

    return _words(int(np.prod(shape)), seed, stream, step, first).reshape(shape) / 2**32


def library():
    from tinynet.ops.dropout import reference

    def dropout(x, u, *, p):
        return reference.forward(x, p=p, **KEY)

    return {"forward": dropout, "backward": dropout}


def kernels(functions):
    """tinynet draws its mask itself, and uses one kernel for both directions."""

    def forward(x, *, p, **key):
        return functions["forward"](x, numbers(x.shape, **key), p=p)

    return {"forward": forward}
