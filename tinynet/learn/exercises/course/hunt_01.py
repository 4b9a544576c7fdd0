"""Hunt: write a gradient check that cannot be fooled.

forward(x) returns y, and backward(gy, x) should return gx = dL/dx for gy = dL/dy. Does it? Use the method of ad-01:
change every element of x up and down and see how L = sum of gy y changes.

Your function is tested with 15 pairs with a broken backward, each with a mistake that people make, and with 7 pairs
that are right. It has to detect the broken ones *without* a false alarm. Think of

- the upstream gradient: with a gy of ones, what is the gradient of a softmax?
- the tolerance: if it is too small, rounding looks like a mistake; if it is too large, mistakes look like rounding.
  Values may be large, and they may be 0;
- NaN, which is neither larger nor smaller than any number;
- views: forward may return a view of its argument, such as x[::-1]. If you change x, the y that you kept changes, too.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import Failure, Probe

TEACHES = "what a check must do to find every mistake; the pitfalls that the checks of this course avoid"
HINTS = (
    "Take a random gy of both signs, the same for all elements of one check, and look at every element of x.",
    "numeric = sum(gy * (forward(x + h e_i) - forward(x - h e_i))) / (2 h), with h about 1e-5 times max(1, |x_i|). "
    "Make new arrays for x + h e_i and x - h e_i, and np.array(...) copies of what forward returns.",
    "Accept an element if |numeric - gx_i| <= 1e-6 max(1, |numeric|), written so that NaN is refused: `if not (... "
    "<= ...): return False`. And compare the shapes first.",
)
SECONDS = 30.0


# ---- your file
def is_right(forward, backward, x):
    """True if backward is the gradient of forward at x, else False.

    forward(x) -> y, an array of any shape. backward(gy, x) -> gx. x: float64 array, which must not be changed.
    """
    # ---- solution
    y = np.array(forward(x))
    rng = np.random.default_rng(0)
    gy = rng.choice([-1.0, 1.0], y.shape) * rng.uniform(0.5, 1.5, y.shape)
    gx = backward(gy, x)
    if np.shape(gx) != x.shape:
        return False
    for index in np.ndindex(x.shape):
        h = 1e-5 * max(1, abs(x[index]))
        above, below = x.copy(), x.copy()
        above[index] += h
        below[index] -= h
        numeric = np.sum(gy * (forward(above) - forward(below))) / (2 * h)
        if not abs(numeric - gx[index]) <= 1e-6 * max(1, abs(numeric)):
            return False
    return True
    # ---- end of solution


# ---- end of your file


_GY = "rng.choice([-1.0, 1.0], y.shape) * rng.uniform(0.5, 1.5, y.shape)"
_STEPS = """        above, below = x.copy(), x.copy()
        above[index] += h
        below[index] -= h
        numeric = np.sum(gy * (forward(above) - forward(below))) / (2 * h)
