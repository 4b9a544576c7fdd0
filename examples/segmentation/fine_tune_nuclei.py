"""Fine-tuning: can the U-Net learn a new kind of image from eight of them?

    python examples/segmentation/fine_tune_nuclei.py

The shipped net has seen cultured cells and tissue. In a blood smear it takes every cell for a nucleus, and so does
Otsu's threshold: most cells of blood are red cells, which have no nucleus. Here eight smears, with the nuclei of their
white cells marked, are enough. The script does what you would do with images of your own:

1. It writes a folder with `images/` and `labels/`. A label image has 0 where no nucleus is, and a number of its own for
   each nucleus.
2. It trains with `unet_nuclei.py train --data FOLDER --weights shipped`: the training starts from the shipped weights,
   takes small steps, and ends after few of them. One of the eight images is held out to choose the best epoch.
3. It measures on the test part of the data, which no training saw: the mean average precision as Kaggle defines it.

**The labels** are made, not drawn: people drew the box around each white cell, a rule finds the nucleus in the box. The
nucleus is the part of the box that is darker than Otsu's threshold in the red channel, because the stain of nuclei is
blue, and more blue than red, because red cells are dark, too. Pieces of one box are one nucleus: the nucleus of many
white cells has lobes. So the labels know from a person where a white cell is; a net must find out. Outlines are good to
a few pixels. Smears in which nobody drew a box around a white cell are left out.

On the 68 test smears, the mean average precision is 0.004 for Otsu's threshold with a watershed, 0.020 for the shipped
net and 0.61 after fine-tuning (one run; less than eight minutes of CPU time, which is four minutes on two cores).
What is left: lobes that the net does not join, and smudged cells.

Sources: Yosinski, Clune, Bengio, Lipson, How transferable are features in deep neural networks?, NIPS 2014; data: BCCD
(github.com/Shenggan/BCCD_Dataset).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

import tinynet as tn
from tinynet import instances, metrics, viz
from tinynet.data import Sample, Smear, read_blood_cells, synthetic_smear
from tinynet.data.blood_cells import BCCD, CELLS
from tinynet.nuclei import load_net
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import TrainingOptions, command_line, option, report, run
from tinynet.tools.examples import program_name


# ---------------------------------------------------------------------------------------- the labels
def white_cell_nuclei(smear: Smear) -> np.ndarray:
    """The nucleus of each white cell in its box: a label image (H, W) int32, as the docstring of this file explains."""
    labels = np.zeros(smear.image.shape[:2], np.int32)
    red, _, blue = ndimage.gaussian_filter(smear.image.astype(np.float32), (1, 1, 0)).transpose(2, 0, 1)
    boxes = smear.boxes[smear.classes == CELLS.index("white")].round().astype(int)
    for number, (top, left, bottom, right) in enumerate(boxes, start=1):
        box = np.s_[top:bottom, left:right]
        dark = (red[box] < threshold_otsu(red[box])) & (blue[box] > red[box])
        dark = ndimage.binary_fill_holes(ndimage.binary_opening(dark, np.ones((3, 3))))
        pieces = instances.connected_components(dark)
        pieces = instances.drop_small(pieces, np.bincount(pieces[dark]).max(initial=0) // 10)
        labels[box][(pieces > 0) & (labels[box] == 0)] = number
    return labels


def read_samples(part: str, config: Config) -> list[Sample]:
    """Smears of a part of BCCD in which a white cell has a box; drawings if the data are missing."""
    if config.data is None and (config.quick or tn.data.data_path(BCCD) is None):
        print(f"{part}: drawings in place of blood smears; for the smears, {BCCD} is needed and no --quick")
        seeds = [(part == "test", i) for i in range(4 * config.images)]
        smears = [synthetic_smear(np.random.default_rng(seed)) for seed in seeds]
    else:
        smears = read_blood_cells(part, config.data)
    smears = [smear for smear in smears if (smear.classes == CELLS.index("white")).any()]
    return [Sample(s.id, s.image, white_cell_nuclei(s), "histology", s.id) for s in smears]


def write_folder(samples: list[Sample], folder: Path) -> None:
    """The layout of your own images: images/0.png, ... and labels/0.png, ..."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i, sample in enumerate(samples):
        Image.fromarray(sample.image).save(folder / "images" / f"{i}.png")
        Image.fromarray(sample.labels.astype(np.uint8)).save(folder / "labels" / f"{i}.png")


