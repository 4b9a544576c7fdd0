"""A stacked autoencoder: learnt greedily, layer by layer, then fine-tuned as a whole.

    python examples/unsupervised/stacked_autoencoder.py

Eight layers of sigmoid neurons (only the code is linear), 784-256-128-64-30-64-128-256-784, are hard to train from
random weights: the gradient shrinks at each sigmoid (examples/basics/activations.py), and what comes out at first is
the average digit, for any input. The greedy way makes one hard problem into four easy ones and a last one with a good
start:

    1. a shallow autoencoder 784-256-784 learns the digits: two layers only
    2. another one, 256-128-256, learns the *codes* of the first; a third and a fourth learn those of the one before
    3. unrolled: all encoders in a row, then all decoders backwards, are a deep autoencoder already
    4. fine-tuning: backpropagation through all of it makes the parts fit each other

To see: in the curves, the deep net from random weights is held up on the plateau of the average digit; the greedy start
is far below it from its first step, although it starts later, by the time that layer by layer took. In the rows of
digits, what every further layer gives up, and how much of it fine-tuning brings back: 30 numbers, and less error than
the 30 of principal component analysis.

Sources: Hinton and Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313, 2006 (with
Boltzmann machines for steps 1 and 2: see rbm.py); Bengio, Lamblin, Popovici, Larochelle, Greedy layer-wise training of
deep networks, NIPS 2006 (with autoencoders, as here).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import nn
from tinynet.nn.optim import Adam, CosineDecay
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import NetOptions, mean_over_seeds, option, parse, print_metrics, print_settings, run

shallow = load_example("unsupervised/autoencoder.py")  # PCA, errors, retrieval, pictures: read that script first

TOPIC = "Stacked autoencoder: greedy learning, layer by layer"
DATA = "MNIST, 60,000 + 10,000 digits"
FILES = (
    "mnist/train-images-idx3-ubyte.gz",
    "mnist/train-labels-idx1-ubyte.gz",
    "mnist/t10k-images-idx3-ubyte.gz",
    "mnist/t10k-labels-idx1-ubyte.gz",
)
EXPECTED = {
    "error": (None, 8.5),
    "error_pca": (13.8, 13.95),  # 13.87 in Hinton and Salakhutdinov
    "error_random": (20, None),
    "retrieval": (0.93, None),
}
PICTURE = "curves.png"


@dataclass
class Config(NetOptions):
    """The flags."""

    out: str = option("out/stacked_autoencoder", "folder for the pictures")
    data: str | None = option(None, "folder of MNIST (default: TINYNET_DATA, then the cache)")
    seeds: int = option(3, "runs, the mean of which counts", quick=1)
    digits: int = option(60000, "digits to learn from, at most", quick=3000)
    hidden: tuple[int, ...] = option((256, 128, 64), "neurons of the encoder's layers", nargs="+")
    code: int = option(30, "numbers in a code")
    greedy_epochs: int = option(2, "passes over the digits for each layer", quick=12)
    epochs: int = option(5, "passes over the digits for fine-tuning", quick=12)
    batch_size: int = option(128, "digits per step")
    lr: float = option(4e-3, "highest learning rate (Adam; a cosine down to zero)")


# ---------------------------------------------------------------------------------------- the net
class Layer(nn.Module):
    """A shallow autoencoder: n_in -> n_out -> n_in. The code at the very top is linear, all others are sigmoids."""

    def __init__(self, n_in: int, n_out: int, top: bool = False) -> None:
        self.encode = nn.Linear(n_in, n_out, init=nn.init.glorot_normal)
        self.decode = nn.Linear(n_out, n_in, init=nn.init.glorot_normal)
        self.top = top

    def up(self, x: tn.Tensor) -> tn.Tensor:
        """Inputs (N, n_in) to codes (N, n_out)."""
        return self.encode(x) if self.top else tn.sigmoid(self.encode(x))

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        """Inputs (N, n_in), 0 .. 1, to the logits of what they should have been."""
        return self.decode(self.up(x))


class Stack(nn.Module):
    """The layers unrolled: up through all encoders, down through all decoders."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def up(self, x: tn.Tensor) -> tn.Tensor:
        for layer in self.layers:
            x = layer.up(x)
        return x

    def down(self, code: tn.Tensor) -> tn.Tensor:
        """Codes to the logits of pixels. What a decoder gives are the sigmoids of the layer below."""
        *above, first = reversed(self.layers)
        for layer in above:
            code = tn.sigmoid(layer.decode(code))
        return first.decode(code)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        return self.down(self.up(x))

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Codes of digits: (N, V) to (N, code)."""
        with tn.no_grad():
            return self.up(tn.tensor(x).to(tn.device())).numpy()

    def decode(self, code: np.ndarray) -> np.ndarray:
        """Digits of codes: (N, code) to (N, V), 0 .. 1."""
        with tn.no_grad():
            return tn.sigmoid(self.down(tn.tensor(code).to(tn.device()))).numpy()


# ---------------------------------------------------------------------------------------- learning
EVERY = 50  # steps from one point of the curves to the next


def train(
    net: nn.Module, x: np.ndarray, epochs: int, config: Config, seed: int, watch: Callable[[], None] | None = None
) -> None:
    """Make the output like the input, x (N, K), 0 .. 1. watch: called at the start and every so many steps."""
    from tinynet.data import DataLoader

    loader = DataLoader(list(zip(x)), config.batch_size, seed=seed, workers=0)
    optimizer = Adam(net.parameters(), config.lr)
    schedule = CosineDecay(optimizer, total=epochs * len(loader))
    batches = (batch for _ in range(epochs) for batch in loader)
    for step, (batch,) in enumerate(tqdm(batches, "training", epochs * len(loader), leave=False, disable=None)):
        if watch is not None and step % EVERY == 0:
            watch()
        loss = tn.bce_with_logits(net(tn.tensor(batch).to(tn.device())), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def greedy(x: np.ndarray, widths: tuple[int, ...], config: Config, seed: int) -> list[Layer]:
    """Train a layer of each width on what the one below makes of x (N, V); what is below stays as it is."""
    layers: list[Layer] = []
    for width in widths:
        layer = Layer(x.shape[1], width, top=len(layers) == len(widths) - 1).to(tn.device())
        train(layer, x, config.greedy_epochs, config, seed)
        layers.append(layer)
        with tn.no_grad():
            x = layer.up(tn.tensor(x).to(tn.device())).numpy()
    return layers


def random_layers(pixels: int, widths: tuple[int, ...]) -> list[Layer]:
    """The same layers with random weights."""
    sizes = [*zip((pixels, *widths), widths)]
    return [Layer(*size, top=number == len(sizes)) for number, size in enumerate(sizes, start=1)]


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Squared error per test digit: error_greedy before fine-tuning, error after it, error_random from random weights,
    error_pca. Share of right digits among the ten nearest codes: retrieval, retrieval_pca."""
    config = parse(Config, argv, description=__doc__)
    with tn.use_backend(config.backend):
        return run_all(config)


