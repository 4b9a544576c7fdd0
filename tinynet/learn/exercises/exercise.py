"""The format of an exercise: one Python file that holds everything about it, so that its parts always fit together.

    '''The title.

    The statement: what is to be written, with the formula.
    '''
    import numpy as np                                   the learner's file gets these imports, but not tinynet's

    from tinynet.learn.exercises.exercise import Right, Wrong
    from tinynet.learn.exercises.probe import call, integers

    TEACHES = "what the learner knows afterwards"
    HINTS = ("from a nudge", "over a formula", "to nearly the code")

    # ---- your file
    def double(x):
        '''The arguments and the result.'''
        # ---- solution
        return 2 * x
        # ---- end of solution
    # ---- end of your file

    WRONG = (Wrong("squared", "x was squared, not doubled", ("2 * x", "x * x")),)
    RIGHT = (Right("sum", ("2 * x", "x + x")),)

    def probes(rng):                                     what is checked, the simplest first
        yield call("one number", "double", np.array(3.0), gives={"y": ""})
        yield call("a matrix", "double", integers(rng, 2, 3), gives={"y": "row column"})

    def library():                                       the same functions, made of tinynet's kernels
        ...

The learner's file is the statement, the imports and the text between the outer markers. In the stub, each solution is
replaced by `raise NotImplementedError`. A wrong solution is the solution with one or a few pieces of text replaced. So
the stub, the solution and the mistakes follow every edit of the solution.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from .probe import Probe

COURSE_FOLDER = Path(__file__).parent / "course"
# A handout (handout.py) brings a course of its own, without solutions. The commands look for it in the current folder.
HANDOUT_FOLDER = Path("tinynet_checks")

SOLUTION_FILE = "<solution>"  # the file name of code that no learner has written

_FILE = re.compile(r"^# ---- your file\n(.*?)^# ---- end of your file\n", re.MULTILINE | re.DOTALL)
_SOLUTION = re.compile(
    r"^(?P<begin>(?P<indent> *)(?P<comment>#|//) ---- solution\n)"
    r"(?P<body>.*?)^(?P<end> *(#|//) ---- end of solution\n)",
    re.MULTILINE | re.DOTALL,
)
_TODO = {"#": 'raise NotImplementedError("to be written")', "//": "// to be written"}

Substitution = tuple[str, str]


class Variant(NamedTuple):
    """The solution with pieces of its text replaced. Each `old` piece stands in the solution exactly once."""

    name: str
    sentence: str  # of a mistake: what is wrong and why, addressed to the learner
    substitutions: tuple[Substitution, ...] = ()

    def applied_to(self, code: str) -> str:
        """The code with the substitutions made. Raises ValueError if an `old` piece is not there exactly once."""
        for old, new in self.substitutions:
            if code.count(old) != 1:
                raise ValueError(f"variant {self.name!r}: {old!r} stands {code.count(old)} times in the solution")
            code = code.replace(old, new)
        return code


def Wrong(name: str, sentence: str, *substitutions: Substitution) -> Variant:
    """A typical mistake."""
    return Variant(name, sentence, substitutions)


def Right(name: str, *substitutions: Substitution) -> Variant:
    """Another correct way to write the solution."""
    return Variant(name, "", substitutions)


# ---------------------------------------------------------------------------------------- the file
class Exercise:
    """One exercise, read from its file.

    text: of the file; module: the file, imported. head: the statement and the imports with which a learner's file
    begins. solution, stub: whole learner's files. functions: the names that the learner's file defines, in order.
    arguments: for each function the names of its positional and of its keyword-only arguments, and both as a text.
    seconds: how long a check may take. imports: modules that the learner may import in addition to guard.HARMLESS.
    helper: a function of this package that the probes run beside the learner's functions (`probe.run_beside`).
    """

    def __init__(self, id: str, text: str, module: ModuleType) -> None:
        self.id, self.text, self.module = id, text, module
        self.statement = ast.get_docstring(ast.parse(text)) or ""  # python -OO keeps no __doc__
        self.title = self.statement.partition("\n")[0].rstrip(".")
        self.teaches: str = module.TEACHES
        self.hints = tuple(map(inspect.cleandoc, module.HINTS))
        self.wrong: tuple[Variant, ...] = getattr(module, "WRONG", ())  # a handout has none
        self.right: tuple[Variant, ...] = getattr(module, "RIGHT", ())
        self.seconds: float = getattr(module, "SECONDS", 10.0)
        self.imports = frozenset(getattr(module, "IMPORTS", ()))
        self.helper: Callable | None = getattr(module, "HELPER", None)
        self.head = f'"""{id}: {self.statement}\n"""\n\n{_imports_in(text)}\n\n'
        (file,) = _FILE.findall(text)
        self._code = _SOLUTION.sub(lambda match: match["body"], file).strip() + "\n"
        self.solution = self.head + self._code
        self.stub = self.head + _SOLUTION.sub(_to_be_written, file).strip() + "\n"
        definitions = _definitions(file)
        self.functions = tuple(definitions)
        self.arguments = {name: _arguments(node.args) for name, node in definitions.items() if hasattr(node, "args")}

    def variant(self, *variants: Variant) -> str:
        """A learner's file: the solution with one or several variants applied."""
        code = self._code
        for variant in variants:
            code = variant.applied_to(code)
        return self.head + code

    def probes(self, seed: int) -> list[Probe]:
        """The probes, with random values drawn from this seed."""
        return list(self.module.probes(np.random.default_rng(seed)))

    def missing(self) -> str | None:
        """Why this machine cannot check the exercise, in a sentence; None if it can."""
        return getattr(self.module, "missing", lambda: None)()


