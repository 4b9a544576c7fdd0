"""How finely should a net distinguish, if the question is coarse? A tree of diseases is cut into training classes.

    python examples/evaluation/taxonomy.py

A dermatologist wants to know: malignant or not? Esteva's net was not trained with this question. It learned 757 finer
classes, cut from a tree of 2,032 diseases, and the answer is the *sum of the probabilities* of the classes below
"malignant". Two things are shown here:

**The cut.** A class with few images cannot be learned, a class with many wastes what the labels know. Esteva's
algorithm goes down the tree: if a disease and all its kinds have fewer than N images, they become one training class;
otherwise each kind is treated in the same way. The tree here is the Human Disease Ontology: skin diseases, skin cancers
and benign tumors of the skin. **The images are not real**: Esteva's photographs are not public, so the script
deals out as many as he had, 129,450, at random: the r-th most frequent disease gets a share of 1/r (Zipf's law). So
the figure shows how the number and the sizes of the classes depend on N, and no fact about skin diseases. N = 1,000
makes 351 classes of the 491 diseases. Half of them have at most 109 images, and 183 with N = 50,000: a rare disease
stays alone if its parent is cut.

**The gain**, on data with real labels. Does a net answer the coarse question better if it learns the fine classes?

- Knee X-rays: yes means osteoarthritis of grade 2 or more. Fine classes: the five grades. The net is EfficientNet-Lite0
  with the weights of ImageNet; its last blocks are fine-tuned.
- Digits: odd or even? Fine classes: the ten digits. A small net learns from few or many of them.

The control is as important as the gain: *shuffled* fine classes. The fine labels are permuted among the images of the
same coarse class, so the net has as many outputs, but the labels know no more than yes or no.

What to see (means of three seeds):

- Digits: ten classes raise the accuracy of "odd" by two points, from a hundred digits as from ten thousand (.893 to
  .914, .956 to .975), in every run. Shuffled classes cost two to five points. So the gain is knowledge in the labels:
  an even class of five shapes is easier to learn if the shapes have names.
- Knees: five grades raise the AUC from .815 to .825. It rose in each run, but the runs differ by as much. Shuffled
  grades change it by .002 at most. The gain is small, perhaps because neighboring grades differ less than a 4 and a 5
  do, and because radiologists do not agree on them.

Sources: Esteva et al., Dermatologist-level classification of skin cancer with deep neural networks, Nature 542, 2017
(methods: the partitioning algorithm); Schriml et al. 2019 (the ontology, CC0); data: Chen et al. 2019 (knees), LeCun et
al. 1998 (MNIST).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import (
    DataError,
    ImageSet,
    Ontology,
    handwritten_digits,
    knees_or_synthetic,
    read_ontology,
    synthetic_ontology,
)
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

fine_tuning = load_example("convnets/fine_tuning.py")

# ---------------------------------------------------------------------------------------- the cut
KINDS = {"skin cancer": viz.VERMILLION, "skin benign neoplasm": viz.ORANGE, "skin disease": viz.BLUE}
LIMITS = (100, 200, 500, 1000, 2000, 5000, 10_000, 50_000)  # N
RIM = 8  # the radius of the rings that are drawn
Partition = dict[str, list[str]]  # training class -> its diseases


def partition(tree: Ontology, disease: str, images: dict[str, int], most: int, taken: set[str]) -> Partition:
    """Cut what lies below a disease into classes of fewer than `most` images, as far as the tree allows.

    taken: diseases that have a class already, changed in place. A disease with two parents comes into one class only,
    that of the first. A single disease with more images is a class of its own. Images of a disease that is cut, but of
    none of its kinds, are a class, too.
    """
    if disease in taken:
        return {}
    members = [name for name in tree.below(disease) if name not in taken]
    if sum(images[name] for name in members) < most or not tree.children[disease]:
        taken.update(members)
        return {disease: members}
    taken.add(disease)
    classes = {f"{disease}, no kind named": [disease]}
    for kind in tree.children[disease]:
        classes |= partition(tree, kind, images, most, taken)
    return classes


def cut_all(tree: Ontology, images: dict[str, int], most: int) -> dict[str, Partition]:
    """The partition of each of KINDS."""
    taken: set[str] = set()
    return {kind: partition(tree, kind, images, most, taken) for kind in KINDS}


def drawn_images(tree: Ontology, total: int, seed: int) -> dict[str, int]:
    """Disease -> a number of images that does not come from data: Zipf's law, in random order of the diseases."""
    diseases = sorted({disease for kind in KINDS for disease in tree.below(kind)})
    rank = np.random.default_rng(seed).permutation(len(diseases)) + 1
    counts = np.maximum(1, np.rint(total / rank / np.sum(1 / rank))).astype(int)
    return dict(zip(diseases, counts.tolist()))


