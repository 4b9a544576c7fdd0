"""Transfer learning: what a net has learnt on one task helps with another one that has few examples.

    python examples/convnets/transfer_learning.py

The first layers of a net find edges and simple shapes, which most pictures are made of; only the last ones are about
the task. So a net is trained where there are many examples, its last layer is replaced, and it goes on with the few
examples of the new task. Three blocks of convolution and pooling, then a linear layer: how many of them may change?

- **from scratch**: nothing is taken over; what all others are compared with;
- **fixed feature extractor**: all three blocks stay as they are, only the new linear layer is trained;
- **fine-tuning the last 1 or 2 blocks**: the early ones stay, or "are frozen";
- **fine-tuning all**: the old weights are no more than a good place to begin.

Blocks that are frozen always give the same features for an image, so these are computed once, and what is trained is a
smaller net on top of them: that is why it is quick.

Two pairs of tasks, each net learning from 10 to 1,000 images of the new one:

- **Digits**: a net that tells 0 to 4 apart learns 5 to 9. With ten images of them, what was learnt before is worth ten
  points of accuracy; with a thousand, one point. Features that must not change help as long as there are few images,
  and are in the way when there are many. Whether one, two or all three blocks may change makes little difference here.
- **Medicine**: a net that finds pneumonia in X-rays learns to find malignant tumours in ultrasound images. This is the
  case of every talk on the subject, and here the pictures have little in common. With ten images nothing is gained,
  with thirty or more a little. But look how far the three runs are apart (the bands): other images to learn from matter
  as much, and 156 test images are few.

Sources: Yosinski, Clune, Bengio, Lipson, How transferable are features in deep neural networks?, NIPS 2014; Raghu,
Zhang, Kleinberg, Bengio, Transfusion: understanding transfer learning for medical imaging, NeurIPS 2019; data: LeCun
et al. 1998 (MNIST), Kermany et al. 2018 (X-rays), Yang et al. 2023 (BreastMNIST).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn
from tinynet.nn.optim import AdamW, CosineDecay
from tinynet.tools.cli import NetOptions, mean_over_seeds, option, parse, print_metrics, print_settings, run

TOPIC = "Transfer learning"
DATA = "MNIST; chest X-rays (Kermany et al.) and BreastMNIST's ultrasound images, 28 x 28 pixels"
FILES = (
    "mnist/train-images-idx3-ubyte.gz",
    "mnist/train-labels-idx1-ubyte.gz",
    "mnist/t10k-images-idx3-ubyte.gz",
    "mnist/t10k-labels-idx1-ubyte.gz",
    "chest_xray/chest_xray.zip",
    "medmnist/breastmnist.npz",
)
EXPECTED = {"digits_gain_of_10": (0.03, 0.4), "digits_fine_tuned": (0.94, None), "breast_fine_tuned": (0.8, None)}
PICTURE = "transfer.png"
ARGUMENTS = ("--seeds", "3")

BLOCKS = 3
SIZES = (10, 30, 100, 300, 1000)  # images of the new task to learn from
METHODS = {  # -> how many of the blocks are trained, those at the end; None: nothing is taken over
    "from scratch": None,
    "fixed feature extractor": 0,
    "fine-tuning the last block": 1,
    "fine-tuning the last two": 2,
    "fine-tuning all": 3,
}


@dataclass
class Config(NetOptions):
    """The flags."""

    out: str = option("out/transfer_learning", "folder for the pictures")
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    seeds: int = option(3, "runs with other images to learn from, the mean of which counts", quick=1)
    first_steps: int = option(800, "training steps on the task with many examples", quick=80)
    steps: int = option(200, "training steps on the new task", quick=30)
    batch_size: int = option(32, "images in a step, or as many as there are")
    lr: float = option(2e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    sizes: int = option(len(SIZES), f"use the first so many of {SIZES}", quick=1)
    test: int | None = option(None, "test with so many images only (default: all)", quick=300)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.sizes <= len(SIZES):
            raise ValueError(f"--sizes is {self.sizes}; it must lie in 1 .. {len(SIZES)}")


# ---------------------------------------------------------------------------------------- a task
@dataclass
class Task:
    """What is learnt first, and what then. labels: from 0 on."""

    name: str
    measure: str  # what score() gives
    first: tn.data.ImageSet
    training: tn.data.ImageSet
    test: tn.data.ImageSet

    @property
    def classes(self) -> int:
        return len(self.training.classes)

    def sizes(self, config: Config) -> list[int]:
        """How many images to learn from: as in SIZES, as far as there are; then all."""
        return sorted({min(size, len(self.training)) for size in SIZES[: config.sizes]})

    def score(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Accuracy; the area under the ROC curve where one class is rare."""
        if self.measure == "accuracy":
            return float(np.mean(logits.argmax(axis=1) == labels))
        return metrics.auc(labels, logits[:, 1] - logits[:, 0])


