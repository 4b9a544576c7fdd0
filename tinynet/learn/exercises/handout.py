"""A folder to hand out: stubs and checks, but no solutions.

    DIR/README.md                what to do
    DIR/my_exercises/ID.py       the stubs
    DIR/tinynet_checks/ID.py     the exercises, without their solutions and mistakes
    DIR/tinynet_checks/ID.npz    what the solution and each mistake return on every probe

If the commands of `python -m tinynet exercises` are run in DIR, `tinynet_checks/` is their course.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .answers import stored_answers
from .exercise import COURSE_FOLDER, HANDOUT_FOLDER, Exercise, course, exercise, without_solutions

SEED = 0  # of the random values in the probes of a handout
SPOILERS = {"WRONG", "RIGHT", "library"}  # names that are left out of the exercises' files

README = """# Exercises

You need Python and tinynet. In this folder:

    python -m tinynet exercises               what comes next
    python -m tinynet exercises check ID      right, wrong (where, and which mistake it is), or not written yet
    python -m tinynet exercises hint ID       the next of three hints
    python -m tinynet exercises watch         checks a file whenever you save it

Your files are in `my_exercises/`; each begins with its task. The checks need `tinynet_checks/`.

"""


def write_handout(folder: Path, ids: Sequence[str] = ()) -> None:
    """Write the folder. ids: the exercises, by default all, in the order of the course.

    Raises ValueError if the folder is not empty, for an unknown exercise, or if an answer cannot be computed here.
    """
    for id in ids:
        exercise(id, COURSE_FOLDER)
    chosen = tuple(id for id in course(COURSE_FOLDER) if not ids or id in ids)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name a new folder")
    checks, stubs = folder / HANDOUT_FOLDER, folder / "my_exercises"
    for new in (checks, stubs):
        new.mkdir(parents=True)
    (checks / "__init__.py").write_text(f'"""The exercises of this handout."""\n\nCOURSE = {chosen!r}\n')
    lines = []
    for id in chosen:
        this = exercise(id, COURSE_FOLDER)
        missing = this.missing()
        if missing:
            raise ValueError(f"{id}: its answers cannot be computed here: {missing}")
        (stubs / f"{id}.py").write_text(this.stub, encoding="utf-8")
        file = checks / f"{id.replace('-', '_')}.py"
        file.write_text(_without_spoilers(this), encoding="utf-8")
        np.savez_compressed(file.with_suffix(".npz"), **stored_answers(this, SEED))
        lines.append(f"- `{id}` {this.title}: {this.teaches}\n")
    (folder / "README.md").write_text(README + "".join(lines), encoding="utf-8")


def _without_spoilers(this: Exercise) -> str:
    """The exercise's file without its solution, and without the statements that give it away."""
    lines = without_solutions(this.text).splitlines(keepends=True)
    for node in reversed(ast.parse("".join(lines)).body):
        if _is_spoiler(node):
            del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines)


def _is_spoiler(node: ast.stmt) -> bool:
    """True for the variants, the library's functions, and private constants with pieces of the solution's text."""
    if isinstance(node, ast.FunctionDef):
        return node.name in SPOILERS
    if not isinstance(node, ast.Assign):
        return False
    names = {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    is_text = any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in ast.walk(node.value))
    return bool(names & SPOILERS) or (is_text and all(name.startswith("_") for name in names))
