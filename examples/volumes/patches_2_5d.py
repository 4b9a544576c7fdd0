"""Patches of volumes: a plane, three planes, two scales or a cube around a voxel, to say what the voxel is.

    python examples/volumes/patches_2_5d.py

A net can label a volume voxel by voxel, each from the patch around it. A cube shows everything, but its convolutions
have one more axis to sum over and many more voxels to visit. Four inputs, each with the same kind of layers behind it
(a *stream*: convolution and pooling twice, one more convolution):

- **one plane**: 17 x 17 voxels of the sagittal plane, the view from the side, which shows both parts at once;
- **three planes** ("2.5-D", Roth): the axial, the coronal and the sagittal plane through the voxel. One stream sees
  each of them with the same weights, and a linear layer sees the features of all three;
- **two scales** (Moeskops): the sagittal plane, and 34 x 34 voxels of it at half the resolution, which show where in
  the brain the small patch lies. Each has a stream with weights of its own;
- **a 3-D patch**: 17 x 17 x 17 voxels and 3-D convolutions, with half the channels.

The classes are background, anterior and posterior part of the hippocampus, equally many voxels of each from every
volume, all within 4 mm of a surface: farther away they are easy, and all nets would agree. Accuracy and Dice are those
of these difficult voxels, so they are not comparable with the Dice of whole volumes.

Three runs, voxels of 40 held-out volumes; milliseconds for each voxel on two idle cores:

    one plane       accuracy 0.871   Dice 0.873    47,075 weights   0.01 ms
    two scales               0.894        0.900    93,891           0.03
    three planes             0.910        0.913   112,611           0.03
    3-D patch                0.905        0.912    76,419           0.21

Three planes are as good as the cube, in a sixth of the time. That is why 2.5-D was popular. Times differ between
machines: the figure in docs/examples was made on a busy one, where three planes took over a third of the cube's time.

A trap: the volumes were cut out around the hippocampus. A patch that reaches over the end of its volume shows zeros
there, and so it tells where the voxel lies. With --blank all tissue is replaced by ones, so that only the end of the
volume is left to see: guessing is right for a third, one plane for 0.44, three planes and the cube for 0.48, two scales
for 0.66 (with --validate --seeds 1 --steps 200). The wider a patch, the more of its success may come from the frame.
The settings were chosen with --validate.

Sources: Roth et al., A new 2.5D representation for lymph node detection using random sets of deep convolutional neural
network observations, MICCAI 2014; Moeskops et al., Automatic segmentation of MR brain images with a convolutional
neural network, IEEE Transactions on Medical Imaging 35, 2016; data: Antonelli et al. 2022.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import Volume, hippocampus_or_synthetic, normalize_volume
from tinynet.data.volumes import PARTS
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

# ---------------------------------------------------------------------------------------- patches
AXES = {"axial": 0, "coronal": 1, "sagittal": 2}  # the axis (z, y, x) that the plane is orthogonal to
SIDE = AXES["sagittal"]  # the only plane with both parts in it


@dataclass
class Voxels:
    """Voxels to classify. number: (N,), in which volume; place: (N, 3), where in it; labels: (N,), classes 0, 1, 2.

    padded: the volumes with `size` zeros around, so that patches at the border are whole. size: of a patch, odd.
    """

    padded: list[np.ndarray]
    number: np.ndarray
    place: np.ndarray
    labels: np.ndarray
    size: int

    def __len__(self) -> int:
        return len(self.labels)


def cube(padded: np.ndarray, place: np.ndarray, size: int, reach: int) -> np.ndarray:
    """The voxels at most `reach` away from `place` along each axis: (2 reach + 1,) * 3."""
    z, y, x = (place + size - reach).tolist()
    side = 2 * reach + 1
    return padded[z : z + side, y : y + side, x : x + side]


def patch_3d(padded: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """(S, S, S): all voxels around the place."""
    return cube(padded, place, size, size // 2)


def one_plane(padded: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """(1, S, S): the sagittal plane, as seen from the side."""
    return patch_3d(padded, place, size).take([size // 2], axis=SIDE).reshape(1, size, size)


def three_planes(padded: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """(3, S, S): the axial, the coronal and the sagittal plane through the place."""
    patch = patch_3d(padded, place, size)
    return np.stack([patch.take(size // 2, axis=axis) for axis in AXES.values()])


def two_scales(padded: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """(2, S, S): the sagittal plane, and the same plane at half the resolution: 2S x 2S voxels, means of 2 x 2."""
    wide = cube(padded, place, size, size).take(size, axis=SIDE)[:-1, :-1]
    coarse = wide.reshape(size, 2, size, 2).mean(axis=(1, 3))
    return np.stack([one_plane(padded, place, size)[0], coarse])


# ---------------------------------------------------------------------------------------- the nets
def stream(c: int) -> nn.Sequential:
    """A patch (N, S, S, 1) -> features (N, (S // 4)**2 * 2c)."""
    return nn.Sequential(
        *(nn.Conv2d(1, c, 3, padding=1), nn.ELU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(c, 2 * c, 3, padding=1), nn.ELU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(2 * c, 2 * c, 3, padding=1), nn.ELU(), nn.Flatten()),
    )


def classifier(features: int) -> nn.Sequential:
    """The features of all streams side by side -> logits of the classes."""
    return nn.Sequential(nn.Dropout(0.25), nn.Linear(features, 64), nn.ELU(), nn.Linear(64, len(PARTS)))


class SharedStream(nn.Module):
    """x: (N, patches, S, S, 1) -> logits (N, 3). One stream sees every patch, with the same weights."""

    def __init__(self, c: int, size: int, patches: int) -> None:
        self.stream = stream(c)
        self.classifier = classifier(patches * (size // 4) ** 2 * 2 * c)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        n, patches, *size = x.shape
        features = self.stream(x.reshape(n * patches, *size))  # the patches of a voxel as if they were N more examples
        return self.classifier(features.reshape(n, -1))


class OwnStreams(nn.Module):
    """x: (N, patches, S, S, 1) -> logits (N, 3). Each patch has a stream with weights of its own."""

    def __init__(self, c: int, size: int, patches: int) -> None:
        self.streams = [stream(c) for _ in range(patches)]
        self.classifier = classifier(patches * (size // 4) ** 2 * 2 * c)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        return self.classifier(tn.concat([one(x[:, i]) for i, one in enumerate(self.streams)], axis=1))


def net_3d(c: int, size: int) -> nn.Sequential:
    """x: (N, S, S, S, 1) -> logits (N, 3): the layers of `stream` with a third axis and half the channels."""
    c = max(1, c // 2)
    return nn.Sequential(
        *(nn.Conv3d(1, c, 3, padding=1), nn.ELU(), nn.MaxPool3d(2)),
        *(nn.Conv3d(c, 2 * c, 3, padding=1), nn.ELU(), nn.MaxPool3d(2)),
        *(nn.Conv3d(2 * c, 2 * c, 3, padding=1), nn.ELU(), nn.Flatten()),
        classifier((size // 4) ** 3 * 2 * c),
    )


@dataclass(frozen=True)
class Input:
    """What a net sees of a voxel, and the net. cut: of (padded volume, place, size); net: of (channels, size)."""

    cut: Callable[[np.ndarray, np.ndarray, int], np.ndarray]
    net: Callable[[int, int], nn.Module]

    def batch(self, voxels: Voxels, chosen: np.ndarray) -> np.ndarray:
        """Input of the net for the chosen voxels: float32, with one channel."""
        patches = [self.cut(voxels.padded[voxels.number[i]], voxels.place[i], voxels.size) for i in chosen]
        return np.stack(patches, dtype=np.float32)[..., None]


INPUTS = {
    "one plane": Input(one_plane, lambda c, size: SharedStream(c, size, 1)),
    "three planes": Input(three_planes, lambda c, size: SharedStream(c, size, 3)),
    "two scales": Input(two_scales, lambda c, size: OwnStreams(c, size, 2)),
    "3-D patch": Input(patch_3d, net_3d),
}


# ---------------------------------------------------------------------------------------- the voxels
def near_surface(labels: np.ndarray, reach: float, spacing: Sequence[float]) -> np.ndarray:
    """Voxels within `reach` mm of a voxel of another class: bool (D, H, W). All others are easier."""
    near = np.zeros(labels.shape, dtype=bool)
    classes = np.unique(labels)
    for label in classes if len(classes) > 1 else ():  # a single class has no surface
        mask = labels == label
        near |= mask & (ndimage.distance_transform_edt(mask, spacing) <= reach)
    return near


def sample_voxels(volumes: Sequence[Volume], config: Config, rng: np.random.Generator) -> Voxels:
    """At most --each voxels of each class of each volume, near a surface. A class that a volume lacks has none."""
    number, places, labels = [], [], []
    for i, volume in enumerate(volumes):
        near = near_surface(volume.labels, config.reach, volume.spacing)
        for label in range(len(PARTS)):
            found = np.argwhere(near & (volume.labels == label))
            found = found[rng.permutation(len(found))[: config.each]]
            number += [i] * len(found)
            labels += [label] * len(found)
            places.append(found)
    if not number:
        raise ValueError(f"no voxel near a surface in any of {len(volumes)} volumes: they need labels of the parts")
    return Voxels(
        padded_volumes(volumes, config), np.array(number), np.concatenate(places), np.array(labels), config.size
    )


def padded_volumes(volumes: Sequence[Volume], config: Config) -> list[np.ndarray]:
    """The volumes with mean 0 and standard deviation 1 and zeros around; with --blank, ones and zeros around."""
    images = [np.ones_like(v.image) if config.blank else normalize_volume(v.image) for v in volumes]
    return [np.pad(image, config.size) for image in images]


# ---------------------------------------------------------------------------------------- training and test
def train(seen: Input, voxels: Voxels, config: Config, seed: int, title: str) -> nn.Module:
    """A net trained on random batches of the voxels."""
    tn.seed(seed)
    rng = np.random.default_rng((seed, 1))
    model = seen.net(config.channels, config.size).to(tn.device())
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = optim.CosineDecay(optimizer, config.steps, warmup=config.steps // 20)
    for _ in tqdm(range(config.steps), title, leave=False, disable=None):
        chosen = rng.integers(0, len(voxels), config.batch_size)
        logits = model(tn.tensor(seen.batch(voxels, chosen)).to(tn.device()))
        loss = tn.softmax_cross_entropy(logits, voxels.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def classify(seen: Input, model: nn.Module, voxels: Voxels, batch: int = 256) -> tuple[np.ndarray, float]:
    """(class of each voxel, seconds that the net took; cutting the patches is not counted)."""
    classes, seconds = [], 0.0
    for start in range(0, len(voxels), batch):
        x = seen.batch(voxels, np.arange(start, min(start + batch, len(voxels))))
        begin = time.perf_counter()
        classes.append(nn.predict(model, x, batch).argmax(axis=1))
        seconds += time.perf_counter() - begin
    return np.concatenate(classes), seconds


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/patches_2_5d", "folder for the figures")
    data: str | None = option(None, "Task04_Hippocampus.tar, its folder, or 'synthetic' (default: TINYNET_DATA)")
    steps: int = option(600, "training steps of each net", quick=30)
    batch_size: int = option(64, "voxels in a step", quick=32)
    lr: float = option(2e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    weight_decay: float = option(1e-2, "decoupled weight decay")
    channels: int = option(16, "channels of the first layer; the 3-D net has half as many", quick=8)
    size: int = option(17, "voxels along each side of a patch; odd, so that one is in the middle")
    each: int = option(100, "voxels of each class of each volume", quick=20)
    reach: float = option(4.0, "voxels lie at most so many mm from a surface")
    blank: bool = option(False, "replace every voxel by 1: a net can then see only where the volume ends")
    validate: bool = option(False, "test on 30 training volumes, left out of training: for choosing settings")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "steps", "batch_size", "channels")
        if self.size < 5 or self.size % 2 == 0:
            raise ValueError(f"--size is {self.size}; an odd number from 5 on is needed")
        if self.each < 1 or not self.reach > 0:
            raise ValueError(f"--each is {self.each}, --reach {self.reach}; at least 1 and more than 0 are needed")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train a net for each input; return accuracy and mean Dice of the two parts on voxels of held-out volumes."""
    volumes, test_volumes, source = hippocampus_or_synthetic(config.data, config.seed, synthetic=config.quick)
    if config.validate:
        volumes, test_volumes = [v for i, v in enumerate(volumes) if i % 6], volumes[::6]
    test = sample_voxels(test_volumes, config, np.random.default_rng(0))  # the same for every seed
    training = sample_voxels(volumes, config, np.random.default_rng(1))
    print_settings(config, data=source, voxels=f"{len(training):,}, {len(test):,} to test with")
    costs: dict[str, tuple[int, list[float]]] = {}  # input -> (parameters, milliseconds per voxel of each run)
    models: dict[str, nn.Module] = {}

    def one_run(seed: int) -> dict[str, float]:
        results = {}
        for name, seen in INPUTS.items():
            model = train(seen, training, config, seed, f"{name}, seed {seed}")
            classes, seconds = classify(seen, model, test)
            key = name.replace(" ", "_").replace("-", "_")
            results[f"{key}_accuracy"] = float(np.mean(classes == test.labels))
            results[f"{key}_dice"] = float(metrics.class_dice(test.labels, classes, len(PARTS)).mean())
            parameters = sum(p.size for p in model.parameters())
            costs.setdefault(name, (parameters, []))[1].append(1e3 * seconds / len(test))
            models.setdefault(name, model)
        return results

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    print_costs(costs)
    view = Slice(next(volume for volume in test_volumes if volume.labels.any()), config)
    figures = {
        "scores.png": draw_scores(results, costs),
        "patches.png": draw_patches(view),
        "maps.png": draw_maps(view, models),
    }
    real = source.startswith("hippocampus") and not (config.validate or config.blank)
    return report(config, results, EXPECTED if real else {}, figures, NEXT)


def print_costs(costs: dict[str, tuple[int, list[float]]]) -> None:
    """Parameters and time of each net."""
    rows = [
        {"input": name, "parameters": f"{parameters:,}", "ms per voxel": f"{np.mean(times):.3f}"}
        for name, (parameters, times) in costs.items()
    ]
    print(f"\nthe nets, without the time for cutting the patches\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- figures
COLORS = (viz.BLACK, viz.ORANGE, viz.SKY)  # of background, anterior and posterior part


class Slice:
    """The sagittal slice of a volume with most of the hippocampus in it, and its voxels near the surface."""

    def __init__(self, volume: Volume, config: Config) -> None:
        self.x = int(np.count_nonzero(volume.labels, axis=(0, 1)).argmax())
        self.image, self.labels = volume.image[:, :, self.x], volume.labels[:, :, self.x]
        self.near = near_surface(volume.labels, config.reach, volume.spacing)[:, :, self.x]
        z, y = np.nonzero(self.near)
        place = np.stack([z, y, np.full_like(z, self.x)], axis=1)
        padded = padded_volumes([volume], config)
        self.voxels = Voxels(padded, np.zeros(len(z), int), place, self.labels[self.near], config.size)

    def colored(self, classes: np.ndarray) -> np.ndarray:
        """The slice as RGB, with the classes of the voxels near the surface as colors."""
        gray = np.clip((self.image - self.image.min()) / np.ptp(self.image), 0, 1)
        colors = np.repeat(gray[:, :, None], 3, axis=2)
        colors[self.near] = 0.35 * colors[self.near] + 0.65 * np.array(list(map(viz.mpl, COLORS)))[classes]
        return colors


def draw_maps(view: Slice, models: dict[str, nn.Module]) -> viz.Figure:
    """The slice, its labels, and what each net says; its accuracy in the slice as the title."""
    figure, panels = viz.subplots(2, 3, figsize=(11, 6.2))
    figure.suptitle("voxels near a surface: anterior part orange, posterior part blue, background dark")
    titles, images = ["slice from the side", "truth"], [view.colored(view.voxels.labels)]
    gray = np.repeat(view.image[:, :, None] / view.image.max(), 3, axis=2)
    images.insert(0, np.clip(gray, 0, 1))
    for name, model in models.items():
        classes, _ = classify(INPUTS[name], model, view.voxels)
        images.append(view.colored(classes))
        titles.append(f"{name}: {np.mean(classes == view.voxels.labels):.1%} right")
    for panel, image, title in zip(panels.flat, images, titles):
        panel.imshow(image, origin="lower")
        panel.set_title(title)
        panel.axis("off")
    return figure


def draw_patches(view: Slice) -> viz.Figure:
    """The patches of one voxel: of the anterior voxel that is nearest to a posterior one."""
    voxels = view.voxels
    size, depths = voxels.size, np.linspace(0, voxels.size - 1, 5).astype(int)
    parts = [voxels.place[voxels.labels == label] for label in np.unique(voxels.labels) if label]
    gaps = np.linalg.norm(parts[0][:, None] - parts[-1], axis=2)
    at = voxels.padded[0], parts[0][gaps.min(axis=1).argmin()], size
    cut = {name: seen.cut(*at) for name, seen in INPUTS.items()}
    titles = {
        "one plane": ["sagittal"],
        "three planes": list(AXES),
        "two scales": ["sagittal", f"{2 * size} x {2 * size}, means of 2 x 2"],
        "3-D patch": [f"z = {depth - size // 2:+d}" for depth in depths],
    }
    cut["3-D patch"] = cut["3-D patch"][depths]
    figure, panels = viz.subplots(len(cut), len(depths), figsize=(9.5, 8.2))
    for row, name in zip(panels, cut):
        row[0].text(-0.12, 0.5, name, transform=row[0].transAxes, rotation=90, ha="right", va="center", fontsize=12)
        for panel in row:
            panel.axis("off")
        for panel, title, patch in zip(row, titles[name], cut[name]):
            panel.imshow(patch, cmap="gray", origin="lower", vmin=-2.5, vmax=2.5)
            panel.set_title(title, fontsize=10)
            if title[0] != "z" or title.endswith("+0"):
                panel.plot(size // 2, size // 2, "+", color=viz.mpl(viz.ORANGE), markersize=12)
    return figure


def draw_scores(results: dict[str, float], costs: dict[str, tuple[int, list[float]]]) -> viz.Figure:
    """What each net lacks: 1 - accuracy and 1 - Dice as bars; its parameters and time below."""
    figure, axes = viz.subplots(figsize=(8.5, 4.8))
    width, places = 0.38, np.arange(len(INPUTS))
    lacking = 1 - np.array(list(results.values())).reshape(len(INPUTS), 2)
    for number, (measure, color) in enumerate((("1 - accuracy", viz.SKY), ("1 - Dice of the parts", viz.BLUE))):
        bars = axes.bar(places + (number - 0.5) * width, lacking[:, number], width, color=viz.mpl(color), label=measure)
        axes.bar_label(bars, fmt="%.3f", fontsize=9)
    names = [f"{name}\n{size:,} weights\n{np.mean(times):.2f} ms a voxel" for name, (size, times) in costs.items()]
    axes.set_xticks(places, names)
    axes.set(ylim=(0, 1.2 * lacking.max()), ylabel="voxels of held-out volumes")
    axes.legend(loc="upper right")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Patches of volumes: 2.5-D and two scales"
DATA = "hippocampus MR volumes of the Medical Segmentation Decathlon, 180 + 40 held out"
FILES = ("hippocampus/Task04_Hippocampus.tar",)
EXPECTED = {
    "one_plane_accuracy": (0.86, 0.88),
    "three_planes_accuracy": (0.90, 0.92),
    "two_scales_accuracy": (0.885, 0.905),
    "3_D_patch_accuracy": (0.895, 0.915),
}
PICTURE = "scores.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/detection/landmarks.py"


if __name__ == "__main__":
    run(main)
