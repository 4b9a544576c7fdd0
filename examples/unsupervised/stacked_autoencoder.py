"""A stacked autoencoder: learned greedily, layer by layer, then fine-tuned as a whole.

    python examples/unsupervised/stacked_autoencoder.py

Eight layers of sigmoid neurons (only the code is linear), 784-256-128-64-30-64-128-256-784, are hard to train from
random weights: the gradient shrinks at each sigmoid (examples/basics/activations.py), and at first the output is the
average digit, for any input. The greedy method replaces one hard problem by four easy problems and a last one with a
good start:

    1. a shallow autoencoder 784-256-784 learns the digits: two layers only
    2. another one, 256-128-256, learns the *codes* of the first; a third and a fourth learn the codes before them
    3. unrolled: all encoders in a row, then all decoders backwards, are a deep autoencoder already
    4. fine-tuning: backpropagation through all of it makes the parts fit each other

What to see: in the curves, the deep net with random weights stays on the plateau of the average digit for a while. With
greedy weights the error is far below from the first step on, although fine-tuning starts later, after the layers. The
rows of digits show what each further layer loses, and how much of it fine-tuning recovers: 30 numbers, with less error
than the 30 numbers of principal component analysis.

Sources: Hinton and Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313, 2006 (with
Boltzmann machines for steps 1 and 2: see rbm.py); Bengio, Lamblin, Popovici, Larochelle, Greedy layer-wise training of
deep networks, NIPS 2006 (with autoencoders, as here).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import tinynet as tn
from tinynet import nn, viz
from tinynet.data import handwritten_digits
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

shallow = load_example("unsupervised/autoencoder.py")  # PCA, errors, retrieval, pictures: read that script first


# ---------------------------------------------------------------------------------------- the net
class Layer(nn.Module):
    """A shallow autoencoder: n_in -> n_out -> n_in. The code of the top layer is linear, all others are sigmoids."""

    def __init__(self, n_in: int, n_out: int, top: bool = False) -> None:
        self.encode = nn.Linear(n_in, n_out, init=nn.init.glorot_normal)
        self.decode = nn.Linear(n_out, n_in, init=nn.init.glorot_normal)
        self.top = top

    def up(self, x: tn.Tensor) -> tn.Tensor:
        """Inputs (N, n_in) to codes (N, n_out)."""
        return self.encode(x) if self.top else tn.sigmoid(self.encode(x))

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        """Inputs (N, n_in), 0 .. 1, to the logits of their reconstructions."""
        return self.decode(self.up(x))


class Stack(shallow.Autoencoder):
    """The layers unrolled: up through all encoders, down through all decoders."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def encoder(self, x: tn.Tensor) -> tn.Tensor:
        for layer in self.layers:
            x = layer.up(x)
        return x

    def decoder(self, code: tn.Tensor) -> tn.Tensor:
        """Codes to the logits of pixels. The output of a decoder, after a sigmoid, is the code of the layer below."""
        *above, first = reversed(self.layers)
        for layer in above:
            code = tn.sigmoid(layer.decode(code))
        return first.decode(code)


# ---------------------------------------------------------------------------------------- learning
def greedy(x: np.ndarray, widths: tuple[int, ...], config: Config, seed: int) -> list[Layer]:
    """Train a layer of each width on the codes of the layer below, starting with x (N, V)."""
    layers: list[Layer] = []
    for width in widths:
        layer = Layer(x.shape[1], width, top=len(layers) == len(widths) - 1).to(tn.device())
        shallow.train(layer, x, config.greedy_epochs, config, seed)
        layers.append(layer)
        x = nn.predict(layer.up, x)
    return layers


def greedy_stages(layers: list[Layer], widths: tuple[int, ...], shown: np.ndarray) -> dict[str, np.ndarray]:
    """The digits `shown`, and their reconstructions by the first layer, the first two layers, ..., by title."""
    rows = {"test digits": shown}
    for count, width in enumerate(widths, start=1):
        part = Stack(layers[:count])
        rows[f"greedy: {width} numbers"] = part.decode(part.encode(shown))
    return rows


def random_layers(pixels: int, widths: tuple[int, ...]) -> list[Layer]:
    """The same layers with random weights."""
    sizes = [*zip((pixels, *widths), widths)]
    return [Layer(*size, top=number == len(sizes)) for number, size in enumerate(sizes, start=1)]


