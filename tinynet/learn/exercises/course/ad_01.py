"""A derivative by two small steps.

Before you write derivatives by hand, write the function that tells you if they are right. For a function f
that takes an array and returns one number, the *central difference*

    df/dx[i]  ~  (f(x + h e_i) - f(x - h e_i)) / (2 h)

changes one element of x at a time (e_i is 1 at element i and 0 elsewhere), once up and once down. Its error
decreases with h^2; the error of the one-sided difference (f(x + h e_i) - f(x)) / h decreases only with h.

Write it for an array x of any shape. x must not be changed.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers

TEACHES = "what a gradient is, element by element; why two-sided; never trust a derivative that you have not checked"
HINTS = (
    "You need a loop over all elements of x, for any shape: `for index in np.ndindex(x.shape)`.",
    "Work on a copy of x. Save x[index], change it, call f, change it the other way, call f, and put it back.",
    """
    kept = x[index]
    x[index] = kept + h;  above = f(x)
    x[index] = kept - h;  below = f(x)
    x[index] = kept
    """,
)


# ---- your file
def numeric_gradient(f, x, h):
    """The gradient of f at x by central differences.

    f: takes an array of the shape of x (float64), returns one number. h: the step.
    Returns an array of the shape of x.
    """
    # ---- solution
    x = x.copy()
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + h
        above = f(x)
        x[index] = kept - h
        below = f(x)
        x[index] = kept
        gradient[index] = (above - below) / (2 * h)
    return gradient
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "one-sided",
        "You step to one side only, (f(x + h) - f(x)) / h. Its error is h f''/2, which is visible with h = 0.5. In the "
        "central difference this error cancels.",
        ("x[index] = kept - h", "x[index] = kept"),
        ("(above - below) / (2 * h)", "(above - below) / h"),
    ),
    Wrong(
        "divided by h",
        "The two points are 2 h apart, but you divide by h: every derivative is twice as large as it should be.",
        ("/ (2 * h)", "/ h"),
    ),
    Wrong(
        "not put back",
        "x[index] does not get its old value back before the next element is changed: from the second element on, f is "
        "called at another point.",
        ("        x[index] = kept\n        gradient", "        gradient"),
    ),
    Wrong(
        "all at once",
        "You change all elements together, so every entry is the derivative along the diagonal (the sum of all "
        "derivatives). Change one element at a time.",
        ("x[index] = kept + h", "x = x + h"),
        ("x[index] = kept - h", "x = x - 2 * h"),
        ("        x[index] = kept\n        gradient", "        x = x + h\n        gradient"),
    ),
    Wrong(
        "sign",
        "Below minus above: every derivative has the wrong sign.",
        ("above - below", "below - above"),
    ),
)
RIGHT = (
    Right(
        "a step array for each element",
        (
            "        kept = x[index]\n        x[index] = kept + h\n        above = f(x)\n",
            "        step = np.zeros(x.shape)\n        step[index] = h\n        above = f(x + step)\n",
        ),
        (
            "        x[index] = kept - h\n        below = f(x)\n        x[index] = kept\n",
            "        below = f(x - step)\n",
        ),
    ),
)


def probes(rng):
    # Polynomials at whole numbers, and h is a power of two: every difference is exact, and the error of a one-sided
    # difference is large.
    yield call("f(x) = sum of x^2, three numbers", "numeric_gradient", _square, integers(rng, 3), 0.5, gives={"g": "i"})
    yield call("f(x) = sum of x^3, three numbers", "numeric_gradient", _cube, integers(rng, 3), 0.25, gives={"g": "i"})
    a = integers(rng, 2, 3)
    yield call("a product of neighbors, a matrix", "numeric_gradient", _neighbors, a, 0.5, gives={"g": "row column"})
    yield call("one number, no axes", "numeric_gradient", _cube, integers(rng), 0.125, gives={"g": ""})


def _square(x):
    return float(np.sum(x**2))


def _cube(x):
    return float(np.sum(x**3))


def _neighbors(x):
    flat = x.ravel()
    return float(np.sum(flat[1:] ** 2 * flat[:-1]))


def library():
    from tinynet.learn.gradcheck.numeric import central_differences

    def numeric_gradient(f, x, h):
        # The library extrapolates to h = 0. For a cubic, the central difference with step h is off by exactly h^2.
        exact = central_differences(lambda z: np.asarray(f(z)), x, np.asarray(1.0)).value
        return exact + (h**2 if f is _cube else 0.0)

    return {"numeric_gradient": numeric_gradient}