# ---------------------------------------------------------------------------------------- figures
def draw_scores(scores: dict[str, list[float]]) -> viz.Figure:
    """The average precision of each test image, one row of dots for each method, and its mean."""
    figure, axes = viz.subplots(figsize=(6.4, 3.2))
    rng = np.random.default_rng(0)
    for row, values in enumerate(scores.values()):
        axes.plot(values, row + rng.uniform(-0.22, 0.22, len(values)), ".", color="0.6")
        axes.plot([np.mean(values)] * 2, [row - 0.36, row + 0.36], color="C3", linewidth=3)
    axes.set_yticks(range(len(scores)), [f"{name}\nmean {np.mean(values):.3f}" for name, values in scores.items()])
    axes.set(xlabel="average precision of a test image", xlim=(-0.02, 1.02))
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    return figure


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(TrainingOptions):
    out: str = option("out/fine_tune_nuclei", "folder for the images, the training and the figures")
    data: str | None = option(None, f"{BCCD}, or a folder with it (default: TINYNET_DATA, then the cache)")
    images: int = option(8, "smears to train on", quick=2)
    epochs: int = option(10, "epochs of 400 crops", quick=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "images")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Fine-tune on a few smears. Return the mean average precision on the test smears of Otsu's threshold and a
    watershed (otsu), the shipped net (shipped) and the fine-tuned net (fine_tuned)."""
    out, script = Path(config.out), load_example("segmentation/unet_nuclei.py")
    training, test = read_samples("train", config), read_samples("test", config)
    chosen = [training[i] for i in np.linspace(0, len(training) - 1, config.images).astype(int)]
    write_folder(chosen, out / "my_images")
    print(f"{len(chosen)} of {len(training)} smears to train on: {', '.join(sample.id for sample in chosen)}")

    flags = ["--epochs", str(config.epochs), "--seed", str(config.seed), "--backend", config.backend]
    flags += ["--accumulate", str(config.accumulate)]
    flags += ["--crops", "8", "--size", "32"] if config.quick else []
    flags += ["--resume"] if config.resume else []
    command = ["train", "--data", str(out / "my_images"), "--weights", "shipped", "--out", str(out / "training")]
    with program_name("examples/segmentation/unet_nuclei.py"):
        script.main([*command, *flags])
    found = {
        "Otsu + watershed": [instances.otsu_watershed(sample.image) for sample in test],
        "shipped net": script.find_nuclei(load_net(), test, flips=False),
        "fine-tuned net": script.find_nuclei(load_net(out / "training" / "best.npz"), test, flips=False),
    }
    scores = {
        name: [metrics.mean_ap(sample.labels, labels) for sample, labels in zip(test, of_method)]
        for name, of_method in found.items()
    }
    viz.save_png(out / "comparison.png", script.draw_comparison(test, found))
    means = dict(zip(("otsu", "shipped", "fine_tuned"), (float(np.mean(values)) for values in scores.values())))
    return report(config, means, EXPECTED, {"scores.png": draw_scores(scores)}, NEXT)


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Fine-tuning: the U-Net on eight images of a new kind"
DATA = "BCCD: blood smears, 8 to train on, 68 to test on; nuclei of white cells by a rule inside of hand-drawn boxes"
FILES = ("bccd/BCCD.zip",)
EXPECTED = {"otsu": (None, 0.1), "shipped": (None, 0.2), "fine_tuned": (0.4, None)}
PICTURE = "scores.png"
NEXT = "python examples/segmentation/class_imbalance.py"


if __name__ == "__main__":
    run(main)
