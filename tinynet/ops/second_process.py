"""A second process that compiles half of the kernels, where a process that trains begins to compile a convolution.

Why a process, and what it does: see `compile_ahead.py`. The cache on disk is how its results get across, so it is
asked for by what looks into that cache in vain: `jit.py`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from pathlib import Path

import numba
from numba import types

IS_SECOND_PROCESS = "TINYNET_IS_SECOND_PROCESS"  # an environment variable, set in the second: it starts no third


def start_if_it_helps(module: str, arguments: tuple[types.Type, ...]) -> None:
    """Start the second process if a kernel of this module, to be compiled for these arguments, opens a training.

    That is a float32 convolution in a process that has imported the optimisers, while operations are recorded: a
    prediction needs no backward pass. There must be a core for the second.
    """
    tensor = sys.modules.get("tinynet.tensor")  # not imported here: a kernel's cache would depend on the whole engine
    predicts = tensor is not None and not tensor.is_grad_enabled()
    is_float32 = any(isinstance(a, types.Array) and a.dtype == types.float32 for a in arguments)
    opens_training = (
        module.startswith("tinynet.ops.conv2d.") and is_float32 and "tinynet.optim" in sys.modules and not predicts
    )
    is_frozen = getattr(sys, "frozen", False) or not sys.executable  # then this is no Python that takes -m
    if opens_training and not is_frozen and IS_SECOND_PROCESS not in os.environ and (os.cpu_count() or 1) > 1:
        _start()


@functools.cache  # once
def _start() -> subprocess.Popen | None:
    """Start `python -m tinynet.compile_ahead`; nobody waits for it, and where it cannot be started nobody misses it."""
    folder = Path(__file__).resolve().parents[2]  # of the tinynet that is running
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    level = {"NUMBA_OPT": f"{numba.config.OPT:d}"}  # or its code would be of no use here
    settings = {IS_SECOND_PROCESS: "1", "PYTHONPATH": path, "NUMBA_NUM_THREADS": "1"}
    with contextlib.suppress(OSError):
        return subprocess.Popen(
            [sys.executable, "-m", "tinynet.compile_ahead"],
            env={**level, **os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return None
