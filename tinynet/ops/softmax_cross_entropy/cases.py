"""Configurations of softmax cross-entropy worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import softmax_cross_entropy

SMALL = [(3, 4), (2, 2, 3, 2), (5,), (3, 1)]
LARGE = [(2, 67, 71, 3), (300, 37)]  # chunks that are not full, more classes than a vector holds


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases: with and without weights, one class only, a class of weight 0, logits deep in saturation."""
    plain = [_case(rng, "", 2 * rng.standard_normal(shape)) for shape in SMALL + (LARGE if large else [])]
    weighted = [
        _case(rng, "weights, ", 2 * rng.standard_normal(shape), w=rng.uniform(0.2, 3.0, shape[-1]))
        for shape in [(4, 3), *(LARGE if large else [])]
    ]
    return [
        *plain,
        *weighted,
        _case(rng, "a class of weight 0, ", rng.standard_normal((8, 2)), w=np.array([1.0, 0.0])),
        _case(rng, "saturated, ", np.array([[800.0, -800.0, 0.0], [-90.0, 90.0, 0.0], [30.0, 30.0, -30.0]])),
    ]


def _case(rng, label, x, *, w=None) -> Case:
    classes = x.shape[-1]
    t = np.asarray(rng.integers(0, classes, x.shape[:-1]))
    t.reshape(-1)[0] = 0  # at least one target of a weight that is not 0
    return Case(
        label=f"{label}shape {x.shape}",
        calls={"forward": ((x, t, w), {}), "backward": ((np.array(0.7), x, t, w), {})},
        function=lambda x: softmax_cross_entropy(x, t, w),
        inputs=(x,),
        terms=classes,
    )
