"""The process that runs a learner's code. It is told what to call, and returns numbers; it knows no right answer.

Requests arrive at the standard input and replies leave at the standard output (`wire`). What the learner prints goes to
the standard error instead. The first request is a Task; every other is a call of one of the learner's functions.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import faulthandler
import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .exercise import module_from
from .guard import LIBRARIES, PACKAGE, Refused, Unreadable, close, functions_of, line_of, refuse_other_arguments, where
from .wire import packed, unpacked

MEMORY = 2 * 2**30  # bytes that a check may use in addition to what Python and NumPy use at its start
PR_SET_PDEATHSIG = 1


class Task(NamedTuple):
    """What to run. id: of the exercise. file: the learner's. stub: the file as it was handed out.

    arguments: as in `guard.refuse_other_arguments`. imports: modules that are allowed in addition to guard.HARMLESS.
    helper: "module:function" of tinynet that is called with the learner's functions. seconds: the time limit.
    secret: a folder that must not be read, beside the package. values: instead of running the file, take these.
    """

    id: str
    file: str
    stub: str
    arguments: dict[str, Any]
    imports: list[str]
    helper: str | None
    seconds: float
    secret: str
    values: dict[str, str] | None = None


class Child:
    """Answers requests until the check ends this process."""

    def __init__(self) -> None:
        self.requests, self.replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        self.functions: dict[str, Any] = {}
        self.task = Task(*self.receive())

    def receive(self) -> Any:
        makers = {"geometry": lambda fields: _geometry()(*fields), "function": self._callback}
        return unpacked(self.requests.readline() or os._exit(0), makers)

    def send(self, *reply: Any) -> None:
        self.replies.write(packed(reply))
        self.replies.flush()

    def serve(self) -> None:
        task = self.task
        helper = _prepared(task)
        # A thread that does not need Python: it writes the current line and ends the process, even in compiled code.
        faulthandler.dump_traceback_later(task.seconds, exit=True, file=os.fdopen(os.dup(2), "wb"))
        self.answer(self.load)
        while True:
            name, arguments, parameters = self.receive()
            if name is None:
                self.answer(functools.partial(self.help, helper, arguments))
            else:
                self.answer(functools.partial(self.call, name, arguments, parameters))

    def answer(self, do: Callable[[], tuple]) -> None:
        """Send what `do` returns; if it raises an exception, a sentence on that."""
        file = self.task.file
        try:
            self.send("value", *do())
            return
        except (Refused, Unreadable) as reason:
            reply: tuple = ("ended", str(reason))
        except UnicodeDecodeError as error:
            reply = ("ended", f"{file} is not a text in UTF-8 ({error.reason} at byte {error.start})")
        except SystemExit as end:
            reply = ("ended", f"{line_of(end, file)} ends the whole program; return a value instead")
        except KeyboardInterrupt as end:
            reply = ("ended", f"{line_of(end, file)}: the check was interrupted here")
        except MemoryError as error:
            small = f"more than {MEMORY // 2**30} GiB of memory; the arrays of this check are small"
            reply = ("ended", f"{where(error, file)}: {small}")
        except BaseException as error:
            reply = ("raised", type(error).__name__, str(error)[:2000], where(error, file)[:2000])
        self.send(*reply)

    def load(self) -> tuple:
        """Run the learner's file: (the names that it defines,), or () if only the stub is there."""
        task = self.task
        if task.values is not None:
            self.functions = {"__file__": task.file, **task.values}
            return ([],)
        text = Path(task.file).read_bytes().decode("utf-8-sig")
        if _is_unchanged(text, task.stub):
            return ()
        self.functions = functions_of(text, task.file, task.imports)
        refuse_other_arguments(task.id, task.arguments, self.functions)
        return ([name for name in self.functions if isinstance(name, str)],)

    def call(self, name: str, arguments: Any, parameters: Any) -> tuple:
        """(what the function returned, its arguments after the call); the value of a name that is no function."""
        function = self.functions[name]
        if not callable(function):
            return str(function), ()
        returned = function(*arguments, **parameters)
        return returned, [a if isinstance(a, np.ndarray) else None for a in arguments]

    def help(self, helper: Any, arguments: Any) -> tuple:
        """(what the helper returns,)."""
        return (helper(self.functions, *arguments),)

    def _callback(self, number: int) -> Callable:
        """A function that the check passes as an argument: it is called there, and its result may be a view."""

        def function(*arguments: Any) -> Any:
            self.send("callback", number, arguments)
            kind, result, place = self.receive()
            if kind == "raised":
                raise ValueError(result)
            if place is not None:
                number_of_argument, offset, strides = place
                whole = arguments[number_of_argument]
                if whole.flags.c_contiguous:
                    return np.ndarray(result.shape, result.dtype, whole, offset, strides)
            return result

        return function


def _prepared(task: Task) -> Callable | None:
    """Limit what the process can do. Returns the helper, or None."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # on Linux it ends with the check that started it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for name in task.imports:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    module, _, name = (task.helper or "").partition(":")
    helper = getattr(importlib.import_module(module), name) if module else None
    _geometry()
    np.seterr(all="ignore")  # overflow shows in the values; NumPy's warnings would only fill the screen
    _limit_memory()
    if task.values is None:
        for name in [n for n in sys.modules if n.partition(".")[0] in ("tinynet", "__main__")]:
            del sys.modules[name]
        sys.modules["__main__"] = ModuleType("__main__")
        allowed = {*task.imports, "scipy"} if task.imports else set()  # Numba looks for SciPy
        close([PACKAGE, Path(task.secret)], LIBRARIES - allowed, bool(task.imports))
    return helper


@functools.cache
def _geometry() -> Any:
    """The class Geometry, without the kernels that are imported together with the folder `ops`."""
    return module_from(PACKAGE / "ops" / "_shared" / "geometry.py", "geometry").Geometry


def _is_unchanged(text: str, stub: str) -> bool:
    """True if only whitespace and comments of the stub were changed."""
    with contextlib.suppress(SyntaxError, ValueError):
        return ast.dump(ast.parse(text)) == ast.dump(ast.parse(stub))
    return False


def _limit_memory() -> None:
    """Limit the address space to its present size plus MEMORY. Systems without such a limit are left as they are."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    Child().serve()
