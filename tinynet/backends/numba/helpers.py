"""Helpers: processes that compile kernels which this process needs later, while it compiles those it needs now.

Numba compiles one function at a time: its compiler has one lock, and LLVM another. So further cores help only through
further processes, which share their results through the cache on disk (claims.py: nothing is compiled twice). A process
starts helpers if it has made an optimizer for a net with the convolutions of a U-Net and the cache lacks a kernel of
conv2d: `python -m tinynet.tools.compile_ahead PART` for each of `PARTS` for which there is a core.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from ..threads import is_rank, usable_cores
from .claims import CAN_LOCK

HELPER = "tinynet.tools.compile_ahead"
IS_HELPER = "TINYNET_IS_HELPER"  # an environment variable: set in a helper, which starts no others
PARTS = ("backward", "forward")  # what each helper begins with; the second needs a third core (virtual cores count)

_would_help = False  # until it is known that this process trains a net whose kernels helpers would compile
_helpers: list[subprocess.Popen] = []  # those that were started


def expect_training(shapes: Iterable[tuple[int, ...]]) -> None:
    """Note that this process is going to train parameters of these shapes.

    Helpers are of use if there are 3x3 convolutions with enough channels for Winograd's algorithm: their kernels take
    longest. A rank of a distributed training starts none.
    """
    global _would_help
    is_frozen = getattr(sys, "frozen", False) or not sys.executable  # then this is no Python that takes -m
    is_alone = IS_HELPER not in os.environ and not is_rank()
    if CAN_LOCK and not is_frozen and is_alone:
        _would_help |= any(shape[:2] == (3, 3) and min(shape[2:]) >= 16 for shape in shapes if len(shape) == 4)


def start_if_they_help(module: str) -> None:
    """Start the helpers for which there are cores, once, when a kernel of conv2d is compiled.

    module: of the function that is being compiled. A helper that the system refuses is done without.
    """
    global _would_help
    if _would_help and not _helpers and module.startswith("tinynet.ops.conv2d."):
        _would_help = False
        with contextlib.suppress(OSError):
            for part in PARTS[: usable_cores() - 1]:
                _helpers.append(_start(part))


def _start(part: str) -> subprocess.Popen:
    """Start a helper. Its output is discarded, and no process waits for it to end."""
    import numba

    folder = Path(__file__).resolve().parents[3]  # of the tinynet that is running
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    level = f"{numba.config.OPT:d}"  # code of another level would be of no use here
    settings = {IS_HELPER: "1", "PYTHONPATH": path, "NUMBA_OPT": level}
    return subprocess.Popen(
        [sys.executable, "-m", HELPER, part],
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
