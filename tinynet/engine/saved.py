"""What a Function keeps for its backward pass, and the check that nobody has changed it since.

A gradient computed from overwritten values is a wrong number without a warning, so changes are looked for twice.
Changes through the Tensor API count up the tensor's `Version`; that is always checked. Changes to the memory itself
(`tensor.data[...] = 0`) leave no trace; inside `with check_saved_arrays():` they are found by comparing checksums.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from ..backends.arrays import array_module
from ..backends.devices import to_device

_with_checksums: ContextVar[bool] = ContextVar("with_checksums", default=False)


@contextlib.contextmanager
def check_saved_arrays() -> Iterator[None]:
    """Debug mode: checksum every array a Function saves and complain if it has changed when it is used.

    Changes made through the Tensor API are always noticed; this also notices `tensor.data[...] = ...` and
    changes to a NumPy array that a tensor shares. It must surround the forward and the backward pass.
    """
    token = _with_checksums.set(True)
    try:
        yield
    finally:
        _with_checksums.reset(token)


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

    name: of the Function, for messages. arrays: what it saved; anything that is no array is kept as it is.
    inputs: its input tensors. out_data, out_version: the array its forward returned, and the version of that tensor.
    """

    def __init__(self, name: str, arrays: tuple, inputs: Sequence[Any], out_data: Any, out_version: Version) -> None:
        self.name, self.arrays = name, arrays
        self._owners = [_owner_of(array, inputs, out_data, out_version) for array in arrays]
        self._checksums = _checksums(arrays) if _with_checksums.get() else None

    def check(self) -> None:
        """Raise RuntimeError if what was saved is no longer what it was."""
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
        """The tensors the arrays belong to, which have a history; arrays of no tensor, and anything else, as saved.

        output: makes the function's output tensor of its array and its version.
        """
        return tuple(
            array if owner is None else output(array, owner.version) if owner.tensor is None else owner.tensor
            for array, owner in zip(self.arrays, self._owners)
        )


def is_view(data: Any, other: Any) -> bool:
    """Whether two arrays are one, or `data` is a view (reshape, slice) of the memory of `other`."""
    return data is other or (
        getattr(data, "base", None) is not None and array_module(data).may_share_memory(data, other)
    )


def _owner_of(saved: Any, inputs: Sequence[Any], out_data: Any, out_version: Version) -> _Owner | None:
    """The input or the output whose array was saved; None for anything else."""
    for tensor in inputs:
        if tensor.data is saved:
            return _Owner(tensor, tensor._version, tensor._version.count, tensor.shape)
    if saved is out_data:  # not the tensor itself, or output -> function -> output would be a cycle
        return _Owner(None, out_version, out_version.count, saved.shape)
    return None


def _checksums(arrays: Sequence[Any]) -> list[int | None]:
    """A checksum for each array, None for what is no array."""
    return [
        zlib.crc32(np.ascontiguousarray(to_device(a, "cpu")).view(np.uint8).reshape(-1).data)
        if hasattr(a, "dtype")
        else None
        for a in arrays
    ]
