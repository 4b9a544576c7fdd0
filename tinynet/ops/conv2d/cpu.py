"""conv2d in Numba: a ladder of implementations, from the definition to the fastest, each a file of its own.

    naive      the seven loops of the definition
    rows       loops over neighbouring channels, which the compiler turns into vector instructions
    blocked    a block of results in registers, by explicit SIMD (`ops/simd.py`)

The first in IMPLEMENTATIONS is the default; `use_kernels("conv2d", "naive")` selects another one.
"""

from __future__ import annotations

from . import naive, rows
from .bias import backward_bias
from .blocked import backward_input, backward_weight, forward

__all__ = ["backward_bias", "backward_input", "backward_weight", "forward"]

IMPLEMENTATIONS = {
    "blocked": {},  # the functions above
    "rows": {
        "forward": rows.forward,
        "backward_input": rows.backward_input,
        "backward_weight": rows.backward_weight,
    },
    "naive": {
        "forward": naive.forward,
        "backward_input": naive.backward_input,
        "backward_weight": naive.backward_weight,
    },
}
