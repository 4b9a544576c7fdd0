"""Reads a learner's file and refuses what would make the exercise pointless: the library's own kernels.

Before the file runs, its syntax tree is searched for imports of modules that are not allowed. While it runs, its own
`__import__` refuses the same modules, for imports that the search cannot see. That helps honest learners. Against the
others, `close` refuses what Python itself reports to its audit hooks: docs/exercises.md says what that does not stop.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import inspect
import itertools
import os
import stat
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2]
# Modules that every learner may import. SciPy and scikit-image are not among them: they contain convolutions.
HARMLESS = frozenset(
    {
        *("__future__", "collections", "copy", "dataclasses", "functools", "itertools", "math", "numpy", "operator"),
        *("random", "time", "typing"),
    }
)
# Modules that a function of a notebook must not use. The notebook itself may import them for other purposes.
LIBRARIES = frozenset({"tinynet", "scipy", "skimage", "torch", "tensorflow", "keras", "jax"})
RECORD = ".progress.json"  # what was passed: the learner's code must not write it
# Events of Python's audit hooks: other programs, the network, and a search of the memory.
OUTSIDE = ("subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "pty.", "socket.", "gc.get_")


class Refused(Exception):
    """The learner's code uses what it may not; the message names the line."""


class Unreadable(Exception):
    """The learner's file cannot be run at all; the message says why and where."""


def functions_of(text: str, path: str, allowed: Iterable[str] = ()) -> dict[str, Any]:
    """Run a learner's file and return what it defines, by name.

    path: for messages. allowed: modules that it may import in addition to HARMLESS.
    Raises Refused for a forbidden import and Unreadable for a syntax error or an exception in the file's own
    statements. SystemExit and MemoryError pass through.
    """
    allowed = HARMLESS | frozenset(allowed)
    try:
        tree = ast.parse(text, path)
        code = compile(text, path, "exec")
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        number = getattr(error, "lineno", None)
        line = f"line {number}: " if number else ""
        shown = (getattr(error, "text", None) or "").strip()
        raise Unreadable(f"{line}{shown}: Python cannot read this ({getattr(error, 'msg', error)})") from None
    _refuse_imports(tree, text, allowed)
    names: dict[str, Any] = {"__name__": "learner", "__file__": path, "__builtins__": _guarded_builtins(allowed)}
    try:
        exec(code, names)
    except (Refused, SystemExit, MemoryError):
        raise
    except NotImplementedError:
        pass  # the file itself calls a stub: the probes will report that it is to be written
    except Exception as error:
        raise Unreadable(f"{where(error, path)} (while the file was being run, before any check)") from None
    return names


def refuse_other_arguments(id: str, arguments: Mapping[str, Any], functions: Mapping[str, Any]) -> None:
    """Raise Refused for a function with other arguments than in the stub, e.g. in a file from an older version.

    arguments: for each function of exercise `id` (the positional ones, the keyword-only ones, all as in the stub).
    """
    for name, (positional, keywords, text) in arguments.items():
        function = getattr(functions.get(name), "py_func", functions.get(name))  # py_func: compiled by Numba
        try:
            signature = inspect.signature(function)  # type: ignore[arg-type]
        except (TypeError, ValueError):  # not a function, or one of NumPy
            continue
        try:
            signature.bind(*positional, **dict.fromkeys(keywords))
        except TypeError:
            raise Refused(
                f"`def {name}{signature}` must be `def {name}({text})`: the exercise calls it with these arguments. "
                f"`python -m tinynet exercises reset {id}` writes a new file, which explains them, and keeps yours as "
                f"{id}.py.old"
            ) from None


def _refuse_imports(tree: ast.AST, text: str, allowed: frozenset[str]) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = ["." * node.level + (node.module or "")]
        else:
            continue
        for module in modules:
            _refuse_module(module, f"line {node.lineno}: `{text.splitlines()[node.lineno - 1].strip()}`", allowed)


def _refuse_module(module: str, place: str, allowed: frozenset[str]) -> None:
    """Raise Refused if the module must not be imported."""
    if module.partition(".")[0] not in allowed:
        why = "the point is to write it yourself" if module.startswith(("tinynet", ".")) else "it may hold the answer"
        allowed_names = ", ".join(sorted(allowed))
        raise Refused(f"{place}: {module} is not to be used here, {why}; what may be imported: {allowed_names}")


@functools.cache
def _guarded_builtins(allowed: frozenset[str]) -> dict[str, Any]:
    """Python's builtins, with an `__import__` that refuses modules."""

    def guarded_import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        _refuse_module("." * level + name, f"line {sys._getframe(1).f_lineno}", allowed)
        return builtins.__import__(name, globals, locals, fromlist, level)

    return {**vars(builtins), "__import__": guarded_import}


