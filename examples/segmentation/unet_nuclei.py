"""The U-Net of the lectures, and its use: finding the nuclei in a microscope image.

    python examples/segmentation/unet_nuclei.py train                    # the lecture's net, one output: the mask
    python examples/segmentation/unet_nuclei.py train --heads 3          # mask, touching borders, distance
    python examples/segmentation/unet_nuclei.py predict my_folder        # label images, outlines, measurements
    python examples/segmentation/unet_nuclei.py evaluate                 # against Otsu's threshold + watershed

Read it from top to bottom: the net, the loss, training, prediction, evaluation. The shipped weights were trained on
all images, also on those that `evaluate` measures them on: its scores are too good for them. The same recipe without
the validation images gave the figures in docs/nuclei_training.md.

Sources: Ronneberger, Fischer, Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015;
ELU: Clevert et al., ICLR 2016; dropout: Srivastava et al., JMLR 2014; the Dice loss: Milletari, Navab, Ahmadi,
V-Net, 3DV 2016. Data: Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl,
Nature Methods 2019 (BBBC038).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import nn, optim
from tinynet.data import DataError
from tinynet.errors import UsageError
from tinynet.nuclei import load_net
from tinynet.nuclei.folder import predict_folder
from tinynet.nuclei.settings import PredictConfig
from tinynet.tools.cli import (
    BACKENDS,
    TrainingOptions,
    docstring,
    option,
    print_next,
    print_settings,
    program,
    run,
    run_commands,
)
from tinynet.training.interruption import command


# ---------------------------------------------------------------------------------------------- the net
def level(c_in: int, c_out: int, p: float) -> nn.Sequential:
    """One level of the U-Net, as on the slide."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.ELU(),
        nn.Dropout(p),
        nn.Conv2d(c_out, c_out, 3, padding=1),
        nn.ELU(),
    )


