"""A page for each op folder."""

from __future__ import annotations

import ast
import posixpath
from pathlib import Path

from .ladder import ladder
from .pages import LANGUAGES, LINK, ROOT, Site, code_block, constant, toctree
from .versions import cases, versions


def operations(site: Site) -> None:
    """For each op folder: its derivation, the versions, the cases, the measured ladder, who uses it, and its files."""
    names = []
    for derivation in sorted((ROOT / "tinynet/ops").glob("*/derivation.md")):
        names.append(derivation.parent.name)
        site.add(f"operations/{names[-1]}", _page(derivation), f"tinynet/ops/{names[-1]}/derivation.md")
    rows = "\n".join(
        f"| [{name}](operations/{name}.md) | {_first_heading(site.pages[f'operations/{name}'])} |" for name in names
    )
    head = (
        "# Operations\n\nOne folder each: formula, definition, the versions for the CPU, the CUDA kernels, the cases."
    )
    site.add(
        "operations", f"{head}\n\n| op | |\n| --- | --- |\n{rows}\n\n{toctree(f'operations/{name}' for name in names)}"
    )


def _page(derivation: Path) -> str:
    folder, text = derivation.parent, derivation.read_text(encoding="utf-8")
    files = sorted((p for p in folder.iterdir() if p.suffix in LANGUAGES and p.name != "__init__.py"), key=_rank)
    parts = [text, versions(folder, text), cases(folder), ladder(ops_of(folder)), *_users(folder.name)]
    parts += ["## The files", "Each file as it runs; `reference.py` is the definition."]
    return "\n\n".join([*parts, *(_source(path) for path in files if path != derivation)])


def ops_of(folder: Path) -> list[str]:
    """The ops of a folder: those that its package lists in `OPS`, or else one with the folder's name."""
    listed = constant(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")), "OPS")
    return ast.literal_eval(listed) if listed else [folder.name]


def _users(name: str) -> list[str]:
    """The section with the exercises and scripts beside this op in the table "lecture by lecture"."""
    text = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    found: dict[str, dict[str, None]] = {"Exercises": {}, "Scripts": {}}
    for line in text.splitlines():
        if not line.startswith("|") or f"/ops/{name}/" not in line:
            continue
        for before, target, _ in LINK.findall(line):
            file = posixpath.normpath(f"examples/{target}")
            kind = "Exercises" if "/exercises/" in file else "Scripts" if file.endswith(".py") else ""
            if kind:
                found[kind][f"{before}../../../{file})"] = None  # links of this page begin in the op's folder
    lines = [f"- {kind}: {', '.join(links)}" for kind, links in found.items() if links]
    return ["## Where it is used", "\n".join(lines)] if lines else []


def _rank(path: Path) -> tuple[int, str]:
    first = ("reference.py", "op.py", "entries.py", "cpu.py")
    return (first.index(path.name) if path.name in first else 9, path.name)


def _first_heading(text: str) -> str:
    return text.partition("\n")[0].lstrip("# ").partition(": ")[2]


def _source(path: Path) -> str:
    """A source file, folded; its name and the first line of its docstring are visible."""
    about = ""
    if path.suffix == ".py":
        about = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    anchor = path.relative_to(ROOT).as_posix().replace("/", "-")
    return f"::::{{dropdown}} `{path.name}` {about}\n:name: {anchor}\n\n{code_block(path)}\n::::"
