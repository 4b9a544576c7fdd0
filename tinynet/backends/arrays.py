"""Which array library an array belongs to, and where it lies.

This file imports nothing of tinynet: kernels that depend on it need not be compiled again when anything else changes.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np


def array_module(array: Any) -> ModuleType:
    """The module that works on this array: NumPy, or CuPy for an array on a GPU."""
    return sys.modules["cupy"] if type(array).__module__.startswith("cupy") else np


def device_of(array: Any) -> str:
    """'cpu' or 'cuda'."""
    return "cpu" if array_module(array) is np else "cuda"
