"""The restricted Boltzmann machine: a net that learns what digits look like, and then dreams of them.

    python examples/unsupervised/rbm.py

Visible units v (the pixels, 0 or 1) and hidden units h (0 or 1) are connected with each other, but not among
themselves: that is the restriction. Every joint state has an energy, and states of low energy are likely:

    E(v, h) = - b.v - c.h - v W h,     P(v, h) = exp(-E(v, h)) / Z,     Z = sum of exp(-E) over all v and h

Given v the hidden units are independent, P(h_j = 1 | v) = sigmoid(c_j + v W_j), and the other way round. So the sum
over all h can be done by hand, which gives the free energy: P(v) = exp(-F(v)) / Z with

    F(v) = - b.v - sum_j log(1 + exp(c_j + v W_j))

Learning raises the probability of the data. The derivative of log P(v) after the weights is a difference of two means,

    d log P / dW = <v h> of the data  -  <v h> of the model

Measure the first on a batch. For the second one would have to draw from the model, by Gibbs sampling (h given v, v
given h, again and again) until the start is forgotten. Two ways not to wait for that:

- **CD-1**, contrastive divergence: start at the data, take one step. Biased: it digs valleys into the energy where the
  data are, and never sees what else is low far away.
- **PCD**, persistent CD: chains that go on from update to update. They wander off, and where the model is likely but
  the data are not, they push the energy up.

How good is the model? Z is a sum of 2^(V + H) terms, so log P(v) is out of reach, and there are four things to look at:

- the **pseudo-likelihood**: how well each pixel is predicted by all the others; needs no Z;
- the **free energy** of digits it has learnt from and of others: a gap that opens is over-fitting (a nat or so is
  chance);
- **exactly**, for a small machine: 16 hidden units are 65,536 states to enumerate, and the pixels sum by hand;
- **annealed importance sampling** for the large one: chains that pass slowly from a model with known Z to this one, and
  add up what changes on the way. On the small machine it can be held against the truth.

To see: the filters are strokes. The pseudo-likelihood calls both machines equal; the likelihood says that PCD is the
better model, and so do samples: started from noise, the chains of CD-1 nearly all end as a zero, those of PCD as many
digits.

Sources: Smolensky, in Parallel Distributed Processing 1, 1986; Hinton, Training products of experts by minimizing
contrastive divergence, Neural Computation 14, 2002 (CD); Tieleman, Training restricted Boltzmann machines using
approximations to the likelihood gradient, ICML 2008 (PCD, falling learning rate); Salakhutdinov and Murray, On the
quantitative analysis of deep belief networks, ICML 2008 (AIS, section 3; exact enumeration); Hinton, A practical guide
to training restricted Boltzmann machines, 2010 (initial biases, free energy gap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet.tools.cli import NetOptions, mean_over_seeds, option, parse, print_metrics, print_settings, run

TOPIC = "Restricted Boltzmann machine, contrastive divergence"
DATA = "MNIST, 60,000 + 10,000 digits, made black and white"
FILES = ("mnist/train-images-idx3-ubyte.gz", "mnist/t10k-images-idx3-ubyte.gz")
EXPECTED = {
    "exact_pcd": (-160, -145),
    "pcd_gain": (5, 30),  # exact_pcd - exact_cd
    "annealed_cd": (-122, -106),
    "annealed_pcd": (-114, -98),
    "annealing_off": (None, 1),
}
PICTURE = "samples.png"


@dataclass
class Config(NetOptions):
    """The flags."""

    out: str = option("out/rbm", "folder for the pictures")
    data: str | None = option(None, "folder of MNIST (default: TINYNET_DATA, then the cache)")
    seeds: int = option(3, "runs, the mean of which counts", quick=1)
    digits: int = option(60000, "digits to learn from, at most", quick=2000)
    hidden: int = option(256, "hidden units of the large machine", quick=64)
    small: int = option(16, "hidden units of the small one, whose 2^H states are enumerated", quick=6)
    epochs: int = option(6, "passes over the digits", quick=10)
    batch_size: int = option(100, "digits per update, and chains of PCD")
    lr: float = option(0.05, "learning rate at first; it falls to zero along a straight line", quick=0.2)
    betas: int = option(1000, "steps of annealed importance sampling", quick=100)


# ---------------------------------------------------------------------------------------- the machine
def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), by the framework's kernel."""
    return tn.sigmoid(tn.tensor(x).to(tn.device())).numpy()


