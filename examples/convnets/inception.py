"""The Inception block, and how many blocks of a trained net to freeze for a new task.

    python examples/convnets/inception.py

**The block.** Which filter size does a layer need: 1x1, 3x3 or 5x5? An Inception block has all three side by side, and
max pooling as a fourth branch, and concatenates their channels: training decides what is useful. But 3x3 and 5x5
filters on all input channels are expensive, and the pooling branch keeps all channels, so that the next block would be
more expensive still. So each of these branches has a 1x1 convolution that *reduces* the number of channels. In the
first block of GoogLeNet, 303 million multiplications become 128 million, and 416 output channels become 256.

**The net** here has a stem, four blocks and a linear layer: 58,421 weights. It learns to grade osteoarthritis in knee
X-rays, 0 to 4 (kappa .60 to .61 on the test set; images of 64 x 64 pixels).

**The head swap.** The last layer for five grades is replaced by a new one for two classes. The net then learns a new
task from 50 or 500 images, with none, one, ... or all of the parts before the head frozen:

- **knees**, osteoarthritis (grade 2 and more) or not: images of the same kind, of other patients. By and large, the
  more is frozen, the better. With 50 images, a new head alone has an AUC of .82, and tuning everything .74 to .76. The
  net for five grades knows the answer already: the sum of its probabilities of grades 2 to 4 has an AUC of .83, without
  any new image.
- **chest**, pneumonia or not: another part of the body. A new head alone is the worst choice here, .86 to .87 with 50
  and .87 to .88 with 500 images, because the last blocks have learned to look for what is in knees. It is even worse
  than a net without transferred weights (.89 and .94). If none or the first one to three parts are frozen, the AUC is
  .89 to .91 with 50 and .95 to .96 with 500 images. How many of them are frozen matters less than the draw of the
  images. The gain over a net without transferred weights is .02 at most.

So "the best tuning depth depends on the application" is true here, and it depends on how much the new images resemble
the old ones. The number of images matters less. Each result is the mean of three draws of the images to learn from; the
figure shows their range. All of them start from the same net. A range in this text is from two runs of the script. They
differ in rounding errors only, but these make another net for five grades. Learning rates and numbers of steps were
chosen on other patients of the training sets.

Sources: Szegedy et al., Going deeper with convolutions, CVPR 2015, figure 2 and table 1; batch normalization, which
GoogLeNet did not have: Ioffe and Szegedy, ICML 2015; Tajbakhsh et al., Convolutional neural networks for medical image
analysis: full training or fine tuning?, IEEE TMI 35, 2016; data: Chen, Mendeley Data, 2018 (knees); Kermany et al.,
Cell 172, 2018 (chests).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import (
    AugmentedImages,
    DataLoader,
    ImageSet,
    chest_xrays_or_synthetic,
    knees_or_synthetic,
)
from tinynet.data.class_folders import Images
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import TrainingOptions, command_line, option, print_settings, report, run

alexnet = load_example("convnets/alexnet.py")  # its X-rays to mean 0 and deviation 1; its split by patients
transfer = load_example("convnets/transfer_learning.py")  # its choice of few images; its training

SIZE = 64  # pixels, height and width of the X-rays


# ---------------------------------------------------------------------------------------- the block
class Widths(NamedTuple):
    """Channels of the convolutions of a block, in the order of the paper's table 1."""

    ones: int
    reduce_3: int
    threes: int
    reduce_5: int
    fives: int
    pooled: int

    @property
    def out(self) -> int:
        """Channels of the block's output."""
        return self.ones + self.threes + self.fives + self.pooled


