"""LeNet-5 reads handwritten digits: the convolutional net that read cheques for banks, on the data of its own paper.

    python examples/convnets/lenet_mnist.py                  # one net: some minutes on two cores
    python examples/convnets/lenet_mnist.py --seeds 3        # three, for the figure in the table

Two times convolution and pooling, then three fully connected layers:

    28 x 28 x 1  --conv 5x5-->  28 x 28 x 6  --pool-->  14 x 14 x 6
                 --conv 5x5-->  10 x 10 x 16 --pool-->  5 x 5 x 16 = 400  -->  120  -->  84  -->  10 classes

Most of the 61,706 weights are in the fully connected layers (59,134 of them); most of the work is in the convolutions,
whose 2,572 weights look at every place of the picture. What is to be seen:

- **The filters** of the first layer after training: strokes and edges of several directions, found by the net itself.
- **The feature maps**: what each filter sees in a digit. The deeper the layer, the smaller and the less like the digit.
- **The confusion matrix**, and the mistakes about which the net is most certain: some would puzzle a person, too.

What differs from 1998: ReLU for a scaled tanh, max-pooling for a mean with trained weights, softmax and cross-entropy
for radial basis functions, every map of the second layer sees all six of the first, and AdamW. The small shifts of the
training digits stand for the paper's distortions. The weights that are kept are those that do best on 5,000 digits set
aside from the training set; the test set is looked at once, at the end.

Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, Proceedings of the IEEE
86, 1998, section II; its LeNet-5 has 0.95 % errors, 0.8 % with distortions (section III).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinynet as tn
from tinynet import metrics, nn
from tinynet.tools.cli import TrainingOptions, mean_over_seeds, option, parse, print_metrics, print_settings, run

TOPIC = "Convolutional nets: LeNet-5"
DATA = "MNIST, 60,000 + 10,000 handwritten digits"
FILES = (
    "mnist/train-images-idx3-ubyte.gz",
    "mnist/train-labels-idx1-ubyte.gz",
    "mnist/t10k-images-idx3-ubyte.gz",
    "mnist/t10k-labels-idx1-ubyte.gz",
)
EXPECTED = {"accuracy": (0.99, None), "parameters": (61_706, 61_706)}
PICTURE = "confusion.png"
ARGUMENTS = ("--seeds", "3")


@dataclass
class Config(TrainingOptions):
    """The flags."""

    out: str = option("out/lenet_mnist", "folder for the runs (one for each seed) and the pictures")
    seeds: int = option(1, "runs, the mean of which is compared with what is expected")
    epochs: int = option(12, "passes over the training digits", quick=3)
    images: int | None = option(None, "train on so many digits only (default: all)", quick=1200)
    batch_size: int = option(100, "digits in a step", quick=25)
    lr: float = option(2e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    weight_decay: float = option(1e-2, "decoupled weight decay")
    shift: int = option(2, "training digits are shifted by at most so many pixels")


# ---------------------------------------------------------------------------------------- the net
def lenet() -> nn.Sequential:
    """x: (N, 28, 28, 1) in [0, 1] -> logits (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5 * 5 * 16, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


FIRST, SECOND = slice(0, 2), slice(0, 5)  # the layers up to the first and the second convolution's maps


# ---------------------------------------------------------------------------------------- the data
class ShiftedDigits:
    """Digits for a DataLoader, each shifted at random by up to `shift` pixels, so that the net learns not to care."""

    def __init__(self, digits: tn.data.ImageSet, shift: int) -> None:
        margin = (shift, shift)
        self.images = np.pad(digits.images, ((0, 0), margin, margin, (0, 0)))
        self.labels, self.shift, self.size = digits.labels, shift, digits.images.shape[1]

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        row, column = rng.integers(0, 2 * self.shift + 1, 2)
        image = self.images[index, row : row + self.size, column : column + self.size]
        return as_input(image), self.labels[index]


def as_input(images: np.ndarray) -> np.ndarray:
    """Grey levels 0 to 255 as float32 from 0 to 1."""
    return images.astype(np.float32) / 255


def hold_out(digits: tn.data.ImageSet, seed: int, images: int | None) -> tuple[tn.data.ImageSet, tn.data.ImageSet]:
    """(training, validation): a twelfth of the training digits is kept back, 5,000 of MNIST's. images: train on so
    many."""
    order = np.random.default_rng(seed).permutation(len(digits))
    count = len(digits) // 12
    return digits.subset(order[count:][:images]), digits.subset(order[:count])


# ---------------------------------------------------------------------------------------- training and use
def train(training: tn.data.ImageSet, validation: tn.data.ImageSet, config: Config, seed: int) -> nn.Sequential:
    """The net with the weights that did best on the validation digits."""
    from tinynet.data import DataLoader
    from tinynet.nn.optim import AdamW, CosineDecay
    from tinynet.training.io import load_weights
    from tinynet.training.train import Trainer

    tn.seed(seed)
    model = lenet().to(tn.device())
    loader = DataLoader(ShiftedDigits(training, config.shift), config.batch_size, seed=seed)
    steps = config.epochs * len(loader)
    optimizer = AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = CosineDecay(optimizer, steps, warmup=steps // 20, floor=0.01)

    def loss(images: tn.Tensor, labels: tn.Tensor) -> tn.Tensor:
        return tn.softmax_cross_entropy(model(images), labels)

    def validate() -> dict[str, float]:
        return {"val_accuracy": np.mean(class_scores(model, validation).argmax(axis=1) == validation.labels)}

    folder = Path(config.out) / f"seed_{seed}"
    trainer = Trainer(model, optimizer, loss, folder, schedule=schedule, settings=config)
    trainer.fit(loader, config.epochs, validate, best=("val_accuracy", "max"), resume=config.resume, runs=config.seeds)
    load_weights(folder / "best.npz", model)
    return model.eval()


def class_scores(model: nn.Sequential, digits: tn.data.ImageSet) -> np.ndarray:
    """The logits of each digit: float32 (N, 10)."""
    with tn.no_grad():
        parts = [as_input(digits.images[i : i + 500]) for i in range(0, len(digits), 500)]
        return np.concatenate([model(tn.tensor(part).to(tn.device())).numpy() for part in parts])


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, choose on the validation digits, test; returns the share of test digits read right."""
    from tinynet.data import handwritten_digits

    config = parse(Config, argv, description=__doc__)
    digits, test, source = handwritten_digits(config.data)
    if not source.startswith("MNIST") and config.epochs == Config.epochs:
        config.epochs *= 5  # the digits in MNIST's place are few: they are passed over more often
    with tn.use_backend(config.backend):
        print_settings(config, lenet(), source=source)

        def one_run(seed: int) -> dict[str, float]:
            training, validation = hold_out(digits, seed, config.images)
            model = train(training, validation, config, seed)
            scores = class_scores(model, test)
            if seed == config.seed:
                draw_feature_maps(Path(config.out) / "feature_maps.png", model, test)
                draw_confusion(Path(config.out) / "confusion.png", test, scores)
                draw_mistakes(Path(config.out) / "mistakes.png", test, scores)
            accuracy = float(np.mean(scores.argmax(axis=1) == test.labels))
            return {"accuracy": accuracy, "parameters": sum(p.size for p in model.parameters())}

        figures = mean_over_seeds(one_run, config.seed, config.seeds)
    # Of other digits nothing is known that could be expected.
    print_metrics(figures, EXPECTED if source.startswith("MNIST") else {}, quick=config.quick)
    pictures = ("feature_maps.png", "confusion.png", "mistakes.png", f"seed_{config.seed}/curve.png")
    print("pictures: " + ", ".join(f"{config.out}/{name}" for name in pictures))
    print("next: python examples/convnets/data_augmentation.py")
    return figures


# ---------------------------------------------------------------------------------------- pictures
def draw_feature_maps(path: Path, model: nn.Sequential, digits: tn.data.ImageSet) -> None:
    """The six filters of the first layer, what they see in two digits, and the maps of the second layer."""
    from tinynet import viz

    figure = viz.new_figure(10, 8)
    above, below = figure.subfigures(2, 1, height_ratios=(3, 2.2))
    axes = above.subplots(3, 7)
    filters = model[0].weight.numpy()[:, :, 0].transpose(2, 0, 1)
    limit = np.abs(filters).max()
    axes[0, 0].text(0.5, 0.5, "filters of the\nfirst layer, 5 x 5", ha="center", va="center")
    for panel, weights in zip(axes[0, 1:], filters):
        panel.imshow(weights, cmap="RdBu_r", vmin=-limit, vmax=limit)
    shown = [int(np.argmax(digits.labels == label)) for label in (7, 2)]  # the first 7 and the first 2 of the set
    images = as_input(digits.images[shown])
    with tn.no_grad():
        x = tn.tensor(images).to(tn.device())
        first, second = (model[layers](x).numpy() for layers in (FIRST, SECOND))
    for row, image, maps in zip(axes[1:], images, first):
        row[0].imshow(image[:, :, 0], cmap="gray")
        for panel, seen in zip(row[1:], np.moveaxis(maps, 2, 0)):
            panel.imshow(seen, cmap="gray", vmin=0, vmax=maps.max())
    axes[1, 0].set_title("digit", fontsize=10)
    axes[1, 3].set_title("what each filter sees, 28 x 28", fontsize=10)

    panels = below.subplots(2, 8)
    below.suptitle("second layer: 16 maps of the 7 above, 10 x 10", fontsize=10)
    for panel, seen in zip(panels.flat, np.moveaxis(second[0], 2, 0)):
        panel.imshow(seen, cmap="gray", vmin=0, vmax=second[0].max())
    for panel in (*axes.flat, *panels.flat):
        panel.axis("off")
    viz.save_figure(path, figure)


def draw_confusion(path: Path, digits: tn.data.ImageSet, scores: np.ndarray) -> None:
    """Which digit is taken for which, and how often."""
    from tinynet import viz

    figure = viz.new_figure(6.4, 6)
    table = metrics.confusion_matrix(digits.labels, scores.argmax(axis=1), 10)
    viz.draw_confusion(figure.subplots(), table, digits.classes)
    viz.save_figure(path, figure)


def draw_mistakes(path: Path, digits: tn.data.ImageSet, scores: np.ndarray) -> None:
    """The 15 mistakes of which the net is most certain."""
    from tinynet import viz

    predicted, certainty = scores.argmax(axis=1), tn.softmax(tn.tensor(scores)).numpy().max(axis=1)
    wrong = np.flatnonzero(predicted != digits.labels)
    wrong = wrong[np.argsort(-certainty[wrong], kind="stable")]
    figure = viz.new_figure(7.5, 6)
    panels = figure.subplots(3, 5)
    figure.suptitle(f"the surest of {len(wrong)} mistakes among {len(digits):,} digits")
    for panel, i in zip(panels.flat, wrong):
        panel.imshow(digits.images[i, :, :, 0], cmap="gray_r")
        panel.set_title(f"{digits.labels[i]}, read as {predicted[i]}\n({certainty[i]:.0%} sure)", fontsize=9)
    for panel in panels.flat:
        panel.axis("off")
    viz.save_figure(path, figure)


if __name__ == "__main__":
    run(main)
