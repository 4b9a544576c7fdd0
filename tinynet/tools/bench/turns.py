"""What `bench unet` and `bench nets` share: contestants that take turns, and which turns count.

Every contestant runs in a process of its own. They take turns, so that whatever else happens on the machine happens
to all of them, and the median of the steps counts. If there are enough turns in which no other process was busy, only
these count: PyTorch's threads wait for each other by spinning, and if one of them has lost its core, a step takes ten
times as long. That would be no fair win.
"""

from __future__ import annotations

import contextlib
import math
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .peers import PEERS
from .processes import LOUD, Child, ChildError, progress, wait_until_idle

OURS = "tinynet"
SECONDS_PER_TURN = 0.5  # a turn is several steps if they take less: each switch of processes costs a cold cache
MOST_STEPS_PER_TURN = 20
PATIENCE = 3  # times as many turns at most, while there are too few quiet ones


@dataclass
class Turn:
    """Some steps of one contestant."""

    times_ms: list[float]
    others_busy: float  # cores that other processes used meanwhile; NaN on a system that does not tell

    @property
    def is_quiet(self) -> bool:
        return not self.others_busy > LOUD


@dataclass
class Result:
    """What was measured of one contestant."""

    title: str
    start_seconds: float  # to import the framework and to build the net
    first_step_ms: float  # the step that may compile
    parameters: int
    versions: dict[str, str]
    turns: list[Turn] = field(default_factory=list)
    value: float = math.nan  # the loss after the last step, or the mean of the predictions
    peak_mb: float = math.nan

    @property
    def quiet_turns(self) -> list[Turn]:
        return [turn for turn in self.turns if turn.is_quiet]

    @property
    def times_ms(self) -> list[float]:
        """Milliseconds of each step that counts: the steps of quiet turns, or of all turns if none was quiet."""
        return [ms for turn in self.quiet_turns or self.turns for ms in turn.times_ms]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.times_ms)


@dataclass
class Results:
    """By peer: what was measured, and the reasons why others were left out."""

    of: dict[str, Result] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def leave_out(self, name: str, error: ChildError) -> None:
        """Note why a peer has no result. Raises the error if the peer is tinynet itself."""
        if name == OURS:
            raise error
        self.of.pop(name, None)
        self.left_out[name] = str(error)

    def print_left_out(self) -> None:
        for name, reason in self.left_out.items():
            print(f"left out: {name}: {reason}")


def start(name: str, case: str, threads: int, backend: str = "cpu") -> Child:
    """The process of a peer. Raises ChildError if the peer does not run on this machine, or lacks a library."""
    peer = PEERS[name]
    if backend not in peer.backends:
        raise ChildError(f"it is for --backend {' or '.join(peer.backends)}")
    if peer.system and sys.platform != peer.system:
        raise ChildError(f"it runs on {peer.system} only")
    if peer.machine and platform.machine() not in peer.machine:
        raise ChildError(f"it is for {peer.machine[0]} processors")
    child = "tinynet.tools.bench.peers.child"
    return Child(child, name, case, threads, backend, threads=threads, environment=peer.environment)


def measure(names: Sequence[str], start: Callable[[str], Child], turns: int) -> Results:
    """Let contestants take turns until each has had so many quiet ones. start: makes the process of a peer.

    Raises ChildError if tinynet itself cannot run.
    """
    results = Results()
    with contextlib.ExitStack() as stack:
        children: dict[str, Child] = {}
        steps_per_turn: dict[str, int] = {}
        for name in progress(names, "starting"):
            try:
                child = stack.enter_context(contextlib.closing(start(name)))
                results.of[name], steps_per_turn[name] = warm_up(name, child)
                children[name] = child
            except ChildError as error:
                results.leave_out(name, error)
        waiting = list(children)
        for _ in progress(range(1, PATIENCE * turns + 1), "round"):
            for name in waiting:
                wait_until_idle(child for other, child in children.items() if other != name)
                try:
                    take_turn(children[name], results.of[name], steps_per_turn[name])
                except ChildError as error:
                    results.leave_out(name, error)
                    del children[name]
            waiting = [name for name in children if len(results.of[name].quiet_turns) < turns]
            if not waiting:
                break
    return results


def warm_up(name: str, child: Child) -> tuple[Result, int]:
    """(a result without turns, the number of steps of a turn). The first step compiles, the second is timed."""
    first, second = child.ask(1), child.ask(1)
    result = Result(
        title=PEERS[name].title,
        start_seconds=child.started["seconds"],
        first_step_ms=first["ms"][0],
        parameters=child.started["parameters"],
        versions=child.started["versions"],
    )
    return result, min(max(1, int(SECONDS_PER_TURN * 1000 / second["ms"][0])), MOST_STEPS_PER_TURN)


def take_turn(child: Child, result: Result, count: int) -> None:
    """Let one contestant do so many steps, while all others wait."""
    answer = child.ask(count)
    result.turns.append(Turn(answer["ms"], answer["others_busy"]))
    result.value, result.peak_mb = answer["value"], answer["peak_mb"]
