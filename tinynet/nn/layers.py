"""The layers. Each holds the parameters of one operation of tinynet and calls the operation.

Activations are (N, H, W, C): images, height, width, channels. A layer's arguments have the meaning that they have for
its operation, and the operation reports wrong shapes. A size given as one number is used for height and width; a pair
is (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends.arrays import device_of
from ..engine import random, share
from ..engine.basic_ops import mean, sqrt, where
from ..engine.tensor import Tensor
from ..ops._shared.checks import pair
from ..ops._shared.epilogue import Epilogue
from ..ops._shared.geometry import Geometry
from ..ops._shared.pooling import extended
from ..ops._shared.targets import constant
from ..ops.batch_norm.op import batch_norm, values_per_channel
from ..ops.conv2d.op import conv2d, padding_by_name
from ..ops.conv_elu_dropout.op import can_fuse, conv_elu_dropout
from ..ops.conv_transpose2d.op import conv_transpose2d
from ..ops.dropout.op import dropout
from ..ops.local_response_norm.op import local_response_norm
from ..ops.matmul.op import linear
from .activations import ELU
from .containers import ModuleList
from .init import glorot_uniform, he_normal
from .module import Module, Parameter, is_observed


class _Convolution(Module):
    """What Conv2d and ConvTranspose2d share: their settings and their parameters.

    A pair of numbers is (height, width). init: draws the weight, as `init(shape, transposed=..., groups=...)`.
    Raises ValueError if the numbers of channels are not positive multiples of groups.
    """

    transposed = False
    extra = (0, 0)  # further zeros at the end, for padding="same" and a kernel of even size

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        init: Callable[..., np.ndarray] = he_normal,
    ) -> None:
        name = type(self).__name__
        check_channels(name, in_channels, out_channels, groups)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = pair(name, "kernel_size", kernel_size, 1)
        self.stride = pair(name, "stride", stride, 1)
        if isinstance(padding, str) and not self.transposed:
            padding, self.extra = padding_by_name(name, padding, self.kernel_size, stride, dilation)
        self.padding = pair(name, "padding", padding, 0)  # type: ignore[arg-type]  # it refuses other texts
        self.dilation = pair(name, "dilation", dilation, 1)
        self.groups = groups
        near, far = (out_channels, in_channels) if self.transposed else (in_channels, out_channels)
        shape = (*self.kernel_size, near // groups, far)
        self.weight = Parameter(init(shape, transposed=self.transposed, groups=groups))
        self.bias = Parameter(np.zeros(out_channels, dtype=np.float32)) if bias else None

    @property
    def geometry(self) -> dict[str, Any]:
        """The parameters of the operation."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}


class Conv2d(_Convolution):
    """2-D convolution (cross-correlation): x (N, H, W, in_channels) -> (N, H', W', out_channels).

    weight: (KH, KW, in_channels / groups, out_channels), drawn by `init`; bias: (out_channels,), zeros.
    H' = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1; padding="same" gives H' = H, for stride 1.
    Raises ValueError if the numbers of channels are not positive multiples of groups.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = extended(x, self.extra) if any(self.extra) else x
        return conv2d(x, self.weight, self.bias, **self.geometry)


class ConvTranspose2d(_Convolution):
    """Transposed 2-D convolution: x (N, H, W, in_channels) -> (N, H', W', out_channels).

    weight: (KH, KW, out_channels / groups, in_channels), drawn by `init`; bias: (out_channels,), zeros.
    H' = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.
    It is the gradient of a convolution with respect to its input and enlarges an image. Usually no activation follows
    it, so the default `init` is Glorot's. Raises ValueError as Conv2d does.
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        init: Callable[..., np.ndarray] = glorot_uniform,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, init)
        self.output_padding = pair("ConvTranspose2d", "output_padding", output_padding, 0)

    def forward(self, x: Tensor) -> Tensor:
        return conv_transpose2d(x, self.weight, self.bias, output_padding=self.output_padding, **self.geometry)


