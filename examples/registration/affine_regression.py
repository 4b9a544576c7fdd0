"""Registration by regression: a net looks at two images and says how one of them is rotated and shifted.

    python examples/registration/affine_regression.py
    python examples/registration/affine_regression.py --part validation      # to try other settings

To register two images is to find the transform that brings them together. The classical way is a search: change the
transform a little, see whether the images agree better, and so on. Here a net does it in a look. Its input is both
images as two channels, its output the three parameters of a rigid transform. It has learned from pairs that the script
transformed at random, up to 80 degrees and 15 pixels, so that the right answer is known for every pair.

- **Looking again.** After one look, the error is 2.8 pixels (the median; 16 without registration). So the moving image
  is transformed by what the net said, and the net looks at the rest. After four looks it is 0.6 pixels. The transforms
  are composed and the original image is read again each time, so that nothing blurs.
- **The search** is gradient descent on the sum of squared differences (SSD): the slope of the moving image tells each
  pixel in which direction to go. If it starts close enough, it is far more exact than the net, 0.03 pixels; of the
  pairs with the largest transforms, it finds one in six. Coarse to fine, on blurred images first, it finds half of
  them. The net finds 97 of 100 pairs, in a fortieth of the time.
- **Both.** The net finds the place, and then the search makes it exact: 98 of 100 pairs, 0.02 pixels.
- **Two contrasts.** SSD asks for equal gray levels. In the map of gray matter, white matter is black, and in the
  T1-weighted image it is bright: SSD fails wherever it starts, and spoils what the net has found. The net has learned
  from such pairs and does nearly as well as before: in two runs, it finds 94 and 97 of 100 pairs. A search needs
  another measure: see learned_similarity.py.

The images are axial slices of the MNI templates at 3 mm a pixel. The test slices lie in two bands that training left
out, with a margin. So the net registers slices that it has not seen, but of the same head, the average of 152, with the
contrasts and the noise that it learned from. Other scanners and patients would be harder for it; not so for SSD. Error:
the mean distance, over all pixels of the head, between where the transform puts a pixel and where it belongs.

Sources: Miao, Wang, Liao, A CNN regression approach for real-time 2D/3D registration, IEEE TMI 35, 2016 (it registers
X-rays to a CT volume, in several looks, too); Fonov et al., NeuroImage 54, 2011 (the templates).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, registration, viz
from tinynet.data import DataError, mni_template, synthetic_template
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

SIZE, MILLIMETERS = 96, 3  # height and width of a slice in pixels, and the size of a pixel
PLACES = registration.pixel_centers(SIZE, SIZE)  # (SIZE, SIZE, 2)
CENTER = PLACES.mean(axis=(0, 1))

# A transform is (angle, dy, dx): rotate about the center, then shift. The net and the search count all three in pixels:
# at RADIUS pixels from the center, about the border of the head, an angle of 1 / RADIUS moves a point by a pixel.
RADIUS = 25
FROM_PIXELS = np.array([1 / RADIUS, 1, 1])


# ---------------------------------------------------------------------------------------- the transform
def transformed(images: tn.Tensor, p: tn.Tensor) -> tn.Tensor:
    """y[place] = image[transform(place)]: images (N, SIZE, SIZE, 1), transforms p (N, 3). Differentiable in both."""
    places = registration.rigid(p, PLACES.reshape(-1, 2), CENTER).reshape(len(p), SIZE, SIZE, 2)
    return registration.read_at(images, places, padding="zeros")


def errors(p: np.ndarray, true: np.ndarray, head: np.ndarray) -> np.ndarray:
    """The mean distance in pixels of p(place) from true(place) over the places of the head, bool (N, SIZE, SIZE)."""
    found, right = (registration.moved(q, PLACES.reshape(-1, 2), CENTER) for q in (p, true))
    distance = np.linalg.norm(found - right, axis=2).reshape(head.shape)
    return np.array([d[inside].mean() for d, inside in zip(distance, head)])


def move(images: np.ndarray, p: np.ndarray) -> np.ndarray:
    """`transformed` for arrays, without gradients."""
    with tn.no_grad():
        return transformed(on_device(images), on_device(p)).numpy()


def on_device(array: np.ndarray) -> tn.Tensor:
    """A float32 tensor on the device of the backend."""
    return tn.tensor(array.astype(np.float32)).to(tn.device())


# ---------------------------------------------------------------------------------------- the data
FIRST, LAST = 32, 132  # axial slices, in voxels from the bottom
TEST, VALIDATION, MARGIN = (range(58, 68), range(98, 108)), (range(80, 88),), 3


def slices_of(template: np.ndarray) -> np.ndarray:
    """The axial slices of a template at 3 mm a pixel, front up: float32 (LAST - FIRST, SIZE, SIZE, 1) in 0 .. 1."""
    stack = template[FIRST:LAST, ::-1] / 255
    height, width = (size // MILLIMETERS for size in stack.shape[1:])
    stack = stack[:, : height * MILLIMETERS, : width * MILLIMETERS]
    small = stack.reshape(len(stack), height, MILLIMETERS, width, MILLIMETERS).mean(axis=(2, 4))
    above, left = (SIZE - height) // 2, (SIZE - width) // 2
    margins = ((0, 0), (above, SIZE - height - above), (left, SIZE - width - left), (0, 0))
    return np.pad(small[..., None], margins)


def parts() -> dict[str, np.ndarray]:
    """Indices of the slices to train on, to validate and to test with. No training slice is next to another part."""
    held_out = {"validation": VALIDATION, "test": TEST}
    result = {name: np.concatenate([np.array(band) for band in bands]) - FIRST for name, bands in held_out.items()}
    near = [range(band.start - MARGIN, band.stop + MARGIN) for bands in held_out.values() for band in bands]
    result["training"] = np.array([i - FIRST for i in range(FIRST, LAST) if not any(i in band for band in near)])
    return result


@dataclass
class Pairs:
    """fixed, moving: float32 (N, SIZE, SIZE, 1). fixed[place] fits moving[true(place)]. head: bool (N, SIZE, SIZE)."""

    fixed: np.ndarray
    moving: np.ndarray
    true: np.ndarray
    head: np.ndarray


# Of the random transforms: 80 degrees and 15 pixels, 45 mm. Before, both images of a pair are rotated and shifted a
# little, so that the net must compare them and cannot memorize a position.
LIMITS, POSE = np.array([np.radians(80), 15, 15]), np.array([np.radians(15), 5, 5])
NOISE = 0.02


def random_pairs(fixed: np.ndarray, moving: np.ndarray, count: int, rng: np.random.Generator, near: float) -> Pairs:
    """Random pairs of slices of two contrasts, float32 (slices, SIZE, SIZE, 1).

    near: the share of the pairs whose transform is scaled down by a random factor. Looking again, the net sees pairs
    that fit almost.
    """
    chosen = rng.integers(0, len(fixed), count)
    pose, true = (rng.uniform(-1, 1, (count, 3)) * limits for limits in (POSE, LIMITS))
    true *= np.where(rng.random(count) < near, rng.random(count), 1)[:, None]
    noise = rng.normal(0, NOISE, (2, count, SIZE, SIZE, 1)).astype(np.float32)
    at_pose = move(fixed[chosen], pose)
    return Pairs(
        at_pose + noise[0],
        move(moving[chosen], registration.composed(pose, registration.inverse(true))) + noise[1],
        true,
        at_pose[..., 0] > 0.05,
    )


# ---------------------------------------------------------------------------------------- the net
def transform_net(size: int = SIZE, channels: int = 16) -> nn.Sequential:
    """x: (N, size, size, 2), fixed and moving image -> (N, 3), the transform between them in pixels.

    Four strided convolutions compare the images at ever larger scales; the linear layers know where. size: a multiple
    of 16. channels: of the first convolution.
    """
    layers: list[nn.Module] = []
    widths = (2, channels, 3 * channels // 2, 2 * channels, 3 * channels)
    for c_in, c_out in itertools.pairwise(widths):
        layers += [nn.Conv2d(c_in, c_out, 5 if c_in == 2 else 3, stride=2, padding=2 if c_in == 2 else 1), nn.ELU()]
    features = (size // 16) ** 2 * widths[-1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 8 * channels), nn.ELU(), nn.Linear(8 * channels, 3))


def train(fixed: np.ndarray, moving: np.ndarray, config: Config, seed: int, name: str) -> nn.Sequential:
    """Train on random pairs. The loss is the absolute error of the three parameters, all of them in pixels."""
    tn.seed(seed)
    rng = np.random.default_rng(seed)
    model = transform_net().to(tn.device())
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-3)
    schedule = optim.CosineDecay(optimizer, config.steps, warmup=config.steps // 20, floor=0.01)
    for _ in tqdm(range(config.steps), f"{name}, seed {seed}", leave=False, disable=None):
        pairs = random_pairs(fixed, moving, config.batch_size, rng, near=0.5)
        both = on_device(np.concatenate([pairs.fixed, pairs.moving], axis=3))
        loss = tn.abs(model(both) - on_device(pairs.true / FROM_PIXELS)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


# ---------------------------------------------------------------------------------------- registration
def look(model: nn.Sequential, pairs: Pairs, times: int) -> np.ndarray:
    """The transforms (N, 3) that the net finds: it looks, the moving image is transformed, it looks again, ..."""
    p = np.zeros((len(pairs.fixed), 3))
    for _ in range(times):
        both = np.concatenate([pairs.fixed, move(pairs.moving, p)], axis=3)
        p = registration.composed(p, nn.predict(model, both) * FROM_PIXELS)
    return p


def descend(pairs: Pairs, start: np.ndarray, blurs: tuple[float, ...], steps: int) -> np.ndarray:
    """The transforms (N, 3) after gradient descent (Adam) on the squared difference, from the transforms `start`.

    blurs: standard deviations of the Gaussian in pixels, a descent for each: coarse to fine. Adam scales the gradient
    of each parameter on its own, so that the pairs do not influence each other.
    """
    pixels = on_device(start / FROM_PIXELS)
    pixels.requires_grad = True
    for blur in blurs:
        fixed, moving = (
            on_device(ndimage.gaussian_filter(images, (0, blur, blur, 0)) if blur else images)
            for images in (pairs.fixed, pairs.moving)
        )
        optimizer = optim.Adam([pixels], 0.5)
        schedule = optim.CosineDecay(optimizer, steps // len(blurs), floor=0.02)
        for _ in range(steps // len(blurs)):
            p = pixels * on_device(FROM_PIXELS)
            loss = ((transformed(moving, p) - fixed) ** 2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return pixels.detach().numpy() * FROM_PIXELS


# ---------------------------------------------------------------------------------------- the comparison
FINE, COARSE_TO_FINE = (0.0,), (6.0, 3.0, 0.0)
LOOKS = 4
HIT = 2.0  # pixels: a registration with a smaller error has found the right place
METHODS: dict[str, Callable[[nn.Sequential, Pairs, int], np.ndarray]] = {  # (net, pairs, steps of the search)
    "none": lambda model, pairs, steps: np.zeros((len(pairs.fixed), 3)),
    "ssd": lambda model, pairs, steps: descend(pairs, np.zeros((len(pairs.fixed), 3)), FINE, steps),
    "coarse_to_fine": lambda model, pairs, steps: descend(
        pairs, np.zeros((len(pairs.fixed), 3)), COARSE_TO_FINE, steps
    ),
    "one_look": lambda model, pairs, steps: look(model, pairs, 1),
    "net": lambda model, pairs, steps: look(model, pairs, LOOKS),
    "net_then_ssd": lambda model, pairs, steps: descend(pairs, look(model, pairs, LOOKS), FINE, steps // 2),
}
NAMES = {
    "none": "no registration",
    "ssd": "descent on SSD",
    "coarse_to_fine": "descent, coarse to fine",
    "one_look": "net, one look",
    "net": f"net, {LOOKS} looks",
    "net_then_ssd": "net, then descent",
}
TASKS = {"t1": "T1 to T1", "gm": "T1 to gray matter"}  # contrast of the fixed image; the moving one is T1-weighted


@dataclass
class Result:
    """pairs: the test pairs. found: the transforms of each method (N, 3). errors: (N,) in pixels. ms: per pair."""

    pairs: Pairs
    found: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    ms: dict[str, float]


def compare(slices: dict[str, np.ndarray], contrast: str, config: Config, seed: int) -> Result:
    """Train a net for one pair of contrasts; register the test pairs with every method."""
    part = parts()
    learned, tested = ((slices[contrast][part[p]], slices["t1"][part[p]]) for p in ("training", config.part))
    model = train(*learned, config, seed, TASKS[contrast])
    rng = np.random.default_rng((seed, 1))
    pairs = random_pairs(*tested, config.test, rng, near=0.0)
    result = Result(pairs, {}, {}, {})
    for name, method in METHODS.items():
        begin = time.perf_counter()
        result.found[name] = method(model, pairs, config.search_steps)
        result.ms[name] = 1000 * (time.perf_counter() - begin) / len(pairs.fixed)
        result.errors[name] = errors(result.found[name], pairs.true, pairs.head)
    return result


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/affine_regression", "folder for the figures")
    steps: int = option(1000, "training steps", quick=50)
    batch_size: int = option(32, "pairs in a step", quick=12)
    lr: float = option(2e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    test: int = option(60, "pairs to test with", quick=6)
    search_steps: int = option(120, "steps of gradient descent on SSD", quick=12)
    part: str = option("test", "slices to test with; choose settings on 'validation'", choices=("test", "validation"))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "steps", "batch_size", "test")
        self.at_least(len(COARSE_TO_FINE), "search_steps")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Compare a net with gradient descent, for one contrast and for two; return errors, shares of hits, times."""
    slices, source = load_slices()
    sizes = ", ".join(f"{len(indices)} {name}" for name, indices in parts().items())
    print_settings(config, transform_net(), data=source, slices=f"{sizes}, {SIZE} x {SIZE} pixels")
    runs: dict[str, list[Result]] = {contrast: [] for contrast in TASKS}

    def one_run(seed: int) -> dict[str, float]:
        for contrast in TASKS:
            runs[contrast].append(compare(slices, contrast, config, seed))
        return figures_of({contrast: results[-1] for contrast, results in runs.items()})

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    print_tables(runs)
    figures = {"registered.png": draw_pairs(runs), "capture_range.png": draw_capture(runs)}
    return report(config, results, EXPECTED if source.startswith("MNI") else {}, figures, NEXT)


