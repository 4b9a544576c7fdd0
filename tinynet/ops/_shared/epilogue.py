"""What a convolution does with its result while the result is still in the cache: ELU, then dropout."""

from __future__ import annotations

from typing import Any, NamedTuple


class Epilogue(NamedTuple):
    """ELU, then dropout: the parameters of both, as the ops elu and dropout take them."""

    alpha: float | None = None  # of ELU; None: no ELU
    p: float = 0.0  # the probability with which dropout sets an element to 0; 0: no dropout
    seed: int = 0
    stream: int = 0
    step: int = 0
    first: int = 0  # the index of the result's first element in the whole batch, if the result is a share of it

    @property
    def mask(self) -> dict[str, Any]:
        """The parameters of the op dropout, by name."""
        return {name: getattr(self, name) for name in ("p", "seed", "stream", "step", "first")}


PLAIN = Epilogue()  # neither