class Linear(Module):
    """x @ weight + bias on the last axis: (..., in_features) -> (..., out_features).

    weight: (in_features, out_features), drawn by `init`; bias: (out_features,), zeros.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        init: Callable[..., np.ndarray] = he_normal,
    ) -> None:
        check_channels("Linear", in_features, out_features, groups=1)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(init((in_features, out_features)))
        self.bias = Parameter(np.zeros(out_features, dtype=np.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class BatchNorm2d(Module):
    """Bring each channel to mean 0 and variance 1, then multiply by gamma and add beta, which are learned.

    x: (N, H, W, channels), or (N, channels) after a Linear. gamma: (channels,), ones; beta: (channels,), zeros.
    Training mode uses the mean and the variance of the batch, over all axes but the channels. It also keeps a running
    average of both in the buffers running_mean and running_var (with the unbiased variance), in which a batch has the
    weight `momentum`; evaluation mode uses these. The layer before needs no bias.
    Ioffe and Szegedy, Batch Normalization, 2015. Raises ValueError unless 0 < momentum <= 1.
    """

    buffer_names = ("running_mean", "running_var")

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        check_channels("BatchNorm2d", channels, channels, groups=1)
        if not 0 < momentum <= 1:
            raise ValueError(f"BatchNorm2d: momentum is {momentum}; it must lie in 0 < momentum <= 1")
        self.channels, self.momentum, self.eps = channels, momentum, eps
        self.gamma = Parameter(np.ones(channels, dtype=np.float32))
        self.beta = Parameter(np.zeros(channels, dtype=np.float32))
        self.running_mean = np.zeros(channels, dtype=np.float32)
        self.running_var = np.ones(channels, dtype=np.float32)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return batch_norm(x, self.gamma, self.beta, self.running_mean, self.running_var, eps=self.eps)
        y, mean, var = batch_norm(x, self.gamma, self.beta, eps=self.eps, return_statistics=True)
        m = values_per_channel(x)
        self.running_mean += self.momentum * (mean - self.running_mean)
        self.running_var += self.momentum * (var * (m / (m - 1)) - self.running_var)
        return y


class LayerNorm(Module):
    """Bring the last axes of each sample to mean 0 and variance 1, then multiply by gamma and add beta.

    features: the length of the last axis, or the lengths of the last axes. gamma: (features), ones; beta: zeros.
    Ba et al., Layer Normalization, 2016.
    """

    def __init__(self, features: int | tuple[int, ...], eps: float = 1e-5) -> None:
        self.features, self.eps = (features,) if isinstance(features, int) else tuple(features), eps
        self.gamma = Parameter(np.ones(self.features, dtype=np.float32))
        self.beta = Parameter(np.zeros(self.features, dtype=np.float32))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-len(self.features) :] != self.features:
            raise ValueError(f"LayerNorm: x has shape {x.shape}; its last axes must be {self.features}")
        axes = tuple(range(-len(self.features), 0))
        d = x - mean(x, axes, keepdims=True)
        return d / sqrt(mean(d * d, axes, keepdims=True) + self.eps) * self.gamma + self.beta


class Embedding(Module):
    """The rows of a table, by number: integers (...) -> (..., features). weight: (count, features), standard normal."""

    def __init__(self, count: int, features: int) -> None:
        check_channels("Embedding", count, features, groups=1)
        self.weight = Parameter(random.generator().standard_normal((count, features)).astype(np.float32))

    def forward(self, x: Any) -> Tensor:
        x, count = constant("Embedding", "x", x), len(self.weight)
        if x.dtype.kind not in "iu":
            raise TypeError(f"Embedding: x is {x.dtype}; row numbers, integers, are needed")
        exists = (x >= 0) & (x < count)
        if device_of(x) == "cuda":  # the CPU does not wait for a check: a row that does not exist is NaN
            return where(exists[..., None], self.weight[x * exists], math.nan)
        if not exists.all():
            raise ValueError(f"Embedding: x goes from {x.min()} to {x.max()}; the table has rows 0 to {count - 1}")
        return self.weight[x]


class LocalResponseNorm(Module):
    """Divide each channel by (k + alpha * sum of the squares of its `size` neighboring channels)^beta, as AlexNet does.

    The defaults are AlexNet's. alpha is the paper's; PyTorch's is `size` times as large. Krizhevsky et al., ImageNet
    Classification with Deep Convolutional Neural Networks, 2012, section 3.3.
    """

    def __init__(self, size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> None:
        self.size, self.k, self.alpha, self.beta = size, k, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        return local_response_norm(x, self.size, self.k, self.alpha, self.beta)


class Dropout(Module):
    """In training mode, set each value to zero with probability p and divide the others by 1 - p.

    In evaluation mode the layer returns x. Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting, 2014, in the form that scales during training.

    The mask is a function of (seed, stream, step). Each layer has its own stream, and each call in training mode
    increases step (except inside `random.frozen()`). The state dict holds all three, so a resumed run draws the masks
    that the interrupted run would have drawn. Raises ValueError unless 0 <= p < 1.
    """

    buffer_names = ("random_state",)

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p is {p}; it must lie in 0 <= p < 1")
        self.p = p
        self.random_state = np.array([*random.new_stream(), 0], dtype=np.int64)  # seed, stream, step

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_active:
            return x
        return dropout(x, self.p, **self.next_mask(x.shape))

    @property
    def is_active(self) -> bool:
        """True if the next call drops values."""
        return self.training and self.p > 0

    def next_mask(self, shape: tuple[int, ...]) -> dict[str, int]:
        """seed, stream and step of the next mask, and the place of its first element. Increases step."""
        seed, stream, step = (int(number) for number in self.random_state)
        if not random.is_frozen():
            self.random_state[2] += 1
        return {"seed": seed, "stream": stream, "step": step, "first": share.current().first_element(shape)}


class Sequential(ModuleList):
    """Modules one after the other, with `len`, iteration, indexing and `append`; a slice is a Sequential.

    If Conv2d, ELU and optionally Dropout follow each other, one fused operation computes them together, with the same
    result. ops/conv_elu_dropout/derivation.md says how, and when the layers run one by one.
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__(layers)

    def forward(self, x: Any) -> Any:
        i = 0
        while i < len(self.layers):
            fused = self._fusible_at(i)
            x = _fused(x, *fused) if fused else self.layers[i](x)
            i += len(fused) or 1
        return x

    def _fusible_at(self, i: int) -> list[Any]:
        """The layers from number i on that one fused operation can replace: two, three or none."""
        layers = self.layers[i : i + 3]
        # A subclass, or a layer whose forward was replaced, may compute something else.
        kinds = [None if "forward" in vars(layer) else type(layer) for layer in layers]
        if kinds[:2] != [Conv2d, ELU] or any(layers[0].extra) or is_observed() or not can_fuse():
            return []
        return layers if kinds[2:] == [Dropout] else layers[:2]

    def _part(self, layers: list[Module]) -> Module:
        return Sequential(*layers)


def _fused(x: Any, conv: Conv2d, elu: ELU, dropout: Dropout | None = None) -> Tensor:
    """dropout(elu(conv(x)))."""
    geometry, mask = Geometry(**conv.geometry), dict[str, Any]()
    if dropout is not None and dropout.is_active:
        images = x[0] if isinstance(x, (list, tuple)) else x  # their channels may lie in several Tensors
        size = geometry.output_size(images.shape[1:3], conv.kernel_size)
        mask = {"p": dropout.p, **dropout.next_mask((*images.shape[:1], *size, conv.out_channels))}
    return conv_elu_dropout(x, conv.weight, conv.bias, geometry, Epilogue(elu.alpha, **mask))


def check_channels(layer: str, channels_in: int, channels_out: int, groups: int) -> None:
    if groups < 1 or min(channels_in, channels_out) < 1 or channels_in % groups or channels_out % groups:
        raise ValueError(
            f"{layer}: {channels_in} channels in, {channels_out} out and {groups} groups; "
            "the numbers of channels must be positive multiples of groups"
        )
