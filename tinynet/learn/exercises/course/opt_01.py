"""One step of Adam.

Adam (Kingma & Ba, ICLR 2015) keeps two running means for every weight: of the gradient g and of its square. With
beta1, beta2 = betas, in step t = 1, 2, 3 ...:

    m <- beta1 m + (1 - beta1) g
    v <- beta2 v + (1 - beta2) g^2

Both start at 0, so they are too small at first. The bias correction turns them into weighted means of t terms:

    m^ = m / (1 - beta1^t)          v^ = v / (1 - beta2^t)

    p <- p - lr m^ / (sqrt(v^) + eps)

m and v themselves are kept without the correction.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers, reals

TEACHES = "running means, their correction at the start, and where eps goes"
HINTS = (
    "Five lines, one for each formula. Return new arrays; the arguments stay as they are.",
    "The values that are kept (m, v) and the values that are used (m^, v^) differ: give them different names.",
    "`p - lr * m_hat / (np.sqrt(v_hat) + eps)`; t starts at 1, so that 1 - beta^t is never 0.",
)
OP = "adam"


# ---- your file
def step(p, m, v, g, *, lr, betas, eps, t):
    """(p, m, v) after step t. p: weights, m, v: running means, g: gradient, arrays of one shape. t: 1, 2, 3 ..."""
    # ---- solution
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    p = p - lr * m_hat / (np.sqrt(v_hat) + eps)
    return p, m, v
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "not corrected",
        "The running means are used without the bias correction 1 - beta^t. They start at 0 and are much too small in "
        "the first steps.",
        ("m_hat = m / (1 - beta1**t)", "m_hat = m"),
        ("v_hat = v / (1 - beta2**t)", "v_hat = v"),
    ),
    Wrong(
        "corrected again and again",
        "You keep the corrected means. Keep the uncorrected ones: otherwise the correction is applied in every step.",
        ("return p, m, v", "return p, m_hat, v_hat"),
    ),
    Wrong(
        "t from 0",
        "You count steps from 0 (or correct with t - 1): t is 1 in the first step and is the exponent as it is.",
        ("beta1**t", "beta1 ** (t - 1 or 1)"),
        ("beta2**t", "beta2 ** (t - 1 or 1)"),
    ),
    Wrong(
        "eps under the root",
        "eps is under the root. It must be added to the root: for a gradient of 0 that is the difference between eps "
        "and sqrt(eps).",
        ("np.sqrt(v_hat) + eps", "np.sqrt(v_hat + eps)"),
    ),
    Wrong(
        "g not squared",
        "v is the mean of g^2. You left out the square, and the root of a negative mean is NaN.",
        ("g**2", "g"),
    ),
    Wrong(
        "root forgotten",
        "You divide by v^, not by its root: the step then has the unit 1/g, and small gradients make giant steps.",
        ("np.sqrt(v_hat) + eps", "v_hat + eps"),
    ),
    Wrong(
        "betas exchanged",
        "beta1 and beta2 are exchanged: the first is for m, the second, closer to 1, for v.",
        ("beta1, beta2 = betas", "beta2, beta1 = betas"),
    ),
    Wrong(
        "betas exchanged in the means",
        "beta1 and beta2 are exchanged in the running means (not in their corrections): beta1 is for m, beta2 for v.",
        ("beta1 * m + (1 - beta1) * g", "beta2 * m + (1 - beta2) * g"),
        ("beta2 * v + (1 - beta2) * g**2", "beta1 * v + (1 - beta1) * g**2"),
    ),
    Wrong(
        "beta for 1 - beta",
        "The old mean gets the weight 1 - beta and the new value beta. Both means change slowly: beta, near 1, belongs "
        "to the old mean.",
        ("beta1 * m + (1 - beta1) * g", "(1 - beta1) * m + beta1 * g"),
        ("beta2 * v + (1 - beta2) * g**2", "(1 - beta2) * v + beta2 * g**2"),
    ),
    Wrong(
        "old mean",
        "The weights are changed by the mean without this step's gradient: update m and v first.",
        ("m_hat = m / (1", "m_hat = (m - (1 - beta1) * g) / beta1 / (1"),
    ),
    Wrong(
        "uphill",
        "The step goes up the gradient: subtract it.",
        ("p - lr", "p + lr"),
    ),
)
RIGHT = (
    Right(
        "the correction in the step size",
        (
            "    p = p - lr * m_hat / (np.sqrt(v_hat) + eps)\n",
            "    size = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)\n"
            "    p = p - size * m / (np.sqrt(v) + eps * np.sqrt(1 - beta2**t))\n",
        ),
    ),
    Right("as a move towards g", ("beta1 * m + (1 - beta1) * g", "m + (1 - beta1) * (g - m)")),
)


def probes(rng):
    gives = {"p": "i", "m": "i", "v": "i"}
    p, g, zero = integers(rng, 3), integers(rng, 3), np.zeros(3)
    yield call("first step, m = v = 0", "step", p, zero, zero, g, lr=0.5, betas=(0.5, 0.75), eps=1e-8, t=1, gives=gives)
    m, v = reals(rng, 3), np.abs(reals(rng, 3))
    yield call("third step", "step", p, m, v, g, lr=0.1, betas=(0.9, 0.999), eps=1e-8, t=3, gives=gives)
    yield call("a large eps", "step", p, m, v, g, lr=0.1, betas=(0.9, 0.99), eps=0.5, t=2, gives=gives)
    p, m, g = (reals(rng, 2, 3) for _ in range(3))
    gives = dict.fromkeys(gives, "row column")
    yield call("a matrix", "step", p, m, m**2, g, lr=0.1, betas=(0.8, 0.9), eps=1e-3, t=7, gives=gives)


def library():
    from tinynet.ops.adam import reference as adam
    from tinynet.ops.adam.settings import Settings

    def step(p, m, v, g, *, lr, betas, eps, t):
        p, m, v = p.copy(), m.copy(), v.copy()
        adam.step([p], [m], [v], [g], t=t, settings=Settings(lr, betas, eps))
        return p, m, v

    return {"step": step}


def kernels(functions):
    """tinynet's kernel changes the arrays of all parameters in place."""

    def step(parameters, means, squares, gradients, t, settings):
        lr, betas, eps, weight_decay, decoupled_weight_decay = settings
        for p, m, v, g in zip(parameters, means, squares, gradients):
            p *= 1 - lr * decoupled_weight_decay
            p[...], m[...], v[...] = functions["step"](p, m, v, g + weight_decay * p, lr=lr, betas=betas, eps=eps, t=t)

    return {"step": step}
