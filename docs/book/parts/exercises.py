"""A page for each exercise."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from typing import NamedTuple

from tinynet.learn.exercises.course import COURSE

from .pages import ROOT, Site, constant, toctree
from .table import Row, heading, lectures_of_table

COURSE_FOLDER = "tinynet/learn/exercises/course"


class Description(NamedTuple):
    """What one may know of an exercise before it is solved."""

    title: str
    task: str
    teaches: str
    lines: int  # of its solution


def file_of(identity: str) -> str:
    return f"{COURSE_FOLDER}/{identity.replace('-', '_')}.py"


def command(identity: str, what: str = "start") -> str:
    return f"python -m tinynet exercises {what} {identity}"


@functools.cache
def describe(identity: str) -> Description:
    """The title and the task of an exercise, and how long its solution is."""
    text = (ROOT / file_of(identity)).read_text(encoding="utf-8")
    tree = ast.parse(text)
    title, _, rest = (ast.get_docstring(tree) or "").partition("\n")
    solutions = re.findall(r"# ---- solution\n(.*?)# ---- end of solution", text, re.DOTALL)
    lines = [line for solution in solutions for line in solution.splitlines() if line.strip()]
    return Description(title.rstrip("."), inspect.cleandoc(rest), constant(tree, "TEACHES"), len(lines))


def exercises(site: Site) -> None:
    """For each exercise its task; the solution is not shown."""
    rows = [row for lecture in lectures_of_table() for row in lecture.rows]
    for identity in COURSE:
        belongs = [row for row in rows if identity in {link.text for link in row.exercises}]
        site.add(f"course/{identity}", _page(identity, belongs), file_of(identity))
    table = [f"| [{i}](course/{i}.md) | {describe(i).title} | {describe(i).teaches} |" for i in COURSE]
    head = "# The course, exercise by exercise\n\n| exercise | task | it teaches |\n| --- | --- | --- |"
    site.add("course", "\n".join([head, *table]) + f"\n\n{toctree(f'course/{i}' for i in COURSE)}")


def _page(identity: str, rows: list[Row]) -> str:
    """The task, and before it what leads to it. Links start in the folder of the course."""
    about, up = describe(identity), "../" * (COURSE_FOLDER.count("/") + 1)
    facts = [f"- **You learn**: {about.teaches}.", f"- **Length**: the solution has {about.lines} lines."]
    for row in rows:
        links = [f"[{link.file.split('/')[-2]}: {heading(link)}]({up}{link.target})" for link in row.operations]
        derivation = f"; derivation: {', '.join(links)}" if links else ""
        facts.append(f"- **Lecture {row.lecture}**: [{row.idea}]({up}{row.text.target}){derivation}.")
    commands = "\n".join(command(identity, what) for what in ("start", "check", "hint"))
    return "\n\n".join(
        [f"# {identity}: {about.title}", "\n".join(facts), f"```sh\n{commands}\n```", "## The task", about.task]
    )
