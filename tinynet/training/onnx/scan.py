"""The LSTM as a loop of ONNX: `Scan` runs a small graph once for each step."""

from __future__ import annotations

import numpy as np

from .graph import Graph
from .trace import Call


def lstm(graph: Graph, call: Call, names: list[str]) -> str:
    """The states (2, T, N, H) of `lstm`. ops/lstm/derivation.md has the formulas.

    ONNX has an operator LSTM, too; it returns c of the last step only, and `lstm` returns all of them.
    """
    from onnx import TensorProto, helper

    a, weight, h, c = names[:4]
    steps, samples, width = call.arguments[0].shape
    lengths = call.arguments[4]
    limits = np.full(samples, steps) if lengths is None else np.asarray(lengths)
    goes_on = graph.store((np.arange(steps)[:, None] < limits)[..., None])  # (T, N, 1)
    kind = helper.np_dtype_to_tensor_dtype(call.arguments[0].dtype)
    state = [samples, width // 4]
    body = helper.make_graph(
        _step(weight),
        "step",
        [
            *(helper.make_tensor_value_info(name, kind, state) for name in ("h", "c")),
            helper.make_tensor_value_info("a", kind, [samples, width]),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, [samples, 1]),
        ],
        [helper.make_tensor_value_info(name, kind, state) for name in ("h_next", "c_next", "h_out", "c_out")],
    )
    _, _, all_h, all_c = graph.add("Scan", h, c, a, goes_on, outputs=4, num_scan_inputs=2, body=body)
    return graph.add("Concat", *(graph.add("Unsqueeze", s, graph.integers(0)) for s in (all_h, all_c)), axis=0)


def _step(weight: str) -> list:
    """The nodes of one step. The graph around it knows the name `weight`."""
    from onnx.helper import make_node

    return [
        make_node("MatMul", ["h", weight], ["from_h"]),
        make_node("Add", ["a", "from_h"], ["z"]),
        make_node("Split", ["z"], ["z_i", "z_f", "z_g", "z_o"], axis=1, num_outputs=4),
        *(make_node("Sigmoid", [f"z_{gate}"], [gate]) for gate in "ifo"),
        make_node("Tanh", ["z_g"], ["g"]),
        make_node("Mul", ["f", "c"], ["kept"]),
        make_node("Mul", ["i", "g"], ["added"]),
        make_node("Add", ["kept", "added"], ["c_new"]),
        make_node("Tanh", ["c_new"], ["tanh_c"]),
        make_node("Mul", ["o", "tanh_c"], ["h_new"]),
        make_node("Where", ["goes_on", "h_new", "h"], ["h_next"]),
        make_node("Where", ["goes_on", "c_new", "c"], ["c_next"]),
        make_node("Identity", ["h_next"], ["h_out"]),
        make_node("Identity", ["c_next"], ["c_out"]),
    ]
