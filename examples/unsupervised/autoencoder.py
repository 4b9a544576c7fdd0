"""The autoencoder: a net that reproduces its input through a bottleneck.

    python examples/unsupervised/autoencoder.py

An encoder turns a digit of 784 pixels into a code of 30 numbers, a decoder turns the code into 784 pixels, and both
learn together to make the output equal to the input. No labels are needed: the input is the target. The bottleneck
keeps the net from copying; it has to find what digits have in common.

With linear layers and the squared error as loss the net would be a principal component analysis (PCA), the best linear
code. Hidden layers make it nonlinear: the digits lie on a curved surface, and a curved coordinate system fits it
better. What to see:

- **Compression**: with 30 numbers per digit the squared error of the autoencoder is about half the error of PCA.
- **A map**: with 2 numbers each digit has its own region, while PCA leaves all digits in one heap. Every point of the
  map can be decoded: walk from one digit to another.
- **Retrieval**: the digits with the nearest codes are mostly the same digit, and codes need a fraction of the memory.
- **Anomaly detection**: a net reconstructs badly a digit that it never saw in training. The error is a score for "this
  is new", learned from normal examples alone, as screening needs it. It does not always work: try `--unseen 1`. A
  straight line is simple, so the net reconstructs it well although it has never seen one, and the score fails.

The loss: pixels are gray levels 0 .. 1, taken as probabilities. Their negative log-likelihood under the output sigmoid
is the cross-entropy; where the sigmoid is flat, the cross-entropy still has a gradient, unlike the squared error.

Sources: Rumelhart, Hinton, Williams, Learning internal representations by error propagation, 1986; Baldi and Hornik,
Neural networks and principal component analysis, Neural Networks 2, 1989; Hinton and Salakhutdinov, Reducing the
dimensionality of data with neural networks, Science 313, 2006 (codes of 30 and of 2 numbers against PCA, retrieval).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import nn, optim, viz
from tinynet.data import DataLoader, handwritten_digits
from tinynet.imaging.metrics import auc
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run


# ---------------------------------------------------------------------------------------- the net
def layers(*widths: int) -> nn.Sequential:
    """Linear layers with ELU between them, none after the last."""
    parts: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        parts += [nn.Linear(n_in, n_out), nn.ELU()]
    return nn.Sequential(*parts[:-1])


class Autoencoder(nn.Module):
    """784 -> hidden layers -> code -> hidden layers -> 784."""

    def __init__(self, pixels: int, hidden: tuple[int, ...], code: int) -> None:
        self.encoder = layers(pixels, *hidden, code)
        self.decoder = layers(code, *reversed(hidden), pixels)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        """Pixels (N, V) to the logits of pixels (N, V)."""
        return self.decoder(self.encoder(x))

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Codes of digits: (N, V) to (N, code)."""
        return nn.predict(self.encoder, x)

    def decode(self, code: np.ndarray) -> np.ndarray:
        """Digits of codes: (N, code) to (N, V), 0 .. 1."""
        return nn.predict(lambda z: tn.sigmoid(self.decoder(z)), code)


EVERY = 50  # steps from one call of `watch` to the next


