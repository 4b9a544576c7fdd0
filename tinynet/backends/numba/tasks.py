"""`in_parallel`: run a compiled function for many tasks, on all threads, out of a Numba kernel.

    @jit(separate=True)
    def fill(task, x): ...                       # what one task does

    @jit
    def fill_all(x):
        in_parallel(fill, len(x), (x,))          # fill(0, x), fill(1, x), ... on all threads

A loop with `prange` does the same. But Numba compiles the body of such a loop three times: with its own analysis of
what the iterations share, as the body of a wrapper, and inside of the wrapper. For a function that only starts tasks,
that takes half a second to a second, and `in_parallel` a tenth. Also, OpenMP's threads can only wait in one way
(workers.py). A task costs some 50 ns more than an iteration of a `prange`, so a task takes a share of the work
(`share_of`), or several rows where a row takes a few microseconds only.

A thread does some tasks that follow each other by one call of `task_runner(places, counts, steps, data)`: places[0] is
the number of the first task, and counts[0] says how many tasks there are. `data` points to the arguments that all tasks
get. These are the parameters of a function for Numba's threading layer, which starts the tasks where there are no
workers: on other systems than Linux, on other processors than x86.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import excinfo_ptr_t
from numba.extending import intrinsic
from numba.np.ufunc import parallel

from .jit import jit
from .subnormals import subnormals_as_zero
from .workers import HAS_WORKERS, call_runner, run_tasks
from .workers import share_of as share_of

BYTES, INDEX = ir.IntType(8).as_pointer(), ir.IntType(64)
CODE = ir.IntType(32)  # of an error, 0 for none: what Numba's compiled functions return
ERROR = (0, 1)  # the fields of a kernel's data where a task that fails leaves the code and the exception


@intrinsic
def in_parallel(typing_context, function, tasks, arguments):
    """function(task, *arguments) for task = 0 .. tasks - 1, on as many threads as `numba.get_num_threads` says.

    A single task runs in the calling thread. Tasks count subnormal numbers as zero (subnormals.py).

    function: compiled with `@jit(separate=True)`; its first parameter is an int64. arguments: a tuple, the same for all
    tasks. Raises the exception of a task that fails: MemoryError if it runs out of memory, or what the function raises.
    The other tasks run to their end.
    """
    parallel._launch_threads()  # it also tells LLVM where the functions of the threading layer are
    body = function.get_call_type(typing_context, (types.int64, *arguments.types), {})
    start = run_tasks if HAS_WORKERS else run_by_threading_layer
    start_call = types.Dispatcher(start).get_call_type(typing_context, (types.int64,) * 4, {})

    def generate(context, builder, signature, values):
        _, count, given = values
        lent = [_lent(context, builder, *pair) for pair in zip(arguments.types, cgutils.unpack_tuple(builder, given))]
        data = _stored(builder, [ir.Constant(CODE, 0), ir.Constant(excinfo_ptr_t, None), *lent])
        callee = function.dispatcher.overloads[body.args].fndesc
        task_runner = _task_runner(context, builder, data.type, callee, body)
        threads = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), "get_num_threads")
        numbers = [builder.ptrtoint(task_runner, INDEX), count, builder.ptrtoint(data, INDEX)]
        numbers.append(builder.sext(builder.call(threads, []), INDEX))
        starter = start.overloads[start_call.args].fndesc
        context.call_internal_no_propagate(builder, starter, start_call, numbers)
        code, exception = (builder.load(cgutils.gep_inbounds(builder, data, 0, field)) for field in ERROR)
        status = context.call_conv._get_return_status(builder, code, exception)
        with builder.if_then(status.is_error, likely=False):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(function, tasks, arguments), generate


@jit(separate=True)
def run_by_threading_layer(runner, tasks, data, threads):
    """Do all tasks on Numba's threads; arguments as for `run_tasks` of workers.py."""
    if tasks < 2:  # to wake other threads would take longer
        call_runner(runner, 0, tasks, data)
    else:
        _parallel_for(runner, tasks, data, threads)


@intrinsic
def _parallel_for(typing_context, runner, tasks, data, threads):
    """What a `prange` calls: numba_parallel_for(function, bases, counts, steps, data, 0, 1, threads).

    places[0] is bases[0] + steps[0] * (number of the first task): with a base of 0 and a step of 1 the number itself.
    """

    def generate(context, builder, signature, values):
        runner, tasks, data, threads = values
        pointers = [_stored(builder, [v]) for v in (ir.Constant(INDEX, 0), tasks, ir.Constant(INDEX, 1))]
        pointers = [builder.inttoptr(runner, BYTES), *(builder.bitcast(p, BYTES) for p in pointers)]
        kind = ir.FunctionType(ir.VoidType(), [BYTES] * 5 + [INDEX] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, "numba_parallel_for")
        numbers = [ir.Constant(INDEX, 0), ir.Constant(INDEX, 1), threads]
        builder.call(function, [*pointers, builder.inttoptr(data, BYTES), *numbers])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


def _lent(context, builder, kind, value):
    """The value with arrays that have no owner, also in tuples.

    A view of an array counts as a reference to the memory's owner, and all threads would change this one number, for
    every row of an image. Instead, the caller keeps the memory until all tasks are done, and the tasks count nothing.
    """
    if isinstance(kind, types.BaseTuple):
        lent = [_lent(context, builder, *pair) for pair in zip(kind, cgutils.unpack_tuple(builder, value))]
        return context.make_tuple(builder, kind, lent)
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = array.parent = ir.Constant(BYTES, None)
        return array._getvalue()
    return value


def _stored(builder, values):
    """The address of a struct with these values, on the stack of the caller."""
    address = cgutils.alloca_once(builder, ir.LiteralStructType([value.type for value in values]))
    for i, value in enumerate(values):
        builder.store(value, cgutils.gep_inbounds(builder, address, 0, i))
    return address


def _task_runner(context, builder, data_type, callee, body):
    """The function that a thread calls: it loads the arguments and calls `callee` for each of its tasks."""
    pointer = INDEX.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, pointer, pointer, BYTES])
    runner = ir.Function(builder.module, kind, builder.module.get_unique_name("task_runner"))
    runner.linkage = "internal"
    inside = ir.IRBuilder(runner.append_basic_block())
    first, count = (inside.load(argument) for argument in runner.args[:2])
    data = inside.bitcast(runner.args[3], data_type)
    fields = [cgutils.gep_inbounds(inside, data, 0, i) for i in range(len(data_type.pointee.elements))]
    arguments = [inside.load(field) for field in fields[len(ERROR) :]]
    with subnormals_as_zero(inside), cgutils.for_range(inside, count) as task:
        number = inside.add(first, task.index)
        status, _ = context.call_internal_no_propagate(inside, callee, body, [number, *arguments])
        with inside.if_then(status.is_error, likely=False):
            for value, field in zip((status.code, status.excinfoptr), ERROR):
                inside.store(value, fields[field])
    inside.ret_void()
    return runner
