"""V-Net and the 3-D U-Net find the two parts of the hippocampus in MR volumes: segmentation in three dimensions.

    python examples/volumes/vnet_hippocampus.py                  # three trainings on two cores
    python examples/volumes/vnet_hippocampus.py --resume         # go on after Ctrl-C

Each of the 220 volumes shows one hippocampus, padded to 48 x 64 x 48 voxels of 1 mm. A net gives each voxel one of
three classes: background, anterior part (the head of the hippocampus), posterior part (body and tail). A fixed list
holds 40 volumes out; of the other 180, 20 choose the epoch. The training crops lie at random places of the padded
volume, so the organ shifts. Nothing is mirrored, because a mirrored hippocampus belongs to the other side of the head.

- **V-Net** halves the volume by strided convolutions, and each of its stages learns what to *add* to its input
  (residual). So the gradient has a short way to the first layer. PReLU learns the slope for negative values.
- **3-D U-Net** halves the volume by max-pooling; its stages are plain. Both join the levels by skip connections.
- **Dice loss or cross-entropy?** Of 40 voxels, 39 are background, and cross-entropy counts each voxel once. Dice counts
  each class once. With Dice, the V-Net passes .83 on the validation volumes after two epochs, with cross-entropy after
  four, and it stays ahead.
- **Label atlas**: a guess without any image, from the mean of the training labels. A net must be better than this.
- **Dice is not all**: 95 % of the surface lies within 1.3 mm of the other surface, little more than a voxel.

Mean Dice (anterior, posterior) of the 40 held-out volumes; one seed, another run differs by up to .01; six minutes on
two cores, 1.1 GB of memory:

    label atlas                 .733  .664
    V-Net, cross-entropy        .867  .846
    3-D U-Net, Dice             .875  .854
    V-Net, Dice                 .887  .868
    nnU-Net, as published       .895  .876

nnU-Net was measured on other volumes of the set, so compare with care: it is far larger, trains for days on a graphics
card and averages five nets. The worst volume of the V-Net has .784 and .766: where one part ends and the other begins
is a convention, which the image hardly shows.

Sources: Milletari, Navab, Ahmadi, V-Net: fully convolutional neural networks for volumetric medical image
segmentation, 3DV 2016; Cicek et al., 3D U-Net: learning dense volumetric segmentation from sparse annotation, MICCAI
2016; PReLU: He et al., Delving deep into rectifiers, ICCV 2015; nnU-Net: Isensee et al., Nature Methods 18, 2021. Data:
Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 2022, task 4.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataLoader, Volume, hippocampus_or_synthetic, stack_volumes
from tinynet.data.volumes import PARTS
from tinynet.tools.cli import TrainingOptions, command_line, option, print_settings, report, run

CLASSES = 3  # background, anterior part, posterior part


# ---------------------------------------------------------------------------------------- V-Net
class ResidualStage(nn.Module):
    """Some convolutions 3 x 3 x 3; the stage learns what to add to `shortcut`. c_in -> c channels."""

    def __init__(self, c_in: int, c: int, convolutions: int) -> None:
        widths = [c_in] + [c] * (convolutions - 1)
        self.convolutions = [nn.Conv3d(width, c, 3, padding=1) for width in widths]
        self.activations = [nn.PReLU(c) for _ in widths]

    def forward(self, x: tn.Tensor, shortcut: tn.Tensor) -> tn.Tensor:
        for convolution, activation in zip(self.convolutions[:-1], self.activations[:-1]):
            x = activation(convolution(x))
        return self.activations[-1](self.convolutions[-1](x) + shortcut)


class VNet(nn.Module):
    """Three levels of 8, 16, 32 channels with 1, 2, 3 convolutions. Nothing is pooled: strided convolutions go down.

    x: (N, D, H, W, 1), D, H, W multiples of 4 -> logits (N, D, H, W, 3).
    """

    def __init__(self, base: int = 8) -> None:
        a, b, c = base, 2 * base, 4 * base
        self.left1, self.left2, self.bottom = ResidualStage(1, a, 1), ResidualStage(b, b, 2), ResidualStage(c, c, 3)
        self.down2 = nn.Sequential(nn.Conv3d(a, b, 2, stride=2), nn.PReLU(b))
        self.down3 = nn.Sequential(nn.Conv3d(b, c, 2, stride=2), nn.PReLU(c))
        self.up2 = nn.Sequential(nn.ConvTranspose3d(c, b, 2, stride=2), nn.PReLU(b))
        self.up1 = nn.Sequential(nn.ConvTranspose3d(b, a, 2, stride=2), nn.PReLU(a))
        self.right2, self.right1 = ResidualStage(2 * b, b, 2), ResidualStage(2 * a, a, 1)
        self.head = nn.Conv3d(a, CLASSES, 1, init=nn.init.glorot_uniform)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        fine = self.left1(x, shortcut=x)  # the one channel is added to each of the 8
        half = self.down2(fine)
        half = self.left2(half, shortcut=half)
        y = self.down3(half)
        y = self.bottom(y, shortcut=y)
        y = self.up2(y)
        y = self.right2(tn.concat([y, half], axis=-1), shortcut=y)
        y = self.up1(y)
        y = self.right1(tn.concat([y, fine], axis=-1), shortcut=y)
        return self.head(y)


# ---------------------------------------------------------------------------------------- 3-D U-Net
def level(c_in: int, c: int) -> nn.Sequential:
    """One level of the 3-D U-Net, as on the slide of the 2-D one."""
    return nn.Sequential(nn.Conv3d(c_in, c, 3, padding=1), nn.ReLU(), nn.Conv3d(c, c, 3, padding=1), nn.ReLU())


class UNet3d(nn.Module):
    """Three levels of 8, 16, 32 channels: max-pooling goes down, a skip connection joins the levels. As `VNet`."""

    def __init__(self, base: int = 8) -> None:
        a, b, c = base, 2 * base, 4 * base
        self.down1, self.down2, self.bottom = level(1, a), level(a, b), level(b, c)
        self.up2, self.merge2 = nn.ConvTranspose3d(c, b, 2, stride=2), level(2 * b, b)
        self.up1, self.merge1 = nn.ConvTranspose3d(b, a, 2, stride=2), level(2 * a, a)
        self.pool = nn.MaxPool3d(2)
        self.head = nn.Conv3d(a, CLASSES, 1, init=nn.init.glorot_uniform)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        fine = self.down1(x)
        half = self.down2(self.pool(fine))
        y = self.bottom(self.pool(half))
        y = self.merge2(tn.concat([self.up2(y), half], axis=-1))
        y = self.merge1(tn.concat([self.up1(y), fine], axis=-1))
        return self.head(y)


# ---------------------------------------------------------------------------------------- the losses
def dice_loss(logits: tn.Tensor, labels: tn.Tensor) -> tn.Tensor:
    """V-Net's loss: 1 - 2 sum(p t) / (sum(p^2) + sum(t^2)), the mean over the classes; sums over all voxels.

    A class counts the same whether it is large or small. logits: (N, D, H, W, 3). labels: (N, D, H, W), integers.
    """
    return tn.softmax_dice_loss(logits, labels, squared=True)


def cross_entropy(logits: tn.Tensor, labels: tn.Tensor) -> tn.Tensor:
    """The mean over all voxels: of 40 voxels, 39 are background."""
    return tn.softmax_cross_entropy(logits, labels)


RUNS: dict[str, tuple[type[nn.Module], Callable]] = {  # name of the folder -> (net, loss)
    "vnet": (VNet, dice_loss),
    "vnet_cross_entropy": (VNet, cross_entropy),
    "unet3d": (UNet3d, dice_loss),
}


# ---------------------------------------------------------------------------------------- training
CROP = np.array((40, 56, 40))  # voxels; no hippocampus of the set is larger than 35 x 48 x 27


class RandomCrops:
    """The training set: crops at random places of the padded volumes. So the organ shifts, and a step costs 0.6."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        shape = np.array(labels.shape[1:])
        self.size = shape * CROP // (48, 64, 48) // 4 * 4

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(image, labels) of one crop."""
        start = rng.integers(0, np.array(self.labels.shape[1:]) - self.size + 1)
        z, y, x = (slice(first, first + size) for first, size in zip(start, self.size))
        return self.images[index, z, y, x], self.labels[index, z, y, x].astype(np.int64)


def train(name: str, data: Data, config: Config) -> nn.Module:
    """One of RUNS: the net with the weights that had the best Dice on the validation volumes."""
    net, loss = RUNS[name]
    tn.seed(config.seed)
    model = net().to(tn.device())
    loader = DataLoader(RandomCrops(*data.training), config.batch_size, seed=config.seed)
    steps = config.epochs * len(loader)
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = optim.CosineDecay(optimizer, steps, warmup=min(50, steps // 10), floor=0.01)

    def validate() -> dict[str, float]:
        scores = dice_scores(probabilities(model, data.validation[0]), data.validation[1]).mean(axis=0)
        return {"val_dice": scores.mean(), "val_dice_anterior": scores[0], "val_dice_posterior": scores[1]}

    print(f"\n{name}: {sum(p.size for p in model.parameters()):,} parameters", flush=True)
    trainer = tn.train.Trainer(
        model,
        optimizer,
        lambda images, labels: loss(model(images), labels),
        Path(config.out) / name,
        schedule=schedule,
        max_norm=2.0,
        settings=config,
    )
    trainer.fit(loader, config.epochs, validate, ("val_dice", "max"), resume=config.resume, runs=len(RUNS))
    tn.io.load_weights(Path(config.out) / name / "best.npz", model)
    return model.eval()


def probabilities(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """The probability of each class: float32 (N, D, H, W, 3). The net sees whole volumes, two at a time."""
    return nn.predict(lambda x: tn.softmax(model(x)), images, batch=2)


def dice_scores(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Dice of the anterior and of the posterior part of each volume, (N, 2). found: as `probabilities` returns."""
    return np.array([metrics.class_dice(true, p.argmax(axis=-1), CLASSES) for true, p in zip(labels, found)])


