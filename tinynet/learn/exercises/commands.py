"""`python -m tinynet exercises`: the command line of the course.

Exit codes: 0 right, 1 wrong, 2 not written yet, 3 could not be checked (or the command is not valid).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...tools.cli import docstring, option, run_commands
from .exercise import COURSE_FOLDER, Exercise, course, course_folder, exercise
from .progress import Progress
from .runner import check_file
from .verdict import EXIT_CODES, NOT_CHECKED, NOT_WRITTEN, RIGHT, WRONG, Verdict

COMMAND = "python -m tinynet exercises"
FOLDER = "my_exercises"
WATCH_SECONDS = 0.3  # between two looks at the files


@dataclass
class AllConfig:
    folder: str = option(FOLDER, "the folder of the learner's files")

    def file(self, id: str) -> Path:
        """The learner's file of an exercise."""
        return Path(self.folder, f"{id}.py")

    @property
    def progress(self) -> Progress:
        return Progress(Path(self.folder))


@dataclass
class OneConfig(AllConfig):
    id: str = option(help="the exercise, such as conv-05", positional=True)


@dataclass
class CheckConfig(AllConfig):
    id: str | None = option(None, "the exercise, or 'all'; default: the next one", positional=True, nargs="?")
    json: bool = option(False, "one line of JSON for each exercise, for a lecturer's marking")
    seed: int = option(0, "seed of the random values in the probes")
    show: bool = option(False, "show all arguments of the probes that are wrong, or of all if none is")


@dataclass
class HandoutConfig:
    to: str = option(help="a new folder", positional=True)
    only: tuple[str, ...] = option((), "these exercises (default: all)", nargs="+", metavar="ID")


@dataclass
class ClassConfig:
    submissions: str = option(help="a folder with STUDENT/ID.py", positional=True)
    csv: str | None = option(None, "write the table to this file, too")
    seed: int = option(0, "seed of the random values in the probes")


