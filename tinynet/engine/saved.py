"""The arrays that a Function saves for its backward pass, and the check that they have not changed since.

A gradient computed from overwritten values would be wrong without a warning, so there are two checks. A change through
the Tensor API increments the tensor's `Version`, which is always checked. A change of the memory itself
(`tensor.data[...] = 0`) leaves no trace; inside `with check_saved_arrays():` checksums find it.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from ..backends.arrays import array_module
from ..backends.context import set_inside
from ..backends.devices import to_device

_with_checksums: ContextVar[bool] = ContextVar("with_checksums", default=False)


def check_saved_arrays() -> contextlib.AbstractContextManager[None]:
    """Debug mode: compute a checksum of every array a Function saves; RuntimeError if it has changed when it is used.

    Changes through the Tensor API are always found. This mode also finds `tensor.data[...] = ...` and changes of a
    NumPy array whose memory a tensor shares. It must surround the forward and the backward pass.
    """
    return set_inside(_with_checksums, True)


class Version:
    """How often the memory of a tensor was changed in place. Views of the same memory share one."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class _Owner(NamedTuple):
    """The tensor that a saved array belongs to (None: the output), and its version when the array was saved."""

    tensor: Any
    version: Version
    count_when_saved: int
    shape: tuple[int, ...]


class Saved:
    """The arrays that one call of a Function saved.

    name: of the Function, for messages. arrays: its saved arrays; other objects are kept unchanged.
    inputs: its input tensors. out_data, out_version: the array that forward returned, and the version of its tensor.
    """

    def __init__(self, name: str, arrays: tuple, inputs: Sequence[Any], out_data: Any, out_version: Version) -> None:
        self.name, self.arrays = name, arrays
        self._owners = [_owner_of(array, inputs, out_data, out_version) for array in arrays]
        self._checksums = _checksums(arrays) if _with_checksums.get() else None

    def check(self) -> None:
        """Raise RuntimeError if a saved array was changed."""
        for owner in self._owners:
            if owner is not None and owner.version.count != owner.count_when_saved:
                raise RuntimeError(
                    f"{self.name}: a tensor of shape {owner.shape} that is needed for the gradient was "
                    "changed in place after the forward pass"
                )
        if self._checksums is not None and self._checksums != _checksums(self.arrays):
            raise RuntimeError(
                f"{self.name}: the memory of an array saved for the gradient was overwritten "
                f"(saved shapes: {[getattr(a, 'shape', a) for a in self.arrays]})"
            )

    def tensors(self, output: Callable[[Any, Version], Any]) -> tuple:
        """The tensors that the arrays belong to. An array that belongs to no tensor is returned itself.

        output: makes the function's output tensor from its array and its version.
        """
        return tuple(
            array if owner is None else output(array, owner.version) if owner.tensor is None else owner.tensor
            for array, owner in zip(self.arrays, self._owners)
        )


def is_view(data: Any, other: Any) -> bool:
    """True if both are the same array, or if `data` is a view (reshape, slice) of the memory of `other`."""
    return data is other or (
        getattr(data, "base", None) is not None and array_module(data).may_share_memory(data, other)
    )


def _owner_of(saved: Any, inputs: Sequence[Any], out_data: Any, out_version: Version) -> _Owner | None:
    """The input or the output whose array was saved; None for any other object."""
    for tensor in inputs:
        if tensor._data is saved:
            return _Owner(tensor, tensor._version, tensor._version.count, tensor.shape)
    if saved is out_data:  # not the tensor itself, or output -> function -> output would be a cycle
        return _Owner(None, out_version, out_version.count, saved.shape)
    return None


def _checksums(arrays: Sequence[Any]) -> list[int | None]:
    """A checksum for each array, None for any other object."""
    return [
        zlib.crc32(np.ascontiguousarray(to_device(a, "cpu")).view(np.uint8).reshape(-1).data)
        if hasattr(a, "dtype")
        else None
        for a in arrays
    ]
