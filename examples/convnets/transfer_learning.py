"""Transfer learning: a net that has learned one task learns another task from few examples.

    python examples/convnets/transfer_learning.py

The first layers of a net find edges and simple shapes, which occur in most images; only the last layers depend on the
task. So a net is trained on a task with many examples, its last layer is replaced, and training goes on with the few
examples of the new task. The net here has three blocks of convolution and pooling, then a linear layer. How many of
them may change?

- **from scratch**: no weights are transferred; the baseline of the comparison;
- **fixed feature extractor**: all three blocks are frozen, only the new linear layer is trained;
- **fine-tuning the last 1 or 2 blocks**: the early blocks are frozen;
- **fine-tuning all**: the old weights are only the initial weights.

A frozen block always computes the same features for an image. So the script computes the features once, and trains a
smaller net on top of them, which is faster.

Two pairs of tasks; each net learns from 10 to 1,000 images of the new task:

- **Digits**: a net that tells 0 to 4 apart learns 5 to 9. From ten images, the transferred weights gain ten points of
  accuracy; from a thousand, one point. Frozen features help if there are few images, and hurt if there are many.
  Whether one, two or all three blocks may change makes little difference here.
- **Medicine**: a net that finds pneumonia in X-rays learns to find malignant tumors in ultrasound images. This is the
  usual motivation of transfer learning, but these images have little in common. With ten images there is no gain, with
  thirty or more a small one. The three runs differ as much (the bands): other images to learn from matter as much, and
  156 test images are few.

Sources: Yosinski, Clune, Bengio, Lipson, How transferable are features in deep neural networks?, NIPS 2014; Raghu,
Zhang, Kleinberg, Bengio, Transfusion: understanding transfer learning for medical imaging, NeurIPS 2019; data: LeCun
et al. 1998 (MNIST), Kermany et al. 2018 (X-rays), Yang et al. 2023 (BreastMNIST).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataError, ImageSet, handwritten_digits, read_breastmnist, read_chest_xrays
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

# ---------------------------------------------------------------------------------------- the net
BLOCKS = 3


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Convolution and pooling: half the height and width."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ELU(), nn.MaxPool2d(2))


def head(classes: int) -> nn.Sequential:
    """The layers that depend on the task: a linear layer on all features."""
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(3 * 3 * 32, classes))


def small_net(classes: int) -> nn.Sequential:
    """x: (N, 28, 28, 1) -> 14 x 14 x 8 -> 7 x 7 x 16 -> 3 x 3 x 32 -> logits (N, classes)."""
    return nn.Sequential(block(1, 8), block(8, 16), block(16, 32), head(classes))


def transferred(source: nn.Sequential, classes: int, trained_blocks: int) -> tuple[nn.Sequential, nn.Sequential]:
    """(frozen part, trained part) of a net with the blocks of `source` and a new head. `source` is not changed."""
    model = small_net(classes).to(tn.device())
    model[:BLOCKS].load_state_dict(source[:BLOCKS].state_dict())  # the head keeps its new weights
    cut = BLOCKS - trained_blocks
    return model[:cut].eval(), model[cut:]


# ---------------------------------------------------------------------------------------- a task
SIZES = (10, 30, 100, 300, 1000)  # images of the new task to learn from
METHODS = {  # -> how many of the last blocks are trained; None: no weights are transferred
    "from scratch": None,
    "fixed feature extractor": 0,
    "fine-tuning the last block": 1,
    "fine-tuning the last two": 2,
    "fine-tuning all": 3,
}


@dataclass
class Task:
    """Two tasks: `first` is learned first, then `training`. labels: 0, 1, ..."""

    name: str
    measure: str  # "accuracy" or "AUC"
    first: tn.data.ImageSet
    training: tn.data.ImageSet
    test: tn.data.ImageSet

    @property
    def classes(self) -> int:
        return len(self.training.classes)

    def sizes(self, config: Config) -> list[int]:
        """How many images to learn from: SIZES, at most as many as there are."""
        return sorted({min(size, len(self.training)) for size in SIZES[: config.sizes]})

    def score(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Accuracy, or the area under the ROC curve if one class is rare."""
        if self.measure == "accuracy":
            return float(np.mean(logits.argmax(axis=1) == labels))
        return metrics.auc(labels, logits[:, 1] - logits[:, 0])


