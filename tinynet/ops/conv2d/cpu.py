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

import numpy as np

from .._cpu.old_simd import REGISTER_BYTES
from .._shared.epilogue import PLAIN
from ..dropout import cpu as dropout
from ..elu import cpu as elu
from . import blocked, naive, rows, winograd
from .bias import backward_bias as bias_gradient


def _kernels(module) -> dict:
    return {name: getattr(module, name) for name in ("forward", "backward_input", "backward_weight")}


def _adapted(old: dict) -> dict:
    def forward(x, w, b, geometry, epilogue=PLAIN):
        x = np.concatenate(x, axis=3) if isinstance(x, tuple) else x
        y = old["forward"](x, w, b, **geometry._asdict())
        alpha, p, *key = epilogue
        y = y if alpha is None else elu.forward(y, alpha=alpha)
        return y if p == 0 else dropout.forward(y, p=p, **dict(zip(("seed", "stream", "step"), key)))

    def backward_input(gy, w, input_size, geometry):
        return old["backward_input"](gy, w, input_size=input_size, **geometry._asdict())

    def backward_weight(x, gy, kernel_size, geometry):
        return old["backward_weight"](x, gy, kernel_size=kernel_size, **geometry._asdict())

    return {"forward": forward, "backward_input": backward_input, "backward_weight": backward_weight}


_ladder = {
    "winograd2": winograd.kernels(m=2),
    "rows": _kernels(rows),
    "blocked": _kernels(blocked),
    "naive": _kernels(naive),
    "fast": winograd.kernels(m=4),
}
_ladder = {name: _adapted(kernels) for name, kernels in _ladder.items()}
DEFAULT = "winograd2" if REGISTER_BYTES else "rows"
IMPLEMENTATIONS = {DEFAULT: _ladder[DEFAULT], **_ladder}
forward, backward_input, backward_weight = IMPLEMENTATIONS[DEFAULT].values()


def backward_bias(gy):
    """gb[co] = sum over n, oy, ox of gy[n, oy, ox, co]."""
    return bias_gradient(gy)
