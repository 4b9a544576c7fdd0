"""`bench distributed`: what the exchange of gradients costs, measured, and a model of more and faster machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from ...backends.threads import usable_cores
from ...errors import TrainingError
from ..cli import option
from . import machine
from .examples import check_sizes
from .network import Network, find_mpiexec
from .report import write_json

MODELED_MACHINES, MODELED_MBITS = (1, 2, 4, 8, 16), 10_000


@dataclass
class DistributedConfig:
    """The flags of `bench distributed`."""

    ranks: int = option(2, "processes")
    mbits: tuple[float, ...] = option(
        (), "Mbit/s between the processes, each in a network namespace of its own (Linux, root)", nargs="+"
    )
    batch: int = option(2, "images of each process")
    size: int = option(128, "height and width of an image")
    turns: int = option(7, "times that each case is measured; the median counts")
    json: str | None = option(None, "file to write the machine and all figures to")

    def __post_init__(self) -> None:
        check_sizes(self.size, batch=self.batch, turns=self.turns, ranks=self.ranks)


def distributed(config: DistributedConfig) -> list[dict[str, Any]]:
    """Seconds of a training step of the U-Net with and without the other processes, and of the exchange alone."""
    print(f"{machine.processor()}; {len(machine.cores())} cores, divided among {config.ranks} processes")
    print("Mbit/s   alone s    step s  exchange s  model s  cost of a step")
    rows = [_row(config, mbits) for mbits in config.mbits or (None,)]
    _print_model(rows[0])
    if config.json:
        write_json(config.json, {"machine": machine.describe(), "rows": rows})
    return rows


def exchange_seconds(nbytes: int, ranks: int, mbits: float) -> float:
    """How long a rank sends: (ranks - 1) / ranks of the gradients twice, to those who add them and to all."""
    return 2 * (ranks - 1) / ranks * nbytes * 8 / (mbits * 1e6)


def _row(config: DistributedConfig, mbits: float | None) -> dict[str, Any]:
    if mbits is None:
        measured = _measure(config, [find_mpiexec(), "-n", str(config.ranks)], {})
    else:
        with Network(config.ranks, mbits) as network:
            measured = _measure(config, network.launcher(find_mpiexec()), network.environment())
    model = exchange_seconds(measured["bytes"], config.ranks, mbits) if mbits else float("nan")
    sizes = {"mbits": mbits, "ranks": config.ranks, "batch": config.batch, "size": config.size}
    row = {**sizes, **measured, "model": model}
    shown = "memory" if mbits is None else f"{mbits:g}"
    cost = (row["step"] - row["alone"]) / row["step"]
    times = f"{row['alone']:9.3f} {row['step']:9.3f} {row['exchange']:11.3f} {model:8.3f}"
    print(f"{shown:>6} {times} {cost:15.0%}", flush=True)
    return row


def _measure(config: DistributedConfig, launcher: list[str], environment: dict[str, str]) -> dict[str, Any]:
    threads = max(1, usable_cores() // config.ranks)
    program = [sys.executable, "-m", "tinynet.tools.bench.ranks", *map(str, (config.batch, config.size, config.turns))]
    variables = {**os.environ, **machine.thread_variables(threads), **environment}
    done = subprocess.run([*launcher, *program], env=variables, capture_output=True, text=True)
    if done.returncode:
        raise TrainingError(f"a process ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _print_model(row: dict[str, Any]) -> None:
    """How a step of this length would scale: machines like one process here, joined by a faster network."""
    print(f"\nModel: {row['batch']} images on each machine, {MODELED_MBITS / 1000:g} Gbit/s")
    print("machines  exchange ms  efficiency, nothing hidden  all hidden but the last bucket")
    for count in MODELED_MACHINES:
        exchange = exchange_seconds(row["bytes"], count, MODELED_MBITS)
        step = row["alone"]
        hidden = max(step, exchange) + exchange / 8  # the U-Net fills eight buckets
        print(f"{count:8} {1000 * exchange:12.1f} {step / (step + exchange):27.1%} {step / hidden:31.1%}")
