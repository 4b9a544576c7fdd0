"""The format of an exercise: one Python file that holds everything about it, so that nothing can drift apart.

    '''The title.

    The statement: what is to be written, with the formula.
    '''
    import numpy as np                                   the learner's file gets these imports, but not tinynet's

    from tinynet.exercises.exercise import Wrong, call, integers

    TEACHES = "what one knows afterwards"
    HINTS = ("from a nudge", "over a formula", "to nearly the code")

    # ---- your file
    def double(x):
        '''What comes in, what goes out.'''
        # ---- solution
        return 2 * x
        # ---- end of solution
    # ---- end of your file

    WRONG = (Wrong("squared", "x was squared, not doubled", ("2 * x", "x * x")),)
    RIGHT = (Right("sum", ("2 * x", "x + x")),)

    def probes(rng):                                     what is tried, the simplest first
        yield call("one number", "double", np.array(3.0), gives={"y": ""})
        yield call("a matrix", "double", integers(rng, 2, 3), gives={"y": "row column"})

    def library():                                       the same functions, made of tinynet's kernels
        ...

The learner's file is the statement, the imports and what stands between the outer markers; the stub has
`raise NotImplementedError` in the place of each solution. A wrong solution is the solution with one or a few
pieces of text replaced. So stub, solution and mistakes follow every edit of the solution.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

COURSE_FOLDER = Path(__file__).parent / "course"
# A handout (handout.py) brings a course of its own, without solutions; the commands look for it where they are run.
HANDOUT_FOLDER = Path("tinynet_checks")

SOLUTION_FILE = "<solution>"  # the name of what is no learner's file

_FILE = re.compile(r"^# ---- your file\n(.*?)^# ---- end of your file\n", re.MULTILINE | re.DOTALL)
_SOLUTION = re.compile(
    r"^(?P<indent> *)(?P<comment>#|//) ---- solution\n(?P<body>.*?)^ *(#|//) ---- end of solution\n",
    re.MULTILINE | re.DOTALL,
)
_TODO = {"#": 'raise NotImplementedError("to be written")', "//": "// to be written"}

Substitution = tuple[str, str]


@dataclass(frozen=True)
class Variant:
    """The solution with pieces of its text replaced: each `old` stands in the solution exactly once."""

    name: str
    substitutions: tuple[Substitution, ...]

    def applied_to(self, code: str) -> str:
        """The solution's code with the substitutions made. Raises ValueError where an `old` is not there once."""
        for old, new in self.substitutions:
            if code.count(old) != 1:
                raise ValueError(f"variant {self.name!r}: {old!r} stands {code.count(old)} times in the solution")
            code = code.replace(old, new)
        return code


@dataclass(frozen=True)
class Wrong(Variant):
    """A typical mistake. sentence: what was done and why it is wrong, said to the one who did it."""

    sentence: str

    def __init__(self, name: str, sentence: str, *substitutions: Substitution) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "sentence", " ".join(sentence.split()))
        object.__setattr__(self, "substitutions", substitutions)


@dataclass(frozen=True)
class Right(Variant):
    """Another way to write it that is as right as the solution."""

    def __init__(self, name: str, *substitutions: Substitution) -> None:
        super().__init__(name, substitutions)


# ---------------------------------------------------------------------------------------- probes
class Unusable(Exception):
    """A learner's function returned what cannot be compared, or did something it must not; the message says what."""


@dataclass(frozen=True)
class Failure:
    """Instead of an array: why there is none.

    kind, message: the exception's. text: the same in a sentence, with the learner's line; it does not count in
    comparisons.
    """

    kind: str
    message: str
    text: str = field(compare=False)
    not_written: bool = False


@dataclass(frozen=True)
class Probe:
    """One thing that is tried.

    label: what is special about it, in a few words. function: the learner's function that is under test.
    run(functions): gives what is compared, arrays by name, or Failures; `functions` holds the learner's, by name.
    axes: for each of the names the letters of its axes, e.g. {"gx": "n iy ix ci"}.
    """

    label: str
    function: str
    run: Callable[[Mapping[str, Any]], dict[str, Any]]
    axes: dict[str, str]
    context: dict[str, Any] = field(default_factory=dict)  # what `explain` is told besides, such as gy


