"""`bench unet`: one step of the U-Net, by tinynet and by its peers, in turn.

Every contestant runs in a process of its own. They take turns, so that whatever else happens on the machine
happens to all of them, and the median of the steps counts. A turn during which other processes were busy does not
count where there are enough quiet ones: PyTorch's threads wait for each other by spinning, and if one of them has
lost its core, a step takes ten times as long. That would be no fair win.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..cli import option
from . import machine
from .peers import PEERS
from .worker import PeerError, Worker

OURS = "tinynet"
SECONDS_PER_TURN = 0.5  # steps that take less are done several at a time: switching processes costs a cold cache
MOST_STEPS_PER_TURN = 20
LOUD = 0.1  # cores that others keep busy, from which on a turn is not quiet
PATIENCE = 3  # times as many turns at most, in the hope of quiet ones


@dataclass
class UnetConfig:
    """The flags of `bench unet`."""

    mode: str = option("train", "what a step is", choices=("train", "infer"))
    batch: int | None = option(None, "images per step (default: 16 to train, 1 to infer)")
    size: int = option(256, "their height and width, a multiple of 16")
    threads: int = option(len(machine.cores()), "threads for each contestant")
    turns: int = option(7, "of each contestant; a turn is one step, or as many as take half a second")
    against: str = option("torch,keras", f"peers, separated by commas, of: {', '.join(p for p in PEERS if p != OURS)}")
    json: str | None = option(None, "file to write settings, machine and all times to")
    chart: str | None = option(None, "file to draw a bar chart to, e.g. bench.png")

    def __post_init__(self) -> None:
        if self.batch is None:
            self.batch = 16 if self.mode == "train" else 1
        for name in ("batch", "threads", "turns"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} is {getattr(self, name)}; at least 1 is needed")
        if self.size < 16 or self.size % 16:
            raise ValueError(f"--size is {self.size}; the U-Net halves it four times: a multiple of 16 is needed")
        unknown = set(self.peers()) - set(PEERS)
        if unknown:
            raise ValueError(f"--against: there is no {', '.join(sorted(unknown))}; the peers are {', '.join(PEERS)}")

    def peers(self) -> list[str]:
        """tinynet, and those it is compared with."""
        others = [name.strip() for name in self.against.split(",") if name.strip()]
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
    results, left_out = measure(config)
    print(format_results(results))
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    report = as_report(config, results, left_out)
    if config.json:
        Path(config.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"all times: {config.json}")
    if config.chart:
        from .chart import draw_chart

        draw_chart(results, headline(config), config.chart)
        print(f"chart: {config.chart}")
    return report


# ---------------------------------------------------------------------------------------- measuring
def measure(config: UnetConfig) -> tuple[dict[str, Result], dict[str, str]]:
    """(results by peer, the reason for each peer that was left out). Raises PeerError if tinynet itself cannot run."""
    results: dict[str, Result] = {}
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        steps_per_turn: dict[str, int] = {}
        for name in progress(config.peers(), "starting"):
            try:
                check_system(name)
                worker = Worker(name, config.mode, config.batch, config.size, config.threads)
                stack.callback(worker.close)
                results[name], steps_per_turn[name] = warm_up(worker)
                workers[name] = worker
            except PeerError as error:
                leave_out(name, error, results, left_out)
        waiting = list(workers)
        for _ in progress(range(1, PATIENCE * config.turns + 1), "round"):
            for name in waiting:
                wait_until_idle([worker for other, worker in workers.items() if other != name])
                try:
                    take_turn(workers[name], results[name], steps_per_turn[name])
                except PeerError as error:
                    leave_out(name, error, results, left_out)
                    del workers[name]
            waiting = [name for name in workers if len(results[name].quiet_turns) < config.turns]
            if not waiting:
                break
    return results, left_out


def check_system(name: str) -> None:
    """Raises PeerError where this machine is not what the peer is for."""
    peer = PEERS[name]
    if peer.system and sys.platform != peer.system:
        raise PeerError(f"it runs on {peer.system} only")
    if peer.machine and platform.machine() not in peer.machine:
        raise PeerError(f"it is for {peer.machine[0]} processors")


def leave_out(name: str, error: PeerError, results: dict[str, Result], left_out: dict[str, str]) -> None:
    if name == OURS:
        raise error
    results.pop(name, None)
    left_out[name] = str(error)


def warm_up(worker: Worker) -> tuple[Result, int]:
    """Two steps: the first compiles and allocates, the second tells how many make a turn."""
    first, second = worker.steps(1), worker.steps(1)
    count = int(SECONDS_PER_TURN * 1000 / second["ms"][0])
    started = worker.started
    result = Result(
        title=PEERS[worker.name].title,
        start_seconds=started["seconds"],
        first_step_ms=first["ms"][0],
        parameters=started["parameters"],
        versions=started["versions"],
    )
    return result, min(max(1, count), MOST_STEPS_PER_TURN)


def take_turn(worker: Worker, result: Result, count: int) -> None:
    """So many steps of one contestant, while all others wait."""
    busy, start = machine.busy_seconds(), time.perf_counter()
    answer = worker.steps(count)
    busy, seconds = machine.busy_seconds() - busy, time.perf_counter() - start
    result.turns.append(Turn(answer["ms"], max(0.0, busy - answer["cpu_seconds"]) / seconds))
    result.value, result.peak_mb = answer["value"], answer["peak_mb"]


def wait_until_idle(workers: list[Worker]) -> None:
    """Threads of some frameworks go on spinning after a step, on cores that the next contestant needs."""
    for _ in range(50):
        before = [worker.cpu_ticks() for worker in workers]
        time.sleep(0.03)
        if [worker.cpu_ticks() for worker in workers] == before:
            return


def progress(items: Any, label: str) -> Iterator[Any]:
    """The items, with a bar on a terminal and a line for each elsewhere, on stderr."""
    if sys.stderr.isatty():
        yield from tqdm(items, label, leave=False)
    else:
        for item in items:
            print(f"{label} {item}", file=sys.stderr, flush=True)
            yield item


# ---------------------------------------------------------------------------------------- reporting
def headline(config: UnetConfig) -> str:
    """What was measured, in two lines."""
    what = "training step (dropout, soft Dice, Adam)" if config.mode == "train" else "prediction"
    return (
        f"one {what} of the U-Net, {config.batch} x {config.size} x {config.size} x 3, float32\n"
        f"{machine.processor()}, {config.threads} of {len(machine.cores())} cores"
    )


def format_results(results: dict[str, Result]) -> str:
    """The table. `ratio` is tinynet's median over the peer's: below 1 tinynet is faster."""
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
    loud = [result.title for result in results.values() if not result.quiet_turns]
    if loud:
        lines.append(f"other processes were busy in every turn of {', '.join(loud)}: do not trust these figures")
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
                "median_ms": result.median_ms,
                "min_ms": min(result.times_ms),
                "ratio": ours / result.median_ms,
            }
            for name, result in results.items()
        },
        "left_out": left_out,
    }
