"""The goose: a net recognizes a goose, until the photograph is rotated. Five distortions, eight ways to train.

    python examples/evaluation/robustness.py                 # 3 runs of each net

A person recognizes a goose in any position. A net recognizes what is similar to its training images. If these show
geese in one position only, a rotated goose is something else, and the net is often *sure* of its wrong answer. The same
holds for an image that is zoomed, blurred, noisy or too bright, as from another X-ray machine.

The usual remedy is data augmentation: the training images are distorted at random. The script measures what it does.
For two tasks, handwritten digits (LeNet-5) and X-rays of chests (a small ConvNet finds pneumonia), the same net is
trained eight times with the same number of steps: without augmentation, with one of five distortions, with rotations
by any angle, and with all five at once. Then the test images are distorted in five ways, in several strengths, some
beyond those of the training. What to see:

- **The polar figure** shows the accuracy against the angle. Without augmentation LeNet reads 96 % of the digits, but
  14 % after a quarter turn. Rotations by up to 30 degrees widen the lobe, and little more. Rotations by any angle give
  a circle, at less than 80 %: a rotated 6 is a 9, and there is more to learn in the same steps. The X-rays have no such
  lobe: 73 % upright, about 70 % after a quarter turn, on an uneven curve between about 55 and 80 %. This suggests that
  the net judges by texture and brightness, which have no direction.
- **The table of gains** shows what each augmentation gains under each distortion. Its frames are the distortions that
  the training contained: 15 points on average for digits, 11 for X-rays. Outside the frames is the answer to a question
  that matters more, because nobody knows all distortions in advance: -5 points for digits, +1 for X-rays. There are
  exceptions: changes of brightness help digits against blur (+6) and noise (+5), which were not in the training; and
  rotations by any angle cost digits 27 to nearly 40 points under all other distortions.
- **The curves** show that a net may fail where a person sees hardly a difference. After a blur of one pixel, the
  accuracy on X-rays is 52 %, as good as guessing; with all augmentations it is 79 %. These also raise the accuracy on
  X-rays as they are by 5 to 6 points: the test X-rays differ from the training X-rays, which is a distortion, too.
- **The goose**: one image at several angles. The net without augmentation reads an upside-down 9 as a 6, which a person
  may do, but it is also 95 % sure of a 5 at 120 degrees. It calls one X-ray now pneumonia, now normal.

The accuracy is balanced: the mean over the classes of the share of right answers, so that guessing gives a half for the
X-rays, and a tenth for the digits. No setting was chosen on the test images.

Sources: Azulay, Weiss, Why do deep convolutional networks generalize so poorly to small image transformations?, JMLR
20, 2019; Geirhos et al., Generalisation in humans and deep neural networks, NeurIPS 2018 (training with one distortion
seldom helps against another); Hendrycks, Dietterich, Benchmarking neural network robustness to common corruptions and
perturbations, ICLR 2019; data: LeCun et al. 1998 (MNIST); Kermany et al., Cell 172, 2018 (X-rays, CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import AugmentedImages, DataLoader, ImageSet, augment, chest_xrays_or_synthetic, handwritten_digits
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

lenet = load_example("convnets/lenet_mnist.py").lenet


# ---------------------------------------------------------------------------------------- distortions, to test with
# Each takes an image (H, W, 1) from 0 to 1, a strength and a random generator, and returns a new image.
def rotated(image: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Rotated counterclockwise. Beyond its edge the image is mirrored (see `warp`)."""
    return moved(image, augment.linear_map(angle=-np.deg2rad(degrees)))