# ---------------------------------------------------------------------------------------- the label atlas
ATLAS_SHAPE = (36, 50, 36)  # about the mean size of the volumes
LEVELS = (0.5, 0.6, 0.7)  # one is chosen on the training volumes


def label_atlas(volumes: list[Volume]) -> np.ndarray:
    """How often each class is at each place, once all volumes have one size: float32 (*ATLAS_SHAPE, 3)."""
    return np.mean([resized(one_hot(volume.labels), ATLAS_SHAPE) for volume in volumes], axis=0)


def atlas_scores(atlas: np.ndarray, volumes: list[Volume], level: float) -> np.ndarray:
    """Dice of a guess without any image, (N, 2): a part where the background is rarer than `level` in the atlas."""
    scores = []
    for volume in volumes:
        frequency = resized(atlas, volume.labels.shape)
        guess = np.where(frequency[..., 0] < level, 1 + frequency[..., 1:].argmax(axis=-1), 0)
        scores.append(metrics.class_dice(volume.labels, guess, CLASSES))
    return np.array(scores)


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Class numbers (...) -> float32 (..., CLASSES), 1 at the class."""
    return np.eye(CLASSES, dtype=np.float32)[labels]


def resized(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A volume (D, H, W, C) in another size."""
    return tn.resize3d(tn.tensor(volume[None]).to(tn.device()), shape).numpy()[0]


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Data:
    """The images (N, D, H, W, 1) and labels (N, D, H, W) of each part, and the volumes that are not padded."""

    training: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    training_volumes: list[Volume]
    test_volumes: list[Volume]


