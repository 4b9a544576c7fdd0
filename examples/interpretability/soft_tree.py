"""A soft decision tree: a net whose every decision can be looked at, and what it learns from a convolutional net.

    python examples/interpretability/soft_tree.py

Why does a convolutional net call this digit a 3? Its answer is spread over thousands of weights. A decision tree asks a
few questions, one after the other, and each answer can be followed. This tree is *soft*: each inner node has one filter
of the size of the image, and sends the image to the right with the probability

    p(x) = sigmoid(beta (x . w + b))                 beta, w, b are learned

A leaf holds one distribution over the classes, which does not depend on the image. The probability of a leaf is the
product of the decisions on its path, and everything is differentiable: the tree learns by gradient descent.

- **Alone**: the loss compares the leaves' distributions, weighted with their probabilities, with the true class. A
  penalty makes each node use both of its sides: a node that sends every image to one side learns nothing more.
- **Distilled**: the tree learns from the probabilities of a convolutional net, its teacher, in place of the true
  classes. They say how much a 3 looks like an 8. And the teacher can judge images that have no label.
- **One path**: to predict, the tree takes the most probable leaf. The figure shows the filters on the way to it.

The script teaches trees twice. Each figure is the mean of three runs on MNIST's test digits:

- **All 60,000 labels**: the teacher reads 0.990 of the digits correctly; the tree 0.960 alone and 0.959 distilled. Here
  the distillation gains nothing: the difference was between -0.0015 and -0.0003 in these three runs, and between
  -0.0005 and 0.0008 in three others with the same seeds and other rounding errors. Softer targets (--temperature 4)
  made the tree worse on digits held out from training. Frosst and Hinton gained two points, from 0.945 to 0.968: their
  tree alone was further from its teacher.
- **2,000 labels, 60,000 images**: the teacher (0.965) learns from 2,000 digits and then judges all images. The tree
  that learns from its answers reads 0.950 correctly, the tree that learns from the 2,000 labels only 0.920. This gain
  of three points appears in each run. A tree needs many examples, because each node sees only a part of them.

So the price of an answer that can be followed is three points of accuracy, and a teacher helps if labels are rare. The
mean over all leaves, which cannot be followed, gains half a point.

Source: Frosst, Hinton, Distilling a neural network into a soft decision tree, 2017; distillation: Hinton, Vinyals,
Dean, Distilling the knowledge in a neural network, 2015; data: MNIST, LeCun et al. 1998.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import nn, optim, viz
from tinynet.data import DataLoader, ImageSet, handwritten_digits
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

lenet = load_example("convnets/lenet_mnist.py").lenet  # the teacher: read that script first
CLASSES = 10
SIDE = 14  # a digit has 14 x 14 pixels for a tree
MOST_PASSES = 50  # over the digits: few digits need fewer steps
TINY = 1e-6  # keeps a division and a logarithm finite


# ---------------------------------------------------------------------------------------- the tree
class SoftTree(nn.Module):
    """A complete binary tree of `depth` decisions. x: (N, pixels).

    Inner nodes are numbered level by level: 0 is the root, 1 and 2 its children, 3 to 6 the next level.
    """

    buffer_names = ("left", "right")

    def __init__(self, pixels: int, depth: int) -> None:
        self.depth = depth
        self.filters = nn.Linear(pixels, 2**depth - 1, init=nn.init.glorot_uniform)
        self.beta = nn.Parameter(np.ones(2**depth - 1, np.float32))
        self.leaves = nn.Parameter(0.1 * tn.randn(2**depth, CLASSES).numpy())  # logits
        self.left, self.right = paths(depth)

    def activations(self, x: tn.Tensor) -> tn.Tensor:
        """beta (x . w + b) of each inner node: (N, nodes). Their sigmoid is the probability to go right."""
        return self.beta * self.filters(x)

    def reach(self, x: tn.Tensor) -> tn.Tensor:
        """The probability of each leaf: (N, leaves).

        It is a product of decisions, so its logarithm is a sum: a matrix product with the paths. The logarithm of
        sigmoid(a) is -softplus(-a), of 1 - sigmoid(a) it is -softplus(a).
        """
        a = self.activations(x)
        return tn.exp(-(tn.softplus(-a) @ tn.tensor(self.right) + tn.softplus(a) @ tn.tensor(self.left)))

    def distributions(self) -> tn.Tensor:
        """The distribution of each leaf: (leaves, classes)."""
        return tn.softmax(self.leaves)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        """The mean of the leaves' distributions, weighted with the probabilities of the leaves: (N, classes)."""
        return self.reach(x) @ self.distributions()


