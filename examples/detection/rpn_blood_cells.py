"""Faster R-CNN: which cells are in a blood smear, and where?

    python examples/detection/rpn_blood_cells.py

A classifier answers one question about an image. Here the number of answers is unknown: a box and a class for each
cell. Faster R-CNN (Ren 2015) finds them in two stages, which share the features of one convolutional net:

1. **Region proposals.** On a grid with a step of 8 pixels stand *anchors*, boxes of five sizes. For each anchor the
   net predicts whether it is near a cell, and four *offsets* that move and stretch it to the cell's box. The best
   proposals remain after *non-maximum suppression* (NMS), which drops a box that overlaps a better one.
2. **The head.** *RoI align* cuts the features of each proposal out, in one size, and a small net says which kind of
   cell it is, or none, and refines the box.

Training needs targets for thousands of anchors and a few boxes: an anchor is positive if it overlaps a box well
(*matching*), negative if it overlaps none, and ignored in between. Because nearly all anchors are negative, the loss
takes a *sample* of equally many positive and negative ones. Offsets are learned with the *smooth L1* loss, which grows
linearly, so that a badly placed box does not outweigh all others.

The measure is the average precision (AP) of each class at an overlap of 0.5, on test images. Many red cells within
clusters have no box in this data set: what a net finds there counts as a false alarm. The baseline is made of rules:
Otsu's threshold, color, size.

On the 72 test images the net reaches an AP of 0.84 for red cells, 0.98 for white ones and 0.86 for platelets (one run).
The rules reach 0.36, 0.95 and 0.37: a white cell is large and purple, but cells that touch need more than a watershed.
Of all cells, 90 % overlap one of the best 50 proposals by half, 98 % one of the best 100; the head cannot find others.

Sources: Ren, He, Girshick, Sun, Faster R-CNN: towards real-time object detection with region proposal networks, NIPS
2015, section 3; smooth L1: Girshick, Fast R-CNN, ICCV 2015; RoI align: He et al., Mask R-CNN, ICCV 2017; data: BCCD.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage import filters, measure

import tinynet as tn
from tinynet import boxes as bx
from tinynet import instances, metrics, nn, optim, viz
from tinynet.data import DataLoader, Smear, mirrored, read_blood_cells, synthetic_smear
from tinynet.data.blood_cells import CELLS
from tinynet.tools.cli import TrainingOptions, command_line, option, print_settings, report, run

# ---------------------------------------------------------------------------------------- the net
STRIDE = 8  # pixels of the image from one position of the features to the next
ANCHORS = (20.0, 36.0, 52.0, 76.0, 108.0)  # sides of the square anchors, pixels: from platelets to white cells
ROI = 6  # height and width of the features that RoI align cuts out
HIDDEN = 128


def convolution(c_in: int, c_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
    )


class Detector(nn.Module):
    """The net of both stages. Images are (N, H, W, 3), H and W multiples of 8."""

    def __init__(self, channels: tuple[int, int, int] = (24, 48, 64)) -> None:
        c1, c2, c3 = channels
        self.backbone = nn.Sequential(
            *(convolution(3, c1, 5, stride=2), convolution(c1, c1), nn.MaxPool2d(2)),
            *(convolution(c1, c2), convolution(c2, c2), nn.MaxPool2d(2)),
            *(convolution(c2, c3), convolution(c3, c3), convolution(c3, c3)),
        )
        self.near = convolution(c3, c3)  # the proposals look at 3 x 3 positions
        self.objectness = nn.Conv2d(c3, len(ANCHORS), 1)
        self.offsets = nn.Conv2d(c3, 4 * len(ANCHORS), 1, init=small)
        self.hidden = nn.Linear(ROI * ROI * c3, HIDDEN)
        self.kinds = nn.Linear(HIDDEN, 1 + len(CELLS))  # 0: no cell
        self.refinement = nn.Linear(HIDDEN, 4, init=small)

    def propose(self, features: tn.Tensor) -> tuple[tn.Tensor, tn.Tensor]:
        """First stage: (logits (N, A), offsets (N, A, 4)) of the A anchors, in the order of `anchors`."""
        y = self.near(features)
        return self.objectness(y).reshape(len(y), -1), self.offsets(y).reshape(len(y), -1, 4)

    def judge(self, features: tn.Tensor, boxes: np.ndarray, images: np.ndarray) -> tuple[tn.Tensor, tn.Tensor]:
        """Second stage: (logits (K, 4), offsets (K, 4)) of boxes (K, 4), each in the image of number `images` (K,)."""
        cut = bx.roi_align(features, boxes, images, ROI, 1 / STRIDE)
        y = tn.relu(self.hidden(cut.reshape(len(cut), -1)))
        return self.kinds(y), self.refinement(y)


def small(shape: tuple[int, ...], **_: int) -> np.ndarray:
    """Weights that begin near zero: the first boxes are the anchors."""
    return (0.01 * tn.randn(*shape)).numpy()


def anchors(size: tuple[int, int]) -> np.ndarray:
    """The anchors of an image of this (height, width): (A, 4), row by row, column by column, then by size."""
    rows, columns = (np.arange(n // STRIDE) * STRIDE + STRIDE / 2 for n in size)
    centers = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)[:, :, None, :]
    half = np.array(ANCHORS)[:, None] / 2
    return np.concatenate(np.broadcast_arrays(centers - half, centers + half), axis=-1).reshape(-1, 4)


# ---------------------------------------------------------------------------------------- targets
# A candidate is positive if it overlaps a cell by at least the first value, negative below the second one.
FIRST_OVERLAPS, SECOND_OVERLAPS = (0.6, 0.3), (0.5, 0.5)
SAMPLED_ANCHORS, SAMPLED_BOXES = 128, 64  # of each image, at most half of them positive
SCALE = np.array([10.0, 10.0, 5.0, 5.0])  # offsets in the second stage are small: as learned, they have this scale


def match(candidates: np.ndarray, boxes: np.ndarray, positive: float, negative: float) -> tuple[np.ndarray, np.ndarray]:
    """(labels, partners) of candidates (A, 4) for the true boxes (K, 4) of an image.

    labels (A,): 1 if a candidate overlaps a box by at least `positive`, 0 if it overlaps all by less than `negative`,
    else -1. The best candidate of each box is positive, too, so that every cell has one. partners (A,): the box that
    each candidate overlaps most; meaningless for negative ones.
    """
    if not len(boxes):
        return np.zeros(len(candidates), np.int64), np.zeros(len(candidates), np.int64)
    overlap = bx.box_iou(candidates, boxes)
    labels = np.full(len(candidates), -1)
    labels[overlap.max(axis=1) < negative] = 0
    labels[overlap.max(axis=1) >= positive] = 1
    partners = overlap.argmax(axis=1)
    for box, best in enumerate(overlap.argmax(axis=0)):
        if overlap[best, box] > 0:
            labels[best], partners[best] = 1, box
    return labels, partners


class Sampled(NamedTuple):
    """Candidates that count in a loss: M of them, the P positive ones of each image before its negative ones."""

    images: np.ndarray  # (M,) the number of the image
    indices: np.ndarray  # (M,) the number of the candidate among all of its image
    boxes: np.ndarray  # (M, 4)
    kinds: np.ndarray  # (M,) 1 + class of the cell, 0 without a cell
    offsets: np.ndarray  # (P, 4) from the positive ones to their cells


def sample(
    image: int,
    candidates: np.ndarray,
    cells: tuple[np.ndarray, np.ndarray],
    overlaps: tuple[float, float],
    count: int,
    rng: np.random.Generator,
) -> Sampled:
    """Match candidates (A, 4) with the cells of an image, and choose `count`, at most half of them positive.

    cells: (boxes (K, 4), kinds (K,)). overlaps: as the last two arguments of `match`.
    """
    boxes, kinds = cells
    labels, partners = match(candidates, boxes, *overlaps)
    positive = rng.permutation(np.flatnonzero(labels == 1))[: count // 2]
    negative = rng.permutation(np.flatnonzero(labels == 0))[: count - len(positive)]
    chosen = np.append(positive, negative)
    chosen_kinds = np.append(kinds[partners[positive]], np.zeros(len(negative), int))
    offsets = bx.encode_boxes(boxes[partners[positive]], candidates[positive])
    return Sampled(np.full(len(chosen), image), chosen, candidates[chosen], chosen_kinds, offsets)


# ---------------------------------------------------------------------------------------- the loss
def detection_loss(
    model: Detector, images: tn.Tensor, boxes: np.ndarray, kinds: np.ndarray, keys: np.ndarray
) -> tn.Tensor:
    """The four losses, added: is it a cell, and where (stage 1); which cell is it, and where exactly (stage 2).

    boxes: (N, K, 4), the true boxes, filled up to the same K. kinds: (N, K), 1 + class, 0 where filled up. keys: (N,),
    seeds of the sampling, so that a resumed run repeats it.
    """
    features = model.backbone(images)
    logits, offsets = model.propose(features)
    size = images.shape[1:3]
    places, first, second = anchors(size), [], []
    for n, key in enumerate(keys):
        rng, is_cell = np.random.default_rng(int(key)), kinds[n] > 0
        cells = boxes[n][is_cell], kinds[n][is_cell]
        first.append(sample(n, places, cells, FIRST_OVERLAPS, SAMPLED_ANCHORS, rng))
        proposals = best_proposals(logits[n].numpy(), offsets[n].numpy(), size, 64)
        candidates = np.concatenate([proposals, cells[0]])  # the cells, too: at first no proposal is near one
        second.append(sample(n, candidates, cells, SECOND_OVERLAPS, SAMPLED_BOXES, rng))
    first_loss = proposal_loss(logits, offsets, Sampled(*map(np.concatenate, zip(*first))))
    return first_loss + head_loss(model, features, Sampled(*map(np.concatenate, zip(*second))))


def proposal_loss(logits: tn.Tensor, offsets: tn.Tensor, sampled: Sampled) -> tn.Tensor:
    """The loss of stage 1 for sampled anchors. Arguments as returned by `Detector.propose`."""
    images, indices, _, kinds, targets = sampled
    cross_entropy = tn.bce_with_logits(logits[images, indices], kinds > 0)
    return cross_entropy + box_loss(offsets[images[kinds > 0], indices[kinds > 0]], targets, len(kinds))


def head_loss(model: Detector, features: tn.Tensor, sampled: Sampled) -> tn.Tensor:
    """The loss of stage 2 for sampled proposals."""
    logits, offsets = model.judge(features, sampled.boxes, sampled.images)
    cross_entropy = tn.softmax_cross_entropy(logits, sampled.kinds)
    return cross_entropy + box_loss(offsets[sampled.kinds > 0], SCALE * sampled.offsets, len(sampled.kinds))


def box_loss(offsets: tn.Tensor, targets: np.ndarray, count: int) -> tn.Tensor | float:
    """Smooth L1 of the offsets (P, 4) of positive boxes, over the number of all sampled boxes; 0 without positives."""
    if not len(targets):
        return 0.0
    targets = tn.tensor(targets.astype(offsets.dtype)).to(tn.device())
    return tn.smooth_l1_loss(offsets, targets, reduction="sum") * (1 / count)


# ---------------------------------------------------------------------------------------- detection
def best_proposals(logits: np.ndarray, offsets: np.ndarray, size: tuple[int, int], count: int) -> np.ndarray:
    """The best `count` proposals (K, 4) for an image of this (height, width), the best first, after NMS."""
    best = np.argsort(-logits, kind="stable")[: 4 * count]
    boxes = bx.clip_boxes(bx.decode_boxes(offsets[best], anchors(size)[best]), size)
    is_large = (boxes[:, 2:] - boxes[:, :2] >= 4).all(axis=1)
    boxes, best = boxes[is_large], best[is_large]
    return boxes[bx.nms(boxes, logits[best], 0.7)[:count]]


def first_stage(model: Detector, image: np.ndarray) -> tuple[tn.Tensor, np.ndarray, np.ndarray]:
    """(features (1, H / 8, W / 8, C), logits (A,), offsets (A, 4)) of a uint8 image (H, W, 3), without gradients."""
    with tn.no_grad():
        features = model.backbone(tn.tensor(as_input(image)[None]).to(tn.device()))
        logits, offsets = model.propose(features)
    return features, logits.numpy()[0], offsets.numpy()[0]


def detect(model: Detector, image: np.ndarray, count: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes (M, 4), classes (M,), probabilities (M,)) of the cells in a uint8 image (H, W, 3)."""
    features, *of_anchors = first_stage(model, image)
    proposals = best_proposals(*of_anchors, image.shape[:2], count)
    if not len(proposals):
        return np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)
    with tn.no_grad():
        logits, offsets = model.judge(features, proposals, np.zeros(len(proposals), int))
    probabilities = tn.softmax(logits).numpy()
    refined = bx.clip_boxes(bx.decode_boxes(offsets.numpy() / SCALE, proposals), image.shape[:2])
    boxes, classes, scores = [np.zeros((0, 4))], [np.zeros(0, int)], [np.zeros(0)]
    for kind in range(len(CELLS)):
        score = probabilities[:, 1 + kind]
        candidates = np.flatnonzero(score > 0.02)
        kept = candidates[bx.nms(refined[candidates], score[candidates], 0.4)]
        boxes.append(refined[kept])
        classes.append(np.full(len(kept), kind))
        scores.append(score[kept])
    return np.concatenate(boxes), np.concatenate(classes), np.concatenate(scores)


