"""`python -m tinynet examples`: run the scripts of examples/, and compare their figures with the expected ones.

    python -m tinynet examples                                   # list the scripts
    python -m tinynet examples logistic_regression mlp           # run two of them
    python -m tinynet examples --all                             # run all of them, and write examples/README.md

Every script describes itself with constants at its end. This module reads them without running the script:

    TOPIC = "Logistic regression"                   # of the lecture
    DATA = "WDBC breast cancer (569 x 30)"          # in a few words
    FILES = ("mnist/train-images-idx3-ubyte.gz",)   # data files that it needs
    EXPECTED = {"auc": (0.99, None)}                # a figure that `main` returns -> (lowest, highest); None: no limit
    PICTURE = "roc.png"                             # the image in --out that the table shows (with a free license)
    ARGUMENTS = ("--seeds", "3")                    # the command line that gives the figures
    NEXT = "python examples/basics/mlp.py"          # the command to try next; printed at the end

TOPIC, DATA and EXPECTED are required. `main(argv)` takes `--quick` and `--out` beside its own flags.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import data_path
from ..files import atomic_path
from .bands import format_band, format_figure, in_band
from .bench import machine
from .bench.examples import FOLDERS, PACKAGE, load_example
from .cli import option, parse

NEEDED, OPTIONAL = ("TOPIC", "DATA", "EXPECTED"), ("FILES", "PICTURE", "ARGUMENTS", "NEXT")
TOPICS = (  # the order of the lectures
    *("basics", "evaluation", "convnets", "segmentation", "unsupervised", "sequences"),
    *("volumes", "registration", "detection", "interpretability", "uncertainty"),
)
LARGEST_PICTURE = (1600, 1600)  # width and height in docs/examples, in pixels: large enough for a slide
WIDTH_IN_TABLE = 240  # pixels
FIGURES = "figures.json"
START, END = "<!-- table: written by `python -m tinynet examples --all` -->", "<!-- end of the table -->"


@dataclass
class ExamplesConfig:
    """The flags of `examples`."""

    names: tuple[str, ...] = option((), "which scripts, e.g. mlp or basics/mlp", positional=True, nargs="*")
    all: bool = option(False, "run all scripts and write the table")
    list: bool = option(False, "list the scripts and run none")
    quick: bool = option(False, "a few seconds for each script; the figures mean little, so no table is written")
    table: bool = option(False, "write the figures of the named scripts into examples/README.md")
    out: str = option("out/examples", "folder for what the scripts write", quick="out/examples_quick")

    def __post_init__(self) -> None:
        if self.all and self.names:
            raise ValueError("--all runs every script: give either --all or names")
        if self.table and self.quick:
            raise ValueError("--table writes figures of full runs: leave out --quick")


@dataclass
class Example:
    """The constants of a script; the docstring of this module explains them."""

    path: str  # below examples/, e.g. "basics/mlp.py"
    topic: str
    data: str
    expected: dict[str, tuple[float | None, float | None]]
    files: tuple[str, ...] = ()
    picture: str | None = None
    arguments: tuple[str, ...] = ()
    next: str | None = None

    @property
    def name(self) -> str:
        """ "basics/mlp"."""
        return self.path.removesuffix(".py")


@dataclass
class Outcome:
    """The result of a run; `problems` are sentences."""

    figures: dict[str, float] = field(default_factory=dict)
    minutes: float = 0.0
    problems: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Run the scripts that `argv` names; returns their figures. Exits with 1 if one failed or left its band."""
    config = parse(ExamplesConfig, argv, "python -m tinynet examples", "Run the lecture models in examples/.")
    folder = examples_folder()
    examples = find_examples(folder)
    if config.list or not (config.all or config.names):
        print_list(examples, measured(folder))
        return {}
    chosen = examples if config.all else [choose(examples, name) for name in config.names]
    outcomes = {}
    for number, example in enumerate(chosen, start=1):
        print(f"\n=== {number} of {len(chosen)}: {example.name}: {example.topic}\n", flush=True)
        outcomes[example.name] = run_example(example, Path(config.out), config.quick)
        if config.table or (config.all and not config.quick):  # a later script may stop the program
            write_table(folder, outcomes, Path(config.out))
    print_summary(outcomes, config.quick)
    if any(outcome.problems for outcome in outcomes.values()):
        sys.exit(1)
    return {name: outcome.figures for name, outcome in outcomes.items()}


