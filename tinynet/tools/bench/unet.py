"""`bench unet`: one step of the U-Net, by tinynet and by its peers, in turn.

Every contestant runs in a process of its own. They take turns, so that whatever else happens on the machine
happens to all of them, and the median of the steps counts. A turn during which other processes were busy does not
count where there are enough quiet ones: PyTorch's threads wait for each other by spinning, and if one of them has
lost its core, a step takes ten times as long. That would be no fair win.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..cli import option
from . import machine
from .peers import EVERYWHERE, PEERS
from .problem import check_sizes
from .processes import LOUD, Child, ChildError, progress, wait_until_idle
from .report import write_json

OURS = "tinynet"
SECONDS_PER_TURN = 0.5  # steps that take less are done several at a time: switching processes costs a cold cache
MOST_STEPS_PER_TURN = 20
PATIENCE = 3  # times as many turns at most, in the hope of quiet ones


@dataclass
class UnetConfig:
    """The flags of `bench unet`."""

    mode: str = option("train", "what a step is", choices=("train", "infer"))
    batch: int | None = option(None, "images per step (default: 16 to train, 1 to infer)")
    size: int = option(256, "their height and width, a multiple of 16")
    backend: str = option("cpu", "where the step runs", choices=EVERYWHERE)
    threads: int = option(len(machine.cores()), "threads for each contestant")
    turns: int = option(7, "of each contestant; a turn is one step, or as many as take half a second")
    against: str | None = option(
        None,
        f"peers, separated by commas, of: {', '.join(p for p in PEERS if p != OURS)} (default: torch,keras; with "
        "--backend cuda torch, which there stands for torch, torch-tf32 and torch-compile beside tinynet-tf32)",
    )
    json: str | None = option(None, "file to write settings, machine and all times to")
    chart: str | None = option(None, "file to draw a bar chart to, e.g. bench.png")

    def __post_init__(self) -> None:
        if self.batch is None:
            self.batch = 16 if self.mode == "train" else 1
        if self.against is None:
            self.against = "torch,keras" if self.backend == "cpu" else "torch"
        check_sizes(self.size, batch=self.batch, threads=self.threads, turns=self.turns)
        unknown = set(self.peers()) - set(PEERS)
        if unknown:
            raise ValueError(f"--against: there is no {', '.join(sorted(unknown))}; the peers are {', '.join(PEERS)}")

    def peers(self) -> list[str]:
        """tinynet, and those it is compared with."""
        others = [name.strip() for name in self.against.split(",") if name.strip()]
        if self.backend == "cuda" and "torch" in others:
            others = ["tinynet-tf32", "torch", "torch-tf32", "torch-compile", *others]
        return list(dict.fromkeys([OURS, *others]))


@dataclass
class Turn:
    """Some steps of one contestant."""

    times_ms: list[float]
    others_busy: float  # cores that other processes used meanwhile; NaN where the system does not tell

    @property
    def is_quiet(self) -> bool:
        return not self.others_busy > LOUD


@dataclass
class Result:
    """What was measured of one contestant."""

    title: str
    start_seconds: float  # to import the framework and to build the net
    first_step_ms: float  # which may compile
    parameters: int
    versions: dict[str, str]
    turns: list[Turn] = field(default_factory=list)
    value: float = math.nan  # the loss after the last step, or the mean of what is predicted
    peak_mb: float = math.nan

    @property
    def quiet_turns(self) -> list[Turn]:
        return [turn for turn in self.turns if turn.is_quiet]

    @property
    def times_ms(self) -> list[float]:
        """Milliseconds of each step that counts: those of quiet turns, or of all if no turn was quiet."""
        return [ms for turn in self.quiet_turns or self.turns for ms in turn.times_ms]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.times_ms)


def unet(config: UnetConfig) -> dict[str, Any]:
    """One step of the U-Net beside other frameworks: medians, ratios, memory.

    Returns what goes into the JSON file.
    """
    print(headline(config))
    results, left_out = measure(config.peers(), lambda name: start(name, config), config.turns)
    print(format_results(results, config.turns))
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    report = as_report(config, results, left_out)
    if config.json:
        write_json(config.json, report)
        print(f"all times: {config.json}")
    if config.chart:
        from .chart import draw_chart

        draw_chart(results, headline(config), config.chart)
        print(f"chart: {config.chart}")
    return report


# ---------------------------------------------------------------------------------------- measuring
def measure(
    names: Sequence[str], start: Callable[[str], Child], turns: int
) -> tuple[dict[str, Result], dict[str, str]]:
    """(results by peer, the reason for each peer that was left out). start: makes the process of a peer.

    Raises ChildError if tinynet itself cannot run.
    """
    results: dict[str, Result] = {}
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        children: dict[str, Child] = {}
        steps_per_turn: dict[str, int] = {}
        for name in progress(names, "starting"):
            try:
                child = start(name)
                stack.callback(child.close)
                results[name], steps_per_turn[name] = warm_up(name, child)
                children[name] = child
            except ChildError as error:
                leave_out(name, error, results, left_out)
        waiting = list(children)
        for _ in progress(range(1, PATIENCE * turns + 1), "round"):
            for name in waiting:
                wait_until_idle(child for other, child in children.items() if other != name)
                try:
                    take_turn(children[name], results[name], steps_per_turn[name])
                except ChildError as error:
                    leave_out(name, error, results, left_out)
                    del children[name]
            waiting = [name for name in children if len(results[name].quiet_turns) < turns]
            if not waiting:
                break
    return results, left_out


def start(name: str, config: UnetConfig) -> Child:
    """The process of a peer. Raises ChildError where the machine is not what it is for, or lacks what it needs."""
    peer = PEERS[name]
    if config.backend not in peer.backends:
        raise ChildError(f"it is for --backend {' or '.join(peer.backends)}")
    if peer.system and sys.platform != peer.system:
        raise ChildError(f"it runs on {peer.system} only")
    if peer.machine and platform.machine() not in peer.machine:
        raise ChildError(f"it is for {peer.machine[0]} processors")
    settings = (name, config.mode, config.batch, config.size, config.threads, config.backend)
    return Child("tinynet.tools.bench.peers.child", *settings, threads=config.threads, environment=peer.environment)


def leave_out(name: str, error: ChildError, results: dict[str, Result], left_out: dict[str, str]) -> None:
    if name == OURS:
        raise error
    results.pop(name, None)
    left_out[name] = str(error)


def warm_up(name: str, child: Child) -> tuple[Result, int]:
    """Two steps: the first compiles and allocates, the second tells how many make a turn."""
    first, second = child.ask(1), child.ask(1)
    count = int(SECONDS_PER_TURN * 1000 / second["ms"][0])
    result = Result(
        title=PEERS[name].title,
        start_seconds=child.started["seconds"],
        first_step_ms=first["ms"][0],
        parameters=child.started["parameters"],
        versions=child.started["versions"],
    )
    return result, min(max(1, count), MOST_STEPS_PER_TURN)


def take_turn(child: Child, result: Result, count: int) -> None:
    """So many steps of one contestant, while all others wait."""
    answer = child.ask(count)
    result.turns.append(Turn(answer["ms"], answer["others_busy"]))
    result.value, result.peak_mb = answer["value"], answer["peak_mb"]


# ---------------------------------------------------------------------------------------- reporting
def headline(config: UnetConfig) -> str:
    """What was measured, in two lines."""
    what = "training step (dropout, soft Dice, Adam)" if config.mode == "train" else "prediction"
    where = f"{machine.processor()}, {config.threads} of {len(machine.cores())} cores"
    if config.backend == "cuda":
        from ...backends.cuda.detect import require_gpu

        where = f"{require_gpu().name}; milliseconds by its events, memory on the GPU"
    if config.backend == "cuda-sim":
        where += "; CUDA kernels in the emulator, which tells nothing about a GPU's speed"
    return f"one {what} of the U-Net, {config.batch} x {config.size} x {config.size} x 3, float32\n{where}"


def format_results(results: dict[str, Result], turns: int) -> str:
    """The table, and which of its lines stand on fewer quiet turns than were asked for.

    `ratio` is tinynet's median over the peer's: below 1 tinynet is faster.
    """
    width = max(len(result.title) for result in results.values())
    lines = [
        f"\n{'':{width}} {'median ms':>9} {'least':>8} {'ratio':>6} {'first ms':>8} {'start s':>7} "
        f"{'peak MB':>8} {'ratio':>6} {'parameters':>10} {'value':>8}"
    ]
    ours = results[OURS]
    for result in results.values():
        lines.append(
            f"{result.title:{width}} {result.median_ms:9.1f} {min(result.times_ms):8.1f} "
            f"{ours.median_ms / result.median_ms:6.2f} {result.first_step_ms:8.0f} {result.start_seconds:7.1f} "
            f"{result.peak_mb:8.0f} {ours.peak_mb / result.peak_mb:6.2f} {result.parameters:10,} {result.value:8.4f}"
        )
    versions = {name: number for result in results.values() for name, number in result.versions.items()}
    lines += ["", ", ".join(f"{name} {number}" for name, number in versions.items())]
    for result in results.values():
        quiet, all_turns = len(result.quiet_turns), len(result.turns)
        if not quiet:
            lines.append(f"other processes were busy in every turn of {result.title}: do not trust its figures")
        elif quiet < turns:
            lines.append(f"only {quiet} of {all_turns} turns of {result.title} were quiet: its figures stand on these")
    return "\n".join(lines)


def as_report(config: UnetConfig, results: dict[str, Result], left_out: dict[str, str]) -> dict[str, Any]:
    """What the JSON file holds."""
    ours = results[OURS].median_ms
    return {
        "command": "unet",
        "settings": dataclasses.asdict(config),
        "machine": machine.describe(),
        "peers": {
            name: {
                **dataclasses.asdict(result),
                "quiet_turns": len(result.quiet_turns),
                "median_ms": result.median_ms,
                "min_ms": min(result.times_ms),
                "ratio": ours / result.median_ms,
            }
            for name, result in results.items()
        },
        "left_out": left_out,
    }