def run_all(config: Config) -> dict[str, float]:
    """What `main` does, in the backend that was asked for."""
    from tinynet.data import handwritten_digits

    training, test, source = handwritten_digits(config.data)
    training = training.subset(slice(config.digits))
    x, labels, x_test = training.rows(), training.labels, test.rows()
    # The digits in MNIST's place are few: they are passed over more often.
    if not source.startswith("MNIST") and config.epochs == Config.epochs:
        config.greedy_epochs *= 20
        config.epochs *= 20
    widths = (*config.hidden, config.code)
    net = Stack(random_layers(x.shape[1], widths))
    print_settings(config, net, digits_read=source, training_digits=len(x), test_digits=len(x_test))
    queries, asked = x_test[:1000], test.labels[:1000]
    pca, average = shallow.PCA(x, config.code), x.mean(axis=0)
    watched = x[:: max(1, len(x) // 1000)]  # training digits: the curves need no others
    shown = x_test[shallow.one_of_each(test.labels)]
    rows: dict[str, np.ndarray] = {"test digits": shown}
    curves: dict[str, list[float]] = {}

    def train_all(name: str, net: Stack, epochs: int, seed: int) -> float:
        """Train all layers together; returns the squared error on the test digits."""
        curve: list[float] = []
        train(net, x, epochs, config, seed, lambda: curve.append(shallow.squared_errors(net, watched).mean()))
        curves.setdefault(name, curve)
        error = shallow.squared_errors(net, x_test).mean()
        print(
            f"  seed {seed}, from {name} weights: squared error {curve[0]:.1f}, after {epochs} epochs {error:.2f}",
            flush=True,
        )
        return error

    def one_run(seed: int) -> dict[str, float]:
        tn.seed(seed)
        layers = greedy(x, widths, config, seed)
        for count in range(1, len(layers) + 1):
            part = Stack(layers[:count])
            rows.setdefault(f"greedy: {widths[count - 1]} numbers", part.decode(part.encode(shown)))
        net = Stack(layers)
        error_greedy = shallow.squared_errors(net, x_test).mean()
        error = train_all("greedy", net, config.epochs, seed)
        rows.setdefault(f"fine-tuned: {config.code} numbers", net.decode(net.encode(shown)))
        # The greedy epochs of all layers take about as long as so many of the whole net: they are added here.
        epochs = config.greedy_epochs + config.epochs
        return {
            "error": error,
            "error_greedy": error_greedy,
            "error_random": train_all("random", Stack(random_layers(x.shape[1], widths)).to(tn.device()), epochs, seed),
            "retrieval": shallow.precision(net.encode(x), labels, net.encode(queries), asked),
        }

    metrics = {
        **mean_over_seeds(one_run, config.seed, config.seeds),
        "error_pca": shallow.squared_errors(pca, x_test).mean(),
        "retrieval_pca": shallow.precision(pca.encode(x), labels, pca.encode(queries), asked),
    }
    rows[f"PCA: {config.code} numbers"] = pca.decode(pca.encode(shown))
    out = Path(config.out)
    limits = {"the average digit": ((watched - average) ** 2).sum(axis=1).mean()}
    limits[f"PCA: {config.code} numbers"] = shallow.squared_errors(pca, watched).mean()
    starts = {"greedy": config.greedy_epochs, "random": 0}
    draw_curves(out / "curves.png", curves, starts, config.batch_size * EVERY / len(x), limits)
    draw_rows(out / "layers.png", rows)
    print_metrics(metrics, EXPECTED if source.startswith("MNIST") else {}, quick=config.quick)
    print(f"pictures: {out}/curves.png, {out}/layers.png")
    print("next: python examples/sequences/rnn_vanishing_gradient.py")
    return metrics


# ---------------------------------------------------------------------------------------- pictures
def draw_curves(
    path: Path, curves: dict[str, list[float]], starts: dict[str, int], apart: float, limits: dict[str, float]
) -> None:
    """The error while all layers learn together, from either start; what the average digit and PCA would give.

    starts: the epoch at which each curve begins; apart: from one point of a curve to the next, in epochs.
    """
    from tinynet import viz

    figure = viz.new_figure(7.5, 4.4)
    axes = figure.subplots()
    for (name, curve), colour in zip(curves.items(), (viz.BLUE, viz.VERMILLION)):
        axes.plot(
            starts[name] + apart * np.arange(len(curve)),
            curve,
            "o-",
            markersize=3,
            color=viz.mpl(colour),
            label=f"from {name} weights",
        )
    for (name, error), style in zip(limits.items(), (":", "--")):
        axes.axhline(error, color="0.4", linestyle=style, linewidth=1, label=name)
    axes.axvspan(0, starts["greedy"], color="0.93")
    bottom = axes.get_xaxis_transform()  # x in epochs, y from 0 at the bottom to 1 at the top
    axes.text(starts["greedy"] / 2, 0.05, "layer by layer", color=viz.mpl(viz.BLUE), ha="center", transform=bottom)
    axes.set(xlabel="epoch", ylabel="squared error per digit", yscale="log")
    axes.set_title("all layers together, from two starts")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend()
    viz.save_figure(path, figure)


def draw_rows(path: Path, rows: dict[str, np.ndarray]) -> None:
    """A digit of each kind, and what is left of it at each stage."""
    from tinynet import viz

    figure = viz.new_figure(7.6, 0.62 * len(rows) + 0.2)
    for (left, right), (title, pictures) in zip(figure.subplots(len(rows), 2, width_ratios=(1, 3)), rows.items()):
        left.text(1, 0.5, title, ha="right", va="center", fontsize=11)
        left.axis("off")
        shallow.show(right, pictures)
        right.set_frame_on(False)
    viz.save_figure(path, figure)


if __name__ == "__main__":
    run(main)
