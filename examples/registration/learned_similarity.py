"""A learned similarity: a net decides whether two patches show the same place, and its gradient registers two stains.

    python examples/registration/learned_similarity.py

TODO
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataError, StainedSlice, common_landmarks, read_stained_slices, synthetic_stained_slices
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

# ---------------------------------------------------------------------------------------- images and points
LEVELS = (8, 4)  # the images are reduced by these factors, coarse first; all lengths are in pixels of the originals
MARGIN = 96  # pixels along the border of the fixed image that are not compared: the moving image may not cover them


def darkness(image: np.ndarray, factor: int) -> np.ndarray:
    """The reduced image: means of factor x factor pixels, dark is high, mean 0 and standard deviation 1.

    image: uint8 (H, W, 3). Returns float32 (H // factor, W // factor, 1).
    """
    height, width = (size // factor for size in image.shape[:2])
    dark = 255 - image[: height * factor, : width * factor].astype(np.float32).mean(axis=2)
    small = dark.reshape(height, factor, width, factor).mean(axis=(1, 3))
    return ((small - small.mean()) / (small.std() + 1e-6))[:, :, None]


def read_at(image: np.ndarray, points: tn.Tensor, factor: int) -> tn.Tensor:
    """A reduced image (H, W, C) at points (N, h, w, 2), (y, x) in pixels of the original: (N, h, w, C)."""
    n, h, w, _ = points.shape
    # Pixel 0 of the original has its center at 0, hence the half; grid_sample2d takes (x, y) from -1 to 1. All points
    # are one grid, because there is only one image.
    unit = on_device(2 / (factor * np.array(image.shape[:2])), points.dtype)
    grid = ((points + 0.5) * unit - 1)[..., ::-1].reshape(1, n * h, w, 2)
    return tn.grid_sample2d(on_device(image[None], points.dtype), grid, padding="border").reshape(n, h, w, -1)


def on_device(array: np.ndarray, dtype: np.typing.DTypeLike = np.float32) -> tn.Tensor:
    """A tensor on the device of the backend."""
    return tn.tensor(array.astype(dtype)).to(tn.device())


# ---------------------------------------------------------------------------------------- transforms
# A rigid transform from places of the fixed image to those of the moving image is three numbers in pixels,
# (angle * REACH, dy, dx): rotate about the middle of the fixed image, then shift.
REACH = 250.0  # pixels: rotating by 1 / REACH moves what is so far away from the middle by a pixel


def rigid(p: tn.Tensor, places: tn.Tensor, center: np.ndarray) -> tn.Tensor:
    """Places (..., M, 2) after the transforms p (N, 3): (N, M, 2). Differentiable in both."""
    cos, sin = tn.cos(p[:, 0] / REACH), tn.sin(p[:, 0] / REACH)
    rotation = tn.stack([tn.stack([cos, sin], axis=1), tn.stack([-sin, cos], axis=1)], axis=1)  # transposed
    middle = on_device(center, p.dtype)
    return tn.matmul(places - middle, rotation) + middle + p[:, 1:].reshape(len(p), 1, 2)


def best_affine(places: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The affine map (3, 2) with the least squared distance of [places, 1] @ map from `targets`, both (L, 2)."""
    return np.linalg.lstsq(np.c_[places, np.ones(len(places))], targets, rcond=None)[0]


def best_rigid(places: np.ndarray, targets: np.ndarray, center: np.ndarray) -> np.ndarray:
    """The rigid transform (1, 3) with the least squared distance from `places` to `targets`, both (L, 2)."""
    (y, x), (v, u) = (places - places.mean(axis=0)).T, (targets - targets.mean(axis=0)).T
    angle = np.arctan2(np.sum(y * u - x * v), np.sum(y * v + x * u))
    p = np.array([[angle * REACH, 0, 0]])
    p[0, 1:] = (targets - rigid(tn.tensor(p), tn.tensor(places), center).numpy()[0]).mean(axis=0)
    return p


# ---------------------------------------------------------------------------------------- pairs of slices
@dataclass
class Pair:
    """Two slices: `levels` holds both reduced images for each factor in LEVELS, `landmarks` their places (L, 2)."""

    fixed: StainedSlice
    moving: StainedSlice
    levels: list[tuple[np.ndarray, np.ndarray]]
    landmarks: tuple[np.ndarray, np.ndarray]

    @property
    def center(self) -> np.ndarray:
        return (np.array(self.fixed.image.shape[:2]) - 1) / 2

    def errors(self, p: np.ndarray) -> np.ndarray:
        """Mean distance of the transformed landmarks from those of the moving image, for transforms (N, 3): (N,)."""
        found = rigid(tn.tensor(p), tn.tensor(self.landmarks[0]), self.center).numpy()
        return np.linalg.norm(found - self.landmarks[1], axis=2).mean(axis=1)


def make_pair(fixed: StainedSlice, moving: StainedSlice) -> Pair:
    levels = [(darkness(fixed.image, factor), darkness(moving.image, factor)) for factor in LEVELS]
    return Pair(fixed, moving, levels, common_landmarks(fixed, moving))


def compared_points(pair: Pair, level: int) -> np.ndarray:
    """The centers of the pixels of the reduced fixed image that are compared: (h, w, 2), in pixels of the original."""
    factor = LEVELS[level]
    sizes = (size * factor for size in pair.levels[level][0].shape[:2])
    rows, columns = (np.arange(MARGIN, size - MARGIN - factor + 1, factor) + (factor - 1) / 2 for size in sizes)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)


