"""What is in a room: its files, its kernels, where they run; how exact and how fast they are."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from ...backends.registry import TIERS, ops
from .targets import OPS, Target, missing
from .workers import Look, Workers, nothing

HEAD = f"  {'tier':9} {'by':10} {'kernel':16} {'cases':>5} {'error':>8} {'allowed':>8}"
LEGEND = """\
  error: the largest difference from the reference in float64, over the largest value; of the reference itself from
  Numba's kernel in float64, of the derivatives from numerical ones. ms: at one large size, in the emulator at a small
  one with all checks."""


def list_rooms() -> None:
    """Print the rooms, a line for each."""
    for op in ops():
        print(f"  {op:22} {_first_line(OPS / op / 'derivation.md').removeprefix(f'{op}: ')}")
    print("\npython -m tinynet op NAME shows one, op NAME --watch checks it whenever you save")


def describe(op: str) -> None:
    """Print the files and kernels of a room, and where they run."""
    room = OPS / op
    print(f"{op}, in {_shown(room)}\n")
    for path in sorted(p for p in room.iterdir() if p.suffix in (".md", ".py", ".cu", ".cuh") and p.stem != "__init__"):
        print(f"  {path.name:22} {_first_line(path)}")
    print("\nkernels")
    for name, summary in _functions(room / "reference.py"):
        print(f"  {name:22} {summary}")
    print("\nwhere they run")
    for tier, module in TIERS.items():
        print(f"  {tier:22} {missing(tier) or f'here, by {module}.py'}")
    print()


def _first_line(path: Path) -> str:
    """What a file says it is: its title, the first line of its docstring or of its comment; "" if it does not."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            return _summary(ast.get_docstring(ast.parse(text)))
    except (OSError, SyntaxError):
        return ""
    lines = (line.strip("#/ ") for line in text.splitlines())
    return next((line for line in lines if line and not line.endswith(".cuh")), "")  # `// with x.cuh` is no title


def _functions(path: Path) -> list[tuple[str, str]]:
    """The public functions of a file and their first lines, read without running it: it may be broken just now."""
    try:
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
    except SyntaxError as error:
        return [("?", f"{path.name}:{error.lineno}: {error.msg}")]
    public = [node for node in nodes if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return [(node.name, _summary(ast.get_docstring(node))) for node in public]


def _summary(docstring: str | None) -> str:
    return (docstring or "").partition("\n")[0]


def _shown(path: Path) -> str:
    """The path as seen from here, where it lies below."""
    return str(path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path)


# ---------------------------------------------------------------------------------------- the table
@dataclass(frozen=True)
class Origin:
    """Where a target comes from: the file in which its function stands, and all that it is built from."""

    home: Path
    files: set[Path]


def targets_in(workers: Workers, look: Look = nothing) -> tuple[dict[Target, Origin], list[str]]:
    """(the targets that this machine can run, the sentences on tiers that cannot be imported)."""
    tiers = [tier for tier in TIERS if missing(tier) is None]
    answer = workers.ask({"do": "list", "tiers": tiers}, look)
    if "failed" in answer:
        return {}, [answer["failed"]]
    origins = [Origin(Path(h), set(map(Path, files))) for h, files in zip(answer["homes"], answer["files"])]
    targets = [Target(*fields) for fields in answer["targets"]]
    return dict(zip(targets, origins)), list(dict.fromkeys(answer["failed_tiers"].values()))


def measured(
    workers: Workers, targets: Iterable[Target], look: Look = nothing
) -> Iterator[tuple[Target, dict[str, Any]]]:
    """Check and time the targets and print a row of the table for each: (target, the answer with its "ms")."""
    print(f"{HEAD} {'ms':>9}")
    for target in targets:
        answer = workers.ask({"do": "check", "target": astuple(target)}, look)
        if answer.get("right"):
            answer |= workers.ask({"do": "time", "target": astuple(target)}, look)
        print(row(target, answer), flush=True)
        yield target, answer
    print(LEGEND)


def row(target: Target, answer: dict[str, Any]) -> str:
    """A line of the table; with a report below it where something is wrong."""
    if "failed" in answer:
        return f"  {target}  cannot be checked\n    {indented(answer['failed'], 4)}"
    figures = f"{answer['cases']:5} {answer['error']:8.1e} {answer['allowed']:8.1e}"
    if not answer["right"]:
        return f"  {target} {figures}  WRONG\n    {indented(answer['report'], 4)}"
    ms = answer.get("ms")
    return f"  {target} {figures} {f'{ms:9.3f}' if ms is not None else '':>9}".rstrip()


def indented(text: str, spaces: int = 2) -> str:
    """All lines but the first moved to the right."""
    return text.replace("\n", "\n" + " " * spaces)
