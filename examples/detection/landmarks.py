"""Landmarks in a volume: three ways for a net to say where something is.

    python examples/detection/landmarks.py

A landmark is a point that has a meaning. Here there are two: the centers of the anterior and of the posterior part of
the hippocampus, computed from the labels. The net sees a crop of 32 x 32 x 32 voxels at a random place of the volume,
so the landmarks are somewhere else in every crop, and some of them are outside. Three ways to find them:

- **Coordinates**: convolutions, then linear layers that return six numbers. A linear layer knows nothing of shifts: it
  has to learn each place of the landmark separately.
- **Heatmaps**: a fully convolutional net returns a map of each landmark. The target is a Gaussian around the landmark,
  and the answer is the voxel with the largest value. Nearly all voxels of the target are almost 0. Without the instance
  norm in its layers, the net says 0 everywhere for hundreds of steps.
- **Soft-argmax** (integral regression): the same net, but a softmax turns each map into a distribution, whose mean is
  the answer. The mean has a derivative, so the distance itself is the loss. No width of a Gaussian has to be chosen,
  and the answer may lie between voxels.

**A missing landmark** (a volume without that part, or a crop beside it) has no position. It adds nothing to the loss
and to the errors of positions; its heatmap is 0 everywhere. So a heatmap can tell: a low peak means "not here". The
other two nets always give a position, and only a person sees that it is wrong.

Mean errors in voxels (of 1 mm) in 200 crops of 40 held-out volumes, three runs, and two guesses that look at no tissue:

    soft-argmax                     1.15 anterior    1.41 posterior
    heatmaps                        1.57             1.81
    coordinates                     3.66             3.95
    mean position in the volume     2.37             2.08
    mean position in the crop       7.79             8.37

The mean position in the volume knows where the crop lies. A net may learn that: the volumes were cut out around the
hippocampus, and a crop that reaches over the end of its volume shows zeros there. So only the first two nets have
certainly learned from the tissue. The coordinate net is also the least steady one: 2.4 voxels in one run, 4.2 to 4.8
in the others. From the height of the peaks, 89 % of the landmarks are rightly said to be in the crop or not (83 % are
in it), with an AUC of 0.92: many missing landmarks lie just outside, where much of the tissue around them is visible.
Distances in mm use the spacing of the volume. The settings were chosen with --validate.

Sources: Payer, Stern, Bischof, Urschler, Regressing heatmaps for multiple landmark localization using CNNs, MICCAI
2016; Sun, Xiao, Wei, Liang, Wei, Integral human pose regression, ECCV 2018 (soft-argmax); data: Antonelli et al. 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import Volume, hippocampus_or_synthetic, stack_volumes
from tinynet.data.volumes import PARTS, SHAPE
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

LANDMARKS = PARTS[1:]  # the centers of these parts


# ---------------------------------------------------------------------------------------- the nets
def conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 x 3 convolution, instance norm and ELU; with stride 2 it halves depth, height and width."""
    convolution = nn.Conv3d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.InstanceNorm(channels_out), nn.ELU())


class Encoder(nn.Module):
    """x: (N, S, S, S, 1) -> maps of 1/2, 1/4 and 1/8 of the size, with c, 2c and 4c channels."""

    def __init__(self, c: int) -> None:
        self.half = nn.Sequential(conv(1, c, stride=2), conv(c, c))
        self.quarter = nn.Sequential(nn.MaxPool3d(2), conv(c, 2 * c), conv(2 * c, 2 * c))
        self.eighth = nn.Sequential(nn.MaxPool3d(2), conv(2 * c, 4 * c), conv(4 * c, 4 * c))

    def forward(self, x: tn.Tensor) -> tuple[tn.Tensor, tn.Tensor, tn.Tensor]:
        half = self.half(x)
        quarter = self.quarter(half)
        return half, quarter, self.eighth(quarter)


class CoordinateNet(nn.Module):
    """x: (N, S, S, S, 1) -> positions (N, 2, 3) in voxels (z, y, x): a linear layer on all features."""

    def __init__(self, config: Config) -> None:
        c, self.size = config.channels, config.crop
        self.encoder = Encoder(c)
        features = 4 * c * (self.size // 8) ** 3
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(features, 64), nn.ELU(), nn.Linear(64, 3 * len(LANDMARKS)))

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        relative = self.head(self.encoder(x)[-1]).reshape(-1, len(LANDMARKS), 3)  # -1 to 1 inside the crop
        return (relative + 1) * ((self.size - 1) / 2)

    def loss(self, x: tn.Tensor, truth: np.ndarray) -> tn.Tensor:
        return coordinate_loss(self(x), truth, x.shape[1])

    def positions(self, images: np.ndarray) -> np.ndarray:
        return nn.predict(self, images, batch=20)


