"""Waits for saves, and says of what was saved whether it is right, how exact it is, and how fast before and after.

Only what is built from the file is checked, in new processes: whatever a module keeps in memory is gone, and Numba and
the emulator, which name what they compiled by the content of its sources, compile anew. The kernels of the file itself
come before those that call it, small cases before large ones, and the first kernel that is wrong ends the check.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from .show import HEAD, Origin, indented, measured, row, targets_in
from .targets import OPS, Target
from .workers import POLL, Workers

AT_ONCE = min(2, os.cpu_count() or 1)  # processes: most of a check is compiling


class Saved(Exception):
    """A file was saved while something was being checked that it may change."""


class Files:
    """The files that are watched: those of the room, and those of `tinynet/ops` that its kernels are built from.

    changed: what was saved and not looked into yet.
    """

    def __init__(self, op: str) -> None:
        self._room = OPS / op
        self._also: set[Path] = set()
        self.changed: set[Path] = set()
        self._seen = self._states()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, files: Iterable[Path]) -> None:
        """Watch these, too."""
        self.look()
        self._also |= set(files)
        self._seen = self._states()

    def look(self) -> None:
        """Note what was saved since the last look."""
        now = self._states()
        self.changed |= {file for file in now if now[file] != self._seen.get(file)}
        self._seen |= now  # a file that is not there now may be between the two steps of an editor that replaces it

    def raise_if_saved(self) -> None:
        """Look, and raise Saved where there was something."""
        self.look()
        if self.changed:
            raise Saved

    def _states(self) -> dict[Path, tuple[int, int]]:
        states = {}
        room = (p for p in self._room.iterdir() if p.suffix in (".py", ".cu", ".cuh"))
        for file in {*room, *self._also}:
            try:
                found = file.stat()
            except FileNotFoundError:
                continue
            states[file] = (found.st_mtime_ns, found.st_size)
        return states


def watch(op: str) -> None:
    """Measure everything once, then check what is saved, until Ctrl-C."""
    files, known = Files(op), Known()
    try:
        _first_look(op, files, known)
        print(f"\nwatching {op}: {len(files)} files (Ctrl-C ends it)", flush=True)
        while True:
            files.look()
            if files.changed:
                _check_saved(op, files, known)
            time.sleep(POLL)
    except KeyboardInterrupt:
        print()


class Known:
    """What is known of a room's targets.

    answers: the last ones: the files and builds of a target, and its ms. unproven: files that were saved, and what is
    built from them was not all found right since.
    """

    def __init__(self) -> None:
        self.answers: dict[Target, dict[str, Any]] = {}
        self.unproven: set[Path] = set()

    def remember(self, target: Target, answer: dict[str, Any]) -> None:
        """Keep an answer; one without ms leaves the last ms as they are."""
        self.answers[target] = {**self.answers.get(target, {}), **{k: v for k, v in answer.items() if v is not None}}

    def files_of(self, target: Target, origin: Origin) -> set[Path]:
        """The files a target is built from: those that it was seen to use, or else all that may be."""
        return set(map(Path, self.answers.get(target, {}).get("files", ()))) or origin.files

    def ms_of(self, target: Target) -> float | None:
        """How long it took the last time."""
        return self.answers.get(target, {}).get("ms")

    def builds_of(self, targets: Iterable[Target]) -> list:
        """What the emulator compiled for these targets, each once: the paths of `.cu` files with their macros."""
        found: list = []
        for target in targets:
            builds = self.answers.get(target, {}).get("builds", ()) if target.tier == "cuda-sim" else ()
            found += [build for build in builds if build not in found]
        return found

    def stages(self, origins: Mapping[Target, Origin]) -> list[list[Target]]:
        """The targets that are built from the unproven files, in the order in which they are best checked.

        First those whose own files these are, and of these first the implementation with the least to compile.
        """
        groups: dict[tuple, list[Target]] = {}
        for target, origin in origins.items():
            if self.files_of(target, origin) & self.unproven:
                builds = self.builds_of([target])
                is_own = bool({origin.home, *(Path(path) for path, _ in builds)} & self.unproven)
                # What is compiled by C++ is compiled for one implementation after the other.
                groups.setdefault((not is_own, target.tier, bool(builds) and target.implementation), []).append(target)
        return [groups[key] for key in sorted(groups, key=lambda key: (key[0], len(self.builds_of(groups[key]))))]


def _first_look(op: str, files: Files, known: Known) -> None:
    """The table of all targets; a save puts off what is left of it."""
    try:
        with Workers(op) as workers:
            targets, failed = targets_in(workers, files.raise_if_saved)
            files.add(set().union(*(origin.files for origin in targets.values())))
            for sentence in failed:
                print(f"  {indented(sentence)}")
            for target, answer in measured(workers, targets, files.raise_if_saved):
                known.remember(target, answer)
    except Saved:
        print("  (put off: a file was saved)")


def _check_saved(op: str, files: Files, known: Known) -> None:
    """Check what is built from the files that were saved, and print the verdict. A save meanwhile ends it."""
    start = time.monotonic()
    names = ", ".join(sorted(file.relative_to(OPS).as_posix() for file in files.changed))
    print(f"\n{time.strftime('%H:%M:%S')}  {names}: saved", flush=True)
    known.unproven |= files.changed
    files.changed.clear()
    try:
        with Workers(op, AT_ONCE, quiet=True) as workers:
            origins, failed = targets_in(workers, files.raise_if_saved)
            for sentence in failed:
                print(f"  {indented(sentence)}")
            stages = [] if failed else known.stages(origins)
            print(HEAD if stages else "  no kernel was checked")
            verdict = "not right" if failed else "right"
            for stage in stages:
                if _is_wrong(workers, stage, files, known):
                    verdict = "not right"
                    break
                if stage is not stages[-1]:
                    print(f"right so far, {time.monotonic() - start:.1f} s after the save", flush=True)
            print(f"{verdict}, {time.monotonic() - start:.1f} s after the save", flush=True)
            if verdict == "right":
                known.unproven.clear()
                _print_times(workers, itertools.chain(*stages), files, known)
    except Saved:
        print("  (put off: a file was saved)")


def _is_wrong(workers: Workers, targets: Sequence[Target], files: Files, known: Known) -> bool:
    """Print a row for each target, up to the first that is wrong or cannot be checked; whether there is one."""
    built = workers.ask({"do": "build", "builds": known.builds_of(targets)}, files.raise_if_saved)
    if "failed" in built:
        print(f"  {indented(built['failed'])}")
        return True
    requests = [{"do": "check", "target": astuple(target)} for target in targets]
    for request, answer in workers.each(requests, files.raise_if_saved):
        target = Target(*request["target"])
        known.remember(target, answer)
        print(row(target, answer), flush=True)
        if not answer.get("right"):
            return True
    return False


def _print_times(workers: Workers, targets: Iterable[Target], files: Files, known: Known) -> None:
    """Milliseconds now and before, one target after the other: two at once would disturb each other."""
    for target in targets:
        before = known.ms_of(target)
        ms = workers.ask({"do": "time", "target": astuple(target)}, files.raise_if_saved).get("ms")
        known.remember(target, {"ms": ms})
        if ms is not None:
            print(f"  {target} {ms:9.3f} ms" + (f", {before:.3f} before" if before else ""), flush=True)