class UNet(nn.Module):
    """Down four levels, up four levels, and a skip connection from each level down to the same level up.

    heads: outputs per pixel, 1 (mask) or 3 (mask, touching border, distance). With 1 it has 1,941,105 parameters.
    x: (N, H, W, 3) of any H and W; returns (N, H, W, heads) in [0, 1].
    """

    def __init__(self, heads: int = 1) -> None:
        self.down1 = level(3, 16, 0.1)
        self.down2 = level(16, 32, 0.1)
        self.down3 = level(32, 64, 0.2)
        self.down4 = level(64, 128, 0.2)
        self.bottom = level(128, 256, 0.3)
        self.up4, self.merge4 = nn.ConvTranspose2d(256, 128, 2, stride=2), level(256, 128, 0.2)
        self.up3, self.merge3 = nn.ConvTranspose2d(128, 64, 2, stride=2), level(128, 64, 0.2)
        self.up2, self.merge2 = nn.ConvTranspose2d(64, 32, 2, stride=2), level(64, 32, 0.1)
        self.up1, self.merge1 = nn.ConvTranspose2d(32, 16, 2, stride=2), level(32, 16, 0.1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(16, heads, 1, init=nn.init.glorot_uniform)

    def logits(self, x: tn.Tensor) -> tn.Tensor:
        """The output before the sigmoid, as the cross-entropy needs it."""
        height, width = x.shape[1:3]
        x = tn.pad(x, ((0, 0), (0, -height % 16), (0, -width % 16), (0, 0)))

        d1 = self.down1(x)
        d2 = self.down2(self.pool(d1))
        d3 = self.down3(self.pool(d2))
        d4 = self.down4(self.pool(d3))
        y = self.bottom(self.pool(d4))
        y = self.merge4([self.up4(y), d4])
        y = self.merge3([self.up3(y), d3])
        y = self.merge2([self.up2(y), d2])
        y = self.merge1([self.up1(y), d1])
        return self.head(y)[:, :height, :width]

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        return tn.sigmoid(self.logits(x))


# ---------------------------------------------------------------------------------------------- the loss
def mask_loss(logits: tn.Tensor, target: tn.Tensor, kind: str) -> tn.Tensor:
    """Loss of one output. Dice measures the overlap of two masks.

    Cross-entropy scores every pixel on its own, so its gradient is smoother than the gradient of Dice.
    """
    loss = tn.dice_loss(tn.sigmoid(logits), target)
    return loss + tn.bce_with_logits(logits, target) if kind == "bce+dice" else loss


def three_head_loss(logits: tn.Tensor, target: tn.Tensor) -> tn.Tensor:
    """Loss of mask, touching border (rare, so its pixels count three times) and distance."""
    mask, border, distance = (logits[..., i : i + 1] for i in range(3))
    return (
        mask_loss(mask, target[..., 0:1], "bce+dice")
        + tn.bce_with_logits(border, target[..., 1:2], pos_weight=3.0)
        + 0.5 * tn.dice_loss(tn.sigmoid(border), target[..., 1:2])
        + tn.bce_with_logits(distance, target[..., 2:3])
    )


# ---------------------------------------------------------------------------------------------- train
WHERE = "default: the real data if TINYNET_DATA or the cache has it, else synthetic"
CHANNEL = "the channel of the nuclei, if images have several: its number from 1, or its name in the file"
STAGE1_TRAIN = "dsb2018/stage1_train.zip"


@dataclass
class TrainConfig(TrainingOptions):
    """The flags of `train`."""

    data: str | None = option(None, "zip or folder of images with masks, 'synthetic' or 'download'; " + WHERE)
    channel: str | None = option(None, CHANNEL)
    out: str = option("out/unet_nuclei", "folder for checkpoints, metrics and figures", quick="out/unet_nuclei_quick")
    weights: str | None = option(None, "start from these weights, for few images of your own: 'shipped' or a file")
    heads: int | None = option(
        None,
        "outputs: 1 (mask, the lecture's net) or 3 (mask, border, distance); default: 1, or as in --weights",
        choices=(1, 3),
    )
    loss: str = option("dice", "loss of the one-output net", choices=("dice", "bce+dice"))
    all: bool = option(False, "hold no image out: more to learn from, but then nothing tells how good the net is")
    steady: float = option(0.0, "fraction of crops of nearly the common nucleus size; the others vary more")
    native: bool = option(False, "crops at the resolution of the images, not resized to one nucleus size")
    epochs: int | None = option(None, "epochs of --crops crops (default: 30, with --weights 10)", quick=2)
    crops: int | None = option(None, "crops per epoch (default: 2000, with --weights 400)", quick=16)
    size: int = option(128, "height and width of a crop, pixels", quick=64)
    batch_size: int = option(8, "crops per step")
    lr: float | None = option(None, "highest learning rate (default: 1e-3, with --weights 3e-4)")
    weight_decay: float = option(1e-4, "decoupled weight decay")
    dropout: bool = option(True, "drop values while training; without it, a trained net becomes a little more exact")
    average: float | None = option(
        None,
        "decay of the moving average of the weights, which are saved (default: 0.998, with --weights 0.98)",
        quick=0.8,
    )


# The defaults without and with --weights. A net that knows nuclei needs few steps, and small ones: docs/nuclei.md.
FROM_SCRATCH = {"epochs": 30, "crops": 2000, "lr": 1e-3, "average": 0.998}
FINE_TUNING = {"epochs": 10, "crops": 400, "lr": 3e-4, "average": 0.98}


def train(config: TrainConfig) -> dict[str, float]:
    """Train the net on random crops; keep the weights with the lowest validation loss in `best.npz`.

    If no image is held out, because there is only one or for --all, the weights with the lowest training loss are kept.
    """
    samples, held_out, source = load_data(config.data, config.seed, config.quick, config.channel)
    if config.all:
        samples, held_out = samples + held_out, []
    if not any(sample.labels.any() for sample in samples):
        raise DataError(f"{source}: no nucleus is marked in any of the {len(samples)} training images")
    tn.seed(config.seed)
    model, config, known = starting_point(config)
    diameter = None if config.native else tn.segment.DIAMETER
    crops = tn.data.NucleiCrops(samples, config.size, config.crops, config.heads, diameter, config.steady)
    loader = tn.data.DataLoader(crops, config.batch_size, seed=config.seed)
    with tn.use_backend(config.backend):
        model.to(tn.device())
        print_settings(config, model, data=source, training_images=len(samples), held_out_images=len(held_out))
    unlike = [tn.nuclei.unlike(sample.image, sample.labels, known) for sample in samples] if known else []
    if any(unlike):
        print(
            f"note: {sum(map(bool, unlike))} of {len(samples)} images look unlike those that the weights were trained "
            f"on, for example: {next(filter(None, unlike))}\n"
        )
    if not held_out:
        remedy = "the same command without --all measures it" if config.all else "label one more"
        print(f"note: no image is held out, so nothing tells how good the net is on other images: {remedy}\n")

    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    steps = config.epochs * len(loader)
    schedule = optim.CosineDecay(optimizer, steps, warmup=min(200, steps // 10), floor=0.01)
    average = optim.WeightAverage(model, config.average)

    def loss(images: tn.Tensor, targets: tn.Tensor) -> tn.Tensor:
        logits = model.logits(images)
        return three_head_loss(logits, targets) if config.heads == 3 else mask_loss(logits, targets, config.loss)

    watched = ValidationCrops(held_out, config.heads, diameter, count=4 if config.quick else 64)
    settings = {**dataclasses.asdict(config), "looks": tn.nuclei.looks_of(samples, known)}
    trainer = tn.train.Trainer(
        model, optimizer, loss, config.out, schedule=schedule, average=average, max_norm=2.0, settings=settings
    )
    pictures = Path(config.out) / "predictions.png"
    watch = {
        "validate": lambda: watched.score(model, loss),
        "best": ("val_loss", "min"),  # smoother than the score of a few views
        "on_epoch": lambda epoch, _: watched.draw(pictures, epoch),
    }
    with tn.use_backend(config.backend):
        results = trainer.fit(loader, config.epochs, resume=config.resume, **(watch if held_out else {}))
    print(f"figures: {f'{pictures}, ' if held_out else ''}{config.out}/curve.png; weights: {config.out}/best.npz")
    data = ("--data", config.data) if config.data else ()
    data += ("--channel", config.channel) if config.channel else ()
    print_next(f"{program()} {command('evaluate', '--weights', f'{config.out}/best.npz', *data)}")
    return results


def starting_point(config: TrainConfig) -> tuple[UNet, TrainConfig, dict]:
    """(the net, the settings with their defaults, the looks of the images that it was trained on before).

    The net is new, or has the weights of --weights.
    """
    net, defaults = None, {"heads": 1, **FROM_SCRATCH}
    if config.weights:
        net = load_net(config.weights)
        if config.heads not in (None, net.heads):
            raise UsageError(f"--heads is {config.heads}, but {net.path} has {net.heads} outputs: leave out --heads")
        defaults = {"heads": net.heads, **FINE_TUNING}
        config = dataclasses.replace(config, native=config.native or net.scale is not None)
    missing = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    config = dataclasses.replace(config, **missing)
    model = net.model if net else UNet(config.heads)
    if not config.dropout:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return model, config, net.looks if net else {}


def load_data(
    data: str | None, seed: int, quick: bool, channel: str | None = None
) -> tuple[list[tn.data.Sample], list[tn.data.Sample], str]:
    """(training samples, held-out samples, their source). data: the flag --data; None for the real data if found."""
    if data == "download":
        data = tn.data.fetch(STAGE1_TRAIN)
    path = None if data == "synthetic" or (quick and data is None) else tn.data.data_path(STAGE1_TRAIN, data)
    if path is not None:
        samples = tn.data.read_nuclei(path, limit=12 if quick else None, channel=channel)
        training, held_out = tn.data.split(samples)
        if not (training and held_out):  # the user's own images, which the committed split does not name
            training, held_out = tn.data.hold_out(samples)
        return training, held_out, str(path)
    train_count, held_out_count = (8, 4) if quick else (160, 40)
    return synthetic_set(train_count, (seed, 0)), synthetic_set(held_out_count, (seed, 1)), "synthetic nuclei"


def synthetic_set(count: int, key: tuple[int, int]) -> list[tn.data.Sample]:
    """Synthetic images, every fourth of them histology; the key determines them."""
    kinds = ["histology" if i % 4 == 3 else "fluorescence" for i in range(count)]
    samples = [tn.data.synthetic_nuclei(np.random.default_rng((*key, i)), kind) for i, kind in enumerate(kinds)]
    return [dataclasses.replace(sample, id=f"{i:03d}", group=str(i)) for i, sample in enumerate(samples)]


class ValidationCrops:
    """Validation while training: the middle of some held-out images, at the scale of the training crops."""

    SIZE = 256

    def __init__(self, samples: list[tn.data.Sample], heads: int, diameter: float | None, count: int) -> None:
        chosen = [samples[i] for i in np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)]
        self.views = [middle_view(sample, self.SIZE, diameter) for sample in chosen]
        self.targets = [tn.data.targets(labels, heads) for _, labels in self.views]
        self.found: list[np.ndarray] = []

    def score(self, model: UNet, loss: Callable) -> dict[str, float]:
        """Loss, Dice of the mask and mean average precision of the nuclei."""
        rows, self.found = [], []
        for (image, labels), target in zip(self.views, self.targets):
            x, t = (tn.tensor(array[None]).to(tn.device()) for array in (image, target))
            maps = model(x).numpy()[0]
            found = tn.segment.labels_from_maps(maps)
            self.found.append(found)
            dice = tn.metrics.dice(labels > 0, maps[:, :, 0] > 0.5)
            rows.append((loss(x, t).item(), dice, tn.metrics.mean_ap(labels, found)))
        return dict(zip(("val_loss", "val_dice", "val_mean_ap"), np.mean(rows, axis=0).tolist()))

    def draw(self, path: Path, epoch: int) -> None:
        """The first six views with their hits, misses and false alarms."""

        shown = range(0, len(self.views), max(1, len(self.views) // 6))[:6]
        images = []
        for i in shown:
            image, labels = self.views[i]
            gray_levels = (np.clip(image, 0, 1) * 255).astype(np.uint8)
            images.append([gray_levels, tn.viz.comparison_overlay(gray_levels, labels, self.found[i])])
        titles = ["image", f"epoch {epoch}: hits, misses, false alarms"]
        tn.viz.save_png(path, tn.viz.panel(images, titles))


def middle_view(sample: tn.data.Sample, size: int, diameter: float | None) -> tuple[np.ndarray, np.ndarray]:
    """(middle of an image, its labels): normalized and, with a `diameter`, resized to that nucleus diameter."""
    own = tn.instances.median_diameter(sample.labels)
    scale = 1.0 if diameter is None or np.isnan(own) else diameter / own
    height, width = tn.segment.size_at_scale(sample.labels.shape, scale)
    image = tn.segment.resize(tn.data.normalize(sample.image), (height, width))
    labels = tn.segment.resize_labels(sample.labels, (height, width))
    middle = tn.segment.middle_of((height, width), size)
    return np.ascontiguousarray(image[middle]), np.ascontiguousarray(labels[middle])


# ---------------------------------------------------------------------------------------------- predict
def predict(config: PredictConfig) -> dict[str, float]:
    """Find the nuclei of every image: label images, overlays, measurements, outlines for ImageJ and QuPath.

    What has to do with files, such as formats, names, and going on after an interruption, is in `tinynet/nuclei/`.
    """
    net = load_net(config.weights)
    print(f"weights: {net.path} ({net.heads} outputs); backend {config.backend}")

    def find(images: Sequence[np.ndarray], tiles: Callable[[int, int], None]) -> list[tn.nuclei.Nuclei]:
        with tn.use_backend(config.backend):
            return tn.nuclei.segment_many(
                net, images, config.diameter, config.flips, config.min_area, config.exclude_border, tiles
            )

    return predict_folder(config, net.path, find)


# ---------------------------------------------------------------------------------------------- evaluate
@dataclass
class EvaluateConfig:
    """The flags of `evaluate`."""

    data: str | None = option(None, "zip or folder of images with masks, 'synthetic' or 'download'; " + WHERE)
    channel: str | None = option(None, CHANNEL)
    weights: str | None = option(None, "weights from training; default: those shipped with tinynet (three heads)")
    split: str = option("validation", "which images", choices=("validation", "train", "all"))
    flips: bool = option(True, "average over mirrored images", quick=False)
    out: str = option("out/unet_nuclei/evaluation", "folder for tables and figures")
    seed: int = option(0, "seed of the synthetic images")
    backend: str = option("cpu", "where kernels run", choices=BACKENDS)
    quick: bool = option(False, "a few small synthetic images")


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Mean AP as Kaggle defines it, AP at IoU 0.5, Dice and IoU, by kind of image, beside Otsu + watershed."""
    training, validation, source = load_data(config.data, config.seed, config.quick, config.channel)
    samples = {"train": training, "validation": validation, "all": training + validation}[config.split]
    if not samples:
        raise DataError(
            f"{source}: no image for --split {config.split}: of one image, or of copies of one, none is held out; "
            "--split all takes the images that were trained on"
        )
    net = load_net(config.weights)
    print(f"data: {source}: {len(samples)} images ({config.split}); weights: {net.path}")
    if net.trained_on_all:
        print("note: these weights were trained on all images, so on their training data these scores are too good")
    with tn.use_backend(config.backend):
        found = find_nuclei(net, samples, config.flips)
    otsu = [
        tn.instances.otsu_watershed(sample.image)
        for sample in tqdm(samples, "Otsu + watershed", leave=False, disable=None)
    ]
    rows = tn.metrics.evaluate_instances(samples, otsu, "Otsu + watershed")
    rows += tn.metrics.evaluate_instances(samples, found, "U-Net")
    table = tn.metrics.score_table(rows)
    print(tn.metrics.format_table(table))

    out = Path(config.out)
    tn.metrics.write_rows(out / "images.csv", rows)
    tn.metrics.write_rows(out / "scores.csv", table)
    tn.viz.save_png(out / "comparison.png", draw_comparison(samples, {"Otsu + watershed": otsu, "U-Net": found}))
    print(f"tables: {out}/scores.csv, {out}/images.csv; figure: {out}/comparison.png")
    if config.data not in (None, "synthetic", "download"):
        print_next(f"{program()} {next_for_own_images(config)}")
    elif sys.argv[0].endswith(".py"):  # the lectures go on; `tinynet nuclei` has none
        print_next(NEXT)
    overall = {row["method"]: row for row in table if row["kind"] == "all"}
    return {"mean_ap": overall["U-Net"]["mean_ap"], "otsu_mean_ap": overall["Otsu + watershed"]["mean_ap"]}


def next_for_own_images(config: EvaluateConfig) -> str:
    """What a user does after measuring a net on images of their own: train it on them, then use it."""
    channel = ("--channel", config.channel) if config.channel else ()
    if config.weights in (None, "shipped"):
        return command("train", "--weights", "shipped", "--data", config.data, *channel)
    return command("predict", "my_folder", "--weights", config.weights, *channel)


def find_nuclei(net: tn.nuclei.Net, samples: Sequence[tn.data.Sample], flips: bool) -> list[np.ndarray]:
    """The label image that the net finds for each sample, with a progress bar on a terminal."""
    found: list[np.ndarray] = []
    with tqdm(total=len(samples), desc="images", disable=not sys.stderr.isatty()) as bar:
        for start in range(0, len(samples), 16):
            images = [sample.image for sample in samples[start : start + 16]]  # they share passes of the net
            found += [nuclei.labels for nuclei in tn.nuclei.segment_many(net, images, flips=flips)]
            bar.update(len(images))
    return found


def draw_comparison(samples: Sequence, methods: dict[str, Sequence[np.ndarray]], width: int = 520) -> np.ndarray:
    """Up to four images, evenly spaced and not selected, with the outlines of the labels that each method found.

    methods: name -> label images, one for each sample; width: of an image in the figure, in pixels.
    """
    rows = []
    for i in np.linspace(0, len(samples) - 1, min(4, len(samples))).astype(int):
        times = max(1, width // samples[i].image.shape[1])  # a small image is enlarged first: its outlines stay thin
        image, true, *found = (
            pixels.repeat(times, 0).repeat(times, 1)
            for pixels in (samples[i].image, samples[i].labels, *(labels[i] for labels in methods.values()))
        )
        rows.append([tn.viz.stretch(image), *(tn.viz.comparison_overlay(image, true, labels) for labels in found)])
    return tn.viz.panel(rows, ["image", *methods], width=width)


COMMANDS = {"train": (TrainConfig, train), "predict": (PredictConfig, predict), "evaluate": (EvaluateConfig, evaluate)}


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Run one of the commands; returns its final metrics."""
    description = docstring(sys.modules[__name__]).replace("python examples/segmentation/unet_nuclei.py", program())
    return run_commands(COMMANDS, argv, program(), description)


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Semantic segmentation: the U-Net"
DATA = "Data Science Bowl 2018: nuclei, 130 validation images, weights that come with tinynet"
FILES = ("dsb2018/stage1_train.zip",)
EXPECTED = {"mean_ap": (0.56, 0.63), "otsu_mean_ap": (0.38, 0.40)}
PICTURE = "comparison.png"
ARGUMENTS = ("evaluate", "--no-flips")
NEXT = "python examples/segmentation/fine_tune_nuclei.py"


if __name__ == "__main__":
    run(main)
