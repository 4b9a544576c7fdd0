"""Activation functions, their derivatives, and what is left of a gradient after 20 layers.

    python examples/basics/activations.py

Without an activation between them, several linear layers are one linear layer. Which activation f is used matters
because of its derivative f': backpropagation multiplies the gradient by f' at every layer.

- **sigmoid** 1 / (1 + exp(-x)): f' is at most 1/4, so after 20 layers at most (1/4)^20 = 1e-12 of a gradient is left,
  times the effect of the weights. The first layers do not learn: the *vanishing gradient*.
- **tanh**: the same curve, twice as high and around zero: f' is 1 at zero. It still flattens at both ends.
- **ReLU** max(x, 0): f' is 1 or 0. Half of the neurons are off; initial weights of twice the variance (He) make up for
  it.
- **leaky ReLU** x or 0.1 x: no neuron is off completely.
- **maxout** max(w1 x + b1, w2 x + b2): learns its own shape from two linear pieces, for twice the weights. Glorot's
  rule counts both pieces, but a gradient passes through one of them: the variance of the weights is 2/3 of the right
  one, and (2/3)^(19/2) = 2 % of a gradient is left after 19 more layers. The first training steps are slow.
- **ELU** x or exp(x) - 1: smooth, and its mean is nearer to zero. The U-Net uses it.

The first figure takes the derivatives from the framework's backward pass instead of from formulas. The second shows
nets of 20 layers on real digits: how large is the gradient at each layer, and which of the nets learns?

Sources: Hochreiter, Untersuchungen zu dynamischen neuronalen Netzen, 1991, and Glorot and Bengio, AISTATS 2010
(vanishing gradients); Nair and Hinton, ICML 2010 (ReLU); Maas et al., ICML 2013 (leaky ReLU); Goodfellow et al., ICML
2013 (maxout); Clevert et al., ICLR 2016 (ELU); He et al., ICCV 2015 (initial weights for ReLU).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import nn, optim, viz
from tinynet.data import bundled, standardize
from tinynet.tools.cli import SeedOptions, command_line, mean_over_seeds, option, print_settings, report, run

# Name -> (the layer, the initializer of the weights in front of it).
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], Callable]] = {
    "sigmoid": (nn.Sigmoid, nn.init.glorot_normal),
    "tanh": (nn.Tanh, nn.init.glorot_normal),
    "ReLU": (nn.ReLU, nn.init.he_normal),
    "leaky ReLU": (nn.LeakyReLU, nn.init.he_normal),
    "maxout": (nn.Maxout, nn.init.glorot_normal),
    "ELU": (nn.ELU, nn.init.he_normal),
}


# ---------------------------------------------------------------------------------------- one neuron
def value_and_derivative(layer: nn.Module, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f(x) and f'(x) at the points x (N,); f' by backpropagation.

    Maxout takes two linear pieces instead of x: here w1 = 1, b1 = -0.5 and w2 = -0.5, b2 = 0.
    """
    t = tn.tensor(x[:, None], requires_grad=True)
    y = layer(tn.concat([t - 0.5, -0.5 * t], axis=1)) if isinstance(layer, nn.Maxout) else layer(t)
    tn.sum(y).backward()  # y[i] depends on x[i] alone, so the gradient of the sum holds every derivative
    return y.numpy()[:, 0], t.grad[:, 0]


# ---------------------------------------------------------------------------------------- twenty layers
class DeepNet(nn.Module):
    """`depth` layers of `width` neurons with the same activation, then ten classes."""

    def __init__(self, name: str, depth: int, width: int, inputs: int) -> None:
        activation, init = ACTIVATIONS[name]
        pieces = 2 if name == "maxout" else 1  # inputs of a neuron of maxout, which takes the larger
        widths = [inputs] + [width] * depth
        self.linear = [nn.Linear(n, width * pieces, init=init) for n in widths[:-1]]
        self.activation = activation()
        self.classes = nn.Linear(width, 10, init=nn.init.glorot_normal)

    def hidden(self, x: tn.Tensor) -> list[tn.Tensor]:
        """The output of every layer."""
        outputs = [x]
        for linear in self.linear:
            outputs.append(self.activation(linear(outputs[-1])))
        return outputs[1:]

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        return self.classes(self.hidden(x)[-1])


