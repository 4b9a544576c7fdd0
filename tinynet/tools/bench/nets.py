"""`bench nets`: a training step of the lectures' nets, by tinynet and by PyTorch, in turn.

The batches have the size that the scripts of examples/ train with.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..cli import option
from . import machine
from .examples import BATCHES, check_counts
from .report import write_json
from .turns import OURS, Result, measure, start

PEER = "torch"


@dataclass
class NetsConfig:
    """The flags of `bench nets`."""

    nets: tuple[str, ...] = option((), f"of {', '.join(BATCHES)} (default: all)", positional=True, nargs="*")
    threads: int = option(len(machine.cores()), "threads for each of the two")
    turns: int = option(7, "turns of each; a turn is as many steps as take half a second")
    json: str | None = option(None, "file to write settings, machine and medians to")

    def __post_init__(self) -> None:
        unknown = set(self.nets) - set(BATCHES)
        if unknown:
            raise ValueError(f"there is no net {', '.join(sorted(unknown))}; the nets are {', '.join(BATCHES)}")
        check_counts(threads=self.threads, turns=self.turns)


def nets(config: NetsConfig) -> dict[str, Any]:
    """A training step of each net beside PyTorch: medians, ratio, peak memory.

    Returns what goes into the JSON file.
    """
    print(
        f"one training step (AdamW), float32; {machine.processor()}, {config.threads} of {len(machine.cores())} cores\n"
        "ratio: tinynet's over PyTorch's; * fewer turns were quiet than asked for\n\n"
        f"{'net':12} {'batch':>16} {'parameters':>10} {'ms':>8} {'PyTorch':>8} {'ratio':>6} {'MB':>6} {'PyTorch':>8}"
    )
    report: dict[str, Any] = {
        "command": "nets",
        "settings": dataclasses.asdict(config),
        "machine": machine.describe(),
        "nets": {},
    }
    for net in config.nets or BATCHES:
        results = measure((OURS, PEER), lambda name, net=net: start(name, net, config.threads), config.turns)
        print(format_row(net, results.of, config.turns), flush=True)
        results.print_left_out()
        report["nets"][net] = {
            name: {"median_ms": result.median_ms, "peak_mb": result.peak_mb, "versions": result.versions}
            for name, result in results.of.items()
        }
    if config.json:
        write_json(config.json, report)
    return report


def format_row(net: str, results: dict[str, Result], turns: int) -> str:
    """A line of the table; without PyTorch only tinynet's figures."""
    ours, theirs = results[OURS], results.get(PEER)
    line = f"{net:12} {' x '.join(map(str, BATCHES[net])):>16} {ours.parameters:10,} {ours.median_ms:8.2f}"
    memory = f" {ours.peak_mb:6.0f}"
    if theirs is None:
        return f"{line} {'':8} {'':6}{memory}"
    loud = any(len(result.quiet_turns) < turns for result in (ours, theirs))
    ratio = f"{ours.median_ms / theirs.median_ms:.2f}{'*' if loud else ''}"
    return f"{line} {theirs.median_ms:8.2f} {ratio:>6}{memory} {theirs.peak_mb:8.0f}"
