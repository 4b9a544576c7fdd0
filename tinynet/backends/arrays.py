"""Which array library an array belongs to, and where it lies.

This file imports nothing of tinynet: kernels that depend on it need not be compiled again when anything else changes.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np


def array_module(array: Any) -> ModuleType:
    """The module that works on this array: NumPy, or CuPy for an array on a GPU."""
    return sys.modules["cupy"] if type(array).__module__.startswith("cupy") else np


def device_of(array: Any) -> str:
    """'cpu' or 'cuda'."""
    return "cpu" if array_module(array) is np else "cuda"


_NUMBERS = frozenset("?bBhHiIlLqQfd")  # NumPy's letters for booleans, integers, float32 and float64
takes_complex: ContextVar[bool] = ContextVar("takes_complex", default=False)  # True in gradcheck's complex step


def plain_array(name: str, array: Any) -> Any:
    """The array as kernels take it: of numbers in the machine's byte order, aligned, and of no subclass.

    The array itself if it is plain already, else a copy. name: of the argument, for messages.
    Raises TypeError for other dtypes (float16, complex numbers, strings, objects) and for masked arrays.
    """
    if array.dtype.char not in _NUMBERS and not (array.dtype.char == "D" and takes_complex.get()):
        known = "float32, float64, integers or booleans are needed"
        raise TypeError(f"{name} has dtype {array.dtype}; {known}: convert it, e.g. with .astype('float32')")
    if type(array) is np.ndarray and array.dtype.isnative and array.flags.aligned:
        return array
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; pass array.filled(value)")
    if not isinstance(array, np.ndarray):
        return array  # of CuPy, which knows plain arrays only
    return np.require(array, array.dtype.newbyteorder("="), "A")
