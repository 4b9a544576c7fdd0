"""VoxelMorph: a net registers two volumes in one pass, and has learned it without a single label.

    python examples/registration/voxelmorph.py                          # train, then register the held-out pairs
    python examples/registration/voxelmorph.py --epochs 5 --direct 5    # a third of the training

To register is to find, for each voxel of a fixed volume, its place in a moving volume: a displacement field. The
classical way improves the field of every new pair step by step, until the volumes look alike. VoxelMorph learns a
function that looks at both volumes and outputs the field:

    moving, fixed  --3-D U-Net-->  displacement  --tn.warp-->  moved volume,  compared with the fixed one

The loss is the loss of the classical way: how unlike the two volumes are (correlation in small windows, which does not
depend on brightness and contrast) plus how rough the field is. It needs no labels and no true fields. The warp is
differentiable, so gradients of the loss reach the net through it.

- **Data**: MR volumes of the hippocampus of different people. At the start, the middles of the two cutouts lie on each
  other. No labels are used for that, but the cutouts were made around the labeled organ.
- **Measurement**: labels of the moving volume are warped (each part as a mask, linear interpolation, the largest value
  wins) and compared with the labels of the fixed volume. Forty volumes are held out; each is registered to the next in
  the list. The loss of twenty training volumes chooses the epoch.
- **Result** (one seed): Dice of the anterior and posterior part rises from .54 / .52 to .71 / .68 with the net, and to
  .65 / .67 with gradient descent on each pair, which takes 1.7 seconds; the net takes 0.01. Where the start is good,
  both do about equally well. Where the two organs hardly overlap, gradient descent gets stuck at a wrong edge; the net
  has seen many other pairs and gets farther (dice.png).
- **Folds**: where the Jacobian determinant of the field is 0 or less, tissue is turned inside out: in 0.8 % of the
  voxels with the net, in 3.2 % with gradient descent. Window and smoothness were chosen on training pairs. There, half
  the smoothness makes three times as many folds and a lower Dice; twice the smoothness makes a lower Dice, too.

What differs from the paper: the net predicts the field at half the resolution, which costs an eighth; windows of 7
voxels for 9; voxels outside of the fixed cutout do not count. The run needs 0.6 GB of memory.

Sources: Balakrishnan, Zhao, Sabuncu, Guttag, Dalca, An unsupervised learning model for deformable medical image
registration, CVPR 2018; the same with more experiments: VoxelMorph, IEEE TMI 38(8), 2019. Data: Antonelli et al., The
Medical Segmentation Decathlon, Nature Communications 13, 2022, task 4.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataError, DataLoader, Volume, deformed_volumes
from tinynet.data.volumes import PARTS, SHAPE, hippocampus_or_synthetic, pad_or_crop, stack_volumes
from tinynet.tools.cli import TrainingOptions, command_line, option, print_settings, report, run


# ---------------------------------------------------------------------------------------- the net
def convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """A convolution 3 x 3 x 3; stride 2 halves depth, height and width."""
    return nn.Sequential(nn.Conv3d(channels_in, channels_out, 3, stride=stride, padding=1), nn.LeakyReLU(0.2))


class RegistrationNet(nn.Module):
    """A 3-D U-Net that predicts at half the resolution; a smooth displacement needs no more.

    width: channels at half the resolution, twice as many below.
    """

    def __init__(self, width: int = 16) -> None:
        self.down1 = convolution(2, width, stride=2)
        self.down2 = convolution(width, 2 * width, stride=2)
        self.down3 = convolution(2 * width, 2 * width, stride=2)
        self.bottom = convolution(2 * width, 2 * width, stride=2)
        self.up3 = convolution(4 * width, 2 * width)
        self.up2 = convolution(4 * width, 2 * width)
        self.up1 = convolution(3 * width, width)
        self.last = convolution(width, width)
        # Small initial weights: training begins with almost no displacement.
        self.head = nn.Conv3d(width, 3, 3, padding=1)
        self.head.weight.data *= 0.01

    def forward(self, moving: tn.Tensor, fixed: tn.Tensor) -> tn.Tensor:
        """The displacement (N, D, H, W, 3) in voxels that warps `moving` (N, D, H, W, 1) onto `fixed`."""
        if moving.shape != fixed.shape:
            raise ValueError(
                f"RegistrationNet: moving has shape {moving.shape}, fixed has {fixed.shape}; pad both to one shape, "
                "for example with `tinynet.data.pad_or_crop`"
            )
        d1 = self.down1(tn.concat([moving, fixed], axis=-1))
        d2 = self.down2(d1)
        d3 = self.down3(d2)
        y = self.bottom(d3)
        for layer, skip in ((self.up3, d3), (self.up2, d2), (self.up1, d1)):
            y = layer(tn.concat([tn.resize3d(y, skip.shape[1:4], mode="nearest"), skip], axis=-1))
        return tn.resize3d(self.head(self.last(y)), moving.shape[1:4])


# ---------------------------------------------------------------------------------------- the loss
def registration_loss(
    moving: tn.Tensor, fixed: tn.Tensor, inside: tn.Tensor, displacement: tn.Tensor, config: Config
) -> tn.Tensor:
    """How unlike the warped and the fixed volume are, plus how rough the displacement is. No labels occur in it.

    inside (N, D, H, W, 1): 1 where the fixed volume was measured, 0 where it was padded.
    """
    moved = tn.warp(moving, displacement)  # beyond its border the moving volume goes on with its outermost voxels
    dissimilarity = tn.ncc_loss(moved * inside, fixed * inside, window=config.window)
    return dissimilarity + config.smoothness * roughness(displacement)


def roughness(displacement: tn.Tensor) -> tn.Tensor:
    """The mean squared difference between neighbors, summed over the three axes."""
    d = displacement
    steps = (d[:, 1:] - d[:, :-1], d[:, :, 1:] - d[:, :, :-1], d[:, :, :, 1:] - d[:, :, :, :-1])
    return sum((step * step).mean() for step in steps)


# ---------------------------------------------------------------------------------------- the data
@dataclass
class Scans:
    """Volumes of one shape with their middles on top of each other.

    images: float32 (N, D, H, W, 1). labels: uint8 (N, D, H, W), used to measure, never to train. inside: float32
    (N, D, H, W, 1), 0 where a volume was padded.
    """

    images: np.ndarray
    labels: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, volumes: list[Volume], shape: tuple[int, ...]) -> Scans:
        images, labels = stack_volumes(volumes, shape)
        inside = np.stack([pad_or_crop(np.ones(volume.image.shape, np.float32), shape) for volume in volumes])
        return cls(images, labels, inside[..., None])

    def __len__(self) -> int:
        return len(self.images)

    def neighbors(self) -> list[tuple[int, int]]:
        """A fixed list of pairs (moving, fixed): each volume onto the next, the last one onto the first."""
        return [(i, (i + 1) % len(self)) for i in range(len(self))]

    def pair(self, moving: int, fixed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(moving image, fixed image, inside of the fixed one)."""
        return self.images[moving], self.images[fixed], self.inside[fixed]


