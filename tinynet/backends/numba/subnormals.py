"""Numbers next to zero count as zero while the tasks of a kernel run.

A float32 below 1.2e-38 (a float64 below 2.2e-308) is *subnormal*: it has lost leading bits of its fraction. Processors
of Intel compute with such a number in microcode, which takes some 150 cycles instead of 4. Training meets them: the
gradient of a sigmoid far from zero is one, and so is, in Adam, the mean gradient of a unit that has not been active for
800 steps, each of which multiplies it by 0.9. A training step of the U-Net whose outputs were all close to 1 took four
times as long.

The control word MXCSR of each thread has a bit that stores 0 in place of a subnormal result, and one that reads
subnormal numbers as 0 (Intel, *Software Developer's Manual*, volume 1, section 10.2.3). Both are set only while tasks
run, because NumPy, which works in the same threads, expects subnormal numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from llvmlite import binding, ir
from numba.core import cgutils

IS_X86 = binding.get_process_triple().startswith("x86_64")  # other processors compute with them at full speed
FLUSH = 0x8000 | 0x0040  # results, operands
WORD = ir.IntType(32)


@contextlib.contextmanager
def subnormals_as_zero(builder: ir.IRBuilder) -> Iterator[None]:
    """What is called by the code that is written inside of this `with` counts subnormal numbers as zero."""
    if not IS_X86:
        yield
        return
    before, flushing = cgutils.alloca_once(builder, WORD), cgutils.alloca_once(builder, WORD)
    _access(builder, "stmxcsr", before)
    builder.store(builder.or_(builder.load(before), ir.Constant(WORD, FLUSH)), flushing)
    _access(builder, "ldmxcsr", flushing)
    yield
    _access(builder, "ldmxcsr", before)


def _access(builder: ir.IRBuilder, instruction: str, word: ir.Instruction) -> None:
    """Store the control word at an address, or load it from there."""
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{instruction}")
    builder.call(function, [builder.bitcast(word, cgutils.voidptr_t)])
