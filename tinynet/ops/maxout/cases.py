"""Configurations of maxout worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import maxout
from .reference import forward

#         shape            pieces
SIZES = [((2, 3, 4, 6), 2), ((2, 5, 12), 3), ((4, 4), 4), ((5,), 1), ((6,), 6), ((0, 4), 2), ((3, 0), 2)]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases. Pieces keep a distance where they are differentiated; in the last case the kernels meet ties."""
    sizes = SIZES + ([((3, 17, 19, 32), 2)] if large else [])
    random = [_case(f"shape {shape}, {pieces} pieces", _distinct(rng, shape), pieces, rng) for shape, pieces in sizes]
    tied = _case("ties", _distinct(rng, (8, 6)), 3, rng)
    x = rng.integers(0, 2, size=(8, 6)).astype(float)
    tied.calls["forward"] = ((x,), {"pieces": 3})
    return [*random, tied]


def _distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random order, neighbors in size 0.1 apart: a numeric derivative does not change the winner."""
    return 0.1 * (rng.permutation(int(np.prod(shape))).reshape(shape) - np.prod(shape) / 2)


def _case(label: str, x: np.ndarray, pieces: int, rng: np.random.Generator) -> Case:
    y, winner = forward.definition(x, pieces=pieces)
    gy = rng.standard_normal(y.shape)
    return Case(
        label=label,
        calls={"forward": ((x,), {"pieces": pieces}), "backward": ((gy, winner), {"pieces": pieces})},
        function=lambda x: maxout(x, pieces),
        inputs=(x,),
    )
