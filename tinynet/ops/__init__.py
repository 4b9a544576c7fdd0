"""The operations with hand-written kernels: one folder each. Importing this package completes the Tensor.

The engine knows no operation, so two of them are handed to it here: `x @ y`, and the sum of two large gradients.
"""

from ..backends.numba import settings  # before anything imports Numba
from ..backends.registry import backend, device, is_large, register_ops, use_backend, use_kernels
from ..engine import tensor as _engine
from ..engine.basic_ops import add_methods, add_operator
from ..engine.tensor import Function, Tensor, grad, is_grad_enabled, no_grad, tensor
from ._composed import functions as _composed  # attached to Tensor below
from .accumulate.reference import add
from .matmul.op import matmul

# Public names that need a complete Tensor and a filled registry: `tinynet/__init__.pyi` takes them from here.
__all__ = [
    "Function",
    "Tensor",
    "backend",
    "device",
    "grad",
    "is_grad_enabled",
    "no_grad",
    "tensor",
    "use_backend",
    "use_kernels",
]


def _add_gradients(x, y):
    """x + y, for large arrays by the parallel kernel. Tensors are added by an operation with a gradient."""
    return add(x, y) if is_large(y) else x + y


register_ops(__name__, __path__)
_engine.add_gradients = _add_gradients
add_operator("matmul", matmul)
add_methods(_composed.clone, _composed.cumsum, _composed.norm, _composed.prod, _composed.std, _composed.topk)
