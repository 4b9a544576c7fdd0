"""The formal neuron, the rule by which it learns, and the four points that defeat it.

    python examples/basics/perceptron.py

A neuron adds up its inputs, each with a weight, and fires if the sum is above a threshold, which is -b:

    y = f(w . x + b),   f(s) = 1 if s > 0 else 0

w . x + b = 0 is a straight line (a plane, with more inputs): the neuron says on which side x lies. It learns from
single examples with the target t,

    w <- w + (t - y) x,    b <- b + (t - y)

so nothing happens if the answer is right; a missed 1 pulls w toward x, a false 1 pushes it away. If any line
separates the classes, the rule finds one after finitely many mistakes (Novikoff's theorem: at most (R / margin)^2 of
them).

**Why XOR defeats it.** It would need

    b <= 0 for (0, 0),    w1 + b > 0 for (1, 0),    w2 + b > 0 for (0, 1),    w1 + w2 + b <= 0 for (1, 1)

The sum of the middle two says w1 + w2 + 2 b > 0, so w1 + w2 + b > -b >= 0: a contradiction. No line separates the four
points, and the rule goes round in circles forever. A second layer helps: mlp.py.

**On real data** classes overlap and the rule never comes to rest. So the script counts the mistakes on the training
data after each epoch, and keeps the weights with the fewest (a "pocket algorithm").

Sources: McCulloch and Pitts 1943 (the neuron); Rosenblatt, Psychological Review 1958 (the rule); Novikoff 1962; Minsky
and Papert, Perceptrons, 1969 (XOR); Gallant, IEEE Transactions on Neural Networks 1990 (the pocket).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinynet import viz
from tinynet.data import bundled, standardize, stratified_folds
from tinynet.tools.cli import SeedOptions, command_line, mean_over_seeds, option, print_settings, report, run


# ---------------------------------------------------------------------------------------- the neuron
def neuron(x: np.ndarray, w: np.ndarray, b: float) -> np.ndarray:
    """0 or 1 for each row of x (N, D)."""
    return (x @ w + b > 0).astype(int)


def learn(x: np.ndarray, t: np.ndarray, epochs: int, rng: np.random.Generator) -> tuple[np.ndarray, float, list[int]]:
    """The perceptron rule with a pocket: (weights, bias, mistakes on x after each epoch).

    x: (N, D); t: 0 or 1, (N,).
    """
    w, b = np.zeros(x.shape[1]), 0.0
    pocket, fewest, mistakes = (w, b), len(t) + 1, []
    for _ in range(epochs):
        for i in rng.permutation(len(x)):
            error = t[i] - neuron(x[i], w, b)  # 0, or 1 for a missed 1, or -1 for a false 1
            w, b = w + error * x[i], b + error
        mistakes.append(int(np.sum(neuron(x, w, b) != t)))
        if mistakes[-1] < fewest:
            pocket, fewest = (w, b), mistakes[-1]
    return *pocket, mistakes


CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float64)
GATES = {"AND": np.array([0, 0, 0, 1]), "OR": np.array([0, 1, 1, 1]), "XOR": np.array([0, 1, 1, 0])}


def breast_cancer(epochs: int, seed: int) -> dict[str, float]:
    """Accuracy on a third of the patients, learned from the other two thirds."""
    table, rng = bundled("breast_cancer"), np.random.default_rng(seed)
    test = stratified_folds(table.target, 3, rng) == 0
    x, x_test = standardize(table.features[~test], table.features[test])
    w, b, _ = learn(x, table.target[~test], epochs, rng)
    return {"wdbc_accuracy": float(np.mean(neuron(x_test, w, b) == table.target[test]))}


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(SeedOptions):
    out: str = option("out/perceptron", "folder for the figure")
    epochs: int = option(50, "passes over the examples")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Three gates, then real data; return the mistakes on the gates and the accuracy on the data."""
    print_settings(config, data=DATA)

    rng = np.random.default_rng(config.seed)
    gates = {name: learn(CORNERS, t, config.epochs, rng) for name, t in GATES.items()}
    metrics = {}
    for name, (w, b, mistakes) in gates.items():
        metrics[f"{name.lower()}_errors"] = min(mistakes)
        print(f"{name:3}: f({w[0]:+.0f} x1 {w[1]:+.0f} x2 {b:+.0f}), wrong on {min(mistakes)} of 4 corners")
    metrics |= mean_over_seeds(lambda seed: breast_cancer(config.epochs, seed), config.seed, config.seeds)

    return report(config, metrics, EXPECTED, {"perceptron.png": draw(gates)}, NEXT)


# ---------------------------------------------------------------------------------------- figure
def draw(gates: dict[str, tuple[np.ndarray, float, list[int]]]) -> viz.Figure:
    """The boundary for each gate, and the mistakes from epoch to epoch."""
    figure, panels = viz.subplots(1, 4, figsize=(13, 3.6))
    ticks = np.linspace(-0.5, 1.5, 201)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    colors = [viz.mpl(viz.BLUE), viz.mpl(viz.VERMILLION), viz.mpl(viz.GREEN)]
    for axes, (name, (w, b, mistakes)) in zip(panels, gates.items()):
        side = neuron(grid, w, b).reshape(len(ticks), -1)
        axes.contourf(ticks, ticks, side, levels=[-0.5, 0.5, 1.5], colors=["0.95", "0.78"])
        for value, marker in ((0, "o"), (1, "s")):
            corners = CORNERS[GATES[name] == value]
            axes.scatter(*corners.T, s=90, marker=marker, color=colors[value], zorder=3, label=f"target: {value}")
        axes.set(xlabel="x1", ylabel="x2", aspect="equal", title=f"{name}: {min(mistakes)} of 4 wrong")
        axes.legend(loc="center")
    for (name, (_, _, mistakes)), style, color in zip(gates.items(), ("-", "--", "-"), colors):
        panels[3].plot(range(1, len(mistakes) + 1), mistakes, style, color=color, label=name)
    panels[3].set(xlabel="epoch", ylabel="mistakes", ylim=(-0.2, 4.2), title="learning, and circling")
    panels[3].legend()
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "The formal neuron, the perceptron rule"
DATA = "AND, OR, XOR; WDBC breast cancer, 569 x 30 (scikit-learn)"
EXPECTED = {"and_errors": (0, 0), "or_errors": (0, 0), "xor_errors": (1, None), "wdbc_accuracy": (0.94, None)}
PICTURE = "perceptron.png"
NEXT = "python examples/basics/mlp.py"


if __name__ == "__main__":
    run(main)
