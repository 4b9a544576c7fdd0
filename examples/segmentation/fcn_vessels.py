"""From a net that classifies one pixel to a net that labels a whole image: the vessels of the retina.

    python examples/segmentation/fcn_vessels.py

Three steps of the lecture on one task, to find the vessels in photographs of the eye:

1. **Patch classification** (Cireşan 2012). A net sees a patch of 25 x 25 pixels and says whether its *center* lies in
   a vessel. To label an image, the patch is moved over all its pixels. Neighboring patches share most of their pixels,
   and the net computes everything about them again and again.
2. **The same net, fully convolutional.** Each layer is moved over the whole image only once: a Linear layer on a patch
   is a convolution, and where the patch net pools with stride 2, the maps keep their size and every later layer reads
   its inputs 2 pixels apart (*dilation*). The weights are the same, and so are the probabilities, at every pixel, but
   the image is labeled many times faster.
3. **A net with skip connections** (Long 2015, FCN-8). It pools in earnest, so its deep layers see far and cost little,
   and it predicts at four resolutions: coarse predictions, which know *what* is there, are enlarged and added to finer
   ones, which know *where*.

The first observer's tracing is the truth. How well does the second observer agree with the first? That is as much as
can be asked of a net. A filter without learning is the baseline: how much darker a pixel is than its surroundings.
Thresholds are chosen on training images. Scores count the pixels of the field of view, at full resolution. On the eight
photographs that are held out (children 11 to 14, one run):

|                           | AUC  | Dice |
|---------------------------|------|------|
| filter                    | .904 | .612 |
| patch net, either form    | .967 | .730 |
| net with skip connections | .980 | .783 |
| second observer           |      | .798 |

The second observer lies almost on the ROC curve of the net with skip connections. The patch net takes many spots for
pieces of vessels: in 25 x 25 pixels it cannot see whether they belong to a line. Its fully convolutional form is 25
times as fast, and the multiplications for a pixel are 25 times fewer.

Sources: Cireşan, Giusti, Gambardella, Schmidhuber, Deep neural networks segment neuronal membranes in electron
microscopy images, NIPS 2012; Long, Shelhamer, Darrell, Fully convolutional networks for semantic segmentation, CVPR
2015; dilation instead of stride: Giusti et al., Fast image scanning with deep max-pooling convolutional neural
networks, ICIP 2013; data: CHASE_DB1, Fraz et al., IEEE Transactions on Biomedical Engineering 59, 2012.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.special import expit
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataLoader, Retina, read_vessels, split_children, synthetic_retina
from tinynet.tools.cli import TrainingOptions, command_line, mean_over_seeds, option, print_settings, report, run

# ---------------------------------------------------------------------------------------- the patch net
PATCH = 25  # pixels; the center is the pixel to classify
HALF = PATCH // 2
SPREAD = 20.0  # pixels; the surroundings that `prepare` subtracts


class PatchNet(nn.Module):
    """x: patches (N, 25, 25, 3) -> logits (N, 1): does the center lie in a vessel?

    25 - conv 4x4 -> 22 - pool -> 11 - conv 4x4 -> 8 - pool -> 4 - dense -> 48 - dense -> 1.
    """

    def __init__(self) -> None:
        self.conv1 = nn.Conv2d(3, 12, 4)
        self.conv2 = nn.Conv2d(12, 24, 4)
        self.dense1 = nn.Linear(4 * 4 * 24, 48)
        self.dense2 = nn.Linear(48, 1)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        x = tn.max_pool2d(tn.elu(self.conv1(x)), 2)
        x = tn.max_pool2d(tn.elu(self.conv2(x)), 2)
        x = tn.elu(self.dense1(x.reshape(len(x), -1)))
        return self.dense2(x)


def everywhere(net: PatchNet, x: tn.Tensor) -> tn.Tensor:
    """The logits of a PatchNet at every pixel: x (N, H, W, 3) -> (N, H - 24, W - 24, 1).

    A pixel's result is the patch net's for the patch around it. Pooling by 2 with stride 1 gives the results of all
    positions of the patch, interleaved: those of one patch are 2 pixels apart after the first pooling, 4 after the
    second one.
    """
    x = largest_of_four(tn.elu(net.conv1(x)), apart=1)
    x = largest_of_four(tn.elu(tn.conv2d(x, net.conv2.weight, net.conv2.bias, dilation=2)), apart=2)
    kernel = net.dense1.weight.reshape(4, 4, 24, 48)  # the rows of the matrix are in the order (y, x, channel)
    x = tn.elu(tn.conv2d(x, kernel, net.dense1.bias, dilation=4))
    return net.dense2(x)  # a Linear on the last axis is a 1 x 1 convolution


def largest_of_four(x: tn.Tensor, apart: int) -> tn.Tensor:
    """2 x 2 max-pooling with stride 1 of pixels that are `apart` from each other."""
    x = tn.maximum(x[:, apart:], x[:, :-apart])
    return tn.maximum(x[:, :, apart:], x[:, :, :-apart])


# ---------------------------------------------------------------------------------------- the net with skips
def stage(c_in: int, c_out: int) -> nn.Sequential:
    """Two convolutions 3 x 3, c_in -> c_out channels; the size stays."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1), nn.ELU(), nn.Conv2d(c_out, c_out, 3, padding=1), nn.ELU()
    )


