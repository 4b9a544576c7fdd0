"""A deep belief net: restricted Boltzmann machines, one on top of the other, then fine-tuned with labels.

    python examples/unsupervised/dbn.py

The hidden units of one machine (rbm.py) are data themselves. A second machine, trained on them, finds which strokes
occur together, as the first machine did for pixels: *greedy* learning, one layer at a time, without labels. The stack
has two uses.

- **Recognition**: take the weights as initial weights of an ordinary feedforward net, put ten classes on top, and train
  all of it by backpropagation. The net knows digits from the start; labels only have to name them. The fewer labels
  there are, the more this helps. In medicine images are many, but each label takes an expert's time.
- **Generation**: let the top machine dream by Gibbs sampling, and pass its state down to the pixels.

What to see: with 60,000 labels both starts end well; with 100 or 1,000 labels the pretrained net is clearly better than
the same net with random weights. Deep nets were trained in this way until about 2012. Then better activations, better
initial weights and much larger labeled sets made pretraining unnecessary. Learning from unlabeled images first has come
back since, with other tasks than the Boltzmann machine's.

Sources: Hinton, Osindero, Teh, A fast learning algorithm for deep belief nets, Neural Computation 18, 2006; Hinton and
Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313, 2006 (fine-tuning by
backpropagation); Erhan et al., Why does unsupervised pre-training help deep learning?, JMLR 11, 2010.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import nn, optim, viz
from tinynet.data import DataLoader, handwritten_digits
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

rbm = load_example("unsupervised/rbm.py")  # the machine, and how it learns: read that script first


FEW = (100, 1000)  # labels


# ---------------------------------------------------------------------------------------- greedy, layer by layer
def pretrain(x: np.ndarray, config: Config, seed: int) -> list[rbm.RBM]:
    """A machine for each layer; each learns from the hidden units of the machine below. x: (N, V), 0 .. 1."""
    plan = rbm.Plan(config.rbm_epochs, config.batch_size, config.rbm_lr)
    stack = []
    for hidden in config.hidden:
        machine, _ = rbm.learn(x, hidden, False, plan, seed)
        stack.append(machine)
        x = machine.hidden(x)
    return stack


def dream(stack: list[rbm.RBM], start: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Gibbs sampling in the top machine from `start` (N, its visible units), passed down to the pixels: (N, V)."""
    *below, top = stack
    state = top.gibbs(start, steps - 1, rng)
    state = top.visible(rbm.sample(top.hidden(state), rng))
    for machine in reversed(below):
        state = machine.visible(rbm.sample(state, rng))
    return state


# ---------------------------------------------------------------------------------------- the net, fine-tuned
def feedforward(pixels: int, hidden: tuple[int, ...], stack: list[rbm.RBM] | None) -> nn.Sequential:
    """Layers of sigmoid neurons and ten classes. The weights come from the machines; without machines they are random.

    The output of a neuron is P(h = 1 | v) of its hidden unit: the formula is the same.
    """
    layers: list[nn.Module] = []
    for number, (n_in, n_out) in enumerate(zip((pixels, *hidden), hidden)):
        linear = nn.Linear(n_in, n_out, init=nn.init.glorot_normal)
        if stack is not None:
            linear.weight, linear.bias = nn.Parameter(stack[number].W.copy()), nn.Parameter(stack[number].c.copy())
        layers += [linear, nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 10, init=nn.init.glorot_normal))