# ---------------------------------------------------------------------------------------- the net
def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Convolution and pooling: half the height and width."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ELU(), nn.MaxPool2d(2))


def head(classes: int) -> nn.Sequential:
    """What belongs to the task: a linear layer on all features."""
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(3 * 3 * 32, classes))


def small_net(classes: int) -> nn.Sequential:
    """x: (N, 28, 28, 1) -> 14 x 14 x 8 -> 7 x 7 x 16 -> 3 x 3 x 32 -> logits (N, classes)."""
    return nn.Sequential(block(1, 8), block(8, 16), block(16, 32), head(classes))


def transferred(source: nn.Sequential, classes: int, trained_blocks: int) -> tuple[nn.Sequential, nn.Sequential]:
    """(frozen, trained): the blocks of `source` with a new head, cut in two. `source` itself is not changed."""
    model = small_net(classes).to(tn.device())
    model[:BLOCKS].load_state_dict(source[:BLOCKS].state_dict())  # the head keeps its new weights
    cut = BLOCKS - trained_blocks
    return model[:cut].eval(), model[cut:]


# ---------------------------------------------------------------------------------------- training
def fit(model: nn.Sequential, x: np.ndarray, labels: np.ndarray, steps: int, config: Config, seed: int) -> None:
    """Train on random batches of x, images or features, float32 (N, H, W, C)."""
    rng = np.random.default_rng(seed)
    optimizer = AdamW(model.parameters(), config.lr, weight_decay=1e-2)
    schedule = CosineDecay(optimizer, steps, warmup=max(1, steps // 20))
    model.train()
    for _ in range(steps):
        batch = rng.choice(len(x), min(config.batch_size, len(x)), replace=False)
        optimizer.zero_grad()
        tn.softmax_cross_entropy(model(tn.tensor(x[batch]).to(tn.device())), labels[batch]).backward()
        optimizer.step()
        schedule.step()
    model.eval()


def outputs(model: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """What the model says to x, in parts of 500, without training it."""
    with tn.no_grad():
        return np.concatenate([model(tn.tensor(x[i : i + 500]).to(tn.device())).numpy() for i in range(0, len(x), 500)])


def learn(task: Task, source: nn.Sequential, method: str, images: int, config: Config, seed: int) -> float:
    """The score on the test images of a net that learnt the new task from so many images, by one method."""
    tn.seed(seed)
    chosen = few_of_each(task.training.labels, images, seed)
    trained_blocks = METHODS[method]
    if trained_blocks is None:
        frozen, trained = nn.Sequential(), small_net(task.classes).to(tn.device())
    else:
        frozen, trained = transferred(source, task.classes, trained_blocks)
    features = outputs(frozen, as_input(task.training.images[chosen]))  # once, for all steps
    fit(trained, features, task.training.labels[chosen], config.steps, config, seed)
    return task.score(outputs(trained, outputs(frozen, as_input(task.test.images))), task.test.labels)


def few_of_each(labels: np.ndarray, images: int, seed: int) -> np.ndarray:
    """Which images to learn from: of each class as many as of the others, as long as there are.

    With the same seed the first ten are also among the first hundred.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), dtype=int)  # the first of each class, the second of each class, ...
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        turn[of_class] = np.arange(len(of_class))
    return order[np.argsort(turn[order], kind="stable")][:images]


def as_input(images: np.ndarray) -> np.ndarray:
    """Grey levels 0 to 255 as float32 from -0.5 to 0.5."""
    return images.astype(np.float32) / 255 - 0.5


# ---------------------------------------------------------------------------------------- the tasks
def digits_task(config: Config) -> tuple[Task, str]:
    """Digits 0 to 4, then 5 to 9; and where they are from."""
    from tinynet.data import ImageSet, handwritten_digits

    training, test, source = handwritten_digits(config.data)

    def some(digits: ImageSet, wanted: range) -> ImageSet:
        part = digits.subset(np.isin(digits.labels, wanted))
        return ImageSet(part.images, part.labels - wanted[0], tuple(str(digit) for digit in wanted))

    low, high = range(5), range(5, 10)
    new = some(test, high).subset(slice(config.test))
    return Task("digits: 0-4, then 5-9", "accuracy", some(training, low), some(training, high), new), source


def breast_task(config: Config) -> Task:
    """Pneumonia in X-rays, then malignant tumours in ultrasound images. Raises DataError where they are not found."""
    from tinynet.data import read_breastmnist, read_chest_xrays

    xrays, _ = read_chest_xrays("train", config.data, size=28)
    training, test = (read_breastmnist(part, config.data) for part in ("train", "test"))
    return Task("X-rays, then breast ultrasound", "AUC", xrays, training, test)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Every method on both pairs of tasks with 10 to 1,000 images; returns gains over starting from scratch."""
    config = parse(Config, argv, description=__doc__)
    with tn.use_backend(config.backend):
        return run_all(config)


def run_all(config: Config) -> dict[str, float]:
    """What `main` does, in the backend that was asked for."""
    from tinynet.data import DataError

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
        figures = {}
        for name, task in tasks.items():
            scores = compare(task, config, seed)
            runs[name].append(scores)
            rows = dict(zip(METHODS, scores))
            figures[f"{name}_gain_of_10"] = rows["fixed feature extractor"][0] - rows["from scratch"][0]
            figures[f"{name}_gain_of_most"] = rows["fine-tuning all"][-1] - rows["from scratch"][-1]
            figures[f"{name}_fine_tuned"] = rows["fine-tuning all"][-1]
        return {key: float(value) for key, value in figures.items()}

    figures = mean_over_seeds(one_run, config.seed, config.seeds)
    print_tables(tasks, runs, config)
    out = Path(config.out)
    draw_transfer(out / "transfer.png", tasks, runs, config)
    draw_tasks(out / "tasks.png", tasks)
    expected = {name: band for name, band in EXPECTED.items() if name in figures and source.startswith("MNIST")}
    print_metrics(figures, expected, quick=config.quick)
    print(f"pictures: {out}/transfer.png, {out}/tasks.png")
    print("next: python examples/segmentation/unet_nuclei.py evaluate")
    return figures


def compare(task: Task, config: Config, seed: int) -> np.ndarray:
    """The first task is learnt once; then the score of every method with every number of images."""
    tn.seed(seed)
    source = small_net(len(task.first.classes)).to(tn.device())
    fit(source, as_input(task.first.images), task.first.labels, config.first_steps, config, seed)
    sizes = task.sizes(config)
    pairs = [(method, size) for method in METHODS for size in sizes]
    progress = tqdm(pairs, f"{task.name}, seed {seed}", leave=False, disable=None)
    scores = [learn(task, source, method, size, config, seed) for method, size in progress]
    return np.array(scores).reshape(len(METHODS), len(sizes))


def print_tables(tasks: dict[str, Task], runs: dict[str, list[np.ndarray]], config: Config) -> None:
    """The mean score of each method, by the number of images."""
    for name, task in tasks.items():
        mean = np.mean(runs[name], axis=0)
        sizes = task.sizes(config)
        rows = [
            {task.measure: method, **dict(zip(map(str, sizes), map(float, row)))} for method, row in zip(METHODS, mean)
        ]
        print(f"\n{task.name}, by the number of images\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- pictures
def draw_transfer(path: Path, tasks: dict[str, Task], runs: dict[str, list[np.ndarray]], config: Config) -> None:
    """Score against the number of images to learn from: a line for each method, the runs as a band."""
    from tinynet import viz

    figure = viz.new_figure(5.5 * len(tasks) + 0.5, 4.8)
    colours = [viz.mpl(colour) for colour in ((90, 90, 90), viz.BLUE, viz.GREEN, viz.ORANGE, viz.VERMILLION)]
    for axes, (name, task) in zip(np.atleast_1d(figure.subplots(1, len(tasks))), tasks.items()):
        scores, sizes = np.array(runs[name]), task.sizes(config)
        for number, (method, colour) in enumerate(zip(METHODS, colours)):
            of_method = scores[:, number]
            style = "o--" if method == "from scratch" else "o-"
            axes.plot(sizes, of_method.mean(axis=0), style, color=colour, markersize=4, label=method)
            if method in ("from scratch", "fine-tuning all"):  # all five would hide each other
                axes.fill_between(sizes, of_method.min(axis=0), of_method.max(axis=0), color=colour, alpha=0.15)
        axes.set(xscale="log", xlabel="images of the new task to learn from", ylabel=f"{task.measure}, test images")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_title(task.name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    viz.save_figure(path, figure)


def draw_tasks(path: Path, tasks: dict[str, Task]) -> None:
    """A few images of what is learnt first, and of what is learnt then."""
    from tinynet import viz

    figure = viz.new_figure(9, 1.25 * 2 * len(tasks))
    parts = iter(figure.subfigures(2 * len(tasks), 1).flat)
    for task in tasks.values():
        for title, images in (("first", task.first), ("then", task.training)):
            part = next(parts)
            part.suptitle(f"{title} ({len(images):,} images): {', '.join(images.classes)}", fontsize=11)
            for panel, i in zip(part.subplots(1, 10), few_of_each(images.labels, 10, seed=0)):
                panel.imshow(images.images[i, :, :, 0], cmap="gray")
                panel.axis("off")
    viz.save_figure(path, figure)


if __name__ == "__main__":
    run(main)
