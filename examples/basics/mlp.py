"""The multilayer perceptron: layers of neurons, trained by backpropagation.

    python examples/basics/mlp.py

A layer is y = f(x W + b): many neurons side by side, with a smooth f instead of the step, so that f has a derivative.
The loss says how wrong the output is; backpropagation applies the chain rule from there to the first layer:

    dL/dx = (dL/dy * f') W^T,    dL/dW = x^T (dL/dy * f')

and gradient descent moves every weight a little against its own derivative. Three things to see:

- **XOR**, which no single neuron can do: hidden neurons bend the plane, and the output neuron separates it. Two hidden
  neurons suffice; four get stuck less often.
- **Two moons**: decision regions of a net that is too small, of one that fits, and of one that is so large that it
  learns the noise of its 60 examples by heart. The curves tell them apart: under-fitting is a training loss that stays
  high; over-fitting is a training loss that goes on falling while the loss on other examples rises.
- **Breast cancer** (WDBC): 30 measurements of cell nuclei, benign or malignant, every patient tested by a net that has
  not seen her.

Sources: Rumelhart, Hinton, Williams, Learning representations by back-propagating errors, Nature 323, 1986; Street,
Wolberg, Mangasarian, Nuclear feature extraction for breast tumor diagnosis, 1993 (WDBC); Kingma and Ba, Adam, ICLR
2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from tqdm import trange

import tinynet as tn
from tinynet import nn, optim, viz
from tinynet.data import DataLoader, bundled, standardize, stratified_folds
from tinynet.tools.cli import SeedOptions, command_line, mean_over_seeds, option, print_settings, report, run


# ---------------------------------------------------------------------------------------- the net and its training
def mlp(*widths: int) -> nn.Sequential:
    """Layers with these numbers of neurons, tanh between them; the last layer gives the log-odds of class 1."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out, init=nn.init.glorot_uniform), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def train_step(net: nn.Module, optimizer: optim.AdamW, x: np.ndarray, t: np.ndarray) -> float:
    """Forward, backward, one step downhill. x: float32 (N, D); t: 0 or 1, (N,). Returns the loss."""
    loss = tn.bce_with_logits(net(tn.tensor(x)), t[:, None])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def loss_and_errors(net: nn.Module, x: np.ndarray, t: np.ndarray) -> tuple[float, int]:
    """The cross-entropy, and how many answers are wrong."""
    logits = nn.predict(net, x)
    return tn.bce_with_logits(tn.tensor(logits), t[:, None]).item(), int(np.sum((logits[:, 0] > 0) != t))


# ---------------------------------------------------------------------------------------- XOR
CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
XOR = np.array([0, 1, 1, 0])


def learn_xor(seed: int) -> tuple[nn.Module, int]:
    """A net with four hidden neurons, and how many of the four answers are wrong."""
    tn.seed(seed)
    net = mlp(2, 4, 1)
    optimizer = optim.AdamW(net.parameters(), lr=0.05, weight_decay=0)
    for _ in range(300):
        train_step(net, optimizer, CORNERS, XOR)
    return net, loss_and_errors(net, CORNERS, XOR)[1]