def paths(depth: int) -> tuple[np.ndarray, np.ndarray]:
    """(left, right): 1 where the path to a leaf turns left, or right, at an inner node: float32 (nodes, leaves)."""
    left, right = np.zeros((2, 2**depth - 1, 2**depth), np.float32)
    for leaf in range(2**depth):
        node = 0
        for bit in f"{leaf:0{depth}b}":  # the number of the leaf in binary digits: its path, 1 is right
            turn = int(bit)
            (left, right)[turn][node, leaf] = 1
            node = 2 * node + 1 + turn
    return left, right


def tree_loss(tree: SoftTree, x: tn.Tensor, targets: tn.Tensor, strength: float) -> tn.Tensor:
    """Cross-entropy of every leaf, weighted with its probability, plus the penalty of nodes that use one side only.

    targets: (N, classes), distributions: of the teacher, or ones at the true classes. The share of images that go right
    at a node, among the images that reach it, should be one half; the penalty is the cross-entropy of both, and half
    as strong on each next level (section 3.1).
    """
    reach = tree.reach(x)
    cross_entropies = -(targets @ tn.log_softmax(tree.leaves).transpose(1, 0))  # (N, leaves)
    loss = (reach * cross_entropies).sum(axis=1).mean()
    images = reach.sum(axis=0)  # of each leaf
    went = tn.stack([tn.tensor(tree.left) @ images, tn.tensor(tree.right) @ images], axis=1)  # (nodes, left or right)
    share = went / (went.sum(axis=1, keepdims=True) + TINY)
    level = np.floor(np.log2(np.arange(len(tree.left)) + 1))
    weights = tn.tensor((strength * 0.5**level).astype(x.dtype)).to(x.device)
    return loss - 0.5 * (weights * tn.log(share + TINY).sum(axis=1)).sum()


# ---------------------------------------------------------------------------------------- training
LossOf = Callable[[tn.Tensor, np.ndarray, float], tn.Tensor]  # of a batch, its targets and the share of training done


