"""What is in an op folder: its files, its kernels and where they run; how exact and how fast the kernels are."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...backends.registry import TIERS, ops
from .checks import Checked, Origin, Time, checked, listed, timed
from .process import Failed
from .targets import Target, folder_of, missing
from .workers import Look, Workers, nothing

HEAD = f"  {'tier':9} {'by':10} {'kernel':16} {'cases':>5} {'error':>8} {'allowed':>8}"
LEGEND = """\
  error: the largest difference from the reference in float64, over the largest value. The reference itself is compared
  with Numba's kernel in float64, the derivatives with numerical ones. time: at one large size; in the emulator at a
  small size with all checks."""

KERNEL_OF = {"value": "forward", "gradient": "backward"}  # the kernel that each formula of an entry defines


def list_ops() -> None:
    """Print the operations, a line for each."""
    for op in ops():
        print(f"  {op:22} {_title(op).removeprefix(f'{op}: ')}")
    print("\npython -m tinynet op NAME shows one, op NAME --watch checks it whenever you save")


def describe(op: str) -> None:
    """Print the files and kernels of an op, and where they run."""
    folder = folder_of(op)
    shown = folder.relative_to(Path.cwd()) if Path.cwd() in folder.parents else folder
    print(f"{op}, in {shown}\n")
    for path in sorted(folder.iterdir()):
        if path.suffix in (".md", ".py", ".cu", ".cuh") and path.stem != "__init__":
            print(f"  {path.name:22} {_first_line(path)}")
    print("\nkernels")
    entries = folder / "entries.py"  # in a folder of several ops
    for name, summary in _functions(entries if entries.exists() else folder / "reference.py", op):
        print(f"  {name:22} {summary}")
    print("\nwhere they run")
    for tier, module in TIERS.items():
        print(f"  {tier:22} {missing(tier) or f'here, by {module}.py'}")
    print()


def _title(op: str) -> str:
    """The title of an op's derivation; in a folder of several ops, the heading of its section."""
    path = folder_of(op) / "derivation.md"
    headings = (line[3:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("## "))
    own = (heading for heading in headings if heading.partition(":")[0].lower().replace(" ", "_") == op)
    return next(own, "") or _first_line(path)


def _first_line(path: Path) -> str:
    """The title of a document, or the first line of a docstring or comment; "" if there is none."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            return _summary(ast.parse(text))
    except (OSError, SyntaxError):
        return ""
    lines = (line.strip("#/ ") for line in text.splitlines())
    return next((line for line in lines if line and not line.endswith(".cuh")), "")  # `// with x.cuh` is no title


def _functions(path: Path, op: str) -> list[tuple[str, str]]:
    """The kernels in a file: its public functions with their first lines, or the two formulas of the op's entry.

    The file is read without running it: it may be broken just now.
    """
    try:
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
    except SyntaxError as error:
        return [("?", f"{path.name}:{error.lineno}: {error.msg}")]
    for entry in (n for n in nodes if isinstance(n, ast.ClassDef)):
        if any(isinstance(k.value, ast.Constant) and k.value.value == op for k in entry.keywords):
            formulas = [n for n in entry.body if isinstance(n, ast.FunctionDef) and n.name in KERNEL_OF]
            return [(KERNEL_OF[n.name], f"{n.name}({ast.unparse(n.args)}): {_statements(n)}") for n in formulas]
    return [(n.name, _summary(n)) for n in nodes if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


def _statements(function: ast.FunctionDef) -> str:
    return "; ".join(map(ast.unparse, function.body))


def _summary(node: ast.Module | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


# ---------------------------------------------------------------------------------------- the table
def targets_in(workers: Workers, look: Look = nothing) -> tuple[dict[Target, Origin], bool]:
    """(the targets that this machine can run, True if all of its tiers could be imported). Prints why one could not."""
    tiers = [tier for tier in TIERS if missing(tier) is None]
    answers = dict(workers.each(listed, tiers, look))
    failures = [answer for answer in answers.values() if isinstance(answer, Failed)]
    for failure in dict.fromkeys(failures):
        print(f"  {indented(failure.sentence)}")
    found = [answers[tier] for tier in tiers if not isinstance(answers[tier], Failed)]
    return {target: origin for targets in found for target, origin in targets.items()}, not failures


def measured(
    workers: Workers, targets: Iterable[Target], look: Look = nothing
) -> Iterator[tuple[Target, Checked | Failed, Time | None]]:
    """Check and time the targets and print a row of the table for each: (target, the answer, its time)."""
    print(f"{HEAD} {'time':>9}")
    for target in targets:
        answer = workers.ask(checked, target, look)
        ms = milliseconds(workers, target, look) if answer.right else None
        print(row(target, answer, ms), flush=True)
        yield target, answer, ms
    print(LEGEND)


def milliseconds(workers: Workers, target: Target, look: Look) -> Time | None:
    """The time of a kernel; None if it cannot be measured."""
    time = workers.ask(timed, target, look)
    return None if isinstance(time, Failed) else time


def row(target: Target, answer: Checked | Failed, ms: Time | None = None) -> str:
    """A line of the table; if something is wrong, with a report below it."""
    if isinstance(answer, Failed):
        return f"  {target}  cannot be checked\n    {indented(answer.sentence, 4)}"
    figures = f"{answer.cases:5} {answer.error:8.1e} {answer.allowed:8.1e}"
    if not answer.right:
        return f"  {target} {figures}  WRONG\n    {indented(answer.report, 4)}"
    return f"  {target} {figures} {ms if ms is not None else ''}".rstrip()


def indented(text: str, spaces: int = 2) -> str:
    """The text with all lines but the first moved to the right."""
    return text.replace("\n", "\n" + " " * spaces)
