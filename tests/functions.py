"""Differentiable operations made of two functions, for the tests of gradient checks."""

import numpy as np

from tinynet import Function


def op(forward, backward):
    """A differentiable operation from forward(*arrays) and backward(gy, *arrays)."""

    class Op(Function):
        def forward(self, *arrays):
            self.save(*arrays)
            return forward(*arrays)

        def backward(self, gy):
            return backward(gy, *self.saved)

    return Op.apply


def randn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def without_last(a, axis=0):
    """A copy with zeros at the last index of an axis."""
    out = np.array(a)
    np.moveaxis(out, axis, 0)[-1] = 0
    return out
