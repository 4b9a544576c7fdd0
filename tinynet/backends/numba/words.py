"""Words of memory that all threads share, for Numba functions: read, change, sleep until one of them changes.

A word is named by its number, from 0 to WORDS - 1, and holds an int64. Each lies in a cache line of its own, because a
core that writes to a line takes it away from all others.

All accesses are *sequentially consistent*: all threads see them in one order (Lamport, "How to make a multiprocessor
computer that correctly executes multiprocess programs", 1979). To sleep, a thread calls Linux's `futex` (Franke et al.,
"Fuss, futexes and furwocks", Ottawa Linux Symposium 2002). The system looks at the word once more and lets the thread
sleep only if the word still holds what the thread saw, so that no call of `wake` is missed.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic

WORDS = 80
LINE = 8  # int64 in a cache line
INT = ir.IntType(64)
# Linux's numbers, on x86-64: of the system call, and of what it does for the threads of one process.
FUTEX, WAIT, WAKE = 202, 128, 129
ADDRESS_OF_WORDS = "tinynet_words"  # a function without arguments, for LLVM


@global_compiler_lock
def _reserve_words() -> object:
    """Memory for the words, and the function of LLVM that returns its address. Compiled code on disk knows its name."""
    library = cpu_target.target_context.codegen().create_library(ADDRESS_OF_WORDS)
    module = library.create_ir_module(ADDRESS_OF_WORDS)
    memory = ir.GlobalVariable(module, ir.ArrayType(INT, (WORDS + 1) * LINE), "words")
    memory.linkage, memory.initializer, memory.align = "internal", ir.Constant(memory.type.pointee, None), 8 * LINE
    function = ir.Function(module, ir.FunctionType(INT.as_pointer(), []), ADDRESS_OF_WORDS)
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(builder.bitcast(memory, INT.as_pointer()))
    library.add_ir_module(module)
    library.finalize()
    library.get_pointer_to_function(ADDRESS_OF_WORDS)
    return library


_library = _reserve_words()  # kept as long as the process lives


def _address(builder, word):
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(INT.as_pointer(), []), ADDRESS_OF_WORDS)
    return builder.gep(builder.call(function, []), [builder.mul(word, ir.Constant(INT, LINE))])


@intrinsic
def read(typing_context, word):
    """The value of a word."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_address(builder, arguments[0]), "seq_cst", 8)

    return types.int64(types.int64), generate


def _changing(operation: str):
    """An intrinsic that changes a word in one step and returns what it was before."""

    @intrinsic
    def change(typing_context, word, value):
        def generate(context, builder, signature, arguments):
            return builder.atomic_rmw(operation, _address(builder, arguments[0]), arguments[1], "seq_cst")

        return types.int64(types.int64, types.int64), generate

    return change


exchange, add = _changing("xchg"), _changing("add")


def _futex(builder, word, what, value):
    """The system call, which looks at the lower half of the word."""
    kind = ir.FunctionType(INT, [INT], var_arg=True)
    call = cgutils.get_or_insert_function(builder.module, kind, "syscall")
    nothing = ir.Constant(INT, 0)
    builder.call(call, [ir.Constant(INT, FUTEX), _address(builder, word), ir.Constant(INT, what), value, nothing])


@intrinsic
def sleep_while(typing_context, word, value):
    """Sleep until another thread wakes this one, if the word holds the value. It may also wake up for no reason."""

    def generate(context, builder, signature, arguments):
        _futex(builder, arguments[0], WAIT, arguments[1])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def wake(typing_context, word):
    """Wake all threads that sleep because of a word."""

    def generate(context, builder, signature, arguments):
        _futex(builder, arguments[0], WAKE, ir.Constant(INT, 2**31 - 1))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def pause(typing_context):
    """A short rest in a waiting loop, which leaves the core to its other thread."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def cycles(typing_context):
    """The time of the processor's clock, in cycles."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(INT, [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter"), [])

    return types.int64(), generate