def zoomed(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """`factor` times as large, in the same frame."""
    return moved(image, augment.linear_map(zoom=(factor, factor)))


def moved(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The image, sampled where a 2 x 2 matrix says, around its middle."""
    size = np.array(image.shape[:2])
    return augment.warp(image, matrix, (size - 1) / 2, tuple(size), order=1)


def blurred(image: np.ndarray, width: float, rng: np.random.Generator) -> np.ndarray:
    """Blurred by a Gaussian whose width is a fraction of the image's height."""
    sigma = width * image.shape[0]
    return ndimage.gaussian_filter(image, (sigma, sigma, 0))


def noisy(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise added, then clipped to 0 .. 1, as a camera would."""
    return np.clip(image + sigma * rng.standard_normal(image.shape, dtype=np.float32), 0, 1)


def brightened(image: np.ndarray, lift: float, rng: np.random.Generator) -> np.ndarray:
    """Brighter by `lift`, darker if it is negative, clipped to 0 .. 1."""
    return np.clip(image + np.float32(lift), 0, 1)


@dataclass
class Distortion:
    """How to distort a test image, how strongly, and the text of the axis."""

    change: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    strengths: tuple[float, ...]
    neutral: float  # the strength that changes nothing
    axis: str


DISTORTIONS = {
    "rotation": Distortion(rotated, tuple(range(0, 360, 15)), 0, "rotation in degrees"),
    "zoom": Distortion(zoomed, (0.5, 0.6, 0.7, 0.85, 1, 1.2, 1.4, 1.7, 2), 1, "zoom factor"),
    "blur": Distortion(blurred, (0, 0.02, 0.04, 0.06, 0.08, 0.1), 0, "blur, as a fraction of the height"),
    "noise": Distortion(noisy, (0, 0.1, 0.2, 0.3, 0.4, 0.5), 0, "noise, standard deviation"),
    "brightness": Distortion(brightened, (-0.45, -0.3, -0.15, 0, 0.15, 0.3, 0.45), 0, "added brightness"),
}


# ---------------------------------------------------------------------------------------- augmentation, to train with
STILL = {"shift": 0.0, "rotation": 0.0, "shear": 0.0, "zoom": 1.0, "rescale": 1.0, "flip": False}
NETS = ("none", "rotation", "any angle", "zoom", "blur", "noise", "brightness", "all")


def augmentation(net: str, size: int) -> augment.Compose:
    """The augmentation of a net's training images of size x size pixels: about half as strong as the tests go."""
    steps = {
        "rotation": augment.Affine(**{**STILL, "rotation": 30.0}),
        "any angle": augment.Affine(**{**STILL, "rotation": 180.0}),
        "zoom": augment.Affine(**{**STILL, "zoom": 1.4}),
        "blur": augment.GaussianBlur(0.05 * size, probability=0.8),
        "noise": augment.GaussianNoise(0.25, probability=0.8),
        "brightness": augment.BrightnessContrast(brightness=0.15, contrast=0, channels=0),
    }
    if net == "all":
        moves = augment.Affine(**{**STILL, "rotation": 30.0, "zoom": 1.4})
        return augment.Compose([moves, steps["blur"], steps["noise"], steps["brightness"]])
    return augment.Compose([steps[net]] if net in steps else [])


# ---------------------------------------------------------------------------------------- tasks and nets
@dataclass
class Task:
    """Images to learn from and to test with, and a function that makes the net: x (N, H, W, 1) -> logits."""

    name: str
    training: ImageSet
    test: ImageSet
    net: Callable[[], nn.Sequential]


def chest_net(width: int = 8) -> nn.Sequential:
    """x: (N, 48, 48, 1) -> logits (N, 2): normal, pneumonia. width: channels of the first layer."""

    def block(c_in: int, c_out: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)

    blocks = *block(1, width), *block(width, 2 * width), *block(2 * width, 2 * width), *block(2 * width, 4 * width)
    return nn.Sequential(*blocks, nn.GlobalAvgPool2d(), nn.Linear(4 * width, 2))


def digits_task(config: Config) -> tuple[Task, str]:
    """Handwritten digits."""
    training, test, source = handwritten_digits(config.data)
    some = np.random.default_rng(0).permutation(len(test))[: config.test]
    return Task("digits", training, test.subset(some), lenet), source


def chest_task(config: Config) -> tuple[Task, str]:
    """X-rays with and without pneumonia."""
    size = 24 if config.quick else 48  # pixels
    parts, source = chest_xrays_or_synthetic(config.data, config.seed, (100, 40), size, synthetic=config.quick)
    training, test = parts["train"][0], parts["test"][0]
    some = np.random.default_rng(0).permutation(len(test))[: config.test]
    return Task("chest", training, test.subset(some), chest_net), source


# ---------------------------------------------------------------------------------------- training and testing
def as_input(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 255


def train(task: Task, net: str, config: Config, seed: int) -> nn.Sequential:
    """A net trained with one augmentation. Initial weights and the order of the images are the same for all."""
    tn.seed(seed)
    model = task.net().to(tn.device())
    augmented = augmentation(net, task.training.images.shape[1])
    changed = AugmentedImages(
        as_input(task.training.images),
        task.training.labels,
        lambda image, rng: np.clip(augmented(image, None, rng)[0], 0, 1),
    )
    loader = DataLoader(changed, min(config.batch_size, len(changed)), seed=seed)
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-2)
    schedule = optim.CosineDecay(optimizer, config.steps, warmup=config.steps // 10)
    for images, labels in loader.steps(config.steps):
        loss = tn.softmax_cross_entropy(model(tn.tensor(images).to(tn.device())), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def distorted(images: np.ndarray, distortion: Distortion, strength: float, seed: int) -> np.ndarray:
    """Every image with the same distortion: float32, the same shape."""
    rng = np.random.default_rng(seed)
    if strength == distortion.neutral:
        return images
    return np.stack([distortion.change(image, strength, rng) for image in images])


def balanced_accuracy(right: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean over the classes of the share of right answers, bool (..., N): guessing gives 1 / classes."""
    return np.mean([right[..., labels == label].mean(axis=-1) for label in np.unique(labels)], axis=0)


Scores = dict[str, np.ndarray]  # distortion -> balanced accuracy (nets, strengths)


def score_all(task: Task, models: dict[str, nn.Sequential], seed: int) -> Scores:
    """The balanced accuracy of every net under every strength of every distortion."""
    images, labels = as_input(task.test.images), task.test.labels
    scores = {}
    for name, distortion in tqdm(DISTORTIONS.items(), f"{task.name}, distortions", leave=False, disable=None):
        count = len(distortion.strengths)
        changed = np.concatenate([distorted(images, distortion, s, seed) for s in distortion.strengths])
        answers = [nn.predict(model, changed).argmax(axis=1).reshape(count, -1) for model in models.values()]
        scores[name] = balanced_accuracy(np.array(answers) == labels, labels)
    return scores


def gains(scores: Scores) -> np.ndarray:
    """How much each augmentation gains over none under each distortion, (nets, distortions): means over the strengths.

    The undistorted images do not count.
    """
    means = []
    for name, of_distortion in scores.items():
        distortion = DISTORTIONS[name]
        means.append(of_distortion[:, np.array(distortion.strengths) != distortion.neutral].mean(axis=1))
    table = np.array(means).T
    return table - table[NETS.index("none")]


def trained_for(net: str) -> np.ndarray:
    """Which distortions the augmentation of a net contains, bool (distortions,)."""
    return np.array([net in ("all", name) or (net, name) == ("any angle", "rotation") for name in DISTORTIONS])


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/robustness", "folder for the figures")
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    steps: int = option(300, "training steps of each net", quick=12)
    batch_size: int = option(32, "images in a step")
    lr: float = option(3e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    test: int = option(300, "number of images of each task to test with", quick=40)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(2, "steps")
        self.at_least(1, "batch_size", "test")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train with each augmentation, test under each distortion; return accuracies and mean gains."""
    made = [make(config) for make in (digits_task, chest_task)]
    print_settings(config, **{task.name: source for task, source in made})
    runs: dict[str, list[Scores]] = {task.name: [] for task, _ in made}
    geese = {}

    def one_run(seed: int) -> dict[str, float]:
        results = {}
        for task, _ in made:
            progress = tqdm(NETS, f"{task.name}, seed {seed}", leave=False, disable=None)
            models = {net: train(task, net, config, seed) for net in progress}
            scores = score_all(task, models, seed)
            runs[task.name].append(scores)
            geese.setdefault(task.name, models)
            results |= summary(task.name, scores)
        return results

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    means = {task: {d: np.mean([run[d] for run in done], axis=0) for d in DISTORTIONS} for task, done in runs.items()}
    print_gains(means)
    figures = {
        "polar.png": draw_polar(means),
        "curves.png": draw_curves(means),
        "gains.png": draw_gains(means),
        "goose.png": draw_geese([task for task, _ in made], geese),
    }
    real = all(source.startswith(("MNIST", "chest X-rays")) for _, source in made)
    return report(config, results, EXPECTED if real else {}, figures, NEXT)


def summary(task: str, scores: Scores) -> dict[str, float]:
    """Some of the scores, and the mean gain under distortions that an augmentation contains, and under others."""
    rotation = scores["rotation"]
    quarter = [DISTORTIONS["rotation"].strengths.index(angle) for angle in (90, 270)]
    table, seen = gains(scores), np.array([trained_for(net) for net in NETS])
    one = np.array([net not in ("none", "all") for net in NETS])[:, None]
    found = {
        "upright": rotation[NETS.index("none"), 0],
        "upright_all": rotation[NETS.index("all"), 0],
        "quarter_turn": rotation[NETS.index("none"), quarter].mean(),
        "quarter_turn_any_angle": rotation[NETS.index("any angle"), quarter].mean(),
        "slight_blur": scores["blur"][NETS.index("none"), 1],
        "slight_blur_all": scores["blur"][NETS.index("all"), 1],
        "gain_seen": table[one & seen].mean(),
        "gain_unseen": table[one & ~seen].mean(),
    }
    return {f"{task}_{name}": float(value) for name, value in found.items()}


def print_gains(means: dict[str, Scores]) -> None:
    """A table for each task: augmentations by distortions."""
    for task, scores in means.items():
        upright = scores["rotation"][:, 0]
        rows = [
            {"trained with": net, "undistorted": float(first), **dict(zip(DISTORTIONS, map(float, row)))}
            for net, first, row in zip(NETS, upright, gains(scores))
        ]
        print(f"\n{task}: accuracy, and gains under distortions\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- figures
COLORS = {"none": (90, 90, 90), "rotation": viz.ORANGE, "any angle": viz.GREEN, "all": viz.BLUE}
LABELS = {"none": "no augmentation", "rotation": "rotation up to 30°", "any angle": "by any angle", "all": "all"}


def draw_polar(means: dict[str, Scores]) -> viz.Figure:
    """The accuracy against the angle: a circle would be a net that does not care."""
    figure, panels = viz.subplots(1, len(means), figsize=(10, 5.4), subplot_kw={"projection": "polar"})
    angles = np.deg2rad([*DISTORTIONS["rotation"].strengths, 360])
    for axes, (task, scores) in zip(panels, means.items()):
        for net, color in COLORS.items():
            values = scores["rotation"][NETS.index(net)]
            axes.plot(angles, [*values, values[0]], color=viz.mpl(color), linewidth=2, label=LABELS[net])
        guess = 0.1 if task == "digits" else 0.5
        axes.plot(angles, np.full(len(angles), guess), ":", color="0.4", label="guessing")
        axes.set_theta_zero_location("N")
        axes.set(ylim=(0, 1), yticks=(0.25, 0.5, 0.75, 1))
        axes.set_title(f"{task}: accuracy by angle", pad=12)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def draw_curves(means: dict[str, Scores]) -> viz.Figure:
    """Accuracy against the strength of the other distortions: none, this distortion in training, all."""
    others = [name for name in DISTORTIONS if name != "rotation"]
    figure, panels = viz.subplots(len(means), len(others), figsize=(13, 3.2 * len(means)), sharey="row")
    for row, (task, scores) in zip(panels, means.items()):
        for axes, name in zip(row, others):
            nets = {"none": "no augmentation", name: "this distortion", "all": "all"}
            for (net, label), color in zip(nets.items(), ((90, 90, 90), viz.ORANGE, viz.BLUE)):
                values = scores[name][NETS.index(net)]
                axes.plot(DISTORTIONS[name].strengths, values, "o-", color=viz.mpl(color), markersize=3, label=label)
            axes.axvline(DISTORTIONS[name].neutral, color="0.7", linewidth=1, zorder=0)
            axes.set(xlabel=DISTORTIONS[name].axis)
            axes.grid(alpha=0.3)
        row[0].set_ylabel(f"{task}: balanced accuracy")
    panels[0, 0].legend(title="trained with", fontsize=8)
    return figure


def draw_gains(means: dict[str, Scores]) -> viz.Figure:
    """The gain of each augmentation under each distortion, in points; a frame where the training contained it."""
    figure, panels = viz.subplots(1, len(means), figsize=(11, 4.8))
    for axes, (task, scores) in zip(panels, means.items()):
        table = 100 * gains(scores)[1:]
        axes.imshow(table, cmap="RdBu", vmin=-30, vmax=30)
        for (row, column), value in np.ndenumerate(table):
            shade = "w" if abs(value) > 20 else "k"
            axes.text(column, row, f"{value:+.0f}", ha="center", va="center", color=shade)
            if trained_for(NETS[1 + row])[column]:
                viz.draw_box(axes, np.array([row, column, row + 1, column + 1]), "k")
        axes.set_xticks(range(len(DISTORTIONS)), list(DISTORTIONS), rotation=30, ha="right")
        axes.set_yticks(range(len(NETS) - 1), NETS[1:])
        axes.set(title=f"{task}: gain in points of accuracy", xlabel="tested under", ylabel="trained with")
    return figure


def draw_geese(tasks: list[Task], models: dict[str, dict[str, nn.Sequential]]) -> viz.Figure:
    """One test image of each task in several angles, with the answers of the net without augmentation."""
    angles = (0, 30, 60, 90, 120, 150, 180, 270)
    figure, panels = viz.subplots(len(tasks), len(angles), figsize=(12, 2.2 * len(tasks)))
    for row, task in zip(panels, tasks):
        image = as_input(task.test.images[int(np.argmax(task.test.labels == task.test.labels.max()))])
        views = np.stack([rotated(image, angle, np.random.default_rng(0)) for angle in angles])
        shares = tn.softmax(tn.tensor(nn.predict(models[task.name]["none"], views))).numpy()
        for panel, view, share, angle in zip(row, views, shares, angles):
            panel.imshow(view[:, :, 0], cmap="gray", vmin=0, vmax=1)
            panel.set_title(f"{angle}°: {task.test.classes[share.argmax()]}\n({share.max():.0%} sure)", fontsize=9)
            panel.axis("off")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Robustness: rotated, zoomed, blurred, noisy images, with and without augmentation"
DATA = "MNIST; chest X-rays (Kermany et al.), 48 x 48 pixels"
FILES = ("mnist", "chest_xray/chest_xray.zip")
EXPECTED = {
    "digits_upright": (0.94, None),
    "digits_quarter_turn": (None, 0.25),
    "digits_quarter_turn_any_angle": (0.7, None),
    "digits_gain_seen": (0.1, None),
    "digits_gain_unseen": (None, 0.0),
    "chest_gain_seen": (0.06, None),
    "chest_slight_blur": (None, 0.65),
    "chest_slight_blur_all": (0.7, None),
}
PICTURE = "polar.png"
NEXT = "python examples/evaluation/label_quality.py"


if __name__ == "__main__":
    run(main)
