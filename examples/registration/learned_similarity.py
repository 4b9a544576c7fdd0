"""A learned similarity: a net decides whether two patches show the same place, and its gradient registers two stains.

    python examples/registration/learned_similarity.py
    python examples/registration/learned_similarity.py --part validation     # to try other settings

Neighboring slices of a tissue are stained for different molecules, and show the same structures in different colors. To
bring two of them together, one needs a measure of how well they fit, and moves one of them where the measure grows:

- **SSD**, the squared difference, asks for equal gray levels; **correlation** for a linear relation between them;
  **mutual information** only that the gray levels of one image predict those of the other, in whatever way.
- **A learned measure.** A net looks at two patches and says whether they show the same place. It has learned from
  patches at the same place by the landmarks (an affine map, whose error is 6 to 12 pixels), and from patches that are
  16 to 192 pixels beside each other and turned. The measure is the mean of its scores. The net has convolutions only,
  so that it scores all patches of an image at once, and the gradient of the score goes through the net and through the
  interpolation to the three parameters of a rigid transform.

All of them are maximized by the same gradient ascent on gray levels, on images reduced to an eighth and then to a
fourth. Two figures count: the landmark error from the slices as they come, and the hits: how many of 13 starts, these
and random ones up to 240 pixels from the best transform, end within 5 pixels of its error. No rigid transform of this
pair has an error below 9 pixels and no affine one below 7, since tissue bends when it is cut; the images are 892 pixels
wide.

**How long to learn?** The longer, the better the net tells patches, and the sharper is the peak of the measure: exact,
but a start far away sees no slope. On the validation pair, a net of 150 steps tells patches with an AUC of 0.61 and
finds 77 % of the starts, a net of 600 steps 58 %, as correlation does. So an early net steers on the coarse level and
the late net on the fine level.

On the test pair (three seeds, 13 starts each), every measure ends within half a pixel of the best rigid transform, from
the slices as they come. The nets are the most exact (9.25 to 9.27 pixels; the others 9.45 to 9.53; the best 9.05). The
early and the late net together have 77 % hits, mutual information 67 to 69 %, correlation 59 to 62 %, SSD 51 to 59 %,
the late net alone 36 to 38 %. The ranges are from two runs of the script, which differ in rounding errors only: SSD
learns nothing, and yet its hits changed by 3 of 39. So the order of SSD, correlation and mutual information is open.
That correlation does so well has a reason: in all five stains tissue is darker than the background, so that the gray
levels do have a simple relation. The learned measure needs landmarks of other stains to learn from, the others nothing.

Sources: Simonovsky et al., A deep metric for multimodal registration, MICCAI 2016; Mattes et al., IEEE TMI 22, 2003
(mutual information with a gradient); data: Borovec et al., Benchmarking of image registration methods for differently
stained histological slides, ICIP 2018.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, registration, viz
from tinynet.data import DataError, StainedSlice, StainPair, read_stained_slices, stain_pair, synthetic_stained_slices
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

LEVELS = (8, 4)  # the images are reduced by these factors, coarse first; all lengths are in pixels of the originals
Pair = list[StainPair]  # two slices on each level


def pyramid(fixed: StainedSlice, moving: StainedSlice) -> Pair:
    """The pair at each scale of LEVELS, from coarse to fine."""
    return [stain_pair(fixed, moving, factor) for factor in LEVELS]


# ---------------------------------------------------------------------------------------- the net
def similarity_net(channels: int = 16) -> nn.Sequential:
    """x: (N, H, W, 2), fixed and moving -> (N, h, w, 1): the score of each patch of 30 x 30 pixels, 4 pixels apart.

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
def train(pairs: list[Pair], steps: int, config: Config, seed: int) -> nn.Sequential:
    """Train a net to tell the patches that fit (cross-entropy), on both levels of the pyramid."""
    tn.seed(seed)
    rng = np.random.default_rng(seed)
    model = similarity_net().to(tn.device())
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-2)
    schedule = optim.CosineDecay(optimizer, steps, warmup=steps // 20, floor=0.01)
    for _ in tqdm(range(steps), f"seed {seed}, {steps} steps", leave=False, disable=None):
        level, count = rng.integers(len(LEVELS)), max(2, config.batch_size // len(pairs))
        x, labels = map(np.concatenate, zip(*(pair[level].patches(count, rng) for pair in pairs)))
        loss = tn.bce_with_logits(model(on_device(x))[:, 0, 0, 0], on_device(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for parameter in model.parameters():
        parameter.requires_grad = False  # from now on only the transform is optimized
    return model.eval()


def on_device(array: np.ndarray) -> tn.Tensor:
    """A float32 tensor on the device of the backend."""
    return tn.tensor(array.astype(np.float32)).to(tn.device())


# ---------------------------------------------------------------------------------------- registration
# A measure takes the fixed image (1, h, w, 1) and moving images (N, h, w, 1), and returns (N,): the higher, the better
# they fit.
Measure = Callable[[tn.Tensor, tn.Tensor], tn.Tensor]


def learned(model: nn.Sequential) -> Measure:
    """The mean score of all patches."""

    def measure(fixed: tn.Tensor, moving: tn.Tensor) -> tn.Tensor:
        return model(tn.concat([tn.broadcast_to(fixed, moving.shape), moving], axis=3)).mean(axis=(1, 2, 3))

    return measure


MARGIN = 96  # pixels along the border of the fixed image that are not compared: the moving image may not cover them


def similarity(measure: Measure, pair: StainPair, p: tn.Tensor) -> tn.Tensor:
    """How well the moving image fits after the transforms p (N, 3): (N,). Differentiable in p."""
    margin = MARGIN // pair.factor
    places = pair.places(margin)
    found = registration.rigid(p, places.reshape(-1, 2), pair.center).reshape(len(p), *places.shape)
    moving = registration.read_at(pair.moving[None], pair.reduced(found))
    fixed = tn.tensor(pair.fixed[None, margin:-margin, margin:-margin].astype(p.dtype)).to(tn.device())
    return measure(fixed, moving)


REACH = 250.0  # pixels: rotating by 1 / REACH moves a place so far from the center by a pixel
FROM_PIXELS = np.array([1 / REACH, 1, 1])


def register(measures: Sequence[Measure], pair: Pair, start: np.ndarray, steps: int) -> np.ndarray:
    """The transforms (N, 3) after gradient ascent (Adam) on the similarity from `start`, coarse to fine.

    measures: one for each level.
    """
    pixels = on_device(start / FROM_PIXELS)
    pixels.requires_grad = True
    for measure, level in zip(measures, pair):
        optimizer = optim.Adam([pixels], level.factor)  # a step is about a pixel of the reduced image
        schedule = optim.CosineDecay(optimizer, steps, floor=0.02)
        for _ in range(steps):
            loss = -similarity(measure, level, pixels * on_device(FROM_PIXELS)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return pixels.detach().numpy() * FROM_PIXELS


def random_starts(pair: Pair, count: int, rng: np.random.Generator) -> np.ndarray:
    """Transforms (count, 3): the slices as they come, then random ones about the best rigid transform."""
    distance = np.linspace(20, FARTHEST, count - 1)
    direction, turn = rng.uniform(0, 2 * np.pi, count - 1), rng.uniform(-0.2, 0.2, count - 1)
    offsets = np.stack([turn, distance * np.cos(direction), distance * np.sin(direction)], axis=1)
    return np.concatenate([np.zeros((1, 3)), pair[0].best + offsets])


# ---------------------------------------------------------------------------------------- the comparison
FARTHEST = 240  # pixels between a start and the best rigid transform
SHIFTS = np.arange(0, 241, 10)  # pixels
HIT = 5.0  # pixels: a registration has found the place if its error is at most so much above the best rigid one
FUNCTIONS = {"ssd": "squared_difference", "ncc": "correlation", "mi": "mutual_information"}
NAMES = {
    "ssd": "SSD",
    "ncc": "correlation",
    "mi": "mutual information",
    "late": "late net",
    "learned": "early, late net",
}
COLORS = dict(zip(NAMES, (viz.VERMILLION, viz.ORANGE, viz.SKY, viz.GREEN, viz.BLUE)))


@dataclass
class Result:
    """What one run found, by measure. auc: of telling patches that fit from those that do not, on the held-out pair.

    found: transforms (N, 3) and errors: (N,) in pixels, of the "start", too. seconds: for one start. curves: the mean
    similarity over eight directions of a shift by SHIFTS from the best rigid transform.
    """

    found: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    seconds: dict[str, float]
    curves: dict[str, np.ndarray]
    auc: dict[str, float]


def curve(measure: Measure, pair: Pair) -> np.ndarray:
    """The mean similarity of the coarse level by the length of a shift, (len(SHIFTS),)."""
    angles = np.arange(8) * np.pi / 4
    shifts = SHIFTS[:, None, None] * np.stack([0 * angles, np.cos(angles), np.sin(angles)], axis=1)
    p = (pair[0].best + shifts).reshape(-1, 3)
    with tn.no_grad():
        values = similarity(measure, pair[0], on_device(p)).numpy()
    return values.reshape(len(SHIFTS), 8).mean(axis=1)


def patch_auc(model: nn.Sequential, pair: Pair, rng: np.random.Generator, count: int) -> float:
    """How well the net tells patches that fit from patches that do not, on a pair: area under the ROC curve."""
    x, labels = map(np.concatenate, zip(*(level.patches(count, rng) for level in pair)))
    return metrics.auc(labels.astype(int), nn.predict(model, x).reshape(-1))


def compare(training: list[Pair], pair: Pair, config: Config, seed: int) -> Result:
    """Train, then register the held-out pair from all starts with every measure."""
    early, late = (train(training, steps, config, seed) for steps in (config.early_steps, config.steps))
    measures = {name: [getattr(registration, function)] * len(LEVELS) for name, function in FUNCTIONS.items()}
    measures |= {"late": [learned(late)] * 2, "learned": [learned(early), learned(late)]}
    rng = np.random.default_rng((seed, 1))
    start = random_starts(pair, config.starts, rng)
    auc = {name: patch_auc(net, pair, rng, 8 * config.batch_size) for name, net in (("early", early), ("late", late))}
    result = Result({"start": start}, {"start": pair[0].errors(start)}, {}, {}, auc)
    for name, of_levels in measures.items():
        begin = time.perf_counter()
        result.found[name] = register(of_levels, pair, start, config.search_steps)
        result.seconds[name] = (time.perf_counter() - begin) / len(start)
        result.errors[name] = pair[0].errors(result.found[name])
        result.curves[name] = curve(of_levels[0], pair)
    return result


# ---------------------------------------------------------------------------------------- the run
# The stains that the net learns from, and the pair that is registered. Neither stain of the test pair is learned from,
# nor was anything chosen on it; the settings were chosen on the validation pair. That is an easier task: without the
# test pair three stains are left, so the net learns from one stain of the validation pair, He, in another pair.
FOLDS = {
    "test": (("Cc10", "He", "Ki67"), ("CD31", "proSPC")),
    "validation": (("He", "Ki67"), ("Cc10", "He")),
    "synthetic": (("blue", "purple"), ("pale", "brown")),
}


@dataclass
class Config(NetOptions):
    out: str = option("out/learned_similarity", "folder for the figures")
    data: str | None = option(None, "folder of the slices (default: TINYNET_DATA, then the cache)")
    steps: int = option(600, "training steps of the late net", quick=15)
    early_steps: int = option(150, "training steps of the early net", quick=5)
    batch_size: int = option(48, "patches in a step", quick=16)
    lr: float = option(2e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    starts: int = option(13, "transforms to register from: the slices as they come, and random ones", quick=4)
    search_steps: int = option(60, "steps of gradient ascent on each of the two levels", quick=8)
    part: str = option("test", "pair to register; choose settings on 'validation'", choices=("test", "validation"))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "steps", "early_steps", "batch_size", "search_steps")
        if self.starts < 2:
            raise ValueError(
                f"--starts is {self.starts}; at least 2 are needed, the slices as they come and a random one"
            )


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train on some stains, register a pair of others with four measures; return landmark errors and shares of hits."""
    slices, fold, source = load_slices(config)
    learned_stains, held_out = FOLDS[fold]
    training = [pyramid(slices[a], slices[b]) for a, b in itertools.combinations(learned_stains, 2)]
    pair = pyramid(*(slices[stain] for stain in held_out))
    stains = {"learned from": ", ".join(learned_stains), "registered": " and ".join(held_out)}
    print_settings(config, similarity_net(), slices=source, landmarks=len(pair[0].landmarks[0]), **stains)
    runs: list[Result] = []

    def one_run(seed: int) -> dict[str, float]:
        runs.append(compare(training, pair, config, seed))
        return figures_of(runs[-1], pair)

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    print_table(runs, pair)
    figures = {
        "registered.png": draw_overlays(runs[0], pair),
        "measures.png": draw_measures(runs, pair),
    }
    return report(config, results, EXPECTED if fold == "test" else {}, figures, NEXT)


def load_slices(config: Config) -> tuple[dict[str, StainedSlice], str, str]:
    """({stain: slice}, which of FOLDS, the source of the slices)."""
    try:
        slices = {s.stain: s for s in read_stained_slices(config.data)}
        needed = {stain for stains in FOLDS[config.part] for stain in stains}
        if not needed <= set(slices):
            raise DataError(f"the slices have the stains {', '.join(slices)}; {', '.join(sorted(needed))} are needed")
        return slices, config.part, f"{len(slices)} stained slices of a lung lesion"
    except DataError as error:
        if config.data is not None:
            raise
        source = f"synthetic, because {error}"
    return {s.stain: s for s in synthetic_stained_slices(np.random.default_rng(0), 448)}, "synthetic", source


def limits(pair: Pair) -> dict[str, float]:
    """Landmark errors of the slices as they come, and after the best rigid and the best affine map, in pixels."""
    places, targets = pair[0].landmarks
    affine = np.c_[places, np.ones(len(places))] @ registration.best_affine(places, targets)
    return {
        "error_before": float(pair[0].errors(np.zeros((1, 3)))[0]),
        "error_best_rigid": float(pair[0].errors(pair[0].best)[0]),
        "error_best_affine": float(np.linalg.norm(affine - targets, axis=1).mean()),
    }


def figures_of(result: Result, pair: Pair) -> dict[str, float]:
    """Landmark errors in pixels, from the slices as they come; shares of hits from all starts; the AUC of patches."""
    known = limits(pair)
    found = {f"error_{name}": float(result.errors[name][0]) for name in NAMES}
    hits = {f"hits_{name}": share_of_hits(result.errors[name], known) for name in NAMES}
    return known | found | hits | {f"auc_{name}": auc for name, auc in result.auc.items()}


def share_of_hits(errors: np.ndarray, known: dict[str, float]) -> float:
    """The share of starts whose error ends at most HIT pixels above the error of the best rigid transform."""
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
    """Checkerboards of both slices: before and after each measure, as the slices come and from a random start."""
    figure, panels = viz.subplots(2, 6, figsize=(17, 5))
    fixed, moving = (s.image for s in pair[0].slices)
    points = registration.pixel_centers(*fixed.shape[:2], step=2)  # half the size is enough
    middle = len(result.errors["start"]) // 2
    for row, i, title in zip(panels, (0, middle), ("as they come", "a random start")):
        for panel, name in zip(row, ("start", *NAMES)):
            p = on_device(result.found[name][i][None])
            places = registration.rigid(p, points.reshape(-1, 2), pair[0].center)
            moved = registration.read_at(moving[None], places.reshape(1, *points.shape)).numpy()[0]
            panel.imshow(viz.checkerboard(fixed[::2, ::2], np.rint(moved).astype(np.uint8), 5))
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
        right.plot(before, after, "osDv^"[number], color=viz.mpl(color), markersize=5, alpha=0.8, label=NAMES[name])
    left.set(xlabel="shift from the best rigid transform, pixels", ylabel="similarity, from its lowest to its highest")
    stains = " and ".join(s.stain for s in pair[0].slices)
    left.set_title(f"{stains}: mean of eight directions", fontsize=11)
    best = limits(pair)["error_best_rigid"]
    right.axhline(max(best, 1), color="0.5", linestyle="--", linewidth=1, label="best rigid transform")
    right.set(xlabel="landmark error before, pixels", ylabel="after registration, pixels", yscale="log")
    right.set_yticks((10, 20, 50, 100, 200), ("10", "20", "50", "100", "200"))
    right.minorticks_off()
    right.set_title(f"{len(before)} starts", fontsize=11)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Registration: a learned similarity between stains"
DATA = "five slices of a lung lesion in five stains, 80 landmarks each (Borovec et al.)"
FILES = ("histology_landmarks/lung-lesion_3",)
EXPECTED = {
    "error_before": (73, 73.5),
    "error_ssd": (9, 10),
    "error_ncc": (9, 10),
    "error_mi": (9, 10),
    "error_learned": (9, 9.6),
    "hits_ncc": (0.5, 0.75),
    "hits_mi": (0.5, 0.8),
    "hits_late": (0.2, 0.6),
    "hits_learned": (0.6, 0.95),
    "auc_late": (0.93, None),
}
PICTURE = "measures.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/registration/voxelmorph.py"


if __name__ == "__main__":
    run(main)
