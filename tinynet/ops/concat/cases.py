"""Configurations of concat worth checking."""

from __future__ import annotations

import numpy as np

from .._shared.case import Case
from .op import concat


def cases(rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases: every axis, unequal and empty parts, one array alone and twice, channel slices."""

    def parts(*shapes):
        return [rng.standard_normal(shape) for shape in shapes]

    x = rng.standard_normal((2, 3, 4, 7))
    small = [
        _case("channels of a U-Net", parts((2, 3, 4, 5), (2, 3, 4, 5)), axis=3),
        _case("three, unequal", parts((2, 3, 1), (2, 3, 4), (2, 3, 2)), axis=2),
        _case("first axis", parts((2, 3), (1, 3)), axis=0),
        _case("middle axis", parts((2, 3, 4), (2, 1, 4)), axis=1),
        _case("an empty part", parts((2, 0), (2, 3)), axis=1),
        _case("nothing at all", parts((0, 2), (0, 3)), axis=1),
        _case("one array", parts((2, 3)), axis=1),
        _case("channel slices", [x[..., 1:4], x[..., 4:]], axis=3),
    ]
    many = [
        _case("large", parts((3, 65, 67, 16), (3, 65, 67, 5)), axis=3),
        _case("long rows", parts((3, 20_000), (3, 20_000)), axis=1),
    ]
    return small + (many if large else [])


def _case(label: str, arrays: list[np.ndarray], axis: int) -> Case:
    return Case(
        label=f"{label}: {', '.join(str(a.shape) for a in arrays)}, axis {axis}",
        calls={"forward": (tuple(arrays), {"axis": axis})},
        function=lambda *arrays: concat(arrays, axis=axis),
        inputs=tuple(arrays),
    )
