"""Runs the check of a file in a process of its own, so that the learner's code cannot harm the caller.

An endless loop is ended after a time limit and its line is named; so are a flood of prints, an exit() and a crash. The
learner's file stays unchanged.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from .exercise import course_folder, exercise
from .verdict import NOT_CHECKED, NOT_WRITTEN, Verdict

PACKAGE = Path(__file__).resolve().parents[3]
START_UP = 60.0  # seconds in which Python, NumPy and perhaps Numba start on a slow machine
MOST_PRINTED = 200_000  # bytes; a check that prints more is ended
SHOWN = 2000  # characters of the output that are shown
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # starts faster


def check_file(id: str, file: Path, seed: int = 0, seconds: float | None = None) -> Verdict:
    """The verdict on a learner's file. Raises ValueError for an exercise that does not exist.

    seed: of the random values in the probes. seconds: the time limit; None for the limit of the exercise.
    """
    this = exercise(id)
    if not file.is_file():
        return Verdict(id, NOT_WRITTEN, f"not started: python -m tinynet exercises start {id}")
    seconds = seconds or this.seconds
    before = file.read_bytes()
    with tempfile.TemporaryDirectory(prefix="tinynet-check-") as folder:
        result = Path(folder, "verdict.json")
        arguments = [id, str(file.resolve()), str(seed), str(result), str(course_folder().resolve()), str(seconds)]
        output, ended = _run([sys.executable, "-m", "tinynet.learn.exercises.child", *arguments], folder, seconds)
        if result.is_file():
            verdict = Verdict.from_json(result.read_text(encoding="utf-8"))
        else:
            verdict = Verdict(id, NOT_CHECKED, ended or _why_it_ended(Path(f"{result}.trace"), file, seconds, output))
    verdict.printed = output if len(output) <= SHOWN else f"{output[:SHOWN]}\n... ({len(output)} characters)"
    if file.read_bytes() != before:
        file.write_bytes(before)
        verdict.message += "; your code wrote into its own file, which was put back"
    return verdict


def _run(command: list[str], folder: str, seconds: float) -> tuple[str, str | None]:
    """Run a command in a folder. Returns (its output, why it was ended; None if it ended by itself)."""
    paths = os.pathsep.join([str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        command,
        cwd=folder,  # files that the code writes without a folder land here
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8:replace"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed, ended = bytearray(), []

    def read() -> None:
        while chunk := process.stdout.read1(65536):
            printed.extend(chunk)
            if len(printed) > MOST_PRINTED:
                ended.append(
                    f"it printed more than {MOST_PRINTED // 1000} kB and was stopped; are there prints in a loop?"
                )
                process.kill()
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        process.wait(seconds + START_UP)
    except subprocess.TimeoutExpired:
        ended.append(f"it did not end within {seconds + START_UP:g} s and was stopped")
    finally:
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
        reader.join(1.0)
        process.stdout.close()
    return bytes(printed[:MOST_PRINTED]).decode(errors="replace"), ended[0] if ended else None


def _why_it_ended(trace: Path, file: Path, seconds: float, output: str) -> str:
    """The sentence on a process that ended without a verdict."""
    text = trace.read_text(errors="replace") if trace.is_file() else ""
    if "Timeout" in text:
        stopped = f"it was not done after {seconds:g} s and was stopped"
        numbers = [int(n) for name, n in re.findall(r'File "(.*)", line (\d+)', text) if Path(name) == file.resolve()]
        if not numbers:
            return f"{stopped}; is there an endless loop?"
        line = file.read_text(errors="replace").splitlines()[numbers[0] - 1].strip()
        return f"{stopped} at line {numbers[0]}: `{line}`: an endless loop?"
    last = output.strip().rpartition("\n")[2]
    return f"the code ended the process before the check was done{f' ({last:.200})' if last else ''}"