def prepare(training: list[Volume], test: list[Volume], config: Config) -> Data:
    """Stack the volumes; set a ninth of the training volumes aside for validation (20 of 180)."""
    order = np.random.default_rng(config.seed).permutation(len(training))
    training = [training[i] for i in order]
    count = max(1, len(training) // 9)
    every = np.s_[:, :: config.thinning, :: config.thinning, :: config.thinning]
    fit, validation, held_out = (
        tuple(array[every] for array in stack_volumes(part)) for part in (training[count:], training[:count], test)
    )
    return Data(fit, validation, held_out, training, test)


@dataclass
class Config(TrainingOptions):
    out: str = option("out/vnet_hippocampus", "folder for the figures, and a folder for each net")
    data: str | None = option(None, "Task04_Hippocampus.tar, its folder, or 'synthetic' (default: as TINYNET_DATA)")
    epochs: int = option(10, "passes over the training volumes", quick=1)
    volumes: int | None = option(None, "number of training volumes (default: all)", quick=40)
    thinning: int = option(1, "use every n-th voxel along each axis: n = 2 is eight times as fast", quick=2)
    batch_size: int = option(2, "crops in a step", quick=1)
    lr: float = option(3e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    weight_decay: float = option(1e-4, "decoupled weight decay")
    frames: int = option(36, "frames of the rotating surface", quick=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "frames", "batch_size")
        self.at_least(2, "volumes")  # one to learn from, one to choose the epoch
        if self.thinning not in (1, 2, 4):
            raise ValueError(f"--thinning is {self.thinning}; it must be 1, 2 or 4, because the nets halve twice")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train the three nets; compare them and the label atlas on the held-out volumes."""
    counts = (40, 2) if config.quick else (24, 8)
    training, test, source = hippocampus_or_synthetic(config.data, config.seed, counts, synthetic=config.quick)
    data = prepare(training[: config.volumes], test, config)
    print_settings(config, VNet(), source=source)

    atlas = label_atlas(data.training_volumes)
    level = max(LEVELS, key=lambda level: atlas_scores(atlas, data.training_volumes, level).mean())
    scores = {"label atlas": atlas_scores(atlas, data.test_volumes, level)}
    found = {}
    for name in RUNS:
        model = train(name, data, config)
        found[name] = probabilities(model, data.test[0])
        scores[name] = dice_scores(found[name], data.test[1])

    results = measured(scores)
    predicted = found["vnet"].argmax(axis=-1)
    spacing = [np.array(volume.spacing) * config.thinning for volume in data.test_volumes]
    for label, part in enumerate(PARTS[1:], start=1):
        pairs = zip(data.test[1] == label, predicted == label, spacing)
        results[f"distance_{part}_mm"] = float(np.mean([metrics.surface_distance(*pair) for pair in pairs]))
    results["memory_gb"] = peak_memory()
    expected = EXPECTED if source.startswith("hippocampus") else {}

    median = scores["vnet"].mean(axis=1).argsort()[len(test) // 2]
    surfaces = draw_surfaces(data.test[1][median], found["vnet"][median])
    viz.save_gif(Path(config.out) / "surface.gif", viz.rotation(surfaces, config.frames))
    print(f"\nthe median volume, rotating: {config.out}/surface.gif")
    figures = {
        "planes.png": draw_planes(data, predicted, scores["vnet"]),
        "dice.png": draw_dice(scores, config),
    }
    return report(config, results, expected, figures, NEXT)


def measured(scores: dict[str, np.ndarray]) -> dict[str, float]:
    """The mean Dice of each method and part, by name."""
    return {
        f"{method.replace(' ', '_')}_{part}": float(of_part.mean())
        for method, table in scores.items()
        for part, of_part in zip(PARTS[1:], table.T)
    }


def peak_memory() -> float:
    """The most memory that this process held so far, in GB; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


# ---------------------------------------------------------------------------------------- figures
PART_COLORS = (viz.ORANGE, viz.SKY)
LABELS = {"label atlas": "label atlas,\nno image", "vnet": "V-Net, Dice", "vnet_cross_entropy": "V-Net,\ncross-entropy"}
LABELS["unet3d"] = "3-D U-Net,\nDice"


def draw_planes(data: Data, predicted: np.ndarray, scores: np.ndarray) -> viz.Figure:
    """Three planes through the organ of the median and of the worst volume: truth and the V-Net's answer."""
    from matplotlib.lines import Line2D

    order = scores.mean(axis=1).argsort()
    figure = viz.new_figure(9, 6.6)
    for part, (name, i) in zip(figure.subfigures(2, 1), {"median": order[len(order) // 2], "worst": order[0]}.items()):
        image, true = data.test[0][i, ..., 0], data.test[1][i]
        center = tuple(np.argwhere(true > 0).mean(axis=0).astype(int))
        axes = part.subplots(1, 3)
        viz.draw_planes(
            axes, image, [(true, "-"), (predicted[i], "--")], center, data.test_volumes[i].spacing, PART_COLORS
        )
        anterior, posterior = scores[i]
        part.suptitle(
            f"{name} of {len(scores)} held-out volumes: Dice {anterior:.3f} anterior, {posterior:.3f} posterior"
        )
    handles = [
        Line2D([], [], color=viz.mpl(color), linestyle=style, label=f"{part_name}, {kind}")
        for part_name, color in zip(PARTS[1:], PART_COLORS)
        for kind, style in (("truth", "-"), ("V-Net", "--"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def draw_dice(scores: dict[str, np.ndarray], config: Config) -> viz.Figure:
    """Left: Dice of each held-out volume by method. Right: Dice on the validation volumes while training."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(11, 4.6), width_ratios=(1.5, 1))
    rng = np.random.default_rng(0)
    for column, table in enumerate(scores.values()):
        for side, color in enumerate(PART_COLORS):
            x = column + 0.36 * (side - 0.5)
            left.plot(x + rng.uniform(-0.1, 0.1, len(table)), table[:, side], ".", color=viz.mpl(color), alpha=0.5)
            left.plot([x - 0.15, x + 0.15], [table[:, side].mean()] * 2, color="k", linewidth=2)
            left.annotate(f"{table[:, side].mean():.3f}", (x, 1.0), ha="center", va="bottom", fontsize=8)
    for published, color, part in zip(NNUNET, PART_COLORS, PARTS[1:]):
        left.axhline(published, color=viz.mpl(color), linestyle=":", label=f"{part}; dotted: nnU-Net {published}")
    left.set_xticks(range(len(scores)), [LABELS[method] for method in scores])
    left.set(ylabel="Dice", ylim=(0.3, 1.04))
    left.set_title(f"{len(table)} held-out volumes, a dot each", fontsize=10)
    left.legend(fontsize=8, loc="lower right")
    for name, color in zip(RUNS, (viz.BLUE, viz.VERMILLION, viz.GREEN)):
        rows = np.genfromtxt(Path(config.out) / name / "metrics.csv", delimiter=",", names=True)
        right.plot(
            np.atleast_1d(rows["epoch"]), np.atleast_1d(rows["val_dice"]), "o-", markersize=3, color=viz.mpl(color),
            label=LABELS[name].replace("\n", " "),
        )  # fmt: skip
    right.set(xlabel="epoch", ylabel="mean Dice, validation volumes")
    right.grid(alpha=0.3)
    right.legend(fontsize=8)
    return figure


def draw_surfaces(true: np.ndarray, maps: np.ndarray) -> viz.Figure:
    """The surfaces of both parts, as in the labels (D, H, W) and as the V-Net finds them, maps (D, H, W, 3)."""
    figure = viz.new_figure(7.2, 3.9)
    for panel, of_panel, title in zip(
        figure.subplots(1, 2, subplot_kw={"projection": "3d"}), (one_hot(true), maps), ("truth", "V-Net")
    ):
        viz.draw_surfaces(panel, of_panel, PART_COLORS)
        panel.set_title(title)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Volumes: V-Net and 3-D U-Net"
DATA = "hippocampus MR volumes (Medical Segmentation Decathlon, task 4), 180 to train on, 40 held out"
FILES = ("hippocampus/Task04_Hippocampus.tar",)
NNUNET = (0.895, 0.876)  # anterior, posterior: nnU-Net's published Dice, on other volumes of the set
EXPECTED = {"vnet_anterior": (0.84, None), "vnet_posterior": (0.82, None), "memory_gb": (None, 3)}
PICTURE = "dice.png"
NEXT = "python examples/volumes/cascade.py"


if __name__ == "__main__":
    run(main)
