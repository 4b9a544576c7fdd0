"""The autoencoder: a net that must say again what it saw, through a bottleneck.

    python examples/unsupervised/autoencoder.py

An encoder turns a digit of 784 pixels into a code of 30 numbers, a decoder turns the code into 784 pixels, and both
learn together to make the output like the input. No labels are needed: the input is the target. The bottleneck keeps
the net from copying; it has to find what digits have in common.

With linear layers and the squared error as loss this would be principal component analysis (PCA), the best linear code
there is. Hidden layers in between bend it: the digits lie on a curved surface, and a curved coordinate system follows
it better. To see:

- **Compression**: with 30 numbers per digit the autoencoder's squared error is about half of that of PCA.
- **A map**: with 2 numbers the digits fall into regions of their own, where PCA leaves them in one heap. And every
  point of the map can be decoded: walk from one digit to another.
- **Retrieval**: the digits with the nearest codes are digits of the same kind, at a fraction of the pixels' memory.
- **Anomaly detection**: a net that never saw one of the digits reconstructs it badly. The error is a score for "this is
  new", learnt from normal examples alone, as one would like it in screening. It is no miracle: try `--unseen 1`. A
  straight line is simple, so it is reconstructed well though the net has never seen one, and the score fails.

The derivation of the loss: pixels are grey levels 0 .. 1, taken as probabilities. -log of what the output sigmoid gives
them is the cross-entropy, which unlike the squared error does not go flat where the sigmoid does.

Sources: Rumelhart, Hinton, Williams, Learning internal representations by error propagation, 1986; Baldi and Hornik,
Neural networks and principal component analysis, Neural Networks 2, 1989; Hinton and Salakhutdinov, Reducing the
dimensionality of data with neural networks, Science 313, 2006 (codes of 30 and of 2 numbers against PCA, retrieval).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import nn
from tinynet.imaging.metrics import auc
from tinynet.nn.optim import Adam, CosineDecay
from tinynet.tools.cli import NetOptions, mean_over_seeds, option, parse, print_metrics, print_settings, run

TOPIC = "Autoencoder: compression, map, retrieval, anomalies"
DATA = "MNIST, 60,000 + 10,000 digits"
FILES = (
    "mnist/train-images-idx3-ubyte.gz",
    "mnist/train-labels-idx1-ubyte.gz",
    "mnist/t10k-images-idx3-ubyte.gz",
    "mnist/t10k-labels-idx1-ubyte.gz",
)
EXPECTED = {
    "error": (None, 8),
    "error_pca": (13.8, 13.95),  # 13.87 in Hinton and Salakhutdinov
    "error_2": (None, 36),
    "error_2_pca": (43, 45),
    "retrieval": (0.9, None),
    "anomaly": (0.85, None),
}
PICTURE = "codes.png"


@dataclass
class Config(NetOptions):
    """The flags."""

    out: str = option("out/autoencoder", "folder for the pictures")
    data: str | None = option(None, "folder of MNIST (default: TINYNET_DATA, then the cache)")
    seeds: int = option(3, "runs, the mean of which counts", quick=1)
    digits: int = option(60000, "digits to learn from, at most", quick=3000)
    code: int = option(30, "numbers in a code")
    hidden: tuple[int, ...] = option((256, 64), "neurons of the encoder's layers; the decoder mirrors them", nargs="+")
    detector_code: int = option(8, "numbers in a code of the anomaly detector: tighter, to leave nothing to spare")
    unseen: int = option(0, "the digit that the anomaly detector never sees", choices=tuple(range(10)))
    epochs: int = option(6, "passes over the digits", quick=12)
    batch_size: int = option(128, "digits per step")
    lr: float = option(2e-3, "highest learning rate (Adam; a cosine down to zero)")


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
        with tn.no_grad():
            return self.encoder(tn.tensor(x).to(tn.device())).numpy()

    def decode(self, code: np.ndarray) -> np.ndarray:
        """Digits of codes: (N, code) to (N, V), 0 .. 1."""
        with tn.no_grad():
            return tn.sigmoid(self.decoder(tn.tensor(code).to(tn.device()))).numpy()


def train(net: nn.Module, x: np.ndarray, epochs: int, config: Config, seed: int) -> list[float]:
    """Make the output like the input, x (N, V), 0 .. 1. Returns the mean loss of each epoch."""
    from tinynet.data import DataLoader

    loader = DataLoader(list(zip(x)), config.batch_size, seed=seed, workers=0)
    optimizer = Adam(net.parameters(), config.lr)
    schedule = CosineDecay(optimizer, total=epochs * len(loader))
    curve = []
    for epoch in range(epochs):
        losses = []
        for (batch,) in tqdm(loader, f"epoch {epoch + 1}/{epochs}", leave=False, disable=None):
            loss = tn.bce_with_logits(net(tn.tensor(batch).to(tn.device())), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        curve.append(float(np.mean(losses)))
    return curve


# ---------------------------------------------------------------------------------------- PCA, to compare with
class PCA:
    """The best linear code: coordinates along the directions in which the data x (N, V) vary most.

    These are the eigenvectors of the covariance matrix with the largest eigenvalues.
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
    """Numbers of the `count` codes (N, K) nearest to each query (M, K), the nearest first: (M, count)."""
    distances = (codes**2).sum(axis=1) - 2 * queries @ codes.T  # squared, less |query|^2, the same for all codes
    best = np.argpartition(distances, count, axis=1)[:, :count]
    return np.take_along_axis(best, np.argsort(np.take_along_axis(distances, best, axis=1), axis=1), axis=1)


