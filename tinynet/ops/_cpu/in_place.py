"""Updates of an optimizer in Numba: a loop over the elements of one parameter, run for every parameter of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .elementwise import range_count


class ElementLoop:
    """A loop over the elements of 1-D arrays that changes them in place: function(r, *arrays, constants, *flags).

    r: the number of a range, see `range_of`; the function changes the elements of this range.
    """

    def __init__(self, function: Callable) -> None:
        task = jit(separate=True)(function)

        @jit
        def loop(*arguments):
            in_parallel(task, range_count(arguments[0].size), arguments)

        self._loop = loop

    def run(
        self,
        tensors: Iterable[Sequence[np.ndarray | None]],
        changed: int,
        constants: Sequence[float],
        *flags: bool,
    ) -> None:
        """Run the loop for each tensor.

        tensors: for each the arrays of the loop, of one shape and dtype, in any memory order; None is passed on.
        changed: the loop writes to the first `changed` arrays. constants: passed as a tuple, in the arrays' dtype.
        """
        for arrays in tensors:
            flat = [None if a is None else np.ascontiguousarray(a).reshape(-1) for a in arrays]
            self._loop(*flat, tuple(flat[0].dtype.type(c) for c in constants), *flags)
            for array, result in zip(arrays[:changed], flat):
                if array is not None and not array.flags.c_contiguous:  # then `result` is a copy
                    array[...] = result.reshape(array.shape)