# ---------------------------------------------------------------------------------------- finding scripts
def examples_folder() -> Path:
    """The folder examples/. Raises FileNotFoundError if there is none."""
    for folder in FOLDERS:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the folder of the examples is neither {FOLDERS[0]} nor {FOLDERS[1]}")


def find_examples(folder: Path) -> list[Example]:
    """The scripts that have a TOPIC, in the order of the lectures; other files are their helpers."""
    paths = [path.relative_to(folder).as_posix() for path in folder.glob("*/*.py")]
    order = {topic: number for number, topic in enumerate(TOPICS)}
    paths.sort(key=lambda path: (order.get(path.split("/")[0], len(order)), path))
    found = (read_header(folder, path) for path in paths)
    return [example for example in found if example is not None]


def read_header(folder: Path, path: str) -> Example | None:
    """The constants of a script, read without running it; None for a file without TOPIC.

    Raises ValueError, which names the constant, if one is missing or is no plain value.
    """
    values: dict[str, Any] = {}
    for statement in ast.parse((folder / path).read_text(encoding="utf-8"), path).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            if name in NEEDED + OPTIONAL:
                try:
                    values[name] = ast.literal_eval(statement.value)
                except ValueError as error:
                    raise ValueError(f"examples/{path}: {name} must be a plain value, written out") from error
    if "TOPIC" not in values:
        return None
    missing = [name for name in NEEDED if name not in values]
    if missing:
        raise ValueError(f"examples/{path}: {', '.join(missing)} must be defined at its top level, beside TOPIC")
    return Example(path, **{name.lower(): value for name, value in values.items()})


def choose(examples: Sequence[Example], name: str) -> Example:
    """The example that a user calls "mlp", "basics/mlp" or "examples/basics/mlp.py". Raises ValueError for others."""
    wanted = name.removesuffix(".py").removeprefix("examples/")
    found = [example for example in examples if wanted in (example.name, example.name.split("/")[1])]
    if len(found) != 1:
        known = ", ".join(example.name for example in found or examples)
        problem = "there is no example" if not found else "there is more than one example"
        raise ValueError(f"{problem} {name!r}: {known}")
    return found[0]


def print_list(examples: Sequence[Example], kept: dict[str, dict[str, Any]]) -> None:
    """Print one line for each example, with the minutes that it took when it was measured (`kept`)."""
    width = max(len(example.name) for example in examples)
    for example in examples:
        minutes = f"{kept[example.name]['minutes']:5.1f} min" if example.name in kept else " " * 9
        print(f"{example.name:{width}} {minutes}  {example.topic} ({example.data})")