def without_solutions(text: str) -> str:
    """The text of an exercise's file with its solutions removed; their markers stay."""
    return _SOLUTION.sub(lambda m: m["begin"] + _to_be_written(m) + m["end"], text)


def _to_be_written(match: re.Match) -> str:
    return f"{match['indent']}{_TODO[match['comment']]}\n"


def _imports_in(text: str) -> str:
    """The import statements of an exercise's file, except those of tinynet."""
    nodes = [node for node in ast.parse(text).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    ours = ("tinynet", "__future__")
    lines = [ast.unparse(node) for node in nodes if not (getattr(node, "module", None) or "").startswith(ours)]
    return "\n".join(lines) + ("\n" if lines else "")


def _definitions(code: str) -> dict[str, ast.stmt]:
    """The names that a learner's file defines, in order, with their statements."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return found


def _arguments(node: ast.arguments) -> tuple[list[str], list[str], str]:
    return [a.arg for a in node.args], [a.arg for a in node.kwonlyargs], ast.unparse(node)


# ---------------------------------------------------------------------------------------- the course
def course_folder() -> Path:
    """The folder of the exercises: in the package, or in the handout if the current folder is one."""
    return HANDOUT_FOLDER.resolve() if (HANDOUT_FOLDER / "__init__.py").is_file() else COURSE_FOLDER


def course(folder: Path | None = None) -> tuple[str, ...]:
    """The ids of all exercises, in the order of the course."""
    return _imported(folder or course_folder(), "__init__").COURSE


def exercise(id: str, folder: Path | None = None) -> Exercise:
    """Read an exercise. Raises ValueError, with all ids, if there is none with this id."""
    folder = folder or course_folder()
    if id not in course(folder):
        raise ValueError(f"there is no exercise {id!r}; there are: {', '.join(course(folder))}")
    return _read(id, folder)


@functools.cache
def _read(id: str, folder: Path) -> Exercise:
    name = id.replace("-", "_")
    return Exercise(id, (folder / f"{name}.py").read_text(encoding="utf-8"), _imported(folder, name))


@functools.cache
def _imported(folder: Path, name: str) -> ModuleType:
    """A file of the course as a module, imported by its path, because a handout is not a package."""
    return module_from(folder / f"{name}.py", f"tinynet_course_{name}")


def module_from(file: Path, name: str) -> ModuleType:
    """A file as a module of this name."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their own module while it is imported
    spec.loader.exec_module(module)
    return module
