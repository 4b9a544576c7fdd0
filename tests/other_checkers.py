"""Three gradient checks that courses and small frameworks use, rewritten from their published protocols.

measure_exercises.py compares the checks of the exercises with them. Each gets forward and backward as functions of
arrays and returns True if backward passes.

- cs231n (Stanford, assignments 1 and 2, `gradient_check.py`): random upstream gradient, all elements, central
  difference with h = 1e-5. It prints the largest |a - b| / max(1e-8, |a| + |b|), which should be around 1e-8 according
  to the text; here it passes up to 1e-6. Forward is compared with stored right values in the same way. One shape for
  each layer.
- minitorch (Cornell, `autodiff.py`, `tensor_functions.grad_check`): the output is summed, so gy is all ones; one
  random element of each input, central difference with 1e-6, passes within 1e-2 relative plus 1e-2 absolute.
- all ones (DeZero, `utils.gradient_check`; needle's tests): gy is all ones, all elements, central difference with
  h = 1e-4, passes within 1e-4 relative plus 1e-5 absolute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.conv2d import reference as conv2d
from tinynet.ops.conv3d import reference as conv3d
from tinynet.ops.conv_transpose2d import reference as conv_transpose2d
from tinynet.ops.max_pool2d import reference as max_pool2d
from tinynet.ops.sample import reference as sample


@dataclass
class Case:
    """A layer at one shape. forward(*inputs) -> y; backward(gy, *inputs) -> a tuple of gradients.

    right_forward: the correct forward. inputs: float64 arrays at which to differentiate.
    """

    forward: Callable
    right_forward: Callable
    backward: Callable
    inputs: Sequence[np.ndarray]


def cs231n(case: Case, rng: np.random.Generator) -> bool:
    """Random gy, all elements, one shape, relative error."""
    y = np.asarray(case.forward(*case.inputs))
    want = np.asarray(case.right_forward(*case.inputs))
    if y.shape != want.shape or not _relative_error(y, want) <= 1e-6:
        return False
    gy = rng.normal(size=y.shape)
    gradients = case.backward(gy, *case.inputs)
    numeric = [_numeric(case, k, gy, 1e-5) for k in range(len(case.inputs))]
    return all(np.shape(g) == n.shape and _relative_error(g, n) <= 1e-6 for g, n in zip(gradients, numeric))


def minitorch(case: Case, rng: np.random.Generator) -> bool:
    """gy of ones, one element of each input, a tolerance of a percent."""
    gy = np.ones(np.shape(case.forward(*case.inputs)))
    gradients = case.backward(gy, *case.inputs)
    for k, x in enumerate(case.inputs):
        index = tuple(int(rng.integers(n)) for n in x.shape)
        if np.shape(gradients[k]) != x.shape:
            return False
        numeric = _numeric(case, k, gy, 1e-6, [index])[index]
        if not np.allclose(gradients[k][index], numeric, rtol=1e-2, atol=1e-2):
            return False
    return True


def all_ones(case: Case, rng: np.random.Generator) -> bool:
    """gy of ones, all elements."""
    gy = np.ones(np.shape(case.forward(*case.inputs)))
    gradients = case.backward(gy, *case.inputs)
    numeric = [_numeric(case, k, gy, 1e-4) for k in range(len(case.inputs))]
    return all(np.shape(g) == n.shape and np.allclose(g, n, rtol=1e-4, atol=1e-5) for g, n in zip(gradients, numeric))


CHECKERS = {"cs231n": cs231n, "minitorch": minitorch, "all ones": all_ones}


def passes(checker: Callable, cases: Sequence[Case], seed: int) -> bool:
    """True if all cases pass; an exception is a failure, as in those courses' tests."""
    try:
        with np.errstate(all="ignore"):
            return all(checker(case, np.random.default_rng(seed)) for case in cases)
    except Exception:
        return False


def _relative_error(a: np.ndarray, b: np.ndarray) -> float:
    return np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b)), initial=0.0)


def _numeric(case: Case, k: int, gy: np.ndarray, h: float, indices=None) -> np.ndarray:
    """The central differences of sum(gy * forward) with respect to input k, at all elements or some."""
    inputs = [x.copy() for x in case.inputs]
    gradient = np.zeros(inputs[k].shape)
    for index in indices or np.ndindex(inputs[k].shape):
        kept = inputs[k][index]
        inputs[k][index] = kept + h
        above = np.array(case.forward(*inputs))
        inputs[k][index] = kept - h
        below = np.array(case.forward(*inputs))
        inputs[k][index] = kept
        gradient[index] = np.sum(gy * (above - below)) / (2 * h)
    return gradient


# ---------------------------------------------------------------------------------------- the layers of the exercises
def _draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(231).normal(size=shape)


def cases_of(id: str, functions: dict, right: dict) -> list[Case] | None:
    """The layers of an exercise at the shapes that those courses use; None if there is no gradient to check.

    functions: the learner's. right: the solution's. If an exercise is only about backward, forward is tinynet's.
    """
    return CASES[id](functions, right) if id in CASES else None


def _case(f: dict, r: dict, forward: Callable, backward: Callable, *inputs: np.ndarray) -> list[Case]:
    """One case from forward(functions, *inputs) and backward(functions, gy, *inputs) -> a tuple."""
    return [Case(partial(forward, f), partial(forward, r), partial(backward, f), inputs)]


