"""A table for a class: what is right, and which mistakes there are, in a folder of submissions."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .exercise import HANDOUT_FOLDER, course
from .runner import check_file
from .verdict import NOT_CHECKED


class Mark(NamedTuple):
    """One file. mistake: the names of the mistakes, or else what is wrong in a sentence; empty if it is right."""

    student: str
    exercise: str
    status: str
    mistake: str

    def __str__(self) -> str:
        return f"{self.student:20} {self.exercise:12} {self.status:20} {self.mistake}"


def marks(folder: Path, seed: int = 0) -> Iterator[Mark]:
    """The mark of each file FOLDER/STUDENT/.../ID.py, in alphabetical order.

    A Python file whose name is no exercise, or that lies in no student's folder, gets a mark that says so.
    Raises ValueError if there is no Python file.
    """
    files = [file for file in sorted(folder.rglob("*.py")) if not {"__pycache__", HANDOUT_FOLDER.name} & {*file.parts}]
    if not files:
        raise ValueError(f"there is no Python file in {folder}; submissions are expected as STUDENT/ID.py")
    for file in files:
        *folders, name = file.relative_to(folder).parts
        student = folders[0] if folders else ""
        near = difflib.get_close_matches(file.stem.lower().replace("_", "-").replace(" ", "-")[:9], course(), 1)
        if file.stem not in course():
            hint = f"; is it {near[0]}.py?" if near else ""
            yield Mark(student, name, NOT_CHECKED, f"the name {name} is no exercise{hint}")
        elif not student:
            yield Mark(student, file.stem, NOT_CHECKED, f"{name} lies in no student's folder")
        else:
            verdict = check_file(file.stem, file, seed)
            found = [f.mistake or f.sentence or f.report.partition("\n")[0] for f in verdict.findings]
            mistake = "; ".join(dict.fromkeys(found)) or ("" if verdict else verdict.message)
            yield Mark(student, file.stem, verdict.status, mistake)


def write_table(folder: Path, table: Path | None, seed: int) -> bool:
    """Print the marks and, if `table` is given, write them as CSV. False if a file could not be checked."""
    found = []
    for mark in marks(folder, seed):
        found.append(mark)
        print(mark, flush=True)
    if table:
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([Mark._fields, *found])
    return all(mark.status != NOT_CHECKED for mark in found)
