"""Runs CUDA kernels on the CPU: the same `.cu` files that a GPU runs, compiled by an ordinary C++ compiler.

    with use_backend("cuda-sim"):                      # every op by its CUDA kernels, on NumPy arrays
        loss = tn.dice_loss(model(x), masks)

    with use_backend("cuda-sim"), cusim.checked():     # and every access to memory is looked at
        ...

A mistake raises a `KernelError` that names the line of the `.cu` file, the threads and the array. A CUDA thread is a
fiber (fibers.h), threads of a block run in turns (scheduler.cpp, warps.cpp), and the checks keep a shadow of the memory
that records which threads accessed it (shadow.cpp).

The sources in the order to read them: language.h, runtime.h, fibers.cpp, scheduler.cpp, warps.cpp, shadow.cpp,
hooks.cpp, statistics.cpp. docs/cuda.md says what a run on the CPU cannot tell. In addition:

- the checks do not see an index that leads from one array of shared memory through a pointer into another;
- they report a race between threads that write the same value, although it does no harm. Use an atomic operation.
"""

from .build import CompilerMissing, compiler
from .findings import KernelError
from .report import counted
from .run import checked, launch, ordered

__all__ = ["CompilerMissing", "KernelError", "checked", "compiler", "counted", "launch", "ordered"]
