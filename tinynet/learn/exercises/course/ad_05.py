"""In which order?

In the last exercise the nodes were given in a suitable order. An engine starts from the result, and every node knows
only its parents. The engine has to find an order in which **every node comes before its parents**, so that the gradient
of a node is complete before it is passed on.

    parents = {"y": ["a", "b"], "a": ["x"], "b": ["x", "a"], "x": []}

    y b a x   is such an order;   y a b x   is not: a comes before b, but b still adds to the gradient of a

Write it. Every node that can be reached from `last` appears exactly once, and no other node appears. A network unrolled
over time may be a chain of thousands of nodes. Python limits the depth of recursion, so use a loop and a list of the
nodes that are still to be visited.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import Probe, Unusable

TEACHES = "topological order, and why neither depth-first nor breadth-first order is one by itself"
HINTS = (
    "Count for each node how many (reachable) nodes use it. Which node may come first? Which may come when that one "
    "is done?",
    "Two passes. First visit every reachable node and count the uses of each. Then: take a node whose uses are all "
    "done, append it to the order, and subtract one use from each of its parents.",
    "Start with `ready = [last]`. Repeat: take a node from `ready`, append it to the order, and for each parent do "
    "`uses[parent] -= 1`; if that gives 0, append the parent to `ready`.",
)


# ---- your file
def topological_order(last, parents):
    """The nodes from which `last` is computed, including `last`, each before its parents.

    parents: {node: list of the nodes it was computed from}; it may hold nodes from which `last` is not computed,
    and a parent twice (y = a a). Returns a list.
    """
    # ---- solution
    uses = {last: 0}
    to_visit = [last]
    while to_visit:
        for parent in parents[to_visit.pop()]:
            if parent not in uses:
                uses[parent] = 0
                to_visit.append(parent)
            uses[parent] += 1
    order = []
    ready = [last]
    while ready:
        node = ready.pop()
        order.append(node)
        for parent in parents[node]:
            uses[parent] -= 1
            if uses[parent] == 0:
                ready.append(parent)
    return order
    # ---- end of solution


# ---- end of your file


_COUNTING = """        for parent in parents[node]:
            uses[parent] -= 1
            if uses[parent] == 0:
                ready.append(parent)
