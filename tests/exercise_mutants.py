"""Mechanical mutants of the exercises' solutions: one operator, index, axis or constant changed.

These changes are not chosen by hand, so they measure what the planted mistakes cannot. A mutant that passes
("survives") either computes the same in another way, or shows a gap in a check; measure_exercises.py explains each.
"""

from __future__ import annotations

import ast
import copy
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tinynet.learn.exercises.exercise import SOLUTION_FILE, Exercise
from tinynet.learn.exercises.guard import functions_of
from tinynet.learn.exercises.judge import judge
from tinynet.learn.exercises.verdict import RIGHT

SECONDS = 10.0  # for one mutant; a mutant that runs longer counts as caught, as in every check

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
OPERATORS |= {ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult}
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPARISONS |= {ast.In: ast.NotIn, ast.NotIn: ast.In}
NAMES = {"sum": "mean", "mean": "sum", "max": "min", "maximum": "minimum", "minimum": "maximum", "argmax": "argmin"}
NAMES |= {"zeros": "ones", "log1p": "log", "expm1": "exp", "exp": "expm1"}
AXES = ["oy ox", "iy ix", "ky kx", "sy sx", "py px", "KH KW", "OH OW", "H W", "ci co", "C_in C_out", "beta1 beta2"]
SWAPS = {a: b for pair in AXES for a, b in (pair.split(), reversed(pair.split()))}


@dataclass
class Mutant:
    """before, after: the changed line of the solution. code: the whole learner's file."""

    before: str
    after: str
    code: str

    @property
    def change(self) -> str:
        return f"`{self.before}` -> `{self.after}`"


def mutants(exercise: Exercise) -> list[Mutant]:
    """All mutants of a solution, without repetitions."""
    source = exercise.solution.removeprefix(exercise.head)
    made = _c_mutants(source) if "KERNEL" in source else _python_mutants(source)
    unique = {code: Mutant(before, after, exercise.head + code) for before, after, code in made}
    return list(unique.values())


def _python_mutants(source: str) -> Iterator[tuple[str, str, str]]:
    tree = ast.parse(source)
    whole = ast.unparse(tree)
    for k, node in enumerate(ast.walk(tree)):
        for change in _changes(node):
            mutated = copy.deepcopy(tree)
            twin = next(n for j, n in enumerate(ast.walk(mutated)) if j == k)
            change(twin)
            code = ast.unparse(mutated)
            if code != whole:
                yield *_changed_line(whole, code), code


def _changes(node: ast.AST) -> Iterator:
    """Functions that change a node of this kind in place, each in one way."""
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
        yield lambda n: setattr(n, "op", OPERATORS[type(n.op)]())
    elif isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in COMPARISONS:
                yield lambda n, i=i: n.ops.__setitem__(i, COMPARISONS[type(n.ops[i])]())
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield lambda n: setattr(n, "value", n.value + 1)
        if node.value:
            yield lambda n: setattr(n, "value", n.value - 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda n: setattr(n, "op", ast.UAdd())
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield lambda n: setattr(n, "attr", NAMES[n.attr])
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in SWAPS:
        yield lambda n: setattr(n, "id", SWAPS[n.id])


C_TOKENS = {"<": "<=", ">=": ">", "<=": "<", "+": "-", "-": "+", "%": "/", "+=": "-=", "&&": "||", "||": "&&"}
C_TOKENS |= {"0": "1", "1": "2", "2": "1"} | SWAPS


def _c_mutants(source: str) -> Iterator[tuple[str, str, str]]:
    """For CUDA: one token between braces is changed, but not in a comment or in the declaration of a kernel."""
    start = source.index("{")
    for match in re.finditer(r"\+=|\+\+|--|<=|>=|&&|\|\||[<>+\-%]|\b\w+\b", source):
        line = source[source.rfind("\n", 0, match.start()) + 1 : source.find("\n", match.end())]
        is_code = match.start() > start and not re.match(r"\s*(//|KERNEL|int KH|\")", line)
        is_endless = "for (" in line and match[0] in SWAPS  # a compiled endless loop cannot be ended from here
        if is_code and match[0] in C_TOKENS and not is_endless:
            code = source[: match.start()] + C_TOKENS[match[0]] + source[match.end() :]
            yield *_changed_line(source, code), code


def _changed_line(before: str, after: str) -> tuple[str, str]:
    return next((a.strip(), b.strip()) for a, b in zip(before.splitlines(), after.splitlines()) if a != b)


def survives(exercise: Exercise, mutant: Mutant) -> bool:
    """True if the check calls a mutant right."""
    try:
        with _limit(SECONDS):
            verdict = judge(exercise, functions_of(mutant.code, SOLUTION_FILE, exercise.imports), SOLUTION_FILE)
            return verdict.status == RIGHT
    except Exception:  # the file cannot be run, or the time limit is reached
        return False


class _TimeIsOver(BaseException):
    """Not an Exception, which `observe` would take for an error of the learner's code."""


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def ring(*_):
        raise _TimeIsOver

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TimeIsOver:
        raise TimeoutError from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