def as_input(images: np.ndarray) -> np.ndarray:
    """uint8 -> float32, about -1 to 1."""
    return images.astype(np.float32) / 127.5 - 1


# ---------------------------------------------------------------------------------------- the baseline
PURPLE = 40.0  # Otsu's threshold would adapt to the nucleus of a white cell and miss the platelets, which are paler


def by_rules(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes, classes, scores) without learning: purple things are white cells or platelets, by size; the rest is red.

    Nuclei and platelets are stained purple. Red cells are what is darker than the background in green; a watershed
    separates touching ones. Purple cells are the surer, the larger they are; red ones, the nearer to the usual size.
    The numbers were chosen on training images.
    """
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (1, 1, 0))
    red, green, blue = np.moveaxis(smooth, 2, 0)
    stained = ndimage.binary_opening(2 * blue - green - red > PURPLE)
    joined = ndimage.binary_closing(np.pad(stained, 8), iterations=4)[8:-8, 8:-8]  # the lobes of one nucleus
    others = ndimage.binary_fill_holes(green < filters.threshold_otsu(green)) & ~ndimage.binary_dilation(joined)
    purple_cells = [region for region in measure.regionprops(measure.label(joined)) if region.area >= 30]
    separated = instances.distance_watershed(others, sigma=3, min_distance=8)
    red_cells = [region for region in measure.regionprops(separated) if region.area >= 500]

    boxes = [np.add(region.bbox, (-4, -4, 4, 4)) for region in purple_cells]  # their edges are pale
    boxes += [np.array(region.bbox) for region in red_cells]
    classes = [1 if region.area >= 1200 else 2 for region in purple_cells] + [0] * len(red_cells)
    scores = [region.area for region in purple_cells] + [-abs(np.log(region.area / 2000)) for region in red_cells]
    clipped = bx.clip_boxes(np.array(boxes, float).reshape(-1, 4), image.shape[:2])
    return clipped, np.array(classes, int), np.array(scores, float)


# ---------------------------------------------------------------------------------------- training
class Training:
    """Smears as a data set: (image, boxes, kinds, key), mirrored at random, boxes filled up to the same number."""

    def __init__(self, smears: list[Smear], repeats: int) -> None:
        self.smears, self.repeats = smears, repeats
        self.most = max(1, *(len(smear.boxes) for smear in smears))

    def __len__(self) -> int:
        return len(self.smears) * self.repeats

    def item(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        smear = self.smears[index % len(self.smears)]
        image, boxes = mirrored(smear.image, smear.boxes, rng)
        light = rng.uniform(0.85, 1.15, 3).astype(np.float32)
        filled, kinds = np.zeros((self.most, 4), np.float32), np.zeros(self.most, np.int64)
        filled[: len(boxes)], kinds[: len(boxes)] = boxes, 1 + smear.classes
        return np.clip(as_input(image) * light, -1, 1), filled, kinds, rng.integers(2**31)


def train(training: list[Smear], validation: list[Smear], config: Config) -> Detector:
    """The detector with the weights whose mean AP on the validation images was the highest."""
    tn.seed(config.seed)
    model = Detector().to(tn.device())
    loader = DataLoader(Training(training, config.repeats), config.batch_size, seed=config.seed)
    optimizer = optim.AdamW(model.parameters(), config.lr, weight_decay=1e-4)
    steps = config.epochs * len(loader)
    schedule = optim.CosineDecay(optimizer, steps, warmup=min(100, steps // 10), floor=0.01)
    average = optim.WeightAverage(model, 0.99)

    def loss(images: tn.Tensor, boxes: tn.Tensor, kinds: tn.Tensor, keys: tn.Tensor) -> tn.Tensor:
        return detection_loss(model, images, boxes.numpy(), kinds.numpy(), keys.numpy())

    def validate() -> dict[str, float]:
        precisions = class_precisions(validation, [detect(model, smear.image) for smear in validation])
        return {"val_ap": float(np.nanmean(list(precisions.values())))}

    trainer = tn.train.Trainer(
        model, optimizer, loss, config.out, schedule=schedule, average=average, max_norm=5.0, settings=config
    )
    trainer.fit(loader, config.epochs, validate, best=("val_ap", "max"), resume=config.resume)
    tn.io.load_weights(Path(config.out) / "best.npz", model)
    return model.eval()


# ---------------------------------------------------------------------------------------- evaluation
Found = list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # (boxes, classes, scores) of each image


def of_class(smears: list[Smear], found: Found, kind: int) -> tuple[list, list, list]:
    """(true boxes, found boxes, scores) of one class, for each image."""
    true = [smear.boxes[smear.classes == kind] for smear in smears]
    return true, [boxes[c == kind] for boxes, c, _ in found], [scores[c == kind] for _, c, scores in found]


def class_precisions(smears: list[Smear], found: Found) -> dict[str, float]:
    """The average precision of each class at an overlap of 0.5; NaN where no cell of it is in the images."""
    return {name: metrics.detection_ap(*of_class(smears, found, kind)) for kind, name in enumerate(CELLS)}


def proposal_recall(model: Detector, smears: list[Smear], count: int) -> float:
    """The share of all cells that one of the best `count` proposals overlaps by 0.5 or more."""
    proposals = [best_proposals(*first_stage(model, s.image)[1:], s.image.shape[:2], count) for s in smears]
    return metrics.box_recall([smear.boxes for smear in smears], proposals)


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(TrainingOptions):
    out: str = option("out/rpn_blood_cells", "folder for weights, metrics and figures")
    epochs: int = option(12, "epochs of --repeats passes over the training images", quick=3)
    repeats: int = option(2, "passes over the training images in an epoch", quick=1)
    batch_size: int = option(4, "images in a step")
    lr: float = option(1.5e-3, "highest learning rate (AdamW; warm-up, then a cosine)", quick=3e-3)
    images: int | None = option(None, "read only so many images of each part (default: all)")
    drawing: int = option(160, "width of the drawings that replace missing images, pixels", quick=128)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "repeats", "batch_size", "images")
        self.at_least(32, "drawing")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train, choose the weights on validation images, and compare with the rules on test images."""
    parts, source = load_data(config)
    training, validation, test = parts
    sizes = f"{len(training)} to train on, {len(validation)} to choose the weights, {len(test)} to test with"
    print_settings(config, Detector(), source=source, images_of_each_part=sizes)
    model = train(training, validation, config)
    found = [detect(model, smear.image) for smear in test]
    ruled = [by_rules(smear.image) for smear in test]
    results = {f"ap_{name}": value for name, value in class_precisions(test, found).items()}
    results["mean_ap"] = float(np.nanmean(list(results.values())))
    results |= {f"rules_{name}": value for name, value in class_precisions(test, ruled).items()}
    results |= {f"recall_{count}": proposal_recall(model, test, count) for count in (50, 100)}
    figures = {
        "boxes.png": draw_boxes(test, found),
        "anchors.png": draw_anchors(max(training, key=lambda smear: len(set(smear.classes)))),  # with all classes
        "proposals.png": draw_proposals(model, test[0]),
        "precision_recall.png": draw_precision_recall(test, found, ruled),
    }
    expected = {} if source.startswith("synthetic") else EXPECTED
    return report(config, results, expected, figures, NEXT)