def _binary(name: str, operation: Callable):
    return lambda f, r: [Case(operation, operation, f[name], [_draw(3, 4), _draw(3, 4)[::-1].copy()])]


def _unary(**parameters):
    """forward(x) and backward(gy, y) of one exercise."""

    def forward(k, x):
        return k["forward"](x, **parameters)

    def backward(k, gy, x):
        return (k["backward"](gy, forward(k, x), **parameters),)

    return lambda f, r: _case(f, r, forward, backward, _draw(10, 10))


def _loss(f, r):
    t = (_draw(5, 4) > 0).astype(float)
    return _case(f, r, lambda k, x: k["forward"](x, t), lambda k, gy, x: (k["backward"](gy, x, t),), _draw(5, 4))


def _dice(f, r):
    t = (_draw(5, 4) > 0).astype(float)

    def forward(k, p):
        return k["forward"](p, t, smooth=1.0, per_image=False)

    def backward(k, gy, p):
        return (k["backward"](gy, t, forward(k, p)[1], smooth=1.0),)

    p = np.random.default_rng(0).uniform(0.1, 0.9, (5, 4))
    return _case(f, r, lambda k, p: forward(k, p)[0], backward, p)


def _dropout(f, r):
    u = np.random.default_rng(0).uniform(size=(10, 10))

    def forward(k, x):
        return k["forward"](x, u, p=0.2)

    return _case(f, r, forward, lambda k, gy, x: (k["backward"](gy, u, p=0.2),), _draw(10, 10))


SAME = Geometry(padding=(1, 1))  # the layer of those courses: 3 x 3, stride 1, padding 1, on 5 x 5 pixels
X, W = _draw(4, 5, 5, 3), _draw(3, 3, 3, 2)


def _convolution_weight(f, r):
    def backward(k, gy, x, w, b):
        gx = conv2d.backward_input(gy, w, (5, 5), SAME)
        return gx, k["backward_weight"](x, gy, (3, 3), SAME), k["backward_bias"](gy)

    return _case(f, r, lambda k, x, w, b: conv2d.forward(x, w, b, SAME), backward, X, W, _draw(2))


def _convolution_input(f, r):
    def backward(k, gy, x, w):
        return k["backward_input"](gy, w, (5, 5), SAME), conv2d.backward_weight(x, gy, (3, 3), SAME)

    return _case(f, r, lambda k, x, w: conv2d.forward(x, w, None, SAME), backward, X, W)


def _transposed(f, r):
    def forward(k, x, w):
        return conv_transpose2d.forward(x, w, None, (5, 5), SAME)

    def backward(k, gy, x, w):
        return k["backward_input"](gy, w, SAME), k["backward_weight"](x, gy, (3, 3), SAME)

    return _case(f, r, forward, backward, X, _draw(3, 3, 2, 3))


SAME_3D = Geometry((1, 1, 1), (1, 1, 1), (1, 1, 1))


def _volumes(f, r):
    def backward(k, gy, x, w):
        return k["backward_input"](gy, w, (3, 3, 3), SAME_3D), k["backward_weight"](x, gy, (3, 3, 3), SAME_3D)

    def forward(k, x, w):
        return conv3d.forward(x, w, None, SAME_3D)

    return _case(f, r, forward, backward, _draw(2, 3, 3, 3, 2), _draw(3, 3, 3, 2, 2))


def _sampling(f, r):
    size = np.array((4, 5))

    def points_of(grid):
        return (grid[..., ::-1] + 1) * size / 2 - 0.5

    def forward(k, x, grid):
        return sample.forward(x, points_of(grid), 1)

    def backward(k, gy, x, grid):
        gpoints = k["backward_points"](x, gy, points_of(grid))
        return k["backward_input"](gy, points_of(grid), (4, 5)), k["backward_grid"](gpoints, (4, 5))

    inside = np.random.default_rng(0).uniform(-0.7, 0.7, (2, 6, 2))
    return _case(f, r, forward, backward, _draw(2, 4, 5, 3), inside)


def _pooling(f, r):
    def pooled(x):
        return max_pool2d.forward(x, (2, 2), Geometry((2, 2)))

    def backward(k, gy, x):
        return (k["scatter"](gy, pooled(x)[1], size=(8, 8)),)

    return _case(f, r, lambda k, x: pooled(x)[0], backward, _draw(3, 8, 8, 2))


CASES = {
    "ad-02": lambda f, r: _binary("backward_add", np.add)(f, r) + _binary("backward_mul", np.multiply)(f, r),
    "ad-06": lambda f, r: [Case(np.matmul, np.matmul, f["backward_matmul"], [_draw(10, 6), _draw(6, 5)])],
    "act-01": _unary(),
    "act-02": _unary(alpha=1.0),
    "act-03": _unary(),
    "loss-01": _loss,
    "loss-02": _dice,
    "drop-01": _dropout,
    "conv-04": _convolution_weight,
    "conv-05": _convolution_input,
    "conv-07": _transposed,
    "conv-08": _volumes,
    "pool-02": _pooling,
    "samp-01": _sampling,
}
