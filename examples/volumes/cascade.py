"""A cascade of two nets: a coarse one finds the organ, a fine one its parts and the lesions inside.

    python examples/volumes/cascade.py

The coarse net sees the whole volume at half the resolution, an eighth of the voxels, and finds the organ: here the
hippocampus. The fine net sees only the crop around it, at the full resolution, and finds the parts of the organ and the
lesions. What is called a lesion outside the organ of the coarse net is dropped. The alternative is one stage: the same
fine net on the whole volume.

The hippocampus of the data has no lesions, so the script paints some: one to three small blobs in each volume, brighter
or darker than the tissue. Two to four blobs of the same look are painted outside, at least 5 voxels away. So a lesion
is a blob *inside* the organ: its place, not its look, makes the difference. What to see, in two runs that differ in
rounding errors only:

- **The same Dice** of the two parts, .85 for the cascade and .85 or .86 for one stage, from 35 or 36 % of the voxels
  and in a third of the time. (The volumes are padded to one size; the crop saves the padding, too.)
- **Hardly a false alarm outside**: 1 in 40 volumes, 5 or 10 with one stage. One stage must learn from examples what the
  cascade knows by construction. The one that remains lies where the coarse net takes too much for the organ. In all,
  false alarms fall to little more than half, from 32 to 18 or from 39 to 20; the others lie in the organ or touch it.
- **The price**: what the coarse net misses, the fine net never sees, and a lesion at the edge of the organ may be cut
  off. Of 78 lesions, as small as they are, the cascade finds 46 %, one stage 54 or 55 %.

All three nets train for the same number of epochs, with one seed. No setting and no weights are chosen on the 40
held-out volumes, whose lesions are painted once with a fixed seed. (Training paints new ones in every epoch.)

Source: Christ et al., Automatic liver and lesion segmentation in CT using cascaded fully convolutional neural networks
and 3D conditional random fields, MICCAI 2016. Data: Antonelli et al., The Medical Segmentation Decathlon, Nature
Communications 13, 2022, task 4.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import ndimage

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataLoader, hippocampus_or_synthetic, stack_volumes
from tinynet.tools.cli import TrainingOptions, command_line, option, print_settings, report, run

ANTERIOR, POSTERIOR, LESION, CLASSES = 1, 2, 3, 4
CROP = np.array((36, 48, 28))  # voxels (z, y, x) that the fine net learns from; the largest organ has 35 x 48 x 27
WHOLE_CROP = np.array((40, 56, 40))  # voxels that the one-stage net learns from: all organs, and what is around them
MARGIN = 2  # voxels around the organ that the coarse net found


# ---------------------------------------------------------------------------------------- the net
def pair(c_in: int, c: int) -> nn.Sequential:
    """Two convolutions 3 x 3 x 3, c_in -> c channels."""
    return nn.Sequential(nn.Conv3d(c_in, c, 3, padding=1), nn.PReLU(c), nn.Conv3d(c, c, 3, padding=1), nn.PReLU(c))


class Net(nn.Module):
    """A small 3-D U-Net of two or three levels, whose skip connections add instead of joining channels.

    x: (N, D, H, W, 1), sizes that can be halved len(widths) - 1 times -> logits (N, D, H, W, classes).
    """

    def __init__(self, classes: int, widths: tuple[int, ...]) -> None:
        self.down = [pair(a, b) for a, b in pairwise((1, *widths))]
        self.up = [nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairwise(widths)]
        self.merge = [pair(a, a) for a in widths[:-1]]
        self.pool = nn.MaxPool3d(2)
        self.head = nn.Conv3d(widths[0], classes, 1, init=nn.init.glorot_uniform)

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        skips = []
        for level in self.down:
            x = level(self.pool(x) if skips else x)
            skips.append(x)
        for up, merge, skip in zip(self.up[::-1], self.merge[::-1], skips[-2::-1]):
            x = merge(up(x) + skip)
        return self.head(x)


def coarse_net() -> Net:
    """Organ or not, at half the resolution."""
    return Net(2, (8, 16))


def fine_net() -> Net:
    """Background, anterior part, posterior part, lesion; for the crop, and alone for the whole volume."""
    return Net(CLASSES, (8, 16, 32))


def dice_loss(logits: tn.Tensor, labels: tn.Tensor) -> tn.Tensor:
    """1 - 2 sum(p t) / (sum(p^2) + sum(t^2)), the mean over the classes: a small lesion counts as much as an organ."""
    return tn.softmax_dice_loss(logits, labels, squared=True)


# ---------------------------------------------------------------------------------------- painted lesions
SIGMA = (1.1, 1.5)  # voxels, of the Gaussian blobs
HEIGHT = (1.5, 2.5)  # in standard deviations of the image
AWAY = 5  # voxels between the organ and the center of a blob outside


@dataclass
class Painter:
    """Volumes into which lesions are painted, new ones every time.

    Lesions are bright or dark blobs inside the organ. Blobs of the same look are painted outside; they are no lesions.
    images: (N, D, H, W, 1). labels: (N, D, H, W), 0 to 2. inside, outside: where the centers of blobs may lie, for each
    volume, as indices of the flat volume.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        self.inside, self.outside = [], []
        for image, label in zip(self.images[..., 0], self.labels):
            organ = label > 0
            core = ndimage.binary_erosion(organ)
            padding = ndimage.binary_erosion(image == 0, iterations=2)
            away = ndimage.distance_transform_edt(~organ) >= AWAY
            self.inside.append(np.flatnonzero(core if core.any() else organ))
            self.outside.append(np.flatnonzero(away & ~padding))

    def paint(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(image (D, H, W, 1), labels (D, H, W)) with 1 to 3 lesions in the organ and 2 to 4 blobs outside."""
        image, labels = self.images[index].copy(), self.labels[index].copy()
        for centers, count in ((self.inside[index], rng.integers(1, 4)), (self.outside[index], rng.integers(2, 5))):
            for center in rng.choice(centers, count) if len(centers) else ():
                place, blob = gaussian(np.unravel_index(center, labels.shape), labels.shape, rng.uniform(*SIGMA))
                image[..., 0][place] += rng.choice((-1, 1)) * rng.uniform(*HEIGHT) * blob
                if centers is self.inside[index]:
                    labels[place][(blob > 0.5) & (labels[place] > 0)] = LESION
        return image, labels


def gaussian(center: tuple[int, ...], shape: tuple[int, ...], sigma: float) -> tuple[tuple[slice, ...], np.ndarray]:
    """(where in the volume, a blob of height 1): the part of a Gaussian that lies in the volume, float32."""
    place = tuple(slice(max(0, c - 5), min(size, c + 6)) for c, size in zip(center, shape))
    squares = [((np.arange(s.start, s.stop) - c) / sigma) ** 2 for c, s in zip(center, place)]
    return place, np.exp(-sum(np.ix_(*squares)) / 2).astype(np.float32)


# ---------------------------------------------------------------------------------------- training
class CoarseItems:
    """For the coarse net: whole volumes at half the resolution; the organ with its lesions is one class."""

    def __init__(self, painter: Painter) -> None:
        self.painter = painter

    def __len__(self) -> int:
        return len(self.painter.labels)

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image, labels = self.painter.paint(index, rng)
        organ = halved((labels > 0).astype(np.float32)[..., None])[..., 0] >= 0.5
        return halved(image), organ.astype(np.int64)


class CropItems:
    """For the fine net: crops of `size` voxels around the organ, at most `jitter` voxels off along each axis."""

    def __init__(self, painter: Painter, size: np.ndarray, jitter: int) -> None:
        self.painter, self.size, self.jitter = painter, size, jitter

    def __len__(self) -> int:
        return len(self.painter.labels)

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image, labels = self.painter.paint(index, rng)
        middle = bounding_box(labels > 0).sum(axis=0) // 2
        start = middle - self.size // 2 + rng.integers(-self.jitter, self.jitter + 1, 3)
        start = np.clip(start, 0, np.array(labels.shape) - self.size)
        crop = tuple(slice(a, a + n) for a, n in zip(start, self.size))
        return image[crop], labels[crop].astype(np.int64)


def halved(volume: np.ndarray) -> np.ndarray:
    """A volume (D, H, W, C) at half the resolution: each new voxel is the mean of eight.

    `tn.resize3d` gives the same, but the threads of the loader may run only NumPy.
    """
    d, h, w, c = volume.shape
    return volume.reshape(d // 2, 2, h // 2, 2, w // 2, 2, c).mean(axis=(1, 3, 5))


def bounding_box(mask: np.ndarray) -> np.ndarray:
    """[[first z, y, x], [last + 1]] of the voxels of a mask that is not empty."""
    found = np.argwhere(mask)
    return np.array([found.min(axis=0), found.max(axis=0) + 1])


def train(name: str, model: Net, items: CoarseItems | CropItems, config: Config) -> Net:
    """Train one of the three nets in its own folder. Nothing is chosen: the last weights are kept."""
    loader = DataLoader(items, config.batch_size, seed=config.seed)
    steps = config.epochs * len(loader)
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-4)
    schedule = optim.CosineDecay(optimizer, steps, warmup=min(50, steps // 10), floor=0.01)
    print(f"\n{name}: {sum(p.size for p in model.parameters()):,} parameters", flush=True)
    trainer = tn.train.Trainer(
        model,
        optimizer,
        lambda images, labels: dice_loss(model(images), labels),
        Path(config.out) / name,
        schedule=schedule,
        max_norm=2.0,
        settings=config,
    )
    trainer.fit(loader, config.epochs, resume=config.resume, runs=3)
    return model.eval()


# ---------------------------------------------------------------------------------------- the cascade
@dataclass
class Answer:
    """What was found in one volume: labels (D, H, W), and the voxels that the nets looked at, in (D, H, W) voxels.

    organ, box: the organ of the coarse net, bool (D, H, W), and the crop of the fine net; None for one stage.
    """

    labels: np.ndarray
    voxels: int
    organ: np.ndarray | None = None
    box: tuple[slice, ...] | None = None


def one_stage(net: Net, image: np.ndarray) -> Answer:
    """One net for the whole volume (D, H, W, 1)."""
    return Answer(nn.predict(net, image[None])[0].argmax(axis=-1), image[..., 0].size)


def cascade(coarse: Net, fine: Net, image: np.ndarray) -> Answer:
    """The coarse net finds the organ; the fine net looks at the crop around it. Lesions outside the organ are dropped.

    If the coarse net finds no organ, the crop is the whole volume, and no lesion is reported.
    """
    small = halved(image)
    logits = nn.predict(coarse, small[None])
    difference = tn.tensor(logits[..., 1:] - logits[..., :1]).to(tn.device())
    organ = tn.resize3d(difference, image.shape[:3]).numpy()[0, ..., 0] > 0
    organ = largest_component(organ)
    box = crop_around(organ) if organ.any() else tuple(slice(0, n) for n in organ.shape)
    labels = np.zeros(organ.shape, dtype=np.int64)
    labels[box] = nn.predict(fine, np.ascontiguousarray(image[box])[None])[0].argmax(axis=-1)
    labels[(labels == LESION) & ~organ] = 0
    return Answer(labels, small[..., 0].size + labels[box].size, organ, box)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask."""
    parts, count = ndimage.label(mask)
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax() if count else mask


def crop_around(organ: np.ndarray) -> tuple[slice, ...]:
    """A mask with a margin, up to sides that are multiples of 4, because the fine net halves them twice."""
    first, end = bounding_box(organ) + np.array([[-MARGIN], [MARGIN]])
    size = np.minimum(-(-(end - first) // 4) * 4, organ.shape)
    start = np.clip((first + end - size) // 2, 0, np.array(organ.shape) - size)
    return tuple(slice(a, a + n) for a, n in zip(start, size))


# ---------------------------------------------------------------------------------------- scores
def scores(answers: list[Answer], truth: np.ndarray) -> dict[str, float]:
    """Dice of the two parts; lesions found; false alarms, outside the organ and in all; voxels looked at.

    A lesion is found if a voxel of it is. A false alarm is a connected component of lesion voxels without such a voxel;
    it is outside if it does not touch the organ.
    """
    dice, found, lesions, outside, alarms = [], 0, 0, 0, 0
    for answer, true in zip(answers, truth):
        dice.append(metrics.class_dice(true, answer.labels, LESION).mean())
        near = ndimage.binary_dilation(true > 0)
        true_lesions, count = ndimage.label(true == LESION)
        lesions += count
        found += len(np.unique(true_lesions[(answer.labels == LESION) & (true_lesions > 0)]))
        parts, count = ndimage.label(answer.labels == LESION)
        for part in range(1, count + 1):
            is_hit = (true_lesions[parts == part] > 0).any()
            alarms += not is_hit
            outside += not is_hit and not near[parts == part].any()
    return {
        "dice": float(np.mean(dice)),
        "lesions_found": found / max(lesions, 1),
        "false_alarms": alarms,
        "false_alarms_outside": outside,
        "voxels": sum(answer.voxels for answer in answers) / truth.size,
    }


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(TrainingOptions):
    out: str = option("out/cascade", "folder for the figures, and a folder for each net")
    data: str | None = option(None, "Task04_Hippocampus.tar, its folder, or 'synthetic' (default: as TINYNET_DATA)")
    epochs: int = option(7, "passes over the training volumes, of each net", quick=1)
    volumes: int | None = option(None, "number of training volumes (default: all)", quick=30)
    thinning: int = option(1, "use every n-th voxel along each axis: n = 2 is eight times as fast", quick=2)
    batch_size: int = option(2, "volumes or crops in a step", quick=1)
    lr: float = option(3e-3, "highest learning rate (AdamW; warm-up, then a cosine)")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "volumes", "batch_size")
        if self.thinning not in (1, 2, 4):
            raise ValueError(f"--thinning is {self.thinning}; it must be 1, 2 or 4, because the nets halve twice")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train the nets on volumes with painted lesions; compare one stage and the cascade on the held-out volumes."""
    counts = (30, 2) if config.quick else (24, 8)
    volumes, test_volumes, source = hippocampus_or_synthetic(config.data, config.seed, counts, synthetic=config.quick)
    step = slice(None, None, config.thinning)
    training, test = (
        Painter(*(array[:, step, step, step] for array in stack_volumes(part)))
        for part in (volumes[: config.volumes], test_volumes)
    )
    painted = [test.paint(i, np.random.default_rng((config.seed, 1, i))) for i in range(len(test.labels))]
    images, truth = (np.stack(part) for part in zip(*painted))
    tn.seed(config.seed)
    coarse, fine, single = (net().to(tn.device()) for net in (coarse_net, fine_net, fine_net))
    print_settings(
        config, fine, source=source, lesions=f"{sum(ndimage.label(t == LESION)[1] for t in truth)} in the test"
    )

    jitter = max(1, 4 // config.thinning)
    train("coarse", coarse, CoarseItems(training), config)
    train("fine", fine, CropItems(training, CROP // config.thinning // 4 * 4, jitter), config)
    train("one_stage", single, CropItems(training, WHOLE_CROP // config.thinning // 4 * 4, jitter), config)

    one_stage(single, images[0]), cascade(coarse, fine, images[0])  # loads the kernels, which is not timed
    started = time.perf_counter()
    alone = [one_stage(single, image) for image in images]
    between = time.perf_counter()
    both = [cascade(coarse, fine, image) for image in images]
    speedup = (between - started) / (time.perf_counter() - between)
    results = {f"{name}_one_stage": figure for name, figure in scores(alone, truth).items()}
    results |= {f"{name}_cascade": figure for name, figure in scores(both, truth).items()}
    results["speedup"] = speedup
    expected = EXPECTED if source.startswith("hippocampus") else {}
    figures = {"cascade.png": draw_steps(images, truth, alone, both), "scores.png": draw_scores(results)}
    return report(config, results, expected, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
COLORS = (viz.ORANGE, viz.SKY, viz.VERMILLION)  # anterior, posterior, lesion


def draw_steps(images: np.ndarray, truth: np.ndarray, alone: list[Answer], both: list[Answer]) -> viz.Figure:
    """One volume through the cascade: sagittal slices, from the painted image to the answers."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    i, x = telling_slice(truth, alone, both)
    image, answer = images[i, :, :, x, 0], both[i]
    figure, axes = viz.subplots(2, 2, figsize=(9, 7.2))
    views = (
        ("truth: two parts, lesions; the other blobs are none", truth[i]),
        ("coarse net: the organ, and the crop around it", answer.organ.astype(int)),
        ("fine net, inside the crop", answer.labels),
        ("one stage, whole volume", alone[i].labels),
    )
    for panel, (title, labels) in zip(axes.flat, views):
        panel.imshow(image, cmap="gray", origin="lower", vmin=-3, vmax=3)
        for label, color in enumerate(COLORS, start=1):
            if (labels[:, :, x] == label).any():
                panel.contour(labels[:, :, x] == label, [0.5], colors=[viz.mpl(color)], linewidths=1.5)
        panel.set_title(title, fontsize=10)
        panel.axis("off")
    z, y, _ = answer.box
    for panel in axes.flat[1:3]:
        corner, size = (y.start - 0.5, z.start - 0.5), (y.stop - y.start, z.stop - z.start)
        panel.add_patch(Rectangle(corner, *size, fill=False, color=viz.mpl(viz.YELLOW), linewidth=1.5))
    names = ("anterior part", "posterior part", "lesion")
    handles = [Line2D([], [], color=viz.mpl(color), label=name) for name, color in zip(names, COLORS)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def telling_slice(truth: np.ndarray, alone: list[Answer], both: list[Answer]) -> tuple[int, int]:
    """(volume, x) of the slice with most voxels of a lesion that the cascade found and of a false alarm of one stage.

    If no slice has both, the slice with most of either.
    """
    hits = np.array([((b.labels == LESION) & (t == LESION)).sum(axis=(0, 1)) for b, t in zip(both, truth)])
    alarms = np.array([((a.labels == LESION) & (t == 0)).sum(axis=(0, 1)) for a, t in zip(alone, truth)])
    worth = np.minimum(hits, alarms) + (hits + alarms) / 1000
    volume, x = np.unravel_index(worth.argmax(), worth.shape)
    return int(volume), int(x)


def draw_scores(results: dict[str, float]) -> viz.Figure:
    """Bars: one stage and the cascade, by measure."""
    measures = {
        "dice": "Dice of\nthe parts", "lesions_found": "lesions found",
        "voxels": "voxels looked at", "false_alarms_outside": "false alarms\noutside the organ",
    }  # fmt: skip
    figure, axes = viz.subplots(1, len(measures), figsize=(10, 3.4))
    for panel, (measure, title) in zip(axes, measures.items()):
        heights = [results[f"{measure}_{method}"] for method in ("one_stage", "cascade")]
        bars = panel.bar(("one stage", "cascade"), heights, color=[viz.mpl(viz.ORANGE), viz.mpl(viz.BLUE)])
        panel.bar_label(bars, fmt="%d" if measure == "false_alarms_outside" else "%.3f")
        panel.set_title(title, fontsize=10)
        panel.set_ylim(0, max(1, *heights) * 1.12)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Volumes: a cascade of nets"
DATA = "hippocampus MR volumes (Medical Segmentation Decathlon, task 4), with painted lesions"
FILES = ("hippocampus/Task04_Hippocampus.tar",)
EXPECTED = {
    "dice_cascade": (0.83, None),
    "voxels_cascade": (None, 0.4),
    "false_alarms_outside_one_stage": (3, None),
    "false_alarms_outside_cascade": (None, 2),
}
PICTURE = "scores.png"
NEXT = "python examples/volumes/patches_2_5d.py"


if __name__ == "__main__":
    run(main)
