"""`bench unet`: one step of the U-Net, by tinynet and by its peers, in turn."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..cli import option
from . import machine
from .examples import check_sizes
from .peers import EVERYWHERE, PEERS
from .report import draw_chart, write_json
from .turns import OURS, Result, Results, measure, start


@dataclass
class UnetConfig:
    """The flags of `bench unet`."""

    mode: str = option("train", "what a step is", choices=("train", "infer"))
    batch: int | None = option(None, "images per step (default: 16 to train, 1 to infer)")
    size: int = option(256, "their height and width, a multiple of 16")
    backend: str = option("cpu", "where the step runs", choices=EVERYWHERE)
    threads: int = option(len(machine.cores()), "threads for each contestant")
    turns: int = option(7, "turns of each contestant; a turn is one step, or as many as take half a second")
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


def unet(config: UnetConfig) -> dict[str, Any]:
    """One step of the U-Net beside other frameworks: medians, ratios, memory.

    Returns what goes into the JSON file.
    """
    print(headline(config))
    case = f"{config.mode}-{config.batch}x{config.size}"
    results = measure(config.peers(), lambda name: start(name, case, config.threads, config.backend), config.turns)
    print(format_results(results.of, config.turns))
    results.print_left_out()
    report = as_report(config, results)
    if config.json:
        write_json(config.json, report)
    if config.chart:
        draw_chart(results.of, headline(config), config.chart)
    return report


def headline(config: UnetConfig) -> str:
    """Two lines: what is measured, and on which machine."""
    what = "training step (dropout, soft Dice, Adam)" if config.mode == "train" else "prediction"
    where = f"{machine.processor()}, {config.threads} of {len(machine.cores())} cores"
    if config.backend == "cuda":
        from ...backends.cuda.detect import require_gpu

        where = f"{require_gpu().name}; milliseconds by its events, memory on the GPU"
    if config.backend == "cuda-sim":
        where += "; CUDA kernels in the emulator, which tells nothing about a GPU's speed"
    return f"one {what} of the U-Net, {config.batch} x {config.size} x {config.size} x 3, float32\n{where}"


def format_results(results: dict[str, Result], turns: int) -> str:
    """The table, and a line for each contestant that had fewer quiet turns than were asked for.

    `ratio` is tinynet's median divided by the peer's: below 1 tinynet is faster.
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


def as_report(config: UnetConfig, results: Results) -> dict[str, Any]:
    """What the JSON file holds."""
    ours = results.of[OURS].median_ms
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
            for name, result in results.of.items()
        },
        "left_out": results.left_out,
    }
