"""conv2d, `naive`: the definition, one loop for each index. Slow; to read, and to compare the others with.

The three kernels are the formulas of derivation.md. Each result is one sum in the variable `total`: a Python float, so
it is added up in float64 whatever the dtype of the arrays. That costs nothing here, because each addition waits for the
one before, and it makes `naive` a judge of the rounding errors of the faster versions.

Why it is slow: two elements are loaded for each multiply-add, every addition waits for the one before, and because
floating-point additions must not be reordered, the compiler may not use the vector units: 1 of their 16 lanes works.

Each task writes its own part of the *result*: one image, or one tap of the weights. So no two threads write to one
element.
"""

from __future__ import annotations

import numpy as np

from ...backends import memory
from ...backends.numba.jit import jit
from ...backends.numba.tasks import in_parallel
from .._cpu.parts import whole
from .._shared.epilogue import PLAIN, Epilogue
from .._shared.geometry import Bias, Geometry, Images, Pair
from .epilogue import finish


def forward(x: Images, w: np.ndarray, b: Bias, geometry: Geometry, epilogue: Epilogue = PLAIN) -> np.ndarray:
    """y[n, oy, ox, co] = epilogue(b[co] + sum over ky, kx, ci of x[n, iy, ix, ci] w[ky, kx, ci, co])."""
    x = whole(x)
    y = memory.empty((len(x), *geometry.output_size(x.shape[1:3], w.shape[:2]), w.shape[3]), x.dtype)
    bias = np.zeros(w.shape[3], x.dtype) if b is None else whole(b)
    _forward(x, whole(w), bias, y, geometry)
    finish(y, epilogue)
    return y


def backward_input(gy: np.ndarray, w: np.ndarray, input_size: Pair, geometry: Geometry) -> np.ndarray:
    """gx[n, iy, ix, ci] = sum over co and all (oy, ky), (ox, kx) that read this pixel of gy w."""
    gx = memory.empty((len(gy), *input_size, w.shape[2] * geometry.groups), gy.dtype)
    _backward_input(whole(gy), whole(w), gx, geometry)
    return gx


def backward_weight(x: np.ndarray, gy: np.ndarray, kernel_size: Pair, geometry: Geometry) -> np.ndarray:
    """gw[ky, kx, ci, co] = sum over n, oy, ox of x[n, iy, ix, ci] gy[n, oy, ox, co]."""
    gw = memory.empty((*kernel_size, x.shape[3] // geometry.groups, gy.shape[3]), x.dtype)
    _backward_weight(whole(x), whole(gy), gw, geometry)
    return gw


@jit
def _forward(x, w, b, y, geometry):
    in_parallel(_forward_image, len(x), (x, w, b, y, geometry))


@jit(separate=True)
def _forward_image(n, x, w, b, y, geometry):
    stride, padding, dilation, groups = geometry
    _, height, width, _ = x.shape
    kh, kw, i_group, c_out = w.shape
    o_group = c_out // groups
    for oy in range(y.shape[1]):
        for ox in range(y.shape[2]):
            for co in range(c_out):
                first = co // o_group * i_group  # the first input channel of this output channel's group
                total = 0.0
                for ky in range(kh):
                    iy = oy * stride[0] + ky * dilation[0] - padding[0]
                    for kx in range(kw):
                        ix = ox * stride[1] + kx * dilation[1] - padding[1]
                        if 0 <= iy < height and 0 <= ix < width:
                            for ci in range(i_group):
                                total += x[n, iy, ix, first + ci] * w[ky, kx, ci, co]
                y[n, oy, ox, co] = total + b[co]


@jit
def _backward_input(gy, w, gx, geometry):
    in_parallel(_backward_input_image, len(gy), (gy, w, gx, geometry))


@jit(separate=True)
def _backward_input_image(n, gy, w, gx, geometry):
    stride, padding, dilation, groups = geometry
    _, oh, ow, _ = gy.shape
    kh, kw, i_group, c_out = w.shape
    o_group = c_out // groups
    for iy in range(gx.shape[1]):
        for ix in range(gx.shape[2]):
            for c in range(gx.shape[3]):
                first, ci = c // i_group * o_group, c % i_group
                total = 0.0
                for ky in range(kh):
                    oy, rest_y = divmod(iy + padding[0] - ky * dilation[0], stride[0])
                    for kx in range(kw):
                        ox, rest_x = divmod(ix + padding[1] - kx * dilation[1], stride[1])
                        if rest_y == 0 and rest_x == 0 and 0 <= oy < oh and 0 <= ox < ow:
                            for co in range(first, first + o_group):
                                total += gy[n, oy, ox, co] * w[ky, kx, ci, co]
                gx[n, iy, ix, c] = total


@jit
def _backward_weight(x, gy, gw, geometry):
    in_parallel(_backward_weight_tap, gw.shape[0] * gw.shape[1], (x, gy, gw, geometry))


@jit(separate=True)
def _backward_weight_tap(tap, x, gy, gw, geometry):
    stride, padding, dilation, groups = geometry
    n_images, height, width, _ = x.shape
    _, oh, ow, c_out = gy.shape
    _, kw, i_group, _ = gw.shape
    o_group = c_out // groups
    ky, kx = tap // kw, tap % kw
    for ci in range(i_group):
        for co in range(c_out):
            first = co // o_group * i_group
            total = 0.0
            for n in range(n_images):
                for oy in range(oh):
                    iy = oy * stride[0] + ky * dilation[0] - padding[0]
                    for ox in range(ow):
                        ix = ox * stride[1] + kx * dilation[1] - padding[1]
                        if 0 <= iy < height and 0 <= ix < width:
                            total += x[n, iy, ix, first + ci] * gy[n, oy, ox, co]
            gw[ky, kx, ci, co] = total