def fit(model: nn.Module, examples: list, steps: int, batch_size: int, lr: float, loss_of: LossOf, seed: int) -> None:
    """Train with Adam, but at most for MOST_PASSES over the examples, pairs (x, target)."""
    optimizer = optim.Adam(model.parameters(), lr)
    loader = DataLoader(examples, batch_size, seed=seed)
    steps = min(steps, MOST_PASSES * len(loader))
    schedule = optim.CosineDecay(optimizer, steps, floor=0.01)
    name = type(model).__name__
    for step, (x, targets) in enumerate(tqdm(loader.steps(steps), name, steps, leave=False, disable=None)):
        loss = loss_of(tn.tensor(x).to(tn.device()), targets, step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def train_teacher(digits: ImageSet, config: Config, seed: int) -> nn.Module:
    """LeNet, trained with the true classes."""
    tn.seed(seed)
    model = lenet().to(tn.device())
    examples = list(zip(as_input(digits), digits.labels))
    loss_of: LossOf = lambda x, labels, done: tn.softmax_cross_entropy(model(x), labels)  # noqa: E731
    fit(model, examples, config.teacher_steps, 50, 2e-3, loss_of, seed)
    return model


def train_tree(digits: ImageSet, targets: np.ndarray, config: Config, seed: int) -> SoftTree:
    """A tree that predicts `targets` (N, classes) from the pixels. The penalty fades in the second half of training."""
    tn.seed(seed)
    tree = SoftTree(SIDE**2, config.depth).to(tn.device())

    def loss_of(x: tn.Tensor, wanted: np.ndarray, done: float) -> tn.Tensor:
        strength = config.penalty * min(1.0, 2 * (1 - done))
        return tree_loss(tree, x, tn.tensor(wanted).to(tn.device()), strength)

    fit(tree, list(zip(rows_of(digits), targets)), config.steps, config.batch_size, config.lr, loss_of, seed)
    return tree


def as_input(digits: ImageSet) -> np.ndarray:
    """Gray levels as float32 from 0 to 1: (N, 28, 28, 1)."""
    return digits.images.astype(np.float32) / 255


def rows_of(digits: ImageSet) -> np.ndarray:
    """Means of 2 x 2 pixels as rows: float32 (N, 196). Neighboring pixels say nearly the same."""
    images = as_input(digits)[..., 0]
    return images.reshape(len(images), SIDE, 2, SIDE, 2).mean(axis=(2, 4)).reshape(len(images), -1)


# ---------------------------------------------------------------------------------------- evaluation
def one_path(tree: SoftTree, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(leaves (N,), predicted classes (N,)) if each digit takes the most probable leaf only."""
    probabilities = nn.predict(tree.reach, x)
    leaves = probabilities.argmax(axis=1)
    return leaves, tree.distributions().numpy().argmax(axis=1)[leaves]


def accuracies(tree: SoftTree, digits: ImageSet, name: str) -> dict[str, float]:
    """Accuracy by the most probable leaf and by the mean of all leaves."""
    x = rows_of(digits)
    by_path, by_mean = one_path(tree, x)[1], nn.predict(tree, x).argmax(axis=1)
    return {name: float(np.mean(by_path == digits.labels)), f"{name}_mean": float(np.mean(by_mean == digits.labels))}


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/soft_tree", "folder for the figures")
    data: str | None = option(None, "folder of MNIST (default: TINYNET_DATA, then the cache)")
    digits: int = option(60000, "digits to learn from, at most", quick=1000)
    test: int | None = option(None, "test digits, at most (default: all)", quick=300)
    few: int = option(2000, "digits with a label in the second experiment", quick=200)
    depth: int = option(8, "decisions from the root to a leaf", quick=4)
    steps: int = option(3000, "steps of training for a tree", quick=160)
    teacher_steps: int = option(3000, "steps of training for the teacher, 50 digits each", quick=80)
    batch_size: int = option(200, "digits in a step of a tree", quick=50)
    lr: float = option(1e-2, "highest learning rate of a tree (Adam)")
    temperature: float = option(1.0, "divides the teacher's logits; above 1 its probabilities are softer")
    penalty: float = option(0.1, "strength of the penalty at the root")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "digits", "few", "test", "depth", "steps", "teacher_steps", "batch_size")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train teachers and trees, with all labels and with few; return their accuracies on the test digits."""
    training, test, source = handwritten_digits(config.data)
    training, test = training.subset(slice(config.digits)), test.subset(slice(config.test))
    print_settings(config, SoftTree(SIDE**2, config.depth), source=source)
    figures: dict[str, viz.Figure] = {}

    def one_run(seed: int) -> dict[str, float]:
        few = training.subset(np.random.default_rng(seed).permutation(len(training))[: config.few])
        with_all, tree = experiment(training, training, test, config, seed)
        with_few, _ = experiment(few, training, test, config, seed)
        if seed == config.seed:
            figures["tree.png"] = draw_tree(tree, test)
        return with_all | {f"few_{name}": figure for name, figure in with_few.items()}

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    figures["accuracy.png"] = draw_accuracies(results, len(training), min(config.few, len(training)))
    return report(config, results, EXPECTED if source.startswith("MNIST") else {}, figures, NEXT)


def experiment(
    labeled: ImageSet, images: ImageSet, test: ImageSet, config: Config, seed: int
) -> tuple[dict[str, float], SoftTree]:
    """(the accuracies of the teacher and of both trees, the distilled tree).

    The teacher and one tree learn from the classes of `labeled`; the distilled tree learns from all `images` and the
    teacher's probabilities for them.
    """
    teacher = train_teacher(labeled, config, seed)
    logits = nn.predict(teacher, as_input(images))
    soft = tn.softmax(tn.tensor(logits / np.float32(config.temperature))).numpy()
    hard = np.eye(CLASSES, dtype=np.float32)[labeled.labels]
    alone, distilled = train_tree(labeled, hard, config, seed), train_tree(images, soft, config, seed)
    answers = nn.predict(teacher, as_input(test)).argmax(axis=1)
    results = {"teacher": float(np.mean(answers == test.labels))}
    results |= accuracies(alone, test, "alone") | accuracies(distilled, test, "distilled")
    return results | {"gain": results["distilled"] - results["alone"]}, distilled


# ---------------------------------------------------------------------------------------- figures
SHOWN = 4  # levels of inner nodes in the figure


def draw_tree(tree: SoftTree, digits: ImageSet) -> viz.Figure:
    """The filters of the upper levels with the path of one digit lit, and the whole path below."""
    x = rows_of(digits)
    leaves, classes = one_path(tree, x)
    chosen = int(np.argmax(2 * (classes == digits.labels) + (digits.labels == 3)))  # the first 3 read correctly
    on_path = sum(paths(tree.depth))  # (nodes, leaves)
    path = np.flatnonzero(on_path[:, leaves[chosen]])  # from the root on, because nodes are numbered by level
    figure = viz.new_figure(12, 9)
    above, below = figure.subfigures(2, 1, height_ratios=(SHOWN, 1.5))
    axes = above.add_axes((0, 0, 1, 0.94))
    axes.set(xlim=(0, 1), ylim=(SHOWN + 0.1, 0))
    axes.axis("off")
    above.suptitle("red pixels send an image to the right, blue pixels to the left; in black: the usual answers")
    levels = min(SHOWN, len(path))
    draw_nodes(axes, pixel_weights(tree)[: 2**levels - 1], path)
    for node in range(2 ** (levels - 1) - 1, 2**levels - 1):
        row, column = place(node)
        shares = np.bincount(classes[on_path[node, leaves] == 1], minlength=CLASSES) / len(classes)
        answers = np.flatnonzero(shares > 0.05 * shares.sum())
        axes.text(column, row + 0.5, " ".join(map(str, answers)), ha="center", va="center", fontsize=10)
    draw_path(below, tree, x[chosen], path, leaves[chosen])
    return figure


def draw_nodes(axes: viz.Axes, filters: np.ndarray, path: np.ndarray) -> None:
    """The filters (nodes, SIDE, SIDE) of whole levels in their places; those on the path have a golden frame."""
    limit = 0.7 * np.abs(filters).max()
    for node, weights in enumerate(filters):
        row, column = place(node)
        if node > 0:
            parent = place((node - 1) // 2)
            style = {"color": "gold", "linewidth": 5} if node in path else {"color": "0.8", "linewidth": 1.5}
            axes.plot([parent[1], column], [parent[0], row], zorder=1, **style)
        inset = axes.inset_axes((column - 0.035, row - 0.38, 0.07, 0.76), transform=axes.transData)
        inset.imshow(weights, cmap="RdBu_r", vmin=-limit, vmax=limit)
        inset.set(xticks=[], yticks=[])
        for spine in inset.spines.values():
            spine.set(color="gold" if node in path else "0.6", linewidth=4 if node in path else 1)


def pixel_weights(tree: SoftTree) -> np.ndarray:
    """beta w of each inner node as an image: (nodes, SIDE, SIDE)."""
    return (tree.filters.weight * tree.beta).numpy().T.reshape(-1, SIDE, SIDE)


def place(node: int) -> tuple[float, float]:
    """(row, column) of an inner node in the figure."""
    level = (node + 1).bit_length() - 1
    return level + 0.5, (node + 1 - 2**level + 0.5) / 2**level


def draw_path(figure: viz.Figure, tree: SoftTree, x: np.ndarray, path: np.ndarray, leaf: int) -> None:
    """The digit, the filters on its path with their decisions, and the distribution of its leaf."""
    right = nn.predict(lambda batch: tn.sigmoid(tree.activations(batch)), x[None])[0]
    filters, turns_right = pixel_weights(tree), paths(tree.depth)[1]
    panels = figure.subplots(1, len(path) + 2)
    panels[0].imshow(x.reshape(SIDE, SIDE), cmap="gray_r")
    panels[0].set_title("this digit", fontsize=9)
    for panel, node in zip(panels[1:], path):
        to_the_right = turns_right[node, leaf] == 1
        limit = np.abs(filters[node]).max()
        panel.imshow(filters[node], cmap="RdBu_r", vmin=-limit, vmax=limit)
        p = right[node] if to_the_right else 1 - right[node]
        panel.set_title(f"{'right' if to_the_right else 'left'}, p = {p:.2f}", fontsize=9)
    for panel in panels[:-1]:
        panel.axis("off")
    panels[-1].bar(range(CLASSES), tree.distributions().numpy()[leaf], color="gold")
    panels[-1].set(ylim=(0, 1), yticks=[], box_aspect=1)
    panels[-1].set_xticks(range(CLASSES), map(str, range(CLASSES)), fontsize=7)
    panels[-1].set_title("its leaf", fontsize=9)


def draw_accuracies(results: dict[str, float], all_labels: int, few_labels: int) -> viz.Figure:
    """Teacher, tree alone and distilled tree, with all labels and with few."""
    figure, axes = viz.subplots(figsize=(7.5, 4.2))
    names = {"alone": "tree alone", "distilled": "tree, distilled", "teacher": "teacher (LeNet)"}
    for number, (name, color) in enumerate(zip(names, (viz.SKY, viz.BLUE, viz.ORANGE))):
        heights = [results[name], results[f"few_{name}"]]
        bars = axes.bar(np.arange(2) + 0.27 * (number - 1), heights, 0.25, color=viz.mpl(color), label=names[name])
        axes.bar_label(bars, [f"{height:.3f}" for height in heights], fontsize=10)
    axes.set_xticks(range(2), [f"{all_labels:,} labels", f"{few_labels:,} labels, {all_labels:,} images"])
    least = min(results[f"{labels}{name}"] for labels in ("", "few_") for name in names)
    axes.set(ylabel="accuracy, test digits", ylim=(least - 0.05, 1.02))
    axes.legend(ncols=3, loc="upper center", fontsize=9)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Interpretable models: a soft decision tree, alone and distilled"
DATA = "MNIST, 60,000 + 10,000 handwritten digits"
FILES = ("mnist",)
EXPECTED = {
    "teacher": (0.985, None),
    "alone": (0.95, 0.97),
    "distilled": (0.95, 0.97),
    "gain": (-0.005, 0.005),
    "few_alone": (0.9, 0.935),
    "few_distilled": (0.935, 0.96),
    "few_gain": (0.02, 0.045),
}
PICTURE = "tree.png"
NEXT = "python examples/segmentation/fcn_vessels.py"


if __name__ == "__main__":
    run(main)
