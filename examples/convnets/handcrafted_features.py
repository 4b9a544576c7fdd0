"""Features made by hand against features that are learnt: HOG and LBP with a linear classifier, and a small ConvNet.

    python examples/convnets/handcrafted_features.py

Before nets learnt their features, people designed them. Two that were used everywhere:

- **HOG**, histograms of oriented gradients: in each cell of 7 or 8 pixels, how much edge is there in each of nine
  directions? Neighbouring cells are normalised together, so that contrast does not matter. It sees shape.
- **LBP**, local binary patterns: every pixel asks its eight neighbours "are you brighter than me?"; the eight answers
  make a code, and the histogram of the codes in a part of the picture is the feature. It sees texture.

On top of them sits a linear classifier (logistic regression); beside them, the same one on the bare pixels, and a
ConvNet that learns features and classifier together. Two questions:

- **Is this tumour malignant?** BreastMNIST: 546 ultrasound images to learn from, 156 to test; breasts without a tumour
  count as "no".
- **Does a nucleus lie in the middle?** Patches of microscope images, thousands of them. Half of them are shown as
  negatives, as dark stains on bright and bright ones on dark both occur: brightness alone must not tell. The test
  images come from other experiments than the training images.

What to see: HOG looks at edges whichever side is the brighter, so it does not mind negatives; that was designed into
it. A linear classifier of pixels can only guess there. The ConvNet learns from the examples not to mind, and does as
well as HOG and LBP together; nobody had to design that. With the tumours it is another matter: bare pixels do as well
as features that were designed for other pictures, and the test set is so small that the intervals overlap: nobody can
say from it which of the five is best.

Sources: Dalal and Triggs, Histograms of oriented gradients for human detection, CVPR 2005; Ojala, Pietikainen, Maenpaa,
Multiresolution gray-scale and rotation invariant texture classification with local binary patterns, PAMI 24, 2002;
data: Yang et al., MedMNIST v2, Scientific Data 2023, from Al-Dhabyani et al., Data in Brief 28, 2020; Caicedo et al.,
Nature Methods 16, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn
from tinynet.nn.optim import AdamW, CosineDecay
from tinynet.tools.cli import NetOptions, mean_over_seeds, option, parse, print_metrics, print_settings, run

TOPIC = "Handcrafted features (HOG, LBP) and learnt ones"
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

NUCLEI = "dsb2018/stage1_train.zip"
PATCH, NUCLEUS = 32, 14  # pixels: height and width of a patch; the diameter that nuclei are brought to


@dataclass
class Config(NetOptions):
    """The flags."""

    out: str = option("out/handcrafted_features", "folder for the pictures")
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    seeds: int = option(3, "runs with other initial weights, the mean of which counts", quick=1)
    images: int = option(120, "microscope images to learn from, and half as many to test", quick=6)
    per_image: int = option(24, "patches of each image", quick=12)
    steps: int = option(1000, "training steps of the ConvNets", quick=12)
    batch_size: int = option(32, "images in a step of the ConvNets")


@dataclass
class Task:
    """A question with two answers. images: float32 (N, H, W, 1), 0 to 1; labels: 0 or 1, (N,).

    negative: which of `images` are shown as negatives, bool (N,).
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
    """How much edge of each direction in each of 4 x 4 cells: 9 blocks of 2 x 2 cells with 9 directions, 324 numbers.

    image: (H, W).
    """
    from skimage import feature

    cell = (image.shape[0] // 4, image.shape[1] // 4)
    return feature.hog(image, orientations=9, pixels_per_cell=cell, cells_per_block=(2, 2))


def lbp_codes(image: np.ndarray) -> np.ndarray:
    """For each pixel the pattern of its eight neighbours, 0 to 9: the number of brighter ones where they follow each
    other (0 to 8), 9 for all other patterns. The same when the picture is turned."""
    from skimage.feature import local_binary_pattern

    return local_binary_pattern(np.rint(image * 255).astype(np.uint8), P=8, R=1, method="uniform").astype(int)


def lbp(image: np.ndarray) -> np.ndarray:
    """How often each code occurs in each of 3 x 3 parts of the picture, (90,)."""
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
    """Logistic regression on a feature: the log-odds of the test images. Its loss has one minimum: no seed matters."""
    from tinynet.data import standardize

    make = FEATURES[feature]
    rows = [np.stack([make(image[:, :, 0]) for image in images]) for images in (task.images, task.test_images)]
    x, x_test = (tn.tensor(part).to(tn.device()) for part in standardize(*rows))
    model = nn.Linear(x.shape[1], 1, init=lambda shape: np.zeros(shape, dtype=np.float32)).to(tn.device())
    optimizer = AdamW(model.parameters(), lr=0.01, weight_decay=10.0)  # many columns, few rows: hold the weights back
    for _ in range(300):
        loss = tn.bce_with_logits(model(x), task.labels[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with tn.no_grad():
        return model(x_test).numpy()[:, 0]


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


class Mirrored:
    """The images of a task for a DataLoader: mirrored and shifted by a pixel or two, at random."""

    def __init__(self, task: Task) -> None:
        self.images = np.pad(task.images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        self.labels, self.size = task.labels, task.images.shape[1]

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        row, column = rng.integers(0, 5, 2)
        image = self.images[index, row : row + self.size, column : column + self.size]
        return (image[:, ::-1] if rng.random() < 0.5 else image), self.labels[index]


def convnet_scores(task: Task, config: Config, seed: int) -> np.ndarray:
    """The log-odds that a ConvNet gives for the test images."""
    from tinynet.data import DataLoader

    tn.seed(seed)
    model = convnet(task.images.shape[1]).to(tn.device())
    mean, deviation = task.images.mean(), task.images.std()
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = CosineDecay(optimizer, config.steps, warmup=config.steps // 10)
    loader = DataLoader(Mirrored(task), config.batch_size, seed=seed, workers=0)
    passes = chain.from_iterable(repeat(loader))  # the loader again and again, in a new order each time
    for images, labels in tqdm(islice(passes, config.steps), task.name, config.steps, leave=False, disable=None):
        loss = tn.bce_with_logits(model(tn.tensor((images - mean) / deviation).to(tn.device())), labels[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    x = (task.test_images - mean) / deviation
    with tn.no_grad():
        parts = [tn.tensor(x[i : i + 256]).to(tn.device()) for i in range(0, len(x), 256)]
        return np.concatenate([model(part).numpy()[:, 0] for part in parts])


# ---------------------------------------------------------------------------------------- the data
def breast_task(data: str | None) -> Task:
    """Malignant or not. The 78 validation images served to choose the settings above, and are not used here."""
    from tinynet.data import read_breastmnist

    training, test = read_breastmnist("train", data), read_breastmnist("test", data)
    images, test_images = (part.images.astype(np.float32) / 255 for part in (training, test))
    none = np.zeros(len(images), dtype=bool)
    return Task("breast", "malignant?", images, training.labels, test_images, test.labels, none)


def nuclei_task(data: str | None, config: Config) -> tuple[Task, str]:
    """Patches with a nucleus in the middle and others, and where they are from."""
    from tinynet.data import DataError, find_data, read_nuclei, synthetic_nuclei
    from tinynet.data.nuclei import split_table

    rng = np.random.default_rng(0)  # the question is the same for every seed
    counts = {"train": config.images, "validation": config.images // 2}
    try:
        path, where = find_data(NUCLEI, data), ""
    except DataError as error:
        samples = {part: [synthetic_nuclei(rng) for _ in range(count)] for part, count in counts.items()}
        where = f"synthetic nuclei, because {error}"
    else:
        samples = {}
        for part, count in counts.items():  # the two parts of the committed split have no experiment in common
            ids = [row["id"] for row in split_table() if row["split"] == part]
            samples[part] = read_nuclei(path, ids=rng.permutation(ids)[:count].tolist())
    parts = [patches(samples[part], config.per_image, rng) for part in counts]
    negatives = [rng.random(len(images)) < 0.5 for images, _ in parts]
    for (images, _), negative in zip(parts, negatives):
        images[negative] = 1 - images[negative]
    where = where or f"{path}, {len(parts[0][1]):,} + {len(parts[1][1]):,} patches"
    return Task("nuclei", "nucleus in the middle?", *parts[0], *parts[1], negatives[0]), where


def patches(samples: list[tn.data.Sample], count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Up to `count` patches of each image, half of them around a nucleus: images (N, PATCH, PATCH, 1), labels (N,).

    The others have background in the middle and a nucleus not far away. Images are brought to one nucleus size.
    """
    from scipy import ndimage

    from tinynet.data import normalize

    found, labels = [], []
    for sample in tqdm([sample for sample in samples if sample.labels.any()], "patches", leave=False, disable=None):
        size = tn.segment.size_at_scale(sample.labels.shape, NUCLEUS / tn.instances.median_diameter(sample.labels))
        nuclei = tn.segment.resize_labels(sample.labels, size)
        grey = tn.segment.resize(normalize(sample.image), size).mean(axis=2)
        grey = np.pad(grey, PATCH // 2, mode="reflect")

        numbers = rng.permutation(np.unique(nuclei[nuclei > 0]))[: count // 2]
        middles = np.rint(ndimage.center_of_mass(nuclei > 0, nuclei, numbers)).astype(int)
        distance = ndimage.distance_transform_edt(nuclei == 0)
        beside = rng.permutation(np.argwhere((distance >= 4) & (distance <= 16)))[: len(middles)]
        for label, places in ((1, middles), (0, beside)):
            for row, column in places:
                patch = grey[row : row + PATCH, column : column + PATCH]
                low, high = np.percentile(patch, (1, 99))
                patch = np.clip((patch - low) / max(high - low, 1e-3), 0, 1)
                found.append(patch)
                labels.append(label)
    return np.array(found, dtype=np.float32)[..., None], np.array(labels)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Both questions with every feature; returns the areas under the ROC curves on the test images."""
    config = parse(Config, argv, description=__doc__)
    with tn.use_backend(config.backend):
        return run_all(config)


def run_all(config: Config) -> dict[str, float]:
    """What `main` does, in the backend that was asked for."""
    from tinynet.data import DataError

    task, where = nuclei_task(config.data, config)
    tasks = [task]
    try:
        tasks.insert(0, breast_task(config.data))
    except DataError as error:
        print(f"without the ultrasound images: {error}\n")
    sizes = {task.name: f"{len(task.labels):,} + {len(task.test_labels):,} images" for task in tasks}
    print_settings(config, convnet(PATCH), **sizes, patches_of=where)

    scores = {}  # (task, method) -> log-odds of the test images; of the ConvNet those of the first seed
    for task in tasks:
        for feature in tqdm(FEATURES, task.name, leave=False, disable=None):
            scores[task.name, feature] = linear_scores(task, feature)
    figures = {f"{t.name}_{f}_auc": metrics.auc(t.test_labels, scores[t.name, f]) for t in tasks for f in FEATURES}

    def one_run(seed: int) -> dict[str, float]:
        found = {}
        for task in tasks:
            of_net = convnet_scores(task, config, seed)
            scores.setdefault((task.name, "convnet"), of_net)
            found[f"{task.name}_convnet_auc"] = metrics.auc(task.test_labels, of_net)
        return found

    figures.update(mean_over_seeds(one_run, config.seed, config.seeds))
    out = Path(config.out)
    draw_features(out / "features.png", tasks)
    draw_roc_curves(out / "roc.png", tasks, scores)
    print_metrics(figures, EXPECTED if "synthetic" not in where else {}, quick=config.quick)
    print(f"pictures: {out}/features.png, {out}/roc.png")
    print("next: python examples/convnets/alexnet.py")
    return figures


# ---------------------------------------------------------------------------------------- pictures
def draw_features(path: Path, tasks: list[Task]) -> None:
    """Two images of each question, and what HOG and LBP see in them."""
    from skimage import feature
    from skimage.transform import resize

    from tinynet import viz

    figure = viz.new_figure(7.2, 5 * len(tasks))
    axes = figure.subplots(2 * len(tasks), 3)
    for pair, task in zip(axes.reshape(-1, 2, 3), tasks):
        for row, label in zip(pair, (0, 1)):
            image = task.images[(task.labels == label) & ~task.negative][0, :, :, 0]  # a negative would confuse
            large = resize(image, (96, 96))  # room for the strokes that stand for directions
            cells = {"pixels_per_cell": (24, 24), "cells_per_block": (2, 2)}
            _, edges = feature.hog(large, orientations=9, **cells, visualize=True)
            row[0].imshow(image, cmap="gray", vmin=0, vmax=1)
            row[1].imshow(np.sqrt(edges), cmap="gray")
            row[2].imshow(lbp_codes(image), cmap="tab10", vmin=0, vmax=9)
            row[0].set_title(f"{task.question} {('no', 'yes')[label]}", fontsize=10)
            row[1].set_title("HOG: edges by direction", fontsize=10)
            row[2].set_title("LBP: a code for each pixel", fontsize=10)
    for panel in axes.flat:
        panel.axis("off")
    viz.save_figure(path, figure)


def draw_roc_curves(path: Path, tasks: list[Task], scores: dict[tuple[str, str], np.ndarray]) -> None:
    """The curves of all methods, with the intervals of their areas; that of the ConvNet is of the first seed."""
    from tinynet import viz

    shown = {"pixels": viz.YELLOW, "lbp": viz.ORANGE, "hog": viz.SKY, "hog_lbp": viz.BLUE, "convnet": viz.VERMILLION}
    names = {"pixels": "pixels", "lbp": "LBP", "hog": "HOG", "hog_lbp": "HOG + LBP", "convnet": "ConvNet"}
    figure = viz.new_figure(5.6 * len(tasks), 5.4)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks):
        for method, colour in shown.items():
            viz.draw_roc(axes, task.test_labels, scores[task.name, method], names[method], colour)
        counts = f"{len(task.labels):,} to learn, {len(task.test_labels):,} to test"
        axes.set_title(f"{task.name}: {task.question} ({counts})", fontsize=11)
    viz.save_figure(path, figure)


if __name__ == "__main__":
    run(main)