def fine_tune(net: nn.Module, x: np.ndarray, labels: np.ndarray, steps: int, config: Config, seed: int) -> None:
    """Train all layers with labels (N,), by backpropagation."""
    loader = DataLoader(list(zip(x, labels)), config.batch_size, seed=seed, workers=0)
    optimizer = optim.Adam(net.parameters(), config.lr)
    schedule = optim.CosineDecay(optimizer, steps)
    for batch, target in tqdm(loader.steps(steps), "fine-tuning", steps, leave=False, disable=None):
        loss = tn.softmax_cross_entropy(net(tn.tensor(batch).to(tn.device())), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def accuracy(net: nn.Module, x: np.ndarray, labels: np.ndarray) -> float:
    """Share of right answers."""
    return float(np.mean(nn.predict(net, x).argmax(axis=1) == labels))


def balanced(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `count` random digits, equally many of each class: (count,)."""
    chosen = [rng.choice(np.flatnonzero(labels == digit), count // 10, replace=False) for digit in range(10)]
    return np.concatenate(chosen)


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/dbn", "folder for the figures")
    data: str | None = option(None, "folder of MNIST (default: TINYNET_DATA, then the cache)")
    digits: int = option(60000, "digits to learn from, at most", quick=2000)
    hidden: tuple[int, ...] = option((500, 500), "hidden units, from the pixels up", nargs="+", quick=(100, 100))
    rbm_epochs: int = option(4, "passes over the digits for each machine", quick=20)
    rbm_lr: float = option(0.1, "their learning rate at first", quick=0.2)
    epochs: int = option(6, "passes over all labels", quick=10)
    few_steps: int = option(500, "steps with 1,000 labels or fewer", quick=100)
    batch_size: int = option(100, "digits per step, everywhere")
    lr: float = option(3e-3, "highest learning rate of fine-tuning (Adam; a cosine down to zero)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.digits < 1400:  # or there may be fewer than 100 of some class
            raise ValueError(f"--digits is {self.digits}; to draw {max(FEW):,} labels from, it must be at least 1,400")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Accuracy on the test digits: `pretrained` and `random` with all labels, `pretrained_100`, ... with as many; and
    what pretraining gains with few of them, `gain_100` and `gain_1000`."""
    training, test, source = handwritten_digits(config.data)
    training = training.subset(slice(config.digits))
    x, labels, x_test = training.rows(), training.labels, test.rows()
    # Without MNIST the digits are few, so they need more passes.
    if not source.startswith("MNIST") and config.epochs == Config.epochs:
        config.rbm_epochs *= 20
        config.epochs *= 10
    net = feedforward(x.shape[1], config.hidden, None)
    print_settings(config, net, digits_read=source, training_digits=len(x), test_digits=len(x_test))
    rows: list[dict[str, float]] = []
    figures = {}

    def one_run(seed: int) -> dict[str, float]:
        stack = pretrain(x, config, seed)
        if seed == config.seed:
            figures["dreams.png"] = draw_dreams(stack, seed, (1, 10, 100) if config.quick else (1, 10, 100, 1000))
        results = {}
        for count in (*FEW, len(x)):
            few = count < len(x)
            chosen = balanced(labels, count, np.random.default_rng((seed, count))) if few else slice(None)
            for start, machines in (("pretrained", stack), ("random", None)):
                tn.seed(seed)
                net = feedforward(x.shape[1], config.hidden, machines).to(tn.device())
                steps = config.few_steps if few else config.epochs * len(x) // config.batch_size
                fine_tune(net, x[chosen], labels[chosen], steps, config, seed)
                name = f"{start}_{count}" if few else start
                results[name] = accuracy(net, x_test, test.labels)
                print(f"  {count:,} labels, {start} weights: {results[name]:.4f}", flush=True)
        rows.append(results)
        gains = {f"gain_{count}": results[f"pretrained_{count}"] - results[f"random_{count}"] for count in FEW}
        return {**results, **gains}

    metrics = mean_over_seeds(one_run, config.seed, config.seeds)
    figures["labels.png"] = draw_labels(rows, (*FEW, len(x)))
    return report(config, metrics, EXPECTED if source.startswith("MNIST") else {}, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_labels(rows: list[dict[str, float]], counts: tuple[int, ...]) -> viz.Figure:
    """Test error against the number of labels: a point for each run, lines through the means."""
    from matplotlib.ticker import PercentFormatter

    figure, axes = viz.subplots(figsize=(6, 4.2))
    for start, color, marker in (("random", viz.VERMILLION, "s"), ("pretrained", viz.BLUE, "o")):
        names = [*(f"{start}_{count}" for count in counts[:-1]), start]
        errors = np.array([[1 - row[name] for name in names] for row in rows])
        axes.plot(np.tile(counts, (len(rows), 1)).T, errors.T, marker, color=viz.mpl(color), markersize=5, alpha=0.5)
        axes.plot(counts, errors.mean(axis=0), color=viz.mpl(color), label=f"{start} weights")
        for count, error in zip(counts, errors.mean(axis=0)):
            above = start == "random"
            axes.annotate(
                f"{error:.1%}",
                (count, error),
                xytext=(6, 5) if above else (-6, -5),
                textcoords="offset points",
                ha="left" if above else "right",
                va="bottom" if above else "top",
                color=viz.mpl(color),
            )
    axes.set(xscale="log", yscale="log", xlabel="labeled digits", ylabel="test error")
    axes.margins(x=0.15)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.set_yticks([0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
    axes.set_ylim(0.01, 0.6)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_title("the gain of pretraining without labels")
    axes.legend(title="start from")
    return figure


def draw_dreams(stack: list[rbm.RBM], seed: int, steps: tuple[int, ...]) -> viz.Figure:
    """Samples of the stack after so many Gibbs steps in its top machine, started from noise."""
    start = rbm.sample(np.full((20, len(stack[-1].b)), 0.5), np.random.default_rng(seed))
    rows = [dream(stack, start, count, np.random.default_rng(seed)) for count in steps]
    figure, axes = viz.subplots(figsize=(10, 0.5 * len(steps) + 0.8))
    axes.imshow(rbm.mosaic(np.concatenate(rows), len(start)), cmap="gray_r", vmin=0, vmax=1)
    axes.set_yticks([30 * i + 15 for i in range(len(steps))], [f"{count:,}" for count in steps])
    axes.set(xticks=[], ylabel="Gibbs steps", frame_on=False, title="what the deep belief net dreams, from noise")
    axes.tick_params(length=0)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Deep belief net: unsupervised pretraining, fine-tuning with labels"
DATA = "MNIST, 60,000 + 10,000 digits"
FILES = ("mnist",)
EXPECTED = {"pretrained": (0.98, None), "gain_100": (0.02, 0.15), "gain_1000": (0.01, 0.08)}
PICTURE = "labels.png"
NEXT = "python examples/unsupervised/autoencoder.py"


if __name__ == "__main__":
    run(main)
