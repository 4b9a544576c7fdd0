"""Backward of addition and multiplication.

A backward function gets gy = dL/dy, the derivative of the loss L with respect to the result y, and returns the
derivative of L with respect to each argument. By the chain rule, for every element

    gx = gy dy/dx1        (one such product for each argument)

Write it for y = x1 + x2 and for y = x1 x2, both element by element, with arrays of equal shape.
"""

import numpy as np  # noqa: F401 (a learner may want it)

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers

TEACHES = "the chain rule as code: upstream gradient times local derivative, for each argument"
HINTS = (
    "What is dy/dx1 of x1 + x2? And of x1 x2? The other argument counts as a constant.",
    "Addition: both derivatives are 1. Multiplication: dy/dx1 = x2 and dy/dx2 = x1.",
    "`return gy, gy` for the sum; for the product multiply gy by the *other* argument.",
)


# ---- your file
def backward_add(gy, x1, x2):
    """(gx1, gx2) for y = x1 + x2; all arrays have one shape."""
    # ---- solution
    return gy, gy
    # ---- end of solution


def backward_mul(gy, x1, x2):
    """(gx1, gx2) for y = x1 * x2, element by element; all arrays have one shape."""
    # ---- solution
    return gy * x2, gy * x1
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "own argument",
        "You multiply by the argument itself. If x1 changes, y = x1 x2 changes by x2 times as much: the factor is the "
        "*other* argument.",
        ("gy * x2, gy * x1", "gy * x1, gy * x2"),
    ),
    Wrong(
        "gy ignored",
        "The upstream gradient gy is not used: this is dy/dx, not dL/dx. A test with gy = 1 would not detect it.",
        ("gy * x2, gy * x1", "x2, x1"),
    ),
    Wrong(
        "added, not multiplied",
        "The chain rule multiplies the upstream gradient by the local derivative; you add the two.",
        ("gy * x2, gy * x1", "gy + x2, gy + x1"),
    ),
    Wrong(
        "ones for a sum",
        "The local derivative of a sum is 1, but it has to be multiplied by gy; you return the ones.",
        ("return gy, gy", "return gy * 0 + 1, gy * 0 + 1"),
    ),
    Wrong(
        "shared out",
        "You divide gy between the two arguments, half each. Each of them changes y by its full amount, so each gets "
        "all of gy.",
        ("return gy, gy", "return gy / 2, gy / 2"),
    ),
    Wrong(
        "subtraction",
        "The second gradient has the wrong sign: that is the backward of x1 - x2.",
        ("return gy, gy", "return gy, -gy"),
    ),
)
RIGHT = (Right("copies", ("return gy, gy", "return gy.copy(), 1 * gy")),)


def probes(rng):
    for label, shape, axes in (("three numbers", (3,), "i"), ("a matrix", (2, 3), "row column")):
        gy, x1, x2 = (integers(rng, *shape) for _ in range(3))
        yield call(f"sum, {label}", "backward_add", gy, x1, x2, gives={"add: gx1": axes, "add: gx2": axes}, gy=axes)
        yield call(f"product, {label}", "backward_mul", gy, x1, x2, gives={"mul: gx1": axes, "mul: gx2": axes}, gy=axes)


def library():
    from tinynet import tensor
    from tinynet.engine.basic_ops import add, mul
    from tinynet.engine.tensor import grad

    def backward(op):
        def gradients(gy, x1, x2):
            x1, x2 = tensor(x1, requires_grad=True), tensor(x2, requires_grad=True)
            return tuple(g.data for g in grad(op(x1, x2), [x1, x2], gy))

        return gradients

    return {"backward_add": backward(add), "backward_mul": backward(mul)}