def zeros(shape: tuple[int, ...], **_: int) -> np.ndarray:
    """First weights of the layers that predict."""
    return np.zeros(shape, np.float32)


class SkipNet(nn.Module):
    """x: (N, H, W, 3), H and W multiples of 8 -> logits (N, H, W, 1).

    Four resolutions, each a half of the one before, and a prediction from each of them. The layers that predict begin
    with zeros, as in the paper (section 4.3): the sum of four random predictions would be far from any probability.
    """

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        self.stages = [stage(c_in, c_out) for c_in, c_out in zip((3, *channels), channels)]
        self.heads = [nn.Conv2d(c, 1, 1, init=zeros) for c in channels]

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        scores = []
        for number, (down, head) in enumerate(zip(self.stages, self.heads)):
            x = down(tn.max_pool2d(x, 2) if number else x)
            scores.append(head(x))
        y = scores.pop()
        while scores:  # from coarse to fine
            finer = scores.pop()
            y = tn.resize2d(y, finer.shape[1:3]) + finer
        return y


# ---------------------------------------------------------------------------------------- the data
def prepare(retina: Retina) -> np.ndarray:
    """The photograph without its uneven light: float32 (H, W, 3), each channel minus its mean in the surroundings.

    Only pixels of the field of view count in the mean, and the result is divided by its standard deviation there.
    """
    image, field = retina.image.astype(np.float32), retina.field.astype(np.float32)
    weight = ndimage.gaussian_filter(field, SPREAD) + 1e-6
    mean = ndimage.gaussian_filter(image * field[..., None], (SPREAD, SPREAD, 0)) / weight[..., None]
    contrast = (image - mean) * field[..., None]
    return contrast / max(float(contrast[retina.field].std()), 1e-6)


class Patches:
    """A data set of patches, (25, 25, 3), and whether their center lies in a vessel, (1,): one half of them does."""

    def __init__(self, images: list[np.ndarray], retinas: list[Retina], count: int) -> None:
        margins = ((HALF, HALF), (HALF, HALF), (0, 0))
        self.images = [np.pad(image, margins) for image in images]
        self.places = [[np.argwhere(r.field & (r.vessels == kind)) for kind in (False, True)] for r in retinas]
        self.count = count

    def __len__(self) -> int:
        return self.count

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        number = rng.integers(len(self.images))
        kind = index % 2 if len(self.places[number][1]) else 0  # an image without vessels has no patch of them
        row, column = one_of(self.places[number][kind], rng)
        patch = self.images[number][row : row + PATCH, column : column + PATCH]
        return turned(patch, rng), np.array([kind], np.float32)


class Crops:
    """A data set of crops, (size, size, 3), and their vessels, (size, size, 1), centered in the field of view."""

    def __init__(self, images: list[np.ndarray], retinas: list[Retina], size: int, count: int) -> None:
        self.size, self.count = min(size, *(n for image in images for n in image.shape[:2])), count
        self.stacks = [np.dstack([image, r.vessels]).astype(np.float32) for image, r in zip(images, retinas)]
        self.places = [np.argwhere(r.field) for r in retinas]

    def __len__(self) -> int:
        return self.count

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        number = rng.integers(len(self.stacks))
        stack = self.stacks[number]
        corner = one_of(self.places[number], rng) - self.size // 2
        row, column = np.clip(corner, 0, np.subtract(stack.shape[:2], self.size))
        crop = turned(stack[row : row + self.size, column : column + self.size], rng)
        return crop[..., :3] * rng.uniform(0.8, 1.25), crop[..., 3:]