def ontology(data: str | None) -> tuple[Ontology, str]:
    """(tree, its source). A small tree of invented diseases if the file is not found."""
    try:
        tree = read_ontology(data)
        return tree, f"Human Disease Ontology, {len(tree.ids):,} diseases"
    except DataError as error:
        if data is not None:
            raise
        return synthetic_ontology(), f"a small invented tree, because {error}"


def class_sizes(classes: Partition, images: dict[str, int]) -> np.ndarray:
    """The number of images of each class."""
    return np.array([sum(images[name] for name in members) for members in classes.values()])


def partition_table(tree: Ontology, images: dict[str, int]) -> list[dict]:
    """A row for each N of LIMITS: the number of classes of each kind, and how large they are."""
    rows = []
    for most in LIMITS:
        kinds = cut_all(tree, images, most)
        sizes = np.concatenate([class_sizes(classes, images) for classes in kinds.values()])
        counts = {kind: len(classes) for kind, classes in kinds.items()}
        spread = {"smallest": sizes.min(), "median": np.median(sizes), "largest": sizes.max()}
        rows.append({"N": most, **counts, "all": len(sizes), **{name: int(size) for name, size in spread.items()}})
    return rows


# ---------------------------------------------------------------------------------------- the gain
@dataclass
class Question:
    """A question with the answer yes or no, asked about images with finer classes. yes: bool, one for each class."""

    yes: np.ndarray

    def probability(self, logits: np.ndarray, fine: bool) -> np.ndarray:
        """P(yes): the sum of the probabilities of the classes below it. logits: (N, classes)."""
        probabilities = tn.softmax(tn.tensor(logits.astype(np.float64))).numpy()
        return probabilities[:, self.yes].sum(axis=1) if fine else probabilities[:, 1]

    def targets(self, labels: np.ndarray, way: str, rng: np.random.Generator) -> np.ndarray:
        """What a net learns: coarse or fine classes, or fine ones that are shuffled among equal coarse ones."""
        coarse = self.yes[labels].astype(np.int64)
        if way == "coarse":
            return coarse
        if way == "fine":
            return labels
        shuffled = labels.copy()
        for answer in (0, 1):
            shuffled[coarse == answer] = rng.permutation(labels[coarse == answer])
        return shuffled


WAYS = ("coarse", "fine", "shuffled")
KNEES = Question(np.arange(5) >= 2)  # osteoarthritis
DIGITS = Question(np.arange(10) % 2 == 1)  # odd


