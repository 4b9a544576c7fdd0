"""Reading a learner's file, and refusing what would make the exercise pointless: the library's own kernels.

Two walls. Before anything runs, the syntax tree is searched for imports of other modules than a few harmless ones.
While it runs, the file has an `__import__` of its own that refuses the same, for imports that were not to be seen.
They keep a learner honest; they are no prison for code that means harm.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

# What everybody may import. No SciPy and no scikit-image: they hold convolutions and pooling.
HARMLESS = frozenset(
    {
        *("__future__", "collections", "copy", "dataclasses", "functools", "itertools", "math", "numpy", "operator"),
        *("random", "time", "typing"),
    }
)


class Refused(Exception):
    """The learner's code uses what it may not; the message names the line."""


class Unreadable(Exception):
    """The learner's file cannot be run at all; the message says why and where."""


def functions_of(text: str, path: str, allowed: Iterable[str] = ()) -> dict[str, Any]:
    """Run a learner's file and return what it defines, by name.

    path: for messages. allowed: modules that it may import beside the harmless ones.
    Raises Refused for a forbidden import, Unreadable for a syntax error or an exception while it is run, and lets
    SystemExit and MemoryError through.
    """
    allowed = HARMLESS | frozenset(allowed)
    try:
        tree = ast.parse(text, path)
        code = compile(text, path, "exec")
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        line = f"line {error.lineno}: " if getattr(error, "lineno", None) else ""
        shown = (getattr(error, "text", None) or "").strip()
        raise Unreadable(f"{line}{shown}: Python cannot read this ({getattr(error, 'msg', error)})") from None
    refuse_imports(tree, text, allowed)
    names: dict[str, Any] = {"__name__": "learner", "__file__": path, "__builtins__": _guarded_builtins(allowed, path)}
    try:
        exec(code, names)
    except (Refused, SystemExit, MemoryError):
        raise
    except NotImplementedError:
        pass  # a stub that is called at the top of the file: the probes will say that it is to be written
    except Exception as error:
        raise Unreadable(f"{where(error, path)} (while the file was being run, before any check)") from None
    return names


def refuse_imports(tree: ast.AST, text: str, allowed: frozenset[str]) -> None:
    """Raise Refused for an import of a module that is not allowed, naming the line."""
    lines = text.splitlines()
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = ["." * node.level + (node.module or "")]
        for module in modules:
            if module.partition(".")[0] not in allowed:
                raise Refused(refusal(module, f"line {node.lineno}: `{lines[node.lineno - 1].strip()}`", allowed))


def refusal(module: str, place: str, allowed: frozenset[str]) -> str:
    """The sentence for an import that is not allowed."""
    why = "the point is to write it yourself" if module.startswith(("tinynet", ".")) else "it may hold the answer"
    return f"{place}: {module} is not to be used here, {why}; what may be imported: {', '.join(sorted(allowed))}"


def refuse_library_functions(function: Callable, allowed: frozenset[str] = HARMLESS) -> None:
    """Raise Refused for a function, as of a notebook, that reaches a module that is not allowed.

    What its code names is looked up in its globals and closure; functions of the notebook that it calls are followed.
    """
    seen: set[int] = set()

    def visit(f: Callable) -> None:
        f = getattr(f, "py_func", f)  # Numba's wrapper of a function
        if not isinstance(f, FunctionType):
            home = type(f).__module__ if not hasattr(f, "__module__") else f.__module__
            _refuse_home(getattr(f, "__name__", repr(f)), home or "", function, allowed)
            return
        if id(f) in seen:
            return
        seen.add(id(f))
        _refuse_home(f.__name__, f.__module__ or "", function, allowed)
        cells = [c.cell_contents for c in f.__closure__ or () if _filled(c)]
        for code in _codes(f.__code__):
            values = [f.__globals__[name] for name in code.co_names if name in f.__globals__]
            for value in [*values, *cells]:
                if isinstance(value, ModuleType):
                    _refuse_home(value.__name__, value.__name__, function, allowed)
                elif callable(value):
                    visit(value)
            for constant in code.co_names:
                if constant in sys.modules and constant.partition(".")[0] == "tinynet":
                    _refuse_home(constant, constant, function, allowed)

    visit(function)


def _filled(cell: Any) -> bool:
    with contextlib.suppress(ValueError):
        cell.cell_contents  # noqa: B018
        return True
    return False


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of those that are defined inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _refuse_home(name: str, module: str, function: Callable, allowed: frozenset[str]) -> None:
    top = module.partition(".")[0]
    is_library = top in {"tinynet", "scipy", "skimage", "torch", "tensorflow", "keras", "jax"} - allowed
    if is_library:
        line = getattr(getattr(function, "__code__", None), "co_firstlineno", "?")
        raise Refused(f"{function.__name__} (line {line}) uses {name} of {module}: the point is to write it yourself")


@functools.cache
def _guarded_builtins(allowed: frozenset[str], path: str) -> dict[str, Any]:
    """Python's builtins, with an `__import__` that asks first."""

    def guarded_import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level or name.partition(".")[0] not in allowed:
            line = sys._getframe(1).f_lineno
            raise Refused(refusal("." * level + name, f"line {line}", allowed))
        return builtins.__import__(name, globals, locals, fromlist, level)

    return {**vars(builtins), "__import__": guarded_import}


def where(error: BaseException, path: str) -> str:
    """The error in a sentence that starts with the last line of the learner's own that it passed through."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place = line_of(error, path)
    return f"{place}: {what}" if place else what


def line_of(error: BaseException, path: str) -> str:
    """The last line of the file that an error passed through, as "line 3: `return x`"; "" for none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    if not frames:
        return ""
    return f"line {frames[-1].lineno}" + (f": `{frames[-1].line}`" if frames[-1].line else "")