def times(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The matrix product in the dtype of the weights, by the framework's kernel."""
    x, weight = (tn.tensor(a.astype(weight.dtype, copy=False)).to(tn.device()) for a in (x, weight))
    return (x @ weight).numpy()


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), written so that exp cannot overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sample(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Units that are 1 with probability p: float32 of the shape of p."""
    return (rng.random(p.shape, dtype=np.float32) < p).astype(np.float32)


class RBM:
    """Weights W (V, H), biases b (V,) of the visible and c (H,) of the hidden units, all float32.

    mean: how often each visible unit is on in the data, (V,). Visible biases start where they explain that alone, so
    that the weights need not learn it.
    """

    def __init__(self, mean: np.ndarray, hidden: int, rng: np.random.Generator) -> None:
        mean = np.clip(mean, 0.001, 0.999)
        self.W = rng.normal(0, 0.01, (len(mean), hidden)).astype(np.float32)
        self.b = np.log(mean / (1 - mean)).astype(np.float32)
        self.c = np.zeros(hidden, dtype=np.float32)

    def hidden(self, v: np.ndarray) -> np.ndarray:
        """P(h = 1 | v): (N, V) to (N, H)."""
        return sigmoid(times(v, self.W) + self.c)

    def visible(self, h: np.ndarray) -> np.ndarray:
        """P(v = 1 | h): (N, H) to (N, V)."""
        return sigmoid(times(h, self.W.T) + self.b)

    def gibbs(self, v: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
        """The states of the chains v (N, V) after so many steps there and back."""
        for _ in range(steps):
            v = sample(self.visible(sample(self.hidden(v), rng)), rng)
        return v

    def free_energy(self, v: np.ndarray) -> np.ndarray:
        """F(v) = -log of the sum of exp(-E(v, h)) over all h: (N, V) to (N,)."""
        return -times(v, self.b) - softplus(times(v, self.W) + self.c).sum(axis=1)


# ---------------------------------------------------------------------------------------- learning
def statistics(rbm: RBM, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of v h, v and h over states v (N, V): the derivatives of -E by W, b and c.

    The probability of h stands in for h: the same mean, and less noise.
    """
    h = rbm.hidden(v)
    return times(v.T, h) / len(v), v.mean(axis=0), h.mean(axis=0)


def update(rbm: RBM, v: np.ndarray, chains: np.ndarray, lr: float, rng: np.random.Generator) -> np.ndarray:
    """One step uphill: what the data do gets likelier, what the model does by itself gets less likely.

    v: data (N, V). chains: where the model's own states begin: at `v` that is CD-1; at what the update before
    returned, PCD. Returns the chains (N, V), one step on.
    """
    chains = rbm.gibbs(chains, 1, rng)
    for parameter, data, model in zip((rbm.W, rbm.b, rbm.c), statistics(rbm, v), statistics(rbm, chains)):
        parameter += lr * (data - model)
    return chains


def learn(
    x: np.ndarray,
    hidden: int,
    persistent: bool,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    watched: np.ndarray | None = None,
) -> tuple[RBM, np.ndarray]:
    """Train a machine on grey levels x (N, V), 0 .. 1, which are taken as probabilities: drawn anew in every epoch.

    watched: digits (M, V), black and white, that it does not learn from. Returns the machine, and its curve
    (epochs, 2): pseudo-likelihood of `watched`, and its free energy above that of as many training digits; zeros
    without `watched`.
    """
    from tinynet.data import DataLoader

    rng = np.random.default_rng(seed)
    rbm = RBM(x.mean(axis=0), hidden, rng)
    loader = DataLoader(list(zip(x)), batch_size, seed=seed, workers=0)
    chains = sample(x[:batch_size], rng)
    curve = np.zeros((epochs, 2))
    updates, done = epochs * len(loader), 0
    for epoch in range(epochs):
        for (grey,) in tqdm(loader, f"epoch {epoch + 1}/{epochs}", leave=False, disable=None):
            v = sample(grey, rng)
            chains = update(rbm, v, chains if persistent else v, lr * (1 - done / updates), rng)
            done += 1
        if watched is not None:
            seen = sample(x[: len(watched)], rng)
            gap = rbm.free_energy(watched).mean() - rbm.free_energy(seen).mean()
            curve[epoch] = pseudo_log_likelihood(rbm, watched, rng), gap
            name = "PCD " if persistent else "CD-1"
            if (epoch + 1) % max(1, epochs // 6) == 0:
                print(f"  {name} epoch {epoch + 1}: pseudo-likelihood {curve[epoch, 0]:.1f}, free energy gap {gap:.2f}")
    return rbm, curve


# ---------------------------------------------------------------------------------------- how good is it?
def pseudo_log_likelihood(rbm: RBM, v: np.ndarray, rng: np.random.Generator, pixels: int = 40) -> float:
    """Mean over v (N, V) of sum_i log P(v_i | all other pixels), estimated from so many random pixels of each.

    P(v_i | others) = P(v) / (P(v) + P(v with pixel i flipped)) = sigmoid(F(flipped) - F(v)): Z drops out. The flip
    changes v_i by 1 - 2 v_i, and the input of the hidden units by as much times W_i.
    """
    rows, inputs = np.arange(len(v)), times(v, rbm.W) + rbm.c
    before = softplus(inputs).sum(axis=1)
    logs = []
    for _ in range(pixels):
        i = rng.integers(v.shape[1], size=len(v))
        change = 1 - 2 * v[rows, i]
        after = softplus(inputs + change[:, None] * rbm.W[i]).sum(axis=1)
        rise = -change * rbm.b[i] - (after - before)  # F(flipped) - F(v)
        logs.append(-softplus(-rise).mean())
    return float(v.shape[1] * np.mean(logs))


def exact_log_z(rbm: RBM, block: int = 1024) -> float:
    """log Z by enumeration of the 2^H hidden states; the sum over all v is a product over the pixels.

    Z = sum_h exp(c.h) prod_i (1 + exp(b_i + W_i h)). block: states at a time, which bounds the memory.
    """
    from scipy.special import logsumexp

    hidden = len(rbm.c)
    terms = []
    for first in range(0, 2**hidden, block):
        number = np.arange(first, min(first + block, 2**hidden))
        h = ((number[:, None] >> np.arange(hidden)) & 1).astype(np.float32)  # the digits of a binary number
        terms.append(times(h, rbm.c) + softplus(times(h, rbm.W.T) + rbm.b).sum(axis=1, dtype=np.float64))
    return float(logsumexp(np.concatenate(terms)))


def annealed_log_z(rbm: RBM, base: np.ndarray, betas: int, rng: np.random.Generator, chains: int = 100) -> float:
    """log Z by annealed importance sampling (Salakhutdinov and Murray 2008, section 3).

    Between a machine without weights (visible biases `base`, (V,)), whose Z is known, and this one lie models that have
    a share beta of this one's energy. Each chain multiplies up by how much its state gets likelier from one to the
    next; the mean of these products is Z / Z_base.
    """
    from scipy.special import logsumexp

    def log_p(v: np.ndarray, beta: float) -> np.ndarray:
        """log of the unnormalised probability of v at beta."""
        biases = (1 - beta) * times(v, base) + beta * times(v, rbm.b)
        return biases + softplus(beta * (times(v, rbm.W) + rbm.c)).sum(axis=1, dtype=np.float64)

    schedule = np.linspace(0, 1, betas + 1, dtype=np.float32)
    v = sample(np.broadcast_to(sigmoid(base), (chains, len(base))), rng)
    log_weight = np.zeros(chains)
    for before, beta in pairwise(schedule):
        log_weight += log_p(v, beta) - log_p(v, before)
        h = sample(sigmoid(beta * (times(v, rbm.W) + rbm.c)), rng)
        v = sample(sigmoid((1 - beta) * base + beta * (times(h, rbm.W.T) + rbm.b)), rng)
    log_z_base = len(rbm.c) * np.log(2) + softplus(base).sum()
    return float(log_z_base + logsumexp(log_weight) - np.log(chains))


def log_likelihood(rbm: RBM, v: np.ndarray, log_z: float) -> float:
    """Mean of log P(v) over v (N, V), in nats per digit."""
    return float(-rbm.free_energy(v).mean(dtype=np.float64) - log_z)


# ---------------------------------------------------------------------------------------- all of it
def load_digits(data: str | None, limit: int) -> tuple[np.ndarray, np.ndarray, str]:
    """(training digits, test digits, what they are): grey levels 0 .. 1, float32 (N, 784)."""
    from tinynet.data import handwritten_digits

    training, test, source = handwritten_digits(data)
    return training.subset(slice(limit)).rows(), test.rows(), source


METHODS = {"cd": False, "pcd": True}  # name -> whether the chains go on


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Both machines, both ways. Returns log-likelihoods of test digits in nats per digit: exact_* of the small machine,
    annealed_* of the large one; its pseudo-likelihoods pseudo_*; pcd_gain, what PCD gains over CD-1 on the small one;
    and how far annealing was off there."""
    config = parse(Config, argv, description=__doc__)
    with tn.use_backend(config.backend):
        return run_all(config)


def run_all(config: Config) -> dict[str, float]:
    """What `main` does, in the backend that was asked for."""
    x, x_test, source = load_digits(config.data, config.digits)
    if not source.startswith("MNIST") and config.epochs == Config.epochs:
        config.epochs *= 20  # the digits in MNIST's place are few: they are passed over more often
    x = np.random.default_rng(config.seed).permutation(x)  # neighbours in the file are by one writer
    watched = max(1, min(2000, len(x) // 5))
    x, x_watched = x[:-watched], x[-watched:]
    sizes = {"training_digits": len(x), "watched_digits": watched, "test_digits": len(x_test)}
    print_settings(config, digits_read=source, **sizes, weights=x.shape[1] * config.hidden)
    kept: dict[str, tuple[RBM, np.ndarray]] = {}

    def one_run(seed: int) -> dict[str, float]:
        rng = np.random.default_rng((seed, 1))
        test = sample(x_test, rng)
        figures, off = {}, []
        for name, persistent in METHODS.items():
            setting = (persistent, config.epochs, config.batch_size, config.lr, seed)
            small, _ = learn(x, config.small, *setting)
            base = RBM(x.mean(axis=0), 1, rng).b  # the machine that knows only how often each pixel is on
            log_z = exact_log_z(small)
            off.append(abs(annealed_log_z(small, base, config.betas, rng) - log_z))
            figures[f"exact_{name}"] = log_likelihood(small, test, log_z)

            large, curve = learn(x, config.hidden, *setting, watched=sample(x_watched, rng))
            figures[f"annealed_{name}"] = log_likelihood(large, test, annealed_log_z(large, base, config.betas, rng))
            figures[f"pseudo_{name}"] = pseudo_log_likelihood(large, test[:2000], rng)
            kept.setdefault(name, (large, curve))
        return {**figures, "pcd_gain": figures["exact_pcd"] - figures["exact_cd"], "annealing_off": max(off)}

    metrics = mean_over_seeds(one_run, config.seed, config.seeds)
    out = Path(config.out)
    machines = {name: kept[name][0] for name in METHODS}
    draw_filters(out / "filters.png", machines)
    draw_samples(out / "samples.png", machines, config.seed, steps=(0, 1, 10, 100) if config.quick else STEPS)
    draw_curves(out / "curves.png", {name: kept[name][1] for name in METHODS})
    print_metrics(metrics, EXPECTED if source.startswith("MNIST") else {}, quick=config.quick)
    print(f"pictures: {out}/filters.png, {out}/samples.png, {out}/curves.png")
    print("next: python examples/unsupervised/dbn.py")
    return metrics


# ---------------------------------------------------------------------------------------- pictures
TITLES = {"cd": "CD-1", "pcd": "persistent CD"}
STEPS = (0, 1, 10, 100, 1000)


def mosaic(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Pictures (N, 784) side by side, with a line of NaN (which Matplotlib leaves white) between them."""
    pictures = np.pad(pictures.reshape(-1, 28, 28), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    rows = [np.concatenate(pictures[i : i + columns], axis=1) for i in range(0, len(pictures), columns)]
    return np.concatenate(rows)


def draw_filters(path: Path, machines: dict[str, RBM]) -> None:
    """The weights of 64 hidden units of each machine: blue pixels speak for the unit, red ones against it."""
    from tinynet import viz

    figure = viz.new_figure(11, 5.8)
    for axes, (name, rbm) in zip(figure.subplots(1, len(machines)), machines.items()):
        limit = np.percentile(np.abs(rbm.W), 99.5)
        axes.imshow(mosaic(rbm.W.T[:64], 8), cmap="RdBu", vmin=-limit, vmax=limit)
        axes.set_title(f"{TITLES[name]}: weights of 64 hidden units")
        axes.set_axis_off()
    viz.save_figure(path, figure)


def draw_samples(path: Path, machines: dict[str, RBM], seed: int, steps: Sequence[int]) -> None:
    """Chains of Gibbs sampling that start from noise, after more and more steps."""
    from tinynet import viz

    figure = viz.new_figure(11, 2.9)
    for axes, (name, rbm) in zip(figure.subplots(1, len(machines)), machines.items()):
        rng = np.random.default_rng(seed)
        v = sample(np.full((10, len(rbm.b)), 0.5), rng)
        rows = []
        for before, after in zip((0, *steps), steps):
            v = rbm.gibbs(v, after - before, rng)
            rows.append(rbm.visible(sample(rbm.hidden(v), rng)) if after else v)
        axes.imshow(mosaic(np.concatenate(rows), 10), cmap="gray_r", vmin=0, vmax=1)
        axes.set_yticks([30 * i + 15 for i in range(len(steps))], [f"{n:,}" for n in steps])
        axes.set_xticks([])
        axes.set_title(f"{TITLES[name]}: ten chains from noise")
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.set_ylabel("Gibbs steps")
    viz.save_figure(path, figure)


def draw_curves(path: Path, curves: dict[str, np.ndarray]) -> None:
    """Pseudo-likelihood and free energy gap, epoch by epoch."""
    from tinynet import viz

    figure = viz.new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for (name, curve), colour in zip(curves.items(), (viz.VERMILLION, viz.BLUE)):
        epochs = range(1, len(curve) + 1)
        left.plot(epochs, curve[:, 0], "o-", color=viz.mpl(colour), markersize=4, label=TITLES[name])
        right.plot(epochs, curve[:, 1], "o-", color=viz.mpl(colour), markersize=4, label=TITLES[name])
    right.axhline(0, color="0.7", linewidth=1)
    left.set(xlabel="epoch", ylabel="nats per digit", title="pseudo-likelihood of unseen digits")
    right.set(xlabel="epoch", ylabel="nats", title="free energy: unseen above training digits")
    widest = max(5, *(np.abs(curve[:, 1]).max() for curve in curves.values()))  # a scale on which chance looks small
    right.set_ylim(-widest, widest)
    left.legend()
    viz.save_figure(path, figure)


if __name__ == "__main__":
    run(main)