# ---------------------------------------------------------------------------------------- training
def fit(model: nn.Sequential, x: np.ndarray, labels: np.ndarray, steps: int, config: Config, seed: int) -> None:
    """Train on random batches of x, images or features, float32 (N, H, W, C)."""
    rng = np.random.default_rng(seed)
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-2)
    schedule = optim.CosineDecay(optimizer, steps, warmup=steps // 20)
    model.train()
    for _ in range(steps):
        batch = rng.choice(len(x), min(config.batch_size, len(x)), replace=False)
        loss = tn.softmax_cross_entropy(model(tn.tensor(x[batch]).to(tn.device())), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def learn(task: Task, source: nn.Sequential, method: str, images: int, config: Config, seed: int) -> float:
    """The test score of a net that learned the new task by one method from `images` images."""
    tn.seed(seed)
    chosen = few_of_each(task.training.labels, images, seed)
    trained_blocks = METHODS[method]
    if trained_blocks is None:
        frozen, trained = nn.Sequential(), small_net(task.classes).to(tn.device())
    else:
        frozen, trained = transferred(source, task.classes, trained_blocks)
    features = nn.predict(frozen, as_input(task.training.images[chosen]))  # once, for all steps
    fit(trained, features, task.training.labels[chosen], config.steps, config, seed)
    test_features = nn.predict(frozen, as_input(task.test.images))
    return task.score(nn.predict(trained, test_features), task.test.labels)


def few_of_each(labels: np.ndarray, images: int, seed: int) -> np.ndarray:
    """Indices of images to learn from, equally many of each class as far as possible.

    With the same seed the first ten are among the first hundred.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), dtype=int)  # the first of each class, the second of each class, ...
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        turn[of_class] = np.arange(len(of_class))
    return order[np.argsort(turn[order], kind="stable")][:images]


def as_input(images: np.ndarray) -> np.ndarray:
    """Gray levels 0 to 255 as float32 from -0.5 to 0.5."""
    return images.astype(np.float32) / 255 - 0.5


def compare(task: Task, config: Config, seed: int) -> np.ndarray:
    """Learn the first task once; return the score of every method with every number of images."""
    tn.seed(seed)
    source = small_net(len(task.first.classes)).to(tn.device())
    fit(source, as_input(task.first.images), task.first.labels, config.first_steps, config, seed)
    sizes = task.sizes(config)
    pairs = [(method, size) for method in METHODS for size in sizes]
    progress = tqdm(pairs, f"{task.name}, seed {seed}", leave=False, disable=None)
    scores = [learn(task, source, method, size, config, seed) for method, size in progress]
    return np.array(scores).reshape(len(METHODS), len(sizes))


# ---------------------------------------------------------------------------------------- the tasks
def digits_task(config: Config) -> tuple[Task, str]:
    """(digits 0 to 4, then 5 to 9; their source)."""
    training, test, source = handwritten_digits(config.data)

    def some(digits: ImageSet, wanted: range) -> ImageSet:
        part = digits.subset(np.isin(digits.labels, wanted))
        return ImageSet(part.images, part.labels - wanted[0], tuple(str(digit) for digit in wanted))

    low, high = range(5), range(5, 10)
    new = some(test, high).subset(slice(config.test))
    return Task("digits: 0-4, then 5-9", "accuracy", some(training, low), some(training, high), new), source


def breast_task(config: Config) -> Task:
    """Pneumonia in X-rays, then malignant tumors in ultrasound images. Raises DataError if they are not found."""
    xrays, _ = read_chest_xrays("train", config.data, size=28)
    training, test = (read_breastmnist(part, config.data) for part in ("train", "test"))
    return Task("X-rays, then breast ultrasound", "AUC", xrays, training, test)


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/transfer_learning", "folder for the figures")
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    first_steps: int = option(800, "training steps on the task with many examples", quick=80)
    steps: int = option(200, "training steps on the new task", quick=30)
    batch_size: int = option(32, "images in a step, or as many as there are")
    lr: float = option(2e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    sizes: int = option(len(SIZES), f"use the first so many of {SIZES}", quick=1)
    test: int | None = option(None, "number of images to test with (default: all)", quick=300)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.sizes <= len(SIZES):
            raise ValueError(f"--sizes is {self.sizes}; it must lie in 1 .. {len(SIZES)}")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Every method on both pairs of tasks with 10 to 1,000 images; return scores and gains over "from scratch"."""
    task, source = digits_task(config)
    tasks = {"digits": task}
    try:
        tasks["breast"] = breast_task(config)
        medicine = f"{len(tasks['breast'].first):,} X-rays, {len(tasks['breast'].training)} ultrasound images"
    except DataError as error:
        medicine = f"without medicine: {error}"
    print_settings(config, small_net(5), digits=source, medicine=medicine)

    runs: dict[str, list[np.ndarray]] = {name: [] for name in tasks}  # scores (methods, sizes) of each run

    def one_run(seed: int) -> dict[str, float]:
        results = {}
        for name, task in tasks.items():
            scores = compare(task, config, seed)
            runs[name].append(scores)
            rows = dict(zip(METHODS, scores))
            results[f"{name}_gain_of_10"] = rows["fixed feature extractor"][0] - rows["from scratch"][0]
            results[f"{name}_gain_of_most"] = rows["fine-tuning all"][-1] - rows["from scratch"][-1]
            results[f"{name}_fine_tuned"] = rows["fine-tuning all"][-1]
        return {key: float(value) for key, value in results.items()}

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    print_tables(tasks, runs, config)
    expected = {name: band for name, band in EXPECTED.items() if name in results and source.startswith("MNIST")}
    figures = {"transfer.png": draw_transfer(tasks, runs, config), "tasks.png": draw_tasks(tasks)}
    return report(config, results, expected, figures, NEXT)


def print_tables(tasks: dict[str, Task], runs: dict[str, list[np.ndarray]], config: Config) -> None:
    """The mean score of each method, by the number of images."""
    for name, task in tasks.items():
        mean = np.mean(runs[name], axis=0)
        sizes = task.sizes(config)
        rows = [
            {task.measure: method, **dict(zip(map(str, sizes), map(float, row)))} for method, row in zip(METHODS, mean)
        ]
        print(f"\n{task.name}, by the number of images\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- figures
def draw_transfer(tasks: dict[str, Task], runs: dict[str, list[np.ndarray]], config: Config) -> viz.Figure:
    """Score against the number of images: a line for each method; the range of the runs as a band for two of them."""
    figure, panels = viz.subplots(1, len(tasks), squeeze=False, figsize=(4.5 * len(tasks) + 0.5, 4.8))
    colors = [viz.mpl(color) for color in ((90, 90, 90), viz.BLUE, viz.GREEN, viz.ORANGE, viz.VERMILLION)]
    for axes, (name, task) in zip(panels[0], tasks.items()):
        scores, sizes = np.array(runs[name]), task.sizes(config)
        for number, (method, color) in enumerate(zip(METHODS, colors)):
            of_method = scores[:, number]
            style = "o--" if method == "from scratch" else "o-"
            axes.plot(sizes, of_method.mean(axis=0), style, color=color, markersize=4, label=method)
            if method in ("from scratch", "fine-tuning all"):  # all five would hide each other
                axes.fill_between(sizes, of_method.min(axis=0), of_method.max(axis=0), color=color, alpha=0.15)
        axes.set(xscale="log", xlabel="images of the new task to learn from", ylabel=f"{task.measure}, test images")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_title(task.name)
        axes.grid(alpha=0.3)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(tasks) + 1, frameon=False)
    return figure


def draw_tasks(tasks: dict[str, Task]) -> viz.Figure:
    """A few images of the first and of the second task."""
    figure = viz.new_figure(9, 1.25 * 2 * len(tasks))
    parts = iter(figure.subfigures(2 * len(tasks), 1).flat)
    for task in tasks.values():
        for title, images in (("first", task.first), ("then", task.training)):
            part = next(parts)
            part.suptitle(f"{title} ({len(images):,} images): {', '.join(images.classes)}", fontsize=11)
            for panel, i in zip(part.subplots(1, 10), few_of_each(images.labels, 10, seed=0)):
                panel.imshow(images.images[i, :, :, 0], cmap="gray")
                panel.axis("off")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Transfer learning"
DATA = "MNIST; chest X-rays (Kermany et al.) and BreastMNIST's ultrasound images, 28 x 28 pixels"
FILES = (
    "mnist",
    "chest_xray/chest_xray.zip",
    "medmnist/breastmnist.npz",
)
EXPECTED = {"digits_gain_of_10": (0.03, 0.4), "digits_fine_tuned": (0.94, None), "breast_fine_tuned": (0.8, None)}
PICTURE = "transfer.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/convnets/inception.py"


if __name__ == "__main__":
    run(main)
