"""For each operation of tinynet its nodes in ONNX.

A function here gets the graph, the recorded call and the names of its arguments, adds nodes, and returns the name of
the output, or the names of several outputs. Source: the operators of ONNX, operator set 18.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...engine import arguments, elementwise, reductions, shapes
from ...engine.tensor import Function
from ...ops._composed import functions
from ...ops._shared.geometry import Geometry
from ...ops.activations import entries as activations
from ...ops.avg_pool2d.op import AvgPool2d
from ...ops.batch_norm.op import BatchNorm, NormalizedByConstants
from ...ops.concat.op import Concat
from ...ops.conv2d.op import Conv2d
from ...ops.conv3d.op import BackwardInput as ConvTranspose3d
from ...ops.conv3d.op import Conv3d
from ...ops.conv_elu_dropout.op import EluDropout
from ...ops.conv_transpose2d.op import ConvTranspose2d
from ...ops.dropout.op import Dropout
from ...ops.local_response_norm.op import LocalResponseNorm
from ...ops.lstm.op import LSTM
from ...ops.matmul.op import MatMul
from ...ops.max_pool2d.op import MaxPool2d
from ...ops.max_unpool2d.op import MaxUnpool2d
from ...ops.maxout.op import Maxout
from ...ops.prelu.op import Prelu
from ...ops.resize.op import Resize
from ...ops.resize.op import forward as resize_rows
from .graph import Graph
from .scan import lstm
from .trace import Call

Emit = Callable[[Graph, Call, list[str]], Any]
EMIT: dict[type[Function], Emit] = {}


def emits(*functions: type[Function]) -> Callable[[Emit], Emit]:
    """Enter a function in the table, for these operations."""

    def enter(emit: Emit) -> Emit:
        EMIT.update(dict.fromkeys(functions, emit))
        return emit

    return enter


def same_op(op: str, *functions: type[Function]) -> None:
    """Operations that ONNX has, too, with the same arguments."""
    EMIT.update(dict.fromkeys(functions, lambda graph, call, names: graph.add(op, *names)))


for _op, _function in {
    **{"Add": elementwise._Add, "Sub": elementwise._Sub, "Mul": elementwise._Mul, "Div": elementwise._Div},
    **{"Neg": elementwise._Neg, "Max": elementwise._Maximum, "Min": elementwise._Minimum, "Exp": elementwise._Exp},
    **{"Log": elementwise._Log, "Sqrt": elementwise._Sqrt, "Abs": elementwise._Abs, "Clip": elementwise._Clip},
    **{"Where": elementwise._Where, "Identity": functions._Clone, "Sin": functions._Sin, "Cos": functions._Cos},
    **{"Relu": activations.Relu, "Sigmoid": activations.Sigmoid, "Tanh": activations.Tanh},
    **{"Softplus": activations.Softplus, "PRelu": Prelu},
}.items():
    same_op(_op, _function)
same_op("Pow", elementwise._Pow, elementwise._PowScalar)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape)


# ---------------------------------------------------------------------------------------- activations
@emits(activations.Elu)
def _elu(graph: Graph, call: Call, names: list[str]) -> str:
    return graph.add("Elu", names[0], alpha=float(call.parameters["alpha"]))


@emits(activations.LeakyRelu)
def _leaky_relu(graph: Graph, call: Call, names: list[str]) -> str:
    return graph.add("LeakyRelu", names[0], alpha=float(call.parameters["slope"]))


@emits(activations.Relu6)
def _relu6(graph: Graph, call: Call, names: list[str]) -> str:
    dtype = call.outputs[0].dtype
    return graph.add("Clip", names[0], graph.store(np.zeros((), dtype)), graph.store(np.full((), 6, dtype)))


@emits(Maxout)
def _maxout(graph: Graph, call: Call, names: list[str]) -> str:
    groups = graph.add("Reshape", names[0], graph.integers(*_shape(call.outputs[0]), call.parameters["pieces"]))
    return graph.add("ReduceMax", groups, graph.integers(-1), keepdims=0)


@emits(Dropout)
def _dropout(graph: Graph, call: Call, names: list[str]) -> str:
    _check_dropout(call.parameters["p"])
    return names[0]


def _check_dropout(p: float) -> None:
    if p:
        raise ValueError("export_onnx: dropout is active in evaluation mode; such a model cannot be exported")


# ---------------------------------------------------------------------------------------- convolutions
def _window(geometry: Geometry) -> dict[str, Any]:
    """The attributes of a convolution or pooling."""
    return {"strides": geometry.stride, "pads": (*geometry.padding, *geometry.padding)}


def _convolution(graph: Graph, names: list[str], weight: str, bias: str, geometry: Geometry) -> str:
    """The nodes of a convolution of an image or a volume. names: of x, or of several x with channels in a row."""
    ndim = 2 + len(geometry.stride)
    x = graph.add("Concat", *names, axis=-1) if len(names) > 1 else names[0]
    kernel = graph.transposed(weight, (ndim - 1, ndim - 2, *range(ndim - 2)))
    inputs = [graph.channels_first(x, ndim), kernel, *([bias] if bias else [])]
    y = graph.add("Conv", *inputs, **_window(geometry), dilations=geometry.dilation, group=geometry.groups)
    return graph.channels_last(y, ndim)


@emits(Conv2d)
def _conv2d(graph: Graph, call: Call, names: list[str]) -> str:
    weight, bias, *inputs = names
    return _convolution(graph, inputs, weight, bias, call.parameters["geometry"])


@emits(EluDropout)
def _elu_dropout(graph: Graph, call: Call, names: list[str]) -> str:
    epilogue = call.parameters["epilogue"]
    _check_dropout(epilogue.p)
    return graph.add("Elu", names[0], alpha=float(epilogue.alpha))


@emits(Conv3d)
def _conv3d(graph: Graph, call: Call, names: list[str]) -> str:
    x, weight, bias = names
    return _convolution(graph, [x], weight, bias, call.parameters["geometry"])


def _transposed_convolution(graph: Graph, call: Call, names: list[str], size: tuple[int, ...]) -> str:
    """size: of the output, which says how many pixels are added at the far end."""
    geometry, (x, weight, *bias) = call.parameters["geometry"], names
    ndim, kernel = 2 + len(size), _shape(call.arguments[1])
    axes = zip(size, _shape(call.arguments[0])[1:-1], kernel, geometry.stride, geometry.padding, geometry.dilation)
    extra = [out - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for out, n, k, s, p, d in axes]
    w = graph.transposed(weight, (ndim - 1, ndim - 2, *range(ndim - 2)))
    inputs = [graph.channels_first(x, ndim), w, *filter(None, bias)]
    attributes = {**_window(geometry), "dilations": geometry.dilation, "group": geometry.groups}
    y = graph.add("ConvTranspose", *inputs, output_padding=extra, **attributes)
    return graph.channels_last(y, ndim)


@emits(ConvTranspose2d)
def _conv_transpose2d(graph: Graph, call: Call, names: list[str]) -> str:
    return _transposed_convolution(graph, call, names, call.parameters["output_size"])


@emits(ConvTranspose3d)
def _conv_transpose3d(graph: Graph, call: Call, names: list[str]) -> str:
    return _transposed_convolution(graph, call, names, call.parameters["input_size"])


# ---------------------------------------------------------------------------------------- pooling
@emits(MaxPool2d)
def _max_pool2d(graph: Graph, call: Call, names: list[str]) -> tuple[str, str]:
    """(y, indices). ONNX counts an index through all images and channels, tinynet in the plane of one of them."""
    height, width = _shape(call.arguments[0])[1:3]
    attributes = {**_window(call.parameters["geometry"]), "kernel_shape": call.parameters["kernel_size"]}
    y, places = graph.add("MaxPool", graph.channels_first(names[0], 4), outputs=2, **attributes)
    in_plane = graph.add("Mod", places, graph.integers(height * width))
    return graph.channels_last(y, 4), graph.channels_last(in_plane, 4)


@emits(MaxUnpool2d)
def _max_unpool2d(graph: Graph, call: Call, names: list[str]) -> str:
    (n, rows, columns, channels), (height, width) = _shape(call.arguments[0]), call.parameters["size"]
    flat = graph.integers(n, channels, rows * columns)
    y, places = (graph.add("Reshape", graph.channels_first(name, 4), flat) for name in names)
    zeros = graph.store(np.zeros((n, channels, height * width), call.outputs[0].dtype))
    long_places = graph.add("Cast", places, to=7)  # int64
    x = graph.add("ScatterElements", zeros, long_places, y, axis=2, reduction="add")
    return graph.channels_last(graph.add("Reshape", x, graph.integers(n, channels, height, width)), 4)


@emits(AvgPool2d)
def _avg_pool2d(graph: Graph, call: Call, names: list[str]) -> str:
    attributes = {**_window(call.parameters["geometry"]), "kernel_shape": call.parameters["kernel_size"]}
    y = graph.add("AveragePool", graph.channels_first(names[0], 4), count_include_pad=1, **attributes)
    return graph.channels_last(y, 4)


@emits(Resize)
def _resize(graph: Graph, call: Call, names: list[str]) -> str:
    """Resizing an axis is linear: a matrix, whose columns are the resized unit vectors, times x."""
    x = call.arguments[0]
    unit = np.eye(x.shape[1], dtype=x.dtype)[None]
    matrix = resize_rows(unit, call.parameters["size"], call.parameters["mode"])[0]
    return graph.add("MatMul", graph.store(matrix), names[0])


# ---------------------------------------------------------------------------------------- normalization
@emits(NormalizedByConstants)
def _normalized(graph: Graph, call: Call, names: list[str]) -> str:
    """(x - mean) scale + beta, with scale = gamma / sqrt(var + eps)."""
    mean, var = (graph.name_of(call.parameters[name]) for name in ("mean", "var"))
    return _normalize(graph, names, mean, var, call)


@emits(BatchNorm)
def _batch_norm(graph: Graph, call: Call, names: list[str]) -> tuple[str, str, str]:
    """(y, mean, var) with the statistics of x; instance norm is made of it."""
    axes = graph.integers(*range(len(_shape(call.arguments[0])) - 1))
    mean = graph.add("ReduceMean", names[0], axes, keepdims=0)
    distance = graph.add("Sub", names[0], mean)
    var = graph.add("ReduceMean", graph.add("Mul", distance, distance), axes, keepdims=0)
    return _normalize(graph, names, mean, var, call), mean, var


def _normalize(graph: Graph, names: list[str], mean: str, var: str, call: Call) -> str:
    x, gamma, beta = names
    eps = graph.store(np.asarray(call.parameters["eps"], call.outputs[0].dtype))
    scale = graph.add("Div", gamma, graph.add("Sqrt", graph.add("Add", var, eps)))
    return graph.add("Add", graph.add("Mul", graph.add("Sub", x, mean), scale), beta)


@emits(LocalResponseNorm)
def _local_response_norm(graph: Graph, call: Call, names: list[str]) -> str:
    """ONNX divides alpha by the number of channels in the window."""
    size, k, alpha, beta = (call.parameters[name] for name in ("size", "k", "alpha", "beta"))
    ndim = len(_shape(call.arguments[0]))
    y = graph.add("LRN", graph.channels_first(names[0], ndim), size=size, alpha=alpha * size, beta=beta, bias=k)
    return graph.channels_last(y, ndim)


# ---------------------------------------------------------------------------------------- shapes and sums
@emits(shapes._Reshape)
def _reshape(graph: Graph, call: Call, names: list[str]) -> str:
    return graph.add("Reshape", names[0], graph.integers(*_shape(call.outputs[0])), allowzero=1)


@emits(shapes._BroadcastTo)
def _broadcast_to(graph: Graph, call: Call, names: list[str]) -> str:
    return graph.add("Expand", names[0], graph.integers(*_shape(call.outputs[0])))


@emits(shapes._Transpose)
def _transpose(graph: Graph, call: Call, names: list[str]) -> str:
    return graph.add("Transpose", names[0], perm=call.parameters["axes"])


@emits(shapes._Pad)
def _pad(graph: Graph, call: Call, names: list[str]) -> str:
    before, after = zip(*call.parameters["widths"])
    value = graph.store(np.asarray(call.parameters["value"], call.outputs[0].dtype))
    return graph.add("Pad", names[0], graph.integers(*before, *after), value)


@emits(shapes._Sum)
def _sum(graph: Graph, call: Call, names: list[str]) -> str:
    axes = graph.integers(*call.parameters["axes"])
    return graph.add("ReduceSum", names[0], axes, keepdims=int(call.parameters["keepdims"]), noop_with_empty_axes=1)


@emits(reductions._LogSumExp)
def _log_sum_exp(graph: Graph, call: Call, names: list[str]) -> str:
    return graph.add("ReduceLogSumExp", names[0], graph.integers(*call.parameters["axes"]), keepdims=1)


@emits(reductions._Extreme)
def _extreme(graph: Graph, call: Call, names: list[str]) -> str:
    op = {"argmax": "ReduceMax", "argmin": "ReduceMin"}[call.parameters["argument"]]
    return graph.add(op, names[0], graph.integers(-1), keepdims=0)


@emits(reductions._Softmax, reductions._LogSoftmax)
def _softmax(graph: Graph, call: Call, names: list[str]) -> str:
    op = "Softmax" if call.function is reductions._Softmax else "LogSoftmax"
    axes = call.parameters["axis"]
    (axis,) = axes if isinstance(axes, tuple) else (axes,)
    return graph.add(op, names[0], axis=axis)


@emits(functions._CumSum)
def _cum_sum(graph: Graph, call: Call, names: list[str]) -> str:
    return graph.add("CumSum", names[0], graph.store(np.array(call.parameters["axis"], np.int64)))


@emits(Concat)
def _concat(graph: Graph, call: Call, names: list[str]) -> str:
    return graph.add("Concat", *names, axis=call.parameters["axis"])


@emits(arguments._ToDevice)
def _to_device(graph: Graph, call: Call, names: list[str]) -> str:
    return names[0]


@emits(arguments._AsType)
def _as_type(graph: Graph, call: Call, names: list[str]) -> str:
    from onnx.helper import np_dtype_to_tensor_dtype

    return graph.add("Cast", names[0], to=np_dtype_to_tensor_dtype(np.dtype(call.parameters["dtype"])))


@emits(MatMul)
def _matmul(graph: Graph, call: Call, names: list[str]) -> str:
    operands = []
    for name, argument, key in zip(names, call.arguments, ("transpose_x", "transpose_y")):
        ndim = len(_shape(argument))
        last = (*range(ndim - 2), ndim - 1, ndim - 2)
        operands.append(graph.transposed(name, last) if call.parameters.get(key) else name)
    product = graph.add("MatMul", *operands)
    return graph.add("Add", product, names[2]) if len(names) > 2 else product


emits(LSTM)(lstm)


# ---------------------------------------------------------------------------------------- indexing
@emits(shapes._GetItem)
def _get_item(graph: Graph, call: Call, names: list[str]) -> str:
    """x[index]: slices first, then the axes with a whole number or one array, then new axes."""
    ndim = len(_shape(call.arguments[0]))
    parts = _without_ellipsis(call.parameters["index"], ndim)
    on_axes = [part for part in parts if part is not None]
    y = _sliced(graph, names[0], on_axes, _shape(call.arguments[0]))
    arrays = [axis for axis, part in enumerate(on_axes) if not isinstance(part, (slice, int, np.integer))]
    numbers = [axis for axis, part in enumerate(on_axes) if not isinstance(part, slice)]
    if (arrays and len(numbers) > 1) or any(on_axes[axis].dtype.kind == "b" for axis in arrays):
        raise ValueError("export_onnx: indexing by booleans, or by arrays and numbers on two axes, cannot be exported")
    for axis in reversed(range(len(on_axes))):  # from the last one, so that earlier axes keep their numbers
        if not isinstance(on_axes[axis], slice):
            y = graph.add("Gather", y, graph.name_of(on_axes[axis], np.int64), axis=axis)
    kept = [part for part in parts if part is None or not isinstance(part, (int, np.integer))]
    new = [axis for axis, part in enumerate(kept) if part is None]
    return graph.add("Unsqueeze", y, graph.integers(*new)) if new else y


def _without_ellipsis(index: tuple, ndim: int) -> list:
    """The index with one part for each axis, and None for each new axis."""
    parts = [part for part in index if part is not Ellipsis]
    missing = [slice(None)] * (ndim - sum(part is not None for part in parts))
    place = next((i for i, part in enumerate(index) if part is Ellipsis), len(index))
    return [*parts[:place], *missing, *parts[place:]]


def _sliced(graph: Graph, name: str, parts: list, shape: tuple[int, ...]) -> str:
    ranges = [(axis, range(shape[axis])[part]) for axis, part in enumerate(parts) if isinstance(part, slice)]
    cut = [(axis, r) for axis, r in ranges if r != range(shape[axis])]
    if not cut:
        return name
    # Going down to the first element, a range ends at -1, which ONNX would read as "the last one".
    ends = [r.stop if r.stop >= 0 else -shape[axis] - 1 for axis, r in cut]
    starts, axes, steps = [r.start for _, r in cut], [axis for axis, _ in cut], [r.step for _, r in cut]
    return graph.add("Slice", name, *(graph.integers(*values) for values in (starts, ends, axes, steps)))
