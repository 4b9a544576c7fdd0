"""Runs CUDA kernels on the CPU: the same `.cu` files that a GPU runs, compiled by an ordinary C++ compiler.

    with use_backend("cuda-sim"):                      # every op by its CUDA kernels, on NumPy arrays
        loss = tn.dice_loss(model(x), masks)

    with use_backend("cuda-sim"), cusim.checked():     # and every access to memory is looked at
        ...

What is wrong comes as a `KernelError` that names the line of the `.cu` file, the threads and the array. A CUDA thread
is a fiber (fibers.h), threads of a block run in turns (scheduler.cpp), and the checks keep a shadow of the memory in
which they write down who touched it (shadow.cpp).

The sources in the order to read them: language.h, runtime.h, fibers.cpp, scheduler.cpp, shadow.cpp, hooks.cpp,
statistics.cpp. What a run on the CPU cannot tell:

- how fast a kernel is: only how well its accesses fit together, `python -m tinynet cusim report conv2d`;
- the last bits: exp() and its like are those of the C library, products and sums are never fused into one rounding;
- whether blocks that wait for each other get on: blocks run one after the other, such a kernel runs here until Ctrl-C;
- an index that leads from one array of shared memory through a pointer into another, and global memory that is read
  before it is written: it may hold what the host has put there;
- a race between threads that both write the same number is reported, although it does no harm. Use an atomic operation.

Only paths that are taken are checked: what matters are the cases.
"""

from .build import CompilerMissing, compiler
from .findings import KernelError
from .run import checked, launch, ordered

__all__ = ["CompilerMissing", "KernelError", "checked", "compiler", "launch", "ordered"]
