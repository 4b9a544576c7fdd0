"""Configurations of dropout worth checking: all remainders of four, keys and steps of more than 32 bits."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import dropout

# The index of x's first element in the batch: multiples of 4 and others, around 2^34 (where the counter's second word
# changes), and the largest.
FIRST = (8, 5, 2**34 - 8, 2**34 - 10, 2**63 - 1)


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases."""
    shapes = [(2, 3, 4, 5), (7,), (6,), (5,), (1,), (0, 3), ()] + ([(3, 17, 19, 16)] if large else [])
    varied = [_case(rng, shape, p=0.3, seed=1, stream=2, step=3) for shape in shapes]
    return [
        *varied,
        _case(rng, (4, 9), p=0.0, seed=0, stream=0, step=0),
        _case(rng, (4, 9), p=0.9, seed=2**32 - 1, stream=2**32 - 2, step=2**64 - 1),
        _case(rng, (4, 9), p=0.5, seed=0xDEADBEEF, stream=7, step=2**32),
        *(_case(rng, (3, 7), p=0.4, seed=1, stream=2, step=3, first=first) for first in FIRST),
        _case(rng, (5,), p=0x6627E8D5 / 2**32, seed=0, stream=0, step=0),  # the first word is equal: it is kept
    ]


def _case(rng: np.random.Generator, shape: tuple[int, ...], **parameters: float) -> Case:
    x = np.asarray(rng.standard_normal(shape))
    return Case(
        label=f"shape {shape}, {parameters}",
        calls={"forward": ((x,), parameters)},
        function=lambda x: dropout(x, **parameters),
        inputs=(x,),
    )
