"""The same kernel calls in PyTorch, as far as it has them: channels last, forward passes and parts of backward passes.

Runs in a process of its own: PyTorch and Numba each bring their own thread pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from .processes import timed

aten = torch.ops.aten


def image(shape: list[int]) -> torch.Tensor:
    """(N, H, W, C) -> values in [0, 1), (N, C, H, W), channels last in memory; other shapes as they are."""
    return torch.rand(shape).permute(0, 3, 1, 2) if len(shape) == 4 else torch.rand(shape)


def weights(shape: list[int]) -> torch.Tensor:
    """(KH, KW, A, B) -> (B, A, KH, KW), channels last in memory."""
    kh, kw, a, b = shape
    return torch.rand(b, a, kh, kw).contiguous(memory_format=torch.channels_last)


def convolution(transposed: bool) -> Callable:
    """A function that makes counterparts of conv2d's or conv_transpose2d's kernels."""

    def counterpart(kernel: str, arrays: list, p: dict[str, Any]) -> Callable | None:
        if kernel == "backward_bias":
            gy = image(arrays[0])
            return lambda: gy.sum((0, 2, 3))
        geometry = (p["stride"], p["padding"], p["dilation"])
        if kernel == "forward":
            w, b = weights(arrays[1]), torch.rand(arrays[2]) if arrays[2] else None
            if isinstance(arrays[0][0], list):  # channels of several arrays, which PyTorch must put together first
                parts = [image(shape) for shape in arrays[0]]
                return lambda: aten.convolution(torch.cat(parts, 1), w, b, *geometry, False, [0, 0], p["groups"])
            x = image(arrays[0])
            if transposed:
                left_over = [
                    n - ((m - 1) * s - 2 * pad + d * (k - 1) + 1)
                    for n, m, k, s, pad, d in zip(p["output_size"], x.shape[2:], w.shape[2:], *geometry)
                ]
                return lambda: aten.convolution(x, w, b, *geometry, True, left_over, p["groups"])
            return lambda: aten.convolution(x, w, b, *geometry, False, [0, 0], p["groups"])
        if kernel == "backward_input":
            gy, w, wanted = image(arrays[0]), weights(arrays[1]), [True, False, False]
            if transposed:
                x = aten.convolution(gy, w, None, *geometry, False, [0, 0], p["groups"])
            else:
                x = image([arrays[0][0], *p["input_size"], w.shape[1] * p["groups"]])
        else:
            x, gy, wanted = image(arrays[0]), image(arrays[1]), [False, True, False]
            c_in, c_out = (gy, x) if transposed else (x, gy)
            w = weights([*p["kernel_size"], c_in.shape[1] // p["groups"], c_out.shape[1]])
        return lambda: aten.convolution_backward(gy, x, w, None, *geometry, transposed, [0, 0], p["groups"], wanted)

    return counterpart


def conv_elu_dropout(kernel: str, arrays: list, p: dict[str, Any]) -> Callable | None:
    """What tinynet fuses, one call after the other."""
    if kernel == "forward":
        convolve = convolution(transposed=False)(kernel, arrays, p)
        return lambda: F.dropout(F.elu(convolve(), p["alpha"]), p["p"])
    gy, y = map(image, arrays)
    mask = y > p["p"]

    def backward() -> torch.Tensor:
        g = aten.native_dropout_backward(gy, mask, 1 / (1 - p["p"])) if p["p"] else gy
        return aten.elu_backward(g, p["alpha"], 1, 1, True, y)

    return backward


def max_pool2d(kernel: str, arrays: list, p: dict[str, Any]) -> Callable | None:
    if kernel == "forward":
        x = image(arrays[0])
        return lambda: F.max_pool2d(x, p["size"], p["stride"], p["padding"])
    if kernel == "scatter":
        gy = image(arrays[0])
        stride = [n // m for n, m in zip(p["size"], gy.shape[2:])]  # of windows that do not overlap
        x = image([arrays[0][0], *p["size"], arrays[0][3]])
        _, indices = F.max_pool2d(x, stride, return_indices=True)
        return lambda: aten.max_pool2d_with_indices_backward(gy, x, stride, stride, [0, 0], [1, 1], False, indices)
    return None


def elementwise(forward: Callable, backward: Callable) -> Callable:
    """A function that makes counterparts of an activation's kernels, of forward(x, p) and backward(gy, y, p)."""

    def counterpart(kernel: str, arrays: list, p: dict[str, Any]) -> Callable | None:
        tensors = [image(shape) for shape in arrays if shape is not None]
        function = {"forward": forward, "backward": backward}[kernel]
        return lambda: function(*tensors, p)

    return counterpart


