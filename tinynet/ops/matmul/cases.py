"""Configurations of matmul worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import MatMul

TRANSPOSED = [(False, False), (False, True), (True, False), (True, True)]


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases: one size and all ways to lie in memory, stacks that broadcast, rows, columns, long sums, nothing."""
    small = [
        *(_case(rng, "plain", (3, 4), (4, 5), *transposed) for transposed in TRANSPOSED),
        _case(rng, "stack", (2, 3, 4), (2, 4, 2)),
        _case(rng, "stacks broadcast", (2, 1, 3, 2), (3, 2, 4)),
        _case(rng, "stack transposed, one matrix", (2, 3, 2), (2, 4), True, False),
        _case(rng, "a row", (1, 5), (5, 3)),
        _case(rng, "a column of results", (5, 3), (3, 1)),
        _case(rng, "one term", (3, 1), (1, 4)),
        _case(rng, "no terms: zeros", (2, 0), (0, 3)),
        _case(rng, "no rows", (0, 2), (2, 3)),
        *(_case(rng, "bias", (3, 4), (4, 5), *transposed, bias=True) for transposed in TRANSPOSED[:2]),
        *(_case(rng, "bias", (n, m), (m, k), bias=True) for n, m, k in ((1, 2, 3), (3, 2, 1), (2, 0, 3), (0, 2, 3))),
        _case(rng, "no matrices", (0, 2, 3), (0, 3, 2)),
    ]
    many = [
        *(_case(rng, "several tiles", (2, 131, 11), (11, 69), *transposed) for transposed in TRANSPOSED),
        *(_case(rng, "four at a time", (132, 12), (12, 68), *transposed) for transposed in TRANSPOSED),
        *(_case(rng, "tiles, bias", (2, 131, 11), (11, 69), *transposed, bias=True) for transposed in TRANSPOSED),
        _case(rng, "long sum, bias", (3, 1501), (1501, 5), bias=True),
        *(_case(rng, "a vector, bias", (n, 300), (300, k), bias=True) for n, k in ((1, 100), (90, 1))),
        _case(rng, "broadcast in three runs of axes", (2, 1, 2, 3, 9), (1, 3, 1, 9, 5)),
        _case(rng, "long sum", (3, 1501), (1501, 5)),
        _case(rng, "long sums, transposed", (2, 3, 1024), (1024, 4), True, False),
        *(_case(rng, "a row times a matrix", (1, 300), (300, 100), False, transpose) for transpose in (False, True)),
        *(_case(rng, "a matrix times a column", (90, 300), (300, 1), transpose) for transpose in (False, True)),
    ]
    return small + (many if large else [])


def _case(rng, label, x_shape, y_shape, transpose_x=False, transpose_y=False, bias=False) -> Case:
    """The shapes are those of the product; a transposed operand is handed over with its last two axes swapped."""
    x, y = rng.standard_normal(x_shape), rng.standard_normal(y_shape)
    x = np.ascontiguousarray(x.swapaxes(-1, -2)) if transpose_x else x
    y = np.ascontiguousarray(y.swapaxes(-1, -2)) if transpose_y else y
    inputs = (x, y, rng.standard_normal(y_shape[-1])) if bias else (x, y)
    parameters = {"transpose_x": transpose_x, "transpose_y": transpose_y}
    flags = "".join(f", {name}" for name, value in parameters.items() if value)
    return Case(
        label=f"{label}: x {x.shape}, y {y.shape}{flags}",
        calls={"forward": (inputs, parameters)},
        function=lambda *inputs: MatMul.apply(*inputs, **parameters),
        inputs=inputs,
        terms=x_shape[-1],
    )
