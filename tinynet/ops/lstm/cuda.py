"""lstm on a GPU: two launches for each step, matmul's product and a thread for each unit of each sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...cuda.launch import blocks, contiguous, empty, launch
from ...cuda.source import Source
from ...kernels import array_module
from ..matmul.cuda import forward as product
from . import steps

SOURCE = Source(Path(__file__).with_name("lstm.cu"))
THREADS = 128


def forward(a: Any, weight: Any, h0: Any, c0: Any, lengths: Any = None) -> tuple[Any, Any]:
    """(states, gates): states (T, 2, N, H), h and c of each step; gates (T, N, 4 H), its i, f, g, o."""
    a, weight, h0, c0 = map(contiguous, (a, weight, h0, c0))
    states, gates = empty((len(a), 2, *h0.shape), a.dtype, like=a), empty(a.shape, a.dtype, like=a)
    return steps.forward(a, weight, h0, c0, states, gates, product, _step("lstm_forward", h0, lengths))


def backward(
    gstates: Any, states: Any, gates: Any, weight: Any, h0: Any, c0: Any, lengths: Any = None
) -> tuple[Any, Any, Any, Any]:
    """(ga, gweight, gh0, gc0) from the gradient of the states, (T, 2, N, H)."""
    arrays = tuple(map(contiguous, (gstates, states, gates, weight, h0, c0)))
    ga, zeros = empty(gates.shape, gates.dtype, like=gates), array_module(gates).zeros
    gh, gc = zeros(h0.shape, h0.dtype), zeros(c0.shape, c0.dtype)
    return steps.backward(*arrays, ga, gh, gc, product, _step("lstm_backward", h0, lengths))


def _step(kernel: str, h: Any, lengths: Any) -> Any:
    """step(t, *arrays): one launch."""
    ends = None if lengths is None else contiguous(lengths.astype("int64", copy=False))
    grid, (_, hidden) = blocks(h.size, THREADS), h.shape

    def step(t: int, *arrays: Any) -> None:
        launch(SOURCE, kernel, grid, THREADS, *arrays, ends, t, h.size, hidden)

    return step