def load(config: Config) -> tuple[list[Volume], list[Volume], str]:
    """(training volumes, held-out volumes, their description)."""
    training, held_out, source = hippocampus_or_synthetic(config.data, config.seed, (12, 4), config.quick)
    if source.startswith("synthetic"):  # drawings with a texture of their own each have nothing to register
        rng = np.random.default_rng(config.seed)
        training, held_out = (deformed_volumes(training[0], rng, len(part)) for part in (training, held_out))
        source = f"deformed copies of one drawing, in place of {source}"
    if len(training) < 4 or len(held_out) < 2:
        found = f"{len(training)} volumes to train on and {len(held_out)} held out (by their names)"
        raise DataError(f"{config.data or 'TINYNET_DATA'}: {found}; at least 4 and 2 are needed, to make pairs of them")
    return training, held_out, source


@dataclass
class RandomPairs:
    """`count` pairs in an epoch, drawn anew in each: of 160 volumes one can make 25,440 ordered pairs."""

    scans: Scans
    count: int

    def __len__(self) -> int:
        return self.count

    def item(self, _: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        moving, fixed = rng.choice(len(self.scans), 2, replace=False)
        return self.scans.pair(moving, fixed)


# ---------------------------------------------------------------------------------------- registering a pair
Pair = tuple[np.ndarray, np.ndarray, np.ndarray]


def register(model: RegistrationNet, pair: Pair) -> np.ndarray:
    """The displacement (D, H, W, 3) of a pair: one pass through the net."""
    moving, fixed, _ = as_batch(pair)
    with tn.no_grad():
        return model(moving, fixed).numpy()[0]


def optimize(pair: Pair, config: Config) -> np.ndarray:
    """The displacement (D, H, W, 3) of a pair, found without a net: gradient descent on the same loss.

    The unknowns are the displacements at half the resolution, as many as the net predicts.
    """
    moving, fixed, inside = as_batch(pair)
    half = [-(-size // 2) for size in moving.shape[1:4]]
    unknowns = tn.zeros((1, *half, 3)).to(tn.device())
    unknowns.requires_grad = True
    optimizer = optim.Adam([unknowns], config.direct_lr)
    for _ in range(config.direct_steps):
        displacement = tn.resize3d(unknowns, moving.shape[1:4])
        loss = registration_loss(moving, fixed, inside, displacement, config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return displacement.numpy()[0]


def as_batch(arrays: tuple[np.ndarray, ...]) -> list[tn.Tensor]:
    """Each array as a batch of one, on the device of the backend."""
    return [tn.tensor(array[None]).to(tn.device()) for array in arrays]


def warped(volume: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """A volume (D, H, W, C) after the warp."""
    return tn.warp(*as_batch((volume, displacement))).numpy()[0]


def warp_labels(labels: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """uint8 (D, H, W): the mask of each part is warped with linear interpolation, and the largest value wins."""
    masks = np.eye(len(PARTS), dtype=np.float32)[labels]
    return warped(masks, displacement).argmax(axis=-1).astype(np.uint8)


def measure(scans: Scans, pairs: list[tuple[int, int]], displacements: list[np.ndarray]) -> np.ndarray:
    """float64 (pairs, 3): Dice of the anterior and of the posterior part, share of folded voxels."""
    rows = []
    for (moving, fixed), displacement in zip(pairs, displacements):
        labels = warp_labels(scans.labels[moving], displacement)
        dice = metrics.class_dice(scans.labels[fixed], labels, len(PARTS))
        rows.append([*dice, metrics.folded_share(displacement)])
    return np.array(rows)


# ---------------------------------------------------------------------------------------- training
def train(model: RegistrationNet, training: Scans, watched: Scans, config: Config) -> None:
    """Train on random pairs; leave the weights with the lowest loss on the watched pairs in the model."""
    loader = DataLoader(RandomPairs(training, config.pairs), 1, seed=config.seed)
    optimizer = optim.Adam(model.parameters(), config.lr)
    steps = config.epochs * len(loader)
    schedule = optim.CosineDecay(optimizer, steps, warmup=min(20, steps // 10), floor=0.01)

    def loss(moving: tn.Tensor, fixed: tn.Tensor, inside: tn.Tensor) -> tn.Tensor:
        return registration_loss(moving, fixed, inside, model(moving, fixed), config)

    def validate() -> dict[str, float]:
        pairs = watched.neighbors()
        losses = [loss(*as_batch(watched.pair(*pair))).item() for pair in pairs]
        scores = measure(watched, pairs, [register(model, watched.pair(*pair)) for pair in pairs]).mean(axis=0)
        return {"val_loss": float(np.mean(losses)), "anterior": float(scores[0]), "posterior": float(scores[1])}

    trainer = tn.train.Trainer(model, optimizer, loss, config.out, schedule=schedule, settings=config)
    trainer.fit(loader, config.epochs, validate, resume=config.resume)
    tn.io.load_weights(Path(config.out) / "best.npz", model)
    model.eval()


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(TrainingOptions):
    out: str = option("out/voxelmorph", "folder for checkpoints, metrics and figures", quick="out/voxelmorph_quick")
    data: str | None = option(None, "Task04_Hippocampus.tar, its folder or 'synthetic' (default: TINYNET_DATA, cache)")
    shape: tuple[int, ...] = option(SHAPE, "voxels (z, y, x) of the padded volumes", nargs=3, quick=(24, 32, 24))
    width: int = option(16, "channels of the net at half the resolution", quick=8)
    epochs: int = option(15, "epochs of --pairs pairs", quick=2)
    pairs: int = option(250, "random pairs per epoch, one per step", quick=30)
    lr: float = option(2e-3, "highest learning rate (Adam; warm-up, then a cosine)", quick=5e-3)
    window: int = option(7, "side of the correlation windows in voxels, odd")
    smoothness: float = option(0.2, "weight of the roughness of the displacement in the loss")
    direct: int = option(40, "so many of the held-out pairs are also registered without the net", quick=1)
    direct_steps: int = option(120, "steps of gradient descent for such a pair", quick=5)
    direct_lr: float = option(0.3, "learning rate (Adam) for such a pair: about the voxels a step moves")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "width", "pairs", "direct", "direct_steps")
        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"--window is {self.window}; an odd number from 3 on is needed")
        if min(self.shape) < 2:
            raise ValueError(f"--shape is {self.shape}; at least 2 voxels along each axis are needed")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train on random pairs; register the held-out pairs with the net, and some of them without; return the scores."""
    training, held_out, source = load(config)
    watched = max(2, len(training) // 9)  # to watch the training with: the net does not learn from them
    tn.seed(config.seed)
    model = RegistrationNet(config.width).to(tn.device())
    print_settings(config, model, source=source, training_volumes=len(training) - watched, watched_volumes=watched)
    train(model, Scans.of(training[watched:], config.shape), Scans.of(training[:watched], config.shape), config)

    scans = Scans.of(held_out, config.shape)
    pairs = scans.neighbors()
    methods = {"net": lambda pair: register(model, pair), "direct": lambda pair: optimize(pair, config)}
    register(model, scans.pair(*pairs[0]))  # kernels compile once; this takes no part in the measured time
    found, seconds = {}, {}
    for name, method in methods.items():
        started = time.perf_counter()
        of_method = pairs if name == "net" else pairs[: config.direct]
        found[name] = [method(scans.pair(*pair)) for pair in of_method]
        seconds[name] = (time.perf_counter() - started) / len(of_method)
    return finish(config, scans, found, seconds, source)


def finish(
    config: Config, scans: Scans, found: dict[str, list[np.ndarray]], seconds: dict[str, float], source: str
) -> dict[str, float]:
    """Measure all displacements, print the table, draw the figures."""
    pairs = scans.neighbors()
    unmoved = [np.zeros((*config.shape, 3), np.float32)] * len(pairs)
    scores = {name: measure(scans, pairs, fields) for name, fields in {"before": unmoved, **found}.items()}
    print_table(scores, seconds)
    means = {name: of_method.mean(axis=0) for name, of_method in scores.items()}
    results = {f"{part}_{name}": means[name][k] for name in means for k, part in enumerate(PARTS[1:])}
    results |= {f"folded_{name}": means[name][2] for name in found}
    results |= {f"seconds_{name}": seconds[name] for name in found}
    typical = int(np.argsort(scores["net"][:, :2].mean(axis=1))[len(pairs) // 2])  # neither the best nor the worst
    figures = {
        "registration.png": draw_pair(scans, pairs[typical], found["net"][typical]),
        "dice.png": draw_dice(scores),
    }
    results = {name: float(value) for name, value in results.items()}
    return report(config, results, EXPECTED if source.startswith("hippocampus") else {}, figures, NEXT)


NAMES = {"before": "middles on each other", "net": "the net", "direct": "gradient descent on the pair"}


def print_table(scores: dict[str, np.ndarray], seconds: dict[str, float]) -> None:
    """The means over all held-out pairs, and over those that were registered without the net as well."""
    few = len(scores["direct"])
    rows = []
    for pairs in dict.fromkeys((len(scores["net"]), few)):
        for name, of_method in scores.items():
            if len(of_method) >= pairs:
                anterior, posterior, folded = of_method[:pairs].mean(axis=0)
                row = {"pairs": pairs, "registration": NAMES[name], "anterior": anterior, "posterior": posterior}
                rows.append(row | {"folded, %": 100 * folded, "seconds": seconds.get(name, 0.0)})
    print(f"\nDice on held-out pairs\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- figures
def draw_pair(scans: Scans, pair: tuple[int, int], displacement: np.ndarray) -> viz.Figure:
    """One slice of a pair before and after: the images, a checkerboard of both, the outlines, the warped grid."""
    moving, fixed = pair
    x = int(np.argmax((scans.labels[fixed] > 0).sum(axis=(0, 1))))  # the sagittal slice with most of the hippocampus
    images = {"before": scans.images[moving], "after": warped(scans.images[moving], displacement)}
    labels = {"before": scans.labels[moving], "after": warp_labels(scans.labels[moving], displacement)}
    target, target_labels = scans.images[fixed][:, :, x, 0], scans.labels[fixed][:, :, x]

    figure, panels = viz.subplots(2, 4, figsize=(14, 6))
    show = {"cmap": "gray", "vmin": -2, "vmax": 3, "origin": "lower"}  # z goes up
    for row, when in zip(panels, images):
        image = images[when][:, :, x, 0]
        row[0].imshow(image, **show)
        row[0].set_title(f"moving volume, {when}")
        row[1].imshow(viz.checkerboard(image, target, squares=6), **show)
        row[1].set_title(f"moving and fixed in squares, {when}", fontsize=11)
        row[2].imshow(target, **show)
        for part, color in ((1, viz.ORANGE), (2, viz.SKY)):
            row[2].contour(target_labels == part, [0.5], colors="w", linewidths=1)
            row[2].contour(labels[when][:, :, x] == part, [0.5], colors=[viz.mpl(color)])
        row[2].set_title(f"parts of moving; of fixed: white, {when}", fontsize=11)
    panels[0, 3].imshow(target, **show)
    panels[0, 3].set_title("fixed volume")
    viz.draw_warped_grid(panels[1, 3], displacement[:, :, x, :2])
    panels[1, 3].set_title("grid of moving, after")
    for panel in panels.flat:
        panel.axis("off")
    return figure


def draw_dice(scores: dict[str, np.ndarray]) -> viz.Figure:
    """Dice of each held-out pair: before on the horizontal axis, after on the vertical axis."""
    figure, panels = viz.subplots(1, 2, figsize=(10, 5))
    for k, (axes, part) in enumerate(zip(panels, PARTS[1:])):
        axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
        for name, marker, color in (("net", "o", viz.BLUE), ("direct", "x", viz.VERMILLION)):
            after = scores[name][:, k]
            axes.plot(scores["before"][: len(after), k], after, marker, color=viz.mpl(color), label=NAMES[name])
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=f"{part} part")
        axes.set(xlabel="Dice before registration", ylabel="Dice after registration")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Registration with a learned displacement field: VoxelMorph"
DATA = "220 MR volumes of the hippocampus (Medical Segmentation Decathlon), 40 of them held out"
FILES = ("hippocampus/Task04_Hippocampus.tar",)
EXPECTED = {
    "anterior_before": (0.54, 0.545),
    "posterior_before": (0.515, 0.52),
    "anterior_net": (0.70, None),
    "posterior_net": (0.66, None),
    "folded_net": (None, 0.02),
}
PICTURE = "dice.png"
NEXT = "python examples/unsupervised/rbm.py"


if __name__ == "__main__":
    run(main)