def load_slices() -> tuple[dict[str, np.ndarray], str]:
    """({contrast: slices}, their source)."""
    try:
        templates, source = {contrast: mni_template(contrast) for contrast in TASKS}, "MNI templates (ICBM 152, 2009a)"
    except DataError as error:
        templates, source = synthetic_template(np.random.default_rng(0)), f"a synthetic head, because {error}"
    return {contrast: slices_of(template) for contrast, template in templates.items()}, source


def figures_of(results: dict[str, Result]) -> dict[str, float]:
    """The metrics of one run. Errors are medians in pixels, hits the share of pairs with an error below HIT."""
    metrics_of_run = {"error_none": float(np.median(results["t1"].errors["none"]))}
    for contrast, result in results.items():
        for name in ("net", "ssd"):
            metrics_of_run[f"{contrast}_error_{name}"] = float(np.median(result.errors[name]))
        for name in ("net", "ssd", "coarse_to_fine"):
            metrics_of_run[f"{contrast}_hits_{name}"] = float(np.mean(result.errors[name] < HIT))
    both = results["t1"]
    metrics_of_run["t1_hits_net_then_ssd"] = float(np.mean(both.errors["net_then_ssd"] < HIT))
    metrics_of_run["times_faster"] = both.ms["ssd"] / both.ms["net"]
    return metrics_of_run


