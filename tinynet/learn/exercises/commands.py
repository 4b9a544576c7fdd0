"""`python -m tinynet exercises`: the command line of the course.

Exit codes: 0 right, 1 wrong, 2 not written yet, 3 could not be checked (or the command makes no sense).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...tools.cli import option, run_commands
from .exercise import COURSE_FOLDER, course, course_folder, exercise
from .progress import Progress
from .runner import check_file
from .verdict import EXIT_CODES, NOT_CHECKED, NOT_WRITTEN, RIGHT, WRONG, Verdict

COMMAND = "python -m tinynet exercises"
FOLDER = "my_exercises"
WATCH_SECONDS = 0.3  # between two looks at the files


@dataclass
class Everywhere:
    folder: str = option(FOLDER, "where the learner's files are")


@dataclass
class OfOne(Everywhere):
    id: str = option(help="the exercise, such as conv-05", positional=True)


@dataclass
class CheckConfig(Everywhere):
    id: str | None = option(None, "the exercise, or 'all'; default: the next one", positional=True, nargs="?")
    json: bool = option(False, "one line of JSON for each exercise, for a lecturer's marking")
    seed: int = option(0, "of the numbers that are tried")


@dataclass
class HandoutConfig:
    to: str = option(help="a new folder", positional=True)


@dataclass
class UseConfig(OfOne):
    script: tuple[str, ...] = option(
        (), "a Python script and its flags; default: a small U-Net", positional=True, nargs="..."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; without one, say what comes next. Ends with SystemExit where the exit code is not 0."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        code = run_commands(COMMANDS, argv or ["next"], prog=COMMAND, description=__doc__)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_CODES[NOT_CHECKED]
    if code:
        sys.exit(code)


# ---------------------------------------------------------------------------------------- what comes next
def show_next(config: Everywhere) -> int:
    """Show the next exercise and how far you are."""
    progress, ids = Progress(Path(config.folder)), course(course_folder())
    passed = [id for id in ids if progress[id].passed]
    width = 40
    bar = "#" * (width * len(passed) // len(ids))
    print(f"[{bar:{width}}] {len(passed)} of {len(ids)} exercises are right\n")
    following = next_exercise(progress)
    if following is None:
        print("All done.")
        return 0
    print(f"next: {following}  {exercise(following, course_folder()).title}\n")
    if _file(config, following).is_file():
        print(f"  edit   {_file(config, following)}\n  then   {COMMAND} check {following}")
        print(f"  stuck? {COMMAND} hint {following}\n  or leave `{COMMAND} watch` running: it checks whenever you save")
    else:
        print(f"  {COMMAND} start {following}")
    return 0


def next_exercise(progress: Progress) -> str | None:
    """The first exercise that was not passed yet."""
    return next((id for id in course(course_folder()) if not progress[id].passed), None)


def show_list(config: Everywhere) -> int:
    """List all exercises, and which are right."""
    progress = Progress(Path(config.folder))
    for id in course(course_folder()):
        record = progress[id]
        mark = "+" if record.passed else "." if _file(config, id).is_file() else " "
        notes = [f"{record.hints} hints"] * bool(record.hints) + ["solution seen"] * record.viewed
        note = f"  ({', '.join(notes)})" if notes else ""
        print(f"{mark} {id:8} {exercise(id, course_folder()).title}{note}")
    print("\n+ right   . started")
    return 0


# ---------------------------------------------------------------------------------------- one exercise
def start(config: OfOne) -> int:
    """Write the file to be filled in, with the task on top."""
    this, file = exercise(config.id, course_folder()), _file(config, config.id)
    if file.exists():
        raise ValueError(f"{file} is there already and stays as it is; `{COMMAND} reset {this.id}` starts it anew")
    _write_stub(file, this.stub)
    print(f"{this.id}  {this.statement}\n\nwrote {file}; edit it, then: {COMMAND} check {this.id}")
    return 0


def reset(config: OfOne) -> int:
    """Start anew; what was there is kept beside it as ID.py.old."""
    this, file = exercise(config.id, course_folder()), _file(config, config.id)
    if file.exists():
        old = file.with_name(f"{file.name}.old")
        file.replace(old)
        print(f"kept what you had as {old}")
    _write_stub(file, this.stub)
    print(f"wrote {file}")
    return 0


def _write_stub(file: Path, stub: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(stub, encoding="utf-8")


def hint(config: OfOne) -> int:
    """Show the next hint; there are three, and the last says nearly everything."""
    this, progress = exercise(config.id, course_folder()), Progress(Path(config.folder))
    shown = min(progress[this.id].hints + 1, len(this.hints))
    for number, text in enumerate(this.hints[:shown], 1):
        print(f"hint {number} of {len(this.hints)}: {text}\n")
    progress.note(this.id, hints=shown)
    return 0


def solution(config: OfOne) -> int:
    """Show the solution; before a pass it is noted that you have seen it."""
    this, progress = exercise(config.id, course_folder()), Progress(Path(config.folder))
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
    if config.id == "all":
        return _check_all(config)
    progress = Progress(Path(config.folder))
    id = config.id or next_exercise(progress) or course(course_folder())[-1]
    verdict = _checked(config, id, progress)
    print(_as_json(verdict, progress) if config.json else verdict)
    if not config.json:
        print(_advice(verdict, progress))
    return verdict.exit_code


def _check_all(config: CheckConfig) -> int:
    progress = Progress(Path(config.folder))
    verdicts = []
    for id in course(course_folder()):
        verdict = _checked(config, id, progress)
        verdicts.append(verdict)
        first = verdict.findings[0] if verdict.findings else None
        why = first.sentence or first.report.partition("\n")[0] if first else verdict.message
        print(_as_json(verdict, progress) if config.json else f"{id:8} {verdict.status:20} {why}", flush=True)
    statuses = {verdict.status for verdict in verdicts}
    worst = next(s for s in (WRONG, NOT_CHECKED, NOT_WRITTEN, RIGHT) if s in statuses)
    return EXIT_CODES[worst]


def _checked(config: CheckConfig, id: str, progress: Progress) -> Verdict:
    verdict = check_file(id, _file(config, id), config.seed)
    if verdict.status == RIGHT and not progress[id].passed:
        progress.note(id, passed=True)
    return verdict


def _as_json(verdict: Verdict, progress: Progress) -> str:
    return json.dumps({**asdict(verdict), "mistakes": verdict.mistakes, **asdict(progress[verdict.id])})


def _advice(verdict: Verdict, progress: Progress) -> str:
    """The next thing to do, as a last line."""
    if verdict.status == RIGHT:
        following = next_exercise(progress)
        nearby = f"{COMMAND} solution {verdict.id} shows ours"
        return f"\n{nearby}; next: {COMMAND} start {following}" if following else f"\n{nearby}. All done."
    if verdict.status == WRONG and progress[verdict.id].hints < len(exercise(verdict.id, course_folder()).hints):
        return f"\nstuck? {COMMAND} hint {verdict.id}"
    return ""


def watch(config: Everywhere) -> int:
    """Check every file whenever it is saved, until Ctrl-C."""
    print(f"watching {config.folder}/ (Ctrl-C ends it)", flush=True)
    seen = _times(config)
    while True:
        time.sleep(WATCH_SECONDS)
        now = _times(config)
        for id in (id for id in now if now[id] != seen.get(id)):
            print(f"\n{time.strftime('%H:%M:%S')}  {id} was saved", flush=True)
            check(CheckConfig(id=id, folder=config.folder))
            sys.stdout.flush()
        seen = now


def _times(config: Everywhere) -> dict[str, int]:
    """When each learner's file was last saved."""
    times = {}
    for id in course(course_folder()):
        try:
            times[id] = _file(config, id).stat().st_mtime_ns
        except FileNotFoundError:
            continue  # not started, or between the two steps of an editor that replaces the file
    return times


def _file(config: Everywhere, id: str) -> Path:
    return Path(config.folder, f"{id}.py")


# ---------------------------------------------------------------------------------------- the larger ones
def handout(config: HandoutConfig) -> int:
    """Write a folder for students: stubs and checks, without solutions."""
    from .handout import write_handout

    write_handout(Path(config.to))
    print(f"wrote {config.to}: README.md, {FOLDER}/ (the stubs) and tinynet_checks/ (no solutions in them)")
    return 0


def use(config: UseConfig) -> int:
    """Put your kernel into the framework, under the name `mine`, and train a U-Net with it."""
    from .use import use_in

    return use_in(config.id, _file(config, config.id), config.script)


COMMANDS = {
    "next": (Everywhere, show_next),
    "list": (Everywhere, show_list),
    "start": (OfOne, start),
    "check": (CheckConfig, check),
    "hint": (OfOne, hint),
    "solution": (OfOne, solution),
    "reset": (OfOne, reset),
    "watch": (Everywhere, watch),
    "handout": (HandoutConfig, handout),
    "use": (UseConfig, use),
}
