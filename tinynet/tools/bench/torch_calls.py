"""The kernel calls of `bench ops` in PyTorch, where it has such a kernel: channels last in memory.

Runs in a process of its own: PyTorch and Numba each bring their own thread pool. A counterpart is made from the name of
the kernel, the shapes of its arrays and its other arguments by name; it is None for a kernel that PyTorch lacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from .processes import timed

aten = torch.ops.aten
Run = Callable[[], Any] | None


def image(shape: list[int]) -> torch.Tensor:
    """Values in [0, 1): images and volumes as (N, C, ...), channels last in memory; other shapes as they are."""
    return torch.rand(shape).movedim(-1, 1) if len(shape) >= 4 else torch.rand(shape)


def weights(shape: list[int]) -> torch.Tensor:
    """(KH, KW, A, B) -> (B, A, KH, KW), or with a KD in front, channels last in memory."""
    *taps, a, b = shape
    layout = torch.channels_last if len(taps) == 2 else torch.channels_last_3d
    return torch.rand(b, a, *taps).contiguous(memory_format=layout)


# ---------------------------------------------------------------------------------------- convolutions
def convolution(kernel: str, arrays: list, p: dict[str, Any], transposed: bool = False) -> Run:
    """A kernel of conv2d, conv3d or conv_transpose2d."""
    if kernel == "backward_bias":
        gy = image(arrays[0])
        return lambda: gy.sum((0, *range(2, gy.ndim)))
    *geometry, groups = p["geometry"].values()  # stride, padding, dilation
    extra = [0] * len(geometry[0])
    if kernel == "forward":
        return convolution_forward(arrays, p, transposed)
    if kernel == "backward_input":
        gy, w, wanted = image(arrays[0]), weights(arrays[1]), [True, False, False]
        if transposed:
            x = aten.convolution(gy, w, None, *geometry, False, extra, groups)
        else:
            x = image([arrays[0][0], *p["input_size"], w.shape[1] * groups])
    else:
        x, gy, wanted = image(arrays[0]), image(arrays[1]), [False, True, False]
        c_in, c_out = (gy, x) if transposed else (x, gy)
        w = weights([*p["kernel_size"], c_in.shape[1] // groups, c_out.shape[1]])
    return lambda: aten.convolution_backward(gy, x, w, None, *geometry, transposed, extra, groups, wanted)


def convolution_forward(arrays: list, p: dict[str, Any], transposed: bool) -> Run:
    """The forward pass: what tinynet fuses, one call after the other."""
    *geometry, groups = p["geometry"].values()
    parts = [image(shape) for shape in (arrays[0] if isinstance(arrays[0][0], list) else [arrays[0]])]
    w, b = weights(arrays[1]), torch.rand(arrays[2]) if arrays[2] else None
    extra = [0] * len(geometry[0])
    if transposed:
        axes = zip(p["output_size"], parts[0].shape[2:], w.shape[2:], *geometry)
        extra = [n - ((m - 1) * s - 2 * pad + d * (k - 1) + 1) for n, m, k, s, pad, d in axes]
    epilogue = p.get("epilogue") or {"alpha": None, "p": 0}

    def run() -> torch.Tensor:
        x = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        y = aten.convolution(x, w, b, *geometry, transposed, extra, groups)
        y = y if epilogue["alpha"] is None else F.elu(y, epilogue["alpha"])
        return F.dropout(y, epilogue["p"]) if epilogue["p"] else y

    return run


def epilogue_backward(kernel: str, arrays: list, p: dict[str, Any]) -> Run:
    """The gradient of dropout, then of ELU."""
    gy, y = map(image, arrays[:2])
    alpha, rate = p["epilogue"]["alpha"], p["epilogue"]["p"]
    mask = y > rate

    def run() -> torch.Tensor:
        g = aten.native_dropout_backward(gy, mask, 1 / (1 - rate)) if rate else gy
        return aten.elu_backward(g, alpha, 1, 1, True, y)

    return run


# ---------------------------------------------------------------------------------------- everything else
def windows(p: dict[str, Any]) -> tuple:
    """The windows of a pooling, as PyTorch takes them."""
    return p["kernel_size"], p["geometry"]["stride"], p["geometry"]["padding"]


def max_pool2d(kernel: str, arrays: list, p: dict[str, Any]) -> Run:
    x = image(arrays[0])
    if kernel == "forward":
        return lambda: F.max_pool2d(x, *windows(p))
    if kernel == "scatter":
        gy, stride = x, [n // m for n, m in zip(p["size"], x.shape[2:])]  # of windows that do not overlap
        x = image([arrays[0][0], *p["size"], arrays[0][3]])
        _, indices = F.max_pool2d(x, stride, return_indices=True)
        return lambda: aten.max_pool2d_with_indices_backward(gy, x, stride, stride, [0, 0], [1, 1], False, indices)
    return None


def concat(kernel: str, arrays: list, p: dict[str, Any]) -> Run:
    tensors = [image(shape) for shape in arrays]
    return lambda: torch.cat(tensors, dim={0: 0, 1: 2, 2: 3, 3: 1}[p["axis"]])


def matmul(kernel: str, arrays: list, p: dict[str, Any]) -> Run:
    x, y = map(torch.rand, arrays[:2])
    x, y = x.mT if p["transpose_x"] else x, y.mT if p["transpose_y"] else y
    return lambda: x @ y


def sample(kernel: str, arrays: list, p: dict[str, Any]) -> Run:
    """A kernel of grid_sample, at points near the pixels, or anywhere if there are not as many points as pixels."""
    shape = arrays[0] if kernel != "backward_input" else [arrays[0][0], *p["size"], arrays[0][2]]
    x, axes = image(shape), len(shape) - 2
    if math.prod(shape[1:-1]) == arrays[-1][1]:
        theta = torch.eye(axes, axes + 1).repeat(len(x), 1, 1)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        grid = grid + 3 * torch.randn(grid.shape) / torch.tensor(x.shape[:1:-1])  # by 1.5 pixels
    else:
        grid = 2 * torch.rand(len(x), *[1] * (axes - 1), arrays[-1][1], axes) - 1
    if kernel == "forward":
        return lambda: F.grid_sample(x, grid, align_corners=False)
    gy, wanted = torch.rand_like(F.grid_sample(x, grid, align_corners=False)), [kernel == "backward_input", True]
    backward = aten.grid_sampler_2d_backward if axes == 2 else aten.grid_sampler_3d_backward
    return lambda: backward(gy, x, grid, 0, 0, False, wanted)  # it always computes the gradient of the grid


def of_tensors(**kernels: Callable) -> Callable[[str, list, dict[str, Any]], Run]:
    """A counterpart from functions by kernel, e.g. forward(x, p), of the arrays as tensors and the other arguments."""

    def counterpart(kernel: str, arrays: list, p: dict[str, Any]) -> Run:
        if kernel not in kernels:
            return None
        tensors = [image(shape) for shape in arrays if shape is not None]
        return lambda: kernels[kernel](*tensors, p)

    return counterpart


COUNTERPARTS: dict[str, Callable[[str, list, dict[str, Any]], Run]] = {
    "conv2d": convolution,
    "conv3d": convolution,
    "conv_transpose2d": lambda kernel, arrays, p: convolution(kernel, arrays, p, transposed=True),
    "conv_elu_dropout": epilogue_backward,
    "max_pool2d": max_pool2d,
    "concat": concat,
    "matmul": matmul,
    "elu": of_tensors(
        forward=lambda x, p: F.elu(x, p["alpha"]),
        backward=lambda gy, y, p: aten.elu_backward(gy, p["alpha"], 1, 1, True, y),
    ),
    "relu": of_tensors(forward=lambda x, p: F.relu(x), backward=lambda gy, y, p: aten.threshold_backward(gy, y, 0)),
    "relu6": of_tensors(forward=lambda x, p: F.relu6(x), backward=lambda gy, y, p: aten.hardtanh_backward(gy, y, 0, 6)),
    "leaky_relu": of_tensors(
        forward=lambda x, p: F.leaky_relu(x, p["slope"]),
        backward=lambda gy, y, p: aten.leaky_relu_backward(gy, y, p["slope"], True),
    ),
    "sigmoid": of_tensors(
        forward=lambda x, p: torch.sigmoid(x), backward=lambda gy, y, p: aten.sigmoid_backward(gy, y)
    ),
    "tanh": of_tensors(forward=lambda x, p: torch.tanh(x), backward=lambda gy, y, p: aten.tanh_backward(gy, y)),
    "dropout": of_tensors(forward=lambda x, p: F.dropout(x, p["p"], training=True)),
    "accumulate": of_tensors(add=lambda x, y, p: x + y),
    "sample": sample,
    "avg_pool2d": of_tensors(forward=lambda x, p: F.avg_pool2d(x, *windows(p))),
    # tinynet's alpha is not divided by the size
    "local_response_norm": of_tensors(
        forward=lambda x, p: F.local_response_norm(x, p["size"], p["alpha"] * p["size"], p["beta"], p["k"])
    ),
    # PyTorch normalizes with given statistics in inference only
    "batch_norm": of_tensors(
        normalize=lambda x, mean, var, gamma, beta, p: F.batch_norm(x, mean, var, gamma, beta, eps=p["eps"])
    ),
}


def respond(call: dict[str, Any]) -> dict[str, Any]:
    """The times of a call's counterpart, which is described as JSON; none if there is no counterpart."""
    make = COUNTERPARTS.get(call["op"])
    run = make(call["kernel"], call["arrays"], call["parameters"]) if make else None
    if run is None:
        return {"ms": []}
    with torch.inference_mode():
        run()
        return {"ms": timed(run)}


def start() -> tuple[dict[str, Any], Callable]:
    """What PyTorch's process says when it is ready, and the function that times a call."""
    return {"versions": {"torch": torch.__version__}}, respond
