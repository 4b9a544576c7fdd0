"""A page for each op folder."""

from __future__ import annotations

import ast
from pathlib import Path

from .pages import LANGUAGES, ROOT, Site, code_block, toctree


def operations(site: Site) -> None:
    """For each op folder: its derivation, then the definition, the versions and the cases."""
    names = []
    for derivation in sorted((ROOT / "tinynet/ops").glob("*/derivation.md")):
        folder = derivation.parent
        names.append(folder.name)
        text = derivation.read_text(encoding="utf-8")
        files = sorted((p for p in folder.iterdir() if p.suffix in LANGUAGES and p.name != "__init__.py"), key=_rank)
        parts = [text, "## The files", "Each file as it runs; `reference.py` is the definition."]
        parts += [_source(path) for path in files if path != derivation]
        site.add(f"operations/{folder.name}", "\n\n".join(parts), f"tinynet/ops/{folder.name}/derivation.md")
    rows = "\n".join(
        f"| [{name}](operations/{name}.md) | {_first_heading(site.pages[f'operations/{name}'])} |" for name in names
    )
    head = (
        "# Operations\n\nOne folder each: formula, definition, the versions for the CPU, the CUDA kernels, the cases."
    )
    site.add(
        "operations", f"{head}\n\n| op | |\n| --- | --- |\n{rows}\n\n{toctree(f'operations/{name}' for name in names)}"
    )


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
