"""Handcrafted features against learned ones: HOG and LBP with a linear classifier, and a small ConvNet.

    python examples/convnets/handcrafted_features.py

Before nets learned their features, people designed them. Two widely used features:

- **HOG**, histograms of oriented gradients: in each cell of 7 or 8 pixels, how strong are the edges in each of nine
  directions? Neighboring cells are normalized together, so that contrast does not matter. HOG describes shape.
- **LBP**, local binary patterns: every pixel is compared with its eight neighbors; the eight answers "brighter" or "not
  brighter" are a code, and the histogram of the codes in a part of the image is the feature. LBP describes texture.

A linear classifier (logistic regression) uses these features. It is compared with the same classifier on the pixels,
and with a ConvNet that learns features and classifier together. Two questions:

- **Is this tumor malignant?** BreastMNIST: 546 ultrasound images to learn from, 156 to test; breasts without a tumor
  count as "no".
- **Does a nucleus lie in the middle?** Thousands of patches of microscope images. Half of them are turned into
  negatives, because in microscopy both dark nuclei on bright ground and bright nuclei on dark ground occur: brightness
  alone must not decide. The test images come from other experiments than the training images.

What to see: HOG measures edges whichever side is brighter, so negatives do not disturb it; it was designed for that. A
linear classifier of pixels can only guess the nuclei. The ConvNet learns from the examples to ignore negatives, and is
as good as HOG and LBP together, without any design. The tumors give another result: pixels are as good as features that
were designed for other images. And the test set is so small that the intervals overlap: it cannot tell which of the
five methods is best.

Sources: Dalal and Triggs, Histograms of oriented gradients for human detection, CVPR 2005; Ojala, Pietikainen, Maenpaa,
Multiresolution gray-scale and rotation invariant texture classification with local binary patterns, PAMI 24, 2002;
data: Yang et al., MedMNIST v2, Scientific Data 2023, from Al-Dhabyani et al., Data in Brief 28, 2020; Caicedo et al.,
Nature Methods 16, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import (
    AugmentedImages,
    DataError,
    DataLoader,
    find_data,
    normalize,
    read_breastmnist,
    read_nuclei,
    standardize,
    synthetic_nuclei,
)
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

NUCLEI = "dsb2018/stage1_train.zip"
PATCH, NUCLEUS = 32, 14  # pixels: height and width of a patch; diameter of the nuclei after resizing


@dataclass
class Task:
    """A question with two answers. images: float32 (N, H, W, 1), 0 to 1; labels: 0 or 1, (N,).

    negative: which of `images` are negatives, bool (N,).
    """

    name: str
    question: str
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    negative: np.ndarray


# ---------------------------------------------------------------------------------------- features made by hand
def hog(image: np.ndarray) -> np.ndarray:
    """The strength of edges by direction in 4 x 4 cells: 9 blocks of 2 x 2 cells with 9 directions, float64 (324,).

    image: (H, W).
    """
    from skimage import feature

    cell = (image.shape[0] // 4, image.shape[1] // 4)
    return feature.hog(image, orientations=9, pixels_per_cell=cell, cells_per_block=(2, 2))


def lbp_codes(image: np.ndarray) -> np.ndarray:
    """For each pixel a code of its eight neighbors: the number of brighter ones if these are adjacent (0 to 8), else 9.

    Rotating the image does not change the codes.
    """
    from skimage.feature import local_binary_pattern

    return local_binary_pattern(np.rint(image * 255).astype(np.uint8), P=8, R=1, method="uniform").astype(int)


def lbp(image: np.ndarray) -> np.ndarray:
    """The frequency of each code in each of 3 x 3 parts of the image, (90,)."""
    parts = [part for rows in np.array_split(lbp_codes(image), 3) for part in np.array_split(rows, 3, axis=1)]
    return np.concatenate([np.bincount(part.ravel(), minlength=10) / part.size for part in parts])


FEATURES = {
    "pixels": np.ravel,
    "lbp": lbp,
    "hog": hog,
    "hog_lbp": lambda image: np.concatenate([hog(image), lbp(image)]),
}


# ---------------------------------------------------------------------------------------- the two classifiers
def linear_scores(task: Task, feature: str) -> np.ndarray:
    """The log-odds of the test images by logistic regression. The loss has one minimum, so no seed matters."""
    make = FEATURES[feature]
    rows = [np.stack([make(image[:, :, 0]) for image in images]) for images in (task.images, task.test_images)]
    x, x_test = standardize(*rows)
    model = nn.Linear(x.shape[1], 1, init=lambda shape: np.zeros(shape, dtype=np.float32)).to(tn.device())
    optimizer = optim.AdamW(
        model.parameters(), lr=0.01, weight_decay=10.0
    )  # many columns, few rows: hold the weights back
    for _ in range(300):
        loss = tn.bce_with_logits(model(tn.tensor(x).to(tn.device())), task.labels[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return nn.predict(model, x_test)[:, 0]


def convnet(size: int) -> nn.Sequential:
    """x: (N, size, size, 1) -> log-odds (N, 1)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ELU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear((size // 8) ** 2 * 32, 1),
    )


def mirrored(task: Task) -> AugmentedImages:
    """The images of a task, mirrored and shifted by up to two pixels at random."""
    size = task.images.shape[1]

    def change(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        row, column = rng.integers(0, 5, 2)
        image = image[row : row + size, column : column + size]
        return image[:, ::-1] if rng.random() < 0.5 else image

    return AugmentedImages(np.pad(task.images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge"), task.labels, change)


def convnet_scores(task: Task, config: Config, seed: int) -> np.ndarray:
    """The log-odds of the test images by a ConvNet."""
    tn.seed(seed)
    model = convnet(task.images.shape[1]).to(tn.device())
    mean, deviation = task.images.mean(), task.images.std()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = optim.CosineDecay(optimizer, config.steps, warmup=config.steps // 10)
    loader = DataLoader(mirrored(task), config.batch_size, seed=seed, workers=0)
    for images, labels in tqdm(loader.steps(config.steps), task.name, config.steps, leave=False, disable=None):
        loss = tn.bce_with_logits(model(tn.tensor((images - mean) / deviation).to(tn.device())), labels[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return nn.predict(model.eval(), (task.test_images - mean) / deviation)[:, 0]


# ---------------------------------------------------------------------------------------- the data
def breast_task(data: str | None) -> Task:
    """Malignant or not. The settings above were chosen on the 78 validation images, which are not used here."""
    training, test = read_breastmnist("train", data), read_breastmnist("test", data)
    images, test_images = (part.images.astype(np.float32) / 255 for part in (training, test))
    none = np.zeros(len(images), dtype=bool)
    return Task("breast", "malignant?", images, training.labels, test_images, test.labels, none)


def nuclei_task(data: str | None, config: Config) -> tuple[Task, str]:
    """(patches with and without a nucleus in the middle, their source)."""
    rng = np.random.default_rng(0)  # the question is the same for every seed
    training, test, where = nuclei_samples(data, config.images, rng)
    parts = [patches(samples, config.per_image, rng) for samples in (training, test)]
    negatives = [rng.random(len(images)) < 0.5 for images, _ in parts]
    for (images, _), negative in zip(parts, negatives):
        images[negative] = 1 - images[negative]
    where = f"{where}, {len(parts[0][1]):,} + {len(parts[1][1]):,} patches"
    return Task("nuclei", "nucleus in the middle?", *parts[0], *parts[1], negatives[0]), where


def nuclei_samples(
    data: str | None, count: int, rng: np.random.Generator
) -> tuple[list[tn.data.Sample], list[tn.data.Sample], str]:
    """(`count` images to learn from, half as many of other experiments to test with, their source)."""
    from tinynet.data.nuclei import split_table

    counts = {"train": count, "validation": count // 2}
    try:
        path = find_data(NUCLEI, data)
    except DataError as error:
        training, test = ([synthetic_nuclei(rng) for _ in range(number)] for number in counts.values())
        return training, test, f"synthetic nuclei, because {error}"
    parts = []
    for part, number in counts.items():  # the two parts of the committed split have no experiment in common
        ids = [row["id"] for row in split_table() if row["split"] == part]
        parts.append(read_nuclei(path, ids=rng.permutation(ids)[:number].tolist()))
    return parts[0], parts[1], str(path)


def at_nucleus_size(sample: tn.data.Sample) -> tuple[np.ndarray, np.ndarray]:
    """(gray levels float32 (H, W), nuclei (H, W)), resized so that the median diameter of the nuclei is NUCLEUS."""
    size = tn.segment.size_at_scale(sample.labels.shape, NUCLEUS / tn.instances.median_diameter(sample.labels))
    gray = tn.segment.resize(normalize(sample.image), size).mean(axis=2)
    return gray, tn.segment.resize_labels(sample.labels, size)


def patches(samples: list[tn.data.Sample], count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Up to `count` patches of each image, half of them around a nucleus: images (N, PATCH, PATCH, 1), labels (N,).

    The others have background in the middle and a nucleus nearby. Images are resized to the same nucleus diameter.
    """
    from scipy import ndimage

    found, labels = [], []
    for sample in tqdm([sample for sample in samples if sample.labels.any()], "patches", leave=False, disable=None):
        gray, nuclei = at_nucleus_size(sample)
        gray = np.pad(gray, PATCH // 2, mode="reflect")

        numbers = rng.permutation(np.unique(nuclei[nuclei > 0]))[: count // 2]
        middles = np.rint(ndimage.center_of_mass(nuclei > 0, nuclei, numbers)).astype(int)
        distance = ndimage.distance_transform_edt(nuclei == 0)
        beside = rng.permutation(np.argwhere((distance >= 4) & (distance <= 16)))[: len(middles)]
        for label, places in ((1, middles), (0, beside)):
            for row, column in places:
                found.append(own_gray_scale(gray[row : row + PATCH, column : column + PATCH]))
                labels.append(label)
    return np.array(found, dtype=np.float32)[..., None], np.array(labels)


def own_gray_scale(patch: np.ndarray) -> np.ndarray:
    """The patch with its percentile 1 at 0 and its percentile 99 at 1, clipped: brightness alone tells nothing."""
    low, high = np.percentile(patch, (1, 99))
    return np.clip((patch - low) / max(high - low, 1e-3), 0, 1)


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/handcrafted_features", "folder for the figures")
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    images: int = option(120, "microscope images to learn from, and half as many to test", quick=6)
    per_image: int = option(24, "patches of each image", quick=12)
    steps: int = option(1000, "training steps of the ConvNets", quick=12)
    batch_size: int = option(32, "images in a step of the ConvNets")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Both questions with every feature; return the areas under the ROC curves on the test images."""
    task, where = nuclei_task(config.data, config)
    tasks = [task]
    try:
        tasks.insert(0, breast_task(config.data))
    except DataError as error:
        print(f"without the ultrasound images: {error}\n")
    sizes = {task.name: f"{len(task.labels):,} + {len(task.test_labels):,} images" for task in tasks}
    print_settings(config, convnet(PATCH), **sizes, patches_of=where)

    scores = {}  # (task, method) -> log-odds of the test images; the ConvNet's from the first seed
    for task in tasks:
        for feature in tqdm(FEATURES, task.name, leave=False, disable=None):
            scores[task.name, feature] = linear_scores(task, feature)
    aucs = {f"{t.name}_{f}_auc": metrics.auc(t.test_labels, scores[t.name, f]) for t in tasks for f in FEATURES}

    def one_run(seed: int) -> dict[str, float]:
        found = {}
        for task in tasks:
            of_net = convnet_scores(task, config, seed)
            scores.setdefault((task.name, "convnet"), of_net)
            found[f"{task.name}_convnet_auc"] = metrics.auc(task.test_labels, of_net)
        return found

    aucs |= mean_over_seeds(one_run, config.seed, config.seeds)
    figures = {"features.png": draw_features(tasks), "roc.png": draw_roc_curves(tasks, scores)}
    return report(config, aucs, EXPECTED if "synthetic" not in where else {}, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
def draw_features(tasks: list[Task]) -> viz.Figure:
    """Two images of each question, with their HOG and LBP."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from skimage import feature
    from skimage.transform import resize

    code_colors = ListedColormap([*colormaps["viridis"](np.linspace(0, 1, 9)), (0.75, 0.75, 0.75, 1)])
    figure, axes = viz.subplots(2 * len(tasks), 3, figsize=(7.2, 5 * len(tasks)))
    for pair, task in zip(axes.reshape(-1, 2, 3), tasks):
        for row, label in zip(pair, (0, 1)):
            image = task.images[(task.labels == label) & ~task.negative][0, :, :, 0]
            large = resize(image, (96, 96))  # room for the strokes that stand for directions
            cells = {"pixels_per_cell": (24, 24), "cells_per_block": (2, 2)}
            _, edges = feature.hog(large, orientations=9, **cells, visualize=True)
            row[0].imshow(image, cmap="gray", vmin=0, vmax=1)
            row[1].imshow(np.sqrt(edges), cmap="gray")
            codes = row[2].imshow(lbp_codes(image), cmap=code_colors, vmin=-0.5, vmax=9.5)
            row[0].set_title(f"{task.question} {('no', 'yes')[label]}", fontsize=10)
            row[1].set_title("HOG: edges by direction", fontsize=10)
            row[2].set_title("LBP: brighter neighbors", fontsize=10)
    for panel in axes.flat:
        panel.axis("off")
    bar = figure.colorbar(codes, ax=axes[:, 2], ticks=range(10), shrink=0.5)
    bar.set_ticklabels([*map(str, range(9)), "not\nadjacent"])
    return figure


def draw_roc_curves(tasks: list[Task], scores: dict[tuple[str, str], np.ndarray]) -> viz.Figure:
    """The ROC curves of all methods, with the intervals of their areas; for the ConvNet from the first seed."""
    shown = {"pixels": viz.YELLOW, "lbp": viz.ORANGE, "hog": viz.SKY, "hog_lbp": viz.BLUE, "convnet": viz.VERMILLION}
    names = {"pixels": "pixels", "lbp": "LBP", "hog": "HOG", "hog_lbp": "HOG + LBP", "convnet": "ConvNet"}
    figure = viz.new_figure(5.6 * len(tasks), 5.4)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks):
        for method, color in shown.items():
            viz.draw_roc(axes, task.test_labels, scores[task.name, method], names[method], color)
        counts = f"{len(task.labels):,} to learn, {len(task.test_labels):,} to test"
        axes.set_title(f"{task.name}: {task.question} ({counts})", fontsize=11)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Handcrafted features (HOG, LBP) and learned ones"
DATA = "BreastMNIST, 780 ultrasound images; patches of the Data Science Bowl 2018's nuclei images"
FILES = ("medmnist/breastmnist.npz", "dsb2018/stage1_train.zip")
EXPECTED = {
    "breast_hog_auc": (0.7, 0.8),
    "breast_convnet_auc": (0.8, 0.9),
    "nuclei_pixels_auc": (0.45, 0.55),
    "nuclei_hog_auc": (0.97, None),
    "nuclei_convnet_auc": (0.98, None),
}
PICTURE = "roc.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/convnets/alexnet.py"


if __name__ == "__main__":
    run(main)
