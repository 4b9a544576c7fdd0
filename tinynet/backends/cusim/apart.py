"""Copies of arrays with wide gaps between them.

An index that is too large leads into the array that happens to lie behind, and nothing shows that this is a mistake. So
in the checks a kernel works on copies, and no array lies in the memory around a copy.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence

import numpy as np

GAP = 1 << 20  # bytes; memory that is never touched costs nothing
ALIGNED = 256  # bytes; a copy lies as the array does, so that what is aligned there is aligned here


@contextlib.contextmanager
def apart(
    arrays: Sequence[np.ndarray], in_place: Sequence[np.ndarray] = (), as_on_gpu: bool = False
) -> Iterator[list[int]]:
    """Inside `with`, the addresses of copies of the arrays; at its end, what they hold is copied back.

    Arrays that overlap share a copy. Those that overlap one of `in_place` have none, their own addresses are given.
    as_on_gpu: copies begin at multiples of 256 bytes, wherever the arrays do.
    """
    groups = _overlapping([*arrays, *in_place])
    arena = np.empty(sum(group.bytes + GAP + ALIGNED for group in groups) + GAP, np.uint8)
    moved: dict[int, int] = {}  # the group's first address -> that of its copy
    here = arena.ctypes.data + GAP
    for group in groups:
        if any(np.may_share_memory(member, other) for member in group.members for other in in_place):
            moved[group.start] = group.start
            continue
        here += ((0 if as_on_gpu else group.start) - here) % ALIGNED
        moved[group.start] = here
        ctypes.memmove(here, group.start, group.bytes)
        here += group.bytes + GAP
    starts = {id(member): group.start for group in groups for member in group.members}
    yield [a.ctypes.data - starts[id(a)] + moved[starts[id(a)]] for a in arrays]
    for group in groups:
        if any(member.flags.writeable for member in group.members) and moved[group.start] != group.start:
            ctypes.memmove(group.start, moved[group.start], group.bytes)


class _Group:
    """Arrays that overlap, directly or through others of the group."""

    def __init__(self, array: np.ndarray) -> None:
        self.members = [array]
        self.start = array.ctypes.data
        self.end = self.start + array.nbytes

    @property
    def bytes(self) -> int:
        return self.end - self.start


def _overlapping(arrays: Sequence[np.ndarray]) -> list[_Group]:
    groups: list[_Group] = []
    for array in sorted(arrays, key=lambda a: a.ctypes.data):
        last = groups[-1] if groups else None
        if last and array.ctypes.data < last.end:
            last.members.append(array)
            last.end = max(last.end, array.ctypes.data + array.nbytes)
        else:
            groups.append(_Group(array))
    return groups