def load_data(config: Config) -> tuple[list[list[Smear]], str]:
    """([training, validation, test], source): BCCD, or drawings if it is missing or the run is a quick one."""
    if config.data is None and (config.quick or tn.data.data_path(FILES[0]) is None):
        why = "" if config.quick else f", because {FILES[0]} was not found in TINYNET_DATA or in the cache"
        size = (config.drawing * 3 // 4 // STRIDE * STRIDE, config.drawing // STRIDE * STRIDE)
        counts = (24, 3, 6) if config.quick else (120, 20, 40)
        counts = tuple(min(count, config.images or count) for count in counts)
        drawn = [
            [synthetic_smear(np.random.default_rng((config.seed, n, i)), size) for i in range(count)]
            for n, count in enumerate(counts)
        ]
        return drawn, f"synthetic drawings{why}"
    return [read_blood_cells(part, config.data, limit=config.images) for part in ("train", "val", "test")], "BCCD"


# ---------------------------------------------------------------------------------------- figures
COLORS = [viz.mpl(color) for color in (viz.VERMILLION, viz.BLUE, viz.BLACK)]  # red cells, white cells, platelets
SHOWN = 0.5  # boxes with a lower probability are not drawn


def show(axes: viz.Axes, image: np.ndarray) -> None:
    """Draw an image without the scales of the axes."""
    axes.imshow(image)
    axes.axis("off")
    axes.autoscale(False)  # boxes reach out of the image


def draw_boxes(smears: list[Smear], found: Found) -> viz.Figure:
    """Four test images, evenly spaced in the list: the truth dashed, what was found with its probability."""
    chosen = np.linspace(0, len(smears) - 1, min(4, len(smears))).round().astype(int)
    figure, axes = viz.subplots(2, 2, figsize=(11, 8.6), squeeze=False)
    for panel in axes.flat:
        panel.axis("off")
    for panel, i in zip(axes.flat, chosen):
        show(panel, smears[i].image)
        for box, kind in zip(smears[i].boxes, smears[i].classes):
            viz.draw_box(panel, box, COLORS[kind], linestyle="--", linewidth=0.9)
        for box, kind, score in zip(*found[i]):
            if score >= SHOWN:
                viz.draw_box(panel, box, COLORS[kind], f"{score:.2f}")
    figure.suptitle("found (with probability) and true (dashed): red cells red, white cells blue, platelets black")
    return figure


def draw_anchors(smear: Smear) -> viz.Figure:
    """The anchors at one place of the grid, and those that match a cell."""
    places = anchors(smear.image.shape[:2])
    labels, _ = match(places, smear.boxes, *FIRST_OVERLAPS)
    figure, axes = viz.subplots(1, 2, figsize=(11, 4.6))
    for panel in axes:
        show(panel, smear.image)
    rows, columns = (n // STRIDE for n in smear.image.shape[:2])
    center = (rows // 2 * columns + columns // 2) * len(ANCHORS)
    for box in places[center : center + len(ANCHORS)]:
        viz.draw_box(axes[0], box, "black")
    grid = places[:: len(ANCHORS)].reshape(-1, 2, 2).mean(axis=1) - 0.5
    axes[0].plot(grid[:, 1], grid[:, 0], "k.", markersize=1)
    axes[0].set_title(f"{len(places):,} anchors: {len(ANCHORS)} sizes at {rows} x {columns} places")
    for box in places[labels == 1]:
        viz.draw_box(axes[1], box, "gold", linewidth=0.8)
    for box, kind in zip(smear.boxes, smear.classes):
        viz.draw_box(axes[1], box, COLORS[kind], linestyle="--")
    axes[1].set_title(f"{(labels == 1).sum()} positive anchors (yellow), {(labels == -1).sum()} ignored")
    return figure


def draw_proposals(model: Detector, smear: Smear) -> viz.Figure:
    """How likely each place is a cell, at its best size, and the best 30 proposals."""
    _, logits, offsets = first_stage(model, smear.image)
    size = smear.image.shape[:2]
    figure, axes = viz.subplots(1, 2, figsize=(11, 4.6))
    heat = logits.reshape(size[0] // STRIDE, size[1] // STRIDE, len(ANCHORS)).max(axis=2)
    axes[0].imshow(heat, cmap="magma", extent=(0, size[1], size[0], 0))
    axes[0].axis("off")
    axes[0].set_title(f"objectness (the best of {len(ANCHORS)} anchors)")
    show(axes[1], smear.image)
    for box in best_proposals(logits, offsets, size, 30):
        viz.draw_box(axes[1], box, "gold", linewidth=0.9)
    axes[1].set_title("the best 30 proposals")
    return figure


def draw_precision_recall(smears: list[Smear], found: Found, ruled: Found) -> viz.Figure:
    """Precision against recall, of the net and of the rules (dotted)."""
    figure, axes = viz.subplots(figsize=(6.4, 5.4))
    for kind, name in enumerate(CELLS):
        for outcome, style, label in ((found, "-", name), (ruled, ":", None)):
            given = of_class(smears, outcome, kind)
            precision, recall = metrics.precision_recall(*given)
            text = f"{label}: AP {metrics.detection_ap(*given):.3f}" if label else None
            axes.plot(recall, precision, style, color=COLORS[kind], label=text)
    axes.plot([], [], ":", color="0.5", label="rules: Otsu, color, size")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.legend(loc="lower left")
    axes.grid(alpha=0.3)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Detection: region proposals and Faster R-CNN"
DATA = "BCCD: 364 blood smears with 4,888 cells, official split"
FILES = ("bccd/BCCD.zip",)
EXPECTED = {"ap_red": (0.8, None), "ap_white": (0.95, None), "ap_platelet": (0.7, None), "recall_100": (0.95, None)}
PICTURE = "precision_recall.png"
NEXT = "python examples/registration/affine_regression.py"


if __name__ == "__main__":
    run(main)
