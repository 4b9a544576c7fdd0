"""`python -m tinynet cusim report conv2d`: how well a CUDA kernel accesses memory, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from ..backends.cusim.findings import Launched
from ..backends.cusim.places import Place, Places, line_of_text
from ..backends.cusim.run import Row, checked, counted
from ..backends.registry import (
    implementation_kernel,
    implementations,
    kernel_names,
    op_part,
    ops,
    use_backend,
    use_kernels,
)
from ..ops._shared.case import Case, map_arrays
from .cli import option, run_commands

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
class ReportConfig:
    """The flags of `report`."""

    op: str = option(help="the op whose kernels are run, e.g. conv2d", positional=True)
    kernel: str = option("", "a kernel of the op, e.g. forward (default: all)")
    implementation: str = option("", "e.g. naive (default: the op's default)")
    case: str = option("", "part of the label of one of the op's cases (default: the first)")

    def __post_init__(self) -> None:
        _check_is_one_of("op", self.op, ops())
        self.implementation = self.implementation or implementations(self.op, "cuda-sim")[0]
        _check_is_one_of("--implementation", self.implementation, implementations(self.op, "cuda-sim"))
        if self.kernel:
            _check_is_one_of("--kernel", self.kernel, kernel_names(self.op))


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


def main(argv: Sequence[str] | None = None) -> Any:
    """Run one of the commands."""
    return run_commands({"report": (ReportConfig, report)}, argv, "python -m tinynet cusim", "The emulator of CUDA.")


def report(config: ReportConfig) -> dict[str, list[Line]]:
    """Print for each line of a CUDA kernel how well the accesses of a warp fit together.

    Returns the lines by the name of the CUDA kernel.
    """
    found: dict[str, list[Line]] = {}
    for name in [config.kernel] if config.kernel else kernel_names(config.op):
        case = _first_case(config, name)
        print(f"{config.op}.{name}, implementation {config.implementation}, float32, case: {case.label}\n")
        launches = _run(config, name, case)
        for kernel in dict.fromkeys(launched.kernel for launched, _ in launches):
            of_kernel = [(launched, rows) for launched, rows in launches if launched.kernel == kernel]
            found[kernel] = _lines(of_kernel)
            _print_table(of_kernel[0][0], len(of_kernel), found[kernel])
    print(LEGEND)
    return found


def _check_is_one_of(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{what} is {value!r}; it must be one of: {', '.join(known)}")


def _first_case(config: ReportConfig, name: str) -> Case:
    """The first case that runs kernel `name` and whose label contains --case."""
    cases = op_part(config.op, "cases").cases(np.random.default_rng(0), large=True)
    cases = [case for case in cases if name in case.calls]
    wanted = [case for case in cases if config.case in case.label]
    if not wanted:
        labels = "; ".join(case.label for case in cases)
        raise ValueError(f"--case is {config.case!r}; it must be a part of one of: {labels}")
    return wanted[0]


def _run(config: ReportConfig, name: str, case: Case) -> list[tuple[Launched, list[Row]]]:
    arrays, parameters = case.calls[name]
    function = implementation_kernel(config.op, name, "cuda-sim", config.implementation)
    with use_backend("cuda-sim"), use_kernels(config.op, config.implementation), checked(), counted() as launches:
        function(*map_arrays(_float32, arrays), **parameters)
    return launches


def _float32(array: np.ndarray) -> np.ndarray:
    """A float array in float32; any other array unchanged."""
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _lines(launches: Sequence[tuple[Launched, list[Row]]]) -> list[Line]:
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


def _print_table(launched: Launched, count: int, lines: Sequence[Line]) -> None:
    print(f"  {launched.kernel} in {launched.source.name}, launched {count} time{'s' * (count != 1)}")
    print(f"    {'line':>20} memory access    warps x ideal")
    for line in lines:
        place = f"{PurePath(line.place.file).name}:{line.place.line}" if line.place.line else "not known"
        print(f"    {place:>20} {line.memory:6} {line.access:6} {line.warps:8} {line.factor:7.2f}  {line.text}")
    for memory in ("global", "shared"):
        cost, ideal = (sum(getattr(n, what) for n in lines if n.memory == memory) for what in ("cost", "ideal"))
        if ideal:
            print(f"    {'together':>20} {memory:6} {'':6} {'':8} {cost / ideal:7.2f}")
    print()
