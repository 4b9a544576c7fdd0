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
# What a function of a notebook is searched for, where everything is imported for many purposes.
LIBRARIES = frozenset({"tinynet", "scipy", "skimage", "torch", "tensorflow", "keras", "jax"})


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
    """Raise Refused for a function, as of a notebook, that reaches a library that may hold the answer.

    What its code names is looked up in its globals and closure; functions of the notebook that it calls are followed.
    """
    refused = LIBRARIES - allowed
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", "?")
    to_visit, seen = [function], set()
    while to_visit:
        f = to_visit.pop()
        f = getattr(f, "py_func", f)  # Numba's wrapper of a function
        module = f.__name__ if isinstance(f, ModuleType) else getattr(f, "__module__", None) or ""
        names = [module, *_names_in(f)]  # an import inside of a function is a name of its code
        found = next((name for name in names if name.partition(".")[0] in refused), None)
        if found:
            name = getattr(function, "__name__", repr(function))
            raise Refused(f"{name} (line {line}) uses {found}: the point is to write it yourself")
        if isinstance(f, FunctionType) and id(f) not in seen:
            seen.add(id(f))
            to_visit += [value for value in _values_in(f) if callable(value) or isinstance(value, ModuleType)]


def _names_in(f: Any) -> list[str]:
    """All global names and attributes that the code of a function mentions."""
    return [name for code in _codes(f) for name in code.co_names]


def _values_in(f: FunctionType) -> Iterator[Any]:
    """What the code of a function can reach by name: globals, and variables of the functions around it."""
    yield from (f.__globals__[name] for name in _names_in(f) if name in f.__globals__)
    for cell in f.__closure__ or ():
        with contextlib.suppress(ValueError):  # a variable that has no value yet
            yield cell.cell_contents


def _codes(f: Any) -> Iterator[CodeType]:
    """The code of a function and of those that are defined inside of it; nothing for what is no function."""
    codes = [f.__code__] if isinstance(f, FunctionType) else []
    while codes:
        code = codes.pop()
        yield code
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


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
