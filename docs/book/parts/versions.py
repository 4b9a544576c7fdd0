"""How each version of an op works, and what it is checked on: from the files of its folder."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backends.registry import use_backend

TIERS = {"cpu": "On the CPU", "cuda": "On a GPU, or in the emulator"}
NAMED = re.compile(r"^    (\w+)  +(\S.*)")  # a line of the list in the docstring of cpu.py or cuda.py
TITLE = re.compile(r"^\w+, (`\w+`(, | and )?)+: ")  # the beginning of the docstring of a version's file


def versions(folder: Path, derivation: str) -> str:
    """The section that lists the definition and the versions of each tier, in the order in which to read them."""
    parts = ["## The versions", f"- **reference**, the definition. {about_file(folder / 'reference.py')}"]
    for tier, title in TIERS.items():
        names = named_versions(folder / f"{tier}.py")
        parts.append(f"{title}: {about_file(folder / f'{tier}.py')}")
        for name in sorted(names, key=lambda name: _place(name, names[name], derivation if tier == "cpu" else "")):
            parts.append(f"- **{name}**: {_about(folder, tier, name, names[name], derivation)}")
    return "\n\n".join(parts)


def _place(name: str, listed: str, derivation: str) -> tuple[bool, bool, bool, int]:
    """Where to read about a version: the loops first, then as in the derivation, then the default, and TF32 last."""
    heading = re.search(rf"^#+ `{name}`", derivation, re.MULTILINE)
    place = heading.start() if heading else derivation.find(f"`{name}`")
    return name == "tf32", "the default" in listed, name != "naive", place


def named_versions(path: Path) -> dict[str, str]:
    """The versions that the docstring of cpu.py or cuda.py lists, and what it says about each; none if there is one."""
    found: dict[str, str] = {}
    name = ""
    for line in docstring(path).splitlines():
        match = NAMED.match(line)
        if match:
            name = match[1]
            found[name] = match[2].strip()
        elif name and line.startswith(" " * 8) and line.strip():
            found[name] += " " + line.strip()
        else:
            name = ""
    return found


def _about(folder: Path, tier: str, name: str, listed: str, derivation: str) -> str:
    """What the list says about a version, the beginning of its file, and where the derivation explains it."""
    parts = [f"{listed.rstrip('.')}."]
    file = folder / f"{name.rstrip('0123456789')}.py"
    if tier == "cpu" and file.exists():
        about = TITLE.sub("", about_file(file))
        parts = [about] if file.stem == name else [*parts, about[0].upper() + about[1:]]
    for title in re.findall(rf"^#+ (`{name}`.*)$", derivation, re.MULTILINE) if tier == "cpu" else []:
        parts.append(f"[The derivation explains it](#{anchor(title)}).")
    return " ".join(parts)


def anchor(title: str) -> str:
    """The place of a heading in the address, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def about_file(path: Path) -> str:
    """The first paragraph of a module's docstring."""
    return " ".join(inspect.cleandoc(docstring(path)).partition("\n\n")[0].split()).rstrip(":") + f" (`{path.name}`)"


# ---------------------------------------------------------------------------------------- cases
def cases(folder: Path) -> str:
    """The section with the cases of a folder: a row for each, with the shapes of a call."""
    module = importlib.import_module(f"tinynet.ops.{folder.name}.cases")
    parts = getattr(module, "PARTS", {folder.name: module})
    with use_backend("reference"):  # some cases run kernels, which Numba would compile first
        rows = [(op, case) for op, part in parts.items() for case in part.cases(np.random.default_rng(0))]
    lines = [f"| {op} | {case.label} | {' | '.join(_call(case))} |" for op, case in rows]
    head = "| op | case | kernels | shapes of the first kernel's arguments |\n| --- | --- | --- | --- |"
    derivatives = ", and derivatives with differences" if any(case.function for _, case in rows) else ""
    about = f"{len(rows)} cases: on each of them a test compares all versions with the definition{derivatives}."
    table = "\n".join([head, *lines])
    return f"## The cases\n\n{about}\n\n::::{{dropdown}} The {len(rows)} cases and their shapes\n\n{table}\n::::"


def _call(case: Any) -> tuple[str, str]:
    """(the kernels of a case, the shapes of the arguments of the first one)."""
    arrays, _ = next(iter(case.calls.values()))
    return ", ".join(case.calls), ", ".join(filter(None, map(shape_of, arrays)))


def shape_of(argument: Any) -> str:
    """'2x3x4' for an array, '2x3 + 2x4' for a list of them, '' for anything else."""
    if isinstance(argument, (list, tuple)):
        return " + ".join(filter(None, map(shape_of, argument)))
    return ("x".join(map(str, argument.shape)) or "scalar") if hasattr(argument, "shape") else ""
