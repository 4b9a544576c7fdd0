"""Rare positives: five losses for a net that looks for nuclei where 99 of 100 pixels are background.

    python examples/segmentation/class_imbalance.py

Every window of a microscope image used here has 0.5 to 1.2 % of its pixels in nuclei. A net that answers "background"
everywhere is right for 99 % of the pixels, and its cross-entropy is small. The same net is trained for the same 100
steps with five losses:

- **cross-entropy** of all pixels;
- **weighted** cross-entropy: a positive pixel counts 99 times, so that both classes have the same weight;
- **Dice**, the overlap: background pixels that are right do not occur in it;
- **focal** loss: cross-entropy in which a pixel counts less the better it is predicted already;
- **hard negatives**: cross-entropy of the positives and of those negatives that have the largest losses, three for each
  positive.

And with two **initial biases** of the last layer: with 0 the net first predicts a probability of 0.5 everywhere, with
-log((1 - 0.01) / 0.01) it first predicts the prior, 0.01.

Scores of all pixels of test windows, means of three runs: average precision (AP, the area under the precision-recall
curve), Dice at the threshold chosen on validation windows, and Dice at a probability of 0.5:

|                | bias 0: AP | Dice | at 0.5 | prior: AP | Dice | at 0.5 |
|----------------|------------|------|--------|-----------|------|--------|
| cross-entropy  | .655       | .608 | .535   | .805      | .738 | .727   |
| weighted       | .754       | .691 | .437   | .750      | .687 | .400   |
| Dice           | .784       | .757 | .756   | .780      | .757 | .755   |
| focal          | .491       | .482 | .148   | .751      | .693 | .573   |
| hard negatives | .819       | .761 | .743   | .831      | .770 | .750   |

What to see. **The initial bias** matters most, and costs nothing: with bias 0 cross-entropy and focal loss spend their
first 20 steps on "everything is background", and their result is a matter of luck (cross-entropy: Dice .54, .57, .71).
With the prior, plain cross-entropy is nearly as good as Dice. Losses that balance the classes themselves do not need
it. **The threshold** is a part of the method: the weighted loss asks for a balance that the images do not have, so a
probability of 0.5 stands for far too many pixels (low precision), and the focal loss does the opposite. A threshold
chosen on other images repairs this; the Dice loss needs none, since nearly all its probabilities are 0 or 1. **Hard
negatives** rank the pixels best, but in Dice they and the Dice loss differ less than two seeds do.

No experiment is in two of the parts that train, choose thresholds and test. The test was not used to choose anything.

Sources: Lin, Goyal, Girshick, He, Dollar, Focal loss for dense object detection, ICCV 2017 (initial bias: section 4.1);
Shrivastava, Gupta, Girshick, Training region-based object detectors with online hard example mining, CVPR 2016;
Milletari, Navab, Ahmadi, V-Net, 3DV 2016 (Dice); data: Caicedo et al., Nature Methods 16, 2019 (BBBC038).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataError, Sample, data_path, find_data, normalize, read_nuclei, synthetic_nuclei
from tinynet.data.nuclei import split_table
from tinynet.imaging.intensity import gray
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

# ---------------------------------------------------------------------------------------- the losses
POSITIVES = (0.005, 0.012)  # the share of nuclei in every window of this script
PRIOR = 0.01  # the probability that a net with a prior predicts before it has learned anything

Loss = Callable[[tn.Tensor, np.ndarray], tn.Tensor]  # of logits and targets (0 or 1), both (N, H, W, 1)


def weighted(logits: tn.Tensor, target: np.ndarray) -> tn.Tensor:
    """Cross-entropy in which both classes weigh the same: a positive pixel counts as often as it has negatives."""
    return tn.bce_with_logits(logits, target, pos_weight=(1 - PRIOR) / PRIOR)


def dice(logits: tn.Tensor, target: np.ndarray) -> tn.Tensor:
    """The overlap itself: pixels of the background that are right do not appear in it."""
    return tn.dice_loss(tn.sigmoid(logits), target)


def hard_negatives(logits: tn.Tensor, target: np.ndarray) -> tn.Tensor:
    """Cross-entropy of all positives and of the negatives with the largest losses, three for each positive."""
    losses = tn.bce_with_logits(logits, target, reduction="none")
    positives = int(target.sum())
    hardest = tn.hardest_mean(losses[target == 0], max(1, 3 * positives))
    return hardest if positives == 0 else (losses[target == 1].mean() + 3 * hardest) / 4


LOSSES: dict[str, Loss] = {
    "cross_entropy": tn.bce_with_logits,
    "weighted": weighted,
    "dice": dice,
    "focal": tn.focal_loss,
    "hard_negatives": hard_negatives,
}


# ---------------------------------------------------------------------------------------- the net
def level(c_in: int, c_out: int) -> nn.Sequential:
    """Two convolutions 3 x 3; the size stays."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1), nn.ELU(), nn.Conv2d(c_out, c_out, 3, padding=1), nn.ELU()
    )


