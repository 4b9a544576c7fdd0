"""Updates of an optimizer in Numba: a loop over the elements of one parameter, run for every parameter of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ...backends.numba.jit import jit

# Number of elements from which on several threads are quicker than one, although they have to be woken first.
LARGE = 65536


class ElementLoop:
    """A loop over the elements of 1-D arrays, compiled for one thread and for several.

    Its function is written with `numba.prange`, which is `range` in the version for one thread.
    """

    def __init__(self, function: Callable) -> None:
        self.on_one_thread = jit(function)
        self.on_all_threads = jit(parallel=True)(function)

    def run(
        self,
        tensors: Iterable[Sequence[np.ndarray | None]],
        changed: int,
        constants: Sequence[float],
        *flags: bool,
    ) -> None:
        """Run `loop(*arrays, constants, *flags)` for each tensor.

        tensors: for each the arrays of the loop, of one shape and dtype, in any memory order; None is passed on.
        changed: the loop writes to the first `changed` arrays. constants: passed as a tuple, in the arrays' dtype.
        """
        for arrays in tensors:
            flat = [None if a is None else np.ascontiguousarray(a).reshape(-1) for a in arrays]
            loop = self.on_all_threads if flat[0].size >= LARGE else self.on_one_thread
            loop(*flat, tuple(flat[0].dtype.type(c) for c in constants), *flags)
            for array, result in zip(arrays[:changed], flat):
                if array is not None and not array.flags.c_contiguous:  # then `result` is a copy
                    array[...] = result.reshape(array.shape)
