"""conv2d in Numba: a ladder of implementations, from the definition to the fastest, each a file of its own.

    naive      the loops of the definition
    rows       loops over neighbouring channels, which the compiler turns into vector instructions
    blocked    a block of results in registers, by explicit SIMD (`ops/simd.py`)
    winograd2  3x3 kernels: Winograd's F(2x2, 3x3), 2.25 times fewer multiplications
    fast       3x3 kernels: F(4x4, 3x3), 4 times fewer; less exact, hence never the default

The first in IMPLEMENTATIONS is the default: `winograd2`, or `rows` on machines without AVX2.
`use_kernels("conv2d", "naive")` selects another one.
"""

from __future__ import annotations

from .._cpu.old_simd import REGISTER_BYTES
from . import blocked, naive, rows, winograd
from .bias import backward_bias

__all__ = ["IMPLEMENTATIONS", "backward_bias"]


def _kernels(module) -> dict:
    return {name: getattr(module, name) for name in ("forward", "backward_input", "backward_weight")}


_ladder = {
    "winograd2": winograd.kernels(m=2),
    "rows": _kernels(rows),
    "blocked": _kernels(blocked),
    "naive": _kernels(naive),
    "fast": winograd.kernels(m=4),
}
DEFAULT = "winograd2" if REGISTER_BYTES else "rows"
IMPLEMENTATIONS = {DEFAULT: _ladder[DEFAULT], **_ladder}
# What conv_transpose2d calls: the default.
forward, backward_input, backward_weight = IMPLEMENTATIONS[DEFAULT].values()
