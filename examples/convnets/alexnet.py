"""AlexNet, the net that made deep learning famous, as it was published; and a small one that finds pneumonia.

    python examples/convnets/alexnet.py                  # one small net: minutes on two cores
    python examples/convnets/alexnet.py --seeds 3        # three, as in the table

In 2012 AlexNet nearly halved the errors in the recognition of photographs: five convolutions, three fully connected
layers, 60,965,224 weights, five to six days of training on two graphics cards. Its lines below show what was new:

- **ReLU** for tanh or sigmoid: a small net learned six times as fast with it.
- **Two groups**: half of the channels lived on each card, so that in layers 2, 4 and 5 a filter sees only its own half.
- **Overlapping pooling**: windows of 3 pixels at a distance of 2.
- **Local response normalization**: a value is divided by a norm of its neighbors in channel direction. It is rarely
  used today, because batch normalization does more.
- **Dropout** of half of the values before the first two fully connected layers, which hold 89 % of the weights.

**The small AlexNet** has the same layers with fewer channels, for images of 112 x 112 pixels. It learns from 1,200
X-rays of children's chests to tell pneumonia from a normal lung. 624 other X-rays test it: ROC curve, and the
sensitivity at a specificity of 95 %, with intervals from drawing the test images again (bootstrap). A fifth of the
training patients is set aside to choose the weights; all images of a patient stay together. The test set is used once,
at the end. Two more figures show the X-rays where the net is right and wrong, and the places that matter to it. Compare
these places with the place of the lungs.

Do not trust it with a patient. A net may learn how the images of the ill were taken instead of the disease. The test
set differs from the training set more than the validation patients do, as the lower test metrics show. And all X-rays
are from one hospital; only X-rays of another hospital would tell how well the net generalizes.

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
from tinynet import metrics, nn, optim, viz
from tinynet.data import AugmentedImages, DataError, DataLoader, read_chest_xrays, synthetic_chest_xrays
from tinynet.data.augment import Affine
from tinynet.tools.cli import TrainingOptions, command_line, mean_over_seeds, option, print_settings, report, run

SIZE = 112  # pixels, height and width of the X-rays
SPECIFICITY = 0.95


# ---------------------------------------------------------------------------------------- the nets
def net(
    c_in: int, channels: tuple[int, ...], kernel: int, stride: int, pixels: int, hidden: int, classes: int
) -> nn.Sequential:
    """The layers of AlexNet. x: (N, H, W, c_in) -> logits (N, classes).

    channels: of the five convolutions. kernel, stride: of the first one. pixels: height and width before `Flatten`.
    hidden: neurons of the two hidden fully connected layers. The comments show sizes as published.
    """
    c1, c2, c3, c4, c5 = channels
    return nn.Sequential(
        nn.Conv2d(c_in, c1, kernel, stride=stride),  # 55 x 55 x 96
        nn.ReLU(),
        nn.LocalResponseNorm(),
        nn.MaxPool2d(3, stride=2),  # 27 x 27
        nn.Conv2d(c1, c2, 5, padding=2, groups=2),  # 27 x 27 x 256
        nn.ReLU(),
        nn.LocalResponseNorm(),
        nn.MaxPool2d(3, stride=2),  # 13 x 13
        nn.Conv2d(c2, c3, 3, padding=1),  # 13 x 13 x 384; here the two halves meet
        nn.ReLU(),
        nn.Conv2d(c3, c4, 3, padding=1, groups=2),  # 13 x 13 x 384
        nn.ReLU(),
        nn.Conv2d(c4, c5, 3, padding=1, groups=2),  # 13 x 13 x 256
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),  # 6 x 6
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(pixels**2 * c5, hidden),  # 9,216 to 4,096
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def alexnet() -> nn.Sequential:
    """As published. x: (N, 227, 227, 3) -> logits (N, 1000).

    The paper says 224 pixels, which contradicts its other sizes: 55 = (227 - 11) / 4 + 1.
    """
    return net(3, (96, 256, 384, 384, 256), kernel=11, stride=4, pixels=6, hidden=4096, classes=1000)


def small_alexnet() -> nn.Sequential:
    """Fewer channels and smaller first filters. x: (N, 112, 112, 1) -> logit of pneumonia (N, 1)."""
    return net(1, (16, 32, 48, 48, 32), kernel=7, stride=2, pixels=5, hidden=128, classes=1)


# ---------------------------------------------------------------------------------------- the data
def as_input(images: np.ndarray) -> np.ndarray:
    """Each image to mean 0 and standard deviation 1, so that exposure does not matter. Returns float32."""
    images = images.astype(np.float32)
    mean, spread = (f(images, axis=(-3, -2, -1), keepdims=True) for f in (np.mean, np.std))
    return (images - mean) / (spread + 1)  # of 255 gray levels; + 1, so that an empty image is not divided by 0


def moved(xrays: tn.data.ImageSet) -> AugmentedImages:
    """X-rays, each shifted, turned and zoomed a little at random.

    Half of them are mirrored: the heart is on the wrong side then, but pneumonia is pneumonia on either side.
    """
    move = Affine(shift=0.06, rotation=8, shear=0.05, zoom=1.15, rescale=1.08, flip=True)
    return AugmentedImages(as_input(xrays.images), xrays.labels[:, None], lambda image, rng: move(image, None, rng)[0])


def xrays_or_drawings(config: Config) -> tuple[tn.data.ImageSet, np.ndarray, tn.data.ImageSet, str]:
    """(X-rays to train on, their patients, X-rays to test with, source). Drawings if the X-rays are not found."""
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
    """Which images are set aside for validation: all images of a fifth of the patients, bool (N,)."""
    names = np.unique(patients)
    chosen = np.random.default_rng(seed).permutation(names)[: max(1, len(names) // 5)]
    return np.isin(patients, chosen)


# ---------------------------------------------------------------------------------------- training and use
def train(training: tn.data.ImageSet, validation: tn.data.ImageSet, config: Config, seed: int) -> nn.Sequential:
    """The small net with the weights that had the lowest loss on the validation X-rays."""
    tn.seed(seed)
    model = small_alexnet().to(tn.device())
    loader = DataLoader(moved(training), config.batch_size, seed=seed)
    steps = config.epochs * len(loader)
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = optim.CosineDecay(optimizer, steps, warmup=steps // 20, floor=0.01)

    def loss(images: tn.Tensor, labels: tn.Tensor) -> tn.Tensor:
        return tn.bce_with_logits(model(images), labels)

    def validate() -> dict[str, float]:
        logits = tn.tensor(scores(model, validation)).to(tn.device())
        val_loss = tn.bce_with_logits(logits, validation.labels).item()
        return {"val_loss": val_loss, "val_auc": metrics.auc(validation.labels, logits.numpy())}

    folder = Path(config.out) / f"seed_{seed}"
    trainer = tn.train.Trainer(model, optimizer, loss, folder, schedule=schedule, max_norm=5.0, settings=config)
    trainer.fit(loader, config.epochs, validate, resume=config.resume, runs=config.seeds)
    tn.io.load_weights(folder / "best.npz", model)
    return model.eval()


def scores(model: nn.Sequential, xrays: tn.data.ImageSet) -> np.ndarray:
    """The logit of pneumonia of each X-ray, float32 (N,): the mean over the image and its mirror image."""
    images = as_input(xrays.images)
    logits, mirrored = (nn.predict(model, x, batch=100) for x in (images, np.ascontiguousarray(images[:, :, ::-1])))
    return (logits + mirrored)[:, 0] / 2


def sensitivity(true: np.ndarray, score: np.ndarray) -> float:
    """The sensitivity at a specificity of 95 %."""
    return metrics.sensitivity_at(true, score, SPECIFICITY)[0]


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(TrainingOptions):
    out: str = option("out/alexnet", "folder for the runs (one for each seed) and the figures")
    seeds: int = option(1, "runs; their mean is compared with the expected metrics")
    epochs: int = option(20, "passes over the training images", quick=3)
    images: int | None = option(None, "number of X-rays of each part (default: all)", quick=120)
    batch_size: int = option(32, "X-rays in a step", quick=12)
    lr: float = option(1e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    weight_decay: float = option(1e-2, "decoupled weight decay")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Count AlexNet's weights; train the small net, choose its weights on validation patients, test."""
    training, patients, test, source = xrays_or_drawings(config)
    sizes = f"{len(training):,} to train on, {len(np.unique(patients)):,} patients; {len(test)} to test with"
    print_settings(config, small_alexnet(), source=source, X_rays=sizes)
    published = alexnet()
    parameters = sum(p.size for p in published.parameters())
    figures = {"layers.png": draw_layers(published)}
    del published  # a quarter of a gigabyte

    def one_run(seed: int) -> dict[str, float]:
        aside = hold_out(patients, seed)
        validation = training.subset(aside)
        model = train(training.subset(~aside), validation, config, seed)
        score = scores(model, test)
        if seed == config.seed:
            print_intervals(test.labels, score)
            figures["roc.png"] = draw_roc(test.labels, score)
            figures["occlusion.png"] = draw_occlusion(model, test, score)
            figures["xrays.png"] = draw_xrays(test, score)
        return {
            "auc": metrics.auc(test.labels, score),
            "sensitivity_at_95": sensitivity(test.labels, score),
            "accuracy": float(np.mean((score > 0) == test.labels)),
            "validation_auc": metrics.auc(validation.labels, scores(model, validation)),
        }

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    results["parameters_as_published"] = parameters
    expected = EXPECTED if source == "chest X-rays" else {"parameters_as_published": (60_965_224, 60_965_224)}
    return report(config, results, expected, figures, NEXT)


