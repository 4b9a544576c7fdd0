"""The check of functions that live in a notebook.

    from tinynet.exercises import check

    check("ad-03", my_sum_to)
    check("act-01", forward=my_forward, backward=my_backward)

In a notebook the result is shown as a box; `print` gives the text of the command line. The functions run in this
process: the stop button of the notebook ends an endless loop.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from .exercise import exercise
from .guard import HARMLESS, Refused, refuse_library_functions, refuse_other_arguments
from .judge import judge
from .verdict import NOT_CHECKED, Verdict


def check(id: str, *functions: Callable, seed: int = 0, **named: Callable) -> Verdict:
    """Check functions of your own.

    id: of the exercise. functions: in the order of the exercise's file; named: by the names they have there.
    seed: of the random values in the probes. Returns the verdict; `bool(verdict)` is True if everything is right.
    Raises ValueError for an exercise or a name that does not exist.
    """
    this = exercise(id)
    if len(functions) > len(this.functions) or set(named) - set(this.functions):
        raise ValueError(
            f"{id} is made of {', '.join(this.functions)}; given: {len(functions)} functions, {sorted(named)}"
        )
    missing = this.missing()
    if missing:
        return Verdict(id, NOT_CHECKED, missing)
    own = {**dict(zip(this.functions, functions)), **named}
    # A notebook gives each cell a file name, which messages with line numbers need.
    codes = [getattr(f, "__code__", None) for f in own.values()]
    file = next((code.co_filename for code in codes if code), "<notebook>")
    try:
        for function in own.values():
            if callable(function):
                refuse_library_functions(function, HARMLESS | this.imports)
        refuse_other_arguments(id, this.arguments, own)
        with library_kernels_refused():
            return judge(this, {"__file__": file, **dict.fromkeys(this.functions, _to_be_written), **own}, file, seed)
    except Refused as reason:
        return Verdict(id, NOT_CHECKED, str(reason))


def _to_be_written(*arguments, **parameters):
    raise NotImplementedError


@contextlib.contextmanager
def library_kernels_refused() -> Iterator[None]:
    """Inside `with`, tinynet's own kernels raise Refused, however they are called."""
    if "tinynet.backends.registry" not in sys.modules:  # then no kernel can be called
        yield
        return
    from ...backends.registry import kernel_names, ops, use_kernels

    def refused(*arguments, **parameters):
        raise Refused("this calls one of tinynet's own kernels: the point is to write it yourself")

    with contextlib.ExitStack() as stack:
        for op in ops():
            stack.enter_context(use_kernels(op, **dict.fromkeys(kernel_names(op), refused)))
        yield
