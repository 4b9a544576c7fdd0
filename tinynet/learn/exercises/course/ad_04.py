"""A diamond: gradients add up.

    x --+--> a --+--> y          a = 2 x,  b = 3 x,  y = a b
        |        |
        +--> b --+

x reaches y on two ways, and the gradient of x is the *sum* over both:  gx = ga 2 + gb 3. An engine goes through the
nodes backwards and lets every node hand on to its parents (its arguments) what it got itself.

The graph is given as two lists, one entry for each node, in the order in which the nodes were computed:

    parents[i]    the numbers of the nodes that node i was computed from, e.g. [1, 2]; [] for an input
    slopes[i]     for each of them the derivative d(node i)/d(that parent), e.g. [3.0, 2.0]

A node may be its own partner: y = a a has parents [1, 1]. Write the backward pass: the derivative of the *last* node
with respect to every node.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call

TEACHES = "what backward() does: reverse order, multiply along an edge, add where edges meet"
HINTS = (
    "What is the derivative of the last node with respect to itself? Start there and go backwards.",
    "When node i has its turn, all nodes that use it have had theirs, so its gradient is complete. It hands on "
    "gradient[i] times the slope of each edge.",
    "`gradient[parent] += gradient[i] * slope` for parent, slope in zip(parents[i], slopes[i]), for i from last to "
    "first.",
)


# ---- your file
def backward(parents, slopes):
    """d(last node)/d(node) for every node, as an array of len(parents) floats."""
    # ---- solution
    gradient = np.zeros(len(parents))
    gradient[-1] = 1.0
    for i in reversed(range(len(parents))):
        for parent, slope in zip(parents[i], slopes[i]):
            gradient[parent] += gradient[i] * slope
    return gradient
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "= for +=",
        "You write gradient[parent] = ...: the gradient of the way that comes last overwrites the others. "
        "Where ways meet, gradients are added: +=.",
        ("gradient[parent] +=", "gradient[parent] ="),
    ),
    Wrong(
        "slopes only",
        "The slopes along the edges are added but not multiplied by the gradient of the node they come from: right for "
        "the parents of the last node only.",
        ("gradient[i] * slope", "slope"),
    ),
    Wrong(
        "forward order",
        "You go through the nodes in the order in which they were computed. Then a node hands on before it has got "
        "anything: go backwards.",
        ("reversed(range(len(parents)))", "range(len(parents))"),
    ),
    Wrong(
        "an edge once",
        "A node that is used twice by the same node (y = a a) hands its gradient on once in your version: a dict or "
        "set keeps one of two equal parents. Both edges count.",
        ("zip(parents[i], slopes[i])", "dict(zip(parents[i], slopes[i])).items()"),
    ),
    Wrong(
        "no beginning",
        "The gradient of the last node with respect to itself is 1; you start with zeros, and zeros are all that "
        "is handed on.",
        ("gradient[-1] = 1.0", "gradient[-1] = 0.0"),
    ),
    Wrong(
        "slopes added along a way",
        "Along one way derivatives are multiplied (the chain rule), only where ways meet they are added; you add "
        "in both places.",
        ("gradient[i] * slope", "gradient[i] + slope"),
    ),
)
RIGHT = (
    Right(
        "with lists",
        ("np.zeros(len(parents))", "[0.0] * len(parents)"),
        ("return gradient", "return np.array(gradient)"),
    ),
)


def probes(rng):
    def slopes_for(parents):
        return [[float(rng.choice([-3, -2, 2, 3])) for _ in edges] for edges in parents]

    for label, parents in (
        ("a chain of four", [[], [0], [1], [2]]),
        ("the diamond", [[], [0], [0], [1, 2]]),
        ("a node that uses another twice", [[], [0], [1, 1]]),
        ("a shortcut: the input also goes to the end", [[], [0], [1], [2, 0]]),
        ("two diamonds in a row", [[], [0], [0], [1, 2], [3], [3], [4, 5]]),
        ("a node that leads nowhere", [[], [0], [0], [1]]),
        ("a graph drawn by chance", [[], *([int(p) for p in rng.integers(0, i, 2)] for i in range(1, 9))]),
    ):
        yield call(label, "backward", parents, slopes_for(parents), gives={"gradient": "node"})


def library():
    from tinynet import Tensor
    from tinynet.engine.tensor import grad

    def backward(parents, slopes):
        nodes = [Tensor(np.array(1.0), requires_grad=True) for _ in parents]
        for i, edges in enumerate(parents):
            if edges:
                total = nodes[edges[0]] * slopes[i][0]
                for parent, slope in zip(edges[1:], slopes[i][1:]):
                    total = total + nodes[parent] * slope
                nodes[i] = total
        wanted = [float(g.data) if g is not None else 0.0 for g in grad(nodes[-1], nodes, np.array(1.0))]
        return np.array(wanted)

    return {"backward": backward}
