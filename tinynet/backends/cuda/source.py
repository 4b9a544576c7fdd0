"""A `.cu` file: what is compiled, and the C signatures of its kernels.

Kernels include nothing, so that NVIDIA's run-time compiler needs no folder of headers. What they share is pasted in
front of them: `ops/_cuda/common.cuh` always, and other headers of `ops/` where the file says so:

    // with _cuda/gemm.cuh

A file is compiled in *variants*, each a set of macros. `real` is the floating-point type, float or double; the others
are the file's own, such as the size of a tile.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2]
HEADERS = PACKAGE / "ops"
FLOAT, DOUBLE = {"real": "float"}, {"real": "double"}
TENSOR_CORES = "TF32"  # variants with this macro use mma instructions: compute capability 8.0 and later

_WITH = re.compile(r"^// with (\S+\.cuh)\s*$", re.MULTILINE)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_KERNEL = re.compile(r"^KERNEL\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)", re.MULTILINE)
# A list of parameters that several kernels share: `#define SIZE int height, int width`, also over lines.
_DEFINE = re.compile(r"^#define\s+(\w+)[ \t]((?:[^\n]*\\\n)*[^\n]*,[^\n]*)", re.MULTILINE)
_PARAMETER = re.compile(r"(OPTIONAL )?(?:const )?(unsigned int|\w+) ?(\*?) ?(?:const )?(?:__restrict__ )?(\w+)")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel, as its C signature has it.

    type: without const and `*`, e.g. "real", "int". is_optional: a pointer that may be null, marked OPTIONAL.
    """

    name: str
    type: str
    is_pointer: bool
    is_optional: bool


class Source:
    """One `.cu` file of an op's room, read when it is first needed.

    path: of the file. variants: the sets of macros it may be compiled with; a launch with any other is refused, so
    that what is compiled for all GPUs in the tests is all there is.
    """

    def __init__(self, path: str | Path, variants: Iterable[Mapping[str, str | int]] = (FLOAT, DOUBLE)) -> None:
        self.path = Path(path)
        self.variants = [dict(variant) for variant in variants]

    @property
    def name(self) -> str:
        """For messages and for the compiler: the path from the package on, e.g. tinynet/ops/elu/elu.cu."""
        try:
            return self.path.resolve().relative_to(PACKAGE.parent).as_posix()
        except ValueError:
            return str(self.path)

    @property
    def short_name(self) -> str:
        """The room and the file, e.g. conv2d/blocked.cu."""
        return "/".join(self.path.parts[-2:])

    @functools.cached_property
    def text(self) -> str:
        """The file as it stands."""
        return self.path.read_text(encoding="utf-8")

    @property
    def headers(self) -> list[Path]:
        """The headers that are pasted in front of the file, in their order."""
        return [HEADERS / name for name in ("_cuda/common.cuh", *_WITH.findall(self.text))]

    @functools.cached_property
    def code(self) -> str:
        """What is compiled: headers and file, each with a #line so that messages name the student's own lines."""
        pieces = [(f"tinynet/ops/{p.relative_to(HEADERS).as_posix()}", p.read_text("utf-8")) for p in self.headers]
        return "".join(f'#line 1 "{name}"\n{text}\n' for name, text in [*pieces, (self.name, self.text)])

    @functools.cached_property
    def kernels(self) -> dict[str, tuple[Parameter, ...]]:
        """The parameters of each kernel by its name. Raises ValueError for a signature that cannot be read."""
        found = {}
        shared = {name: lines.replace("\\\n", " ") for name, lines in _DEFINE.findall(_COMMENT.sub(" ", self.code))}
        for name, parameters in _KERNEL.findall(_COMMENT.sub(" ", self.text)):
            parameters = re.sub(r"\w+", lambda word: shared.get(word[0], word[0]), parameters)
            found[name] = tuple(self._parameter(name, " ".join(p.split())) for p in parameters.split(",") if p.strip())
        return found

    def _parameter(self, kernel: str, declaration: str) -> Parameter:
        match = _PARAMETER.fullmatch(declaration)
        if match is None:
            raise ValueError(
                f"{self.name}: {kernel}: the parameter `{declaration}` cannot be read; "
                "scalars and pointers only, as in `const real* __restrict__ x` or `int n`"
            )
        optional, type_name, star, name = match.groups()
        return Parameter(name, type_name, bool(star), bool(optional))

    def signature(self, kernel: str) -> tuple[Parameter, ...]:
        """The parameters of a kernel. Raises ValueError where the file has none of that name."""
        if kernel not in self.kernels:
            raise ValueError(f"{self.name} has no kernel {kernel!r}; it has: {', '.join(self.kernels)}")
        return self.kernels[kernel]

    def check_variant(self, macros: Mapping[str, str | int]) -> None:
        """Raise ValueError for macros that are none of the file's variants."""
        if dict(macros) not in self.variants:
            listed = "; ".join(describe(variant) for variant in self.variants)
            raise ValueError(f"{self.name} is not built with {describe(macros)}; its variants are: {listed}")


def describe(macros: Mapping[str, str | int]) -> str:
    """The macros as text, e.g. `real=float, TILE=64`."""
    return ", ".join(f"{name}={value}" for name, value in macros.items()) or "no macros"


def compiler_options(macros: Mapping[str, str | int]) -> list[str]:
    """The macros as options of a compiler."""
    return [f"-D{name}={value}" for name, value in sorted(macros.items())]