def call(
    label: str,
    function: str,
    *arguments: Any,
    gives: dict[str, str],
    gy: str | None = None,
    **parameters: Any,
) -> Probe:
    """The usual probe: call a function, and compare what it returns.

    gives: the names of its results, each with the letters of its axes. gy: for a backward function, whose first
    argument is gy, the letters of its axes. The function gets copies, must leave them as they are, and must return the
    same at a second call.
    """

    def run(functions: Mapping[str, Any]) -> dict[str, Any]:
        first = results(_call_with_copies(functions[function], function, arguments, parameters))
        again = results(_call_with_copies(functions[function], function, arguments, parameters))
        for name, value in first.items():
            if not same(value, again[name]):
                raise Unusable(
                    f"{function} gives another {name} when it is called again with the same arguments: does something "
                    "outlive the call (a global variable, a default argument that is changed), or is it random?"
                )
        return first

    def results(returned: Any) -> dict[str, Any]:
        if returned is None:
            raise Unusable(f"{function} returned None: is there a `return`?")
        values = (returned,) if len(gives) == 1 else returned
        if not isinstance(values, (tuple, list)) or len(values) != len(gives):
            raise Unusable(
                f"{function} must return {len(gives)} things, {', '.join(gives)}; it returned {returned!r:.80}"
            )
        return {name: numeric(f"{function}: {name}", value) for name, value in zip(gives, values)}

    context = {} if gy is None else {"gy": arguments[0], "gy_axes": tuple(gy.split())}
    return Probe(label, function, run, gives, context)


def _call_with_copies(f: Callable, name: str, arguments: tuple, parameters: dict[str, Any]) -> Any:
    """f with copies of its arguments. Raises Unusable where it changes an array among them."""
    given = [copy.deepcopy(a) for a in arguments]
    returned = f(*given, **copy.deepcopy(parameters))
    returned = copy.deepcopy(returned)  # it may be a view of an argument, or an array that the next call reuses
    for i, (before, after) in enumerate(zip(arguments, given)):
        if isinstance(before, np.ndarray) and not same(before, after):
            raise Unusable(f"{name} changed its argument {i + 1} in place; the caller still needs it: work on a copy")
    return returned


def numeric(what: str, value: Any) -> np.ndarray:
    """The value as an array of numbers. Raises Unusable for None, lists of unequal length and the like."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise Unusable(f"{what} must be an array of numbers; it is {value!r:.80} ({type(value).__name__})")
    return array


def same(a: Any, b: Any) -> bool:
    """Whether two arrays agree to the last bit, NaN with NaN."""
    return np.shape(a) == np.shape(b) and np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small whole numbers but no 0, as float64: a plane of them can be read, and nothing hides behind a zero."""
    return rng.choice([-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0], size=shape)


def reals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers between 0.5 and 2, of either sign: none near a kink at 0."""
    return rng.choice([-1.0, 1.0], size=shape) * rng.uniform(0.5, 2.0, size=shape)


def kernels_of(op: str, *names: str) -> dict[str, Callable]:
    """tinynet's kernels as functions by name, each looked up when it is called: those of the backend in use then."""

    def looked_up(name: str) -> Callable:
        def run(*arrays: Any, **parameters: Any) -> Any:
            from ...backends.registry import kernel

            return kernel(op, name)(*arrays, **parameters)

        return run

    return {name: looked_up(name) for name in names}


