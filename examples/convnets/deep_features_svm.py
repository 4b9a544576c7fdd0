"""Four kinds of features for one question, pneumonia or not: visual words, LeNet, ImageNet, and a fine-tuned net.

    python examples/convnets/deep_features_svm.py

A linear support vector machine (SVM) separates two classes with a wide margin: with t = -1 or 1 it minimizes

    |w|^2 / 2 + C sum max(0, 1 - t (w . x + b))^2

It can only be as good as its features x. Four ways to get them, from chest X-rays of children:

- **Visual words**, as before 2012. Each patch of 16 x 16 pixels is described by the strength of its edges in eight
  directions. *k-means* finds 300 typical descriptions, the vocabulary. The feature is how often each word occurs in the
  image and in each of its 3 x 3 parts. The description is a convolution, a ReLU and a pooling, with designed weights.
- **LeNet**, trained on the same images: its last hidden layer.
- **ImageNet**: EfficientNet-Lite0, which has seen 1.28 million photographs and no X-ray: its 1,280 pooled features.
- **Fine-tuned**: its last five blocks and last convolution are trained, with a linear layer in place of the SVM.

Each learns from 50 to 958 X-rays. What to see, in means of three runs:

- **On other patients of the training set** all four are nearly perfect with 958 X-rays: AUC .987 (ImageNet) to .994.
- **On the test set**, whose X-rays differ from the training X-rays: fine-tuned .965, ImageNet .955, visual words .925,
  LeNet .919. Features that were learned from the training X-rays alone lose .07, the others .03. Validation
  shows neither this loss nor that the features of ImageNet are better than visual words.
- **With 50 X-rays** fine-tuning has .92 on the test set, the other three .90.
- **Intervals**: 624 test X-rays leave .01 to .02 to either side. Drawing patients instead of images changes this little
  here. The intervals of fine-tuning and ImageNet overlap: their order may be chance.
- **C** is chosen by cross-validation; all images of a patient are in the same part. For LeNet this is blind: its AUC is
  .999 there, because LeNet has seen the labels of every part while it learned its features.

Sources: Csurka et al., Visual categorization with bags of keypoints, ECCV workshop 2004; Lowe, Distinctive image
features from scale-invariant keypoints, IJCV 60, 2004; Tola, Lepetit, Fua, DAISY, PAMI 32, 2010 (edges by convolution);
Lazebnik, Schmid, Ponce, Beyond bags of features, CVPR 2006 (parts of the image); Razavian et al., CNN features
off-the-shelf, CVPR workshops 2014; data: Kermany et al., Cell 172, 2018.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, viz
from tinynet.data import DataError, chest_xrays_or_synthetic
from tinynet.data.class_folders import Images
from tinynet.errors import how_to_install
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import SeedOptions, command_line, mean_over_seeds, option, print_settings, report, run

alexnet = load_example("convnets/alexnet.py")  # its X-rays to mean 0 and deviation 1; its split by patients
transfer = load_example("convnets/transfer_learning.py")  # its choice of few images; its training
fine_tuning = load_example("convnets/fine_tuning.py")

SIZE = 112  # pixels, height and width of the X-rays
CELL, PATCH, STEP = 4, 4, 2  # pixels of a cell; cells of a patch; cells from one patch to the next
DIRECTIONS = 8
PARTS = 3  # words are counted in the image and in PARTS x PARTS parts of it
FLAT = 2.0  # gray levels: a patch with much weaker edges has a short descriptor, so that noise does not matter
TRAINED_FROM = 12  # the first entry of EfficientNet-Lite0 that is fine-tuned


# ---------------------------------------------------------------------------------------- features made by hand
def edge_layers() -> nn.Sequential:
    """The strength of edges in eight directions in cells: (N, H, W, 1) -> (N, (H - 2) // 4, (W - 2) // 4, 8).

    The convolution computes the derivative along each direction, ReLU separates dark-to-bright from bright-to-dark, the
    pooling takes the mean of each cell.
    """
    layers = nn.Sequential(nn.Conv2d(1, DIRECTIONS, 3, bias=False), nn.ReLU(), nn.AvgPool2d(CELL))
    along_columns = np.outer([1, 2, 1], [-1, 0, 1]) / 8  # Sobel's filter
    angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    filters = np.stack([np.cos(a) * along_columns + np.sin(a) * along_columns.T for a in angles], axis=-1)
    layers[0].weight.data[...] = filters[:, :, None].astype(np.float32)
    return layers


def descriptors(images: np.ndarray) -> np.ndarray:
    """The descriptor of each patch: float16 (N, rows, columns, 128). images: uint8 (N, H, W, 1).

    As in SIFT, it is divided by its length, so that contrast does not matter, and large values are cut off at 0.2, so
    that a single strong edge does not hide the others.
    """
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge").astype(np.float32)
    cells = nn.predict(edge_layers(), padded, batch=50)
    patches = np.lib.stride_tricks.sliding_window_view(cells, (PATCH, PATCH), axis=(1, 2))[:, ::STEP, ::STEP]
    x = patches.reshape(*patches.shape[:3], -1).astype(np.float16)  # half the memory
    for image in x:
        image[...] = np.minimum(image / (np.linalg.norm(image.astype(np.float32), axis=-1, keepdims=True) + FLAT), 0.2)
    return x


def vocabulary(x: np.ndarray, words: int, seed: int) -> Any:
    """k-means of at most 30,000 descriptors of x, (N, rows, columns, 128). Its `predict` finds the nearest word."""
    from sklearn.cluster import MiniBatchKMeans

    rows = x.reshape(-1, x.shape[-1])
    rows = rows[np.random.default_rng(seed).permutation(len(rows))[:30_000]].astype(np.float32)
    return MiniBatchKMeans(min(words, len(rows)), batch_size=2048, n_init=1, random_state=seed).fit(rows)


def bags(x: np.ndarray, kmeans: Any) -> np.ndarray:
    """The square root of the frequency of each word in the image and in its parts: float32 (N, 10 words).

    The root keeps frequent words from drowning rare ones.
    """
    words = kmeans.predict(x.reshape(-1, x.shape[-1]).astype(np.float32)).reshape(x.shape[:3])
    found = []
    for parts in (1, PARTS):
        for rows in np.array_split(words, parts, axis=1):
            for part in np.array_split(rows, parts, axis=2):
                flat = part.reshape(len(part), -1)
                counts = np.stack([np.bincount(image, minlength=kmeans.n_clusters) for image in flat])
                found.append(np.sqrt(counts / flat.shape[1]))
    return np.concatenate(found, axis=1).astype(np.float32)


# ---------------------------------------------------------------------------------------- learned features
def lenet(pixels: int = SIZE // 2) -> nn.Sequential:
    """LeNet-5. x: (N, pixels, pixels, 1) -> logits (N, 2); the 84 features are the input of the last layer."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear((pixels // 4 - 2) ** 2 * 16, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 2),
    )