def print_tables(runs: dict[str, list[Result]]) -> None:
    """Errors, hits and time of every method, over all pairs of all runs."""
    for contrast, results in runs.items():
        rows = []
        for name, title in NAMES.items():
            found = np.concatenate([result.errors[name] for result in results])
            row = {"method": title, "median error, px": float(np.median(found)), "mean error, px": float(found.mean())}
            row[f"error < {HIT:g} px"] = float(np.mean(found < HIT))
            rows.append(row | {"ms a pair": float(np.mean([result.ms[name] for result in results]))})
        print(f"\n{TASKS[contrast]}\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- figures
def draw_pairs(runs: dict[str, list[Result]]) -> viz.Figure:
    """For each task two pairs as checkerboards of fixed and moving image: before, after the descent, after the net."""
    figure, panels = viz.subplots(2 * len(runs), 5, figsize=(10.5, 4.4 * len(runs)))
    for number, (contrast, results) in enumerate(runs.items()):
        pairs, found, errors_of = results[0].pairs, results[0].found, results[0].errors
        by_error = np.argsort(errors_of["none"])
        for row, i in zip(panels[2 * number :], (by_error[len(by_error) // 3], by_error[-1])):
            row[0].imshow(pairs.fixed[i, :, :, 0], cmap="gray", vmin=0, vmax=1)
            row[0].set_title(f"fixed ({TASKS[contrast]})", fontsize=9)
            row[1].imshow(pairs.moving[i, :, :, 0], cmap="gray", vmin=0, vmax=1)
            row[1].set_title("moving", fontsize=9)
            for panel, name in zip(row[2:], ("none", "ssd", "net")):
                moved = move(pairs.moving[i : i + 1], found[name][i : i + 1])[0, :, :, 0]
                panel.imshow(viz.checkerboard(pairs.fixed[i, :, :, 0], moved, 6), cmap="gray", vmin=0, vmax=1)
                panel.set_title(f"{NAMES[name]}:\n{errors_of[name][i]:.1f} px", fontsize=9)
    for panel in panels.flat:
        panel.axis("off")
    return figure


def draw_capture(runs: dict[str, list[Result]]) -> viz.Figure:
    """Above: the share of hits by the error before (the capture range). Below: the errors of all pairs, sorted."""
    figure, panels = viz.subplots(2, len(runs), squeeze=False, figsize=(5.5 * len(runs), 7.5))
    shown = {"ssd": viz.VERMILLION, "coarse_to_fine": viz.ORANGE, "net": viz.BLUE, "net_then_ssd": viz.GREEN}
    for (above, below), (contrast, results) in zip(panels.T, runs.items()):
        pooled = {name: np.concatenate([result.errors[name] for result in results]) for name in NAMES}
        edges = np.quantile(pooled["none"], np.linspace(0, 1, 7))
        place = np.digitize(pooled["none"], edges[1:-1])
        filled = np.unique(place)
        middles = [pooled["none"][place == k].mean() for k in filled]
        for name, color in shown.items():
            hits = [np.mean(pooled[name][place == k] < HIT) for k in filled]
            above.plot(middles, hits, "o-", color=viz.mpl(color), label=NAMES[name])
        for name, color in ({"none": (90, 90, 90), "one_look": viz.SKY} | shown).items():
            shares = (np.arange(len(pooled[name])) + 1) / len(pooled[name])
            below.plot(np.sort(pooled[name]).clip(1e-2), shares, color=viz.mpl(color), label=NAMES[name])
        above.set(xlabel="error before, pixels", ylabel=f"share with an error < {HIT:g} px after", ylim=(-0.03, 1.03))
        above.set_title(TASKS[contrast])
        below.set(xlabel="error after, pixels", ylabel="share of the pairs with at most this error", xscale="log")
        below.set_xticks((0.01, 0.1, 1, 10), ("0.01", "0.1", "1", "10"))
        below.axvline(HIT, color="0.7", linestyle="--", linewidth=1)
        for axes in (above, below):
            axes.grid(alpha=0.3)
    panels[1, -1].legend(fontsize=9)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Registration: a net regresses the transform"
DATA = "MNI templates of the head (nilearn): axial slices, T1-weighted and gray matter"
EXPECTED = {
    "error_none": (14, 19),
    "t1_hits_net": (0.93, None),
    "t1_hits_ssd": (0.6, 0.85),
    "t1_hits_net_then_ssd": (0.93, None),
    "gm_hits_net": (0.93, None),
    "gm_hits_ssd": (None, 0.2),
    "times_faster": (10, None),
}
PICTURE = "capture_range.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/registration/learned_similarity.py"


if __name__ == "__main__":
    run(main)
