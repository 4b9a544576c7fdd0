"""AlexNet, the net that made deep learning famous, as it was published; and a small one that finds pneumonia.

    python examples/convnets/alexnet.py                  # one small net: minutes on two cores
    python examples/convnets/alexnet.py --seeds 3        # three, for the figures in the table

In 2012 AlexNet nearly halved the errors in the recognition of photographs: five convolutions, three fully connected
layers, 60,965,224 weights, five to six days of training on two graphics cards. What was new in it can be read off its
lines below:

- **ReLU** for tanh or sigmoid: a small net learnt six times as fast with it.
- **Two groups**: half of the channels lived on each card, so that in layers 2, 4 and 5 a filter sees its own half only.
- **Overlapping pooling**: windows of 3 pixels at a distance of 2.
- **Local response normalisation**: a value is divided by what its neighbours in channel direction say. Forgotten today,
  since batch normalisation does more.
- **Dropout** of half of the values before the first two fully connected layers, where 89 % of the weights are.

**The small AlexNet** has the same layers with fewer channels, and 112 x 112 pixels to look at. It learns from 1,200
X-rays of children's chests to tell pneumonia from a normal lung, and is judged by 624 others: ROC curve, and the
sensitivity where 95 % of the healthy are called healthy, with intervals from drawing the test images again
(bootstrap). A fifth of the training patients is set aside to choose the weights by; all pictures of a patient go to
one side. The test set is looked at once, at the end. Two more pictures: the X-rays where it is right and wrong, and the
places that matter to it. Compare these with where the lungs are.

Do not trust it with a patient. Nothing keeps a net from learning how the pictures of the ill were taken instead of the
disease. The test set differs from the training set more than the part set aside does, as its lower figures show, and
all are from one hospital; only another one's would tell.

Sources: Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, NIPS 2012,
sections 3 and 4; places: Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014,
section 4.2; X-rays: Kermany et al., Identifying medical diagnoses and treatable diseases by image-based deep
learning, Cell 172, 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinynet as tn
from tinynet import metrics, nn
from tinynet.data.augment import Affine
from tinynet.tools.cli import TrainingOptions, mean_over_seeds, option, parse, print_metrics, print_settings, run

TOPIC = "Convolutional nets: AlexNet"
DATA = "chest X-rays of children, 1,200 to train on, 624 to test (Kermany et al.)"
FILES = ("chest_xray/chest_xray.zip",)
EXPECTED = {"auc": (0.95, None), "parameters_as_published": (60_965_224, 60_965_224)}
PICTURE = "roc.png"
ARGUMENTS = ("--seeds", "3")

SIZE = 112  # pixels, height and width of the X-rays
SPECIFICITY = 0.95


@dataclass
class Config(TrainingOptions):
    """The flags."""

    out: str = option("out/alexnet", "folder for the runs (one for each seed) and the pictures")
    seeds: int = option(1, "runs, the mean of which is compared with what is expected")
    epochs: int = option(20, "passes over the training images", quick=3)
    images: int | None = option(None, "use so many X-rays of each part only (default: all)", quick=120)
    batch_size: int = option(32, "X-rays in a step", quick=12)
    lr: float = option(1e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    weight_decay: float = option(1e-2, "decoupled weight decay")


# ---------------------------------------------------------------------------------------- the nets
def alexnet(classes: int = 1000) -> nn.Sequential:
    """As published. x: (N, 227, 227, 3) -> logits (N, classes).

    The paper says 224, with which its own sizes do not come out: 55 = (227 - 11) / 4 + 1.
    """
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4),  # 55 x 55
        nn.ReLU(),
        nn.LocalResponseNorm(),
        nn.MaxPool2d(3, stride=2),  # 27 x 27
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(),
        nn.LocalResponseNorm(),
        nn.MaxPool2d(3, stride=2),  # 13 x 13
        nn.Conv2d(256, 384, 3, padding=1),  # here the two halves meet
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # 6 x 6
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6 * 6 * 256, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, classes),
    )


def small_alexnet() -> nn.Sequential:
    """The same with fewer channels and smaller first filters. x: (N, 112, 112, 1) -> logit of pneumonia (N, 1)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 7, stride=2),  # 53 x 53
        nn.ReLU(),
        nn.LocalResponseNorm(),
        nn.MaxPool2d(3, stride=2),  # 26 x 26
        nn.Conv2d(16, 32, 5, padding=2, groups=2),
        nn.ReLU(),
        nn.LocalResponseNorm(),
        nn.MaxPool2d(3, stride=2),  # 12 x 12
        nn.Conv2d(32, 48, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(48, 48, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(48, 32, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # 5 x 5
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(5 * 5 * 32, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 1),
    )


def count(model: nn.Module) -> int:
    """How many weights it has."""
    return sum(p.size for p in model.parameters())


# ---------------------------------------------------------------------------------------- the data
def as_input(images: np.ndarray) -> np.ndarray:
    """Each image to mean 0 and standard deviation 1, so that exposure does not matter. Returns float32."""
    images = images.astype(np.float32)
    mean, spread = (f(images, axis=(-3, -2, -1), keepdims=True) for f in (np.mean, np.std))
    return (images - mean) / (spread + 1)  # of 255 grey levels; + 1, so that an empty image is not divided by 0


class MovedXrays:
    """X-rays for a DataLoader, each a little shifted, turned and zoomed whenever it is asked for.

    Half of them are mirrored: that puts the heart on the wrong side, but pneumonia is pneumonia on either side.
    """

    def __init__(self, xrays: tn.data.ImageSet) -> None:
        self.images, self.labels = as_input(xrays.images), xrays.labels
        self.move = Affine(shift=0.06, rotation=8, shear=0.05, zoom=1.15, rescale=1.08, flip=True)

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image, _ = self.move(self.images[index], None, rng)
        return image, self.labels[index : index + 1]


def xrays_or_drawings(config: Config) -> tuple[tn.data.ImageSet, np.ndarray, tn.data.ImageSet, str]:
    """(X-rays to train on, whose they are, those to test with, what they are): drawings where none are at hand."""
    from tinynet.data import DataError, read_chest_xrays, synthetic_chest_xrays

    rng = np.random.default_rng(config.seed)
    try:
        training, patients = read_chest_xrays("train", config.data, SIZE)
        test, _ = read_chest_xrays("test", config.data, SIZE)
        source = "chest X-rays"
    except DataError as error:
        if config.data is not None:
            raise
        training, patients = synthetic_chest_xrays(200, rng, SIZE)
        test, _ = synthetic_chest_xrays(200, rng, SIZE)
        source = f"drawings, because {error}"
    some, some_test = (rng.permutation(len(part))[: config.images] for part in (training, test))
    return training.subset(some), patients[some], test.subset(some_test), source


def hold_out(patients: np.ndarray, seed: int) -> np.ndarray:
    """Which images are set aside for validation: bool (N,), all those of a fifth of the patients."""
    names = np.unique(patients)
    chosen = np.random.default_rng(seed).permutation(names)[: max(1, len(names) // 5)]
    return np.isin(patients, chosen)


# ---------------------------------------------------------------------------------------- training and use
def train(training: tn.data.ImageSet, validation: tn.data.ImageSet, config: Config, seed: int) -> nn.Sequential:
    """The small net with the weights that had the lowest loss on the validation X-rays."""
    from tinynet.data import DataLoader
    from tinynet.nn.optim import AdamW, CosineDecay
    from tinynet.training.io import load_weights
    from tinynet.training.train import Trainer

    tn.seed(seed)
    model = small_alexnet().to(tn.device())
    loader = DataLoader(MovedXrays(training), config.batch_size, seed=seed)
    steps = config.epochs * len(loader)
    optimizer = AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = CosineDecay(optimizer, steps, warmup=steps // 20, floor=0.01)

    def loss(images: tn.Tensor, labels: tn.Tensor) -> tn.Tensor:
        return tn.bce_with_logits(model(images), labels)

    def validate() -> dict[str, float]:
        logits = tn.tensor(scores(model, validation))
        val_loss = tn.bce_with_logits(logits, validation.labels).item()
        return {"val_loss": val_loss, "val_auc": metrics.auc(validation.labels, logits.numpy())}

    folder = Path(config.out) / f"seed_{seed}"
    trainer = Trainer(model, optimizer, loss, folder, schedule=schedule, max_norm=5.0, settings=config)
    trainer.fit(loader, config.epochs, validate, resume=config.resume, runs=config.seeds)
    load_weights(folder / "best.npz", model)
    return model.eval()


def scores(model: nn.Sequential, xrays: tn.data.ImageSet) -> np.ndarray:
    """The logit of pneumonia of each X-ray, float32 (N,): the mean over the picture and its mirror image."""
    parts = []
    with tn.no_grad():
        for i in range(0, len(xrays), 100):
            images = as_input(xrays.images[i : i + 100])
            both = [model(tn.tensor(np.ascontiguousarray(x)).to(tn.device())) for x in (images, images[:, :, ::-1])]
            parts.append(sum(y.numpy() for y in both)[:, 0] / 2)
    return np.concatenate(parts)


def sensitivity(true: np.ndarray, score: np.ndarray) -> float:
    """Of the ill, the share that is found where 95 % of the healthy are called healthy."""
    return metrics.sensitivity_at(true, score, SPECIFICITY)[0]


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Count AlexNet's weights; train the small one, choose on validation patients, test."""
    config = parse(Config, argv, description=__doc__)
    training, patients, test, source = xrays_or_drawings(config)
    out = Path(config.out)
    with tn.use_backend(config.backend):
        sizes = f"{len(training):,} to train on, {len(np.unique(patients)):,} patients; {len(test)} to test with"
        print_settings(config, small_alexnet(), source=source, X_rays=sizes)
        published = alexnet()
        parameters = count(published)
        draw_layers(out / "layers.png", published)
        del published  # a quarter of a gigabyte

        def one_run(seed: int) -> dict[str, float]:
            aside = hold_out(patients, seed)
            model = train(training.subset(~aside), training.subset(aside), config, seed)
            score = scores(model, test)
            if seed == config.seed:
                print_intervals(test.labels, score)
                draw_roc(out / "roc.png", test.labels, score)
                draw_occlusion(out / "occlusion.png", model, test, score)
                draw_xrays(out / "xrays.png", test, score)
            right = (score > 0) == test.labels
            return {
                "auc": metrics.auc(test.labels, score),
                "sensitivity_at_95": sensitivity(test.labels, score),
                "accuracy": float(np.mean(right)),
                "validation_auc": metrics.auc(training.labels[aside], scores(model, training.subset(aside))),
            }

        figures = mean_over_seeds(one_run, config.seed, config.seeds)
    figures["parameters_as_published"] = parameters
    expected = EXPECTED if source == "chest X-rays" else {"parameters_as_published": (60_965_224, 60_965_224)}
    print_metrics(figures, expected, quick=config.quick)
    pictures = ("roc.png", "xrays.png", "occlusion.png", "layers.png", f"seed_{config.seed}/curve.png")
    print("pictures: " + ", ".join(f"{config.out}/{name}" for name in pictures))
    print("next: python examples/convnets/transfer_learning.py")
    return figures


def print_intervals(true: np.ndarray, score: np.ndarray) -> None:
    """AUC and sensitivity with their 95 % bootstrap intervals."""
    print()
    for name, figure in (("AUC", metrics.auc), (f"sensitivity at {SPECIFICITY:.0%} specificity", sensitivity)):
        low, high = metrics.bootstrap_interval(figure, true, score)
        print(f"{name}: {figure(true, score):.3f}, bootstrap interval {low:.3f} to {high:.3f}")


# ---------------------------------------------------------------------------------------- pictures
def draw_layers(path: Path, model: nn.Sequential) -> None:
    """Where AlexNet's weights are, and where its work is: by layer, of one image."""
    from tinynet import viz

    rows = [row for row in nn.summary(model, (1, 227, 227, 3)).rows if row.parameters]
    names = [f"{'full' if row.type == 'Linear' else 'conv'} {number}" for number, row in enumerate(rows, start=1)]
    weights, work = [row.parameters for row in rows], [row.multiply_adds for row in rows]
    figure = viz.new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    colours = [viz.mpl(viz.SKY if name.startswith("conv") else viz.ORANGE) for name in names]
    for axes, values, title in ((left, weights, "weights"), (right, work, "products for one image")):
        bars = axes.bar(names, np.array(values) / 1e6, color=colours)
        axes.bar_label(bars, [f"{value / 1e6:.2g}" if value < 1e7 else f"{value / 1e6:.0f}" for value in values])
        axes.set_title(f"{title}, millions: {sum(values) / 1e6:.1f} in all")
        axes.tick_params("x", rotation=45)
        axes.margins(y=0.12)
    viz.save_figure(path, figure)


def draw_roc(path: Path, true: np.ndarray, score: np.ndarray) -> None:
    """The ROC curve, with the point of 95 % specificity and its bootstrap interval."""
    from tinynet import viz

    figure = viz.new_figure(5.6, 5.4)
    axes = figure.subplots()
    viz.draw_roc(axes, true, score)
    value, _ = metrics.sensitivity_at(true, score, SPECIFICITY)
    low, high = metrics.bootstrap_interval(sensitivity, true, score)
    axes.errorbar(
        1 - SPECIFICITY,
        value,
        [[max(0, value - low)], [max(0, high - value)]],
        fmt="o",
        capsize=4,
        color=viz.mpl(viz.VERMILLION),
        label=f"95 % specificity: sensitivity {value:.2f} ({low:.2f} to {high:.2f})",
    )
    axes.set_title(f"pneumonia or not: {len(true)} test X-rays")
    axes.legend(loc="lower right")
    viz.save_figure(path, figure)


def occlusion_map(model: nn.Sequential, image: np.ndarray, patch: int = 24, step: int = 8) -> np.ndarray:
    """How much the logit of pneumonia falls when a grey patch covers the place: float32 (rows, columns), a value for
    each place of the patch.

    image: as a net is given it, (H, W, 1). Zeiler and Fergus, Visualizing and understanding convolutional networks,
    2014, section 4.2.
    """
    places = range(0, image.shape[0] - patch + 1, step)
    covered = np.repeat(image[None], len(places) ** 2, axis=0)
    for number, (row, column) in enumerate((row, column) for row in places for column in places):
        covered[number, row : row + patch, column : column + patch] = 0  # the mean of the image
    with tn.no_grad():
        whole, parts = (model(tn.tensor(x).to(tn.device())).numpy()[:, 0] for x in (image[None], covered))
    return (whole - parts).reshape(len(places), len(places))


def draw_occlusion(path: Path, model: nn.Sequential, xrays: tn.data.ImageSet, score: np.ndarray) -> None:
    """Where the net sees pneumonia, in six X-rays of the ill that it finds: what it needs to see, and what speaks
    against it."""
    from tinynet import viz

    ill = np.flatnonzero(xrays.labels)
    found = ill[np.argsort(-score[ill], kind="stable")][: max(6, len(ill) // 2)]
    shown = found[:: max(1, len(found) // 6)][:6]  # not the six surest only
    figure = viz.new_figure(9.6, 3.7)
    figure.suptitle("cover a place: red, the net becomes less sure of pneumonia; blue, surer")
    for (above, below), i in zip(figure.subplots(2, 6).T, shown):
        picture = xrays.images[i, :, :, 0]
        falls = occlusion_map(model, as_input(xrays.images[i]))
        limit = np.abs(falls).max()
        # A value belongs to the middle of its patch, which gets no nearer to the border than half of its size.
        extent = (8, picture.shape[1] - 8, picture.shape[0] - 8, 8)
        above.imshow(picture, cmap="gray")
        below.imshow(picture, cmap="gray")
        below.imshow(falls, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.5, extent=extent, interpolation="bilinear")
        for panel in (above, below):
            panel.set(xlim=(0, picture.shape[1]), ylim=(picture.shape[0], 0))
            panel.axis("off")
    viz.save_figure(path, figure)


def draw_xrays(path: Path, xrays: tn.data.ImageSet, score: np.ndarray) -> None:
    """Test X-rays: the surest answers that are right, and the surest that are wrong, six of each kind."""
    from tinynet import viz

    probability = tn.sigmoid(tn.tensor(score)).numpy()
    ill, said_ill = xrays.labels == 1, score > 0
    rows = {
        "healthy, and called so": (~ill & ~said_ill, score),
        "ill, and found": (ill & said_ill, -score),
        "healthy, and called ill": (~ill & said_ill, -score),
        "ill, and missed": (ill & ~said_ill, score),
    }
    figure = viz.new_figure(9, 8)
    for part, (title, (which, order)) in zip(figure.subfigures(4, 1), rows.items()):
        part.suptitle(f"{title}: {np.count_nonzero(which)}", fontsize=11)
        found = np.flatnonzero(which)
        found = found[np.argsort(order[found], kind="stable")]
        for number, panel in enumerate(part.subplots(1, 6)):
            panel.axis("off")
            if number < len(found):
                panel.imshow(xrays.images[found[number], :, :, 0], cmap="gray")
                panel.set_title(f"pneumonia {probability[found[number]]:.0%}", fontsize=9)
    viz.save_figure(path, figure)


if __name__ == "__main__":
    run(main)
