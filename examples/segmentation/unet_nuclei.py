"""The U-Net of the lectures, and what it is for: finding the nuclei in a microscope image.

    python examples/segmentation/unet_nuclei.py train                    # the lecture's net, one output: the mask
    python examples/segmentation/unet_nuclei.py train --heads 3          # mask, touching borders, distance
    python examples/segmentation/unet_nuclei.py predict --images DIR     # label images, overlays, measurements
    python examples/segmentation/unet_nuclei.py evaluate                 # against Otsu's threshold + watershed

Read it from top to bottom: the net, the loss, training, prediction, evaluation. The shipped weights were chosen by
their loss on the validation images that `evaluate` measures them with, which flatters them a little (docs/nuclei.md).

Sources: Ronneberger, Fischer, Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015;
ELU: Clevert et al., ICLR 2016; dropout: Srivastava et al., JMLR 2014; the Dice loss: Milletari, Navab, Ahmadi,
V-Net, 3DV 2016. Data: Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl,
Nature Methods 2019 (BBBC038).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import nn
from tinynet.tools.cli import BACKENDS, TrainingOptions, option, print_settings, run, run_commands

TOPIC = "Semantic segmentation: the U-Net"
DATA = "Data Science Bowl 2018: nuclei, 130 validation images, weights that come with tinynet"
FILES = ("dsb2018/stage1_train.zip",)
EXPECTED = {"mean_ap": (0.55, 0.58), "otsu_mean_ap": (0.38, 0.40)}
PICTURE = "comparison.png"
ARGUMENTS = ("evaluate",)

WHERE = "default: the real data if TINYNET_DATA or the cache has it, else synthetic"
STAGE1_TRAIN = "dsb2018/stage1_train.zip"
SHIPPED_WEIGHTS = Path(tn.data.__file__).parent / "weights" / "unet_nuclei.npz"


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
    """Down four levels, up four levels, and a shortcut from each level down to the same level up.

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
        """The output before the sigmoid: the form the cross-entropy wants."""
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
    """One output. Dice measures the overlap of two masks; cross-entropy asks for each pixel alone and is smoother."""
    loss = tn.dice_loss(tn.sigmoid(logits), target)
    return loss + tn.bce_with_logits(logits, target) if kind == "bce+dice" else loss


def three_head_loss(logits: tn.Tensor, target: tn.Tensor) -> tn.Tensor:
    """Mask, touching border (rare, so its pixels count three times) and distance, each against its own map."""
    mask, border, distance = (logits[..., i : i + 1] for i in range(3))
    return (
        mask_loss(mask, target[..., 0:1], "bce+dice")
        + tn.bce_with_logits(border, target[..., 1:2], pos_weight=3.0)
        + 0.5 * tn.dice_loss(tn.sigmoid(border), target[..., 1:2])
        + tn.bce_with_logits(distance, target[..., 2:3])
    )


# ---------------------------------------------------------------------------------------------- train
@dataclass
class TrainConfig(TrainingOptions):
    """The flags of `train`."""

    data: str | None = option(None, "zip or folder of images with masks, 'synthetic' or 'download'; " + WHERE)
    out: str = option("out/unet_nuclei", "folder for checkpoints, metrics and pictures", quick="out/unet_nuclei_quick")
    heads: int = option(1, "outputs: 1 (mask, the lecture's net) or 3 (mask, border, distance)", choices=(1, 3))
    loss: str = option("dice", "loss of the one-output net", choices=("dice", "bce+dice"))
    native: bool = option(False, "crops at the images' own resolution, not brought to one nucleus size")
    epochs: int = option(30, "epochs of --crops crops", quick=2)
    crops: int = option(2000, "crops per epoch", quick=16)
    size: int = option(128, "height and width of a crop, pixels", quick=64)
    batch_size: int = option(8, "crops per step")
    lr: float = option(1e-3, "highest learning rate (AdamW; warm-up, then a cosine)")
    weight_decay: float = option(1e-4, "decoupled weight decay")
    average: float = option(0.998, "decay of the running average of the weights, which is what is kept", quick=0.8)


