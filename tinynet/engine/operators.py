"""The base class of Tensor. The stub beside this file, `operators.pyi`, lists what editors and type checkers see."""

from .foreign import NamesExplained


class Operators(NamesExplained):
    """The operators and methods of a Tensor. `basic_ops.py` and the op `matmul` attach them to Tensor."""

    __slots__ = ()
