"""The gradient of U, the same on CPU and GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def gradient_of_weight(product: Callable, h0: Any, states: Any, ga: Any) -> Any:
    """gU = sum over t of h_(t-1)^T ga_t, for all steps and samples at once. product: the matmul kernel."""
    hidden = h0.shape[1]
    gweight = product(h0, ga[0], transpose_x=True)  # the first step had its h from outside, the others from states
    h_before, later = states[0, :-1].reshape(-1, hidden), ga[1:].reshape(-1, 4 * hidden)
    gweight += product(h_before, later, transpose_x=True)
    return gweight
