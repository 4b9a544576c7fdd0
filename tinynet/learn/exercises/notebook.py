"""The check of functions that live in a notebook.

    from tinynet.exercises import check

    check("ad-03", my_sum_to)
    check("act-01", forward=my_forward, backward=my_backward)

In a notebook the result shows itself as a box; `print` gives the text of the command line. The functions run in
this process: an endless loop is ended by the notebook's stop button.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from .exercise import course_folder, exercise
from .guard import HARMLESS, Refused, refuse_library_functions
from .judge import judge
from .verdict import NOT_CHECKED, Verdict


def check(id: str, *functions: Callable, seed: int = 0, **named: Callable) -> Verdict:
    """Check functions of your own.

    id: of the exercise. functions: in the order of the exercise's file; named: by the names they have there.
    seed: of the numbers that are tried. Returns the verdict; `bool(verdict)` is whether all is right.
    Raises ValueError for an exercise or a name that does not exist.
    """
    this = exercise(id, course_folder())
    if len(functions) > len(this.functions) or set(named) - set(this.functions):
        raise ValueError(
            f"{id} is made of {', '.join(this.functions)}; given: {len(functions)} functions, {sorted(named)}"
        )
    given = {name: _to_be_written(name) for name in this.functions}
    given.update(zip(this.functions, functions), **named)
    missing = this.missing()
    if missing:
        return Verdict(id, NOT_CHECKED, missing)
    try:
        for function in [*functions, *named.values()]:
            if callable(function):
                refuse_library_functions(function, HARMLESS | this.imports)
        with library_kernels_refused():
            return judge(this, {"__file__": "<notebook>", **given}, _file_of(given), seed)
    except Refused as reason:
        return Verdict(id, NOT_CHECKED, str(reason))


def _to_be_written(name: str) -> Callable:
    def function(*arguments, **parameters):
        raise NotImplementedError(name)

    return function


def _file_of(functions: dict[str, Callable]) -> str:
    """Where the functions were written, for the lines in messages: a notebook gives each cell a name."""
    codes = [getattr(f, "__code__", None) for f in functions.values()]
    return next((code.co_filename for code in codes if code and code.co_filename != __file__), "<notebook>")


@contextlib.contextmanager
def library_kernels_refused() -> Iterator[None]:
    """Inside `with`, tinynet's own kernels raise Refused, on whatever ways they are reached."""
    if "tinynet.backends.registry" not in sys.modules:  # then nobody can call one either
        yield
        return
    from ...backends.registry import kernel_names, ops, use_kernels

    def refused(*arguments, **parameters):
        raise Refused("this calls one of tinynet's own kernels: the point is to write it yourself")

    with contextlib.ExitStack() as stack:
        for op in ops():
            stack.enter_context(use_kernels(op, **dict.fromkeys(kernel_names(op), refused)))
        yield