def concat(kernel: str, arrays: list, p: dict[str, Any]) -> Callable | None:
    tensors = [image(shape) for shape in arrays]
    return lambda: torch.cat(tensors, dim={0: 0, 1: 2, 2: 3, 3: 1}[p["axis"]])


def matmul(kernel: str, arrays: list, p: dict[str, Any]) -> Callable | None:
    x, y = map(torch.rand, arrays)
    x, y = x.mT if p["transpose_x"] else x, y.mT if p["transpose_y"] else y
    return lambda: x @ y


def local_response_norm(kernel: str, arrays: list, p: dict[str, Any]) -> Callable | None:
    if kernel != "forward":
        return None
    x = image(arrays[0])
    return lambda: F.local_response_norm(x, p["size"], p["alpha"] * p["size"], p["beta"], p["k"])


def avg_pool2d(kernel: str, arrays: list, p: dict[str, Any]) -> Callable | None:
    if kernel != "forward":
        return None
    x = image(arrays[0])
    return lambda: F.avg_pool2d(x, p["size"], p["stride"], p["padding"])


def batch_norm(kernel: str, arrays: list, p: dict[str, Any]) -> Callable | None:
    """PyTorch takes the statistics and normalises in one; what tinynet's `normalize` does alone, it does in use."""
    if kernel != "normalize":
        return None
    x, (mean, var, gamma, beta) = image(arrays[0]), map(torch.rand, arrays[1:5])
    return lambda: F.batch_norm(x, mean, var, gamma, beta, eps=p["eps"])


COUNTERPARTS = {
    "matmul": matmul,
    "local_response_norm": local_response_norm,
    "avg_pool2d": avg_pool2d,
    "batch_norm": batch_norm,
    "conv2d": convolution(transposed=False),
    "conv_transpose2d": convolution(transposed=True),
    "conv_elu_dropout": conv_elu_dropout,
    "max_pool2d": max_pool2d,
    "concat": concat,
    "elu": elementwise(
        lambda x, p: F.elu(x, p["alpha"]), lambda gy, y, p: aten.elu_backward(gy, p["alpha"], 1, 1, True, y)
    ),
    "relu": elementwise(lambda x, p: F.relu(x), lambda gy, y, p: aten.threshold_backward(gy, y, 0)),
    "leaky_relu": elementwise(
        lambda x, p: F.leaky_relu(x, p["slope"]), lambda gy, y, p: aten.leaky_relu_backward(gy, y, p["slope"], True)
    ),
    "sigmoid": elementwise(lambda x, p: torch.sigmoid(x), lambda gy, y, p: aten.sigmoid_backward(gy, y)),
    "tanh": elementwise(lambda x, p: torch.tanh(x), lambda gy, y, p: aten.tanh_backward(gy, y)),
    "dropout": elementwise(lambda x, p: F.dropout(x, p["p"], training=True), lambda *_: None),
    "accumulate": lambda kernel, arrays, p: (lambda x, y: lambda: x + y)(*map(image, arrays)),
}


def respond(call: dict[str, Any]) -> dict[str, Any]:
    make = COUNTERPARTS.get(call["op"])
    run = make(call["kernel"], call["arrays"], call["parameters"]) if make else None
    if run is None:
        return {"ms": []}
    with torch.inference_mode():
        run()
        return {"ms": timed(run)}


def start() -> tuple[dict[str, Any], Callable]:
    """Asked for a call of tinynet's, as JSON, it times the counterpart; no times if there is none."""
    return {"versions": {"torch": torch.__version__}}, respond