"""
_TAKING = "        node = ready.pop()\n        order.append(node)\n"

WRONG = (
    Wrong(
        "depth first",
        "A node is appended to the order at its first visit, depth first. It may have a user that was not visited yet: "
        "wait until all its users are in the order.",
        (
            _COUNTING,
            "        for parent in parents[node]:\n            if parent not in order and parent not in ready:\n"
            "                ready.append(parent)\n",
        ),
    ),
    Wrong(
        "breadth first",
        "You order nodes by their distance from the end (breadth first). A node that is close to the end on one path "
        "and far on another comes too early.",
        (_TAKING, "        node = ready.pop(0)\n        order.append(node)\n"),
        (
            _COUNTING,
            "        for parent in parents[node]:\n            if parent not in order and parent not in ready:\n"
            "                ready.append(parent)\n",
        ),
    ),
    Wrong(
        "visited twice",
        "A node that can be reached on several paths appears once for each of them. Its parents would get its gradient "
        "as often.",
        (_COUNTING, "        ready += parents[node]\n"),
    ),
    Wrong(
        "recursion",
        "Your function calls itself, once for each node of a chain; Python allows about a thousand nested calls. Keep "
        "a list of the nodes that are still to be visited instead.",
        (
            "    order = []\n    ready = [last]\n    while ready:\n" + _TAKING + _COUNTING + "    return order",
            "    done = []\n\n    def visit(node):\n        if node not in done:\n            for parent in "
            "parents[node]:\n                visit(parent)\n            done.append(node)\n\n    visit(last)\n    "
            "return done[::-1]",
        ),
    ),
    Wrong(
        "reversed",
        "The order is reversed: parents come first, as in the forward computation. Backward needs the users first.",
        ("return order", "return order[::-1]"),
    ),
    Wrong(
        "everything",
        "There are nodes in your order from which `last` is not computed. They have no gradient; start at `last` "
        "and take only the nodes that you reach.",
        ("return order", "return order + [node for node in parents if node not in order]"),
    ),
)
RIGHT = (
    Right(
        "depth-first postorder with a stack, reversed",
        (
            "    order = []\n    ready = [last]\n    while ready:\n" + _TAKING + _COUNTING + "    return order",
            "    done, seen, stack = [], set(), [(last, False)]\n    while stack:\n        node, complete = "
            "stack.pop()\n        if complete:\n            done.append(node)\n        elif node not in seen:\n      "
            "      seen.add(node)\n            stack.append((node, True))\n            stack += [(parent, False) for "
            "parent in parents[node]]\n    return done[::-1]",
        ),
    ),
    Right("the longest waiting first", ("node = ready.pop()", "node = ready.pop(0)")),
)


def probes(rng):
    yield _order("a chain", "c", {"a": [], "b": ["a"], "c": ["b"]})
    yield _order("a diamond", "y", {"y": ["a", "b"], "a": ["x"], "b": ["x"], "x": []})
    yield _order("the graph above", "y", {"y": ["a", "b"], "a": ["x"], "b": ["x", "a"], "x": []})
    yield _order("the same, the arguments of y exchanged", "y", {"y": ["b", "a"], "a": ["x"], "b": ["a", "x"], "x": []})
    yield _order("a node that uses another twice", "y", {"y": ["a", "a"], "a": ["x"], "x": []})
    yield _order("two results, one asked for", "y", {"x": [], "y": ["x"], "z": ["y", "x"], "w": []})
    drawn = {i: [int(p) for p in rng.integers(0, i, min(i, 2))] for i in range(12)}
    yield _order("a random graph", 11, drawn)
    yield _order("a long chain", 1500, {i: [i - 1] if i else [] for i in range(1501)})


def _order(label, last, parents):
    """Several orders are right, so the probe compares properties that every right order has."""

    def run(functions):
        order = functions["topological_order"](last, {node: list(edges) for node, edges in parents.items()})
        if not isinstance(order, (list, tuple)):
            raise Unusable(f"topological_order must return a list of nodes; it returned {order!r:.80}")
        strangers = [node for node in order if node not in parents]
        if strangers:
            raise Unusable(f"topological_order returned {strangers[0]!r}, which is not a node")
        place = {node: i for i, node in reversed(list(enumerate(order)))}
        edges = [(node, parent) for node in place for parent in parents[node]]
        too_late = sum(place.get(parent, len(order)) < place[node] for node, parent in edges)
        return {
            "times each node appears": np.array([order.count(node) for node in parents])
            if len(parents) < 100
            else np.bincount(order, minlength=len(parents)),
            "parents before a node that uses them": np.array(too_late),
        }

    def report(output, actual, expected):
        if output == "parents before a node that uses them":
            return f"{int(actual)} times in the order, a node comes after one of its parents; it must be 0 times"
        listed = [f"{n!r}: {a} times, not {e}" for n, a, e in zip(parents, actual, expected) if a != e]
        return f"these nodes appear more or less often than they must: {'; '.join(listed[:9])}"

    axes = {"times each node appears": "node", "parents before a node that uses them": ""}
    return Probe(label, "topological_order", run, axes, {}, {"last": last, "parents": parents}, report)


def library():
    from tinynet import Tensor
    from tinynet.engine.basic_ops import exp

    def topological_order(last, parents):
        # The engine calls the hooks of the nodes in its own order.
        tensors, seen = {}, []
        for node in _forward(parents):
            inputs = [tensors[p] for p in parents[node]]
            t = Tensor(np.array(0.1), requires_grad=True) if not inputs else exp(sum(inputs[1:], inputs[0]) * 0.0)
            t.register_hook(lambda g, node=node: seen.append(node))
            tensors[node] = t
        tensors[last].backward()
        return seen

    return {"topological_order": topological_order}


def _forward(parents):
    """The nodes with parents first, for a graph whose nodes are in any order."""
    done = {}  # used as an ordered set
    while len(done) < len(parents):
        done.update({n: None for n in parents if n not in done and all(p in done for p in parents[n])})
    return done
