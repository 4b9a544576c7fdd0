"""Boxes for detection: how much they overlap, which of them to keep, how a net describes them, what lies in them.

A box is (y1, x1, y2, x2) in pixels: its upper left and lower right *edge*, so that its height is y2 - y1. Pixel 0
covers 0 to 1. Arrays of boxes have the shape (K, 4).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.arrays import array_module
from ..engine.tensor import Tensor
from ..ops._shared.checks import integers
from ..ops.concat.op import concat
from ..ops.sample.op import sampled

# exp of more than this would make a box larger than any image. Ren et al.'s code has the same limit.
LARGEST_LOG = float(np.log(1000 / 16))


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of each box of a (K, 4) with each box of b (M, 4): (K, M), in [0, 1].

    A box without an area overlaps nothing. Raises ValueError for arrays that are no boxes.
    """
    a, b = _checked("box_iou", "a", a), _checked("box_iou", "b", b)
    corner1 = np.maximum(a[:, None, :2], b[None, :, :2])
    corner2 = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.prod(np.maximum(corner2 - corner1, 0), axis=2)
    union = _areas(a)[:, None] + _areas(b) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Non-maximum suppression: of boxes that overlap by more than `threshold`, only the one with the best score stays.

    Greedy: the best box is kept, all that overlap it are dropped, and so on. Among equal scores the first box wins.
    boxes: (K, 4). scores: (K,). threshold: of the intersection over union, from 0 to 1.
    Returns the indices of the boxes that stay, the best score first.

    Raises ValueError for shapes that do not fit, scores or boxes that are NaN, or a threshold outside of 0 .. 1.
    """
    boxes, scores = _checked("nms", "boxes", boxes), np.asarray(scores)
    if scores.shape != (len(boxes),):
        raise ValueError(f"nms: scores has shape {scores.shape}; ({len(boxes)},) is needed, one for each box")
    if np.isnan(scores).any() or np.isnan(boxes).any():
        name = "scores" if np.isnan(scores).any() else "boxes"
        raise ValueError(f"nms: {name} contains NaN; boxes cannot be ordered and compared by it")
    if not 0 <= threshold <= 1:
        raise ValueError(f"nms: threshold is {threshold}; it must be from 0 to 1")
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[box_iou(boxes[best : best + 1], boxes[order])[0] <= threshold]
    return np.array(kept, np.int64)


def encode_boxes(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """What a net has to predict to turn each anchor into its box: (K, 4) offsets (ty, tx, th, tw).

    ty = (center of the box - center of the anchor) / height of the anchor, th = log(height / height of the anchor).
    Raises ValueError for shapes that do not fit, or boxes or anchors without an area. Source: Girshick et al., Rich
    feature hierarchies, CVPR 2014, appendix C; Ren et al., Faster R-CNN, 2015, section 3.1.
    """
    boxes, anchors = _checked("encode_boxes", "boxes", boxes), _checked("encode_boxes", "anchors", anchors)
    if boxes.shape != anchors.shape:
        raise ValueError(f"encode_boxes: boxes has shape {boxes.shape} and anchors {anchors.shape}; one box per anchor")
    for name, array in (("boxes", boxes), ("anchors", anchors)):
        if (array[:, 2:] <= array[:, :2]).any():
            row = int(np.argmax((array[:, 2:] <= array[:, :2]).any(axis=1)))
            raise ValueError(f"encode_boxes: {name}[{row}] is {array[row].tolist()}; y2 > y1 and x2 > x1 are needed")
    (center, size), (anchor_center, anchor_size) = _centers(boxes), _centers(anchors)
    return np.concatenate([(center - anchor_center) / anchor_size, np.log(size / anchor_size)], axis=1)


def decode_boxes(offsets: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """The boxes (K, 4) that a net's offsets (K, 4) make of anchors (K, 4): the inverse of `encode_boxes`."""
    offsets, anchors = _checked("decode_boxes", "offsets", offsets), _checked("decode_boxes", "anchors", anchors)
    anchor_center, anchor_size = _centers(anchors)
    center = anchor_center + offsets[:, :2] * anchor_size
    half = np.exp(np.minimum(offsets[:, 2:], LARGEST_LOG)) * anchor_size / 2
    return np.concatenate([center - half, center + half], axis=1)


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The parts of boxes (K, 4) that lie in an image of size (height, width). They may be empty."""
    return np.clip(_checked("clip_boxes", "boxes", boxes), 0, [*size, *size])


def roi_align(
    x: Tensor, boxes: np.ndarray, images: np.ndarray, size: int | tuple[int, int], scale: float = 1.0, samples: int = 2
) -> Tensor:
    """The features inside of boxes, in one size: (K, H', W', C). Differentiable in x.

    Each box is divided into H' x W' cells; a cell is the mean of samples x samples points, read by linear
    interpolation. x: (N, H, W, C), float, the feature maps. boxes: (K, 4) in pixels of the image; x is `scale` times as
    large. images: (K,) the image of each box. size: (H', W') or a number for both. Points outside of x read 0 beyond
    one pixel around it, and the border within.

    Raises ValueError or TypeError, naming the argument, for shapes, dtypes or image numbers that do not fit.
    Source: He et al., Mask R-CNN, ICCV 2017, section 3.
    """
    boxes, images = _checked("roi_align", "boxes", boxes), np.asarray(images)
    height, width = integers("roi_align", "size", size, 1, "(y, x)")
    if images.shape != (len(boxes),) or images.dtype.kind not in "iu":
        raise ValueError(f"roi_align: images is {images.dtype}{images.shape}; {len(boxes)} integers are needed")
    if len(images) and not 0 <= images.min() <= images.max() < len(x):
        raise ValueError(f"roi_align: images has values from {images.min()} to {images.max()}; x has {len(x)} images")
    y1, x1, y2, x2 = (boxes * scale).T
    rows, columns = _points(y1, y2, height * samples), _points(x1, x2, width * samples)
    points = np.stack(np.broadcast_arrays(rows[:, :, None], columns[:, None, :]), axis=-1)
    limit = np.array(x.shape[1:3])
    outside = ((points < -1) | (points > limit)).any(axis=-1)
    weights = np.where(outside, 0, 1 / samples**2)[..., None].astype(x.dtype)
    xp = array_module(x.data)
    parts = []
    for n in range(len(x)):  # the boxes of an image are one set of points
        of_image = np.flatnonzero(images == n)
        at = xp.asarray(points[of_image].reshape(1, -1, 2).astype(x.dtype))
        values = sampled("roi_align", x[n : n + 1], at, "border").reshape(*weights[of_image].shape[:3], x.shape[3])
        cells = (values * xp.asarray(weights[of_image])).reshape(-1, height, samples, width, samples, x.shape[3])
        parts.append(cells.sum((2, 4)))
    back = np.argsort(np.argsort(images, kind="stable"), kind="stable")  # from image after image to the order of boxes
    return concat(parts, axis=0)[back]


def _points(first: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
    """(K, count): the centers of `count` equal parts of each interval, where pixel 0 has its center at 0."""
    return first[:, None] + (end - first)[:, None] * (np.arange(count) + 0.5) / count - 0.5


def _checked(name: str, argument: str, boxes: Any) -> np.ndarray:
    boxes = np.asarray(boxes)
    if boxes.size == 0 and boxes.ndim < 2:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name}: {argument} has shape {boxes.shape}; (K, 4) is needed")
    return boxes.astype(np.result_type(boxes.dtype, np.float32), copy=False)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def _centers(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(centers (K, 2), sizes (K, 2))."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
