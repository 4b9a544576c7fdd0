"""Why a plain recurrent net forgets, and an LSTM does not.

    python examples/sequences/rnn_vanishing_gradient.py
    python examples/sequences/rnn_vanishing_gradient.py --seeds 3          # as in the table

A recurrent net carries a state through time. To learn that an early input matters, a gradient has to travel back to it,
and at every step it is multiplied by the same kind of matrix:

    RNN    h_t = tanh(x_t W + h_(t-1) U + b)     dh_t/dh_(t-1) = U^T times tanh', which is at most 1
    LSTM   c_t = f c_(t-1) + i g                 dc_t/dc_(t-1) = f, and the net chooses f

(The gates depend on h_(t-1), too; the formula leaves this second path out.) A product of a hundred such factors is
nearly zero (the *vanishing gradient*) or very large (the *exploding gradient*).

**First figure**: how much of the gradient of the last output arrives at an input so many steps earlier, for untrained
nets: RNNs with a small, an orthogonal and a large U, and LSTMs with two biases of the forget gate. Of the stable RNNs,
an orthogonal U (a rotation) keeps the gradient longest. But it keeps the gradients of all inputs alike: it cannot
choose.

**The adding problem** needs a memory: a sequence of about a hundred random numbers, two of which are marked, one in the
first half and one in the second; the target is their sum, at the end. A net that has learned nothing answers 1, and has
a mean squared error of 1/6 = 0.167. Both nets have the same number of units and see the same sequences, new ones at
every step, whose lengths differ by up to a tenth. **Second figure**: the error of the LSTM falls after some hundred
steps, the error of the RNN does not. The first figure shows why: the LSTM has opened its forget gates, so that the
gradient passes.

Sources: Hochreiter, Untersuchungen zu dynamischen neuronalen Netzen, 1991; Bengio, Simard, Frasconi, Learning long-term
dependencies with gradient descent is difficult, IEEE TNN 1994; Hochreiter and Schmidhuber, Long Short-Term Memory,
1997, section 5.4 (the adding problem; here as simplified by Le, Jaitly, Hinton, A simple way to initialize recurrent
networks of rectified linear units, 2015); Gers, Schmidhuber, Cummins, Learning to forget, Neural Computation 12, 2000
(the forget gate); Pascanu, Mikolov, Bengio, On the difficulty of training recurrent neural networks, ICML 2013
(clipping the gradient).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import trange

import tinynet as tn
from tinynet import nn, optim, viz
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run


# ---------------------------------------------------------------------------------------- the problem
def sequences(rng: np.random.Generator, count: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, lengths, target): numbers and marks, float32 (count, T, 2); lengths of the sequences; sums, (count, 1)."""
    lengths = rng.integers(length, length + length // 10 + 1, count)
    x = np.zeros((count, length + length // 10, 2), dtype=np.float32)
    x[:, :, 0] = rng.random(x.shape[:2])
    each = np.arange(count)
    first, second = rng.integers(0, length // 2, count), rng.integers(length // 2, lengths)
    x[each, first, 1] = x[each, second, 1] = 1
    return x, lengths, x[each, first, :1] + x[each, second, :1]


# ---------------------------------------------------------------------------------------- the net
class Adder(nn.Module):
    """A recurrent layer, and a linear layer on its last state."""

    def __init__(self, layer: nn.RNN | nn.LSTM) -> None:
        self.layer = layer
        self.sum = nn.Linear(layer.hidden, 1, init=nn.init.glorot_uniform)

    def forward(self, x: tn.Tensor, lengths: np.ndarray) -> tn.Tensor:
        _, state = self.layer(x, lengths)
        h = state[0] if isinstance(self.layer, nn.LSTM) else state
        return self.sum(h)


def train(net: Adder, lr: float, config: Config, seed: int) -> list[float]:
    """The loss before each step."""
    rng = np.random.default_rng((seed, 0))
    optimizer = optim.Adam(net.parameters(), lr)
    losses = []
    for _ in trange(config.steps, desc=type(net.layer).__name__, leave=False, disable=None):
        x, lengths, target = sequences(rng, 64, config.length)
        error = net(tn.tensor(x).to(tn.device()), lengths) - tn.tensor(target).to(tn.device())
        loss = (error * error).mean()
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm(net.parameters(), 1.0)  # one exploding gradient would undo all learning
        optimizer.step()
        losses.append(loss.item())
    return losses


def test(net: Adder, config: Config, seed: int) -> float:
    """The mean squared error on 1000 other sequences."""
    x, lengths, target = sequences(np.random.default_rng((seed, 1)), 1000, config.length)
    with tn.no_grad():
        return float(np.mean((net(tn.tensor(x).to(tn.device()), lengths).numpy() - target) ** 2))


# ---------------------------------------------------------------------------------------- the gradient
def gradient_by_distance(layer: nn.RNN | nn.LSTM, x: np.ndarray) -> np.ndarray:
    """|d(last output)/dx_t| for the steps 0, 1, 2 ... before the last, relative to the last: float64 (T,)."""
    x = tn.tensor(x.astype(np.float64), requires_grad=True).to(tn.device())
    outputs, _ = layer.astype(np.float64).to(tn.device())(x)
    direction = np.random.default_rng(0).standard_normal((len(x), layer.hidden))  # the same for all nets
    g = tn.grad((outputs[:, -1] * tn.tensor(direction).to(tn.device())).sum(), x).numpy()
    layer.astype(np.float32)
    norms = np.sqrt((g * g).sum(axis=(0, 2)))[::-1]
    return norms / norms[0]


def untrained(hidden: int) -> dict[str, nn.RNN | nn.LSTM]:
    """Untrained nets, by name."""
    nets: dict[str, nn.RNN | nn.LSTM] = {}
    for name, size in (("small", 0.5), ("orthogonal", 1.0), ("large", 2.0)):
        nets[f"RNN, {name} U"] = nn.RNN(2, hidden)
        nets[f"RNN, {name} U"].cells[0].recurrent_weight.data *= size
    for bias in (0, 1):
        nets[f"LSTM, forget bias {bias}"] = nn.LSTM(2, hidden)
        nets[f"LSTM, forget bias {bias}"].cells[0].bias.data[hidden : 2 * hidden] = bias  # of the forget gate
    return nets


# ---------------------------------------------------------------------------------------- the run
GUESSING = 1 / 6  # the variance of the sum of two numbers, uniform on 0 .. 1
DISTANCE = 50  # steps, for the metrics kept_*


@dataclass
class Config(NetOptions):
    out: str = option("out/rnn_vanishing_gradient", "folder for pictures")
    seeds: int = option(1, "runs; their mean is compared with the expected metrics")
    length: int = option(100, "steps of the shortest sequence; the longest has a tenth more", quick=55)
    hidden: int = option(32, "units of the RNN and of the LSTM", quick=16)
    steps: int = option(1000, "training steps, of 64 sequences each", quick=20)
    lr: float = option(1e-2, "learning rate (Adam) of the LSTM")
    lr_rnn: float = option(1e-3, "learning rate of the RNN, which is unstable with a larger one")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Returns kept_*, the gradient 50 steps before the end relative to the end, and mse_rnn, mse_lstm."""
    print_settings(config, data=DATA)
    figures = {}

    def one_run(seed: int) -> dict[str, float]:
        tn.seed(seed)
        losses, errors = {}, {}
        x, _, _ = sequences(np.random.default_rng((seed, 2)), 32, config.length)
        x = x[:, : config.length]
        kept = {name: gradient_by_distance(layer, x) for name, layer in untrained(config.hidden).items()}
        for kind, lr in ((nn.RNN, config.lr_rnn), (nn.LSTM, config.lr)):
            net = Adder(kind(2, config.hidden)).to(tn.device())
            losses[kind.__name__] = train(net, lr, config, seed)
            kept[f"{kind.__name__}, trained"] = gradient_by_distance(net.layer, x)
            errors[f"mse_{kind.__name__.lower()}"] = test(net, config, seed)
        if seed == config.seed:
            figures["adding.png"] = draw_adding(losses, config)
            figures["gradients.png"] = draw_gradients(kept)
        named = {
            "kept_rnn_small": "RNN, small U",
            "kept_rnn_orthogonal": "RNN, orthogonal U",
            "kept_rnn_large": "RNN, large U",
            "kept_lstm": "LSTM, forget bias 1",
            "kept_lstm_trained": "LSTM, trained",
        }
        return {name: float(kept[of][DISTANCE]) for name, of in named.items()} | errors

    return report(config, mean_over_seeds(one_run, config.seed, config.seeds), EXPECTED, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_gradients(kept: dict[str, np.ndarray]) -> viz.Figure:
    """The gradient that arrives at an input, by distance in time."""
    figure, axes = viz.subplots(figsize=(9, 5))
    colors = [viz.ORANGE, viz.VERMILLION, viz.PURPLE, viz.SKY, viz.BLUE, viz.VERMILLION, viz.BLUE]
    for (name, values), color in zip(kept.items(), colors):
        style = "--" if "trained" in name else "-"
        axes.semilogy(values, color=viz.mpl(color), linestyle=style, linewidth=1.8, label=name)
    axes.axhline(1, color="0.8", linewidth=0.8, zorder=0)
    axes.set(
        xlabel="steps before the end (trained: on the adding problem)",
        ylabel="gradient of the last output, relative",
        title="the gradient at an earlier input",
        ylim=(1e-12, None),
        xlim=(0, None),
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_adding(losses: dict[str, list[float]], config: Config) -> viz.Figure:
    """An example of the problem, and the loss of both nets."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(12, 4.4))
    x, lengths, target = sequences(np.random.default_rng(3), 1, config.length)
    numbers, marked = x[0, : lengths[0], 0], x[0, : lengths[0], 1] == 1
    time = np.arange(lengths[0])
    left.vlines(time, 0, numbers, color="0.8", linewidth=1.5)
    left.plot(time[~marked], numbers[~marked], "o", color="0.6", markersize=3)
    left.vlines(time[marked], 0, numbers[marked], color=viz.mpl(viz.VERMILLION), linewidth=2.5)
    left.plot(time[marked], numbers[marked], "o", color=viz.mpl(viz.VERMILLION), markersize=8)
    terms = " + ".join(f"{value:.2f}" for value in numbers[marked])
    left.set(xlabel="step", ylim=(0, 1.05), title=f"target: {terms} = {target[0, 0]:.2f}")
    width = max(1, min(50, config.steps // 4))
    for (name, values), color in zip(losses.items(), (viz.VERMILLION, viz.BLUE)):
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        right.semilogy(np.arange(len(smooth)) + width, smooth, color=viz.mpl(color), linewidth=1.8, label=name)
    right.axhline(GUESSING, color="0.5", linestyle=":", label="always answering 1")
    right.set(xlabel="training step", ylabel=f"squared error (mean of {width} steps)", title="the adding problem")
    right.legend(loc="lower left")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Recurrent nets: the vanishing gradient, LSTM"
DATA = "the adding problem, made up as it goes"
EXPECTED = {
    "kept_rnn_small": (None, 1e-10),
    "kept_rnn_large": (1.0, None),
    "kept_lstm": (1e-3, 1.0),
    "kept_lstm_trained": (0.01, None),
    "mse_rnn": (0.12, 0.2),
    "mse_lstm": (None, 0.01),
}
PICTURE = "adding.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/sequences/lstm_ecg.py"


if __name__ == "__main__":
    run(main)
