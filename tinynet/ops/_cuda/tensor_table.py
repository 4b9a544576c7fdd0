"""One launch over all tensors of a model: the table through which a kernel finds them; see tensor_table.cuh.

A model has dozens of small parameters, and on a GPU a launch for each takes longer than the work. So every block gets
a chunk of one of them, and a table says of which. Only addresses travel to the GPU at each step, 8 bytes an array,
because gradients are new arrays each time. The chunks stay there: they depend on the sizes alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends.arrays import device_of
from ...backends.cuda.source import Source
from ...backends.devices import to_device
from ...backends.launch import REAL, address, blocks, contiguous, launch

THREADS = 256
CHUNK = 2048  # elements of a block: small, so that a model of a million weights still fills a large GPU


@dataclass
class Table:
    """The tensors of one dtype, as a kernel reaches them.

    tensors: for each the arrays in the roles that the kernel knows, as given. flat: the same arrays, or contiguous
    copies. addresses: (tensors, roles), uint64, where those begin. chunks: (blocks, 3), uint64. real: the C type.
    """

    tensors: list[tuple[Any, ...]]
    flat: list[list[Any]]
    addresses: Any
    chunks: Any
    real: str

    def launch(self, source: Source, kernel: str, *arguments: Any) -> None:
        """Run a kernel whose first parameters are `addresses` and `chunks`, with a block for each chunk."""
        reachable = [array for arrays in self.flat for array in arrays]
        table = self.addresses, self.chunks
        launch(source, kernel, len(self.chunks), THREADS, *table, *arguments, reachable=reachable, real=self.real)


def tables(kernel: str, arrays: dict[str, Sequence[Any]]) -> Iterator[Table]:
    """A table for each dtype among the tensors. arrays: for each role, in the kernel's order, one for each tensor.

    Raises ValueError for arrays that differ in shape or lie in different places, TypeError where dtypes differ; the
    message begins with the kernel's name.
    """
    tensors = list(zip(*arrays.values()))
    _check(kernel, list(arrays), tensors)
    for dtype in dict.fromkeys(of_tensor[0].dtype for of_tensor in tensors):
        group = [of_tensor for of_tensor in tensors if of_tensor[0].dtype == dtype]
        flat = [[contiguous(a) for a in of_tensor] for of_tensor in group]
        device = device_of(flat[0][0])
        addresses = to_device(np.array([[address(a) for a in of_tensor] for of_tensor in flat], np.uint64), device)
        chunks = _chunks(tuple(of_tensor[0].size for of_tensor in flat), device)
        yield Table(group, flat, addresses, chunks, REAL[dtype])


def launch_over_tensors(
    source: Source, kernel: str, arrays: dict[str, Sequence[Any]], changed: int, *scalars: float
) -> None:
    """Run a kernel over all elements of all tensors, in one launch for each dtype among them.

    kernel: its parameters are `addresses`, `chunks` and the scalars. arrays: as in `tables`, which says what is raised.
    changed: the kernel writes to the first so many roles; of those, arrays that are not contiguous are copied back.
    """
    for table in tables(kernel, arrays):
        table.launch(source, kernel, *scalars)
        for of_tensor, flat in zip(table.tensors, table.flat):
            for array, copy in zip(of_tensor[:changed], flat):
                if not array.flags.c_contiguous:
                    array[...] = copy


@functools.lru_cache(maxsize=16)
def _chunks(sizes: tuple[int, ...], device: str) -> Any:
    """(tensor, first element, number of elements) of each block, (blocks, 3), uint64, on the device."""
    table = [
        (tensor, CHUNK * i, min(CHUNK, size - CHUNK * i))
        for tensor, size in enumerate(sizes)
        for i in range(blocks(size, CHUNK))
    ]
    return to_device(np.array(table, np.uint64).reshape(-1, 3), device)


def _check(kernel: str, roles: Sequence[str], tensors: Sequence[Sequence[Any]]) -> None:
    """A kernel that follows addresses would take whatever lies there."""
    places = {}  # an array for each device that occurs
    for i, (first, *others) in enumerate(tensors):
        places |= {device_of(array): f"{role}[{i}]" for role, array in zip(roles, (first, *others))}
        if first.dtype not in REAL:
            raise TypeError(f"{kernel}: {roles[0]}[{i}] is {first.dtype}; float32 or float64 is needed")
        for role, other in zip(roles[1:], others):
            if other.dtype != first.dtype:
                raise TypeError(f"{kernel}: {role}[{i}] is {other.dtype}, {roles[0]}[{i}] is {first.dtype}")
            if other.shape != first.shape:
                raise ValueError(f"{kernel}: {role}[{i}] is {other.shape}, {roles[0]}[{i}] is {first.shape}")
    if len(places) > 1:
        raise ValueError(
            f"{kernel}: {places['cpu']} is on the CPU, {places['cuda']} on the GPU; all arrays must be in one place"
        )