def print_intervals(true: np.ndarray, score: np.ndarray) -> None:
    """AUC and sensitivity with their 95 % bootstrap intervals."""
    print()
    for name, metric in (("AUC", metrics.auc), (f"sensitivity at {SPECIFICITY:.0%} specificity", sensitivity)):
        low, high = metrics.bootstrap_interval(metric, true, score)
        print(f"{name}: {metric(true, score):.3f}, bootstrap interval {low:.3f} to {high:.3f}")


# ---------------------------------------------------------------------------------------- figures
def draw_layers(model: nn.Sequential) -> viz.Figure:
    """The weights of each layer of AlexNet, and its multiplications for one image."""
    rows = [row for row in nn.summary(model, (1, 227, 227, 3)).rows if row.parameters]
    names = [f"{'full' if row.type == 'Linear' else 'conv'} {number}" for number, row in enumerate(rows, start=1)]
    weights, work = [row.parameters for row in rows], [row.multiply_adds for row in rows]
    figure, (left, right) = viz.subplots(1, 2, figsize=(9, 3.6))
    colors = [viz.mpl(viz.SKY if name.startswith("conv") else viz.ORANGE) for name in names]
    for axes, values, title in ((left, weights, "weights"), (right, work, "products for one image")):
        bars = axes.bar(names, np.array(values) / 1e6, color=colors)
        axes.bar_label(bars, [f"{value / 1e6:.2g}" if value < 1e7 else f"{value / 1e6:.0f}" for value in values])
        axes.set_title(f"{title}, millions: {sum(values) / 1e6:.1f} in all")
        axes.tick_params("x", rotation=45)
        axes.margins(y=0.12)
    return figure


