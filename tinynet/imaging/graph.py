"""`draw_graph`: the graph that `backward` walks, as a drawing (SVG).

Each box is a node of the graph: an operation with the shape of its output, or a leaf. Each arrow goes from the output
of one node to an input of another. The layout is that of Sugiyama, Tagawa, Toda, Methods for visual understanding of
hierarchical system structures, IEEE Transactions on Systems, Man, and Cybernetics 11(2), 1981: every box gets a row
(step 1), an arrow that crosses rows gets a bend in each of them (step 2), and the boxes of a row are sorted by the mean
position of their neighbors, so that few arrows cross (step 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from ..engine.tensor import Function, Tensor
from ..files import atomic_path
from ..nn.module import Module

ROW, HEIGHT, GAP, LETTER = 66, 38, 22, 7.2  # pixels: between rows, of a box, between boxes, of a letter
FILLS = {"operation": "#dbe9f6", "parameter": "#fbe3c0", "input": "#e6e6e6", "bend": "none"}


class GraphDrawing(str):
    """The text of an SVG image. A notebook shows it as an image; `save(path)` writes it to a file."""

    def _repr_svg_(self) -> str:
        return str(self)

    def save(self, path: str | Path) -> None:
        """Write the image to a file, which a browser shows."""
        with atomic_path(Path(path)) as temporary:
            temporary.write_text(self, encoding="utf-8")


@dataclass
class Box:
    """A node of the drawing. A "bend" is a place where a long arrow passes through a row."""

    title: str
    detail: str  # the shape
    kind: str
    row: int = 0
    x: float = 0.0  # of the middle, in pixels

    @property
    def width(self) -> float:
        return 0 if self.kind == "bend" else 16 + LETTER * max(len(self.title), len(self.detail))


Edges = list[tuple[int, int]]  # from box, to box


def draw_graph(output: Tensor, model: Module | None = None) -> GraphDrawing:
    """The graph of a tensor as an SVG image, inputs at the top and `output` at the bottom.

    output: a tensor with history, such as a loss. Draw it before `backward()`, which frees the graph.
    model: gives its parameters their names, such as "0.weight"; without it a parameter is called "parameter".
    Orange boxes are leaves that receive a gradient; gray boxes are inputs without one. Raises TypeError if output is no
    Tensor, ValueError if it has no history, RuntimeError if its graph is freed.
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"draw_graph: output is a {type(output).__name__}; a Tensor is needed")
    if output.creator is None:
        raise ValueError("draw_graph: output has no history: no operation with requires_grad=True led to it")
    names = {id(p): name for name, p in model.named_parameters()} if model is not None else {}
    boxes, edges = collect(output, names)
    place_in_rows(boxes, edges)
    edges = add_bends(boxes, edges)
    rows = sort_rows(boxes, edges)
    return GraphDrawing(to_svg(boxes, edges, place_in_columns(rows)))


# ---------------------------------------------------------------------------------------- what is drawn
def collect(output: Tensor, names: Mapping[int, str]) -> tuple[list[Box], Edges]:
    """(boxes, edges) of the graph of `output`; each box comes after the boxes that point to it."""
    boxes: list[Box] = []
    edges: Edges = []
    shapes = {id(output.node): output.shape}  # a function does not keep its output; its readers know the shape
    numbers: dict[int, int] = {}  # id of a node -> number of its box
    waiting = [output.node]
    while waiting:
        node = waiting[-1]
        inputs = _inputs(node)
        shapes.update({id(source): kind[0] for source, kind in inputs if source is not None})
        missing = [source for source, _ in inputs if source is not None and id(source) not in numbers]
        if missing:
            waiting.append(missing[0])
            continue
        waiting.pop()
        sources = [numbers[id(source)] for source, _ in inputs if source is not None]
        for source, kind in inputs:
            if source is None and kind is not None:  # a tensor that needs no gradient
                sources.append(len(boxes))
                boxes.append(Box("input", str(kind[0]), "input"))
        numbers[id(node)] = len(boxes)
        edges += [(source, len(boxes)) for source in sources]
        boxes.append(_box(node, shapes[id(node)], names))
    return boxes, edges


def _inputs(node: Function | Tensor) -> list[tuple]:
    """(the node of an argument or None, its shape and dtype or None) for each argument of a function."""
    if isinstance(node, Tensor):
        return []
    if node.inputs is None:
        raise RuntimeError(f"draw_graph: backward() has freed the graph at {type(node).__name__}; draw it before")
    return list(zip(node.inputs, node._input_kinds))


def _box(node: Function | Tensor, shape: tuple[int, ...], names: Mapping[int, str]) -> Box:
    if isinstance(node, Tensor):
        return Box(names.get(id(node), "parameter" if type(node) is not Tensor else "tensor"), str(shape), "parameter")
    return Box(type(node).__name__.lstrip("_"), str(shape), "operation")


