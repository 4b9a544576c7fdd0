"""`python -m tinynet op`: the rooms. With the name of one, what is in it, how exact and how fast it is; with --watch,
whether it is still right, whenever a file of it is saved.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ...backends.registry import ops
from ...tools.cli import option, parse
from .show import describe, indented, list_rooms, measured, targets_in
from .watch import watch
from .workers import Workers


@dataclass
class Config:
    """The flags of `op`."""

    op: str | None = option(None, "which one (default: list all)", positional=True, nargs="?")
    watch: bool = option(False, "check it whenever one of its files is saved")

    def __post_init__(self) -> None:
        if self.op is not None and self.op not in ops():
            raise ValueError(f"there is no op {self.op!r}; the ops are {', '.join(ops())}")
        if self.watch and self.op is None:
            raise ValueError("--watch needs the name of an op")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; SystemExit(1) if something in the room is wrong."""
    config = parse(Config, argv, prog="python -m tinynet op", description=__doc__)
    if config.op is None:
        list_rooms()
        return
    describe(config.op)
    if config.watch:
        watch(config.op)
    elif not _all_right(config.op):
        sys.exit(1)


def _all_right(op: str) -> bool:
    """Print the table of all kernels; whether each of them is right."""
    with Workers(op) as workers:
        targets, failed = targets_in(workers)
        for sentence in failed:
            print(f"  {indented(sentence)}")
        answers = [answer for _, answer in measured(workers, targets)]
    return not failed and all(answer.get("right") for answer in answers)
