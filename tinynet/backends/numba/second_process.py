"""A second process that compiles the kernels of the backward pass while this one compiles those of the forward pass.

Numba compiles one function at a time: its compiler has one lock, and LLVM another. So a second core helps only through
a second process, and the cache on disk is how its results get across (claims.py: nothing is compiled twice). Started is
`python -m tinynet.tools.compile_ahead`, once, when a process that has made an optimizer for a net with the convolutions
of a U-Net finds that the cache lacks a kernel of conv2d.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from ..threads import is_rank, usable_cores
from .claims import CAN_LOCK

HELPER = "tinynet.tools.compile_ahead"
IS_SECOND_PROCESS = "TINYNET_IS_SECOND_PROCESS"  # an environment variable: set in the second, which starts no third

_helps = False  # until it is known that this process trains a net whose kernels the second would compile
_second: subprocess.Popen | None = None


def expect_training(shapes: Iterable[tuple[int, ...]]) -> None:
    """Note that this process is going to train parameters of these shapes.

    The second process helps if there are 3x3 convolutions with enough channels for Winograd's algorithm: their kernels
    take longest. There must be a core for it, and no rank of a distributed training starts one.
    """
    global _helps
    is_frozen = getattr(sys, "frozen", False) or not sys.executable  # then this is no Python that takes -m
    is_alone = IS_SECOND_PROCESS not in os.environ and not is_rank()
    if CAN_LOCK and not is_frozen and is_alone and usable_cores() > 1:
        _helps |= any(shape[:2] == (3, 3) and min(shape[2:]) >= 16 for shape in shapes if len(shape) == 4)


def start_if_it_helps(module: str) -> None:
    """Start the second process when a kernel of conv2d is compiled. module: of the function that is being compiled."""
    global _helps, _second
    if _helps and _second is None and module.startswith("tinynet.ops.conv2d."):
        _second = _start()


def _start() -> subprocess.Popen:
    """Start it; nobody waits for it, and what it has to say nobody needs to know."""
    import numba

    folder = Path(__file__).resolve().parents[3]  # of the tinynet that is running
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    level = f"{numba.config.OPT:d}"  # code of another level would be of no use here
    settings = {IS_SECOND_PROCESS: "1", "PYTHONPATH": path, "NUMBA_OPT": level}
    return subprocess.Popen(
        [sys.executable, "-m", HELPER],
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