class SmallUNet(nn.Module):
    """x: (N, H, W, 1), H and W multiples of 8 -> logits (N, H, W, 1). Four levels.

    prior: the probability that the net predicts for every pixel before it has learned anything (on average; the first
    weights are random). The bias of the last layer is its logit, -log((1 - prior) / prior) (Lin 2017, section 4.1).
    """

    def __init__(self, prior: float = 0.5, c: tuple[int, ...] = (8, 16, 32, 64)) -> None:
        self.down = [level(c_in, c_out) for c_in, c_out in zip((1, *c), c)]
        self.up = [nn.ConvTranspose2d(deep, shallow, 2, stride=2) for shallow, deep in pairwise(c)]
        self.merge = [level(2 * channels, channels) for channels in c[:-1]]
        self.head = nn.Conv2d(c[0], 1, 1)
        self.head.bias.data[:] = -np.log((1 - prior) / prior)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        levels = []
        for number, down in enumerate(self.down):
            x = down(tn.max_pool2d(x, 2) if number else x)
            levels.append(x)
        for up, merge, skip in reversed(list(zip(self.up, self.merge, levels))):
            x = merge(tn.concat([up(x), skip], axis=3))
        return self.head(x)


# ---------------------------------------------------------------------------------------- the data
NUCLEI = "dsb2018/stage1_train.zip"
STRIDE = 16  # pixels from one candidate for a window to the next


