"""Configurations of binary cross-entropy with logits worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import bce_with_logits

SMALL = [(2, 3, 4, 1), (7,), ()]
LARGE = [(3, 37, 41, 2), (2, 64, 64, 1)]  # chunks that are not full, and many


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases: with and without weights, positives that count more, soft targets, logits deep in saturation."""
    plain = [_case(rng, "", 2 * rng.standard_normal(shape)) for shape in SMALL + (LARGE if large else [])]
    weighted = [
        _case(rng, "weights, ", 2 * rng.standard_normal(shape), weighted=True, pos_weight=3.5)
        for shape in [(2, 5), *(LARGE if large else [])]
    ]
    return [
        *plain,
        *weighted,
        _case(rng, "soft target, ", rng.standard_normal((2, 5)), target=0.3, pos_weight=0.5),
        _case(rng, "saturated, target 0, ", np.array([-800.0, -90.0, -30.0, 30.0, 90.0, 800.0]), target=0.0),
        _case(rng, "saturated, target 1, ", np.array([-800.0, -90.0, -30.0, 30.0, 90.0, 800.0]), target=1.0),
    ]


def _case(rng, label, x, *, target=None, weighted=False, pos_weight=1.0) -> Case:
    x = np.asarray(x)
    t = np.asarray(rng.random(x.shape) < 0.4, dtype=float) if target is None else np.full(x.shape, target)
    w = rng.uniform(0.2, 3.0, x.shape) if weighted else None
    return Case(
        label=f"{label}shape {x.shape}, pos_weight {pos_weight}",
        calls={
            "forward": ((x, t, w), {"pos_weight": pos_weight}),
            "backward": ((np.array(0.7), x, t, w), {"pos_weight": pos_weight}),
        },
        function=lambda x: bce_with_logits(x, t, w, pos_weight=pos_weight),
        inputs=(x,),
    )
