"""`tn.draw_graph`: boxes and arrows of the drawing are the nodes and edges of the graph."""

from xml.etree import ElementTree

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.imaging.graph import add_bends, collect, place_in_rows

SVG = "{http://www.w3.org/2000/svg}"


class Residual(nn.Module):
    """x -> relu(conv(x) + x), with a parameter that is used twice."""

    def __init__(self):
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)

    def forward(self, x):
        return tn.relu(self.conv(self.conv(x)) + x)


def texts(drawing):
    return [element.text for element in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def test_each_node_is_drawn_once_with_its_name_and_shape():
    model = Residual()
    x = tn.tensor(np.ones((1, 4, 5, 2), np.float32), requires_grad=True)
    drawing = tn.draw_graph(model(x).sum(), model)
    found = texts(drawing)
    assert sorted(found[::2]) == sorted(["conv.weight", "tensor", "Conv2d", "Conv2d", "Add", "Relu", "Sum"])
    assert found[found.index("conv.weight") + 1] == "(3, 3, 2, 2)" and found[-1] == "()"
    assert texts(drawing._repr_svg_()) == found


def test_arrows_lead_down_and_long_ones_have_bends():
    x = tn.tensor(np.ones((1, 4, 5, 2), np.float32), requires_grad=True)
    boxes, edges = collect(Residual()(x).sum(), {})
    assert len(edges) == 8  # weight and input of two convolutions, two of the addition, relu, sum
    place_in_rows(boxes, edges)
    assert all(boxes[source].row < boxes[target].row for source, target in edges)
    for source, target in add_bends(boxes, edges):
        assert boxes[target].row - boxes[source].row == 1
    assert sum(box.kind == "bend" for box in boxes) == 3  # the weight goes from row 0 to 2, x to 3


def test_inputs_without_gradient_and_names_that_are_no_xml():
    loss = tn.softmax_cross_entropy(nn.Linear(3, 2)(tn.tensor(np.ones((1, 3), np.float32))), np.array([1]))
    drawing = tn.draw_graph(loss)
    assert "input" in texts(drawing) and "parameter" in texts(drawing)
    model = nn.Linear(3, 2)
    model.named_parameters = lambda: iter([("<a & b>", model.weight)])
    assert "<a & b>" in texts(tn.draw_graph(model(tn.tensor(np.ones((1, 3), np.float32))), model))


def test_a_deep_graph_needs_no_recursion(tmp_path):
    y = tn.tensor(np.ones(1, np.float32), requires_grad=True)
    for _ in range(1500):
        y = y + 1
    tn.draw_graph(y).save(tmp_path / "deep.svg")
    assert len(texts((tmp_path / "deep.svg").read_text(encoding="utf-8"))) == 2 * 1501


def test_what_cannot_be_drawn_is_named():
    x = tn.tensor(np.ones(3, np.float32), requires_grad=True)
    loss = (x * x).sum()
    with pytest.raises(TypeError, match="output is a ndarray; a Tensor is needed"):
        tn.draw_graph(np.ones(3))
    with pytest.raises(ValueError, match="output has no history"):
        tn.draw_graph(x)
    loss.backward()
    with pytest.raises(RuntimeError, match=r"backward\(\) has freed the graph at _?Sum; draw it before"):
        tn.draw_graph(loss)
