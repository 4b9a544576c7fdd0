"""Configurations of every activation worth checking: the shapes are shared, the parameters are those of its entry."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np

from .._shared.case import Case, away_from
from .entries import ACTIVATIONS
from .op import Activation

SHAPES = [(2, 3, 4, 5), (7,), (1,), (0, 3), ()]
LARGE_SHAPE = (3, 17, 19, 16)
AT_ZERO_AND_FAR_OUT = np.array([-800.0, -90.0, -30.0, -1.0, -0.0, 0.0, 1.0, 6.0, 30.0, 90.0, 800.0])


def _cases(activation: type[Activation], rng: np.random.Generator, large: bool = True) -> list[Case]:
    """All cases. Values to differentiate at keep away from kinks; in the last case the kernels meet them."""
    drawn = {
        f"shape {shape}": np.asarray(3 * rng.standard_normal(shape)) for shape in SHAPES + [LARGE_SHAPE] * bool(large)
    }
    return [
        _case(activation, label, x, parameters, np.asarray(rng.standard_normal(x.shape)))
        for label, x in {**drawn, "at 0 and far out": AT_ZERO_AND_FAR_OUT}.items()
        for parameters in activation.parameters
    ]


def _case(
    activation: type[Activation], label: str, x: np.ndarray, parameters: dict[str, float], gy: np.ndarray
) -> Case:
    y = np.asarray(activation.value(x, **parameters))
    return Case(
        label=", ".join([label, *(f"{name} {value}" for name, value in parameters.items())]),
        calls={
            "forward": ((x,), parameters),
            "backward": ((gy, y), parameters),
        },
        function=lambda x: activation.of(x, **parameters),
        inputs=(functools.reduce(away_from, activation.kinks, x),),
    )


PARTS = {op: SimpleNamespace(cases=functools.partial(_cases, activation)) for op, activation in ACTIVATIONS.items()}
