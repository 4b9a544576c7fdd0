"""A page for each exercise."""

from __future__ import annotations

import ast
import inspect

from tinynet.learn.exercises.course import COURSE

from .pages import ROOT, Site, constant, toctree


def exercises(site: Site) -> None:
    """For each exercise its task; the solution is not shown."""
    names = []
    folder = ROOT / "tinynet/learn/exercises/course"
    for identity in COURSE:
        name = f"{identity.replace('-', '_')}.py"
        tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        title, _, rest = (ast.get_docstring(tree) or "").partition("\n")
        commands = f"python -m tinynet exercises start {identity}\npython -m tinynet exercises check {identity}"
        names.append((identity, title, constant(tree, "TEACHES")))
        text = f"# {identity}: {title}\n\n```sh\n{commands}\n```\n\n{inspect.cleandoc(rest)}"
        site.add(f"course/{identity}", text, f"tinynet/learn/exercises/course/{name}")
    rows = "\n".join(f"| [{i}](course/{i}.md) | {title} | {teaches} |" for i, title, teaches in names)
    head = "# The course, exercise by exercise\n\n| exercise | task | it teaches |\n| --- | --- | --- |"
    site.add("course", f"{head}\n{rows}\n\n{toctree(f'course/{i}' for i, _, _ in names)}")
