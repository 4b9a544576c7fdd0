"""Softmax, forward and backward.

Along the last axis, the classes c of one pixel or sample:

    y_c = exp(x_c) / sum over k of exp(x_k)

Adding a constant to all x of a row does not change y. So subtract the largest x of the row first; otherwise exp
overflows. For the derivative, note that *every* y depends on *every* x of its row:

    dy_k/dx_c = y_k ([k = c] - y_c)          [k = c] is 1 where k = c, else 0

    gx_c = sum over k of gy_k dy_k/dx_c

Insert the first formula into the second: the result needs one sum per row and no matrix.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers, reals

TEACHES = "a Jacobian that is not diagonal, applied without being written down"
HINTS = (
    "keepdims=True keeps the last axis with length 1, so that a sum or maximum fits the row it came from.",
    "gx_c = gy_c y_c - y_c sum_k gy_k y_k. The sum is one number per row.",
    "`return y * (gy - np.sum(gy * y, axis=-1, keepdims=True))`",
)


# ---- your file
def forward(x):
    """y, of the shape of x (..., C): softmax over the last axis."""
    # ---- solution
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)
    # ---- end of solution


def backward(gy, y):
    """gx from gy and y, the result of forward; all (..., C)."""
    # ---- solution
    return y * (gy - np.sum(gy * y, axis=-1, keepdims=True))
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "diagonal only",
        "You use y (1 - y), only the diagonal of the Jacobian: each class on its own. Raising one logit lowers all "
        "other probabilities of the row; those terms are missing.",
        ("y * (gy - np.sum(gy * y, axis=-1, keepdims=True))", "gy * y * (1 - y)"),
    ),
    Wrong(
        "gy not in the sum",
        "Inside the sum gy is missing: it is sum_k gy_k y_k. (Without gy it is the sum of all y, which is 1.)",
        ("np.sum(gy * y,", "np.sum(y,"),
    ),
    Wrong(
        "y not in the sum",
        "Inside the sum y is missing: it is sum_k gy_k y_k, not the sum of gy.",
        ("np.sum(gy * y,", "np.sum(gy,"),
    ),
    Wrong(
        "overflow",
        "exp overflows for large x, and inf / inf is NaN. Subtract the largest x of the row first.",
        ("np.exp(x - np.max(x, axis=-1, keepdims=True))", "np.exp(x)"),
    ),
    Wrong(
        "maximum of the whole array",
        "You subtract the maximum of the whole array. In a row with much smaller values every exp becomes 0, and the "
        "row becomes 0 / 0. Subtract the maximum of each row.",
        ("np.max(x, axis=-1, keepdims=True)", "np.max(x)"),
    ),
    Wrong(
        "first axis",
        "The sum runs over the first axis. The classes are the last axis.",
        ("np.sum(e, axis=-1", "np.sum(e, axis=0"),
        ("np.max(x, axis=-1", "np.max(x, axis=0"),
    ),
    Wrong(
        "backward: first axis",
        "The sum of backward runs over the first axis, over different rows. The classes are the last axis.",
        ("np.sum(gy * y, axis=-1", "np.sum(gy * y, axis=0"),
    ),
    Wrong(
        "outer y forgotten",
        "The factor y in front is missing: gx_c = y_c (gy_c - sum).",
        ("return y * (gy - ", "return (gy - "),
    ),
    Wrong(
        "zeros",
        "You sum dy_k/dx_c over k without gy_k. That is zero, because probabilities always add up to 1; it is also "
        "what a check with a gy of ones expects.",
        ("y * (gy - np.sum(gy * y, axis=-1, keepdims=True))", "y * (1 - np.sum(y, axis=-1, keepdims=True))"),
    ),
)
RIGHT = (
    Right(
        "the Jacobian written down",
        (
            "    return y * (gy - np.sum(gy * y, axis=-1, keepdims=True))\n",
            "    jacobian = y[..., :, None] * (np.eye(y.shape[-1]) - y[..., None, :])\n"
            '    return np.einsum("...k,...kc->...c", gy, jacobian)\n',
        ),
    ),
    Right("as a difference", ("y * (gy - np.sum(", "gy * y - y * (np.sum(")),
)


def probes(rng):
    yield call("one row", "forward", integers(rng, 3), gives={"y": "c"})
    yield call("two rows", "forward", integers(rng, 2, 3), gives={"y": "row c"})
    yield call("a square", "forward", integers(rng, 3, 3), gives={"y": "row c"})
    far = np.array([[1.0, 2.0, 3.0], [-1001.0, -1002.0, -1000.0]])
    yield call("a row of -1000", "forward", far, gives={"y": "row c"})
    yield call("numbers of 800", "forward", np.array([[800.0, 801.0], [0.0, 1.0]]), gives={"y": "row c"})
    yield call("one row from -800 to 800", "forward", np.array([[-800.0, 0.0, 800.0]]), gives={"y": "row c"})
    yield call("four axes", "forward", reals(rng, 2, 3, 4, 5), gives={"y": "n y x c"})
    for label, shape, axes in (
        ("one row", (3,), "c"),
        ("two rows", (2, 3), "row c"),
        ("four axes", (2, 3, 2, 5), "n y x c"),
    ):
        y = rng.integers(1, 9, shape)
        y = y / y.sum(axis=-1, keepdims=True)
        yield call(label, "backward", integers(rng, *shape), y, gives={"gx": axes}, gy=axes)


def library():
    from tinynet import softmax, tensor
    from tinynet.engine.tensor import grad

    def backward(gy, y):
        x = tensor(np.log(y), requires_grad=True)  # its softmax is y, because the rows of y add up to 1
        return grad(softmax(x, axis=-1), x, gy).data

    return {"forward": lambda x: softmax(tensor(x), axis=-1).data, "backward": backward}
