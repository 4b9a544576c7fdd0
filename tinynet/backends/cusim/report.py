"""How well the kernels of a program access memory, line by line: coalescing and bank conflicts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from .findings import Launched
from .places import Place, Places, line_of_text
from .run import Row, checked, with_rows

LEGEND = """\
A GPU serves the 32 threads of a warp together.
  global   memory of the GPU comes in sectors of 32 bytes. x ideal: the sectors that the warps touch, divided by the
           sectors that the bytes they need would fill. 1 if neighboring threads access neighboring addresses
           (coalesced), up to 8 if each float comes from a sector of its own.
  shared   memory of the block has 32 banks of 4 bytes. x ideal: the number of words that the busiest bank must deliver
           one after the other. 1 if no two threads access different words of one bank (no conflict), 32 at worst.
  warps    how often a warp makes the access: a small factor with many warps may cost more than a large one with few.
Accesses to registers and to local arrays are not counted. The arrays are small: in warps at an edge some threads are
idle."""


@dataclass
class Line:
    """All accesses of one kind on one line of the source."""

    place: Place
    memory: str
    access: str
    warps: int = 0
    cost: int = 0
    ideal: int = 0
    text: str = ""

    @property
    def factor(self) -> float:
        """The cost over the lowest possible cost."""
        return self.cost / self.ideal


class Accesses:
    """The accesses to memory of the kernels that ran inside `with counted()`; as text, a table for each kernel."""

    def __init__(self, launches: Sequence[tuple[Launched, list[Row]]]) -> None:
        self._launches = launches

    @property
    def _by_kernel(self) -> dict[str, list[tuple[Launched, list[Row]]]]:
        names = dict.fromkeys(launched.kernel for launched, _ in self._launches)
        return {name: [entry for entry in self._launches if entry[0].kernel == name] for name in names}

    @property
    def lines(self) -> dict[str, list[Line]]:
        """The accesses by the name of the kernel, in the order of the file."""
        return {name: _summed(launches) for name, launches in self._by_kernel.items()}

    @property
    def tables(self) -> str:
        """A table for each kernel, without the explanation of its columns."""
        return "\n".join(_table(of[0][0], len(of), _summed(of)) for of in self._by_kernel.values())

    def __str__(self) -> str:
        return f"{self.tables}\n{LEGEND}" if self._launches else "no kernel has run on the emulator"


@contextlib.contextmanager
def counted() -> Iterator[Accesses]:
    """Inside `with`, count how well the accesses of kernels to memory fit together; the kernels are checked, too.

        with cusim.counted() as accesses:
            transpose(x)
        print(accesses)

    The value of `accesses.lines["transpose"]` is a list of `Line`: its `factor` is 1 without bank conflicts.
    """
    with checked(), with_rows() as launches:
        yield Accesses(launches)


def _summed(launches: Sequence[tuple[Launched, list[Row]]]) -> list[Line]:
    """The accesses of a kernel's launches, summed by line, in the order of the file."""
    lines: dict[tuple, Line] = {}
    for launched, rows in launches:
        places = Places(launched.library, [row.code_offset for row in rows])
        for row in rows:
            place = places.of_code(row.code_offset)
            memory = "shared" if row.is_shared else "global"
            access = "store" if row.is_write else "load"
            line = lines.setdefault((place, memory, access), Line(place, memory, access))
            line.text = line_of_text(launched.source, place)
            line.warps += row.accesses
            line.cost += row.cost
            line.ideal += row.ideal
    return sorted(lines.values(), key=lambda line: (line.place.file, line.place.line, line.memory, line.access))


def _table(launched: Launched, count: int, lines: Sequence[Line]) -> str:
    rows = [f"  {launched.kernel} in {launched.source.name}, launched {count} time{'s' * (count != 1)}"]
    rows.append(f"    {'line':>20} memory access    warps x ideal")
    for line in lines:
        place = f"{PurePath(line.place.file).name}:{line.place.line}" if line.place.line else "not known"
        rows.append(f"    {place:>20} {line.memory:6} {line.access:6} {line.warps:8} {line.factor:7.2f}  {line.text}")
    for memory in ("global", "shared"):
        cost, ideal = (sum(getattr(n, what) for n in lines if n.memory == memory) for what in ("cost", "ideal"))
        if ideal:
            rows.append(f"    {'together':>20} {memory:6} {'':6} {'':8} {cost / ideal:7.2f}")
    return "\n".join([*rows, ""])
