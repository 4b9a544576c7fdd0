"""The sigmoid, forward and backward.

    y = 1 / (1 + exp(-x))

turns any number into one between 0 and 1. This formula is dangerous: exp(-x) overflows for x below -709. Here the
result is still right (1 / inf is 0), but exp(x) / (1 + exp(x)) becomes inf / inf = NaN. It is safe to call exp only
with numbers that are not positive: exp(-|x|).

The derivative can be written with the *result* y alone, which backward gets as an argument:

    dy/dx = exp(-x) / (1 + exp(-x))^2 = y (1 - y)
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers, kernels_of, reals

TEACHES = "numerical stability; a backward that needs only the output"
HINTS = (
    "Let e = exp(-|x|), which is never larger than 1. What is y for x >= 0, written with e? And for x < 0?",
    "x >= 0: y = 1 / (1 + e). x < 0: y = e / (1 + e). np.where chooses element by element.",
    "backward: `return gy * y * (1 - y)`; y is the result of forward, so exp is not needed again.",
)
OP = "sigmoid"


# ---- your file
def forward(x):
    """y = 1 / (1 + exp(-x)) for an array of any shape; never NaN for finite x."""
    # ---- solution
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)
    # ---- end of solution


def backward(gy, y):
    """gx from gy = dL/dy and y, the result of forward."""
    # ---- solution
    return gy * y * (1 - y)
    # ---- end of solution


# ---- end of your file


_BODY = "    e = np.exp(-np.abs(x))\n    return np.where(x < 0, e, 1) / (1 + e)\n"
WRONG = (
    Wrong(
        "exp(x) / (1 + exp(x))",
        "For large x this is inf / inf = NaN. Call exp only with numbers that are not positive: exp(-|x|).",
        (_BODY, "    return np.exp(x) / (1 + np.exp(x))\n"),
    ),
    Wrong(
        "sign in forward",
        "The sigmoid is mirrored: this is 1 / (1 + exp(x)), which decreases instead of increasing.",
        ("x < 0", "x > 0"),
    ),
    Wrong(
        "sigmoid applied again",
        "backward gets y, the result of forward, and you apply the sigmoid to it again. The derivative is y (1 - y) "
        "with y itself.",
        ("return gy * y * (1 - y)", "y = forward(y)\n    return gy * y * (1 - y)"),
    ),
    Wrong(
        "gy ignored",
        "y (1 - y) is dy/dx. It has to be multiplied by the upstream gradient gy.",
        ("gy * y * (1 - y)", "y * (1 - y)"),
    ),
    Wrong(
        "derivative of tanh",
        "1 - y^2 is the derivative of tanh. The sigmoid has y (1 - y).",
        ("gy * y * (1 - y)", "gy * (1 - y * y)"),
    ),
    Wrong(
        "one factor",
        "The derivative is y (1 - y); you left out the factor y.",
        ("gy * y * (1 - y)", "gy * (1 - y)"),
    ),
    Wrong(
        "the other factor",
        "The derivative is y (1 - y); you left out the factor 1 - y.",
        ("gy * y * (1 - y)", "gy * y"),
    ),
)
RIGHT = (
    Right("with tanh", (_BODY, "    return (1 + np.tanh(x / 2)) / 2\n")),
    Right("overflow that does no harm", (_BODY, "    return 1 / (1 + np.exp(-x))\n")),
)


def probes(rng):
    yield call("whole numbers", "forward", integers(rng, 2, 3), gives={"y": "row column"})
    yield call("zero and large numbers", "forward", np.array([-800.0, -40.0, 0.0, 40.0, 800.0]), gives={"y": "i"})
    yield call("four axes", "forward", reals(rng, 2, 3, 4, 2), gives={"y": "n y x c"})
    for label, shape, axes in (("a matrix", (2, 3), "row column"), ("four axes", (2, 3, 4, 2), "n y x c")):
        y = rng.integers(0, 9, shape) / 8
        yield call(label, "backward", integers(rng, *shape), y, gives={"gx": axes}, gy=axes)


def library():
    return kernels_of("sigmoid", "forward", "backward")