def halved(images: np.ndarray) -> np.ndarray:
    """The mean of each 2 x 2 pixels, each image with mean 0 and standard deviation 1: float32 (N, H / 2, W / 2, 1)."""
    n, height, width, _ = images.shape
    return alexnet.as_input(images.reshape(n, height // 2, 2, width // 2, 2, 1).mean(axis=(2, 4)))


@dataclass
class Xrays:
    """Training and test set together, and what is computed once for each X-ray.

    images: uint8 (N, 112, 112, 1). labels: 0 or 1, (N,). patients: (N,). pool, validation, test: numbers of X-rays to
    draw from, of other patients of the training set, and of the test set. patches: descriptors. middle, mirrored:
    features of the frozen front of EfficientNet-Lite0, of the images and of their mirror images. pooled: the features
    of ImageNet, (N, 1280).
    """

    images: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    pool: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    patches: np.ndarray
    middle: np.ndarray
    mirrored: np.ndarray
    pooled: np.ndarray


def joined(parts: dict[str, Images]) -> dict[str, np.ndarray]:
    """The first six fields of `Xrays`. A fifth of the training patients is set aside for validation."""
    (training, patients), (test, test_patients) = parts["train"], parts["test"]
    aside = alexnet.hold_out(patients, seed=0)
    return {
        "images": np.concatenate([training.images, test.images]),
        "labels": np.concatenate([training.labels, test.labels]),
        "patients": np.concatenate([patients, test_patients]),
        "pool": np.flatnonzero(~aside),
        "validation": np.flatnonzero(aside),
        "test": len(training) + np.arange(len(test)),
    }


def prepared(parts: dict[str, Images]) -> Xrays:
    """Join the parts, and compute the descriptors and the features of ImageNet."""
    fields = joined(parts)
    images = fields["images"]
    front, tail = fine_tuning.split(2, TRAINED_FROM)
    middle, mirrored = (fine_tuning.features(front, x) for x in (images, images[:, :, ::-1]))
    pooled = fine_tuning.outputs(tail[:-2], middle)  # without dropout and the last layer
    return Xrays(**fields, patches=descriptors(images), middle=middle, mirrored=mirrored, pooled=pooled)


# ---------------------------------------------------------------------------------------- the methods
Scores = tuple[np.ndarray, float]  # of all X-rays, (N,): higher means "rather pneumonia"; the AUC in cross-validation


def svm(x: np.ndarray, data: Xrays, chosen: np.ndarray) -> Scores:
    """A linear SVM of the features x (N, D), trained on the X-rays `chosen`.

    Its C is the one with the highest mean AUC in cross-validation over five groups of patients.
    """
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    model = make_pipeline(StandardScaler(), LinearSVC(random_state=0, max_iter=3000))
    grid = {"linearsvc__C": [1e-5, 1e-4, 1e-3, 1e-2]}
    search = GridSearchCV(model, grid, cv=StratifiedGroupKFold(5), scoring="roc_auc")
    search.fit(x[chosen], data.labels[chosen], groups=data.patients[chosen])
    return search.decision_function(x), float(search.best_score_)


def by_words(data: Xrays, chosen: np.ndarray, config: Config, seed: int) -> Scores:
    """Visual words and SVM."""
    kmeans = vocabulary(data.patches[chosen], config.words, seed)
    return svm(bags(data.patches, kmeans), data, chosen)


def by_lenet(data: Xrays, chosen: np.ndarray, config: Config, seed: int) -> Scores:
    """LeNet, trained on the images and their mirror images; its last hidden layer and SVM."""
    tn.seed(seed)
    model = lenet().to(tn.device())
    images = halved(data.images)
    both = np.concatenate([images[chosen], images[chosen][:, :, ::-1]])
    transfer.fit(model, both, np.tile(data.labels[chosen], 2), config.lenet_steps, config, seed)
    return svm(nn.predict(model[:-1], images), data, chosen)


def by_imagenet(data: Xrays, chosen: np.ndarray, config: Config, seed: int) -> Scores:
    """The features of ImageNet and SVM."""
    return svm(data.pooled, data, chosen)


def by_fine_tuning(data: Xrays, chosen: np.ndarray, config: Config, seed: int) -> Scores:
    """EfficientNet-Lite0, its last blocks trained."""
    tn.seed(seed)
    _, tail = fine_tuning.split(2, TRAINED_FROM)
    epochs = math.ceil(config.tuning_steps / max(1, len(chosen) // fine_tuning.BATCH))
    views = [data.middle[chosen], data.mirrored[chosen]]
    fine_tuning.fine_tune(tail, views, data.labels[chosen], epochs=epochs, lr=config.tuning_lr, seed=seed)
    logits = fine_tuning.outputs(tail, data.middle)
    return logits[:, 1] - logits[:, 0], float("nan")


METHODS = {
    "visual words + SVM": by_words,
    "LeNet features + SVM": by_lenet,
    "ImageNet features + SVM": by_imagenet,
    "fine-tuned": by_fine_tuning,
}
SIZES = (50, 150, 450, 958)  # X-rays to learn from


@dataclass
class Config(SeedOptions):
    out: str = option("out/deep_features_svm", "folder for the figures")
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    words: int = option(300, "visual words", quick=20)
    lenet_steps: int = option(300, "training steps of LeNet", quick=10)
    batch_size: int = option(32, "X-rays in a step of LeNet")
    lr: float = option(1e-3, "highest learning rate of LeNet (AdamW; warm-up, then a cosine)")
    tuning_steps: int = option(60, "training steps of the fine-tuned net, at least", quick=2)
    tuning_lr: float = option(2e-3, "highest learning rate of the fine-tuned net")
    sizes: int = option(len(SIZES), f"use the first so many of {SIZES}", quick=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "words", "batch_size", "sizes")
        self.at_least(2, "lenet_steps", "tuning_steps")  # the first one warms up


# ---------------------------------------------------------------------------------------- the run
@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Every method with 50 to 958 X-rays; return the AUC on validation patients and on the test set."""
    if importlib.util.find_spec("sklearn") is None:
        raise DataError(f"k-means and the SVM are part of scikit-learn: {how_to_install('examples')}")
    parts, source = chest_xrays_or_synthetic(config.data, config.seed, (40, 30), SIZE, synthetic=config.quick)
    print_settings(config, xrays=source, weights=fine_tuning.source())
    data = prepared(parts)
    sizes = sorted({min(size, len(data.pool)) for size in SIZES[: config.sizes]})
    aucs: list[np.ndarray] = []  # of each run: (validation and test, methods, sizes)
    scores: dict[str, Scores] = {}  # of the first run, with the most X-rays

    def one_run(seed: int) -> dict[str, float]:
        found = np.empty((2, len(METHODS), len(sizes)))
        cells = [(m, s) for m in range(len(METHODS)) for s in range(len(sizes))]
        for m, s in tqdm(cells, f"seed {seed}", leave=False, disable=None):
            chosen = data.pool[transfer.few_of_each(data.labels[data.pool], sizes[s], seed)]
            score, validated = list(METHODS.values())[m](data, chosen, config, seed)
            found[:, m, s] = [metrics.auc(data.labels[i], score[i]) for i in (data.validation, data.test)]
            if not aucs:
                scores[list(METHODS)[m]] = score, validated
        aucs.append(found)
        names = [name.split()[0].lower().replace("-", "_") for name in METHODS]
        results = {f"{name}_auc": float(found[1, m, -1]) for m, name in enumerate(names)}
        results |= {f"{name}_auc_of_few": float(found[1, m, 0]) for m, name in enumerate(names)}
        return results | {f"{name}_validation": float(found[0, m, -1]) for m, name in enumerate(names)}

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    print_intervals(data, scores)
    figures = {"sizes.png": draw_sizes(np.array(aucs), sizes), "roc.png": draw_roc_curves(data, scores)}
    figures["words.png"] = draw_words(data, data.pool, config)
    return report(config, results, {} if "drawings" in source else EXPECTED, figures, NEXT)


def print_intervals(data: Xrays, scores: dict[str, Scores]) -> None:
    """Three AUCs of each method, and the 95 % intervals of the last one, by DeLong and by drawing patients."""
    true, patients = data.labels[data.test], data.patients[data.test]
    rows = []
    for name, (score, validated) in scores.items():
        aucs = {
            "cross-validation": validated,
            "validation": metrics.auc(data.labels[data.validation], score[data.validation]),
        }
        score = score[data.test]
        delong = metrics.auc_interval(true, score)
        drawn = metrics.bootstrap_interval(metrics.auc, true, score, groups=patients)
        intervals = {title: "{:.3f} to {:.3f}".format(*i) for title, i in (("DeLong", delong), ("patients", drawn))}
        rows.append({"AUC": name, **aucs, "test": metrics.auc(true, score), **intervals})
    print(f"\ntest set: {len(true)} X-rays of {len(np.unique(patients))} patients. Its AUC has 95 % intervals by")
    print(f"DeLong's formula and by drawing patients at random\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- figures
COLORS = (viz.BLUE, viz.GREEN, viz.ORANGE, viz.VERMILLION)  # of the methods


def draw_sizes(aucs: np.ndarray, sizes: list[int]) -> viz.Figure:
    """AUC against the number of X-rays to learn from, (runs, 2, methods, sizes): mean and range of the runs."""
    figure, panels = viz.subplots(1, 2, figsize=(11, 4.8), sharey=True)
    for axes, part, title in zip(panels, np.moveaxis(aucs, 1, 0), ("other patients of the training set", "test set")):
        for of_method, name, color in zip(np.moveaxis(part, 1, 0), METHODS, COLORS):
            axes.plot(sizes, of_method.mean(axis=0), "o-", color=viz.mpl(color), markersize=4, label=name)
            low, high = of_method.min(axis=0), of_method.max(axis=0)
            axes.fill_between(sizes, low, high, color=viz.mpl(color), alpha=0.15)
        axes.set(xscale="log", xlabel="X-rays to learn from", ylabel="AUC", title=title)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return figure


def draw_words(data: Xrays, chosen: np.ndarray, config: Config) -> viz.Figure:
    """An X-ray with some of its visual words, and the mean of all patches that have one of these words."""
    kmeans = vocabulary(data.patches[chosen], config.words, config.seed)
    side, step = CELL * PATCH, CELL * STEP
    patches = np.lib.stride_tricks.sliding_window_view(data.images[chosen, :, :, 0], (side, side), axis=(1, 2))
    words = kmeans.predict(data.patches[chosen].reshape(-1, DIRECTIONS * PATCH**2).astype(np.float32))
    words = words.reshape(data.patches[chosen].shape[:3])
    places = [(row, column) for row in (2, 5, 8, 11) for column in (2, 6, 10)]  # of the first X-ray
    figure = viz.new_figure(9.6, 4.2)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    axes = left.subplots()
    axes.imshow(data.images[chosen[0], :, :, 0], cmap="gray")
    axes.set_title("patches of an X-ray", fontsize=11)
    axes.axis("off")
    right.suptitle("mean of all patches with the same word", fontsize=11)
    for panel, (row, column) in zip(right.subplots(3, 4).flat, places):
        color = viz.mpl(viz.OUTLINES[len(axes.texts) % len(viz.OUTLINES)])
        box = np.array([row * step, column * step, row * step + side, column * step + side])
        viz.draw_box(axes, box, color, str(len(axes.texts) + 1))
        alike = patches[:, ::step, ::step][words == words[0, row, column]]
        panel.imshow(alike.mean(axis=0), cmap="gray")
        panel.set_title(f"{len(axes.texts)}: {len(alike):,} patches", fontsize=9, color=color)
        panel.axis("off")
    return figure


def draw_roc_curves(data: Xrays, scores: dict[str, Scores]) -> viz.Figure:
    """The ROC curves with the most X-rays, on validation patients and on the test set."""
    figure, panels = viz.subplots(1, 2, figsize=(11.5, 5.6))
    parts = (("other patients of the training set", data.validation), ("test set", data.test))
    for axes, (title, part) in zip(panels, parts):
        for (name, (score, _)), color in zip(scores.items(), COLORS):
            viz.draw_roc(axes, data.labels[part], score[part], name, color)
        axes.set_title(f"pneumonia or not: {len(part)} X-rays, {title}", fontsize=11)
        axes.legend(fontsize=9, loc="lower right")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Features and a linear SVM: visual words, LeNet, ImageNet; fine-tuning"
DATA = "chest X-rays of children, 1,200 + 624 to test (Kermany et al.)"
FILES = ("chest_xray/chest_xray.zip",)
EXPECTED = {
    "visual_auc": (0.9, 0.95),
    "lenet_auc": (0.89, 0.94),
    "imagenet_auc": (0.94, 0.97),
    "fine_tuned_auc": (0.94, 0.98),
    "fine_tuned_auc_of_few": (0.89, 0.95),
    "visual_validation": (0.98, 1),
    "imagenet_validation": (0.97, 1),
}
PICTURE = "sizes.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/evaluation/ordinal_grading.py"


if __name__ == "__main__":
    run(main)