def small_net(classes: int) -> nn.Sequential:
    """x: (N, 28, 28, 1) -> 14 x 14 x 8 -> 7 x 7 x 16 -> logits (N, classes)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(7 * 7 * 16, classes)),
    )


def fit(model: nn.Sequential, x: np.ndarray, targets: np.ndarray, config: Config, seed: int) -> None:
    """Train on random batches of x, float32 (N, 28, 28, 1)."""
    rng = np.random.default_rng(seed)
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-2)
    schedule = optim.CosineDecay(optimizer, config.steps, warmup=config.steps // 20)
    for _ in range(config.steps):
        batch = rng.choice(len(x), min(config.batch_size, len(x)), replace=False)
        loss = tn.softmax_cross_entropy(model(tn.tensor(x[batch]).to(tn.device())), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def digits_scores(digits: ImageSet, test: ImageSet, size: int, config: Config, seed: int) -> dict[str, float]:
    """Way -> accuracy of odd or even, learned from the first `size` digits of an order that depends on the seed."""
    chosen = digits.subset(np.random.default_rng(seed).permutation(len(digits))[:size])
    scores = {}
    for way in WAYS:
        tn.seed(seed)
        model = small_net(2 if way == "coarse" else 10).to(tn.device())
        targets = DIGITS.targets(chosen.labels, way, np.random.default_rng(seed))
        fit(model, chosen.images.astype(np.float32) / 255, targets, config, seed)
        logits = nn.predict(model, test.images.astype(np.float32) / 255)
        said = DIGITS.probability(logits, way != "coarse") > 0.5
        scores[way] = float(np.mean(said == DIGITS.yes[test.labels]))
    return scores


@dataclass
class Knees:
    """The features of the X-rays at the cut, and their grades."""

    training: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    def scores(self, config: Config, seed: int) -> dict[str, float]:
        """Way -> area under the ROC curve of grade 2 or more."""
        scores = {}
        for way in WAYS:
            tn.seed(seed)
            _, tail = fine_tuning.split(2 if way == "coarse" else 5, config.cut)
            targets = KNEES.targets(self.labels, way, np.random.default_rng(seed))
            fine_tuning.fine_tune(tail, self.training, targets, epochs=config.epochs, seed=seed)
            logits = fine_tuning.outputs(tail, self.test)
            scores[way] = metrics.auc(KNEES.yes[self.test_labels], KNEES.probability(logits, way != "coarse"))
        return scores


def knees_at_cut(config: Config) -> tuple[Knees, str]:
    """(knees, their source)."""
    counts = (config.drawings, 1, config.drawings // 2)
    parts, source = knees_or_synthetic(config.data, config.seed, counts, config.size, config.quick)
    training, test = parts["train"][0], parts["test"][0]
    front, _ = fine_tuning.split(5, config.cut)
    x, x_test = (fine_tuning.features(front, knees.images) for knees in (training, test))
    return Knees(x, training.labels, x_test, test.labels), source


# ---------------------------------------------------------------------------------------- the run
SIZES = (100, 1000, 10_000)  # digits to learn from


@dataclass
class Config(NetOptions):
    out: str = option("out/taxonomy", "folder for the figures")
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    most: int = option(1000, "N: a disease with fewer images, all its kinds included, is one training class")
    photographs: int = option(129_450, "images that are dealt out to the diseases at random")
    sizes: int = option(len(SIZES), f"learn from the first so many of {SIZES} digits", quick=1)
    steps: int = option(300, "training steps on the digits", quick=60)
    batch_size: int = option(64, "digits in a step")
    lr: float = option(2e-3, "highest learning rate of the digits (AdamW; warm-up, then a cosine)")
    cut: int = option(15, "the first trained entry of EfficientNet-Lite0 (0 to 19)", quick=18)
    epochs: int = option(2, "passes over the knees", quick=1)
    drawings: int = option(100, "drawings of knees to learn from if the X-rays are missing; half as many to test with")
    size: int = option(112, "height and width of the X-rays, pixels", quick=48)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "most", "photographs", "steps", "epochs", "batch_size", "sizes")
        self.at_least(32, "size")
        self.at_least(10, "drawings")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Cut the tree with several N; answer coarse questions from coarse, fine and shuffled classes; return the gains."""
    tree, tree_source = ontology(config.data)
    digits, test, digits_source = handwritten_digits(config.data)
    knees, knees_source = knees_at_cut(config)
    print_settings(config, tree=tree_source, weights=fine_tuning.source(), knees=knees_source, digits=digits_source)
    images = drawn_images(tree, config.photographs, config.seed)
    rows = partition_table(tree, images)
    print("Training classes for each N, and the images in the smallest, the median and the largest of them. How many")
    print("images each disease has is drawn at random (Zipf), because the real numbers are not public.")
    print(metrics.format_table(rows), flush=True)

    runs: list[dict[str, dict[str, float]]] = []

    def one_run(seed: int) -> dict[str, float]:
        sizes = SIZES[: config.sizes]
        scores = {f"digits_{size}": digits_scores(digits, test, size, config, seed) for size in sizes}
        scores["knees"] = knees.scores(config, seed)
        runs.append(scores)
        return {
            f"{name}_{key}": value
            for name, ways in scores.items()
            for key, value in (
                ("coarse", ways["coarse"]),
                ("gain", ways["fine"] - ways["coarse"]),
                ("gain_shuffled", ways["shuffled"] - ways["coarse"]),
            )
        }

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    chosen = cut_all(tree, images, config.most)
    results["training_classes"] = sum(map(len, chosen.values()))
    figures = {"partition.png": draw_partition(tree, images, rows, config.most), "gain.png": draw_gain(runs)}
    real = not knees_source.startswith("drawings") and digits_source.startswith("MNIST")
    return report(config, results, EXPECTED if real else {}, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_partition(tree: Ontology, images: dict[str, int], rows: list[dict], most: int) -> viz.Figure:
    """The tree as rings, with its classes in color; the number and the sizes of the classes against N."""
    figure = viz.new_figure(13, 7)
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    axes = left.subplots(subplot_kw={"projection": "polar"})
    draw_rings(axes, tree, images, most)
    left.suptitle(f"gray: cut; color: a training class (N = {most:,})\nangle: images, drawn at random", fontsize=11)
    above, below = right.subplots(2, 1, sharex=True)
    limits = [row["N"] for row in rows]
    for kind, color in KINDS.items():
        above.plot(limits, [row[kind] for row in rows], "o-", color=viz.mpl(color), label=kind)
    above.set(ylabel="training classes", title="the smaller N, the more classes", yscale="log")
    above.legend(fontsize=9)
    below.fill_between(limits, *([row[name] for row in rows] for name in ("smallest", "largest")), color="0.85")
    below.plot(limits, [row["median"] for row in rows], "o-", color="0.3", label="median; gray: smallest to largest")
    below.plot(limits, limits, "--", color="0.6", label="N")
    below.set(xlabel="N, the limit of a class", ylabel="images of a class", xscale="log", yscale="log")
    below.legend(fontsize=9)
    for panel in (above, below):
        panel.axvline(most, color="0.6", linewidth=1)
        panel.grid(alpha=0.3)
    return figure


def draw_rings(axes: viz.Axes, tree: Ontology, images: dict[str, int], most: int) -> None:
    """A ring for each level of the tree; angles are numbers of images. Gray: cut. Color: a training class."""
    taken: set[str] = set()
    total = sum(images.values())

    def draw(disease: str, start: float, ring: int, color: tuple[float, ...]) -> float:
        """Draw a disease and what lies below; return the angle where it ends."""
        members = [name for name in tree.below(disease) if name not in taken]
        end = start + 2 * np.pi * sum(images[name] for name in members) / total
        if sum(images[name] for name in members) < most or not tree.children[disease]:
            taken.update(members)
            wedge(start, end, ring, color)
            return end
        axes.bar(start, 1, end - start, ring, align="edge", color="0.85", edgecolor="w", linewidth=0.4)
        taken.add(disease)
        inner = start + 2 * np.pi * images[disease] / total
        wedge(start, inner, ring + 1, color)  # images of the disease itself
        for kind in tree.children[disease]:
            if kind not in taken:
                inner = draw(kind, inner, ring + 1, color)
        return end

    def wedge(start: float, end: float, ring: int, color: tuple[float, ...]) -> None:
        """A training class: from its ring to the rim, in a random shade."""
        shade = (*color, rng.uniform(0.45, 1))
        axes.bar(start, RIM - ring, end - start, ring, align="edge", color=shade, edgecolor="w", linewidth=0.4)

    rng, angle = np.random.default_rng(0), 0.0
    for kind, color in KINDS.items():
        angle = draw(kind, angle, 1, viz.mpl(color))
    axes.axis("off")


def draw_gain(runs: list[dict[str, dict[str, float]]]) -> viz.Figure:
    """The scores of the three ways: digits against how many are learned from, knees; a dot for each seed."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(11, 4.6), width_ratios=(1.5, 1))
    sizes = [int(name.split("_")[1]) for name in runs[0] if name.startswith("digits")]
    colors = dict(zip(WAYS, (viz.mpl(viz.BLUE), viz.mpl(viz.VERMILLION), "0.55")))
    names = {"coarse": "yes or no", "fine": "fine classes", "shuffled": "fine classes, shuffled"}
    for place, (way, color) in enumerate(colors.items()):
        scores = np.array([[run[f"digits_{size}"][way] for size in sizes] for run in runs])
        left.plot(sizes, scores.mean(axis=0), "-", color=color, label=f"trained on {names[way]}")
        for row in scores:
            left.plot(sizes, row, "o", color=color, markersize=4, alpha=0.6)
        knees = [run["knees"][way] for run in runs]
        right.plot([place] * len(knees), knees, "o", color=color, alpha=0.6)
        right.plot([place - 0.25, place + 0.25], [np.mean(knees)] * 2, "-", color=color, linewidth=2)
    left.set(xscale="log", xlabel="digits to learn from", ylabel="accuracy", title="digits: is it odd?")
    left.set_xticks(sizes, [f"{size:,}" for size in sizes])
    left.legend(fontsize=9)
    right.set(ylabel="AUC", title="knees: grade 2 or more?", xlim=(-0.6, 2.6))
    right.set_xticks(range(3), ["yes or no", "5 grades", "5 grades,\nshuffled"])
    for panel in (left, right):
        panel.grid(alpha=0.3)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Evaluation: training classes from a tree of diseases"
DATA = "Human Disease Ontology (CC0), with numbers of images drawn at random; knee X-rays; MNIST"
FILES = ("tables/HumanDO.tsv", "knee_oa/knee_oa_112.zip", "mnist")
EXPECTED = {
    "digits_100_gain": (0.0, 0.06),
    "digits_1000_gain": (0.0, 0.06),
    "digits_1000_gain_shuffled": (-0.1, 0.0),
    "digits_10000_gain": (0.0, 0.06),
    "knees_coarse": (0.78, 0.86),
    "knees_gain": (-0.01, 0.04),
    "training_classes": (351, 351),
}
PICTURE = "gain.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/evaluation/robustness.py"


if __name__ == "__main__":
    run(main)