# ---------------------------------------------------------------------------------------- two moons
def two_moons(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles, one upside down, with noise: x float32 (count, 2), t 0 or 1 (count,)."""
    t = np.arange(count) % 2
    angle = rng.uniform(0, np.pi, count)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x[t == 1] = (1, 0.5) - x[t == 1]
    return (x + rng.normal(0, 0.25, x.shape)).astype(np.float32), t


# Widths of the layers, and weight decay: it keeps the weights small, so that the boundary bends less.
NETS = {"too small": ((2, 1), 0.0), "fits": ((2, 8, 1), 0.3), "too large": ((2, 100, 100, 1), 0.0)}


def learn_moons(config: Config, seed: int) -> dict[str, tuple[nn.Module, np.ndarray]]:
    """Three nets on the same 60 examples: each with its curves (records, 3): step, training loss, test loss."""
    rng = np.random.default_rng(seed)
    (x, t), (x_test, t_test) = two_moons(60, rng), two_moons(2000, rng)
    learned = {}
    for name, (widths, weight_decay) in NETS.items():
        tn.seed(seed)
        net = mlp(*widths)
        optimizer = optim.AdamW(net.parameters(), lr=0.01, weight_decay=weight_decay)
        curve = []
        for step in trange(config.moons_steps + 1, desc=f"moons, {name}", leave=False, disable=None):
            if step % 25 == 0:
                curve.append((step, loss_and_errors(net, x, t)[0], loss_and_errors(net, x_test, t_test)[0]))
            train_step(net, optimizer, x, t)
        learned[name] = net, np.array(curve)
    return learned


# ---------------------------------------------------------------------------------------- breast cancer
def learn_breast_cancer(config: Config, seed: int) -> float:
    """Share of right answers, each patient tested once: k-fold cross-validation."""
    table = bundled("breast_cancer")
    fold = stratified_folds(table.target, config.splits, np.random.default_rng(seed))
    wrong = 0
    for number in range(config.splits):
        training, test = fold != number, fold == number
        x, x_test = standardize(table.features[training], table.features[test])
        tn.seed(seed)
        net = mlp(x.shape[1], config.hidden, 1)
        optimizer = optim.AdamW(net.parameters(), lr=3e-3, weight_decay=config.weight_decay)
        loader = DataLoader(list(zip(x, table.target[training])), batch_size=32, seed=seed, workers=0)
        for _ in trange(config.epochs, desc=f"patients, part {number + 1}", leave=False, disable=None):
            for batch, targets in loader:
                train_step(net, optimizer, batch, targets)
        wrong += loss_and_errors(net, x_test, table.target[test])[1]
    return 1 - wrong / len(fold)


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(SeedOptions):
    out: str = option("out/mlp", "folder for the figures")
    splits: int = option(5, "parts of the patients; each is tested by a net that was trained on the other parts")
    epochs: int = option(60, "passes over the patients", quick=20)
    hidden: int = option(16, "neurons of the hidden layer, for the patients")
    # The best of 0, 0.1, 0.3, 1, 2, 3, 10 by the loss in a cross-validation within the first training part of seed 0;
    # strictly, it should be chosen anew within each part.
    weight_decay: float = option(1.0, "pull of the weights toward zero, for the patients")
    moons_steps: int = option(1000, "steps on the moons", quick=150)


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """All three; return errors on XOR, gaps between test and training loss on the moons, accuracy on the patients."""
    print_settings(config, data=DATA)
    figures = {}

    def one_run(seed: int) -> dict[str, float]:
        xor, errors = learn_xor(seed)
        moons = learn_moons(config, seed)
        if seed == config.seed:
            figures["xor.png"] = draw_xor(xor)
            figures["moons.png"] = draw_moons(moons, two_moons(60, np.random.default_rng(seed)))
        gaps = {name: curve[-1, 2] - curve[-1, 1] for name, (_, curve) in moons.items()}
        return {
            "wdbc_accuracy": learn_breast_cancer(config, seed),
            "xor_errors": errors,
            "moons_gap_small": gaps["too small"],
            "moons_gap_large": gaps["too large"],
        }

    return report(config, mean_over_seeds(one_run, config.seed, config.seeds), EXPECTED, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_regions(axes, net: nn.Module, x: np.ndarray, t: np.ndarray) -> None:
    """The net's output at every place, as shades, and the examples."""
    from matplotlib.colors import LinearSegmentedColormap

    low, high = x.min(axis=0) - 0.5, x.max(axis=0) + 0.5
    u, v = np.linspace(low[0], high[0], 150), np.linspace(low[1], high[1], 150)
    grid = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2).astype(np.float32)
    p = nn.predict(lambda x: tn.sigmoid(net(x)), grid).reshape(len(v), len(u))
    blue, red = viz.mpl(viz.BLUE), viz.mpl(viz.VERMILLION)
    shades = LinearSegmentedColormap.from_list("blue to red", [blue, "white", red])
    axes.contourf(u, v, p, levels=np.linspace(0, 1, 11), cmap=shades, alpha=0.5)
    axes.contour(u, v, p, levels=[0.5], colors="k", linewidths=1)
    for value, marker, color in ((0, "o", blue), (1, "s", red)):
        axes.scatter(*x[t == value].T, s=22, marker=marker, color=color, edgecolor="k", linewidth=0.5, zorder=3)


def draw_xor(net: nn.Module) -> viz.Figure:
    """The input plane with the decision, and the four corners in the output of the hidden layer."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(8, 3.6))
    draw_regions(left, net, CORNERS, XOR)
    left.set(xlabel="x1", ylabel="x2", title="XOR, solved with a hidden layer")
    hidden = nn.predict(net[:2], CORNERS)
    right.imshow(hidden, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    right.set_xticks(range(hidden.shape[1]), [f"neuron {i + 1}" for i in range(hidden.shape[1])])
    right.set_yticks(range(4), [f"({a:.0f}, {b:.0f}) is {c}" for (a, b), c in zip(CORNERS, XOR)])
    for (i, j), value in np.ndenumerate(hidden):
        right.text(j, i, f"{value:+.1f}", ha="center", va="center", color="w" if abs(value) > 0.6 else "k")
    right.set_title("output of the hidden neurons")
    return figure


def draw_moons(learned: dict, examples: tuple[np.ndarray, np.ndarray]) -> viz.Figure:
    """Decision regions above, training and test curves below."""
    figure, axes = viz.subplots(2, len(learned), figsize=(11, 6.2))
    highest = max(curve[:, 1:].max() for _, curve in learned.values())
    for above, below, (name, (net, curve)) in zip(*axes, learned.items()):
        draw_regions(above, net, *examples)
        weights = sum(p.size for p in net.parameters())
        above.set_title(f"{name}: {weights:,} weights")
        below.plot(curve[:, 0], curve[:, 1], color=viz.mpl(viz.BLUE), label="training")
        below.plot(curve[:, 0], curve[:, 2], color=viz.mpl(viz.VERMILLION), label="test (2,000 others)")
        below.set(xlabel="step", ylim=(0, min(highest, 2.0) * 1.05))
    axes[1][0].set_ylabel("loss")
    axes[1][0].legend()
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Multilayer perceptron, backpropagation, over-fitting"
DATA = "XOR; two moons (made here); WDBC breast cancer, 569 x 30 (scikit-learn)"
EXPECTED = {
    "wdbc_accuracy": (0.96, None),
    "xor_errors": (0, 0),
    "moons_gap_small": (None, 0.25),
    "moons_gap_large": (0.3, None),
}
PICTURE = "moons.png"
NEXT = "python examples/basics/activations.py"


if __name__ == "__main__":
    run(main)
