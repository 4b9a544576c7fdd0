"""`export_onnx`: run a model once, record its operations, and write them as a graph of ONNX."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ... import __version__
from ...errors import how_to_install
from ...files import atomic_path
from ...nn.module import Module
from .graph import Graph
from .nodes import EMIT
from .trace import Trace, dependent_on_values, key, trace

OPSET = 18


def export_onnx(path: str | os.PathLike, model: Module, *examples: np.ndarray) -> None:
    """Write a model to a file which onnxruntime and other programs run, in evaluation mode.

    examples: an array for each argument of the model. Their shapes and dtypes are those that the file takes; their
    values do not matter. The inputs are called input_0, input_1, ..., the outputs output_0, output_1, ...; arrays keep
    tinynet's order of axes, channels last. Parameters keep their names, such as "0.weight".
    Needs the package onnx (ImportError says how to install it).

    Raises TypeError if the model is no Module or returns no Tensors, and ValueError if an operation of the model has no
    counterpart in ONNX (losses, sampling at points, nn.Embedding), or if the list of operations depends on the values
    of the input.
    Source: ONNX, operator set 18; its LSTM is a Scan.
    """
    try:
        import onnx
    except ImportError:
        raise ImportError(f"export_onnx needs the package onnx: {how_to_install('onnx')}") from None
    if not isinstance(model, Module):
        raise TypeError(f"export_onnx: model is a {type(model).__name__}; a Module is needed")
    if not examples:
        raise ValueError("export_onnx: an example of the model's input is needed, such as np.zeros((1, 64, 64, 3))")
    arrays = [np.asarray(example) for example in examples]
    rng = np.random.default_rng(0)
    first, second = trace(model, arrays), trace(model, [_other_values(a, rng) for a in arrays])
    culprit = dependent_on_values(first, second)
    if culprit is not None:
        raise ValueError(
            f"export_onnx: what {culprit} computes depends on the values of the input, so no list of "
            "operations describes it; export the part of the model before it"
        )
    proto = onnx.helper.make_model(
        build(first, {key(p): name for name, p in model.named_parameters()}),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="tinynet",
        producer_version=__version__,
        ir_version=9,  # read by programs since 2023
    )
    onnx.checker.check_model(proto, full_check=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def _other_values(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An array of the same kind with other values."""
    if array.dtype.kind == "f":
        return (array + rng.standard_normal(array.shape)).astype(array.dtype)
    return rng.permutation(array.ravel()).reshape(array.shape)


def build(run: Trace, parameters: dict[int, str]) -> Any:
    """The graph of a recorded run. parameters: key of a parameter -> its name."""
    from onnx import helper, numpy_helper

    graph = Graph()
    for number, tensor in enumerate(run.inputs):
        graph.names[key(tensor)] = f"input_{number}"
    for call in run.calls:
        for argument in call.arguments:
            if key(argument) in parameters and key(argument) not in graph.names:
                graph.names[key(argument)] = graph.store(argument.numpy(), parameters[key(argument)])
        _emit(graph, call)
    for number, tensor in enumerate(run.outputs):
        graph.add("Identity", graph.name_of(tensor))
        graph.nodes[-1].output[0] = f"output_{number}"
    return helper.make_graph(
        graph.nodes,
        "tinynet",
        [_info(f"input_{i}", tensor) for i, tensor in enumerate(run.inputs)],
        [_info(f"output_{i}", tensor) for i, tensor in enumerate(run.outputs)],
        [numpy_helper.from_array(array, name) for name, array in graph.arrays_in_use().items()],
    )


def _emit(graph: Graph, call: Any) -> None:
    """Add the nodes of a call, and name its outputs."""
    if call.function not in EMIT:
        raise ValueError(f"export_onnx: the operation {call.function.op_name()} has no counterpart in ONNX here")
    dtype = call.outputs[0].dtype
    names = EMIT[call.function](graph, call, [graph.name_of(argument, dtype) for argument in call.arguments])
    for tensor, name in zip(call.outputs, (names,) if isinstance(names, str) else names):
        graph.names[key(tensor)] = name


def _info(name: str, tensor: Any) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(tensor.dtype), list(tensor.shape))