# ---------------------------------------------------------------------------------------- a process without answers
def close(folders: Iterable[Path], libraries: frozenset[str], compiles: bool) -> None:
    """From now on, this process cannot import the libraries, use files of the folders, or start other programs.

    Files are recognized by their inodes: a link to one is refused, too. compiles: ctypes is allowed, because Numba
    needs it. The learner's code gets an ImportError or a PermissionError.
    """
    # The learner may replace the attributes of modules.
    look_up, is_folder, decode, outside, record = os.stat, stat.S_ISDIR, os.fsdecode, OUTSIDE, RECORD
    secret = set()
    for folder, _, names in itertools.chain.from_iterable(map(os.walk, folders)):
        for name in (".", *names):
            with contextlib.suppress(OSError):  # another process deletes a temporary file
                found = look_up(os.path.join(folder, name))
                secret.add((found.st_dev, found.st_ino))

    def refuse(event: str, path: Any) -> None:
        if type(path) not in (str, bytes):  # an object might give another name next time
            raise PermissionError(f"{type(path).__name__} is not accepted as a file's name here: pass a str")
        name = decode(path)
        if name.endswith(record):
            raise PermissionError("the record of what was passed is not for the learner's code")
        for part in (name, name.rpartition("/")[0] or "."):
            try:
                found = look_up(part)
            except (OSError, ValueError):
                continue
            is_opened_folder = event == "open" and part is name and is_folder(found.st_mode)
            if is_opened_folder or (found.st_dev, found.st_ino) in secret:
                raise PermissionError("this file may hold the answer: it must not be used here")

    def hook(event: str, arguments: tuple) -> None:
        if event == "import" and arguments[0].partition(".")[0] in libraries:
            raise ImportError(f"{arguments[0]} is not to be used here: it may hold the answer")
        if event.startswith(outside) or (event.startswith("ctypes.") and not compiles):
            raise PermissionError(f"{event} is not allowed here: the check runs your functions and nothing else")
        if event == "open" or event.startswith("os."):
            for path in arguments[:2] if event != "open" else arguments[:1]:
                if isinstance(path, (str, bytes)) or hasattr(path, "__fspath__"):
                    refuse(event, path)

    sys.addaudithook(hook)


# ---------------------------------------------------------------------------------------- functions of a notebook
def refuse_library_functions(function: Callable, allowed: frozenset[str] = HARMLESS) -> None:
    """Raise Refused if a function, e.g. of a notebook, uses a library that may hold the answer.

    The names in its code are looked up in its globals and closure. Functions of the notebook that it calls are
    searched as well.
    """
    refused = LIBRARIES - allowed
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", "?")
    to_visit, seen = [function], set()
    while to_visit:
        f = to_visit.pop()
        f = getattr(f, "py_func", f)  # a function compiled by Numba
        module = f.__name__ if isinstance(f, ModuleType) else getattr(f, "__module__", None) or ""
        used = [module, *_names_in(f)]  # an import inside a function is one of its names
        found = next((name for name in used if name.partition(".")[0] in refused), None)
        if found:
            name = getattr(function, "__name__", repr(function))
            raise Refused(f"{name} (line {line}) uses {found}: the point is to write it yourself")
        if isinstance(f, FunctionType) and id(f) not in seen:
            seen.add(id(f))
            to_visit += [value for value in _values_in(f) if callable(value) or isinstance(value, ModuleType)]


def _names_in(f: Any) -> Iterator[str]:
    """The global names and attributes in the code of a function and of the functions defined inside it."""
    codes = [f.__code__] if isinstance(f, FunctionType) else []
    while codes:
        code = codes.pop()
        yield from code.co_names
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _values_in(f: FunctionType) -> Iterator[Any]:
    """The values that the code of a function reaches by name: globals, and variables of enclosing functions."""
    yield from (f.__globals__[name] for name in _names_in(f) if name in f.__globals__)
    for cell in f.__closure__ or ():
        with contextlib.suppress(ValueError):  # a variable that has no value yet
            yield cell.cell_contents


# ---------------------------------------------------------------------------------------- the place of an error
def where(error: BaseException, path: str) -> str:
    """The error in a sentence that begins with the last line of the learner's file that it passed through."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place = line_of(error, path)
    return f"{place}: {what}" if place else what


def line_of(error: BaseException, path: str) -> str:
    """The last line of the file that an error passed through, as "line 3: `return x`"; "" if there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    if not frames:
        return ""
    return f"line {frames[-1].lineno}" + (f": `{frames[-1].line}`" if frames[-1].line else "")