class HeatmapNet(nn.Module):
    """x: (N, S, S, S, 1) -> a map of each landmark: (N, S, S, S, 2). A small U-Net with sums as skip connections."""

    def __init__(self, config: Config) -> None:
        c, self.sigma = config.channels, config.sigma
        self.encoder = Encoder(c)
        self.up_quarter = nn.ConvTranspose3d(4 * c, 2 * c, 2, stride=2)
        self.at_quarter = conv(2 * c, 2 * c)
        self.up_half = nn.ConvTranspose3d(2 * c, c, 2, stride=2)
        self.at_half = conv(c, c)
        self.head = nn.ConvTranspose3d(c, len(LANDMARKS), 4, stride=2, padding=1)  # to whole resolution

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        half, quarter, eighth = self.encoder(x)
        quarter = self.at_quarter(self.up_quarter(eighth) + quarter)
        half = self.at_half(self.up_half(quarter) + half)
        return self.head(half)

    def loss(self, x: tn.Tensor, truth: np.ndarray) -> tn.Tensor:
        return heatmap_loss(self(x), heatmap_targets(truth, x.shape[1], self.sigma))

    def positions(self, images: np.ndarray) -> np.ndarray:
        return argmax_positions(nn.predict(self, images, batch=20))


class SoftArgmaxNet(nn.Module):
    """x: (N, S, S, S, 1) -> positions (N, 2, 3) in voxels: the heatmap net, then `soft_argmax`."""

    def __init__(self, config: Config) -> None:
        self.maps = HeatmapNet(config)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        return soft_argmax(self.maps(x))

    loss, positions = CoordinateNet.loss, CoordinateNet.positions  # only the net differs


METHODS = {"coordinates": CoordinateNet, "heatmaps": HeatmapNet, "soft_argmax": SoftArgmaxNet}


def soft_argmax(maps: tn.Tensor) -> tn.Tensor:
    """The mean position under the softmax of each map: (N, D, H, W, K) -> (N, K, 3), in voxels (z, y, x).

    The largest value has a position without a useful derivative; the mean position is differentiable everywhere.
    """
    n, *size, landmarks = maps.shape
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1).reshape(-1, 3)
    logits = maps.reshape(n, len(grid), landmarks).transpose(0, 2, 1)
    return tn.softmax(logits, axis=2) @ tn.tensor(grid.astype(maps.dtype)).to(maps.device)


def argmax_positions(maps: np.ndarray) -> np.ndarray:
    """The position of the largest value of each map: (N, D, H, W, K) -> float64 (N, K, 3), in voxels."""
    n, *size, landmarks = maps.shape
    places = maps.reshape(n, -1, landmarks).argmax(axis=1)
    return np.stack(np.unravel_index(places, size), axis=-1).astype(np.float64)


# ---------------------------------------------------------------------------------------- losses
def coordinate_loss(positions: tn.Tensor, truth: np.ndarray, size: int) -> tn.Tensor:
    """Mean squared error of the landmarks that are there, in units of half the crop.

    positions: (N, 2, 3); truth: (N, 2, 3), NaN for a missing landmark, which adds nothing to loss and gradient.
    """
    present = np.isfinite(truth)
    target, weight = (
        tn.tensor(array.astype(positions.dtype)).to(positions.device)
        for array in (np.where(present, truth, 0), present / (max(1, present.sum()) * (size / 2) ** 2))
    )
    return (((positions - target) ** 2) * weight).sum()