def measured(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> figures, minutes and machine of the last measurement."""
    store = folder / FIGURES
    return json.loads(store.read_text(encoding="utf-8")) if store.exists() else {}


# ---------------------------------------------------------------------------------------- running
def run_example(example: Example, out: Path, quick: bool) -> Outcome:
    """Run a script in this process. An error becomes a problem of the outcome; Ctrl-C is passed on."""
    missing = [name for name in example.files if data_path(name) is None]
    if missing and not quick:
        return Outcome(problems=[f"not run: {', '.join(missing)} not found (in TINYNET_DATA, or the cache)"])
    arguments = [*example.arguments, *(["--quick"] if quick else []), "--out", str(out / example.name)]
    start = time.perf_counter()
    try:
        with program_name(f"examples/{example.path}"):
            figures = load_example(example.path).main(arguments)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == 130:  # a script that saved its work after Ctrl-C
            raise
        traceback.print_exc()
        return Outcome(problems=[f"failed: {type(error).__name__}: {error}".splitlines()[0]])
    outcome = Outcome({name: float(value) for name, value in figures.items()}, (time.perf_counter() - start) / 60)
    outcome.problems = [] if quick else outside(example, outcome.figures)
    if example.picture and not missing and not (out / example.name / example.picture).exists():
        outcome.problems.append(f"no picture {example.picture} was written")
    return outcome


def outside(example: Example, figures: dict[str, float]) -> list[str]:
    """A sentence for each figure that is missing or not in its band."""
    problems = []
    for name, band in example.expected.items():
        if name not in figures:
            problems.append(f"main() returned no {name}")
        elif not in_band(figures[name], band):
            problems.append(f"{name} is {format_figure(figures[name])}, expected {format_band(band)}")
    return problems


@contextlib.contextmanager
def program_name(name: str) -> Iterator[None]:
    """Inside `with`, sys.argv names the script, because it prints commands with its name."""
    before, sys.argv = sys.argv, [name]
    try:
        yield
    finally:
        sys.argv = before


def print_summary(outcomes: dict[str, Outcome], quick: bool) -> None:
    """Print one line for each script, then all problems."""
    well = "ran" if quick else "as expected"
    print("\n=== summary\n")
    width = max(len(name) for name in outcomes)
    for name, outcome in outcomes.items():
        print(f"{name:{width}}  {outcome.minutes:6.1f} min  {'see below' if outcome.problems else well}")
    for name, outcome in outcomes.items():
        for problem in outcome.problems:
            print(f"{name}: {problem}")
    print(flush=True)


# ---------------------------------------------------------------------------------------- the table
def write_table(folder: Path, outcomes: dict[str, Outcome], out: Path) -> None:
    """Update the table in README.md, the figures in figures.json and the images in docs/examples/.

    A script that did not run, or failed, keeps its earlier figures.
    """
    if folder == PACKAGE / "examples":
        print("no table is written: examples/README.md belongs to a checkout, and this tinynet is installed without")
        return
    examples, kept = find_examples(folder), measured(folder)  # read again: the runs may have taken hours
    for name, outcome in outcomes.items():
        if outcome.figures:
            where = f"{machine.processor()}, {len(machine.cores())} cores"
            kept[name] = {"figures": outcome.figures, "minutes": round(outcome.minutes, 2), "machine": where}
    kept = {example.name: kept[example.name] for example in examples if example.name in kept}
    with atomic_path(folder / FIGURES) as temporary:
        temporary.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")

    pictures = folder.parent / "docs" / "examples"
    for example in examples:
        source = out / example.name / (example.picture or "")
        if example.picture and example.name in outcomes and source.exists():
            _copy_picture(source, pictures / f"{Path(example.path).stem}.png")
    rows = [table_row(example, kept.get(example.name), folder, pictures) for example in examples]
    heading = ["lecture topic", "script", "data", "expected", "measured", "minutes", "figure"]
    lines = [heading, ["---"] * len(heading), *rows]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    machines = sorted({row["machine"] for row in kept.values()})
    table += f"\n\nMinutes were measured on {' or '.join(machines)}." if machines else ""
    readme = folder / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(START)
    if END not in rest:
        raise ValueError(f"{readme}: the lines {START!r} and {END!r}, which enclose the table, are missing")
    with atomic_path(readme) as temporary:
        temporary.write_text(before + START + "\n\n" + table + "\n\n" + END + rest.partition(END)[2], encoding="utf-8")


def table_row(example: Example, kept: dict[str, Any] | None, folder: Path, pictures: Path) -> list[str]:
    """The cells of one example. kept: its figures and minutes, None if it was never run."""
    figures = kept["figures"] if kept else {}
    expected = [f"{name} {format_band(band)}" for name, band in example.expected.items()]
    measured = [f"{name} {format_figure(figures[name])}" for name in example.expected if name in figures]
    picture = pictures / f"{Path(example.path).stem}.png"
    shown = Path(os.path.relpath(picture, folder)).as_posix()
    return [
        example.topic,
        f"[{example.path}]({example.path})",
        example.data,
        "<br>".join(expected),
        "<br>".join(measured),
        f"{kept['minutes']:.1f}" if kept else "",
        f'<img src="{shown}" alt="{example.topic}" width="{WIDTH_IN_TABLE}">' if picture.exists() else "",
    ]


def _copy_picture(source: Path, target: Path) -> None:
    """Copy an image with 256 colors, because it is kept under version control."""
    from PIL import Image

    with Image.open(source) as opened:
        image = opened.convert("RGB")
    image.thumbnail(LARGEST_PICTURE)
    with atomic_path(target) as temporary:
        image.quantize(256).save(temporary, format="PNG", optimize=True)
