"""`bench ops`: every kernel and implementation at the sizes of the U-Net, beside the machine's peak and PyTorch.

The definition in reference.py is measured too, so that the table shows what each version gains over it.
The minimum of several times counts: it is the time that a kernel takes when no other process interrupts it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...backends.registry import ops as all_ops
from ..cli import option
from . import machine
from .examples import check_sizes
from .peak import measured_peak
from .processes import LOUD, Child, ChildError, quiet_answer
from .report import write_json

TORCH = "tinynet.tools.bench.torch_calls"  # the module that times PyTorch


@dataclass
class OpsConfig:
    """The flags of `bench ops`."""

    ops: tuple[str, ...] = option((), "which operations (default: all)", positional=True, nargs="*")
    batch: int = option(16, "images in the U-Net's step")
    size: int = option(256, "their height and width, a multiple of 16")
    threads: int = option(len(machine.cores()), "threads")
    against: str = option("torch", "what else to time", choices=("torch", "nothing"))
    json: str | None = option(None, "file to write settings, machine and all rows to")

    def __post_init__(self) -> None:
        unknown = set(self.ops) - set(all_ops())
        if unknown:
            raise ValueError(f"there is no op {', '.join(sorted(unknown))}; the ops are {', '.join(all_ops())}")
        check_sizes(self.size, batch=self.batch, threads=self.threads)


@dataclass
class Row:
    """One kernel by one implementation, for one set of shapes."""

    op: str
    kernel: str
    shapes: str
    per_step: int  # calls in a step of the U-Net; 0: the call is one of another net, or of layers that are fused
    implementation: str  # the version that runs; "reference": the definition
    ms: float
    flops: int  # floating-point operations, as work.py counts them
    bytes: int  # of the arguments and the result, each once
    share: float | None  # of what the machine's peak allows; above 1 if the data fit into a cache; None: no peak
    torch_ms: float | None  # None: PyTorch is not installed or has no such kernel
    quiet: bool  # whether no other process was busy

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.flops / self.ms / 1e6

    @property
    def gbytes(self) -> float:
        """GB/s."""
        return self.bytes / self.ms / 1e6

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: operations for each byte."""
        return self.flops / self.bytes

    @property
    def ratio(self) -> float | None:
        return self.ms / self.torch_ms if self.torch_ms else None

    def as_json(self) -> dict[str, Any]:
        """All fields and the figures that follow from them."""
        more = {name: getattr(self, name) for name in ("gflops", "gbytes", "intensity", "ratio")}
        return {**dataclasses.asdict(self), **more}


def ops(config: OpsConfig) -> dict[str, Any]:
    """Each kernel and implementation: ms, GFLOP/s, GB/s, share of the machine's peak, ratio to PyTorch.

    Returns what goes into the JSON file.
    """
    announce("measuring the machine")
    peak = measured_peak(config.threads)
    print(
        f"the kernels of one training step of the U-Net, {config.batch} x {config.size} x {config.size} x 3, float32\n"
        f"{machine.processor()}, {config.threads} of {len(machine.cores())} cores: "
        + (
            "no share of its peak: other processes were busy when that was measured\n"
            if None in peak
            else f"{peak[0]:.0f} GFLOP/s (sgemm), {peak[1]:.0f} GB/s (triad)\n"
        )
        + "share: of the speed that these two allow; ratio: tinynet's time over PyTorch's; "
        "* other processes were busy"
    )
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        announce("watching which kernels a step calls")
        names = config.ops or all_ops()
        ours = Child("tinynet.tools.bench.calls", config.batch, config.size, *names, threads=config.threads)
        stack.callback(ours.close)
        theirs = start_torch(config, left_out)
        if theirs:
            stack.callback(theirs.close)
        total, begin = sum(len(call["implementations"]) for call in ours.started["calls"]), time.monotonic()
        for row in measure(ours, theirs, peak, left_out):
            if not rows or (rows[-1].op, rows[-1].kernel) != (row.op, row.kernel):
                print(f"\n{row.op}.{row.kernel}\n{HEAD}")
            print(format_row(row), flush=True)
            rows.append(row)
            seconds_left = (time.monotonic() - begin) / len(rows) * (total - len(rows))
            announce(f"{len(rows)} of {total} measured, about {seconds_left / 60:.1f} minutes left")
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    report = {
        "command": "ops",
        "settings": dataclasses.asdict(config),
        "machine": {**machine.describe(), "sgemm_gflops": peak[0], "triad_gbytes": peak[1]},
        "rows": [row.as_json() for row in rows],
        "left_out": left_out,
    }
    if config.json:
        write_json(config.json, report)
    return report


def announce(what: str) -> None:
    """Say on stderr what takes some seconds now."""
    print(what, file=sys.stderr, flush=True)


def start_torch(config: OpsConfig, left_out: dict[str, str]) -> Child | None:
    """PyTorch's process. None if it was not asked for, or cannot start; then left_out["torch"] says why."""
    if config.against != "torch":
        return None
    announce("starting PyTorch")
    try:
        return Child(TORCH, threads=config.threads)
    except ChildError as error:
        left_out["torch"] = str(error)
        return None


def measure(
    ours: Child, theirs: Child | None, peak: tuple[float | None, float | None], left_out: dict[str, str]
) -> Iterator[Row]:
    """The rows, as they are measured. theirs: PyTorch's process; peak: (GFLOP/s, GB/s), None where not known.

    If PyTorch fails, the rows that follow are without it, and left_out["torch"] says why.
    """
    for number, call in enumerate(ours.started["calls"]):
        torch_ms, torch_quiet = None, True
        if theirs is not None:
            try:
                answer = quiet_answer(theirs, call, ours)
                torch_quiet = not answer["others_busy"] > LOUD
                torch_ms = min(answer["ms"]) if answer["ms"] else None
            except ChildError as error:
                left_out["torch"] = f"from {call['op']}.{call['kernel']} {call['shapes']} on: {error}"
                theirs = None
        for implementation in call["implementations"]:
            answer = quiet_answer(ours, {"call": number, "implementation": implementation}, theirs)
            ms = min(answer["ms"])
            yield Row(
                **{name: call[name] for name in ("op", "kernel", "shapes", "per_step")},
                implementation=implementation,
                ms=ms,
                flops=answer["flops"],
                bytes=answer["bytes"],
                share=None if None in peak else max(answer["flops"] / peak[0], answer["bytes"] / peak[1]) / 1e6 / ms,
                torch_ms=torch_ms,
                quiet=torch_quiet and not answer["others_busy"] > LOUD,
            )


HEAD = (
    f"  {'shapes':46} {'a step':>6} {'implementation':14} {'ms':>9} {'GFLOP/s':>8} {'GB/s':>6} {'share':>6} "
    f"{'torch ms':>9} {'ratio':>6}"
)


def format_row(row: Row) -> str:
    """One line of the table."""
    theirs = f"{row.torch_ms:9.3f} {row.ratio:6.2f}" if row.torch_ms else f"{'-':>9} {'-':>6}"
    return (
        f"  {row.shapes:46} {row.per_step:6} {row.implementation:14} {row.ms:9.3f} {row.gflops:8.1f} {row.gbytes:6.1f} "
        f"{'-' if row.share is None else f'{row.share:.1%}':>6} {theirs}{'' if row.quiet else ' *'}"
    )
