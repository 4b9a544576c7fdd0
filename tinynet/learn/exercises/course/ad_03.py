"""Broadcasting backwards.

NumPy repeats a (3,) bias to add it to a (2, 3) matrix, and a (2, 1) column to multiply it by a (2, 3) matrix. The
gradient has the shape of the *result*, but is needed in the shape of the argument. The gradient of an element that
was used several times is the sum over all its uses:

    argument (3,)      -> result (2, 3):    g[j]    = sum over i of  gy[i, j]
    argument (2, 1)    -> result (2, 3):    g[i, 0] = sum over j of  gy[i, j]

The rule of broadcasting: shapes are aligned at the *right*; missing axes on the left, and axes of length 1, are
repeated. Write the reverse: sum a gradient down to the shape of the argument.
"""

import numpy as np  # noqa: F401 (a learner may want it)

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers

TEACHES = "repeating forward is summing backward; why biases get sums over everything else"
HINTS = (
    "There are two cases: axes that the argument does not have at all, and axes that it has with length 1.",
    "First sum over the g.ndim - len(shape) leftmost axes. Then sum, with keepdims=True, over each axis whose length "
    "is 1 in `shape`.",
    """
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    ones = tuple(i for i, n in enumerate(shape) if n == 1)
    return g.sum(axis=ones, keepdims=True)
    """,
)


# ---- your file
def sum_to(g, shape):
    """g summed over the axes along which an array of `shape` was repeated; g.shape is the result of broadcasting it.

    Returns an array of exactly that shape.
    """
    # ---- solution
    missing = tuple(range(g.ndim - len(shape)))
    g = g.sum(axis=missing)
    ones = tuple(i for i, n in enumerate(shape) if n == 1)
    return g.sum(axis=ones, keepdims=True)
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "leading axes only",
        "You sum over the axes that are missing on the left, but not over those that have length 1 in `shape`.",
        ("return g.sum(axis=ones, keepdims=True)", "return g"),
    ),
    Wrong(
        "mean",
        "You take the mean. An element that was used n times changes the loss n times: the gradients are added, not "
        "averaged.",
        ("g = g.sum(axis=missing)", "g = g.mean(axis=missing)"),
        ("return g.sum(axis=ones", "return g.mean(axis=ones"),
    ),
    Wrong(
        "first one only",
        "You take the gradient of the first repetition and drop the others; all of them have to be added.",
        (
            "return g.sum(axis=ones, keepdims=True)",
            "return g[tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)]",
        ),
    ),
    Wrong(
        "keepdims forgotten",
        "The axes of length 1 are gone after the sum: the shape must be that of the argument. keepdims=True keeps "
        "them.",
        ("axis=ones, keepdims=True", "axis=ones"),
    ),
    Wrong(
        "aligned at the left",
        "You take the missing axes from the right. Broadcasting aligns shapes at the right, so the missing axes are on "
        "the left.",
        ("tuple(range(g.ndim - len(shape)))", "tuple(range(len(shape), g.ndim))"),
    ),
    Wrong(
        "one missing axis",
        "You sum over one missing axis; there may be several.",
        ("tuple(range(g.ndim - len(shape)))", "tuple(range(min(1, g.ndim - len(shape))))"),
    ),
)
RIGHT = (
    Right(
        "axis by axis",
        (
            "    missing = tuple(range(g.ndim - len(shape)))\n    g = g.sum(axis=missing)\n",
            "    while g.ndim > len(shape):\n        g = g.sum(axis=0)\n",
        ),
    ),
    Right(
        "an empty axis is no axis", ("return g.sum(axis=ones, keepdims=True)", "return g.sum(axis=ones).reshape(shape)")
    ),
)


def probes(rng):
    for shape, whole, axes in (
        ((3,), (3,), "j"),
        ((3,), (3, 3), "j"),  # square: a sum over the wrong axis has the right shape, too
        ((2, 1), (2, 3), "i j"),
        ((1, 3), (2, 3), "i j"),
        ((3,), (2, 4, 3), "c"),
        ((4, 1), (2, 4, 3), "y x"),
        ((1, 1, 4, 1), (2, 3, 4, 5), "n y x c"),
        ((), (2, 3), ""),
    ):
        yield call(f"{shape} was broadcast to {whole}", "sum_to", integers(rng, *whole), shape, gives={"g": axes})


def library():
    from tinynet import tensor
    from tinynet.engine.basic_ops import sum_to

    return {"sum_to": lambda g, shape: sum_to(tensor(g), shape).data}
