"""Which rooms of tinynet/ops hold what."""

from __future__ import annotations

import importlib.util

from tinynet.kernels import ops

# Operations on Tensors; the others hold kernels without a gradient, such as the optimiser's.
DIFFERENTIABLE = [op for op in ops() if importlib.util.find_spec(f"tinynet.ops.{op}.op")]