def heatmap_targets(truth: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """A Gaussian of height 1 around each landmark: (N, 2, 3) -> float32 (N, S, S, S, 2); zeros for a missing one."""
    steps = (np.arange(size) - np.nan_to_num(truth)[..., None]) ** 2  # (N, 2, axis, S)
    z, y, x = np.moveaxis(np.exp(-steps / (2 * sigma**2)), 2, 0)
    present = np.isfinite(truth).all(axis=2)
    maps = np.einsum("nkz,nky,nkx,nk->nzyxk", z, y, x, present, optimize=True)
    return np.ascontiguousarray(maps, dtype=np.float32)


def heatmap_loss(maps: tn.Tensor, targets: np.ndarray) -> tn.Tensor:
    """Squared error of the maps; about 1 for a net that says 0 everywhere, although most voxels of the target are 0."""
    target = tn.tensor(targets.astype(maps.dtype)).to(maps.device)
    return ((maps - target) ** 2).sum() / float(max(1e-6, (targets**2).sum()))


# ---------------------------------------------------------------------------------------- the data
@dataclass
class Crops:
    """images: float32 (N, S, S, S, 1). truth: (N, 2, 3), landmarks in voxels of the crop, NaN outside of it.

    corner: (N, 3), the first voxel of the crop. spacing: (N, 3), mm.
    """

    images: np.ndarray
    truth: np.ndarray
    corner: np.ndarray
    spacing: np.ndarray

    def errors(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances (N, 2) of positions (N, 2, 3) in voxels, and the same in mm; NaN for a missing landmark."""
        difference = positions - self.truth
        return np.linalg.norm(difference, axis=2), np.linalg.norm(difference * self.spacing[:, None], axis=2)


def part_centers(labels: np.ndarray) -> np.ndarray:
    """The mean position of the voxels of each part: (D, H, W) -> (2, 3) in voxels; NaN for a part that is missing."""
    voxels = [np.argwhere(labels == label) for label in range(1, len(PARTS))]
    return np.array([part.mean(axis=0) if len(part) else (np.nan,) * 3 for part in voxels])


class Dataset:
    """Volumes of one size, and the landmarks in them; `crops` cuts crops at random places."""

    def __init__(self, volumes: Sequence[Volume]) -> None:
        self.images, labels = stack_volumes(volumes)
        self.centers = np.array([part_centers(label) for label in labels])  # (N, 2, 3), voxels of the whole volume
        self.spacing = np.array([volume.spacing for volume in volumes])
        self.shape = np.array(self.images.shape[1:4])

    def crops(self, chosen: np.ndarray, size: int, shift: int, rng: np.random.Generator) -> Crops:
        """One crop of each chosen volume; its middle is within `shift` voxels of the volume's, along each axis."""
        corner = (self.shape - size) // 2 + rng.integers(-shift, shift + 1, (len(chosen), 3))
        images = [
            self.images[i, z : z + size, y : y + size, x : x + size] for i, (z, y, x) in zip(chosen, corner.tolist())
        ]
        truth = self.centers[chosen] - corner[:, None]
        outside = ((truth < 0) | (truth > size - 1)).any(axis=2, keepdims=True)
        return Crops(np.stack(images), np.where(outside, np.nan, truth), corner, self.spacing[chosen])


# ---------------------------------------------------------------------------------------- training
def train(method: str, training: Dataset, config: Config, seed: int) -> nn.Module:
    """The net of a method, trained on crops that are drawn anew in every step."""
    tn.seed(seed)
    rng = np.random.default_rng((seed, 1))
    model = METHODS[method](config).to(tn.device())
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-2)
    schedule = optim.CosineDecay(optimizer, config.steps, warmup=config.steps // 20)
    for _ in tqdm(range(config.steps), f"{method}, seed {seed}", leave=False, disable=None):
        chosen = rng.integers(0, len(training.images), config.batch_size)
        crops = training.crops(chosen, config.crop, config.shift, rng)
        loss = model.loss(tn.tensor(crops.images).to(tn.device()), crops.truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/landmarks", "folder for the figures")
    data: str | None = option(None, "Task04_Hippocampus.tar, its folder, or 'synthetic' (default: TINYNET_DATA)")
    steps: int = option(500, "training steps of each net", quick=40)
    batch_size: int = option(8, "crops in a step", quick=4)
    lr: float = option(1e-2, "highest learning rate (AdamW; warm-up, then a cosine)")
    crop: int = option(32, "voxels along each side of a crop, a multiple of 8 from 16 on", quick=24)
    shift: int = option(8, "crops are shifted from the middle by up to so many voxels")
    channels: int = option(8, "channels at half of the resolution; twice and four times as many below", quick=4)
    sigma: float = option(4.0, "standard deviation of the Gaussians in the heatmaps, in voxels")
    crops: int = option(5, "crops of each volume to test with", quick=3)
    validate: bool = option(False, "test on 30 training volumes, left out of training: for choosing settings")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "steps", "batch_size", "channels", "crops")
        if not self.sigma > 0:
            raise ValueError(f"--sigma is {self.sigma}; more than 0 is needed")
        if self.crop < 16 or self.crop % 8:
            raise ValueError(
                f"--crop is {self.crop}; a multiple of 8 from 16 on is needed: the net halves it three times"
            )
        room = min(SHAPE) - self.crop
        if not 0 <= 2 * self.shift <= room:
            raise ValueError(f"--shift is {self.shift}; crops of {self.crop} voxels can shift by 0 .. {room // 2}")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train the three nets; return their mean errors in voxels and mm beside the mean positions."""
    volumes, test_volumes, source = hippocampus_or_synthetic(config.data, config.seed, synthetic=config.quick)
    if config.validate:
        volumes, test_volumes = [v for i, v in enumerate(volumes) if i % 6], volumes[::6]
    training, test = Dataset(volumes), Dataset(test_volumes)
    chosen = np.repeat(np.arange(len(test_volumes)), config.crops)
    crops = test.crops(chosen, config.crop, config.shift, np.random.default_rng(0))  # the same for every seed
    print_settings(config, HeatmapNet(config), data=source, missing=missing(crops.truth))
    errors: dict[str, list[np.ndarray]] = {}  # name -> (N, 2) of each run, in voxels
    models: dict[str, nn.Module] = {}  # of the first run

    def measure(name: str, positions: np.ndarray) -> dict[str, float]:
        """The mean error in voxels, by landmark, and in mm. A landmark that is not in the crop has no error."""
        voxels, mm = crops.errors(positions)
        errors.setdefault(name, []).append(voxels)
        results = {f"{name}_{part}": float(np.nanmean(error)) for part, error in zip(LANDMARKS, voxels.T)}
        return {**results, f"{name}_mm": float(np.nanmean(mm))}

    def one_run(seed: int) -> dict[str, float]:
        results = {}
        for name in METHODS:
            model = train(name, training, config, seed)
            results |= measure(name, model.positions(crops.images))
            if name == "heatmaps":
                results |= presence(nn.predict(model, crops.images, batch=20), crops.truth)
            models.setdefault(name, model)
        return results

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    mean = np.nanmean(training.centers, axis=0)  # two guesses that do not look at the tissue, see the docstring
    results |= measure("mean_in_crop", mean - (training.shape - config.crop) // 2)
    results |= measure("mean_in_volume", mean - crops.corner[:, None])
    figures = {"landmarks.png": draw_crops(crops, models, config), "errors.png": draw_errors(errors)}
    real = source.startswith("hippocampus") and not config.validate
    return report(config, results, EXPECTED if real else {}, figures, NEXT)


def missing(truth: np.ndarray) -> str:
    """How many landmarks are not in the crops, in words. Raises ValueError if one is in none of them."""
    counts = np.isnan(truth[:, :, 0]).sum(axis=0)
    if (counts == len(truth)).any():
        raise ValueError(
            f"--crop, --shift: {LANDMARKS[counts.argmax()]} landmarks are in none of {len(truth)} test crops; larger "
            "crops, smaller shifts or volumes with labels are needed"
        )
    return ", ".join(f"{part} in {count}" for part, count in zip(LANDMARKS, counts)) + f" of {len(truth)} test crops"


def presence(maps: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Does the height of a map's peak tell whether the landmark is in the crop? AUC, and accuracy at height 1/2."""
    peaks, there = maps.max(axis=(1, 2, 3)).ravel(), np.isfinite(truth[:, :, 0]).ravel()
    if there.all():
        return {}
    return {"presence_auc": metrics.auc(there, peaks), "presence_accuracy": float(np.mean(there == (peaks > 0.5)))}


# ---------------------------------------------------------------------------------------- figures
COLORS = dict(zip(METHODS, (viz.BLUE, viz.ORANGE, viz.VERMILLION)))
MARKERS = dict(zip(METHODS, ("s", "^", "o")))


def draw_crops(crops: Crops, models: dict[str, nn.Module], config: Config) -> viz.Figure:
    """Three crops, the last one without one of its landmarks: positions, and maps, seen from the side."""
    absent = np.isnan(crops.truth[:, :, 0])
    both, one = np.flatnonzero(~absent.any(axis=1)), np.flatnonzero(absent.sum(axis=1) == 1)
    rows = [*both[:1], *both[1:][-1:], *one[:1]]
    images, truth = crops.images[rows], crops.truth[rows]
    logits = nn.predict(models["soft_argmax"].maps, images)
    maps = {
        "target of the heatmap net": heatmap_targets(truth, config.crop, config.sigma),
        "heatmap net": nn.predict(models["heatmaps"], images),
        "softmax of soft-argmax": np.exp(logits - logits.max(axis=(1, 2, 3), keepdims=True)),  # largest value: 1
    }
    figure, panels = viz.subplots(len(rows), 4, squeeze=False, figsize=(12.5, 3.3 * len(rows) + 0.6))
    for row, line in enumerate(panels):
        middle = int(np.rint(np.nanmean(truth[row, :, 2])))  # the slice between the landmarks
        line[0].imshow(images[row, :, :, middle, 0], cmap="gray", origin="lower")
        line[0].set_ylabel("one is missing" if absent[rows[row]].any() else "both are there")
        for panel, found in zip(line[1:], maps.values()):
            panel.imshow(side_view(found[row]), origin="lower")
        for panel in line:
            panel.plot(truth[row, :, 1], truth[row, :, 0], "+", color="w", markersize=11, label="truth")
            panel.set(xticks=[], yticks=[], xlim=(-0.5, config.crop - 0.5), ylim=(-0.5, config.crop - 0.5))
    for name, marker in MARKERS.items():
        color = viz.mpl(COLORS[name])
        for panel, position in zip(panels[:, 0], models[name].positions(images)):
            panel.plot(position[:, 1], position[:, 0], marker, color=color, markersize=9, fillstyle="none", label=name)
    for panel, title in zip(panels[0], ("slice from the side, positions", *maps)):
        panel.set_title(title, fontsize=11)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, facecolor="0.6")
    return figure


def side_view(maps: np.ndarray) -> np.ndarray:
    """(D, H, W, 2) -> RGB (D, H, 3): the maximum along x, anterior orange, posterior blue; black is 0."""
    heights = np.clip(maps.max(axis=2), 0, 1)
    return np.clip(heights @ np.array([viz.mpl(viz.ORANGE), viz.mpl(viz.SKY)]), 0, 1)


def draw_errors(errors: dict[str, list[np.ndarray]]) -> viz.Figure:
    """The share of crops whose error is at most so many voxels, by landmark; all runs together."""
    figure, panels = viz.subplots(1, len(LANDMARKS), figsize=(11, 4.4), sharey=True)
    colors = {**COLORS, "mean_in_crop": (90, 90, 90), "mean_in_volume": (150, 150, 150)}
    for number, (panel, part) in enumerate(zip(panels, LANDMARKS)):
        for name, runs in errors.items():
            found = np.sort(np.concatenate([run[:, number] for run in runs]))
            found = found[np.isfinite(found)]
            style = "--" if name.startswith("mean") else "-"
            label = f"{name.replace('_', ' ')}: mean {found.mean():.2f}"
            panel.step(
                found, np.arange(1, len(found) + 1) / len(found), style, color=viz.mpl(colors[name]), label=label
            )
        panel.set(xlabel="error in voxels", xlim=(0, 12), ylim=(0, 1))
        panel.set_title(f"center of the {part} part")
        panel.grid(alpha=0.3)
        panel.legend(loc="lower right", fontsize=9)
    panels[0].set_ylabel("share of crops with at most this error")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Localization: landmarks"
DATA = "hippocampus MR volumes of the Medical Segmentation Decathlon, 180 + 40 held out"
FILES = ("hippocampus/Task04_Hippocampus.tar",)
EXPECTED = {
    "soft_argmax_anterior": (0.9, 1.4),
    "soft_argmax_posterior": (1.2, 1.7),
    "heatmaps_anterior": (1.3, 1.9),
    "heatmaps_posterior": (1.5, 2.08),  # the mean position in the volume
    "coordinates_mm": (2, 5),
    "mean_in_crop_mm": (8.0, 8.2),
    "mean_in_volume_mm": (2.2, 2.23),
    "presence_auc": (0.87, 0.97),
}
PICTURE = "errors.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/detection/rpn_blood_cells.py"


if __name__ == "__main__":
    run(main)