"""
_TEST = "if not abs(numeric - gx[index]) <= 1e-6 * max(1, abs(numeric)):"
WRONG = (
    Wrong(
        "a gy of ones",
        "Your upstream gradient is all ones. Then a backward may ignore gy or exchange its axes, and a softmax or "
        "x - mean may return zeros: all of that is right for ones. Use random values.",
        (_GY, "np.ones(y.shape)"),
    ),
    Wrong(
        "one element",
        "You check the first element of x only. Mistakes at a border, or in all samples but the first, are in "
        "other elements.",
        ("in np.ndindex(x.shape):", "in [(0,) * x.ndim]:"),
    ),
    Wrong(
        "ten elements",
        "You check the first ten elements of x only. A mistake at the end of a large array is in none of them.",
        ("in np.ndindex(x.shape):", "in list(np.ndindex(x.shape))[:10]:"),
    ),
    Wrong(
        "loose tolerance",
        "Your tolerance is a percent. A factor that is wrong by a thousandth passes; in float64 a tolerance of a "
        "millionth is enough.",
        ("1e-6 * max(1, abs(numeric))", "1e-2 * max(1, abs(numeric))"),
    ),
    Wrong(
        "NaN passes",
        "You refuse if the difference is *larger* than the tolerance. NaN is not larger than any number, so it passes. "
        "Refuse unless the difference is smaller.",
        (_TEST, "if abs(numeric - gx[index]) > 1e-6 * max(1, abs(numeric)):"),
    ),
    Wrong(
        "no copies",
        "You change x in place and keep the result of forward. If the result is a view of x, it changes together with "
        "x, and the difference is lost: copy the result.",
        (
            _STEPS,
            "        kept = x[index]\n        x[index] = kept + h\n        above = forward(x)\n        x[index] = "
            "kept - h\n        below = forward(x)\n        x[index] = kept\n        numeric = np.sum(gy * (above - "
            "below)) / (2 * h)\n",
        ),
    ),
    Wrong(
        "absolute tolerance",
        "Your tolerance is the same for all values. If they are large, rounding alone exceeds it: make the tolerance "
        "relative to the derivative.",
        ("1e-6 * max(1, abs(numeric))", "1e-6"),
        ("1e-5 * max(1, abs(x[index]))", "1e-5"),
    ),
    Wrong(
        "division by zero",
        "You divide the difference by the derivative. If both gradients are 0, that is 0 / 0 = NaN, a false alarm.",
        (_TEST, "if not abs(numeric - gx[index]) / abs(numeric + gx[index]) <= 1e-6:"),
    ),
    Wrong(
        "one-sided difference",
        "You step to one side only. The error of this difference is proportional to h, and looks like a mistake if the "
        "function is curved.",
        ("        below[index] -= h\n", ""),
        ("/ (2 * h)", "/ h"),
    ),
    Wrong(
        "step too small",
        "Your step is so small that the difference consists of rounding errors: false alarms. About 1e-5 is best for "
        "central differences in float64.",
        ("h = 1e-5", "h = 1e-13"),
    ),
    Wrong(
        "totals",
        "You compare the sums of the gradients, not their elements: values in the wrong places pass.",
        (
            "    for index in np.ndindex(x.shape):\n        h = 1e-5 * max(1, abs(x[index]))\n"
            + _STEPS
            + "        "
            + _TEST
            + "\n            return False\n    return True",
            "    total = 0.0\n    for index in np.ndindex(x.shape):\n        h = 1e-5 * max(1, abs(x[index]))\n"
            + _STEPS
            + "        total += numeric\n    return bool(abs(total - np.sum(gx)) <= 1e-6 * max(1, abs(total)))",
        ),
    ),
)
RIGHT = (
    Right(
        "directions",
        (
            "    for index in np.ndindex(x.shape):\n        h = 1e-5 * max(1, abs(x[index]))\n"
            + _STEPS
            + "        "
            + _TEST
            + "\n            return False\n    return True",
            "    scale = np.maximum(1, np.abs(x))\n    for _ in range(8):\n        direction = scale * "
            "rng.normal(size=x.shape)\n        change = np.array(forward(x + 1e-5 * direction)) - forward(x - 1e-5 * "
            "direction)\n        numeric, analytic = np.sum(gy * change) / 2e-5, np.sum(gx * direction)\n"
            "        if not abs(numeric - analytic) <= 1e-6 * max(1, abs(numeric)):\n            return False\n    "
            "return True",
        ),
    ),
    Right("another seed", ("default_rng(0)", "default_rng(123)")),
)


# ---------------------------------------------------------------------------------------- the kernels under test
def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _nan_at_the_end(gx):
    gx.ravel()[-1] = np.nan
    return gx


def _last_doubled(gx):
    gx.ravel()[-1] *= 2
    return gx


def _last_lost(gx):
    gx[-1] = 0
    return gx


_MASK = np.array([[1.0, 0.0, 2.0], [0.0, 2.0, 1.0]])
_TAPS = np.array([1.0, -2.0, 3.0])
_DIFFERENCE_BACKWARD = lambda gy, x: np.pad(gy, (1, 0)) - np.pad(gy, (0, 1))  # noqa: E731

# Name, forward, backward, shape of x; each has a mistake that people make.
BROKEN = (
    ("x^2 without the factor 2", lambda x: x**2, lambda gy, x: gy * x, (2, 3)),
    ("-x with the wrong sign", lambda x: -x, lambda gy, x: gy.copy(), (3,)),
    ("x^3 that ignores gy", lambda x: x**3, lambda gy, x: 3 * x**2, (2, 3)),
    ("a dropout mask that ignores gy", lambda x: x * _MASK, lambda gy, x: _MASK.copy(), (2, 3)),
    ("a transpose that does not transpose gy", lambda x: x.T, lambda gy, x: gy.copy(), (3, 3)),
    ("a softmax that returns zeros", _softmax, lambda gy, x: 0 * gy, (2, 3)),
    ("x - mean that returns zeros", lambda x: x - x.mean(), lambda gy, x: 0 * gy, (4,)),
    (
        "a sigmoid off by a thousandth",
        _sigmoid,
        lambda gy, x: 1.001 * gy * _sigmoid(x) * (1 - _sigmoid(x)),
        (2, 3),
    ),
    (
        "a sum whose gradient is a mean",
        lambda x: x.sum(axis=0),
        lambda gy, x: np.tile(gy, (len(x), 1)) / len(x),
        (3, 2),
    ),
    ("differences that lose the last element", np.diff, lambda gy, x: _last_lost(_DIFFERENCE_BACKWARD(gy, x)), (5,)),
    (
        "a product that sees the first row only",
        lambda x: 3 * x,
        lambda gy, x: 3 * gy * np.arange(1, -1, -1)[:, None],
        (2, 3),
    ),
    ("a running sum in the wrong direction", np.cumsum, lambda gy, x: np.cumsum(gy), (4,)),
    ("x^2 of 60 elements, wrong in the last", lambda x: x**2, lambda gy, x: _last_doubled(2 * gy * x), (3, 4, 5)),
    (
        "a root with a NaN in the last element",
        lambda x: np.sqrt(x**2 + 1),
        lambda gy, x: _nan_at_the_end(gy * x / np.sqrt(x**2 + 1)),
        (2, 3),
    ),
    (
        "a correlation with its kernel flipped",
        lambda x: np.correlate(x, _TAPS, "valid"),
        lambda gy, x: np.correlate(gy, _TAPS, "full"),
        (6,),
    ),
)
GOOD = (
    ("x^2", lambda x: x**2, lambda gy, x: 2 * gy * x, (2, 3), 1.0),
    ("a view: x[::-1]", lambda x: x[::-1], lambda gy, x: gy[::-1], (4,), 1.0),
    (
        "softmax",
        _softmax,
        lambda gy, x: _softmax(x) * (gy - (gy * _softmax(x)).sum(axis=-1, keepdims=True)),
        (2, 3),
        1.0,
    ),
    ("|x| away from 0", np.abs, lambda gy, x: gy * np.sign(x), (3,), 1.0),
    ("x^3 of large numbers", lambda x: x**3, lambda gy, x: 3 * gy * x**2, (3,), 1e4),
    ("a constant, whose gradient is 0", lambda x: 0 * x + 1, lambda gy, x: 0 * gy, (2, 2), 1.0),
    ("differences", np.diff, _DIFFERENCE_BACKWARD, (5,), 1.0),
)


def probes(rng):
    def some(shape, scale=1.0):
        return scale * rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2.0, shape)

    broken = [(name, forward, backward, some(shape)) for name, forward, backward, shape in BROKEN]
    good = [(name, forward, backward, some(shape, scale)) for name, forward, backward, shape, scale in GOOD]

    pairs = [*broken, *good]
    mixed = [pairs[i] for i in rng.permutation(len(pairs))]  # otherwise a check could count its calls

    def caught(functions):
        answers = _answers(functions["is_right"], mixed)
        missed = [name for name, *_ in broken if answers[name] is not False]
        summary = f"your check caught {len(broken) - len(missed)} of {len(broken)}"
        return {"caught": _score(broken, answers, missed, summary)}

    def no_false_alarm(functions):
        answers = _answers(functions["is_right"], mixed[::-1])
        refused = [name for name, *_ in good if answers[name] is not True]
        summary = f"your check refused {len(refused)} of {len(good)} that are right"
        return {"accepted": _score(good, answers, refused, summary)}

    yield Probe("15 broken kernels", "is_right", caught, {"caught": ""})
    yield Probe("7 right ones", "is_right", no_false_alarm, {"accepted": ""})


def _answers(is_right, kernels):
    """The answer of the learner's check for each pair: True, False, or why there is no answer."""
    answers = {}
    for name, forward, backward, x in kernels:
        try:
            answer = is_right(forward, backward, x.copy())
            is_answer = isinstance(answer, (bool, np.bool_))
            answers[name] = bool(answer) if is_answer else f"it returned {answer!r:.40}, not True or False"
        except NotImplementedError:
            raise
        except Exception as error:
            answers[name] = f"{type(error).__name__}: {error}"
    return answers


def _score(pairs, answers, failed, summary):
    """The number of pairs if all answers are right, else a Failure that lists the others."""
    if not failed:
        return np.array(len(pairs))
    listed = [f"  - {name}" + (f" ({answers[name]})" if isinstance(answers[name], str) else "") for name in failed]
    return Failure("score", "; ".join(failed), "\n".join([f"{summary}; here it was wrong:", *listed]))


def library():
    from tinynet.learn.gradcheck.numeric import central_differences

    def is_right(forward, backward, x):
        y = np.array(forward(x))
        gy = np.random.default_rng(1).normal(size=y.shape)
        gx, numeric = backward(gy, x), central_differences(forward, x, gy).value
        return bool(np.allclose(gx, numeric, rtol=1e-6, atol=1e-7))

    return {"is_right": is_right}