def precision(codes: np.ndarray, labels: np.ndarray, queries: np.ndarray, asked: np.ndarray, count: int = 10) -> float:
    """Share of the `count` nearest that are the digit that was asked for."""
    return float(np.mean(labels[nearest(codes, queries, count)] == asked[:, None]))


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Squared error per test digit (error_*, with code and with 2 numbers: error_2_*), share of right digits among the
    ten nearest (retrieval_*), and the area under the ROC curve of the anomaly score (anomaly_*)."""
    config = parse(Config, argv, description=__doc__)
    with tn.use_backend(config.backend):
        return run_all(config)


def run_all(config: Config) -> dict[str, float]:
    """What `main` does, in the backend that was asked for."""
    from tinynet.data import handwritten_digits

    training, test, source = handwritten_digits(config.data)
    training = training.subset(slice(config.digits))
    x, labels, x_test = training.rows(), training.labels, test.rows()
    if not source.startswith("MNIST") and config.epochs == Config.epochs:
        config.epochs *= 20  # the digits in MNIST's place are few: they are passed over more often
    net = Autoencoder(x.shape[1], config.hidden, config.code)
    print_settings(config, net, digits_read=source, training_digits=len(x), test_digits=len(x_test))
    queries, asked = x_test[:1000], test.labels[:1000]
    normal, unseen = labels != config.unseen, test.labels == config.unseen
    pca, flat_pca, normal_pca = PCA(x, config.code), PCA(x, 2), PCA(x[normal], config.detector_code)
    kept: dict[str, Autoencoder] = {}

    def learn(name: str, code: int, digits: np.ndarray, seed: int) -> Autoencoder:
        tn.seed(seed)
        net = Autoencoder(digits.shape[1], config.hidden, code).to(tn.device())
        curve = train(net, digits, config.epochs, config, seed)
        print(f"  seed {seed}, {name}: loss {curve[0]:.4f} in the first epoch, {curve[-1]:.4f} in the last", flush=True)
        kept.setdefault(name, net)  # the pictures show the first run
        return net

    def one_run(seed: int) -> dict[str, float]:
        net = learn(f"code of {config.code}", config.code, x, seed)
        flat = learn("code of 2", 2, x, seed)
        detector = learn(f"without {config.unseen}", config.detector_code, x[normal], seed)
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
    net, flat, detector = kept.values()
    out = Path(config.out)
    draw_reconstructions(out / "reconstructions.png", x_test, test.labels, net, pca)
    draw_codes(out / "codes.png", x_test, test.labels, flat, flat_pca)
    draw_retrieval(out / "retrieval.png", x, labels, x_test, test.labels, net)
    draw_anomalies(out / "anomalies.png", x_test, unseen, config.unseen, detector)
    print_metrics(metrics, EXPECTED if source.startswith("MNIST") else {}, quick=config.quick)
    names = ("reconstructions", "codes", "retrieval", "anomalies")
    print("pictures: " + ", ".join(f"{out}/{name}.png" for name in names))
    print("next: python examples/unsupervised/stacked_autoencoder.py")
    return metrics


# ---------------------------------------------------------------------------------------- pictures
def show(axes, pictures: np.ndarray, title: str = "", rows: int = 1) -> None:
    """Digits (N, 784) in so many rows, black on white."""
    side = int(np.sqrt(pictures.shape[1]))
    grid = np.pad(pictures.reshape(rows, -1, side, side), ((0, 0), (0, 0), (1, 1), (1, 1)))
    axes.imshow(np.concatenate(np.concatenate(grid, axis=1), axis=1), cmap="gray_r", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=11)


def one_of_each(labels: np.ndarray) -> np.ndarray:
    """The number of the first digit of every class: (10,)."""
    return np.array([np.flatnonzero(labels == digit)[0] for digit in range(10)])


def draw_reconstructions(path: Path, x: np.ndarray, labels: np.ndarray, net: Autoencoder, pca: PCA) -> None:
    """A digit of each kind, and what the two codes keep of it."""
    from tinynet import viz

    figure = viz.new_figure(7, 3)
    original = x[one_of_each(labels)]
    numbers = pca.directions.shape[1]
    rows = {
        "test digits": original,
        f"autoencoder, {numbers} numbers: squared error {squared_errors(net, x).mean():.1f} per digit": net.decode(
            net.encode(original)
        ),
        f"PCA, {numbers} numbers: {squared_errors(pca, x).mean():.1f} per digit": pca.decode(pca.encode(original)),
    }
    for axes, (title, pictures) in zip(figure.subplots(3, 1), rows.items()):
        show(axes, pictures, title)
    viz.save_figure(path, figure)


def draw_codes(path: Path, x: np.ndarray, labels: np.ndarray, flat: Autoencoder, pca: PCA) -> None:
    """Test digits on the maps of PCA and of the autoencoder, and the second map decoded."""
    from matplotlib import colormaps

    from tinynet import viz

    figure = viz.new_figure(14, 4.6)
    panels = figure.subplots(1, 3)
    colours = colormaps["tab10"].colors
    for axes, coder, title in ((panels[0], pca, "PCA"), (panels[1], flat, "autoencoder")):
        code = coder.encode(x[:5000])
        for digit, colour in enumerate(colours):
            axes.scatter(*code[labels[:5000] == digit].T, s=3, color=colour, alpha=0.6, linewidth=0)
        for digit, colour in enumerate(colours):
            place = np.median(code[labels[:5000] == digit], axis=0)
            box = {"boxstyle": "circle,pad=0.15", "facecolor": "w", "edgecolor": colour, "linewidth": 2}
            axes.text(*place, str(digit), fontsize=11, weight="bold", ha="center", va="center", bbox=box)
        low, high = np.percentile(code, [0.5, 99.5], axis=0)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
        axes.set_title(f"{title}, 2 numbers: squared error {squared_errors(coder, x).mean():.1f}")
    edges = [np.linspace(low[i], high[i], 19) for i in (0, 1)]
    u, v = ((edge[:-1] + edge[1:]).astype(np.float32) / 2 for edge in edges)
    grid = np.stack(np.meshgrid(u, v[::-1]), axis=-1).reshape(-1, 2)
    codes_there = np.histogram2d(*flat.encode(x).T, bins=edges)[0].T[::-1].reshape(-1, 1)
    decoded = np.where(codes_there > 0, flat.decode(grid), 0)  # nobody knows what lies where no digit is
    show(panels[2], decoded, "the autoencoder's map, decoded", rows=18)
    panels[2].set_aspect("auto")
    viz.save_figure(path, figure)


def draw_retrieval(
    path: Path, x: np.ndarray, labels: np.ndarray, x_test: np.ndarray, asked: np.ndarray, net: Autoencoder
) -> None:
    """Test digits, and the training digits with the nearest codes; those of another kind in a frame."""
    from matplotlib.patches import Rectangle

    from tinynet import viz

    query = one_of_each(asked)
    found = nearest(net.encode(x), net.encode(x_test[query]), 8)
    figure = viz.new_figure(6, 6)
    axes = figure.subplots()
    pictures = np.concatenate([x_test[query][:, None], np.zeros_like(x[query][:, None]), x[found]], axis=1)
    show(axes, pictures.reshape(-1, x.shape[1]), "asked for, and the training digits with the nearest codes", rows=10)
    for row, column in np.argwhere(labels[found] != asked[query][:, None]):
        frame = Rectangle((30 * (column + 2), 30 * row), 29, 29, fill=False, edgecolor=viz.mpl(viz.VERMILLION), lw=2)
        axes.add_patch(frame)
    axes.set_frame_on(False)
    viz.save_figure(path, figure)


def draw_anomalies(path: Path, x: np.ndarray, unseen: np.ndarray, digit: int, detector: Autoencoder) -> None:
    """The score of digits that it knows and of the one it does not; the ROC curve; examples."""
    from tinynet import viz

    errors = squared_errors(detector, x)
    figure = viz.new_figure(13, 3.8)
    left, middle, right = figure.subplots(1, 3)
    bins = np.linspace(0, np.percentile(errors, 99.8), 50)
    left.hist(errors[~unseen], bins, density=True, color=viz.mpl(viz.BLUE), alpha=0.7, label="the nine it has seen")
    left.hist(errors[unseen], bins, density=True, color=viz.mpl(viz.VERMILLION), alpha=0.7, label=f"{digit}, unseen")
    left.set(xlabel="squared error of the reconstruction", yticks=[], title="the score")
    left.legend()
    viz.draw_roc(middle, unseen, errors)
    middle.set_title(f"finding the {digit}")
    strange = np.flatnonzero(unseen)[:8]
    known = np.flatnonzero(~unseen)[:8]
    pictures = [part for i in (known, strange) for part in (x[i], detector.decode(detector.encode(x[i])))]
    show(right, np.concatenate(pictures), "seen, and unseen; below, what is made of them", rows=4)
    viz.save_figure(path, figure)


if __name__ == "__main__":
    run(main)
