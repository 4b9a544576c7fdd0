"""A folder to hand out: stubs and checks, but no solutions.

    DIR/README.md                what to do
    DIR/my_exercises/ID.py       the stubs
    DIR/tinynet_checks/ID.py     the exercises without solutions, wrong ones and the like
    DIR/tinynet_checks/ID.npz    what the solution, and each of the wrong ones, gives on every probe

The commands of `python -m tinynet exercises`, run in DIR, take what is in `tinynet_checks/` for the course.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .exercise import (
    COURSE_FOLDER,
    HANDOUT_FOLDER,
    Exercise,
    Failure,
    Probe,
    Wrong,
    course,
    exercise,
    without_solutions,
)
from .judge import Answers, Book, answer_book

SEED = 0  # of the numbers that are tried in a handout
SPOILERS = {"WRONG", "RIGHT", "library"}  # what is left out of the exercises' files

README = """# Exercises

You need Python and tinynet. In this folder:

    python -m tinynet exercises               what comes next
    python -m tinynet exercises check ID      right, wrong (where, and what gives exactly that), or not written yet
    python -m tinynet exercises hint ID       the next of three hints
    python -m tinynet exercises watch         checks a file whenever you save it

Your files are in `my_exercises/`; each begins with its task. `tinynet_checks/` is needed for the checks.

"""


def write_handout(folder: Path) -> None:
    """Write the folder. Raises ValueError where there is something in it already, or answers cannot be computed."""
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name a new folder")
    checks, stubs = folder / HANDOUT_FOLDER, folder / "my_exercises"
    for new in (checks, stubs):
        new.mkdir(parents=True)
    (checks / "__init__.py").write_text((COURSE_FOLDER / "__init__.py").read_text(encoding="utf-8"), encoding="utf-8")
    lines = []
    for id in course(COURSE_FOLDER):
        this = exercise(id, COURSE_FOLDER)
        missing = this.missing()
        if missing:
            raise ValueError(f"{id}: its answers cannot be computed here: {missing}")
        (stubs / f"{id}.py").write_text(this.stub, encoding="utf-8")
        file = checks / f"{id.replace('-', '_')}.py"
        file.write_text(_without_spoilers(this), encoding="utf-8")
        np.savez_compressed(file.with_suffix(".npz"), **recorded(this))
        lines.append(f"- `{id}` {this.title}: {this.teaches}\n")
    (folder / "README.md").write_text(README + "".join(lines), encoding="utf-8")


def _without_spoilers(this: Exercise) -> str:
    """The exercise's file without its solution and what tells it."""
    lines = without_solutions(this.text).splitlines(keepends=True)
    for node in reversed(ast.parse("".join(lines)).body):
        if _tells(node):
            del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines)


def _tells(node: ast.stmt) -> bool:
    """Whether a statement of an exercise's file tells the solution: the variants, and pieces of text for them."""
    if isinstance(node, ast.FunctionDef):
        return node.name in SPOILERS
    if not isinstance(node, ast.Assign):
        return False
    names = {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    is_text = any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in ast.walk(node.value))
    return bool(names & SPOILERS) or (is_text and all(name.startswith("_") for name in names))


def recorded(this: Exercise) -> dict[str, np.ndarray]:
    """The answers to all probes as arrays with keys such as "solution/0/gx" (probe 0, output gx)."""
    probes = this.probes(SEED)
    book = answer_book(this, probes, SEED)
    arrays: dict[str, np.ndarray] = {"seed": np.array(SEED)}
    mistakes = book.mistakes()
    arrays["names"] = np.array([mistake.name for mistake, _ in mistakes])
    arrays["sentences"] = np.array([mistake.sentence for mistake, _ in mistakes])
    for who, answers in [("solution", book.solution), *((str(k), a) for k, (_, a) in enumerate(mistakes))]:
        for i, observation in enumerate(answers):
            for output, value in observation.items():
                is_failure = isinstance(value, Failure)
                arrays[f"{who}/{i}/{output}"] = np.array([value.kind, value.message]) if is_failure else value
    return arrays


def read_answers(file: Path, probes: Sequence[Probe], seed: int) -> Book:
    """The answers that `recorded` kept. Raises ValueError for another seed than that of the handout."""
    with np.load(file) as archive:
        arrays = dict(archive)
    if seed != int(arrays["seed"]):
        raise ValueError(f"this is a handout: its answers are for --seed {arrays['seed']}, not {seed}")

    def answers(who: str) -> Answers:
        return [{o: _value(arrays[f"{who}/{i}/{o}"]) for o in probe.axes} for i, probe in enumerate(probes)]

    def mistakes() -> list[tuple[Wrong, Answers]]:
        told = zip(arrays["names"], arrays["sentences"])
        return [(Wrong(str(name), str(text)), answers(str(k))) for k, (name, text) in enumerate(told)]

    return Book(answers("solution"), mistakes)


def _value(array: np.ndarray) -> Any:
    """An array as it is, or the Failure that was kept as its kind and message."""
    return Failure(str(array[0]), str(array[1]), str(array[1])) if array.dtype.kind == "U" else array
