"""What a convolution does with its result while the result is still in the cache: ELU, then dropout."""

from __future__ import annotations

from typing import NamedTuple


class Epilogue(NamedTuple):
    """ELU, then dropout: the parameters of both, as the ops elu and dropout take them."""

    alpha: float | None = None  # of ELU; None: no ELU
    p: float = 0.0  # the probability with which dropout sets an element to 0; 0: no dropout
    seed: int = 0
    stream: int = 0
    step: int = 0


PLAIN = Epilogue()  # neither
