"""A diamond: gradients add up.

    x --+--> a --+--> y          a = 2 x,  b = 3 x,  y = a b
        |        |
        +--> b --+

There are two paths from x to y, and the gradient of x is the *sum* over both:  gx = ga 2 + gb 3. An engine visits the
nodes in reverse order; every node passes its gradient on to its parents (its arguments).

The graph is given as two lists, one entry for each node, in the order in which the nodes were computed:

    parents[i]      the numbers of the nodes that node i was computed from, e.g. [1, 2]; [] for an input
    derivatives[i]  for each of them d(node i)/d(that parent), e.g. [3.0, 2.0]

A node may be used twice: y = a a has parents [1, 1]. Write the backward pass: the derivative of the *last* node
with respect to every node.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call

TEACHES = "what backward() does: reverse order, multiply along an edge, add where edges meet"
HINTS = (
    "What is the derivative of the last node with respect to itself? Start there and go backwards.",
    "When node i is visited, all nodes that use it have been visited, so its gradient is complete. It passes on "
    "gradient[i] times the derivative along each edge.",
    "`gradient[parent] += gradient[i] * derivative` for parent, derivative in zip(parents[i], derivatives[i]), for i "
    "from last to first.",
)


# ---- your file
def backward(parents, derivatives):
    """d(last node)/d(node) for every node, as an array of len(parents) floats."""
    # ---- solution
    gradient = np.zeros(len(parents))
    gradient[-1] = 1.0
    for i in reversed(range(len(parents))):
        for parent, derivative in zip(parents[i], derivatives[i]):
            gradient[parent] += gradient[i] * derivative
    return gradient
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "= for +=",
        "You write gradient[parent] = ...: the gradient of the last path overwrites the others. "
        "Where paths meet, gradients are added: +=.",
        ("gradient[parent] +=", "gradient[parent] ="),
    ),
    Wrong(
        "derivatives only",
        "The derivatives along the edges are added but not multiplied by the gradient of the node they come from: "
        "that is right only for the parents of the last node.",
        ("gradient[i] * derivative", "derivative"),
    ),
    Wrong(
        "forward order",
        "You visit the nodes in the order in which they were computed. Then a node passes its gradient on before the "
        "gradient is complete: use the reverse order.",
        ("reversed(range(len(parents)))", "range(len(parents))"),
    ),
    Wrong(
        "an edge once",
        "If a node is used twice by the same node (y = a a), your version counts one edge: a dict or set keeps one of "
        "two equal parents. Both edges count.",
        ("zip(parents[i], derivatives[i])", "dict(zip(parents[i], derivatives[i])).items()"),
    ),
    Wrong(
        "no beginning",
        "The gradient of the last node with respect to itself is 1. You start with 0, so all gradients stay 0.",
        ("gradient[-1] = 1.0", "gradient[-1] = 0.0"),
    ),
    Wrong(
        "derivatives added along a path",
        "Along one path derivatives are multiplied (the chain rule); they are added only where paths meet. You add "
        "in both cases.",
        ("gradient[i] * derivative", "gradient[i] + derivative"),
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
    def derivatives_for(parents):
        return [[float(rng.choice([-3, -2, 2, 3])) for _ in edges] for edges in parents]

    for label, parents in (
        ("a chain of four", [[], [0], [1], [2]]),
        ("the diamond", [[], [0], [0], [1, 2]]),
        ("a node that uses another twice", [[], [0], [1, 1]]),
        ("a skip connection: the input also goes to the end", [[], [0], [1], [2, 0]]),
        ("two diamonds in a row", [[], [0], [0], [1, 2], [3], [3], [4, 5]]),
        ("a node that leads nowhere", [[], [0], [0], [1]]),
        ("a random graph", [[], *([int(p) for p in rng.integers(0, i, 2)] for i in range(1, 9))]),
    ):
        yield call(label, "backward", parents, derivatives_for(parents), gives={"gradient": "node"})


def library():
    from tinynet import Tensor
    from tinynet.engine.tensor import grad

    def backward(parents, derivatives):
        nodes = [Tensor(np.array(1.0), requires_grad=True) for _ in parents]
        for i, edges in enumerate(parents):
            if edges:
                total = nodes[edges[0]] * derivatives[i][0]
                for parent, derivative in zip(edges[1:], derivatives[i][1:]):
                    total = total + nodes[parent] * derivative
                nodes[i] = total
        wanted = [float(g.data) if g is not None else 0.0 for g in grad(nodes[-1], nodes, np.array(1.0))]
        return np.array(wanted)

    return {"backward": backward}