def gradient_norms(net: DeepNet, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """|dL/dh| for the output h of every layer, first to last: float64 (depth,)."""
    outputs = net.hidden(tn.tensor(x))
    loss = tn.softmax_cross_entropy(net.classes(outputs[-1]), target)
    return np.array([np.linalg.norm(g.numpy().astype(np.float64)) for g in tn.grad(loss, outputs)])


def train(net: DeepNet, x: np.ndarray, target: np.ndarray, config: Config, seed: int) -> list[float]:
    """The loss before each step."""
    rng = np.random.default_rng(seed)
    optimizer = optim.SGD(net.parameters(), config.lr, momentum=0.9)
    losses = []
    for _ in range(config.steps):
        batch = rng.choice(len(x), 64, replace=False)
        loss = tn.softmax_cross_entropy(net(tn.tensor(x[batch])), target[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(SeedOptions):
    out: str = option("out/activations", "folder for the figures")
    depth: int = option(20, "layers")
    width: int = option(64, "neurons in a layer")
    steps: int = option(200, "training steps", quick=10)
    lr: float = option(0.005, "learning rate of the training (SGD with momentum)")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Returns for each activation: kept_*, gradient at the first layer / at the last, and loss_* after training."""
    table = bundled("digits")
    (x,), target = standardize(table.features), table.target
    print_settings(config, data=DATA)
    figures = {"functions.png": draw_functions()}

    def one_run(seed: int) -> dict[str, float]:
        norms, losses, metrics = {}, {}, {}
        for name in tqdm(ACTIVATIONS, f"seed {seed}", leave=False, disable=None):
            tn.seed(seed)
            net = DeepNet(name, config.depth, config.width, x.shape[1])
            norms[name] = gradient_norms(net, x[:256], target[:256])
            losses[name] = train(net, x, target, config, seed)
            key = name.lower().replace(" ", "_")
            metrics[f"kept_{key}"] = norms[name][0] / norms[name][-1]
            metrics[f"loss_{key}"] = float(np.mean(losses[name][-10:]))
        if seed == config.seed:
            figures["gradients.png"] = draw_gradients(norms, losses)
        return metrics

    metrics = mean_over_seeds(one_run, config.seed, config.seeds)
    return report(config, metrics, EXPECTED, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_functions() -> viz.Figure:
    """Each function and its derivative."""
    figure, panels = viz.subplots(2, 3, figsize=(11, 5.6))
    x = np.linspace(-4, 4, 401)
    for axes, (name, (layer, _)) in zip(panels.flat, ACTIVATIONS.items()):
        y, derivative = value_and_derivative(layer(), x)
        axes.axhline(0, color="0.8", linewidth=0.8)
        axes.axvline(0, color="0.8", linewidth=0.8)
        axes.plot(x, y, color=viz.mpl(viz.BLUE), linewidth=2, label="f(x)")
        axes.plot(x, derivative, color=viz.mpl(viz.VERMILLION), linewidth=2, linestyle="--", label="f'(x)")
        axes.set(title=name, xlim=(-4, 4), ylim=(-1.3, 3))
        axes.legend(loc="upper left")
    return figure


def draw_gradients(norms: dict[str, np.ndarray], losses: dict[str, list[float]]) -> viz.Figure:
    """The gradient at each layer before training, and the loss while training."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(11, 4.4))
    colors = [viz.VERMILLION, viz.ORANGE, viz.BLUE, viz.SKY, viz.PURPLE, viz.GREEN]
    for (name, values), color in zip(norms.items(), colors):
        kept = values / values[-1]
        left.semilogy(range(1, len(kept) + 1), kept, "o-", color=viz.mpl(color), markersize=3, label=name)
        smooth = np.convolve(losses[name], np.ones(10) / 10, mode="valid")
        right.plot(np.arange(len(smooth)) + 10, smooth, color=viz.mpl(color))
    left.set(xlabel="layer", ylabel="|gradient|, relative to the last layer", title="the gradient before training")
    left.set_xticks(range(1, len(kept) + 1, 2))
    left.invert_xaxis()
    left.legend()
    right.axhline(np.log(10), color="0.6", linestyle=":", label="guessing, log 10")
    right.set(xlabel="step", ylabel="loss (mean of 10 steps)", title="training the same nets", ylim=(0, None))
    right.legend()
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Activation functions, vanishing gradients"
DATA = "digits: 1,797 images of 8 x 8 pixels (scikit-learn)"
EXPECTED = {
    "kept_sigmoid": (None, 1e-8),
    "kept_tanh": (0.05, 20),
    "kept_relu": (0.05, 20),
    "kept_elu": (0.05, 20),
    "loss_sigmoid": (2.2, None),
    "loss_elu": (None, 0.5),
}
PICTURE = "gradients.png"
NEXT = "python examples/basics/train_and_test.py"


if __name__ == "__main__":
    run(main)
