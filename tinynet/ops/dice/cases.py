"""Configurations of the soft Dice loss worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import dice_loss
from .reference import forward

SMALL = [(2, 3, 4, 1), (3, 5), (1, 7), (1,), (4,)]
LARGE = [(5, 33, 41, 3), (2, 64, 64, 1)]  # chunks that are not full, and many


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases: per batch and per image, other smoothings, targets that are empty, full or soft."""
    shapes = SMALL + (LARGE if large else [])
    by_shape = [_case(rng, "", shape, per_image=per_image) for shape in shapes for per_image in (False, True)]
    return [
        *by_shape,
        _case(rng, "no axes, ", ()),
        _case(rng, "empty target, ", (2, 6), target=0.0, per_image=True),
        _case(rng, "full target, ", (2, 6), target=1.0, smooth=1e-3),
        _case(rng, "soft target, ", (2, 6), target=0.3, smooth=2.5),
    ]


def _case(rng, label, shape, *, target=None, per_image=False, smooth=1.0) -> Case:
    p = np.asarray(rng.uniform(0.05, 0.95, shape))
    t = np.asarray(rng.random(shape) < 0.3, dtype=float) if target is None else np.full(shape, target)
    _, sums = forward.definition(p, t, smooth=smooth, per_image=per_image)
    return Case(
        label=f"{label}shape {shape}, per_image {per_image}, smooth {smooth}",
        calls={
            "forward": ((p, t), {"smooth": smooth, "per_image": per_image}),
            "backward": ((np.array(0.7), t, sums), {"smooth": smooth}),
        },
        function=lambda p: dice_loss(p, t, per_image=per_image, smooth=smooth),
        inputs=(p,),
    )
