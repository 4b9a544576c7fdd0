"""A folder to hand out: stubs and checks, but no solutions.

    DIR/README.md                what to do
    DIR/my_exercises/ID.py       the stubs
    DIR/tinynet_checks/ID.py     the exercises without solutions, wrong ones and the like
    DIR/tinynet_checks/ID.npz    what the solution, and each of the wrong ones, gives on every probe

The commands of `python -m tinynet exercises`, run in DIR, take what is in `tinynet_checks/` for the course.
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np

from .answers import stored_answers
from .exercise import COURSE_FOLDER, HANDOUT_FOLDER, Exercise, course, exercise, without_solutions

SEED = 0  # of the random values in the probes of a handout
SPOILERS = {"WRONG", "RIGHT", "library"}  # names that are left out of the exercises' files

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
        np.savez_compressed(file.with_suffix(".npz"), **stored_answers(this, SEED))
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