def train(
    net: nn.Module, x: np.ndarray, epochs: int, config: Config, seed: int, watch: Callable[[], None] | None = None
) -> list[float]:
    """Train the net to reproduce x (N, V), 0 .. 1. Returns the loss of each step.

    watch: called before every EVERY-th step.
    """
    loader = DataLoader(list(zip(x)), config.batch_size, seed=seed, workers=0)
    steps = epochs * len(loader)
    optimizer = optim.Adam(net.parameters(), config.lr)
    schedule = optim.CosineDecay(optimizer, total=steps)
    losses = []
    for step, (batch,) in enumerate(tqdm(loader.steps(steps), "training", steps, leave=False, disable=None)):
        if watch is not None and step % EVERY == 0:
            watch()
        loss = tn.bce_with_logits(net(tn.tensor(batch).to(tn.device())), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def learn(code: int, x: np.ndarray, config: Config, seed: int) -> Autoencoder:
    """A trained net with a code of `code` numbers."""
    tn.seed(seed)
    net = Autoencoder(x.shape[1], config.hidden, code).to(tn.device())
    losses = train(net, x, config.epochs, config, seed)
    print(f"  seed {seed}, code of {code}: loss {losses[0]:.4f}, after training {losses[-1]:.4f}", flush=True)
    return net


# ---------------------------------------------------------------------------------------- PCA, for comparison
class PCA:
    """The best linear code: coordinates along the directions in which the data x (N, V) vary most.

    The directions are the eigenvectors of the covariance matrix with the largest eigenvalues.
    """

    def __init__(self, x: np.ndarray, code: int) -> None:
        self.mean = x.mean(axis=0)
        _, vectors = np.linalg.eigh(np.cov(x, rowvar=False))  # eigenvalues in rising order
        self.directions = vectors[:, ::-1][:, :code].astype(np.float32)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """(N, V) to (N, code)."""
        return (x - self.mean) @ self.directions

    def decode(self, code: np.ndarray) -> np.ndarray:
        """(N, code) to (N, V)."""
        return code @ self.directions.T + self.mean


def squared_errors(coder: Autoencoder | PCA, x: np.ndarray) -> np.ndarray:
    """Sum over the pixels of (output - input)^2, for each digit of x (N, V): (N,)."""
    return ((coder.decode(coder.encode(x)) - x) ** 2).sum(axis=1)


# ---------------------------------------------------------------------------------------- retrieval
def nearest(codes: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` codes (N, K) nearest to each query (M, K), the nearest first: (M, count)."""
    distances = (codes**2).sum(axis=1) - 2 * queries @ codes.T  # squared, minus the constant |query|^2
    best = np.argpartition(distances, count, axis=1)[:, :count]
    return np.take_along_axis(best, np.argsort(np.take_along_axis(distances, best, axis=1), axis=1), axis=1)


def precision(codes: np.ndarray, labels: np.ndarray, queries: np.ndarray, asked: np.ndarray, count: int = 10) -> float:
    """Share of the `count` nearest digits that have the label asked for."""
    return float(np.mean(labels[nearest(codes, queries, count)] == asked[:, None]))


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/autoencoder", "folder for the figures")
    data: str | None = option(None, "folder of MNIST (default: TINYNET_DATA, then the cache)")
    digits: int = option(60000, "digits to learn from, at most", quick=3000)
    code: int = option(30, "numbers in a code")
    hidden: tuple[int, ...] = option((256, 64), "neurons of the encoder's layers; the decoder mirrors them", nargs="+")
    detector_code: int = option(8, "numbers in a code of the anomaly detector, few so that only normal digits fit")
    unseen: int = option(0, "the digit that the anomaly detector never sees", choices=tuple(range(10)))
    epochs: int = option(6, "passes over the digits", quick=12)
    batch_size: int = option(128, "digits per step")
    lr: float = option(2e-3, "highest learning rate (Adam; a cosine down to zero)")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Squared error per test digit (error_*, with code and with 2 numbers: error_2_*), share of right digits among the
    ten nearest (retrieval_*), and the area under the ROC curve of the anomaly score (anomaly_*)."""
    training, test, source = handwritten_digits(config.data)
    training = training.subset(slice(config.digits))
    x, labels, x_test = training.rows(), training.labels, test.rows()
    if not source.startswith("MNIST") and config.epochs == Config.epochs:
        config.epochs *= 20  # without MNIST the digits are few, so they need more passes
    net = Autoencoder(x.shape[1], config.hidden, config.code)
    print_settings(config, net, digits_read=source, training_digits=len(x), test_digits=len(x_test))
    queries, asked = x_test[:1000], test.labels[:1000]
    normal, unseen = labels != config.unseen, test.labels == config.unseen
    pca, flat_pca, normal_pca = PCA(x, config.code), PCA(x, 2), PCA(x[normal], config.detector_code)
    figures = {}

    def one_run(seed: int) -> dict[str, float]:
        net, flat = learn(config.code, x, config, seed), learn(2, x, config, seed)
        detector = learn(config.detector_code, x[normal], config, seed)
        if seed == config.seed:
            figures["reconstructions.png"] = draw_reconstructions(x_test, test.labels, net, pca)
            figures["codes.png"] = draw_codes(x_test, test.labels, flat, flat_pca)
            figures["retrieval.png"] = draw_retrieval(x, labels, x_test, test.labels, net)
            figures["anomalies.png"] = draw_anomalies(x_test, unseen, config.unseen, detector)
        return {
            "error": squared_errors(net, x_test).mean(),
            "error_2": squared_errors(flat, x_test).mean(),
            "retrieval": precision(net.encode(x), labels, net.encode(queries), asked),
            "anomaly": auc(unseen, squared_errors(detector, x_test)),
        }

    metrics = {
        **mean_over_seeds(one_run, config.seed, config.seeds),
        "error_pca": squared_errors(pca, x_test).mean(),
        "error_2_pca": squared_errors(flat_pca, x_test).mean(),
        "retrieval_pca": precision(pca.encode(x), labels, pca.encode(queries), asked),
        "retrieval_pixels": precision(x, labels, queries, asked),
        "anomaly_pca": auc(unseen, squared_errors(normal_pca, x_test)),
    }
    return report(config, metrics, EXPECTED if source.startswith("MNIST") else {}, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def show(axes, images: np.ndarray, title: str = "", rows: int = 1) -> None:
    """Draw digits (N, 784) in `rows` rows, black on white."""
    side = int(np.sqrt(images.shape[1]))
    grid = np.pad(images.reshape(rows, -1, side, side), ((0, 0), (0, 0), (1, 1), (1, 1)))
    axes.imshow(np.concatenate(np.concatenate(grid, axis=1), axis=1), cmap="gray_r", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=11)


def one_of_each(labels: np.ndarray) -> np.ndarray:
    """Indices of the first digit of every class: (10,)."""
    return np.array([np.flatnonzero(labels == digit)[0] for digit in range(10)])


def draw_reconstructions(x: np.ndarray, labels: np.ndarray, net: Autoencoder, pca: PCA) -> viz.Figure:
    """One digit of each class, and its reconstructions by both codes."""
    original = x[one_of_each(labels)]
    numbers = pca.directions.shape[1]
    rows = {
        "test digits": original,
        f"autoencoder, {numbers} numbers: squared error {squared_errors(net, x).mean():.1f} per digit": net.decode(
            net.encode(original)
        ),
        f"PCA, {numbers} numbers: {squared_errors(pca, x).mean():.1f} per digit": pca.decode(pca.encode(original)),
    }
    figure, panels = viz.subplots(3, 1, figsize=(7, 3))
    for axes, (title, images) in zip(panels, rows.items()):
        show(axes, images, title)
    return figure


def draw_codes(x: np.ndarray, labels: np.ndarray, flat: Autoencoder, pca: PCA) -> viz.Figure:
    """Test digits on the maps of PCA and of the autoencoder, and the second map decoded."""
    from matplotlib import colormaps

    figure, panels = viz.subplots(1, 3, figsize=(12, 4.4))
    colors = colormaps["tab10"].colors
    for axes, coder, title in ((panels[0], pca, "PCA"), (panels[1], flat, "autoencoder")):
        code = coder.encode(x[:5000])
        for digit, color in enumerate(colors):
            axes.scatter(*code[labels[:5000] == digit].T, s=7, color=color, alpha=0.6, linewidth=0)
        for digit, color in enumerate(colors):
            place = np.median(code[labels[:5000] == digit], axis=0)
            box = {"boxstyle": "circle,pad=0.2", "facecolor": "w", "edgecolor": color, "linewidth": 2.5}
            axes.text(*place, str(digit), fontsize=12, weight="bold", ha="center", va="center", bbox=box)
        low, high = np.percentile(code, [0.5, 99.5], axis=0)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
        axes.set_title(f"{title}: squared error {squared_errors(coder, x).mean():.1f}", fontsize=11)
    edges = [np.linspace(low[i], high[i], 14) for i in (0, 1)]  # 13 x 13 digits are large enough to see
    u, v = ((edge[:-1] + edge[1:]).astype(np.float32) / 2 for edge in edges)
    grid = np.stack(np.meshgrid(u, v[::-1]), axis=-1).reshape(-1, 2)
    codes_there = np.histogram2d(*flat.encode(x).T, bins=edges)[0].T[::-1].reshape(-1, 1)
    decoded = np.where(codes_there > 0, flat.decode(grid), 0)  # blank where there is no digit
    show(panels[2], decoded, "the autoencoder's map, decoded", rows=13)
    return figure


def draw_retrieval(
    x: np.ndarray, labels: np.ndarray, x_test: np.ndarray, asked: np.ndarray, net: Autoencoder
) -> viz.Figure:
    """Test digits, and the training digits with the nearest codes; wrong digits in a frame."""
    from matplotlib.patches import Rectangle

    query = one_of_each(asked)
    found = nearest(net.encode(x), net.encode(x_test[query]), 8)
    figure, axes = viz.subplots(figsize=(6, 6))
    images = np.concatenate([x_test[query][:, None], np.zeros_like(x[query][:, None]), x[found]], axis=1)
    show(axes, images.reshape(-1, x.shape[1]), "a test digit, and the training digits with the nearest codes", rows=10)
    for row, column in np.argwhere(labels[found] != asked[query][:, None]):
        frame = Rectangle((30 * (column + 2), 30 * row), 29, 29, fill=False, edgecolor=viz.mpl(viz.VERMILLION), lw=2)
        axes.add_patch(frame)
    axes.set_frame_on(False)
    return figure


def draw_anomalies(x: np.ndarray, unseen: np.ndarray, digit: int, detector: Autoencoder) -> viz.Figure:
    """The scores of known digits and of the unseen digit; the ROC curve; examples."""
    errors = squared_errors(detector, x)
    figure, (left, middle, right) = viz.subplots(1, 3, figsize=(13, 3.8))
    bins = np.linspace(0, np.percentile(errors, 99.8), 50)
    left.hist(errors[~unseen], bins, density=True, color=viz.mpl(viz.BLUE), alpha=0.7, label="the nine it has seen")
    left.hist(errors[unseen], bins, density=True, color=viz.mpl(viz.VERMILLION), alpha=0.7, label=f"{digit}, unseen")
    left.set(xlabel="squared error of the reconstruction", yticks=[], title="the score")
    left.legend()
    viz.draw_roc(middle, unseen, errors)
    middle.set_title(f"finding the {digit}")
    strange = np.flatnonzero(unseen)[:8]
    known = np.flatnonzero(~unseen)[:8]
    images = [part for i in (known, strange) for part in (x[i], detector.decode(detector.encode(x[i])))]
    show(right, np.concatenate(images), "seen, and unseen; each with its reconstruction below", rows=4)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Autoencoder: compression, map, retrieval, anomalies"
DATA = "MNIST, 60,000 + 10,000 digits"
FILES = ("mnist",)
EXPECTED = {
    "error": (None, 8),
    "error_pca": (13.8, 13.95),  # 13.87 in Hinton and Salakhutdinov
    "error_2": (None, 36),
    "error_2_pca": (43, 45),
    "retrieval": (0.9, None),
    "anomaly": (0.85, None),
}
PICTURE = "codes.png"
NEXT = "python examples/unsupervised/stacked_autoencoder.py"


if __name__ == "__main__":
    run(main)