def draw_roc(true: np.ndarray, score: np.ndarray) -> viz.Figure:
    """The ROC curve, with the point of 95 % specificity and its bootstrap interval."""
    figure, axes = viz.subplots(figsize=(5.6, 5.4))
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
    return figure


def occlusion_map(model: nn.Sequential, image: np.ndarray, patch: int = 24, step: int = 8) -> np.ndarray:
    """How much the logit of pneumonia falls if a gray patch covers a place: float32 (rows, columns) of places.

    image: as the net sees it, (H, W, 1). Zeiler and Fergus, Visualizing and understanding convolutional networks,
    2014, section 4.2.
    """
    places = range(0, image.shape[0] - patch + 1, step)
    covered = np.repeat(image[None], len(places) ** 2, axis=0)
    for number, (row, column) in enumerate((row, column) for row in places for column in places):
        covered[number, row : row + patch, column : column + patch] = 0  # the mean of the image
    whole, parts = (nn.predict(model, x)[:, 0] for x in (image[None], covered))
    return (whole - parts).reshape(len(places), len(places))


def draw_occlusion(model: nn.Sequential, xrays: tn.data.ImageSet, score: np.ndarray) -> viz.Figure:
    """Six X-rays with pneumonia that the net finds: the places that speak for pneumonia, and against it."""
    ill = np.flatnonzero(xrays.labels)
    found = ill[np.argsort(-score[ill], kind="stable")][: max(6, len(ill) // 2)]
    shown = found[:: max(1, len(found) // 6)][:6]  # not the six surest only
    figure, panels = viz.subplots(2, 6, figsize=(9.6, 3.7))
    figure.suptitle("cover a place: red, the net becomes less sure of pneumonia; blue, surer")
    for (above, below), i in zip(panels.T, shown):
        picture = xrays.images[i, :, :, 0]
        falls = occlusion_map(model, as_input(xrays.images[i]))
        limit = np.abs(falls).max()
        # A value belongs to the 8 x 8 pixels in the middle of its patch of 24 x 24.
        extent = (8, picture.shape[1] - 8, picture.shape[0] - 8, 8)
        above.imshow(picture, cmap="gray")
        below.imshow(picture, cmap="gray")
        below.imshow(falls, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.5, extent=extent, interpolation="bilinear")
        for panel in (above, below):
            panel.set(xlim=(0, picture.shape[1]), ylim=(picture.shape[0], 0))
            panel.axis("off")
    return figure


def draw_xrays(xrays: tn.data.ImageSet, score: np.ndarray) -> viz.Figure:
    """Test X-rays: the surest answers that are right, and the surest that are wrong, six of each kind."""
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
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Convolutional nets: AlexNet"
DATA = "chest X-rays of children, 1,200 to train on, 624 to test (Kermany et al.)"
FILES = ("chest_xray/chest_xray.zip",)
EXPECTED = {"auc": (0.95, None), "parameters_as_published": (60_965_224, 60_965_224)}
PICTURE = "roc.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/convnets/transfer_learning.py"


if __name__ == "__main__":
    run(main)
