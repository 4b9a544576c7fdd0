"""Channels of several tensors as one tensor, without a copy until somebody needs one.

A U-Net joins the channels that come up with those of the shortcut, only for a convolution to read them. The
convolution can as well read them where they are. So `concat` of large arrays returns a `Joined`: a Tensor like any
other, whose data are put together when they are first asked for. The fused convolution does not ask.

Until then the parts must stay what they are. In-place changes through the Tensor API are noticed.
"""

from __future__ import annotations

import numpy as np

from ...engine.tensor import Function, Tensor, grad_mode, is_grad_enabled


class Joined(Tensor):
    """`function` (Concat) of `parts` along the last axis, put off.

    Everything about it but its shape and dtype comes from the tensor that the function makes, when it is made.
    """

    __slots__ = ("_function", "_parts", "_recording", "_versions", "_whole")

    def __init__(self, function: type[Function], parts: tuple[Tensor, ...]) -> None:
        self._function, self._parts, self._whole = function, parts, None
        self._recording = is_grad_enabled()
        self._versions = [(p._version, p._version.count) for p in parts]

    @property
    def parts(self) -> tuple[Tensor, ...] | None:
        """The tensors joined; None where they have been copied together, or must be: history ends at a `no_grad`."""
        self._check_unchanged()
        return None if is_grad_enabled() and not self._recording else self._parts

    @property
    def shape(self) -> tuple[int, ...]:
        if self._parts is None:
            return self._whole.shape
        return (*self._parts[0].shape[:-1], sum(p.shape[-1] for p in self._parts))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return self._whole.dtype if self._parts is None else self._parts[0].dtype

    def whole(self) -> Tensor:
        """The tensor, put together now if it was not before."""
        if self._parts is not None:
            self._check_unchanged()
            with grad_mode(self._recording):  # as it was when concat was called
                self._whole = self._function.apply(*self._parts, axis=len(self.shape) - 1)
            self._parts = None
        return self._whole

    def _check_unchanged(self) -> None:
        if self._parts is not None and any(version.count != count for version, count in self._versions):
            raise RuntimeError(
                f"concat: a part of the tensor of shape {self.shape} was changed in place before its use"
            )


def _of_the_whole(name: str) -> property:
    """An attribute of Tensor, read from and written to the tensor that was put together."""
    return property(lambda self: getattr(self.whole(), name), lambda self, value: setattr(self.whole(), name, value))


for _name in ("_hooks", "_retain_grad", "_version", "creator", "data", "grad", "requires_grad"):
    setattr(Joined, _name, _of_the_whole(_name))