def conv(c_in: int, c_out: int, size: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalization, ReLU."""
    layer = nn.Conv2d(c_in, c_out, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(c_out), nn.ReLU())


class NaiveInception(nn.Module):
    """The four branches without reductions. x: (N, H, W, c_in) -> (N, H, W, ones + threes + fives + c_in)."""

    def __init__(self, c_in: int, widths: Widths) -> None:
        self.ones = conv(c_in, widths.ones, 1)
        self.threes = conv(c_in, widths.threes, 3)
        self.fives = conv(c_in, widths.fives, 5)
        self.pooled = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        return tn.concat([self.ones(x), self.threes(x), self.fives(x), self.pooled(x)], axis=3)


class Inception(NaiveInception):
    """The block of GoogLeNet, with 1x1 reductions. x: (N, H, W, c_in) -> (N, H, W, widths.out)."""

    def __init__(self, c_in: int, widths: Widths) -> None:
        self.ones = conv(c_in, widths.ones, 1)
        self.threes = nn.Sequential(conv(c_in, widths.reduce_3, 1), conv(widths.reduce_3, widths.threes, 3))
        self.fives = nn.Sequential(conv(c_in, widths.reduce_5, 1), conv(widths.reduce_5, widths.fives, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv(c_in, widths.pooled, 1))


BLOCK_3A = Widths(64, 96, 128, 16, 32, 32)  # the first block of GoogLeNet, on 28 x 28 x 192


def products(block: NaiveInception, height: int, width: int) -> dict[str, int]:
    """Multiplications of each branch of a block for one image: every weight is used once at every pixel."""
    convolutions = {
        name: [m for m in branch.modules() if isinstance(m, nn.Conv2d)] for name, branch in block.named_children()
    }
    return {name: height * width * sum(m.weight.size for m in found) for name, found in convolutions.items()}


# ---------------------------------------------------------------------------------------- the net
WIDTHS = (
    Widths(8, 8, 16, 4, 4, 4),
    Widths(16, 16, 32, 4, 8, 8),
    Widths(24, 24, 48, 8, 16, 8),
    Widths(32, 32, 64, 8, 16, 16),
)


def small_inception(classes: int) -> nn.Sequential:
    """x: (N, 64, 64, 1) -> 16 x 16 x 32 -> 16 x 16 x 64 -> 8 x 8 x 96 -> 8 x 8 x 128 -> logits (N, classes)."""
    stem = nn.Sequential(conv(1, 16, 5, stride=2), nn.MaxPool2d(2))
    channels = [16, *(widths.out for widths in WIDTHS)]
    blocks: list[nn.Module] = [Inception(c_in, widths) for c_in, widths in zip(channels, WIDTHS)]
    blocks[2] = nn.Sequential(nn.MaxPool2d(2), blocks[2])
    head = nn.Sequential(nn.GlobalAvgPool2d(), nn.Dropout(0.3), nn.Linear(channels[-1], classes))
    return nn.Sequential(stem, *blocks, head)


def swapped(source: nn.Sequential, frozen: int | None) -> nn.Sequential:
    """The parts of a net that learn the new task: copies of those of `source`, with a new head for two classes.

    frozen: how many parts of `source` come before them and stay as they are. None: no weights are transferred.
    """
    model = small_inception(2).to(tn.device())
    if frozen is not None:
        model[:-1].load_state_dict(source[:-1].state_dict())
    return model[frozen or 0 :]


# ---------------------------------------------------------------------------------------- the first task: five grades
def moved(images: ImageSet) -> AugmentedImages:
    """X-rays, mirrored (a left knee becomes a right knee) and shifted by up to three pixels at random."""
    margin = ((0, 0), (3, 3), (3, 3), (0, 0))

    def change(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        row, column = rng.integers(0, 7, 2)
        image = image[row : row + SIZE, column : column + SIZE]
        return image[:, ::-1] if rng.random() < 0.5 else image

    return AugmentedImages(np.pad(alexnet.as_input(images.images), margin, mode="edge"), images.labels, change)


def grade(model: nn.Sequential, images: ImageSet) -> dict[str, float]:
    """How well a net grades: mean loss, accuracy, and kappa with quadratic weights."""
    logits = nn.predict(model, alexnet.as_input(images.images))
    answers = logits.argmax(axis=1)
    table = metrics.confusion_matrix(images.labels, answers, len(images.classes))
    return {
        "loss": tn.softmax_cross_entropy(tn.tensor(logits).to(tn.device()), images.labels).item(),
        "accuracy": float(np.mean(answers == images.labels)),
        "kappa": metrics.cohen_kappa(table, "quadratic"),
    }


def learn_grades(knees: ImageSet, patients: np.ndarray, config: Config) -> nn.Sequential:
    """The net for five grades, with the weights that had the lowest loss on a fifth of the patients."""
    aside = alexnet.hold_out(patients, config.seed)
    training, validation = knees.subset(~aside), knees.subset(aside)
    model = small_inception(len(knees.classes)).to(tn.device())
    loader = DataLoader(moved(training), config.batch_size, seed=config.seed)
    steps = config.epochs * len(loader)
    optimizer = optim.AdamW(model.parameters(), config.grades_lr, weight_decay=1e-2)
    schedule = optim.CosineDecay(optimizer, steps, warmup=steps // 20, floor=0.01)

    def loss(images: tn.Tensor, labels: tn.Tensor) -> tn.Tensor:
        return tn.softmax_cross_entropy(model(images), labels)

    def validate() -> dict[str, float]:
        return {f"val_{name}": value for name, value in grade(model, validation).items()}

    trainer = tn.train.Trainer(model, optimizer, loss, config.out, schedule=schedule, max_norm=5.0, settings=config)
    trainer.fit(loader, config.epochs, validate, resume=config.resume)
    tn.io.load_weights(f"{config.out}/best.npz", model)
    return model.eval()


# ---------------------------------------------------------------------------------------- the second tasks: two classes
SIZES = (50, 500)  # images of the new task to learn from
DEPTHS = (None, 0, 1, 2, 3, 4, 5)  # frozen parts; None: from scratch


@dataclass
class Task:
    """A new task: images to learn from and images to test with, of two classes."""

    name: str
    question: str
    training: ImageSet
    test: ImageSet


def explore(source: nn.Sequential, task: Task, config: Config) -> np.ndarray:
    """The AUC on the test images, float64 (sizes, depths, draws), each draw with other images to learn from."""
    scores = np.empty((config.sizes, len(DEPTHS), config.draws))
    for d, depth in enumerate(tqdm(DEPTHS, task.name, leave=False, disable=None)):
        front = source[: depth or 0]  # its features are computed once, for all steps of all draws
        images, test_images = (nn.predict(front, alexnet.as_input(part.images)) for part in (task.training, task.test))
        for s, draw in np.ndindex(config.sizes, config.draws):
            seed = config.seed + draw
            tn.seed(seed)
            tail = swapped(source, depth)
            chosen = transfer.few_of_each(task.training.labels, SIZES[s], seed)
            steps = config.steps * (5 if len(tail) == 1 else 1)  # the head alone needs more steps, which cost little
            transfer.fit(tail, images[chosen], task.training.labels[chosen], steps, config, seed)
            logits = nn.predict(tail, test_images)
            scores[s, d, draw] = metrics.auc(task.test.labels, logits[:, 1] - logits[:, 0])
    return scores


def auc_of_grades(model: nn.Sequential, knees: ImageSet) -> float:
    """The AUC of the probability of grade 2 and more, by the net for five grades as it is."""
    probabilities = nn.predict(nn.Sequential(model, nn.Softmax()), alexnet.as_input(knees.images))
    return metrics.auc(knees.labels, probabilities[:, 2:].sum(axis=1))


# ---------------------------------------------------------------------------------------- the data
def yes_or_no(knees: ImageSet) -> ImageSet:
    """Grade 2 and more is osteoarthritis."""
    return ImageSet(knees.images, (knees.labels >= 2).astype(np.int64), ("no arthritis", "arthritis"))


def new_tasks(knees: dict[str, Images], chests: dict[str, Images]) -> list[Task]:
    """Two tasks of two classes. The knees to learn from are of other patients than the graded knees."""
    return [
        Task("knees", "arthritis or not", yes_or_no(knees["val"][0]), yes_or_no(knees["test"][0])),
        Task("chest", "pneumonia or not", chests["train"][0], chests["test"][0]),
    ]


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(TrainingOptions):
    out: str = option("out/inception", "folder of the run on the grades, and of the figures")
    epochs: int = option(8, "passes over the graded knees", quick=1)
    grades_lr: float = option(3e-3, "highest learning rate of the grades (AdamW; warm-up, then a cosine)")
    batch_size: int = option(32, "X-rays in a step", quick=16)
    sizes: int = option(len(SIZES), f"use the first so many of {SIZES} as numbers of images to learn from", quick=1)
    draws: int = option(3, "how often the images of a new task are drawn; metrics are means", quick=1)
    steps: int = option(80, "training steps on a new task; five times as many if only the head is trained", quick=3)
    lr: float = option(5e-3, "highest learning rate of a new task")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "batch_size", "sizes", "draws")
        self.at_least(2, "steps")  # the first one warms up
        if self.sizes > len(SIZES):
            raise ValueError(f"--sizes is {self.sizes}; it must lie in 1 .. {len(SIZES)}")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Count multiplications, learn the grades, swap the head and freeze 0 to 5 parts; return the scores."""
    knees, source = knees_or_synthetic(config.data, config.seed, (160, 50, 50), SIZE, synthetic=config.quick)
    chests, chest_source = chest_xrays_or_synthetic(config.data, config.seed, (50, 50), SIZE, synthetic=config.quick)
    tasks = new_tasks(knees, chests)
    tn.seed(config.seed)
    print_settings(config, small_inception(5), knees=source, chests=chest_source)
    blocks = {"without reductions": NaiveInception(192, BLOCK_3A), "with reductions": Inception(192, BLOCK_3A)}
    work = {name: products(block, 28, 28) for name, block in blocks.items()}

    model = learn_grades(*knees["train"], config)
    scores = {task.name: explore(model, task, config) for task in tasks}
    print_tables(tasks, scores)
    results = {"products_without": sum(work["without reductions"].values())}
    results |= {"products_with": sum(work["with reductions"].values())}
    results |= {f"grades_{name}": value for name, value in grade(model, knees["test"][0]).items() if name != "loss"}
    results["knees_without_new_images"] = auc_of_grades(model, tasks[0].test)
    for name, of_task in scores.items():
        mean = dict(zip(DEPTHS, of_task[0].mean(axis=1)))  # the smaller number of images
        results |= {f"{name}_scratch": mean[None], f"{name}_all_tuned": mean[0], f"{name}_head_only": mean[5]}
        results[f"{name}_gain_of_tuning"] = mean[0] - mean[5]
    drawn = "drawings" in source + chest_source
    expected = {name: band for name, band in EXPECTED.items() if not drawn or "products" in name}
    figures = {"depth.png": draw_depth(tasks, scores), "products.png": draw_products(work)}
    return report(config, results, expected, figures, NEXT)


def print_tables(tasks: list[Task], scores: dict[str, np.ndarray]) -> None:
    """The mean AUC by number of images and frozen parts."""
    names = ["from scratch", *(f"{depth} frozen" for depth in DEPTHS[1:])]
    for task in tasks:
        means = scores[task.name].mean(axis=2)
        rows = [{"images": size, **dict(zip(names, map(float, row)))} for size, row in zip(SIZES, means)]
        print(f"\n{task.name}, {task.question}: AUC by the number of frozen parts\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- figures
def draw_depth(tasks: list[Task], scores: dict[str, np.ndarray]) -> viz.Figure:
    """AUC against the number of frozen parts: a line for each number of images, the range of the draws as a band."""
    figure, panels = viz.subplots(1, len(tasks), figsize=(11, 4.8))
    for axes, task in zip(panels, tasks):
        for of_size, size, color in zip(scores[task.name], SIZES, (viz.ORANGE, viz.BLUE)):
            color, scratch, tuned = viz.mpl(color), of_size[0].mean(), of_size[1:]
            axes.plot(DEPTHS[1:], tuned.mean(axis=1), "o-", color=color, label=f"{size} images")
            axes.fill_between(DEPTHS[1:], tuned.min(axis=1), tuned.max(axis=1), color=color, alpha=0.15)
            axes.axhline(scratch, linestyle="--", color=color, label=f"{size} images, from scratch")
        axes.set_xticks(DEPTHS[1:], ["none", "stem", "1 block", "2 blocks", "3 blocks", "4 blocks:\nall but head"])
        axes.set(xlabel="frozen parts", ylabel="AUC, test images", title=f"{task.name}: {task.question}")
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return figure


def draw_products(work: dict[str, dict[str, int]]) -> viz.Figure:
    """The multiplications of each branch of GoogLeNet's first block, with and without 1x1 reductions."""
    names = {"ones": "1x1", "threes": "3x3", "fives": "5x5", "pooled": "pooling"}
    colors = dict(zip(names, (viz.SKY, viz.BLUE, viz.ORANGE, viz.GREEN)))
    figure, axes = viz.subplots(figsize=(8, 3.4))
    left = np.zeros(len(work))
    for branch, name in names.items():
        millions = np.array([counts[branch] / 1e6 for counts in work.values()])
        bars = axes.barh(list(work), millions, left=left, color=viz.mpl(colors[branch]), label=name)
        axes.bar_label(bars, [f"{value:.0f}" if value > 4 else "" for value in millions], label_type="center")
        left += millions
    axes.set_yticks(range(len(work)), [f"{name}\n{total:.0f} million" for name, total in zip(work, left)])
    axes.set(xlabel="multiplications, millions", title="GoogLeNet's first Inception block, 28 x 28 x 192")
    axes.invert_yaxis()
    axes.legend(title="branch", fontsize=9)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Inception blocks; head swap and freezing depth"
DATA = "knee X-rays, five grades (Chen); chest X-rays (Kermany et al.)"
FILES = ("knee_oa/knee_oa_112.zip", "chest_xray/chest_xray.zip")
EXPECTED = {
    "products_without": (303_464_448, 303_464_448),
    "products_with": (128_049_152, 128_049_152),
    "grades_kappa": (0.55, 0.7),
    "knees_without_new_images": (0.8, 0.86),
    "knees_gain_of_tuning": (None, -0.03),
    "chest_gain_of_tuning": (0.01, 0.1),
}
PICTURE = "depth.png"
NEXT = "python examples/convnets/imagenet_transfer.py"


if __name__ == "__main__":
    run(main)
