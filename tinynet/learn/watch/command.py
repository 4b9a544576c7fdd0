"""`python -m tinynet op` lists the operations; `op NAME` shows its files, and how exact and fast its kernels are.

With --watch, it checks the operation whenever one of its files is saved. `op conv2d --why 3x3x16x32` shows which
version runs for a weight (KH, KW, C_in, C_out), and why.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ...backends.registry import ops
from ...tools.cli import docstring, option, parse
from .show import describe, list_ops, measured, targets_in
from .watch import watch
from .why import SHAPE, why
from .workers import Workers


@dataclass
class Config:
    """The flags of `op`."""

    op: str | None = option(None, "which one (default: list all)", positional=True, nargs="?")
    watch: bool = option(False, "check it whenever one of its files is saved")
    why: tuple[str, ...] = option((), f"conv2d: which version runs, and why; {SHAPE}", nargs="+", metavar="SHAPE")

    def __post_init__(self) -> None:
        if self.op is not None and self.op not in ops():
            raise ValueError(f"there is no op {self.op!r}; the ops are {', '.join(ops())}")
        if self.watch and self.op is None:
            raise ValueError("--watch needs the name of an op")
        if self.why and self.op != "conv2d":
            raise ValueError("--why is for conv2d: the other ops have no table of versions")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; SystemExit(1) if a kernel of the op is wrong."""
    config = parse(Config, argv, prog="python -m tinynet op", description=docstring(sys.modules[__name__]))
    if config.op is None:
        list_ops()
        return
    if config.why:
        print("\n".join(map(why, config.why)))
        return
    describe(config.op)
    if config.watch:
        watch(config.op)
        return
    with Workers(config.op) as workers:
        targets, right = targets_in(workers)
        answers = [answer for _, answer, _ in measured(workers, targets)]
    if not right or not all(answer.right for answer in answers):
        sys.exit(1)
