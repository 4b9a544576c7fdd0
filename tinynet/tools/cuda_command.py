"""`python -m tinynet cuda`: what is there of all that CUDA needs, and what the kernels take of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..backends.cuda import detect, nvrtc
from ..errors import BackendError, UsageError
from . import registers
from .cli import option, parse


@dataclass
class RegistersConfig:
    """The flags of `registers`."""

    write: bool = option(False, "write the registers to tinynet/tools/registers.csv, with which a test compares")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the commands. Raises UsageError for an unknown one."""
    name, *arguments = argv or ["status"]
    if name in ("-h", "--help"):
        print("usage: python -m tinynet cuda [status | registers [--write]]\n")
        print("  status     which of driver, GPU, CuPy and compilers are installed, and which are missing")
        print("  registers  compile every kernel for every kind of GPU and list its registers")
    elif name == "status":
        status()
    elif name == "registers":
        show_registers(parse(RegistersConfig, arguments, prog="python -m tinynet cuda registers"))
    else:
        raise UsageError(f"there is no command {name!r}; the commands are: status, registers")


# ---------------------------------------------------------------------------------------- status
def status() -> None:
    """Print for each part that a backend needs what was found, or why it is missing."""
    print("backend cuda, the kernels on a GPU")
    _line("GPU", _gpu)
    _line("CuPy", lambda: detect.find_cupy(_cuda()))
    _line("NVRTC", lambda: registers.version_text(nvrtc.load(_cuda())))
    print("backend cuda-sim, the kernels on the CPU")
    _line("compiler", _compiler)


def _line(name: str, find: Callable[[], str]) -> None:
    try:
        print(f"  {name:10} {find()}")
    except BackendError as error:
        print(f"  {name:10} missing: {error}")


def _gpu() -> str:
    gpu = detect.find_gpu()
    return f"{gpu.name}, compute capability {'.'.join(map(str, gpu.capability))}, driver for CUDA {_cuda()}"


def _cuda() -> int:
    """The major version of CUDA that the driver supports, and CuPy and NVRTC must fit; the newest without a driver."""
    try:
        return detect.find_gpu().cuda[0]
    except detect.GpuMissing:
        return detect.NEWEST_CUDA


def _compiler() -> str:
    from ..backends.cusim import compiler

    return str(compiler())


# ---------------------------------------------------------------------------------------- registers
def show_registers(config: RegistersConfig) -> None:
    """Print what every kernel uses; with --write also write the table."""
    columns = " ".join(f"sm_{a:<4}" for a in registers.ARCHITECTURES)
    print("Registers of each thread, for each kind of GPU (a * marks spills); bytes of shared memory of each block.")
    rows = []
    for source in registers.sources():
        found = registers.measure(source)
        rows += found
        print(f"\n{source.name}\n  {'kernel':30} {columns} {'shared':>7}  variant", flush=True)
        by_kernel: dict[tuple[str, str], dict[int, registers.Resources]] = {}
        for row in found:
            by_kernel.setdefault((row.kernel, row.variant), {})[row.architecture] = row.resources
        for (kernel, variant), uses in by_kernel.items():
            cells = " ".join(f"{_cell(uses.get(a)):7}" for a in registers.ARCHITECTURES)
            print(f"  {kernel:30} {cells} {max(use.shared for use in uses.values()):7}  {variant}")
    if config.write:
        registers.write_table(rows)
        print(f"\nwritten: {registers.TABLE}")


def _cell(use: registers.Resources | None) -> str:
    return "-" if use is None else f"{use.registers}{'*' if use.spill_stores + use.spill_loads else ''}"