def one_of(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random row of places (N, 2). `rng.choice` draws the same one, but copies all of them first: a millisecond."""
    return places[rng.integers(len(places))]


def turned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image rotated by a random multiple of 90 degrees, and mirrored or not."""
    image = np.rot90(image, rng.integers(4))
    return np.ascontiguousarray(image[::-1] if rng.random() < 0.5 else image)


# ---------------------------------------------------------------------------------------- training
def train(model: nn.Module, dataset: Patches | Crops, batch_size: int, config: Config, seed: int) -> nn.Module:
    """Train a net by cross-entropy. Its weights at the end are used: nothing is chosen."""
    model.to(tn.device())
    loader = DataLoader(dataset, batch_size, seed=seed)
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-4)
    steps = config.epochs * len(loader)
    schedule = optim.CosineDecay(optimizer, steps, warmup=steps // 20, floor=0.01)
    folder = Path(config.out) / f"{type(model).__name__.lower()}_{seed}"

    def loss(images: tn.Tensor, vessels: tn.Tensor) -> tn.Tensor:
        return tn.bce_with_logits(model(images), vessels)

    trainer = tn.train.Trainer(model, optimizer, loss, folder, schedule=schedule, max_norm=2.0, settings=config)
    trainer.fit(loader, config.epochs, resume=config.resume, runs=2 * config.seeds)
    return model.eval()


# ---------------------------------------------------------------------------------------- prediction
def patch_by_patch(net: PatchNet, image: np.ndarray) -> np.ndarray:
    """The logits of a prepared image (H, W, 3), row by row, each pixel from its own patch: (H, W)."""
    padded = np.pad(image, ((HALF, HALF), (HALF, HALF), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH), axis=(0, 1))  # (H, W, 3, 25, 25)
    return np.stack([nn.predict(net, np.moveaxis(row, 1, 3))[:, 0] for row in windows])


def all_at_once(net: PatchNet, image: np.ndarray) -> np.ndarray:
    """The logits of a prepared image (H, W, 3), by the net in its fully convolutional form: (H, W)."""
    padded = np.pad(image, ((HALF, HALF), (HALF, HALF), (0, 0)))
    with tn.no_grad():
        return everywhere(net, tn.tensor(padded[None]).to(tn.device())).numpy()[0, :, :, 0]


def by_skips(net: SkipNet, image: np.ndarray) -> np.ndarray:
    """The logits of a prepared image (H, W, 3) by the net with skip connections: (H, W)."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % 8), (0, -width % 8), (0, 0)))
    return nn.predict(net, padded[None])[0, :height, :width, 0]


def darker_than_surroundings(retina: Retina) -> np.ndarray:
    """The baseline, nothing learned: a smooth green channel minus a less smooth one."""
    green = retina.image[..., 1].astype(np.float32)
    return ndimage.gaussian_filter(green, 15.0) - ndimage.gaussian_filter(green, 1.5)


Scorer = Callable[[Retina, np.ndarray], np.ndarray]


def scores_of(scorer: Scorer, retinas: list[Retina], images: list[np.ndarray]) -> list[np.ndarray]:
    """The score of each pixel in the field of view, an array for each image."""
    pairs = tqdm(zip(retinas, images), "images", len(images), leave=False, disable=None)
    return [scorer(retina, image)[retina.field] for retina, image in pairs]


def best_threshold(scores: list[np.ndarray], retinas: list[Retina]) -> float:
    """The threshold with the highest Dice coefficient over all pixels of these images."""
    score, true = np.concatenate(scores), np.concatenate([r.vessels[r.field] for r in retinas])
    candidates = np.quantile(score, np.linspace(0.7, 0.99, 59))
    return float(max(candidates, key=lambda threshold: metrics.dice(true, score > threshold)))


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(TrainingOptions):
    out: str = option("out/fcn_vessels", "folder for the figures, and a folder of each net with weights and metrics")
    seeds: int = option(1, "runs, with seeds from --seed on; their mean is compared with the expected metrics")
    epochs: int = option(8, "epochs of --patches patches, and of --crops crops", quick=2)
    patches: int = option(20_000, "patches per epoch", quick=400)
    crops: int = option(800, "crops per epoch", quick=12)
    size: int = option(128, "height and width of a crop, pixels", quick=64)
    lr: float = option(2e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    images: int | None = option(None, "read only so many photographs (default: all)")
    drawing: int = option(128, "height and width of the drawings that replace missing photographs, pixels", quick=96)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "seeds", "patches", "crops", "images")
        self.at_least(8, "size")  # the net with skip connections halves it three times
        self.at_least(28, "drawing")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train both nets on 20 photographs; compare them, the filter and the second observer on 8 others."""
    training, test, source = load_data(config)
    print_settings(config, SkipNet(), source=source, training_images=len(training), test_images=len(test))
    train_images, test_images = ([prepare(retina) for retina in part] for part in (training, test))
    figures: dict[str, viz.Figure] = {}

    def one_run(seed: int) -> dict[str, float]:
        tn.seed(seed)
        patch_net, skip_net = PatchNet(), SkipNet()
        train(patch_net, Patches(train_images, training, config.patches), 100, config, seed)
        train(skip_net, Crops(train_images, training, config.size, config.crops), 8, config, seed)
        scorers: dict[str, Scorer] = {
            "filter": lambda retina, _: darker_than_surroundings(retina),
            "patch": lambda _, image: all_at_once(patch_net, image),
            "skips": lambda _, image: by_skips(skip_net, image),
        }
        few = slice(0, None, 4)  # training images for the threshold; their children are not among the test images
        results, found = compare_forms(patch_net, test_images[0]), {}
        for name, scorer in scorers.items():
            threshold = best_threshold(scores_of(scorer, training[few], train_images[few]), training[few])
            found[name] = scores_of(scorer, test, test_images)
            results |= {f"{key}_{name}": value for key, value in quality(found[name], test, threshold).items()}
        if seed == config.seed:
            figures["maps.png"] = draw_maps(test[0], {name: scores[0] for name, scores in found.items()})
            figures["roc.png"] = draw_roc(found, test)
            figures["why_faster.png"] = draw_why_faster(results)
        return results

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    if all(retina.second is not None for retina in test):
        agreement = [metrics.dice(r.vessels[r.field], r.second[r.field]) for r in test]
        results["dice_observer"] = float(np.mean(agreement))
    expected = {} if source.startswith("synthetic") else EXPECTED
    return report(config, results, expected, figures, NEXT)


def load_data(config: Config) -> tuple[list[Retina], list[Retina], str]:
    """(training, test, source): CHASE_DB1, or drawings if it is missing or the run is a quick one."""
    if config.data is None and (config.quick or tn.data.data_path(FILES[0]) is None):
        why = "" if config.quick else f", because {FILES[0]} was not found in TINYNET_DATA or in the cache"
        drawings = [synthetic_retina(np.random.default_rng((config.seed, i)), config.drawing) for i in range(8)]
        return drawings[:6], drawings[6:], f"synthetic drawings{why}"
    retinas = read_vessels(config.data, config.images)
    training, test = split_children(retinas)
    if not training or not test:
        raise tn.data.DataError(
            f"{len(training)} photographs to train on and {len(test)} to test on; both are needed: leave --images out"
        )
    return training, test, "CHASE_DB1"


def compare_forms(net: PatchNet, image: np.ndarray) -> dict[str, float]:
    """The largest difference of the probabilities by both forms of the patch net, and how much faster one is.

    Both are timed on the middle of an image, 96 rows and as many columns: patch by patch, a whole one takes a minute.
    """
    middle = [slice(max(n // 2 - 48, 0), n // 2 + 48) for n in image.shape[:2]]
    part = np.ascontiguousarray(image[tuple(middle)])
    results, seconds = [], []
    for form in (patch_by_patch, all_at_once):
        form(net, part[:2])  # compiles the kernels
        start = time.perf_counter()
        results.append(expit(form(net, part)))
        seconds.append(time.perf_counter() - start)
    return {"difference": float(np.abs(results[0] - results[1]).max()), "speedup": seconds[0] / seconds[1]}


def quality(scores: list[np.ndarray], retinas: list[Retina], threshold: float) -> dict[str, float]:
    """Area under the ROC curve of all pixels, and the mean over images of Dice at the threshold."""
    true = [retina.vessels[retina.field] for retina in retinas]
    dices = [metrics.dice(t, score > threshold) for t, score in zip(true, scores)]
    return {"auc": metrics.auc(np.concatenate(true), np.concatenate(scores)), "dice": float(np.mean(dices))}


# ---------------------------------------------------------------------------------------- figures
NAMES = {"filter": "filter", "patch": "patch net", "skips": "net with skip connections"}


def draw_maps(retina: Retina, scores: dict[str, np.ndarray]) -> viz.Figure:
    """The photograph, both tracings, and the maps of the filter and of both nets."""
    panels = {"photograph": retina.image, "first observer: the truth": retina.vessels}
    if retina.second is not None:
        panels["second observer"] = retina.second
    for name, score in scores.items():
        whole = np.full(retina.field.shape, score.min())
        whole[retina.field] = score
        low, high = np.quantile(score, (0.5, 0.995))
        is_net = name != "filter"  # a filter's result is no logit of a probability
        shown = expit(whole) if is_net else np.clip((whole - low) / (high - low + 1e-9), 0, 1)
        panels[NAMES[name] + (": probability" if is_net else ": darkness")] = shown
    figure, axes = viz.subplots(2, 3, figsize=(12, 8))
    for axis, (title, image) in zip(axes.flat, panels.items()):
        axis.imshow(image, cmap="gray")
        axis.set_title(title)
    for axis in axes.flat:
        axis.axis("off")
    return figure


def draw_roc(found: dict[str, list[np.ndarray]], retinas: list[Retina]) -> viz.Figure:
    """ROC curves, with the second observer as a point: an observer has no threshold to move."""
    true = np.concatenate([r.vessels[r.field] for r in retinas])
    figure, axes = viz.subplots(figsize=(6.4, 6))
    for name, scores in found.items():
        score = np.concatenate(scores)
        some = slice(None, None, max(1, len(score) // 200_000))  # of millions of pixels
        false_positives, true_positives, _ = metrics.roc_curve(true[some], score[some])
        axes.plot(false_positives, true_positives, label=f"{NAMES[name]}, AUC {metrics.auc(true, score):.3f}")
    if all(r.second is not None for r in retinas):
        second = np.concatenate([r.second[r.field] for r in retinas])
        axes.plot(second[~true].mean(), second[true].mean(), "k*", markersize=12, label="second observer")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 0.4), ylim=(0.4, 1.01))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    return figure


def draw_why_faster(results: dict[str, float]) -> viz.Figure:
    """The multiplications that each layer of the patch net costs for one pixel of the image, in both forms."""
    net = PatchNet()
    layers = {"conv 4x4, 12": (net.conv1, 22 * 22), "conv 4x4, 24": (net.conv2, 8 * 8)}  # -> positions in a patch
    layers |= {"dense 48": (net.dense1, 1), "dense 1": (net.dense2, 1)}
    once = np.array([layer.weight.size for layer, _ in layers.values()])
    repeated = once * [positions for _, positions in layers.values()]
    figure, axes = viz.subplots(figsize=(8, 4.6))
    places = np.arange(len(layers))
    axes.bar(places - 0.2, repeated, 0.4, label=f"patch by patch: {repeated.sum():,} in all")
    axes.bar(places + 0.2, once, 0.4, label=f"fully convolutional: {once.sum():,} in all")
    axes.set_xticks(places, list(layers))
    axes.set(yscale="log", ylabel="multiplications for a pixel", ylim=(10, 3e6))
    axes.set_title(
        f"measured: {results['speedup']:.0f} times as fast; largest difference of a probability "
        f"{results['difference']:.0e}",
        fontsize=11,
    )
    axes.legend()
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Semantic segmentation: from patches to fully convolutional nets"
DATA = "CHASE_DB1: 28 photographs of the retina, 20 to train on, 8 to test on, two observers"
FILES = ("chase_db1/CHASEDB1.zip",)
EXPECTED = {
    "auc_skips": (0.96, None),
    "auc_patch": (0.95, None),
    "dice_skips": (0.74, 0.85),
    "dice_observer": (0.79, 0.81),  # nothing random
    "auc_filter": (0.9, 0.91),
    "speedup": (8, None),
    "difference": (0, 1e-5),
}
PICTURE = "roc.png"
NEXT = "python examples/segmentation/unet_nuclei.py evaluate"


if __name__ == "__main__":
    run(main)