# ---------------------------------------------------------------------------------------- the net
PATCH = 32  # pixels of the reduced image


def similarity_net(channels: int = 16) -> nn.Sequential:
    """x: (N, H, W, 2), fixed and moving -> (N, h, w, 1): the score of each patch of 32 x 32 pixels, 4 pixels apart.

    A patch gives one score. Average pooling and ELU have no jumps: the score changes smoothly as the images move.
    """
    return nn.Sequential(
        nn.Conv2d(2, channels, 3),
        nn.ELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3),
        nn.ELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(2 * channels, 2 * channels, 3),
        nn.ELU(),
        nn.Conv2d(2 * channels, 4 * channels, 4),
        nn.ELU(),
        nn.Conv2d(4 * channels, 1, 1),
    )


# ---------------------------------------------------------------------------------------- training
NEAR, FAR, TURN = 3.0, 18.0, 0.15  # shifts of the negatives in pixels of the reduced image; rotations in radians


def patches(pair: Pair, level: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random patches of a pair: (float32 (count, PATCH, PATCH, 2), labels float32 (count,)); every other one fits.

    The two patches of a positive lie at the same place by the landmarks' affine map. A negative's second patch is
    shifted and rotated. All patches are rotated, mirrored and scaled at random, and their contrast changes.
    """
    factor = LEVELS[level]
    fits = np.arange(count) % 2 == 0
    steps = (np.arange(PATCH) - (PATCH - 1) / 2) * factor
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    mirror, zoom = rng.choice((-1, 1), (count, 1, 1)), rng.uniform(0.85, 1.2, (count, 1, 1))
    offsets = rotated(offsets * np.concatenate([zoom, zoom * mirror], axis=2), rng.uniform(0, 2 * np.pi, count))
    half = PATCH * factor / 2
    centers = rng.uniform(half, np.array(pair.fixed.image.shape[:2]) - half, (count, 2))[:, None]
    length = factor * np.where(fits, 0, np.exp(rng.uniform(np.log(NEAR), np.log(FAR), count)))
    direction = rng.uniform(0, 2 * np.pi, count)
    shift = length[:, None, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)[:, None]
    beside = centers + shift + rotated(offsets, np.where(fits, 0, rng.uniform(-TURN, TURN, count)))
    matrix = best_affine(*pair.landmarks)
    places = (centers + offsets, beside @ matrix[:2] + matrix[2])
    both = [
        read_at(image, on_device(points.reshape(count, PATCH, PATCH, 2)), factor).numpy()
        for image, points in zip(pair.levels[level], places)
    ]
    x = np.concatenate(both if rng.random() < 0.5 else both[::-1], axis=3)
    x = x * rng.uniform(0.6, 1.4, (count, 1, 1, 2)) + rng.normal(0, 0.2, (count, 1, 1, 2))
    return x.astype(np.float32), fits.astype(np.float32)


def rotated(offsets: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Offsets (M, 2) or (N, M, 2), rotated by angles (N,): (N, M, 2)."""
    cos, sin = np.cos(angles), np.sin(angles)
    return offsets @ np.stack([np.stack([cos, sin], axis=1), np.stack([-sin, cos], axis=1)], axis=1)


def train(pairs: list[Pair], config: Config, seed: int) -> nn.Sequential:
    """Train the net to tell the patches that fit (cross-entropy), on both levels of the pyramid."""
    tn.seed(seed)
    rng = np.random.default_rng(seed)
    model = similarity_net().to(tn.device())
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-2)
    schedule = optim.CosineDecay(optimizer, config.steps, warmup=max(1, config.steps // 20), floor=0.01)
    for _ in tqdm(range(config.steps), f"seed {seed}", leave=False, disable=None):
        level, count = rng.integers(len(LEVELS)), max(2, config.batch_size // len(pairs))
        x, labels = map(np.concatenate, zip(*(patches(pair, level, count, rng) for pair in pairs)))
        loss = tn.bce_with_logits(model(on_device(x))[:, 0, 0, 0], on_device(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for parameter in model.parameters():
        parameter.requires_grad = False  # from now on only the transform is optimized
    return model.eval()


# ---------------------------------------------------------------------------------------- the measures
# Each takes the fixed and the moving image, (N, h, w, 1), and returns (N,): the higher, the better they fit.
Measure = Callable[[tn.Tensor, tn.Tensor], tn.Tensor]
ALL = (1, 2, 3)  # the axes of an image


def squared_difference(fixed: tn.Tensor, moving: tn.Tensor) -> tn.Tensor:
    """SSD, negative: equal places have equal gray levels."""
    return -((fixed - moving) ** 2).mean(axis=ALL)


def correlation(fixed: tn.Tensor, moving: tn.Tensor) -> tn.Tensor:
    """Normalized cross-correlation: the gray levels of one image are a linear function of those of the other."""
    f, m = (x - x.mean(axis=ALL, keepdims=True) for x in (fixed, moving))
    return (f * m).mean(axis=ALL) / tn.sqrt((f * f).mean(axis=ALL) * (m * m).mean(axis=ALL) + 1e-12)


BINS = np.linspace(-2, 4, 17)  # gray levels, in standard deviations from the mean


def mutual_information(fixed: tn.Tensor, moving: tn.Tensor) -> tn.Tensor:
    """Mutual information in nats: the gray levels of one image predict those of the other, in whatever way.

    Every pixel is shared between the neighboring bins by a Gaussian, so that the histogram has a gradient (Parzen
    windows, as Mattes et al. 2003).
    """
    weights = []
    for x in (fixed, moving):
        distance = (x.reshape(len(x), -1, 1) - on_device(BINS, x.dtype)) / float(BINS[1] - BINS[0])
        weight = tn.exp(-2 * distance**2) + 1e-12
        weights.append(weight / weight.sum(axis=2, keepdims=True))
    joint = tn.matmul(weights[0].swapaxes(1, 2), weights[1]) / weights[0].shape[1] + 1e-12
    independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    return (joint * (tn.log(joint) - tn.log(independent))).sum(axis=(1, 2))


def learned(model: nn.Sequential) -> Measure:
    """The mean score of all patches."""
    return lambda fixed, moving: model(tn.concat([fixed, moving], axis=3)).mean(axis=ALL)


# ---------------------------------------------------------------------------------------- registration
def similarity(measure: Measure, pair: Pair, level: int, p: tn.Tensor) -> tn.Tensor:
    """How well the moving image fits after the transforms p (N, 3): (N,). Differentiable in p."""
    points = compared_points(pair, level)
    h, w, _ = points.shape
    places = on_device(points.reshape(1, -1, 2), p.dtype)
    fixed = read_at(pair.levels[level][0], places.reshape(1, h, w, 2), LEVELS[level])
    found = rigid(p, places, pair.center).reshape(len(p), h, w, 2)
    moving = read_at(pair.levels[level][1], found, LEVELS[level])
    return measure(tn.broadcast_to(fixed, moving.shape), moving)


def register(measure: Measure, pair: Pair, start: np.ndarray, steps: int) -> np.ndarray:
    """The transforms (N, 3) after gradient ascent (Adam) on the similarity from `start`, coarse to fine."""
    p = on_device(start)
    p.requires_grad = True
    for level, factor in enumerate(LEVELS):
        optimizer = optim.Adam([p], 0.5 * factor)  # a step is about half a pixel of the reduced image
        schedule = optim.CosineDecay(optimizer, steps, floor=0.02)
        for _ in range(steps):
            loss = -similarity(measure, pair, level, p).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return p.detach().numpy().astype(np.float64)


def random_starts(pair: Pair, count: int, rng: np.random.Generator) -> np.ndarray:
    """Transforms (count, 3): the slices as they come, then random ones about the best rigid transform."""
    distance = np.linspace(20, FARTHEST, count - 1)
    direction, turn = rng.uniform(0, 2 * np.pi, count - 1), rng.uniform(-TURN, TURN, count - 1)
    offsets = np.stack([turn * REACH, distance * np.cos(direction), distance * np.sin(direction)], axis=1)
    return np.concatenate([np.zeros((1, 3)), best_rigid(*pair.landmarks, pair.center) + offsets])


# ---------------------------------------------------------------------------------------- the comparison
FARTHEST = 160  # pixels between a start and the best rigid transform
SHIFTS = np.arange(0, 161, 8)  # pixels
HIT = 5.0  # pixels: a registration has found the place if its error is at most so much above the best rigid one
NAMES = {"ssd": "SSD", "ncc": "correlation", "mi": "mutual information", "learned": "learned"}
COLORS = dict(zip(NAMES, (viz.VERMILLION, viz.ORANGE, viz.SKY, viz.BLUE)))


@dataclass
class Result:
    """What one run found, by measure.

    found: transforms (N, 3) and errors: (N,) in pixels, of "start", too. seconds: for one start. curves: the mean similarity over eight directions of a shift by SHIFTS from the best rigid transform. auc: of
    telling patches of the held-out pair that fit from those that do not.
    """

    found: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    seconds: dict[str, float]
    curves: dict[str, np.ndarray]
    auc: float


def curve(measure: Measure, pair: Pair) -> np.ndarray:
    """The mean similarity of the coarse level by the length of a shift, (len(SHIFTS),)."""
    angles = np.arange(8) * np.pi / 4
    shifts = SHIFTS[:, None, None] * np.stack([0 * angles, np.cos(angles), np.sin(angles)], axis=1)
    p = (best_rigid(*pair.landmarks, pair.center) + shifts).reshape(-1, 3)
    with tn.no_grad():
        values = similarity(measure, pair, 0, on_device(p)).numpy()
    return values.reshape(len(SHIFTS), 8).mean(axis=1)


def patch_auc(model: nn.Sequential, pair: Pair, rng: np.random.Generator, count: int = 200) -> float:
    """How well the net tells patches that fit from patches that do not, on a pair: area under the ROC curve."""
    x, labels = map(np.concatenate, zip(*(patches(pair, level, count, rng) for level in range(len(LEVELS)))))
    return metrics.auc(labels.astype(int), nn.predict(model, x).reshape(-1))


def compare(training: list[Pair], pair: Pair, config: Config, seed: int) -> Result:
    """Train, then register the held-out pair from all starts with every measure."""
    model = train(training, config, seed)
    measures = {"ssd": squared_difference, "ncc": correlation, "mi": mutual_information, "learned": learned(model)}
    rng = np.random.default_rng((seed, 1))
    start = random_starts(pair, config.starts, rng)
    result = Result({"start": start}, {"start": pair.errors(start)}, {}, {}, patch_auc(model, pair, rng))
    for name, measure in measures.items():
        begin = time.perf_counter()
        result.found[name] = register(measure, pair, start, config.search_steps)
        result.seconds[name] = (time.perf_counter() - begin) / len(start)
        result.errors[name] = pair.errors(result.found[name])
        result.curves[name] = curve(measure, pair)
    return result


# ---------------------------------------------------------------------------------------- the run
# The stains that the net learns from, and the pair that is registered. Neither stain of the test pair is learned from,
# nor was anything chosen on it; the settings were chosen on the validation pair.
FOLDS = {
    "test": (("Cc10", "He", "Ki67"), ("CD31", "proSPC")),
    "validation": (("He", "Ki67"), ("Cc10", "He")),
    "synthetic": (("blue", "purple"), ("pale", "brown")),
}


@dataclass
class Config(NetOptions):
    out: str = option("out/learned_similarity", "folder for the figures")
    data: str | None = option(None, "folder of the slices (default: TINYNET_DATA, then the cache)")
    steps: int = option(600, "training steps", quick=15)
    batch_size: int = option(48, "patches in a step", quick=16)
    lr: float = option(2e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    starts: int = option(12, "transforms to register from: the slices as they come, and random ones", quick=4)
    search_steps: int = option(60, "steps of gradient ascent on each of the two levels", quick=8)
    part: str = option("test", "pair to register; choose settings on 'validation'", choices=("test", "validation"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.starts < 2:
            raise ValueError(
                f"--starts is {self.starts}; at least 2 are needed, the slices as they come and a random one"
            )


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train on some stains, register a pair of others with four measures; return landmark errors and shares of hits."""
    slices, fold, source = load_slices(config)
    learned_stains, held_out = FOLDS[fold]
    training = [make_pair(slices[a], slices[b]) for a, b in itertools.combinations(learned_stains, 2)]
    pair = make_pair(*(slices[stain] for stain in held_out))
    stains = {"learned from": ", ".join(learned_stains), "registered": " and ".join(held_out)}
    print_settings(config, similarity_net(), slices=source, landmarks=len(pair.landmarks[0]), **stains)
    runs: list[Result] = []

    def one_run(seed: int) -> dict[str, float]:
        runs.append(compare(training, pair, config, seed))
        return figures_of(runs[-1], pair)

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    print_table(runs, pair)
    figures = {
        "registered.png": draw_overlays(runs[0], pair),
        "measures.png": draw_measures(runs, pair),
        "patches.png": draw_patches(training),
    }
    return report(config, results, EXPECTED if fold == "test" else {}, figures, NEXT)


def load_slices(config: Config) -> tuple[dict[str, StainedSlice], str, str]:
    """({stain: slice}, which of FOLDS, the source of the slices)."""
    source = "synthetic, for a quick run"
    if not config.quick or config.data is not None:
        try:
            slices = read_stained_slices(config.data)
            return {s.stain: s for s in slices}, config.part, f"{len(slices)} stained slices of a lung lesion"
        except DataError as error:
            if config.data is not None:
                raise
            source = f"synthetic, because {error}"
    return {s.stain: s for s in synthetic_stained_slices(np.random.default_rng(0), 448)}, "synthetic", source


def limits(pair: Pair) -> dict[str, float]:
    """Landmark errors of the slices as they come, and after the best rigid and the best affine map, in pixels."""
    places, targets = pair.landmarks
    affine = np.c_[places, np.ones(len(places))] @ best_affine(places, targets)
    return {
        "error_before": float(pair.errors(np.zeros((1, 3)))[0]),
        "error_best_rigid": float(pair.errors(best_rigid(places, targets, pair.center))[0]),
        "error_best_affine": float(np.linalg.norm(affine - targets, axis=1).mean()),
    }


def figures_of(result: Result, pair: Pair) -> dict[str, float]:
    """Landmark errors in pixels, from the slices as they come; shares of hits from all starts; the AUC of patches."""
    known = limits(pair)
    found = {f"error_{name}": float(errors[0]) for name, errors in result.errors.items()}
    hits = {f"hits_{name}": share_of_hits(errors, known) for name, errors in result.errors.items()}
    return known | found | hits | {"auc_patches": result.auc}


def share_of_hits(errors: np.ndarray, known: dict[str, float]) -> float:
    return float(np.mean(errors < known["error_best_rigid"] + HIT))


def print_table(runs: list[Result], pair: Pair) -> None:
    """The landmark errors of every measure, over all runs."""
    rows = []
    for name, title in NAMES.items():
        errors = np.concatenate([result.errors[name] for result in runs])
        row = {"measure": title, "error as they come, px": float(np.mean([r.errors[name][0] for r in runs]))}
        row |= {"median of all starts": float(np.median(errors)), "mean": float(errors.mean())}
        row |= {"hits": share_of_hits(errors, limits(pair))}
        rows.append(row | {"seconds a start": float(np.mean([result.seconds[name] for result in runs]))})
    print(f"\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- figures
def draw_overlays(result: Result, pair: Pair) -> viz.Figure:
    """Checkerboards of both slices: before and after each measure, as the slices come and from the farthest start."""
    figure, panels = viz.subplots(2, 5, figsize=(14.5, 5))
    fixed = pair.fixed.image[::2, ::2]  # half the size is enough
    points = np.stack(np.meshgrid(*(np.arange(n) * 2.0 for n in fixed.shape[:2]), indexing="ij"), axis=-1)
    for row, i, title in zip(panels, (0, -1), ("as they come", "farthest start")):
        for panel, name in zip(row, ("start", *NAMES)):
            places = rigid(on_device(result.found[name][i][None]), on_device(points.reshape(1, -1, 2)), pair.center)
            moved = read_at(pair.moving.image, places.reshape(1, *points.shape), 1).numpy()[0]
            panel.imshow(viz.checkerboard(fixed, np.rint(moved).astype(np.uint8), 5))
            panel.set_title(f"{NAMES.get(name, title)}: {result.errors[name][i]:.0f} px", fontsize=11)
            panel.axis("off")
    return figure


def draw_measures(runs: list[Result], pair: Pair) -> viz.Figure:
    """Left: each measure by the length of a shift. Right: the error from each start."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(11.5, 4.8))
    before = np.concatenate([result.errors["start"] for result in runs])
    for number, (name, color) in enumerate(COLORS.items()):
        curves = np.mean([result.curves[name] for result in runs], axis=0)
        span = curves.max() - curves.min()
        left.plot(SHIFTS, (curves - curves.min()) / span, "o-", color=viz.mpl(color), markersize=3, label=NAMES[name])
        after = np.concatenate([result.errors[name] for result in runs])
        right.plot(before, after, "osD^"[number], color=viz.mpl(color), markersize=5, alpha=0.8, label=NAMES[name])
    left.set(xlabel="shift from the best rigid transform, pixels", ylabel="similarity, from its lowest to its highest")
    left.set_title(f"{pair.fixed.stain} and {pair.moving.stain}: mean of eight directions", fontsize=11)
    best = limits(pair)["error_best_rigid"]
    right.axhline(best, color="0.5", linestyle="--", linewidth=1, label="best rigid transform")
    right.set(xlabel="landmark error before, pixels", ylabel="after registration, pixels", yscale="log")
    right.set_yticks((10, 20, 50, 100, 200), ("10", "20", "50", "100", "200"))
    right.minorticks_off()
    right.set_title(f"{len(before)} starts", fontsize=11)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    return figure


def draw_patches(training: list[Pair]) -> viz.Figure:
    """Patches that the net learns from: five pairs that fit, five that do not."""
    figure, panels = viz.subplots(2, 10, figsize=(11, 2.7))
    x, labels = patches(training[0], 0, 10, np.random.default_rng(0))
    for number, i in enumerate(np.argsort(-labels, kind="stable")):
        for panel, image in zip(panels[:, number], np.moveaxis(x[i], 2, 0)):
            panel.imshow(image, cmap="gray_r")
            panel.axis("off")
        panels[0, number].set_title("fits" if labels[i] else "does not", fontsize=10)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Registration: a learned similarity between stains"
DATA = "five slices of a lung lesion in five stains, 80 landmarks each (Borovec et al.)"
FILES = ("histology_landmarks/lung-lesion_3",)
EXPECTED = {"error_before": (73, 73.5)}
PICTURE = "registered.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/registration/affine_regression.py"


if __name__ == "__main__":
    run(main)
