"""Runs CUDA kernels on the CPU: the same `.cu` files that a GPU runs, compiled by an ordinary C++ compiler.

    with use_backend("cuda-sim"):                      # every op by its CUDA kernels, on NumPy arrays
        loss = tn.dice_loss(model(x), masks)

    with use_backend("cuda-sim"), cusim.checked():     # and every access to memory is looked at
        ...

What is wrong comes as a `KernelError` that names the line of the `.cu` file, the threads and the array. A CUDA thread
is a fiber (fibers.h), threads of a block run in turns (scheduler.cpp), and the checks keep a shadow of the memory in
which they write down who touched it (shadow.cpp).
"""

from .build import CompilerMissing, compiler
from .findings import KernelError
from .run import checked, launch, ordered

__all__ = ["CompilerMissing", "KernelError", "checked", "compiler", "launch", "ordered"]
