"""Binary cross-entropy with logits.

A net returns a number x for each pixel, the *logit*; s = sigmoid(x) is the predicted probability, and t is the truth, 0
or 1 (or between). The loss is the mean over all M elements of

    l = -t log(s) - (1 - t) log(1 - s)

For x = 100 the second logarithm is log(0). Written with the logit itself, the loss is always finite:

    l = max(x, 0) - x t + log(1 + exp(-|x|))

and the derivative is short:  dl/dx = s - t.  (To derive both, use log(s) = x - log(1 + exp(x)).)
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers, kernels_of, reals

TEACHES = "losses on logits; the mean is part of the loss, so 1/M is part of its gradient"
HINTS = (
    "np.log1p(z) is log(1 + z), exact for small z. With e = exp(-|x|) the stable sigmoid is 1 / (1 + e) for x >= 0 and "
    "e / (1 + e) for x < 0.",
    "The loss is one number, so gy is one number, too. Each element of x contributes its l / M to the loss.",
    "`return gy * (s - t) / x.size` with the stable sigmoid s.",
)
OP = "bce_with_logits"


# ---- your file
def forward(x, t):
    """The mean loss, one number. x: logits, t: truth; arrays of one shape."""
    # ---- solution
    losses = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    return np.mean(losses)
    # ---- end of solution


def backward(gy, x, t):
    """gx, of the shape of x. gy: dL/d(loss), one number."""
    # ---- solution
    e = np.exp(-np.abs(x))
    s = np.where(x < 0, e, 1) / (1 + e)
    return gy * (s - t) / x.size
    # ---- end of solution


# ---- end of your file


_STABLE = "np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))"
WRONG = (
    Wrong(
        "logarithm of 0",
        "You compute the sigmoid and then its logarithm: for large |x| that is log(0), and 0 times inf is NaN.",
        (
            "    losses = " + _STABLE,
            "    s = 1 / (1 + np.exp(-x))\n    losses = -t * np.log(s) - (1 - t) * np.log(1 - s)",
        ),
    ),
    Wrong(
        "clipped logarithm",
        "You add a small number inside the logarithm (or clip it), so that the loss stops growing: for a confident "
        "mistake (x = 800, t = 0) it must be 800.",
        (
            "    losses = " + _STABLE,
            "    s = 1 / (1 + np.exp(-x))\n    losses = -t * np.log(s + 1e-12) - (1 - t) * np.log(1 - s + 1e-12)",
        ),
    ),
    Wrong(
        "sum",
        "The loss is a sum; it must be the mean over all elements.",
        ("np.mean(losses)", "np.sum(losses)"),
    ),
    Wrong(
        "1/M forgotten",
        "The mean divides by M, so each element's gradient is (s - t) / M. Without it the gradient is M times as "
        "large, and the learning rate seems to be too large.",
        ("gy * (s - t) / x.size", "gy * (s - t)"),
    ),
    Wrong(
        "divided by the batch",
        "You divide by the number of images. The mean runs over all elements: x.size.",
        ("(s - t) / x.size", "(s - t) / len(x)"),
    ),
    Wrong(
        "sign",
        "t - s has the wrong sign: if the truth is 1 and s is smaller, increasing x decreases the loss.",
        ("(s - t)", "(t - s)"),
    ),
    Wrong(
        "gy ignored",
        "gy is not used. It is 1 in most programs, but not if this loss is a part of another one.",
        ("gy * (s - t)", "(s - t)"),
    ),
    Wrong(
        "sigmoid twice",
        "You multiply by s (1 - s). That is the chain rule through a sigmoid, but s - t already contains its "
        "derivative.",
        ("gy * (s - t)", "gy * s * (1 - s) * (s - t)"),
    ),
)
RIGHT = (
    Right("with logaddexp", (_STABLE, "np.logaddexp(0, x) - x * t")),
    Right("mean by hand", ("np.mean(losses)", "np.sum(losses) / x.size")),
)


def probes(rng):
    for label, shape, axes in (
        ("three pixels", (3,), "i"),
        ("two images", (2, 3), "n i"),
        ("four axes", (2, 3, 4, 1), "n y x c"),
    ):
        x, t = reals(rng, *shape), rng.integers(0, 2, shape).astype(float)
        yield call(label, "forward", x, t, gives={"loss": ""})
        yield call(label, "backward", np.array(3.0), x, t, gives={"gx": axes}, gy="")
    x, t = integers(rng, 2, 3), rng.integers(0, 5, (2, 3)) / 4
    yield call("t between 0 and 1", "forward", x, t, gives={"loss": ""})
    yield call("t between 0 and 1", "backward", np.array(-2.0), x, t, gives={"gx": "n i"}, gy="")
    x, t = np.array([-800.0, 800.0, 800.0, -800.0]), np.array([0.0, 1.0, 0.0, 1.0])
    yield call("large logits", "forward", x, t, gives={"loss": ""})
    yield call("large logits", "backward", np.array(1.0), x, t, gives={"gx": "i"}, gy="")


def library():
    return kernels_of("bce_with_logits", "forward", "backward")
