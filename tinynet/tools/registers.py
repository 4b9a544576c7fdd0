"""The registers and the shared memory of each kernel, for every variant and kind of GPU: NVRTC compiles all of them.

A thread has at most 255 registers; all threads on a multiprocessor share 65536. The more registers a kernel takes,
the fewer of its threads run at a time; a value without a register goes to memory ("spills") and is slow. An edit may
change these numbers unnoticed, so `registers.csv` keeps the registers of every kernel, and a test compares.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ..backends.cuda import nvrtc
from ..backends.cuda.nvrtc import Resources
from ..backends.cuda.source import TENSOR_CORES, Source, describe
from ..backends.registry import op_module, ops
from ..ops import __name__ as _  # noqa: F401 (it fills the registry)

# Turing, Ampere (servers, then desktops), Ada, Hopper, Blackwell (desktops).
ARCHITECTURES = (75, 80, 86, 89, 90, 120)
OLDEST_TENSOR_CORES = 80
TABLE = Path(__file__).with_name("registers.csv")


class Row(NamedTuple):
    """One kernel of one variant, for one kind of GPU."""

    file: str
    variant: str
    kernel: str
    architecture: int
    resources: Resources


def sources() -> list[Source]:
    """Every `.cu` file that an op's `cuda.py` launches, each once."""
    found: dict[Path, Source] = {}
    for op in ops():
        values = vars(op_module(op, "cuda")).values()
        found.update((value.path, value) for value in values if isinstance(value, Source))
    return list(found.values())


def jobs(source: Source, architectures: Iterable[int] = ARCHITECTURES) -> list[tuple[dict[str, str | int], int]]:
    """The variants of a file, each with the kinds of GPU that it runs on."""
    return [
        (variant, architecture)
        for variant in source.variants
        for architecture in architectures
        if TENSOR_CORES not in variant or architecture >= OLDEST_TENSOR_CORES
    ]


def measure(source: Source, architectures: Iterable[int] = ARCHITECTURES) -> list[Row]:
    """Compile a file for all kinds of GPU, in as many threads as there are cores; return what its kernels use.

    Raises CompileError for a kernel with mistakes, NvrtcMissing without the compiler.
    """
    compiler = nvrtc.load()

    def rows(job: tuple[dict[str, str | int], int]) -> list[Row]:
        variant, architecture = job
        found = nvrtc.resources(compiler.compile(source.code, source.name, architecture, variant).log)
        return [Row(source.name, describe(variant), name, architecture, found[name]) for name in sorted(found)]

    with ThreadPoolExecutor() as threads:  # the compiler releases Python's lock
        return [row for part in threads.map(rows, jobs(source, architectures)) for row in part]


def read_table() -> tuple[str, dict[tuple[str, str, str, int], int]]:
    """(the version of NVRTC that made the table, registers by (file, variant, kernel, architecture))."""
    with open(TABLE, encoding="utf-8", newline="") as file:
        version = file.readline().removeprefix("# NVRTC ").strip()
        budget = {
            (row["file"], row["variant"], row["kernel"], int(column[3:])): int(registers)
            for row in csv.DictReader(file)
            for column, registers in row.items()
            if column.startswith("sm_") and registers
        }
    return version, budget


def write_table(rows: Iterable[Row]) -> None:
    """Write the table: one line per kernel and variant, one column per kind of GPU."""
    lines: dict[tuple[str, str, str], dict[str, int | str]] = {}
    for row in rows:
        key = {"file": row.file, "variant": row.variant, "kernel": row.kernel}
        lines.setdefault(tuple(key.values()), key)[f"sm_{row.architecture}"] = row.resources.registers
    with open(TABLE, "w", encoding="utf-8", newline="") as file:
        file.write(f"# NVRTC {version_text(nvrtc.load())}\n")
        columns = ["file", "variant", "kernel", *(f"sm_{a}" for a in ARCHITECTURES)]
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines[key] for key in sorted(lines))


def version_text(compiler: nvrtc.Nvrtc) -> str:
    """E.g. "12.9"."""
    return ".".join(map(str, compiler.version))
