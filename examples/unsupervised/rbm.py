"""The restricted Boltzmann machine: a net that learns what digits look like, and then draws some itself.

    python examples/unsupervised/rbm.py

Visible units v (the pixels, 0 or 1) and hidden units h (0 or 1) are connected with each other, but not among
themselves: that is the restriction. Every joint state has an energy, and states of low energy are likely:

    E(v, h) = - b.v - c.h - v W h,     P(v, h) = exp(-E(v, h)) / Z,     Z = sum of exp(-E) over all v and h

Given v, the hidden units are independent, P(h_j = 1 | v) = sigmoid(c_j + v W_j); given h, so are the visible units. So
the sum over all h has a closed form, which gives the free energy: P(v) = exp(-F(v)) / Z with

    F(v) = - b.v - sum_j log(1 + exp(c_j + v W_j))

Learning raises the probability of the data. The derivative of log P(v) by the weights is a difference of two means,

    d log P / dW = <v h> of the data  -  <v h> of the model

The first mean is measured on a batch. The second one needs samples of the model, by Gibbs sampling: h given v, v given
h, again and again, until the start is forgotten. Two methods avoid this long wait:

- **CD-1**, contrastive divergence: start at the data, take one step. It is biased: it lowers the energy at the data,
  and never sees other states of low energy far away.
- **PCD**, persistent CD: the chains go on from update to update. They wander to states that are likely in the model,
  and raise the energy of those states that are unlikely in the data.

How good is the model? Z is a sum of 2^(V + H) terms, so log P(v) cannot be computed directly. Four alternatives:

- the **pseudo-likelihood**: how well each pixel is predicted by all others; it needs no Z;
- the **free energy** of training digits and of other digits: a growing gap is over-fitting (about one nat is chance);
- the **exact** likelihood of a small machine: 16 hidden units have 65,536 states to enumerate, and the sum over the
  pixels has a closed form;
- **annealed importance sampling** for the large machine: chains pass slowly from a model with known Z to this one, and
  add up the changes on the way. On the small machine the result can be compared with the exact one.

What to see: the filters are strokes. By pseudo-likelihood both machines are equal; by likelihood PCD gives the better
model, and the samples agree: started from noise, nearly all chains of CD-1 end as a zero, the chains of PCD as many
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
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import viz
from tinynet.data import DataLoader, handwritten_digits
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run


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

    mean: how often each visible unit is on in the data, (V,). The initial visible biases give these frequencies, so
    that the weights need not learn them.
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
        """The states of the chains v (N, V) after `steps` steps to h and back."""
        for _ in range(steps):
            v = sample(self.visible(sample(self.hidden(v), rng)), rng)
        return v

    def free_energy(self, v: np.ndarray) -> np.ndarray:
        """F(v) = -log of the sum of exp(-E(v, h)) over all h: (N, V) to (N,)."""
        return -times(v, self.b) - softplus(times(v, self.W) + self.c).sum(axis=1)


# ---------------------------------------------------------------------------------------- learning
def statistics(rbm: RBM, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of v h, v and h over states v (N, V): the derivatives of -E by W, b and c.

    The probability of h replaces h: it has the same mean, and less noise.
    """
    h = rbm.hidden(v)
    return times(v.T, h) / len(v), v.mean(axis=0), h.mean(axis=0)


def update(rbm: RBM, v: np.ndarray, chains: np.ndarray, lr: float, rng: np.random.Generator) -> np.ndarray:
    """One step uphill: raise the probability of the data, lower the probability of the model's own states.

    v: data (N, V). chains: the start of the model's states: `v` for CD-1, the result of the previous update for PCD.
    Returns the chains (N, V), one step on.
    """
    chains = rbm.gibbs(chains, 1, rng)
    for parameter, data, model in zip((rbm.W, rbm.b, rbm.c), statistics(rbm, v), statistics(rbm, chains)):
        parameter += lr * (data - model)
    return chains


class Plan(NamedTuple):
    """How long a machine learns: passes over the data, digits per update, and the learning rate at first."""

    epochs: int
    batch_size: int
    lr: float