# ---------------------------------------------------------------------------------------- the file
@dataclass(frozen=True)
class Exercise:
    """One exercise, read from its file. Texts are those of learner's files; `module` is the file itself, imported."""

    id: str
    text: str
    module: ModuleType

    @property
    def title(self) -> str:
        return self.statement.partition("\n")[0].rstrip(".")

    @functools.cached_property
    def statement(self) -> str:
        """Title and task, as they stand on top of the learner's file."""
        return inspect.cleandoc(self.module.__doc__)

    @functools.cached_property
    def solution(self) -> str:
        """The solution as a learner's file."""
        return self.head + self._code(lambda match: match["body"])

    @functools.cached_property
    def stub(self) -> str:
        """What the learner starts from."""
        return self.head + self._code(_to_be_written)

    def variant(self, *variants: Variant) -> str:
        """A variant of the solution as a learner's file, or several in one."""
        code = self._code(lambda match: match["body"])
        for variant in variants:
            code = variant.applied_to(code)
        return self.head + code

    @functools.cached_property
    def functions(self) -> tuple[str, ...]:
        """The functions (or other names) that the learner's file defines, in order."""
        names = []
        for node in ast.parse(_FILE.search(self.text)[1]).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.append(node.name)
            elif isinstance(node, ast.Assign):
                names += [target.id for target in node.targets]
        return tuple(names)

    @property
    def hints(self) -> tuple[str, ...]:
        return tuple(inspect.cleandoc(hint) for hint in self.module.HINTS)

    @property
    def teaches(self) -> str:
        return self.module.TEACHES

    @property
    def wrong(self) -> tuple[Wrong, ...]:
        return getattr(self.module, "WRONG", ())

    @property
    def right(self) -> tuple[Right, ...]:
        return getattr(self.module, "RIGHT", ())

    @property
    def seconds(self) -> float:
        """How long a check may take before it is stopped."""
        return getattr(self.module, "SECONDS", 10.0)

    @property
    def imports(self) -> frozenset[str]:
        """Modules that the learner may import beside those that everybody may."""
        return frozenset(getattr(self.module, "IMPORTS", ()))

    def probes(self, seed: int) -> list[Probe]:
        """What is tried, with numbers drawn by this seed."""
        return list(self.module.probes(np.random.default_rng(seed)))

    def missing(self) -> str | None:
        """Why this machine cannot check it, in a sentence; None where it can."""
        return getattr(self.module, "missing", lambda: None)()

    @functools.cached_property
    def head(self) -> str:
        """How a learner's file begins: the statement and the imports."""
        return f'"""{self.id}: {self.statement}\n"""\n\n{self._imports()}\n\n'

    def _code(self, fill: Callable[[re.Match], str]) -> str:
        """The rest of a learner's file, with something in the place of each solution."""
        return _SOLUTION.sub(fill, _FILE.search(self.text)[1]).strip() + "\n"

    def _imports(self) -> str:
        """The file's imports, those of the exercise's own machinery left out."""
        lines = []
        for node in ast.parse(self.text).body:
            ours = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("tinynet", "__future__"))
            if isinstance(node, (ast.Import, ast.ImportFrom)) and not ours:
                lines.append(ast.unparse(node))
        return "\n".join(lines) + ("\n" if lines else "")


def without_solutions(text: str) -> str:
    """The text of an exercise's file with nothing between the markers of its solutions."""
    return _SOLUTION.sub(lambda m: f"{_marker(m)}\n{_to_be_written(m)}{_marker(m, 'end of ')}\n", text)


def _marker(match: re.Match, end: str = "") -> str:
    return f"{match['indent']}{match['comment']} ---- {end}solution"


def _to_be_written(match: re.Match) -> str:
    return f"{match['indent']}{_TODO[match['comment']]}\n"


def course_folder() -> Path:
    """Where the exercises lie: in the package, or in the handout in whose folder we are."""
    return HANDOUT_FOLDER if (HANDOUT_FOLDER / "__init__.py").is_file() else COURSE_FOLDER


@functools.cache
def course(folder: Path | None = None) -> tuple[str, ...]:
    """The ids of all exercises, in the order of the course."""
    return _import(folder or course_folder(), "__init__").COURSE


@functools.cache
def exercise(id: str, folder: Path | None = None) -> Exercise:
    """Read an exercise. Raises ValueError with the ids there are for one that is not in the course."""
    folder = folder or course_folder()
    if id not in course(folder):
        raise ValueError(f"there is no exercise {id!r}; there are: {', '.join(course(folder))}")
    name = id.replace("-", "_")
    return Exercise(id, (folder / f"{name}.py").read_text(encoding="utf-8"), _import(folder, name))


def _import(folder: Path, name: str) -> ModuleType:
    """A file of the course as a module. By its path, because a handout is no package."""
    full_name = f"tinynet_course_{name}"
    spec = importlib.util.spec_from_file_location(full_name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[full_name] = module  # dataclasses look their own module up while it is being imported
    spec.loader.exec_module(module)
    return module