@dataclass
class UseConfig(OneConfig):
    script: tuple[str, ...] = option(
        (), "a Python script and its flags; default: a small U-Net", positional=True, nargs="..."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; without one, show what comes next. Ends with SystemExit if the exit code is not 0."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        code = run_commands(COMMANDS, argv or ["next"], prog=COMMAND, description=docstring(sys.modules[__name__]))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_CODES[NOT_CHECKED]
    if code:
        sys.exit(code)


# ---------------------------------------------------------------------------------------- what comes next
def show_next(config: AllConfig) -> int:
    """Show the next exercise and your progress."""
    progress, ids, width = config.progress, course(), 40
    passed = [id for id in ids if progress[id].passed]
    print(f"[{'#' * (width * len(passed) // len(ids)):{width}}] {len(passed)} of {len(ids)} exercises are right\n")
    following = _next_exercise(progress)
    if following is None:
        print("All done.")
        return 0
    print(f"next: {following}  {exercise(following).title}\n")
    file = config.file(following)
    if file.is_file():
        print(f"  edit   {file}\n  then   {COMMAND} check {following}\n  stuck? {COMMAND} hint {following}")
        print(f"  or leave `{COMMAND} watch` running: it checks a file whenever you save it")
    else:
        print(f"  {COMMAND} start {following}")
    return 0


def _next_exercise(progress: Progress) -> str | None:
    """The first exercise that has not been passed yet."""
    return next((id for id in course() if not progress[id].passed), None)


def show_list(config: AllConfig) -> int:
    """List all exercises, and which are right."""
    progress = config.progress
    for id in course():
        record = progress[id]
        mark = "+" if record.passed else "." if config.file(id).is_file() else " "
        notes = [f"{record.hints} hints"] * bool(record.hints) + ["solution seen"] * record.viewed
        note = f"  ({', '.join(notes)})" if notes else ""
        print(f"{mark} {id:8} {exercise(id).title}{note}")
    print("\n+ right   . started")
    return 0


# ---------------------------------------------------------------------------------------- one exercise
def start(config: OneConfig) -> int:
    """Write the file that you fill in; the task is at its top."""
    this, file = exercise(config.id), config.file(config.id)
    if file.exists():
        raise ValueError(f"{file} exists already and was not changed; `{COMMAND} reset {this.id}` starts it again")
    _write_stub(this, file)
    print(f"{this.id}  {this.statement}\n\nwrote {file}; edit it, then: {COMMAND} check {this.id}")
    return 0


def reset(config: OneConfig) -> int:
    """Start again; your file is kept as ID.py.old."""
    this, file = exercise(config.id), config.file(config.id)
    if file.exists():
        print(f"kept your file as {file.replace(file.with_name(f'{file.name}.old'))}")
    _write_stub(this, file)
    print(f"wrote {file}")
    return 0


def _write_stub(this: Exercise, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(this.stub, encoding="utf-8")


def hint(config: OneConfig) -> int:
    """Show the next hint; there are three, and the last says nearly everything."""
    this, progress = exercise(config.id), config.progress
    shown = min(progress[this.id].hints + 1, len(this.hints))
    for number, text in enumerate(this.hints[:shown], 1):
        print(f"hint {number} of {len(this.hints)}: {text}\n")
    progress.note(this.id, hints=shown)
    return 0


def solution(config: OneConfig) -> int:
    """Show the solution; if you have not passed yet, the list says that you have seen it."""
    this, progress = exercise(config.id), config.progress
    if course_folder() != COURSE_FOLDER:
        raise ValueError("this is a handout: it has no solutions")
    if not progress[this.id].passed:
        progress.note(this.id, viewed=True)
        print(f"({this.id} is not right yet; it is marked as seen in the list)\n")
    print(this.solution)
    return 0


# ---------------------------------------------------------------------------------------- checks
def check(config: CheckConfig) -> int:
    """Check one exercise, or all: right, wrong (where and why), or not written yet."""
    progress = config.progress
    if config.id == "all":
        statuses = {_checked(config, id, progress).status for id in course()}
        return EXIT_CODES[next(s for s in (WRONG, NOT_CHECKED, NOT_WRITTEN, RIGHT) if s in statuses)]
    id = config.id or _next_exercise(progress) or course()[-1]
    return _checked(config, id, progress).exit_code


def _checked(config: CheckConfig, id: str, progress: Progress) -> Verdict:
    """Check a file, note a pass, and print the verdict."""
    verdict = check_file(id, config.file(id), config.seed)
    if verdict and not progress[id].passed:
        progress.note(id, passed=True)
    if config.json:
        print(json.dumps({**asdict(verdict), "mistakes": verdict.mistakes, **asdict(progress[id])}), flush=True)
    elif config.id == "all":
        first = verdict.findings[0] if verdict.findings else None
        why = first.sentence or first.report.partition("\n")[0] if first else verdict.message
        print(f"{id:8} {verdict.status:20} {why}", flush=True)
    else:
        print(f"{verdict}\n{_all_arguments(verdict, config.seed) if config.show else ''}{_advice(verdict, progress)}")
    return verdict


def _all_arguments(verdict: Verdict, seed: int) -> str:
    this = exercise(verdict.id)
    wrong = {(finding.function, label) for finding in verdict.findings for label in finding.wrong}
    parts = [
        f"\n{probe.function}, '{probe.label}'\n{probe.shown(this.arguments.get(probe.function, ([],))[0], np.inf)}\n"
        for probe in this.probes(seed)
        if not wrong or (probe.function, probe.label) in wrong
    ]
    return "".join(parts)


def _advice(verdict: Verdict, progress: Progress) -> str:
    """The next thing to do, as a last line."""
    if verdict:
        following = _next_exercise(progress)
        parts = [f"{COMMAND} solution {verdict.id} shows ours"] if course_folder() == COURSE_FOLDER else []
        parts += [f"next: {COMMAND} start {following}" if following else "All done."]
        return "\n" + "; ".join(parts)
    parts = []
    if verdict.status == WRONG and progress[verdict.id].hints < len(exercise(verdict.id).hints):
        parts = [f"stuck? {COMMAND} hint {verdict.id}"]
    if any("array of shape" in finding.arguments for finding in verdict.findings):
        parts += [f"{COMMAND} check {verdict.id} --show prints the arrays"]
    return "".join(f"\n{part}" for part in parts)


def watch(config: AllConfig) -> int:
    """Check every file whenever it is saved, until Ctrl-C."""
    print(f"watching {config.folder}/ (Ctrl-C ends it)", flush=True)
    seen = _save_times(config)
    while True:
        time.sleep(WATCH_SECONDS)
        now = _save_times(config)
        for id in (id for id in now if now[id] != seen.get(id)):
            print(f"\n{time.strftime('%H:%M:%S')}  {id} was saved", flush=True)
            check(CheckConfig(id=id, folder=config.folder))
        seen = now


def _save_times(config: AllConfig) -> dict[str, int]:
    times = {}
    for id in course():
        try:
            times[id] = config.file(id).stat().st_mtime_ns
        except FileNotFoundError:
            continue  # not started, or an editor is replacing the file
    return times


# ---------------------------------------------------------------------------------------- handout and use
def handout(config: HandoutConfig) -> int:
    """Write a folder for students: stubs and checks, without solutions."""
    from .handout import write_handout

    write_handout(Path(config.to), config.only)
    print(f"wrote {config.to}: README.md, {FOLDER}/ (the stubs) and tinynet_checks/ (without solutions)")
    return 0


def mark_class(config: ClassConfig) -> int:
    """Check a folder of submissions: a table of students, exercises and mistakes."""
    from .marking import write_table

    table = Path(config.csv) if config.csv else None
    return 0 if write_table(Path(config.submissions), table, config.seed) else EXIT_CODES[NOT_CHECKED]


def use(config: UseConfig) -> int:
    """Put your kernel into the framework, under the name `mine`, and train a U-Net with it."""
    from .use import use_in

    return use_in(config.id, config.file(config.id), config.script)


COMMANDS: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "next": (AllConfig, show_next),
    "list": (AllConfig, show_list),
    **{command.__name__: (OneConfig, command) for command in (start, hint, solution, reset)},
    "check": (CheckConfig, check),
    "watch": (AllConfig, watch),
    "handout": (HandoutConfig, handout),
    "class": (ClassConfig, mark_class),
    "use": (UseConfig, use),
}
