"""`python -m tinynet gradcheck`: are the kernels on this machine right? Exit code 0 if all are, 1 if one is not.

Three checks for each op, one row of the table each:

    derivative      gradcheck of the op in float64, with all kernels of the reference
    NAME            that kernel of the tier against the reference, in float32 and float64
    adjoint         backward is the transpose of forward: the tier in float32, in the op's largest case
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...backends.devices import to_device
from ...backends.registry import TIERS, implementations, is_differentiable, use_backend, use_kernels
from ...backends.registry import ops as all_ops
from ...tools.cli import option, parse
from .adjoint import ALLOWED, adjoint_check
from .check import gradcheck
from .tiers import cases_of, compare_tiers, rounding

# Op -> the axes of its inputs, if `usual_axes` does not know them.
AXES = {
    "conv2d": {"w": ("kh", "kw", "c_in", "c_out")},
    "conv_elu_dropout": {"w": ("kh", "kw", "c_in", "c_out")},
    "conv_transpose2d": {"w": ("kh", "kw", "c_out", "c_in")},
}


@dataclass
class Config:
    """The flags of `gradcheck`."""

    ops: tuple[str, ...] = option((), "which operations (default: all)", positional=True, nargs="*")
    tier: str = option("cpu", "where the kernels run", choices=tuple(TIERS))
    seed: int = option(0, "seed of the values in the cases and of gy")
    heat_map: str | None = option(None, "folder for figures of wrong gradients")

    def __post_init__(self) -> None:
        unknown = set(self.ops) - set(all_ops())
        if unknown:
            raise ValueError(f"there is no op {', '.join(sorted(unknown))}; the ops are {', '.join(all_ops())}")
        if self.seed < 0:
            raise ValueError(f"--seed is {self.seed}; it must not be negative")


@dataclass(frozen=True)
class Row:
    """One line of the table. report: empty if everything is right."""

    op: str
    what: str
    tier: str
    implementation: str
    dtype: str
    cases: int
    accuracy: float
    allowed: float
    report: str = ""

    def __str__(self) -> str:
        names = (self.op, self.what, self.tier, self.implementation, self.dtype, self.cases)
        figures = (f"{self.accuracy:.1e}", f"{self.allowed:.1e}")
        return _LINE.format(*names, *figures, "WRONG" if self.report else "ok")


_LINE = "{:21} {:19} {:9} {:14} {:7} {:>5} {:>8} {:>8} {}"


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Check, print the table and the reports, and return the rows. SystemExit(1) if something is wrong."""
    config = parse(Config, argv, prog="python -m tinynet gradcheck", description="Are the kernels right?")
    with use_backend(config.tier):  # raises immediately if something is missing
        pass
    rows = []
    print(_LINE.format("op", "what", "tier", "implementation", "dtype", "cases", "accuracy", "allowed", ""))
    for op in config.ops or all_ops():
        for row in _rows(op, config):
            rows.append(row)
            print(row, flush=True)
    wrong = [row for row in rows if row.report]
    for row in wrong:
        print(f"\n{row.op}, {row.what} ({row.tier}, {row.implementation}, {row.dtype})\n{row.report}")
        if row.what != "derivative":  # the report of a derivative says so itself
            print(f"once more: {_command(row.op, config)}")
    print(f"\n{len(wrong)} of {len(rows)} wrong" if wrong else f"\nall {len(rows)} right")
    if wrong:
        sys.exit(1)
    return rows


def _rows(op: str, config: Config) -> Iterator[Row]:
    if is_differentiable(op):
        yield _derivative(op, config)
    if config.tier == "reference":
        return
    for implementation in implementations(op, config.tier):
        for dtype in ("float32", "float64"):
            for check in compare_tiers(op, config.tier, implementation, dtype=dtype, seed=config.seed):
                names = (check.op, check.kernel, check.tier, check.implementation, check.dtype)
                yield Row(*names, check.cases, check.error, check.allowed, "" if check else str(check))
        if is_differentiable(op):
            yield from _adjoint(op, implementation, config)


def _derivative(op: str, config: Config) -> Row:
    """gradcheck over the small cases, with the reference."""
    accuracy, reports = 0.0, []
    cases = cases_of(op, config.seed, large=False)
    with use_backend("reference"):
        for k, case in enumerate(cases):
            result = gradcheck(
                case.function,
                case.inputs,
                seed=config.seed,
                axes=AXES.get(op),
                rerun=f"{_command(op, config)}, case '{case.label}'",
                raise_error=False,
            )
            accuracy = max(accuracy, result.accuracy)
            if not result:
                reports.append(f"case '{case.label}': {result}")
                if config.heat_map and any(check.wrong for check in result.inputs):
                    reports.append(f"figure: {_painted(result, config.heat_map, f'{op}_{k}.png')}")
    return Row(op, "derivative", "reference", "-", "float64", len(cases), accuracy, 1e-6, "\n".join(reports))


def _command(op: str, config: Config) -> str:
    return f"python -m tinynet gradcheck {op} --tier {config.tier} --seed {config.seed}"


def _painted(result: Any, folder: str, name: str) -> Path:
    os.makedirs(folder, exist_ok=True)
    result.heat_map(Path(folder) / name)
    return Path(folder) / name


def _adjoint(op: str, implementation: str, config: Config) -> Iterator[Row]:
    """The adjoint test of the largest case with a gradient, for the inputs in which the op is linear."""
    case = max(cases_of(op, config.seed), key=lambda case: sum(np.size(x) for x in case.inputs))
    device = "cuda" if config.tier == "cuda" else "cpu"
    inputs = [to_device(x.astype("float32") if x.dtype.kind == "f" else x, device) for x in case.inputs]
    allowed = max(ALLOWED * float(np.finfo(np.float32).eps), rounding("float32", implementation))
    with use_backend(config.tier), use_kernels(op, implementation):
        try:
            checks = adjoint_check(case.function, inputs, seed=config.seed, allowed=allowed, raise_error=False)
        except (ValueError, TypeError):  # linear in no input, or a loss with a float64 target
            return
    worst = max(checks, key=lambda check: check.gap)
    report = "\n".join(str(check) for check in checks if not check)
    yield Row(op, "adjoint", config.tier, implementation, "float32", len(checks), worst.gap, worst.allowed, report)