def learn(
    x: np.ndarray, hidden: int, persistent: bool, plan: Plan, seed: int, watched: np.ndarray | None = None
) -> tuple[RBM, np.ndarray]:
    """Train a machine on gray levels x (N, V), 0 .. 1, taken as probabilities: pixels are drawn anew in every epoch.

    watched: digits (M, V), black and white, that it does not learn from. Returns the machine, and its curve
    (epochs, 2): pseudo-likelihood of `watched`, and its free energy minus the free energy of as many training
    digits; zeros without `watched`.
    """
    rng = np.random.default_rng(seed)
    rbm = RBM(x.mean(axis=0), hidden, rng)
    loader = DataLoader(list(zip(x)), plan.batch_size, seed=seed, workers=0)
    chains = sample(x[: plan.batch_size], rng)
    curve = np.zeros((plan.epochs, 2))
    updates, done = plan.epochs * len(loader), 0
    for epoch in range(plan.epochs):
        for (gray,) in tqdm(loader, f"epoch {epoch + 1}/{plan.epochs}", leave=False, disable=None):
            v = sample(gray, rng)
            chains = update(rbm, v, chains if persistent else v, plan.lr * (1 - done / updates), rng)
            done += 1
        if watched is not None:
            seen = sample(x[: len(watched)], rng)
            gap = rbm.free_energy(watched).mean() - rbm.free_energy(seen).mean()
            curve[epoch] = pseudo_log_likelihood(rbm, watched, rng), gap
            name = "PCD " if persistent else "CD-1"
            if (epoch + 1) % max(1, plan.epochs // 6) == 0:
                print(f"  {name} epoch {epoch + 1}: pseudo-likelihood {curve[epoch, 0]:.1f}, free energy gap {gap:.2f}")
    return rbm, curve


# ---------------------------------------------------------------------------------------- evaluation
def pseudo_log_likelihood(rbm: RBM, v: np.ndarray, rng: np.random.Generator, pixels: int = 40) -> float:
    """Mean over v (N, V) of sum_i log P(v_i | all other pixels), estimated from `pixels` random pixels of each.

    P(v_i | others) = P(v) / (P(v) + P(v with pixel i flipped)) = sigmoid(F(flipped) - F(v)): Z drops out. The flip
    changes v_i by 1 - 2 v_i, and the input of the hidden units by (1 - 2 v_i) W_i.
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

    Between a machine without weights (visible biases `base`, (V,)), whose Z is known, and this machine lie models with
    a share beta of this machine's energy. At each step from one model to the next, each chain multiplies its weight by
    the ratio of the (unnormalized) probabilities of its state; the mean of these products is Z / Z_base.
    """
    from scipy.special import logsumexp

    def log_p(v: np.ndarray, beta: float) -> np.ndarray:
        """log of the unnormalized probability of v at beta."""
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
METHODS = {"cd": False, "pcd": True}  # name -> persistent


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/rbm", "folder for the figures")
    data: str | None = option(None, "folder of MNIST (default: TINYNET_DATA, then the cache)")
    digits: int = option(60000, "digits to learn from, at most", quick=2000)
    hidden: int = option(256, "hidden units of the large machine", quick=64)
    small: int = option(16, "hidden units of the small one, whose 2^H states are enumerated", quick=6)
    epochs: int = option(6, "passes over the digits", quick=10)
    batch_size: int = option(100, "digits per update, and chains of PCD")
    lr: float = option(0.05, "learning rate at first; it falls to zero along a straight line", quick=0.2)
    betas: int = option(1000, "steps of annealed importance sampling", quick=100)


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Both machines by both methods. Returns log-likelihoods of test digits in nats per digit: exact_* of the small
    machine, annealed_* of the large one; its pseudo-likelihoods pseudo_*; pcd_gain, the gain of PCD over CD-1 on the
    small machine; annealing_off, the error of annealing there."""
    training, test, source = handwritten_digits(config.data)
    x, x_test = training.subset(slice(config.digits)).rows(), test.rows()
    if not source.startswith("MNIST") and config.epochs == Config.epochs:
        config.epochs *= 20  # without MNIST the digits are few, so they need more passes
    x = np.random.default_rng(config.seed).permutation(x)  # neighbors in the file are by the same writer
    watched = max(1, min(2000, len(x) // 5))
    x, x_watched = x[:-watched], x[-watched:]
    sizes = {"training_digits": len(x), "watched_digits": watched, "test_digits": len(x_test)}
    print_settings(config, digits_read=source, **sizes, weights=x.shape[1] * config.hidden)
    plan = Plan(config.epochs, config.batch_size, config.lr)
    figures = {}

    def one_run(seed: int) -> dict[str, float]:
        rng = np.random.default_rng((seed, 1))
        test = sample(x_test, rng)
        results, off, machines, curves = {}, [], {}, {}
        for name, persistent in METHODS.items():
            small, _ = learn(x, config.small, persistent, plan, seed)
            base = RBM(x.mean(axis=0), 1, rng).b  # a machine that knows only how often each pixel is on
            log_z = exact_log_z(small)
            off.append(abs(annealed_log_z(small, base, config.betas, rng) - log_z))
            results[f"exact_{name}"] = log_likelihood(small, test, log_z)

            large, curves[name] = learn(x, config.hidden, persistent, plan, seed, watched=sample(x_watched, rng))
            results[f"annealed_{name}"] = log_likelihood(large, test, annealed_log_z(large, base, config.betas, rng))
            results[f"pseudo_{name}"] = pseudo_log_likelihood(large, test[:2000], rng)
            machines[name] = large
        if seed == config.seed:
            figures["filters.png"] = draw_filters(machines)
            figures["samples.png"] = draw_samples(machines, seed, (0, 1, 10, 100) if config.quick else STEPS)
            figures["curves.png"] = draw_curves(curves)
        return {**results, "pcd_gain": results["exact_pcd"] - results["exact_cd"], "annealing_off": max(off)}

    metrics = mean_over_seeds(one_run, config.seed, config.seeds)
    return report(config, metrics, EXPECTED if source.startswith("MNIST") else {}, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
TITLES = {"cd": "CD-1", "pcd": "persistent CD"}
STEPS = (0, 1, 10, 100, 1000)


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, 784) side by side, with a line of NaN (which Matplotlib leaves white) between them."""
    images = np.pad(images.reshape(-1, 28, 28), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    rows = [np.concatenate(images[i : i + columns], axis=1) for i in range(0, len(images), columns)]
    return np.concatenate(rows)


def draw_filters(machines: dict[str, RBM]) -> viz.Figure:
    """The weights of 64 hidden units of each machine: blue pixels switch the unit on, red ones off."""
    figure, panels = viz.subplots(1, len(machines), figsize=(11, 5.8))
    for axes, (name, rbm) in zip(panels, machines.items()):
        limit = np.percentile(np.abs(rbm.W), 99.5)
        axes.imshow(mosaic(rbm.W.T[:64], 8), cmap="RdBu", vmin=-limit, vmax=limit)
        axes.set_title(f"{TITLES[name]}: weights of 64 hidden units")
        axes.set_axis_off()
    return figure


def draw_samples(machines: dict[str, RBM], seed: int, steps: Sequence[int]) -> viz.Figure:
    """Chains of Gibbs sampling from noise, after increasing numbers of steps."""
    figure, panels = viz.subplots(1, len(machines), figsize=(11, 2.9))
    for axes, (name, rbm) in zip(panels, machines.items()):
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
    return figure


def draw_curves(curves: dict[str, np.ndarray]) -> viz.Figure:
    """Pseudo-likelihood and free energy gap, epoch by epoch."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(9, 3.6))
    for (name, curve), color in zip(curves.items(), (viz.VERMILLION, viz.BLUE)):
        epochs = range(1, len(curve) + 1)
        left.plot(epochs, curve[:, 0], "o-", color=viz.mpl(color), markersize=4, label=TITLES[name])
        right.plot(epochs, curve[:, 1], "o-", color=viz.mpl(color), markersize=4, label=TITLES[name])
    right.axhline(0, color="0.7", linewidth=1)
    left.set(xlabel="epoch", ylabel="nats per digit", title="pseudo-likelihood of unseen digits")
    right.set(xlabel="epoch", ylabel="nats", title="free energy: unseen above training digits")
    widest = max(5, *(np.abs(curve[:, 1]).max() for curve in curves.values()))  # a scale on which chance looks small
    right.set_ylim(-widest, widest)
    left.legend()
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Restricted Boltzmann machine, contrastive divergence"
DATA = "MNIST, 60,000 + 10,000 digits, made black and white"
FILES = ("mnist",)
EXPECTED = {
    "exact_pcd": (-160, -145),
    "pcd_gain": (5, 30),  # exact_pcd - exact_cd
    "annealed_cd": (-122, -106),
    "annealed_pcd": (-114, -98),
    "annealing_off": (None, 1),
}
PICTURE = "samples.png"
NEXT = "python examples/unsupervised/dbn.py"


if __name__ == "__main__":
    run(main)
