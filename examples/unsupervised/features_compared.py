"""Three kinds of features, one classifier: gray values, handcrafted features, and features learned without labels.

    python examples/unsupervised/features_compared.py

Is a voxel of an MR volume inside the hippocampus? A classifier decides it from a patch of 15 x 15 voxels around the
voxel, in each of three planes. The classifier is always the same, a logistic regression, which can only weigh and add
what it is given. So the features decide:

- **gray values**: the patch itself, 675 numbers;
- **handcrafted**: HOG (edges by direction), LBP (codes of texture) and Haar features (differences of rectangles) in
  3 x 3 cells, alone and together (645 numbers; convnets/handcrafted_features.py explains the first two);
- **learned without labels**: a stacked autoencoder learns to reproduce the patches, greedily, layer by layer, and is
  then fine-tuned (stacked_autoencoder.py). The outputs of all layers of its encoder are the features, 896 numbers. For
  comparison, the same layers with random weights.

**The voxels.** The *atlas* is the share of training volumes in which a voxel is inside; only the middles of the volumes
are aligned. Voxels below 2 % or above 98 % are decided by it, and a classifier decides all others, about 10,000 of each
volume around the boundary. It is trained on 150 of them from each training volume. Each kind of features is used alone,
and together with one more feature, the log-odds of the atlas: where the voxel lies.

Mean Dice of 40 held-out volumes (autoencoder and random net: three runs); the atlas alone has .658:

|                                | features alone | and the place |
|--------------------------------|----------------|---------------|
| gray values                    | .681           | .753          |
| HOG                            | .699           | .754          |
| LBP                            | .703           | .758          |
| Haar                           | .656           | .743          |
| handcrafted: all three         | .800           | .810          |
| the encoder's layers at random | .701           | .759          |
| stacked autoencoder            | .792           | .807          |

What to see. The learned features are made of nothing but the gray values, without a label, and yet they are far better
than the gray values, and than each handcrafted kind alone. They are as good as the three kinds together, which people
designed over many years. Random layers of the same size gain little, so it is the learning that helps. The place helps
weak features most.

The study that this example follows found the learned features better than the handcrafted ones, for the prostate; here
both are equal. It goes on from here: patches that look alike vote for the label of a voxel, and a deformable model
follows the map of votes.

The settings were chosen on training volumes that were left out of training, as --validate does.

Sources: Guo, Gao, Shen, Deformable MR prostate segmentation via deep feature learning and sparse patch matching, IEEE
Transactions on Medical Imaging 35, 2016; Dalal and Triggs, CVPR 2005 (HOG); Ojala et al., PAMI 24, 2002 (LBP); Viola
and Jones, Rapid object detection using a boosted cascade of simple features, CVPR 2001 (Haar); data: Antonelli et al.,
Nature Communications 13, 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, viz
from tinynet.data import DataError, Volume, hippocampus_or_synthetic, pad_or_crop
from tinynet.data.volumes import SHAPE
from tinynet.errors import how_to_install
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

stacked = load_example("unsupervised/stacked_autoencoder.py")  # greedy learning and fine-tuning: read that script first

# ---------------------------------------------------------------------------------------- the voxels
EASY = 0.02  # a voxel that is inside in fewer training volumes is outside, without asking a classifier


@dataclass
class Case:
    """A volume and the voxels of it that are in question.

    image: float32 (D, H, W), 0 to 1. inside: bool (D, H, W), the truth. chance: (D, H, W), in which share of the
    training volumes the voxel is inside. places: int (N, 3), the voxels to classify.
    """

    image: np.ndarray
    inside: np.ndarray
    chance: np.ndarray
    places: np.ndarray

    def at_places(self, array: np.ndarray) -> np.ndarray:
        """The values of a (D, H, W) array at the places: (N,)."""
        return array[tuple(self.places.T)]


def make_atlas(volumes: Sequence[Volume]) -> np.ndarray:
    """In which share of the volumes each voxel is inside: float32 of SHAPE. Nothing but their middles is aligned."""
    return np.mean([pad_or_crop((v.labels > 0).astype(np.float32), SHAPE) for v in volumes], axis=0)


def make_case(volume: Volume, atlas: np.ndarray) -> Case:
    """The case of a volume: the voxels in question are those of which the atlas is not sure."""
    low, high = np.percentile(volume.image, (1, 99))
    image = np.clip((volume.image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    chance = pad_or_crop(atlas, volume.image.shape)
    return Case(image, volume.labels > 0, chance, np.argwhere((chance > EASY) & (chance < 1 - EASY)))


def some_places(case: Case, count: int, rng: np.random.Generator) -> Case:
    """The case with at most `count` of its places."""
    chosen = rng.permutation(len(case.places))[:count]
    return Case(case.image, case.inside, case.chance, case.places[chosen])


# ---------------------------------------------------------------------------------------- the features
PLANES = ((1, 2), (0, 2), (0, 1))  # the axes (z, y, x) of the axial, the coronal and the sagittal plane
CELLS = 3  # along each side of a patch


def intensity(case: Case, cell: int) -> np.ndarray:
    """The gray values of the patches of all three planes: float32 (N, 3 (3 cell)^2). Outside the volume they are 0."""
    half = CELLS * cell // 2
    padded = np.pad(case.image, half)
    steps = np.arange(-half, half + 1)
    rows = []
    for first, second in PLANES:
        place = [axis[:, None, None] + half for axis in case.places.T]
        place[first] = place[first] + steps[:, None]
        place[second] = place[second] + steps
        rows.append(padded[tuple(place)].reshape(len(case.places), -1))
    return np.concatenate(rows, axis=1)


def cell_means(maps: np.ndarray, places: np.ndarray, plane: tuple[int, int], cell: int) -> np.ndarray:
    """The means of maps (M, D, H, W) in 3 x 3 cells around each place, in one plane: (N, 3, 3, M).

    All patches share the means: a box filter computes them once for every voxel, and each place reads nine of them.
    """
    size = [1, 1, 1, 1]
    size[1 + plane[0]] = size[1 + plane[1]] = cell
    means = ndimage.uniform_filter(maps, size, mode="constant")
    padded = np.pad(means, ((0, 0), (cell, cell), (cell, cell), (cell, cell)))
    steps = np.zeros((CELLS, CELLS, 3), int)
    steps[:, :, plane[0]] = [[-cell], [0], [cell]]
    steps[:, :, plane[1]] = [[-cell, 0, cell]]
    z, y, x = np.moveaxis(places[:, None, None] + steps + cell, -1, 0)
    return np.moveaxis(padded[:, z, y, x], 0, -1)


def hog(case: Case, cell: int) -> np.ndarray:
    """Histograms of oriented gradients: in each cell the strength of edges in nine directions, (N, 3 planes * 81).

    As `skimage.feature.hog` with one block of 3 x 3 cells: a block is divided by its length, values above 0.2 are cut
    off, and it is divided again (Dalal and Triggs 2005).
    """
    blocks = []
    for plane in PLANES:
        down, right = (2 * np.gradient(case.image, axis=axis) for axis in plane)
        direction = np.minimum(np.rad2deg(np.arctan2(down, right)) % 180 // 20, 8)
        maps = np.hypot(down, right) * (direction == np.arange(9)[:, None, None, None])
        block = cell_means(maps, case.places, plane, cell).reshape(len(case.places), -1)
        for highest in (0.2, 1.0):
            block = np.minimum(block / np.sqrt((block**2).sum(axis=1, keepdims=True) + 1e-10), highest)
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


def lbp(case: Case, cell: int) -> np.ndarray:
    """Local binary patterns: in each cell the frequency of each of ten codes, (N, 3 planes * 90).

    The code of a pixel says how many of its eight neighbors are brighter (see convnets/handcrafted_features.py).
    """
    from skimage.feature import local_binary_pattern

    levels = np.rint(case.image * 255).astype(np.uint8)
    rows = []
    for axis, plane in enumerate(PLANES):
        slices = [local_binary_pattern(s, P=8, R=1, method="uniform") for s in np.moveaxis(levels, axis, 0)]
        maps = np.moveaxis(slices, 0, axis) == np.arange(10)[:, None, None, None]
        rows.append(cell_means(maps.astype(np.float32), case.places, plane, cell).reshape(len(case.places), -1))
    return np.concatenate(rows, axis=1)


def haar(case: Case, cell: int) -> np.ndarray:
    """Haar features: the differences of the means of neighboring rectangles, at two scales, (N, 3 planes * 2 * 22).

    Two in a row or in a column, the middle one of three against the others, and the diagonals of four (Viola and Jones
    2001), as in `skimage.feature.haar_like_feature`.
    """
    rows = []
    for plane in PLANES:
        for side in (cell, (cell + 1) // 2):
            m = cell_means(case.image[None], case.places, plane, side)[..., 0]
            differences = (
                m[:, 1:] - m[:, :-1],
                m[:, :, 1:] - m[:, :, :-1],
                m[:, 0] - m[:, 1] + m[:, 2],
                m[:, :, 0] - m[:, :, 1] + m[:, :, 2],
                m[:, 1:, 1:] - m[:, 1:, :-1] - m[:, :-1, 1:] + m[:, :-1, :-1],
            )
            rows += [d.reshape(len(m), -1) for d in differences]
    return np.concatenate(rows, axis=1)


def codes(layers: Sequence[Any], patches: np.ndarray) -> np.ndarray:
    """What all layers of an encoder say of patches (N, F), side by side: (N, sum of the layers' widths)."""

    def outputs(x: tn.Tensor) -> tn.Tensor:
        found = []
        for layer in layers:
            x = layer.up(x)
            found.append(x)
        return tn.concat(found, axis=1)

    return nn.predict(outputs, patches, batch=2000)


Feature = Callable[[Case, int], np.ndarray]  # of a case and the side of a cell: float (N, F)
DESIGNED: dict[str, Feature] = {"intensity": intensity, "hog": hog, "lbp": lbp, "haar": haar}
METHODS = {  # the features that a classifier sees; "atlas" is only what `with_place` adds
    **{name: (name,) for name in DESIGNED},
    "handcrafted": ("hog", "lbp", "haar"),
}


# ---------------------------------------------------------------------------------------- the classifier
def log_odds(case: Case) -> np.ndarray:
    """What the atlas says of the places, as one feature: (N, 1)."""
    chance = case.at_places(case.chance)
    return np.log(chance / (1 - chance))[:, None]


def fit(x: np.ndarray, inside: np.ndarray, strength: float) -> Any:
    """Logistic regression on standardized features x (N, F): a model with the method `predict`."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise DataError(f"the classifier is scikit-learn's: {how_to_install('examples')}") from error
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200)).fit(x, inside)


Masks = dict[str, list[np.ndarray]]  # method -> the mask (D, H, W) of each test volume


def compare(
    features: Mapping[str, Feature], methods: Mapping[str, tuple[str, ...]], training: list[Case], test: list[Case],
    config: Config,
) -> Masks:  # fmt: skip
    """Fit a classifier for each method, without and with the place (the atlas), and apply it to the test volumes."""

    def rows(case: Case) -> dict[str, np.ndarray]:
        found = {name: feature(case, config.cell).astype(np.float32) for name, feature in features.items()}
        return found | {"place": log_odds(case).astype(np.float32)}

    parts = [rows(case) for case in tqdm(training, "training volumes", leave=False, disable=None)]
    inside = np.concatenate([case.at_places(case.inside) for case in training])
    seen = {f"{name}{end}": (*parts_of, *more) for name, parts_of in methods.items() for end, more in ENDS.items()}
    models = {
        name: fit(np.concatenate([join(part, columns) for part in parts]), inside, config.strength)
        for name, columns in seen.items()
    }
    masks: Masks = {name: [] for name in seen}
    for case in tqdm(test, "test volumes", leave=False, disable=None):
        found = rows(case)
        for name, columns in seen.items():
            mask = case.chance > 0.5
            mask[tuple(case.places.T)] = models[name].predict(join(found, columns))
            masks[name].append(mask)
    return masks


ENDS = {"": (), "_place": ("place",)}  # the end of a metric's name -> the features added


def join(parts: Mapping[str, np.ndarray], columns: Sequence[str]) -> np.ndarray:
    """The features of these names side by side."""
    return np.concatenate([parts[name] for name in columns], axis=1)


def dices(masks: list[np.ndarray], test: list[Case]) -> np.ndarray:
    """The Dice coefficient of each test volume."""
    return np.array([metrics.dice(case.inside, mask) for case, mask in zip(test, masks)])


# ---------------------------------------------------------------------------------------- learned features
def learn_layers(training: list[Case], config: Config, seed: int) -> tuple[list[Any], list[Any]]:
    """(the layers of a stacked autoencoder that learned to reproduce the training patches, such layers at random)."""
    tn.seed(seed)
    patches = np.concatenate([intensity(case, config.cell) for case in training])
    layers = stacked.greedy(patches, config.widths, config, seed)
    watched = patches[:: max(1, len(patches) // 1000)]
    stacked.fine_tune(stacked.Stack(layers), patches, watched, config.epochs, config, seed)
    untrained = stacked.Stack(stacked.random_layers(patches.shape[1], config.widths)).to(tn.device())
    return layers, untrained.layers


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/features_compared", "folder for the figures")
    data: str | None = option(None, "Task04_Hippocampus.tar, its folder, or 'synthetic' (default: TINYNET_DATA)")
    cell: int = option(5, "side of a cell in voxels, odd; a patch has 3 x 3 cells", quick=3)
    each: int = option(150, "voxels of each training volume")
    widths: tuple[int, ...] = option((512, 256, 128), "neurons of the encoder's layers", nargs="+", quick=(64, 32))
    greedy_epochs: int = option(6, "passes over the patches for each layer", quick=3)
    epochs: int = option(6, "passes over the patches for fine-tuning", quick=3)
    batch_size: int = option(128, "patches per step of the autoencoder")
    lr: float = option(4e-3, "highest learning rate of the autoencoder (Adam; a cosine down to zero)")
    strength: float = option(0.01, "C of the logistic regression: large for large weights")
    validate: bool = option(False, "test on 30 training volumes, left out of training: for choosing settings")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "each", "greedy_epochs", "epochs", "batch_size")
        if self.cell < 1 or self.cell % 2 == 0:
            raise ValueError(f"--cell is {self.cell}; an odd number is needed, so that one voxel is in the middle")
        if min(self.widths) < 1 or not self.strength > 0:
            raise ValueError(f"--widths is {self.widths}, --strength {self.strength}; all must be above 0")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Mean Dice of the hippocampus in the held-out volumes: dice_* of features alone, dice_*_place with the atlas."""
    counts = (12, 4) if config.quick else (24, 8)
    volumes, held_out, source = hippocampus_or_synthetic(config.data, config.seed, counts, synthetic=config.quick)
    if config.validate:
        volumes, held_out = [v for i, v in enumerate(volumes) if i % 6], volumes[::6]
    atlas, rng = make_atlas(volumes), np.random.default_rng(0)  # the same voxels for every seed
    training = [some_places(make_case(volume, atlas), config.each, rng) for volume in volumes]
    test = [make_case(volume, atlas) for volume in held_out]
    voxels = (
        f"{sum(len(case.places) for case in training):,} to learn from, {sum(len(c.places) for c in test):,} to test"
    )
    print_settings(config, data=source, voxels=voxels)
    masks = compare(DESIGNED, METHODS, training, test, config) | {"atlas": [case.chance > 0.5 for case in test]}

    def one_run(seed: int) -> dict[str, float]:
        layers, untrained = learn_layers(training, config, seed)
        learned: dict[str, Feature] = {
            "autoencoder": lambda case, cell: codes(layers, intensity(case, cell)),
            "random_net": lambda case, cell: codes(untrained, intensity(case, cell)),
        }
        found = compare(learned, {name: (name,) for name in learned}, training, test, config)
        for name, of_seed in found.items():
            masks.setdefault(name, of_seed)  # the figures show the first seed
        return {f"dice_{name}": float(dices(of_seed, test).mean()) for name, of_seed in found.items()}

    results = {f"dice_{name}": float(dices(found, test).mean()) for name, found in masks.items()}
    results |= mean_over_seeds(one_run, config.seed, config.seeds)
    figures = {"dice.png": draw_dice(masks, test), "contours.png": draw_contours(masks, test)}
    return report(config, results, EXPECTED if source.startswith("hippocampus") else {}, figures, NEXT)


# ---------------------------------------------------------------------------------------- figures
SHOWN = {
    "intensity": "gray values",
    "hog": "HOG",
    "lbp": "LBP",
    "haar": "Haar",
    "handcrafted": "HOG + LBP\n+ Haar",
    "random_net": "random\nnet",
    "autoencoder": "stacked\nautoencoder",
}


def draw_dice(masks: Masks, test: list[Case]) -> viz.Figure:
    """Box plots of the Dice coefficients of the test volumes, for each kind of features alone and with the place."""
    figure, axes = viz.subplots(figsize=(10, 4.8))
    places = np.arange(len(SHOWN))
    for (end, title), side, color in zip(
        (("", "features alone"), ("_place", "and the atlas's log-odds")), (-0.2, 0.2), (viz.SKY, viz.ORANGE)
    ):
        drawn = axes.boxplot(
            [dices(masks[name + end], test) for name in SHOWN], positions=places + side, widths=0.34,
            patch_artist=True, medianprops={"color": "k"}, flierprops={"markersize": 4},
        )  # fmt: skip
        for box in drawn["boxes"]:
            box.set_facecolor(viz.mpl(color))
        drawn["boxes"][0].set_label(title)
    alone = np.median(dices(masks["atlas"], test))
    axes.axhline(alone, color="0.4", linestyle="--", label=f"the atlas alone: median {alone:.2f}")
    axes.set_xticks(places, list(SHOWN.values()))
    axes.set(ylabel=f"Dice of {len(test)} held-out volumes")
    figure.legend(loc="outside upper center", ncols=3)  # inside, it would cover outliers
    return figure


def draw_contours(masks: Masks, test: list[Case]) -> viz.Figure:
    """Sagittal slices of three test volumes: the truth in red, what each kind of features finds in yellow."""
    columns = ("intensity", "handcrafted", "autoencoder")
    order = np.argsort(dices(masks["autoencoder"], test))
    figure, axes = viz.subplots(3, len(columns), figsize=(11, 9))
    for row, rank in zip(axes, (0.9, 0.5, 0.1)):
        number = order[int(rank * (len(order) - 1))]
        case = test[number]
        x = case.inside.sum(axis=(0, 1)).argmax()
        for panel, name in zip(row, columns):
            mask = masks[name][number]
            panel.imshow(case.image[:, :, x], cmap="gray", origin="lower", vmin=0, vmax=1)
            for area, color in ((case.inside, "red"), (mask, "yellow")):
                if area[:, :, x].any():
                    panel.contour(area[:, :, x], [0.5], colors=[color], linewidths=1.5)
            title = SHOWN[name].replace("\n", " ")
            panel.set_title(f"{title}: Dice {metrics.dice(case.inside, mask):.2f}", fontsize=10)
            panel.axis("off")
    figure.supxlabel("red: truth; yellow: found, without the place")
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Gray values, handcrafted features and a stacked autoencoder's, with one classifier"
DATA = "hippocampus MR volumes of the Medical Segmentation Decathlon, 180 + 40 held out"
FILES = ("hippocampus/Task04_Hippocampus.tar",)
EXPECTED = {
    "dice_intensity": (0.67, 0.69),
    "dice_handcrafted": (0.79, 0.81),
    "dice_autoencoder": (0.775, 0.81),
    "dice_autoencoder_place": (0.79, 0.825),
    "dice_random_net": (0.68, 0.72),
    "dice_atlas": (0.655, 0.661),  # nothing random
}
PICTURE = "dice.png"
NEXT = "python examples/sequences/rnn_vanishing_gradient.py"


if __name__ == "__main__":
    run(main)
