"""A `.cu` file: what is compiled, and the C signatures of its kernels.

Kernels include nothing, so that NVIDIA's run-time compiler needs no folder of headers. `Source` pastes what kernels
share in front of them: always `ops/_cuda/common.cuh`, and other headers of `ops/` if the file says so:

    // with _cuda/pack.cuh

A file is compiled in *variants*, each a set of macros. `real` is the floating-point type, float or double. Other macros
belong to the file, such as the size of a tile.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parents[2]
HEADERS = PACKAGE / "ops"
FLOAT, DOUBLE = {"real": "float"}, {"real": "double"}
TENSOR_CORES = "TF32"  # variants with this macro use mma instructions: compute capability 8.0 and later

_WITH = re.compile(r"^// with (\S+\.cuh)\s*$", re.MULTILINE)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_KERNEL = re.compile(
    r"^(?:KERNEL|extern\s+\"C\"\s+__global__\s+void)\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)",
    re.MULTILINE,
)
# A list of parameters that several kernels share: `#define SIZE int height, int width`, also over lines.
_DEFINE = re.compile(r"^#define\s+(\w+)[ \t]((?:[^\n]*\\\n)*[^\n]*,[^\n]*)", re.MULTILINE)
_QUALIFIER = re.compile(r"\b(?:const|volatile|__restrict(?:__)?)\b")
_PARAMETER = re.compile(r"(OPTIONAL )?(\w+(?: \w+)*?) ?(\*?) ?(\w+)")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel, as its C signature has it.

    type: without qualifiers and `*`, e.g. "real", "unsigned int". is_optional: a pointer that may be null,
    marked OPTIONAL.
    """

    name: str
    type: str
    is_pointer: bool
    is_optional: bool


class Source:
    """One `.cu` file of an op folder, read when it is first needed.

    variants: the sets of macros it may be compiled with. `launch` refuses any other, so the tests, which compile all
    variants for all GPUs, compile everything that can run.
    """

    def __init__(self, path: str | Path, variants: Iterable[Mapping[str, str | int]] = (FLOAT, DOUBLE)) -> None:
        self.path = Path(path)
        self.variants = [dict(variant) for variant in variants]

    @property
    def name(self) -> str:
        """The path from the package on, for messages and the compiler, e.g. tinynet/ops/dice/dice.cu."""
        try:
            return self.path.resolve().relative_to(PACKAGE.parent).as_posix()
        except ValueError:
            return str(self.path)

    @property
    def short_name(self) -> str:
        """The folder and the file, e.g. conv2d/blocked.cu."""
        return "/".join(self.path.parts[-2:])

    @functools.cached_property
    def text(self) -> str:
        """The unchanged text of the file."""
        return self.path.read_text(encoding="utf-8")

    @property
    def headers(self) -> list[Path]:
        """The headers that are pasted in front of the file, in their order."""
        return [HEADERS / name for name in ("_cuda/common.cuh", *_WITH.findall(self.text))]

    @functools.cached_property
    def code(self) -> str:
        """What is compiled: headers and file, each after a #line, so that messages name the lines of the files."""
        pieces = [(f"tinynet/ops/{p.relative_to(HEADERS).as_posix()}", p.read_text("utf-8")) for p in self.headers]
        return "".join(f'#line 1 "{name}"\n{text}\n' for name, text in [*pieces, (self.name, self.text)])

    @functools.cached_property
    def kernels(self) -> dict[str, str]:
        """The text between the parentheses of each kernel's signature, by the kernel's name."""
        shared = {name: lines.replace("\\\n", " ") for name, lines in _DEFINE.findall(_COMMENT.sub(" ", self.code))}
        found = _KERNEL.findall(_COMMENT.sub(" ", self.text))
        return {name: re.sub(r"\w+", lambda word: shared.get(word[0], word[0]), text) for name, text in found}

    @functools.cache  # noqa: B019 (sources are kept anyway: one for each file)
    def signature(self, kernel: str) -> tuple[Parameter, ...]:
        """The parameters of a kernel.

        Raises ValueError if the file has no kernel of that name, or if a parameter cannot be read.
        """
        if kernel not in self.kernels:
            raise ValueError(
                f"{self.name} has no kernel {kernel!r}; it has: {', '.join(self.kernels)}. "
                f"The line of a kernel begins with KERNEL: `KERNEL {kernel}(const real* x, int n) {{`"
            )
        return tuple(
            self._parameter(kernel, p) for p in self.kernels[kernel].split(",") if p.strip() not in ("", "void")
        )

    def _parameter(self, kernel: str, declaration: str) -> Parameter:
        match = _PARAMETER.fullmatch(" ".join(_QUALIFIER.sub(" ", declaration).split()))
        if match is None:
            raise ValueError(
                f"{self.name}: {kernel}: the parameter `{' '.join(declaration.split())}` cannot be read; "
                "scalars and pointers only, as in `const real* __restrict__ x` or `int n`"
            )
        optional, type_name, star, name = match.groups()
        return Parameter(name, type_name, bool(star), bool(optional))

    def check_variant(self, macros: Mapping[str, str | int]) -> None:
        """Raise ValueError if the macros are not one of the file's variants."""
        if dict(macros) not in self.variants:
            listed = "; ".join(describe(variant) for variant in self.variants)
            raise ValueError(f"{self.name} is not built with {describe(macros)}; its variants are: {listed}")


class KernelCall(NamedTuple):
    """A kernel and what it is run with. `launch.launch` has checked and converted all of it.

    macros: of the variant. grid, block: blocks and threads along x, y, z. arguments: contiguous arrays, NumPy scalars
    of the types of the signature, None for a null pointer. shared_bytes: dynamic shared memory of a block.
    reachable: arrays that the kernel reaches through a table of addresses.
    """

    source: Source
    kernel: str
    macros: Mapping[str, str | int]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: Sequence[Any]
    shared_bytes: int = 0
    reachable: Sequence[Any] = ()


def describe(macros: Mapping[str, str | int]) -> str:
    """The macros as text, e.g. `real=float, TILE=64`."""
    return ", ".join(f"{name}={value}" for name, value in macros.items()) or "no macros"


def compiler_options(macros: Mapping[str, str | int]) -> list[str]:
    """The macros as options of a compiler."""
    return [f"-D{name}={value}" for name, value in sorted(macros.items())]