def train(config: TrainConfig) -> dict[str, float]:
    """Train the net on random crops; keep the weights with the lowest validation loss in `best.npz`."""
    from tinynet.data import DataError, DataLoader, NucleiCrops
    from tinynet.nn.optim import AdamW, CosineDecay, WeightAverage
    from tinynet.training.train import Trainer

    samples, held_out, source = load_data(config.data, config.seed, quick=config.quick)
    if not any(sample.labels.any() for sample in samples):
        raise DataError(f"{source}: no nucleus is marked in any of the {len(samples)} training images")
    tn.seed(config.seed)
    model = UNet(config.heads)
    diameter = None if config.native else tn.segment.DIAMETER
    crops = NucleiCrops(samples, config.size, config.crops, config.heads, diameter)
    loader = DataLoader(crops, config.batch_size, seed=config.seed)
    with tn.use_backend(config.backend):
        model.to(tn.device())
        print_settings(config, model, data=source, training_images=len(samples), held_out_images=len(held_out))

    optimizer = AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    steps = config.epochs * len(loader)
    schedule = CosineDecay(optimizer, steps, warmup=min(200, steps // 10), floor=0.01)
    average = WeightAverage(model, config.average)

    def loss(images: tn.Tensor, targets: tn.Tensor) -> tn.Tensor:
        logits = model.logits(images)
        return three_head_loss(logits, targets) if config.heads == 3 else mask_loss(logits, targets, config.loss)

    watched = ValidationCrops(held_out, config.heads, diameter, count=4 if config.quick else 64)
    trainer = Trainer(
        model, optimizer, loss, config.out, schedule=schedule, average=average, max_norm=2.0, settings=config
    )
    with tn.use_backend(config.backend):
        metrics = trainer.fit(
            loader,
            config.epochs,
            validate=lambda: watched.score(model, loss),
            best=("val_loss", "min"),  # smoother than the score of a few views
            on_epoch=lambda epoch, metrics: watched.draw(Path(config.out) / "predictions.png", epoch),
            resume=config.resume,
        )
    print(f"pictures: {config.out}/predictions.png, {config.out}/curve.png; weights: {config.out}/best.npz")
    data = f" --data {config.data}" if config.data else ""
    print(f"next: python {sys.argv[0]} evaluate --weights {config.out}/best.npz{data}")
    return metrics


def load_data(data: str | None, seed: int, quick: bool) -> tuple[list[tn.data.Sample], list[tn.data.Sample], str]:
    """(training samples, held-out ones, where they come from). data: as the flag --data, None for what is at hand."""
    from tinynet.data import DataError, data_path, fetch, read_nuclei, split

    if data == "download":
        data = fetch(STAGE1_TRAIN)
    path = None if data == "synthetic" or (quick and data is None) else data_path(STAGE1_TRAIN, data)
    if path is not None:
        samples = read_nuclei(path, limit=12 if quick else None)
        if len(samples) < 2:
            raise DataError(f"{path}: {len(samples)} image; need two or more, some to train on and some to hold out")
        training, held_out = split(samples)
        if not held_out:  # not the images of the committed split: every fifth is held out
            training, held_out = [s for i, s in enumerate(samples) if i % 5], samples[::5]
        return training, held_out, str(path)
    train_count, held_out_count = (8, 4) if quick else (160, 40)
    return synthetic_set(train_count, (seed, 0)), synthetic_set(held_out_count, (seed, 1)), "synthetic nuclei"


def synthetic_set(count: int, key: tuple[int, int]) -> list[tn.data.Sample]:
    """Synthetic images, every fourth of them histology; the same for the same key, different for different ones."""
    from tinynet.data import synthetic_nuclei

    kinds = ["histology" if i % 4 == 3 else "fluorescence" for i in range(count)]
    samples = [synthetic_nuclei(np.random.default_rng((*key, i)), kind) for i, kind in enumerate(kinds)]
    return [dataclasses.replace(sample, id=f"{i:03d}", group=str(i)) for i, sample in enumerate(samples)]


class ValidationCrops:
    """A fixed look at held-out images while training: the middle of some, at the scale of the training crops."""

    SIZE = 256

    def __init__(self, samples: list[tn.data.Sample], heads: int, diameter: float | None, count: int) -> None:
        chosen = [samples[i] for i in np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)]
        self.views = [middle_view(sample, self.SIZE, diameter) for sample in chosen]
        self.targets = [tn.data.targets(labels, heads) for _, labels in self.views]
        self.found: list[np.ndarray] = []

    def score(self, model: UNet, loss: Callable) -> dict[str, float]:
        """Loss, Dice of the mask and mean average precision of the nuclei."""
        from tinynet.imaging.metrics import dice, mean_ap

        rows, self.found = [], []
        for (image, labels), target in zip(self.views, self.targets):
            x, t = (tn.tensor(array[None]).to(tn.device()) for array in (image, target))
            maps = model(x).numpy()[0]
            found = tn.segment.labels_from_maps(maps)
            self.found.append(found)
            rows.append((loss(x, t).item(), dice(labels > 0, maps[:, :, 0] > 0.5), mean_ap(labels, found)))
        return dict(zip(("val_loss", "val_dice", "val_mean_ap"), np.mean(rows, axis=0).tolist()))

    def draw(self, path: Path, epoch: int) -> None:
        """The first six views with their hits, misses and false alarms."""
        from tinynet import viz

        shown = range(0, len(self.views), max(1, len(self.views) // 6))[:6]
        pictures = []
        for i in shown:
            image, labels = self.views[i]
            grey_levels = (np.clip(image, 0, 1) * 255).astype(np.uint8)
            pictures.append([grey_levels, viz.comparison_overlay(grey_levels, labels, self.found[i])])
        titles = ["image", f"epoch {epoch}: hits, misses, false alarms"]
        viz.save_png(path, viz.panel(pictures, titles))


def middle_view(sample: tn.data.Sample, size: int, diameter: float | None) -> tuple[np.ndarray, np.ndarray]:
    """The middle of an image, normalised and, with a `diameter`, brought to that nucleus size; and its labels."""
    own = tn.instances.median_diameter(sample.labels)
    scale = 1.0 if diameter is None or np.isnan(own) else diameter / own
    height, width = tn.segment.size_at_scale(sample.labels.shape, scale)
    image = tn.segment.resize(tn.data.normalize(sample.image), (height, width))
    labels = tn.segment.resize_labels(sample.labels, (height, width))
    middle = tn.segment.middle_of((height, width), size)
    return np.ascontiguousarray(image[middle]), np.ascontiguousarray(labels[middle])


# ---------------------------------------------------------------------------------------------- predict
@dataclass
class PredictConfig:
    """The flags of `predict`."""

    images: tuple[str, ...] = option((), "zip archives, folders or image files", nargs="+", required=True)
    weights: str | None = option(None, "weights from training; default: those shipped with tinynet (three heads)")
    out: str = option("out/unet_nuclei/predictions", "folder for label images, overlays and tables")
    flips: bool = option(True, "average over mirrored images and two scales: better, and eight times the work")
    backend: str = option("cpu", "where kernels run", choices=BACKENDS)


def load_net(weights: str | None) -> tuple[tn.segment.Net, UNet, float | None]:
    """The net as a function on arrays, the model, and the scale it wants images at (None: one nucleus size).

    The number of heads is that of the weights; a net trained with --native wants images as they are: scale 1.
    """
    from tinynet.errors import CheckpointError
    from tinynet.training.io import load_checkpoint, load_weights

    path = Path(weights) if weights else SHIPPED_WEIGHTS
    head = load_checkpoint(path)[0].get("model", {}).get("head.weight")
    if head is None:
        raise CheckpointError(f"{path} holds no U-Net: it has no head.weight")
    if np.ndim(head) != 4 or head.shape[-1] not in (1, 3):
        raise CheckpointError(f"{path}: head.weight has shape {np.shape(head)}; (1, 1, 16, 1 or 3) is needed")
    model = UNet(heads=head.shape[-1])
    settings = load_weights(path, model).get("settings", {})
    model.eval()

    def net(images: np.ndarray) -> np.ndarray:
        with tn.no_grad():
            return model(tn.tensor(images).to(model.head.weight.device)).numpy()

    return net, model, 1.0 if settings.get("native") else None


def predict(config: PredictConfig) -> dict[str, float]:
    """Find the nuclei of every image: label images, overlays, a table of measurements and Kaggle's submission file."""
    from tifffile import imwrite

    from tinynet import instances, viz
    from tinynet.data import read_images
    from tinynet.files import atomic_path

    net, model, scale = load_net(config.weights)
    out = Path(config.out)
    print(f"weights: {config.weights or SHIPPED_WEIGHTS} ({model.head.out_channels} outputs); backend {config.backend}")
    names, all_labels, measurements = [], [], []
    try:
        with tn.use_backend(config.backend):
            model.to(tn.device())
            for name, image in tqdm(read_images(config.images), "images", disable=not sys.stderr.isatty()):
                labels = tn.segment.segment(net, image, config.flips, scale)
                if labels.max() > np.iinfo(np.uint16).max:
                    raise ValueError(f"{name}: {labels.max()} nuclei are more than a 16-bit label image can number")
                with atomic_path(out / "labels" / f"{name}.tif") as temporary:
                    imwrite(temporary, labels.astype(np.uint16), compression="zlib")
                viz.save_png(out / "overlays" / f"{name}.png", viz.overlay(image, labels))
                names.append(name)
                all_labels.append(labels.astype(np.uint16))
                measurements.append((name, instances.measure(labels, image)))
    finally:  # a broken image or Ctrl-C in the middle: the tables of those before it are written all the same
        if names:
            instances.write_measurements(out / "measurements.csv", measurements)
            instances.write_submission(out / "submission.csv", zip(names, all_labels))
    nuclei = sum(len(rows) for _, rows in measurements)
    print(f"{len(names)} images, {nuclei} nuclei: {out}/labels, {out}/overlays, {out}/measurements.csv, submission.csv")
    return {"images": len(names), "nuclei": nuclei}


# ---------------------------------------------------------------------------------------------- evaluate
@dataclass
class EvaluateConfig:
    """The flags of `evaluate`."""

    data: str | None = option(None, "zip or folder of images with masks, 'synthetic' or 'download'; " + WHERE)
    weights: str | None = option(None, "weights from training; default: those shipped with tinynet (three heads)")
    split: str = option("validation", "which images", choices=("validation", "train", "all"))
    flips: bool = option(True, "average over mirrored images and two scales", quick=False)
    out: str = option("out/unet_nuclei/evaluation", "folder for tables and pictures")
    seed: int = option(0, "seed of the synthetic images")
    backend: str = option("cpu", "where kernels run", choices=BACKENDS)
    quick: bool = option(False, "a few small synthetic images")


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Mean AP as Kaggle defines it, AP at IoU 0.5, Dice and IoU, by kind of image, beside Otsu + watershed."""
    from tinynet import metrics, viz

    training, validation, source = load_data(config.data, config.seed, config.quick)
    samples = {"train": training, "validation": validation, "all": training + validation}[config.split]
    net, model, scale = load_net(config.weights)
    print(f"data: {source}: {len(samples)} images ({config.split}); weights: {config.weights or SHIPPED_WEIGHTS}")
    with tn.use_backend(config.backend):
        model.to(tn.device())
        found = [
            tn.segment.segment(net, sample.image, config.flips, scale)
            for sample in tqdm(samples, "images", disable=not sys.stderr.isatty())
        ]
    otsu = [
        tn.instances.otsu_watershed(sample.image)
        for sample in tqdm(samples, "Otsu + watershed", leave=False, disable=None)
    ]
    rows = metrics.evaluate_instances(samples, otsu, "Otsu + watershed")
    rows += metrics.evaluate_instances(samples, found, "U-Net")
    table = metrics.score_table(rows)
    print(metrics.format_table(table))

    out = Path(config.out)
    metrics.write_rows(out / "images.csv", rows)
    metrics.write_rows(out / "scores.csv", table)
    shown = np.linspace(0, len(samples) - 1, min(4, len(samples))).astype(int)  # evenly spaced, not chosen
    pictures = [[viz.stretch(samples[i].image)] for i in shown]
    for row, i in zip(pictures, shown):
        row += [viz.comparison_overlay(samples[i].image, samples[i].labels, labels[i]) for labels in (otsu, found)]
    viz.save_png(out / "comparison.png", viz.panel(pictures, ["image", "Otsu + watershed", "U-Net"], width=300))
    print(f"tables: {out}/scores.csv, {out}/images.csv; picture: {out}/comparison.png")
    print("next: python examples/unsupervised/rbm.py")
    overall = {row["method"]: row for row in table if row["kind"] == "all"}
    return {"mean_ap": overall["U-Net"]["mean_ap"], "otsu_mean_ap": overall["Otsu + watershed"]["mean_ap"]}


COMMANDS = {"train": (TrainConfig, train), "predict": (PredictConfig, predict), "evaluate": (EvaluateConfig, evaluate)}


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Run one of the commands; returns its final metrics."""
    return run_commands(COMMANDS, argv, description=__doc__)


if __name__ == "__main__":
    run(main)
