"""The operations with hand-written kernels: one folder each. Importing this package completes the Tensor.

The engine knows no operation, so two of them are handed to it here: `x @ y`, and the sum of two large gradients.
"""

from ..backends.numba import settings  # noqa: F401 (before anything imports Numba)
from ..backends.registry import is_large, kernel
from ..engine import tensor as _engine
from ..engine.basic_ops import operator_method
from ..engine.tensor import Function, Tensor, grad, is_grad_enabled, no_grad, tensor
from .matmul.op import matmul

__all__ = ["Function", "Tensor", "grad", "is_grad_enabled", "matmul", "no_grad", "tensor"]


def _add_gradients(x, y):
    """x + y, for large arrays by the parallel kernel. Tensors are added by an operation with a gradient."""
    return kernel("accumulate", "add")(x, y) if is_large(y) else x + y


_engine.add_gradients = _add_gradients
Tensor.__matmul__ = operator_method(matmul)
Tensor.__rmatmul__ = operator_method(matmul, reflected=True)
