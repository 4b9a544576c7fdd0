"""Waits for saves, and reports whether what was saved is right, how exact it is, and how fast it is now and was before.

Only kernels that are built from the saved file are checked, in new processes: modules are imported again, and Numba and
the emulator, which name a compiled kernel by the content of its sources, compile again. The kernels in the file itself
are checked before the kernels that call it, and small cases before large ones. The first wrong kernel ends the check.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .checks import Checked, Origin, Time, built, checked
from .process import Failed
from .show import HEAD, indented, measured, milliseconds, row, targets_in
from .targets import OPS, Target, folder_of
from .workers import POLL, Workers

AT_ONCE = min(2, os.cpu_count() or 1)  # processes: most of a check is compiling


class Saved(Exception):
    """A file that may change the result was saved during a check."""


class Files:
    """The files that are watched: the op folder, and all files of `tinynet/ops` that its kernels are built from.

    changed: files that were saved and not checked yet.
    """

    def __init__(self, op: str) -> None:
        self._folder = folder_of(op)
        self._also: set[Path] = set()
        self.changed: set[Path] = set()
        self._seen = self._states()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, files: Iterable[Path]) -> None:
        """Watch these files as well."""
        self.look()
        self._also |= set(files)
        self._seen = self._states()

    def look(self) -> None:
        """Note which files were saved since the last look."""
        now = self._states()
        self.changed |= {file for file in now if now[file] != self._seen.get(file)}
        self._seen |= now  # a missing file is kept: an editor may be replacing it

    def raise_if_saved(self) -> None:
        """Look, and raise Saved if a file was saved."""
        self.look()
        if self.changed:
            raise Saved

    def _states(self) -> dict[Path, tuple[int, int]]:
        states = {}
        for file in {*(p for p in self._folder.iterdir() if p.suffix in (".py", ".cu", ".cuh")), *self._also}:
            try:
                found = file.stat()
            except FileNotFoundError:
                continue
            states[file] = (found.st_mtime_ns, found.st_size)
        return states


class Known:
    """What is known of the targets of an op.

    answers, ms: the last ones of each target. unproven: saved files, until everything that is built from them is right.
    """

    def __init__(self) -> None:
        self.answers: dict[Target, Checked] = {}
        self.ms: dict[Target, Time] = {}
        self.unproven: set[Path] = set()

    def remember(self, target: Target, answer: Checked | Failed, ms: Time | None = None) -> None:
        """Keep an answer and a time, unless there is none."""
        if isinstance(answer, Checked):
            self.answers[target] = answer
        if ms is not None:
            self.ms[target] = ms

    def builds_of(self, targets: Iterable[Target]) -> list[tuple[Path, dict]]:
        """The `.cu` files, with their macros, that the emulator compiled for these targets, each once."""
        found: list = []
        for target in targets:
            if target.tier == "cuda-sim" and target in self.answers:
                found += [build for build in self.answers[target].builds if build not in found]
        return found

    def stages(self, origins: Mapping[Target, Origin]) -> list[list[Target]]:
        """The targets that are built from the unproven files, in groups, in the order in which they are checked.

        The first groups are those whose own files were saved; of these, first the one with the least to compile.
        """
        groups: dict[tuple, list[Target]] = {}
        for target, origin in origins.items():
            files = self.answers[target].files if target in self.answers else origin.files
            if files & self.unproven:
                builds = self.builds_of([target])
                is_own = bool({origin.home, *(path for path, _ in builds)} & self.unproven)
                # C++ is compiled for one implementation after the other.
                groups.setdefault((not is_own, target.tier, bool(builds) and target.implementation), []).append(target)
        return [groups[key] for key in sorted(groups, key=lambda key: (key[0], len(self.builds_of(groups[key]))))]


def watch(op: str) -> None:
    """Measure everything once, then check what is saved, until Ctrl-C."""
    files, known = Files(op), Known()
    try:
        try:
            _show_table(op, files, known)
        except Saved:
            print("  (interrupted: a file was saved)")
        print(f"\nwatching {op}: {len(files)} files (Ctrl-C ends it)", flush=True)
        while True:
            files.look()
            if files.changed:
                try:
                    _check_saved(op, files, known)
                except Saved:
                    print("  (interrupted: a file was saved)")
            time.sleep(POLL)
    except KeyboardInterrupt:
        print()


def _show_table(op: str, files: Files, known: Known) -> None:
    """Print the table of all targets."""
    with Workers(op) as workers:
        origins, _ = targets_in(workers, files.raise_if_saved)
        files.add(set().union(*(origin.files for origin in origins.values())))
        for found in measured(workers, origins, files.raise_if_saved):
            known.remember(*found)


def _check_saved(op: str, files: Files, known: Known) -> None:
    """Check what is built from the files that were saved, and print the verdict."""
    start = time.monotonic()
    names = ", ".join(sorted(file.relative_to(OPS).as_posix() for file in files.changed))
    print(f"\n{time.strftime('%H:%M:%S')}  {names}: saved", flush=True)
    known.unproven |= files.changed
    files.changed.clear()

    def report(verdict: str) -> None:
        print(f"{verdict}, {time.monotonic() - start:.1f} s after the save", flush=True)

    with Workers(op, AT_ONCE, quiet=True) as workers:
        origins, right = targets_in(workers, files.raise_if_saved)
        stages = known.stages(origins) if right else []
        print(HEAD if stages else "  no kernel was checked")
        for stage in stages:
            right = _is_right(workers, stage, files, known)
            if not right:
                break
            if stage is not stages[-1]:
                report("right so far")
        report("right" if right else "not right")
        if right:
            known.unproven.clear()
            _print_times(workers, itertools.chain(*stages), files, known)


def _is_right(workers: Workers, targets: Sequence[Target], files: Files, known: Known) -> bool:
    """Print a row for each target, up to the first that is wrong or cannot be checked; True if there is none."""
    failed = workers.ask(built, known.builds_of(targets), files.raise_if_saved)
    if failed:
        print(f"  {indented(failed.sentence)}")
        return False
    for target, answer in workers.each(checked, targets, files.raise_if_saved):
        known.remember(target, answer)
        print(row(target, answer), flush=True)
        if not answer.right:
            return False
    return True


def _print_times(workers: Workers, targets: Iterable[Target], files: Files, known: Known) -> None:
    """Print milliseconds now and before, one target after the other: two at once would disturb each other."""
    for target in targets:
        before, ms = known.ms.get(target), milliseconds(workers, target, files.raise_if_saved)
        if ms is not None:
            known.ms[target] = ms
            print(f"  {target} {ms}" + (f", {str(before).strip()} before" if before else ""), flush=True)
