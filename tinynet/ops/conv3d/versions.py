"""conv3d made of conv2d's kernels: on a GPU always, on the CPU for groups and 1x1x1 kernels.

Slice by slice, a volume is a set of images, and a 3-D convolution is a sum of 2-D ones, one for each depth tap kz:

    y[oz] = sum over kz of conv2d(x[iz], w[kz]),      iz = oz * stride + kz * dilation - padding

    slices   computes just that: a conv2d for each tap, and their sum
    joined   the default on a GPU. The slices that meet in y[oz] lie side by side as *channels* of one image. conv2d
             takes the arrays of its channels one by one, and its sum over channels is the sum over kz, too.

        slices   y[oz] = conv2d(x[oz - 1], w[0]) + conv2d(x[oz], w[1]) + conv2d(x[oz + 1], w[2])
        joined   y[oz] = conv2d((x[oz - 1], x[oz], x[oz + 1]), w with its rows (kz, ci) as input channels)

Both inherit what conv2d has, Winograd's algorithm included. With groups, a group's channels are no neighbors in the
joined slices: then `slices` runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ...backends.arrays import array_module
from .._shared.geometry import Geometry, Triple, axis_taps

Kernels = dict[str, Callable]


def implementations(conv2d: Kernels) -> dict[str, Kernels]:
    """The versions by name, the default first, made of a tier's conv2d kernels."""
    kernels = (forward, backward_input, backward_weight)
    return {name: {f.__name__: partial(f, conv2d, name) for f in kernels} for name in ("joined", "slices")}


def forward(conv2d: Kernels, version: str, x: Any, w: Any, b: Any, geometry: Geometry) -> Any:
    """y = b + sum over kz of conv2d(slices of x, w[kz])."""
    depth, stride = geometry.output_size(x.shape[1:4], w.shape[:3])[0], geometry.stride[0]
    padded = _padded(x, geometry.padding[0])
    y = None
    for taps in _sets_of_taps(version, len(w), geometry):
        starts = (kz * geometry.dilation[0] for kz in taps)
        images = tuple(_images(padded[:, z : z + (depth - 1) * stride + 1 : stride]) for z in starts)
        part = conv2d["forward"](images if len(images) > 1 else images[0], _joined(w, taps), b, _plane(geometry))
        y, b = part if y is None else y + part, None  # the bias belongs to the first part
    return y.reshape(len(x), depth, *y.shape[1:])


def backward_input(conv2d: Kernels, version: str, gy: Any, w: Any, input_size: Triple, geometry: Geometry) -> Any:
    """gx: the gradient of the slices that met in y[oz], each added where it came from."""
    c_in = w.shape[3] * geometry.groups
    gx = array_module(gy).zeros((len(gy), *input_size, c_in), gy.dtype)
    met = {kz: (o, i) for kz, o, i in axis_taps(*_axis(input_size[0], len(w), gy.shape[1], geometry))}
    for taps in _sets_of_taps(version, len(w), geometry):
        g = conv2d["backward_input"](_images(gy), _joined(w, taps), input_size[1:], _plane(geometry))
        g = g.reshape(*gy.shape[:2], *input_size[1:], len(taps), c_in)
        for k, kz in enumerate(taps):
            if kz in met:
                o, i = met[kz]
                gx[:, i] += g[:, o, :, :, k]
    return gx


def backward_weight(conv2d: Kernels, version: str, x: Any, gy: Any, kernel_size: Triple, geometry: Geometry) -> Any:
    """gw[kz] = conv2d's gradient for the slices that meet through tap kz. The same in both versions."""
    gw = array_module(x).zeros((*kernel_size, x.shape[4] // geometry.groups, gy.shape[4]), x.dtype)
    for kz, o, i in axis_taps(*_axis(x.shape[1], kernel_size[0], gy.shape[1], geometry)):
        gw[kz] = conv2d["backward_weight"](_images(x[:, i]), _images(gy[:, o]), kernel_size[1:], _plane(geometry))
    return gw


def _sets_of_taps(version: str, depth: int, geometry: Geometry) -> list[Sequence[int]]:
    """The depth taps that one call of conv2d takes together."""
    return [range(depth)] if version == "joined" and geometry.groups == 1 else [[kz] for kz in range(depth)]


def _joined(w: Any, taps: Sequence[int]) -> Any:
    """(KH, KW, len(taps) C_in, C_out): the weights of these taps, one tap's input channels after the other's."""
    w = w[taps[0] : taps[-1] + 1].transpose(1, 2, 0, 3, 4)
    return w.reshape(*w.shape[:2], -1, w.shape[4])


def _padded(x: Any, padding: int) -> Any:
    """x with slices of zeros in front and behind."""
    return array_module(x).pad(x, ((0, 0), (padding, padding), (0, 0), (0, 0), (0, 0))) if padding else x


def _images(x: Any) -> Any:
    """(N, D, H, W, C) as (N D, H, W, C)."""
    return x.reshape(-1, *x.shape[2:])


def _plane(geometry: Geometry) -> Geometry:
    """The geometry within a slice."""
    return Geometry(geometry.stride[1:], geometry.padding[1:], geometry.dilation[1:], geometry.groups)


def _axis(size: int, kernel: int, out: int, geometry: Geometry) -> tuple[int, ...]:
    """The arguments of `axis_taps` for the depth."""
    return size, kernel, out, geometry.stride[0], geometry.padding[0], geometry.dilation[0]