def fine_tune(net: Stack, x: np.ndarray, watched: np.ndarray, epochs: int, config: Config, seed: int) -> list[float]:
    """Train all layers together. Returns the curve: the squared error on `watched`, every shallow.EVERY steps."""
    curve: list[float] = []
    shallow.train(net, x, epochs, config, seed, lambda: curve.append(shallow.squared_errors(net, watched).mean()))
    error = shallow.squared_errors(net, watched).mean()
    print(f"  seed {seed}: squared error {curve[0]:.1f}, after {epochs} epochs {error:.2f}", flush=True)
    return curve


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/stacked_autoencoder", "folder for the figures")
    data: str | None = option(None, "folder of MNIST (default: TINYNET_DATA, then the cache)")
    digits: int = option(60000, "digits to learn from, at most", quick=3000)
    hidden: tuple[int, ...] = option((256, 128, 64), "neurons of the encoder's layers", nargs="+")
    code: int = option(30, "numbers in a code")
    greedy_epochs: int = option(2, "passes over the digits for each layer", quick=12)
    epochs: int = option(5, "passes over the digits for fine-tuning", quick=12)
    batch_size: int = option(128, "digits per step")
    lr: float = option(4e-3, "highest learning rate (Adam; a cosine down to zero)")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Squared error per test digit: error_greedy before fine-tuning, error after it, error_random from random weights,
    error_pca. Share of right digits among the ten nearest codes: retrieval, retrieval_pca."""
    training, test, source = handwritten_digits(config.data)
    training = training.subset(slice(config.digits))
    x, labels, x_test = training.rows(), training.labels, test.rows()
    # Without MNIST the digits are few, so they need more passes.
    if not source.startswith("MNIST") and config.epochs == Config.epochs:
        config.greedy_epochs *= 20
        config.epochs *= 20
    widths = (*config.hidden, config.code)
    net = Stack(random_layers(x.shape[1], widths))
    print_settings(config, net, digits_read=source, training_digits=len(x), test_digits=len(x_test))
    queries, asked = x_test[:1000], test.labels[:1000]
    pca = shallow.PCA(x, config.code)
    watched = x[:: max(1, len(x) // 1000)]  # the curves show the error on these training digits
    figures = {}

    def one_run(seed: int) -> dict[str, float]:
        tn.seed(seed)
        layers = greedy(x, widths, config, seed)
        net = Stack(layers)
        shown = x_test[shallow.one_of_each(test.labels)]
        rows = greedy_stages(layers, widths, shown)
        error_greedy = shallow.squared_errors(net, x_test).mean()
        greedy_curve = fine_tune(net, x, watched, config.epochs, config, seed)
        # The greedy epochs of all layers take about as long as so many epochs of the whole net: they are added here.
        random = Stack(random_layers(x.shape[1], widths)).to(tn.device())
        random_curve = fine_tune(random, x, watched, config.greedy_epochs + config.epochs, config, seed)
        if seed == config.seed:
            rows[f"fine-tuned: {config.code} numbers"] = net.decode(net.encode(shown))
            rows[f"PCA: {config.code} numbers"] = pca.decode(pca.encode(shown))
            figures["curves.png"] = draw_curves(greedy_curve, random_curve, x, watched, pca, config)
            figures["layers.png"] = draw_rows(rows)
        return {
            "error": shallow.squared_errors(net, x_test).mean(),
            "error_greedy": error_greedy,
            "error_random": shallow.squared_errors(random, x_test).mean(),
            "retrieval": shallow.precision(net.encode(x), labels, net.encode(queries), asked),
        }

    metrics = {
        **mean_over_seeds(one_run, config.seed, config.seeds),
        "error_pca": shallow.squared_errors(pca, x_test).mean(),
        "retrieval_pca": shallow.precision(pca.encode(x), labels, pca.encode(queries), asked),
    }
    return report(config, metrics, EXPECTED if source.startswith("MNIST") else {}, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_curves(
    greedy_curve: list[float],
    random_curve: list[float],
    x: np.ndarray,
    watched: np.ndarray,
    pca: shallow.PCA,
    config: Config,
) -> viz.Figure:
    """The error while all layers learn together, from either start; the errors of the average digit and of PCA."""
    figure, axes = viz.subplots(figsize=(7.5, 4.4))
    step = shallow.EVERY * config.batch_size / len(x)  # from one point of a curve to the next, in epochs
    starts = ((greedy_curve, config.greedy_epochs, "greedy", viz.BLUE), (random_curve, 0, "random", viz.VERMILLION))
    for curve, start, name, color in starts:
        epochs = start + step * np.arange(len(curve))
        axes.plot(epochs, curve, "o-", markersize=3, color=viz.mpl(color), label=f"from {name} weights")
    average = ((watched - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    axes.axhline(average, color="0.4", linestyle=":", linewidth=1, label="the average digit")
    pca_error = shallow.squared_errors(pca, watched).mean()
    axes.axhline(pca_error, color="0.4", linestyle="--", linewidth=1, label=f"PCA: {config.code} numbers")
    axes.axvspan(0, config.greedy_epochs, color="0.93")
    bottom = axes.get_xaxis_transform()  # x in epochs, y from 0 at the bottom to 1 at the top
    place = (config.greedy_epochs / 2, 0.05)
    axes.text(*place, "layer by layer", color=viz.mpl(viz.BLUE), ha="center", transform=bottom)
    axes.set(xlabel="epoch", ylabel="squared error per digit", yscale="log")
    axes.set_title("all layers together, from two starts")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend()
    return figure


def draw_rows(rows: dict[str, np.ndarray]) -> viz.Figure:
    """One digit of each class, and its reconstruction at each stage."""
    figure, panels = viz.subplots(len(rows), 2, width_ratios=(1, 3), figsize=(7.6, 0.62 * len(rows) + 0.2))
    for (left, right), (title, images) in zip(panels, rows.items()):
        left.text(1, 0.5, title, ha="right", va="center", fontsize=11)
        left.axis("off")
        shallow.show(right, images)
        right.set_frame_on(False)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Stacked autoencoder: greedy learning, layer by layer"
DATA = "MNIST, 60,000 + 10,000 digits"
FILES = ("mnist",)
EXPECTED = {
    "error": (None, 8.5),
    "error_pca": (13.8, 13.95),  # 13.87 in Hinton and Salakhutdinov
    "error_random": (20, None),
    "retrieval": (0.93, None),
}
PICTURE = "curves.png"
NEXT = "python examples/unsupervised/features_compared.py"


if __name__ == "__main__":
    run(main)