@dataclass
class Windows:
    """images: float32 (N, S, S, 1), dark background; masks: float32 (N, S, S, 1), 1 in nuclei."""

    images: np.ndarray
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self) -> np.ndarray:
        """Is it a nucleus? All pixels: bool (N * S * S,)."""
        return self.masks.ravel() > 0

    def turned(self, chosen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(images, masks) of the chosen windows, all rotated by one multiple of 90 degrees, and mirrored or not."""
        turns, order = rng.integers(4), slice(None, None, rng.choice([1, -1]))
        images, masks = (np.rot90(array[chosen], turns, (1, 2))[:, order] for array in (self.images, self.masks))
        return np.ascontiguousarray(images), np.ascontiguousarray(masks)


def sparse_windows(samples: list[Sample], config: Config, rng: np.random.Generator) -> Windows:
    """Windows with few positives (POSITIVES), at most --per-image of an image; they do not overlap."""
    images, masks = [], []
    for sample in samples:
        image, nuclei = gray(normalize(sample.image)), sample.labels > 0
        free, found = np.ones(nuclei.shape, bool), 0
        rows, columns = (range(0, length - config.size + 1, STRIDE) for length in nuclei.shape)
        for row, column in rng.permutation(list(product(rows, columns))):
            window = np.s_[row : row + config.size, column : column + config.size]
            few = POSITIVES[0] <= nuclei[window].mean() <= POSITIVES[1]
            if few and free[window].all() and found < config.per_image:
                images.append(image[window])
                masks.append(nuclei[window])
                free[window] = False
                found += 1
    if not images:
        raise DataError(
            f"{len(samples)} images hold no window of {config.size} pixels of which {POSITIVES[0]:.1%} to "
            f"{POSITIVES[1]:.1%} are nuclei; give more images, or another --size"
        )
    return Windows(*(np.stack(arrays)[..., None].astype(np.float32) for arrays in (images, masks)))


def load_parts(config: Config) -> tuple[dict[str, Windows], str]:
    """({"train": ..., "validation": ..., "test": ...}, their source): drawings if the data are missing or --quick.

    No two parts have an experiment (a group of the committed split) in common.
    """
    rng = np.random.default_rng(0)  # the same windows for every seed
    if config.data is None and (config.quick or data_path(NUCLEI) is None):
        why = "" if config.quick else f", because {NUCLEI} was not found in TINYNET_DATA or in the cache"
        counts = {"train": config.drawings, "validation": config.drawings // 2, "test": config.drawings // 2}
        samples = {part: [synthetic_nuclei(rng) for _ in range(count)] for part, count in counts.items()}
        source = f"synthetic nuclei{why}"
    else:
        parts = ids_of_parts(config.per_group, rng)
        path = find_data(NUCLEI, config.data)
        samples = {part: read_nuclei(path, ids) for part, ids in parts.items()}
        source = f"{path}, {sum(len(ids) for ids in parts.values())} images"
    return {part: sparse_windows(some, config, rng) for part, some in samples.items()}, source


def ids_of_parts(per_group: int, rng: np.random.Generator) -> dict[str, list[str]]:
    """The ids of images for each part, at most `per_group` of a group.

    The test part is the validation part of the committed split; every fourth group of its training part is the
    validation part here.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for row in split_table():
        groups.setdefault((row["split"], row["group"]), []).append(row["id"])
    ids: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for number, ((split, _), members) in enumerate(sorted(groups.items())):
        part = "test" if split == "validation" else "validation" if number % 4 == 1 else "train"
        ids[part] += rng.permutation(members)[:per_group].tolist()
    return ids


# ---------------------------------------------------------------------------------------- training, scores
@dataclass
class Outcome:
    """What a trained net says of the test part: a logit for each pixel.

    threshold: the logit with the highest Dice on the validation part. curve: while training, [(step, average precision
    on some validation windows), ...]; empty unless it was watched.
    """

    logits: np.ndarray
    threshold: float
    curve: list[tuple[int, float]]

    def figures(self, true: np.ndarray) -> dict[str, float]:
        """Average precision; Dice at the chosen threshold, and at a probability of 0.5."""
        return {
            "ap": metrics.ranking_ap(true, self.logits),
            "dice": metrics.dice(true, self.logits >= self.threshold),
            "half": metrics.dice(true, self.logits >= 0),
        }


def learn(loss: Loss, prior: float, parts: dict[str, Windows], config: Config, seed: int) -> Outcome:
    """Train a net, choose its threshold, apply it to the test part. The net of the first seed is watched."""
    tn.seed(seed)
    rng = np.random.default_rng((seed, 1))
    net = SmallUNet(prior).to(tn.device())
    optimizer = optim.AdamW(net.parameters(), config.lr, weight_decay=1e-4)
    schedule = optim.CosineDecay(optimizer, config.steps, warmup=config.steps // 20, floor=0.01)
    training, validation = parts["train"], parts["validation"]
    every = -(-len(validation) // 12)
    few = Windows(validation.images[::every], validation.masks[::every])
    curve = []
    for step in range(config.steps):
        if seed == config.seed and step % 10 == 0:
            curve.append((step, metrics.ranking_ap(few.pixels(), logits_of(net, few))))
        images, masks = training.turned(rng.integers(0, len(training), config.batch_size), rng)
        value = loss(net(tn.tensor(images).to(tn.device())), masks)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    threshold = best_threshold(validation.pixels(), logits_of(net, validation))
    return Outcome(logits_of(net, parts["test"]), threshold, curve)


def logits_of(net: nn.Module, windows: Windows) -> np.ndarray:
    """The logits of all pixels: (N * S * S,)."""
    return nn.predict(net, windows.images, batch=16).ravel()


def best_threshold(true: np.ndarray, logits: np.ndarray) -> float:
    """The logit with the highest Dice coefficient on these pixels."""
    precision, recall, thresholds = metrics.precision_recall_curve(true, logits)
    return float(thresholds[np.argmax(precision * recall / (precision + recall + 1e-12))])


# ---------------------------------------------------------------------------------------- the run
PRIORS = {"": 0.5, "_prior": PRIOR}  # the end of a metric's name -> the probability that the net starts with


@dataclass
class Config(NetOptions):
    out: str = option("out/class_imbalance", "folder for the figures")
    data: str | None = option(None, f"folder with {NUCLEI}, or this file (default: TINYNET_DATA, then the cache)")
    per_group: int = option(12, "images of an experiment, at most")
    per_image: int = option(3, "windows of an image, at most")
    size: int = option(128, "height and width of a window, pixels; a multiple of 8", quick=64)
    drawings: int = option(40, "synthetic images that replace missing data, and half as many for each test", quick=12)
    steps: int = option(100, "training steps of each net", quick=20)
    batch_size: int = option(8, "windows in a step", quick=4)
    lr: float = option(3e-3, "highest learning rate (AdamW; warm-up, then a cosine)")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "per_group", "per_image", "drawings", "steps", "batch_size")
        if self.size < 32 or self.size % 8:
            raise ValueError(
                f"--size is {self.size}; a multiple of 8 from 32 on is needed: the net halves it three times"
            )


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train a net with each loss and each initial bias. Return, for pixels of the test part: average precision (ap_*),
    Dice at the threshold of the validation part (dice_*) and at a probability of 0.5 (half_*)."""
    parts, source = load_parts(config)
    windows = ", ".join(
        f"{len(part)} to {name}" for name, part in zip(("learn from", "validate", "test"), parts.values())
    )
    shares = " / ".join(f"{part.masks.mean():.2%}" for part in parts.values())
    print_settings(config, SmallUNet(), data=source, windows=windows, positive_pixels=shares)
    true = parts["test"].pixels()
    outcomes: dict[str, Outcome] = {}  # of the first seed

    def one_run(seed: int) -> dict[str, float]:
        results = {}
        for (name, loss), (end, prior) in tqdm(
            product(LOSSES.items(), PRIORS.items()), f"seed {seed}", 2 * len(LOSSES), leave=False, disable=None
        ):
            outcome = learn(loss, prior, parts, config, seed)
            outcomes.setdefault(name + end, outcome)
            results |= {f"{key}_{name}{end}": value for key, value in outcome.figures(true).items()}
        return results

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    figures = {
        "precision_recall.png": draw_precision_recall(true, outcomes, results),
        "masks.png": draw_masks(parts["test"], outcomes),
        "prior.png": draw_prior(outcomes),
    }
    return report(config, results, {} if source.startswith("synthetic") else EXPECTED, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
NAMES = dict(zip(LOSSES, ("cross-entropy", "weighted", "Dice", "focal", "hard negatives")))
COLORS = dict(zip(LOSSES, (viz.BLUE, viz.ORANGE, viz.GREEN, viz.PURPLE, viz.VERMILLION)))
BIASES = {"": "initial bias 0", "_prior": f"initial bias for a prior of {PRIOR}"}


def draw_precision_recall(true: np.ndarray, outcomes: dict[str, Outcome], results: dict[str, float]) -> viz.Figure:
    """The curves of the first seed for both biases, with the points of two thresholds; the mean Dice of all seeds."""
    figure, axes = viz.subplots(1, 3, figsize=(17, 5.4))
    for panel, (end, title) in zip(axes, BIASES.items()):
        draw_dice_lines(panel)
        for name, color in COLORS.items():
            outcome = outcomes[name + end]
            precision, recall, thresholds = metrics.precision_recall_curve(true, outcome.logits)
            some = recall > 0.005  # the precision of a few pixels says nothing
            label = f"{NAMES[name]}, AP {metrics.ranking_ap(true, outcome.logits):.3f}"
            panel.plot(recall[some], precision[some], color=viz.mpl(color), label=label)
            for threshold, marker in ((0.0, "o"), (outcome.threshold, "*")):
                last = np.flatnonzero(thresholds >= threshold)[-1:]  # none if no pixel is that probable
                panel.plot(recall[last], precision[last], marker, color=viz.mpl(color), markersize=10, mec="k")
        panel.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01), title=title)
        panel.legend(loc="lower left", fontsize=9, title="dot: probability 0.5\nstar: chosen on other images")
    draw_bars(axes[2], results)
    return figure


def draw_dice_lines(panel: viz.Axes) -> None:
    """Gray lines of equal Dice: d = 2 p r / (p + r), so p = d r / (2 r - d)."""
    for value in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(value / (2 - value), 1, 100)
        precision = value * recall / (2 * recall - value)
        panel.plot(recall, precision, color="0.8", linewidth=0.8, zorder=0)
        panel.text(0.995, precision[-1] + 0.01, f"Dice {value}", color="0.6", fontsize=8, ha="right")


def draw_bars(panel: viz.Axes, results: dict[str, float]) -> None:
    """Dice of each loss at both thresholds, with both biases."""
    places = np.arange(len(LOSSES))
    shades = (
        ("half", "", viz.SKY),
        ("half", "_prior", viz.BLUE),
        ("dice", "", viz.YELLOW),
        ("dice", "_prior", viz.ORANGE),
    )
    texts = {"half": "at probability 0.5", "dice": "at the chosen threshold"}
    for number, (key, end, color) in enumerate(shades):
        heights = [results[f"{key}_{name}{end}"] for name in LOSSES]
        label = f"{texts[key]}, {'prior' if end else 'bias 0'}"
        panel.bar(places + 0.2 * (number - 1.5), heights, 0.2, color=viz.mpl(color), label=label)
    panel.set_xticks(places, [name.replace(" ", "\n") for name in NAMES.values()])
    panel.set(ylabel="Dice of all test pixels, mean of all seeds", ylim=(0, 1.15))
    panel.legend(loc="upper center", ncols=2, fontsize=9)


def draw_masks(test: Windows, outcomes: dict[str, Outcome]) -> viz.Figure:
    """Two test windows with the masks of all losses (bias 0) at both thresholds: hits, misses, false alarms in color.

    Shown are the windows with most pixels of whole nuclei, of the first half and of the second one, which hold other
    kinds of images.
    """
    from skimage.segmentation import clear_border

    whole = np.array([clear_border(mask > 0).sum() for mask in test.masks[..., 0]])
    half = len(test) // 2
    shown = [int(whole[:half].argmax()), half + int(whole[half:].argmax())] if half else [0]
    figure, axes = viz.subplots(2 * len(shown), 1 + len(LOSSES), figsize=(13, 4.5 * len(shown)))
    shape = test.masks.shape[:3]
    for rows, number in zip(axes.reshape(len(shown), 2, -1), shown):
        image, mask = test.images[number, ..., 0], test.masks[number, ..., 0] > 0
        rows[0, 0].imshow(image, cmap="gray")
        rows[0, 0].set_title("image")
        rows[1, 0].imshow(mask, cmap="gray")
        rows[1, 0].set_title("truth")
        for column, name in enumerate(LOSSES, 1):
            outcome = outcomes[name]
            for panel, threshold, text in zip(
                rows[:, column], (0.0, outcome.threshold), ("at 0.5", "threshold chosen")
            ):
                found = outcome.logits.reshape(shape)[number] >= threshold
                colors = np.zeros((*mask.shape, 3), np.uint8)
                for where, color in (
                    (mask & found, viz.WHITE),
                    (mask & ~found, viz.MISS),
                    (found & ~mask, viz.FALSE_ALARM),
                ):
                    colors[where] = color
                panel.imshow(colors)
                panel.set_title(f"{NAMES[name]}\n{text}: Dice {metrics.dice(mask, found):.2f}", fontsize=9)
    for panel in axes.flat:
        panel.axis("off")
    figure.supxlabel("white: found; yellow: missed; red: false alarm")
    return figure


def draw_prior(outcomes: dict[str, Outcome]) -> viz.Figure:
    """Average precision on validation windows while each net trains, with both biases."""
    figure, axes = viz.subplots(1, len(LOSSES), figsize=(3.2 * len(LOSSES), 3.4), sharey=True)
    for panel, name in zip(axes, LOSSES):
        for (end, title), style in zip(BIASES.items(), ("--", "-")):
            panel.plot(*zip(*outcomes[name + end].curve), style, color=viz.mpl(COLORS[name]), label=title)
        panel.set(title=NAMES[name], xlabel="step", ylim=(0, 1))
        panel.legend(fontsize=8, loc="lower right")
    axes[0].set_ylabel("average precision, validation windows")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Class imbalance: losses and the initial bias where 1 % of the pixels are positive"
DATA = "windows of the Data Science Bowl 2018's nuclei images of which 0.5 to 1.2 % are nuclei"
FILES = ("dsb2018/stage1_train.zip",)
EXPECTED = {
    "dice_cross_entropy": (None, 0.73),
    "dice_cross_entropy_prior": (0.70, 0.78),
    "dice_weighted": (0.65, 0.74),
    "half_weighted": (0.35, 0.5),
    "dice_dice": (0.73, 0.79),
    "dice_focal_prior": (0.66, 0.75),
    "half_focal": (None, 0.4),
    "dice_hard_negatives": (0.73, 0.8),
    "ap_hard_negatives": (0.79, 0.86),
}
PICTURE = "precision_recall.png"
NEXT = "python examples/uncertainty/mc_dropout.py"


if __name__ == "__main__":
    run(main)