# ---------------------------------------------------------------------------------------- where it is drawn
def place_in_rows(boxes: list[Box], edges: Edges) -> None:
    """Step 1: an operation is one row below the lowest of its inputs; a leaf is right above its first reader."""
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        boxes[target].row = max(boxes[target].row, boxes[source].row + 1)
    readers: dict[int, int] = {}  # box -> row of its first reader
    for source, target in edges:
        readers[source] = min(readers.get(source, boxes[target].row), boxes[target].row)
    for source, row in readers.items():
        if boxes[source].kind != "operation":
            boxes[source].row = row - 1


def add_bends(boxes: list[Box], edges: Edges) -> Edges:
    """Step 2: the edges, where each joins boxes of neighboring rows; long ones are cut by boxes of kind "bend"."""
    short: Edges = []
    for source, target in edges:
        for row in range(boxes[source].row + 1, boxes[target].row):
            boxes.append(Box("", "", "bend", row))
            short.append((source, len(boxes) - 1))
            source = len(boxes) - 1
        short.append((source, target))
    return short


def sort_rows(boxes: list[Box], edges: Edges) -> list[list[Box]]:
    """Step 3: the boxes of each row from left to right, after two passes down and two up."""
    rows: list[list[int]] = [[] for _ in range(1 + max(box.row for box in boxes))]
    for number, box in enumerate(boxes):
        rows[box.row].append(number)
    above: list[list[int]] = [[] for _ in boxes]
    below: list[list[int]] = [[] for _ in boxes]
    for source, target in edges:
        above[target].append(source)
        below[source].append(target)
    for _ in range(2):
        for row, next_row in pairwise(rows):
            sort_by_neighbors(next_row, above, row)
        for row, next_row in pairwise(rows[::-1]):
            sort_by_neighbors(next_row, below, row)
    return [[boxes[number] for number in row] for row in rows]


def sort_by_neighbors(row: list[int], neighbors: list[list[int]], other_row: list[int]) -> None:
    """Sort a row by the mean position of its boxes' neighbors in the other row; a box without any keeps its place."""
    position = {number: place for place, number in enumerate(other_row)}
    means = {}
    for place, number in enumerate(row):
        near = [position[other] for other in neighbors[number]]
        means[number] = sum(near) / len(near) if near else place
    row.sort(key=means.__getitem__)


def place_in_columns(rows: list[list[Box]]) -> float:
    """Set x of every box, each row in the middle; return the width of the drawing in pixels."""
    widths = [sum(box.width for box in row) + GAP * (len(row) + 1) for row in rows]
    for row, width in zip(rows, widths):
        left = (max(widths) - width) / 2 + GAP
        for box in row:
            box.x = left + box.width / 2
            left += box.width + GAP
    return max(widths)


# ---------------------------------------------------------------------------------------- the drawing
def to_svg(boxes: list[Box], edges: Edges, width: float) -> str:
    """The text of the image; arrows first, so that boxes cover their ends."""
    height = ROW * (1 + max(box.row for box in boxes))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" font-family="sans-serif" font-size="12" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#666"/></marker></defs>',
        '<rect width="100%" height="100%" fill="white"/>',
        *(_arrow(boxes[source], boxes[target]) for source, target in edges),
        *(_rectangle(box) for box in boxes if box.kind != "bend"),
        "</svg>",
    ]
    return "\n".join(parts)


def _arrow(source: Box, target: Box) -> str:
    """A curve that leaves and arrives vertically."""
    top = source.row * ROW + (ROW / 2 if source.kind == "bend" else (ROW + HEIGHT) / 2)
    end = target.row * ROW + (ROW / 2 if target.kind == "bend" else (ROW - HEIGHT) / 2)
    middle = (top + end) / 2
    tip = "" if target.kind == "bend" else ' marker-end="url(#tip)"'
    curve = (
        f"M{source.x:.1f} {top:.1f} C{source.x:.1f} {middle:.1f} {target.x:.1f} {middle:.1f} {target.x:.1f} {end:.1f}"
    )
    return f'<path d="{curve}" fill="none" stroke="#666"{tip}/>'


def _rectangle(box: Box) -> str:
    """The box with its title and shape."""
    y = box.row * ROW + (ROW - HEIGHT) / 2
    return (
        f'<g><rect x="{box.x - box.width / 2:.1f}" y="{y}" width="{box.width:.1f}" height="{HEIGHT}" rx="5" '
        f'fill="{FILLS[box.kind]}" stroke="#888"/><text x="{box.x:.1f}" y="{y + 16}">{escape(box.title)}</text>'
        f'<text x="{box.x:.1f}" y="{y + 31}" fill="#444" font-size="11">{escape(box.detail)}</text></g>'
    )
