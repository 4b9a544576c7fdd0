"""`python -m tinynet cusim report conv2d`: how well a CUDA kernel accesses memory, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.cusim.report import LEGEND, Accesses, Line, counted
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
        accesses = _run(config, name, case)
        print(accesses.tables)
        found |= accesses.lines
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


def _run(config: ReportConfig, name: str, case: Case) -> Accesses:
    arrays, parameters = case.calls[name]
    function = implementation_kernel(config.op, name, "cuda-sim", config.implementation)
    with use_backend("cuda-sim"), use_kernels(config.op, config.implementation), counted() as accesses:
        function(*map_arrays(_float32, arrays), **parameters)
    return accesses


def _float32(array: np.ndarray) -> np.ndarray:
    """A float array in float32; any other array unchanged."""
    return array.astype(np.float32) if array.dtype.kind == "f" else array
