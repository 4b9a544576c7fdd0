"""Non-maximum suppression: one box for each object.

A detector finds the same object several times, with boxes that differ a little. Of boxes that overlap much, only the
one with the best score shall stay. A box is (y1, x1, y2, x2): the edges of a rectangle, so its height is y2 - y1. Two
boxes overlap by their *intersection over union*:

    IoU(a, b) = area of (a and b) / (area of a + area of b - area of (a and b))

It is between 0 and 1. It is 0 if the boxes do not touch, or if both have no area.

Non-maximum suppression (NMS) is greedy:

1. Take the box with the best score among those that remain, and keep it. Of equal scores, the first box wins.
2. Drop every remaining box whose IoU with the box just kept is *larger* than the threshold.
3. Repeat, until no box remains.

A box that was dropped drops no other box. The result is the *indices* of the kept boxes, in the order in which they
were kept. Without any box it is empty.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import Probe, Unusable, call, numeric

TEACHES = "rectangles as numbers; indices that survive a sort; what equal scores and empty arrays do to a program"
HINTS = (
    "The common part of two boxes begins at the larger y1 and ends at the smaller y2; if it ends before it begins, its "
    "height is 0. Of an empty list NumPy makes an array of float64, with which you cannot index.",
    'Keep an array `order` of the indices that remain, the best score first: np.argsort(-scores, kind="stable") keeps '
    "equal scores in their order.",
    """
    order = np.argsort(-scores, kind="stable")
    while len(order):
        best, order = order[0], order[1:]
        ...                                    # keep `best`
        order = order[box_iou(boxes[[best]], boxes[order])[0] <= threshold]
    """,
)
ANY_SMALL_CONSTANT = 1e-5  # relative; many programs add one to the union, so that they never divide by 0
PLACES = {"box_iou": "tinynet.imaging.boxes", "nms": "tinynet.imaging.boxes"}
USE = "detector"


# ---- your file
def box_iou(a, b):
    """The IoU of each box of a (K, 4) with each box of b (M, 4): an array (K, M). y1 <= y2 and x1 <= x2."""
    # ---- solution
    begin = np.maximum(a[:, None, :2], b[None, :, :2])
    end = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.maximum(end - begin, 0), axis=2)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1)
    union = area_a[:, None] + area_b - common
    return common / np.where(union > 0, union, 1)
    # ---- end of solution


def nms(boxes, scores, threshold):
    """The indices of the boxes that stay, the best score first: integers. boxes (K, 4), scores (K,); K may be 0."""
    # ---- solution
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        overlap = box_iou(boxes[[best]], boxes[order])[0]
        order = order[overlap <= threshold]
    return np.array(kept, int)
    # ---- end of solution


# ---- end of your file


_COMMON = "np.prod(np.maximum(end - begin, 0), axis=2)"
_SORTED = 'np.argsort(-scores, kind="stable")'
_DROP = "order = order[overlap <= threshold]"
_RESULT = "return np.array(kept, int)"
WRONG = (
    Wrong(
        "IoU: not clipped at 0",
        "Boxes that do not touch get an IoU: a height and a width that are both negative have a positive product. Clip "
        "each of them at 0 before you multiply.",
        (_COMMON, "np.prod(end - begin, axis=2)"),
    ),
    Wrong(
        "IoU: both areas",
        "You divide by the sum of the two areas. The union counts their common part once: subtract it.",
        ("area_a[:, None] + area_b - common", "area_a[:, None] + area_b"),
    ),
    Wrong(
        "IoU: Dice",
        "That is twice the common area over the sum of the areas (Dice). The IoU divides the common area by the union.",
        ("area_a[:, None] + area_b - common", "(area_a[:, None] + area_b) / 2"),
    ),
    Wrong(
        "IoU: smaller box",
        "You divide by the area of the smaller box: a small box inside of a large one would count as the same object. "
        "Divide by the union.",
        ("area_a[:, None] + area_b - common", "np.minimum(area_a[:, None], area_b)"),
    ),
    Wrong(
        "IoU: + 1",
        "You add 1 to each height and width, as for boxes that name their last pixel. These boxes name their edges.",
        ("np.maximum(end - begin, 0)", "np.maximum(end - begin + 1, 0)"),
        ("a[:, 2:] - a[:, :2]", "a[:, 2:] - a[:, :2] + 1"),
        ("b[:, 2:] - b[:, :2]", "b[:, 2:] - b[:, :2] + 1"),
    ),
    Wrong(
        "IoU: (y, x, height, width)",
        "You read the last two numbers of a box as its height and width. They are its lower and right edge, y2 and x2.",
        ("a[:, None, 2:], b[None, :, 2:]", "a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:]"),
        ("a[:, 2:] - a[:, :2]", "a[:, 2:]"),
        ("b[:, 2:] - b[:, :2]", "b[:, 2:]"),
    ),
    Wrong(
        "IoU: NaN without an area",
        "Two boxes without an area give 0 / 0 = NaN. Their IoU is 0: divide only where the union is larger than 0.",
        ("np.where(union > 0, union, 1)", "union"),
    ),
    Wrong(
        "IoU: union at least 1",
        "You divide by at least 1. That avoids 0 / 0, but it changes the IoU of boxes in units of the image, whose "
        "areas are below 1.",
        ("np.where(union > 0, union, 1)", "np.maximum(union, 1)"),
    ),
    Wrong(
        "NMS: worst first",
        "You begin with the worst score: argsort sorts upwards.",
        (_SORTED, 'np.argsort(scores, kind="stable")'),
    ),
    Wrong(
        "NMS: last of equal scores",
        "Of equal scores your first is the last box: argsort(...)[::-1] reverses them, too. Sort -scores, with "
        'kind="stable".',
        (_SORTED, 'np.argsort(scores, kind="stable")[::-1]'),
    ),
    Wrong(
        "NMS: >= for >",
        "A box whose IoU is equal to the threshold is dropped. It stays: only a larger IoU drops it.",
        (_DROP, "order = order[overlap < threshold]"),
    ),
    Wrong(
        "NMS: not repeated",
        "You compare with the best box only, and keep all others that do not overlap it. Repeat it with the boxes that "
        "remain.",
        (_DROP + "\n    " + _RESULT, _DROP + "\n        kept += list(order)\n        break\n    " + _RESULT),
    ),
    Wrong(
        "NMS: dropped boxes drop",
        "A box is dropped by any better box, even by one that was dropped itself. Only the boxes that are kept drop "
        "others.",
        (
            _DROP + "\n    " + _RESULT,
            "order = order\n    all_of_it = np.array(kept, int)\n    is_kept = [\n        not (box_iou(boxes[[k]], "
            "boxes[all_of_it[:i]]) > threshold).any() for i, k in enumerate(all_of_it)\n    ]\n    "
            "return all_of_it[np.array(is_kept, bool)]",
        ),
    ),
    Wrong(
        "NMS: compared with the last kept",
        "A box is compared only with the box that was kept last. Compare it with each box that was kept.",
        (
            "        overlap = box_iou(boxes[[best]], boxes[order])[0]\n        " + _DROP,
            "        while len(order) and box_iou(boxes[[best]], boxes[order[:1]])[0, 0] > threshold:\n"
            "            order = order[1:]",
        ),
    ),
    Wrong(
        "NMS: places in the sorted list",
        "You return places in the sorted list of boxes. Translate them back: order[place] is the index of the box.",
        (
            _RESULT,
            'rank = list(np.argsort(-scores, kind="stable"))\n    return np.array([rank.index(k) for k in kept], int)',
        ),
    ),
    Wrong(
        "NMS: order of the input",
        "The right boxes, but in the order of the input. Return them as they are kept, the best score first.",
        (_RESULT, "return np.array(sorted(kept), int)"),
    ),
    Wrong(
        "NMS: the dropped ones",
        "You return the boxes that are dropped, not the ones that stay.",
        (_RESULT, "return np.setdiff1d(np.arange(len(scores)), kept).astype(int)"),
    ),
    Wrong(
        "NMS: the boxes themselves",
        "You return the boxes. Return their indices: the caller needs the scores and the classes of the same boxes, "
        "too.",
        (_RESULT, "return boxes[np.array(kept, int)]"),
    ),
    Wrong(
        "NMS: a mask",
        "You return True or False for each box. Return the indices of the kept ones, which also tell their order.",
        (_RESULT, "return np.isin(np.arange(len(scores)), kept)"),
    ),
    Wrong(
        "NMS: no box is an error",
        "Without any box your function fails: there is no first element. An image in which nothing was found is usual: "
        "return an empty array.",
        ("    while len(order):", "    while len(order) or not kept:"),
    ),
    Wrong(
        "NMS: an empty array of floats",
        "Without any box you return an array of float64, which is what NumPy makes of an empty list. "
        "Nothing can be indexed with it: np.array(kept, int).",
        (_RESULT, "return np.array(kept)"),
    ),
)
RIGHT = (
    Right(
        "marks instead of a list",
        (
            '    order = np.argsort(-scores, kind="stable")\n    kept = []\n    while len(order):\n'
            "        best, order = order[0], order[1:]\n        kept.append(best)\n"
            "        overlap = box_iou(boxes[[best]], boxes[order])[0]\n        " + _DROP,
            "    kept, is_dropped, table = [], np.zeros(len(scores), bool), box_iou(boxes, boxes)\n"
            '    for best in np.argsort(-scores, kind="stable"):\n        if not is_dropped[best]:\n'
            "            kept.append(best)\n            is_dropped |= table[best] > threshold",
        ),
    ),
    Right("a small constant", ("np.where(union > 0, union, 1)", "(union + 1e-7)")),
    Right("a list", (_RESULT, "return [int(k) for k in kept]")),
    Right(
        "one pair of boxes at a time",
        (
            "    begin = np.maximum(a[:, None, :2], b[None, :, :2])\n"
            "    end = np.minimum(a[:, None, 2:], b[None, :, 2:])\n"
            "    common = " + _COMMON + "\n"
            "    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1)\n"
            "    union = area_a[:, None] + area_b - common\n    return common / np.where(union > 0, union, 1)\n",
            "    table = np.zeros((len(a), len(b)))\n    for i, (y1, x1, y2, x2) in enumerate(a):\n"
            "        for j, (Y1, X1, Y2, X2) in enumerate(b):\n"
            "            common = max(0, min(y2, Y2) - max(y1, Y1)) * max(0, min(x2, X2) - max(x1, X1))\n"
            "            union = (y2 - y1) * (x2 - x1) + (Y2 - Y1) * (X2 - X1) - common\n"
            "            table[i, j] = common / union if union > 0 else 0\n    return table\n",
        ),
    ),
)

# Three objects in a row; box 3 is the best for the first of them, and box 1 overlaps both box 3 and box 0.
_ROW = [(0, 4, 4, 8), (0, 2, 4, 6), (6, 0, 8, 4), (0, 0, 4, 4)]


def probes(rng):
    a, b = (
        np.array([(0.0, 0.0, 2.0, 4.0)]),
        np.array([(1.0, 2.0, 3.0, 6.0), (0.0, 0.0, 2.0, 4.0), (3.0, 5.0, 4.0, 9.0)]),
    )
    pairs = {"gives": {"iou": "a b"}, "rtol": ANY_SMALL_CONSTANT}
    yield call("one box with three", "box_iou", a, b, **pairs)
    yield call(
        "a box inside of another",
        "box_iou",
        np.array([(1.0, 1.0, 4.0, 3.0)]),
        np.array([(0.0, 0.0, 5.0, 4.0)]),
        **pairs,
    )
    yield call(
        "boxes without an area", "box_iou", np.array([(1.0, 1.0, 1.0, 3.0)]), np.array([(1.0, 2.0, 1.0, 5.0)]), **pairs
    )
    small = np.array([(0.25, 0.5, 0.75, 1.0)]), np.array([(0.25, 0.0, 0.5, 0.75), (0.5, 0.5, 1.0, 1.0)])
    yield call("boxes smaller than one pixel", "box_iou", *small, **pairs)
    yield call("four boxes with five", "box_iou", _boxes(rng, 4), _boxes(rng, 5), **pairs)
    yield _kept("one box", [(1, 2, 3, 5)], [0.5], 0.5)
    yield _kept("two boxes for the same object", [(0, 0, 4, 4), (0, 1, 4, 5)], [0.6, 0.9], 0.5)
    yield _kept("a chain: the box in the middle is dropped", _ROW, [0.5, 0.6, 0.7, 0.9], 0.3)
    yield _kept("a chain: the box in the middle is the best", _ROW, [0.5, 0.9, 0.7, 0.6], 0.3)
    yield _kept("an IoU equal to the threshold", [(0, 0, 2, 2), (0, 0, 2, 4)], [0.8, 0.9], 0.5)
    yield _kept("equal scores", [(0, 1, 4, 5), (0, 0, 4, 4), (5, 5, 7, 7), (0, 2, 4, 6)], [0.75, 0.75, 0.5, 0.75], 0.4)
    yield _kept("no box", [], [], 0.5)
    yield _kept("boxes without an area", [(1, 1, 1, 3), (1, 1, 1, 3), (0, 0, 2, 4)], [0.5, 0.75, 0.25], 0.5)
    yield _kept("nine random boxes", _boxes(rng, 9), rng.integers(1, 8, 9) / 8, 0.25)
    yield _kept("eight random boxes, threshold 0", _boxes(rng, 8), rng.permutation(8) / 8, 0.0)


def _boxes(rng, count):
    """Boxes of whole numbers in 10 x 12 pixels: (count, 4)."""
    begin, size = rng.integers(0, 6, (count, 2)), rng.integers(2, 7, (count, 2))
    return np.concatenate([begin, begin + size], axis=1).astype(float)


def _kept(label, boxes, scores, threshold):
    """A probe whose output has one element for each box: the kept indices in their order, and then -1.

    So arrays of all answers have one shape, however many boxes are kept, and can be compared.
    """
    boxes, scores = np.array(boxes, float).reshape(-1, 4), np.array(scores, float)
    plain = call(label, "nms", boxes, scores, threshold, gives={"kept": "place"})

    def run(functions):
        return plain.run({"nms": lambda *arguments: _filled_up(functions["nms"](*arguments), len(boxes))})

    def report(output, actual, expected):
        return _report(boxes, scores, threshold, [[int(k) for k in a if k >= 0] for a in (actual, expected)])

    return Probe(label, "nms", run, plain.axes, arguments=plain.arguments, report=report)


def _filled_up(returned, count):
    """The indices that nms returned, filled up with -1 to one for each box. Raises Unusable if they are no indices."""
    if returned is None:
        return None
    kept = numeric("nms: kept", returned)
    if isinstance(returned, (list, tuple)) and not returned:
        kept = kept.astype(int)
    if kept.dtype.kind not in "iu":
        raise Unusable(f"nms must return indices: whole numbers, of an integer dtype; it returned {kept.dtype}")
    if kept.ndim != 1 or len(kept) > count:
        raise Unusable(f"nms must return at most {count} indices, as an array (K',); its shape is {kept.shape}")
    if kept.size and not 0 <= kept.min() <= kept.max() < count:
        raise Unusable(f"nms returned the indices {kept.tolist()}; there are boxes 0 to {count - 1}")
    return np.append(kept, np.full(count - len(kept), -1))


def _report(boxes, scores, threshold, answers):
    """Which boxes must be dropped or kept, and why. answers: the indices that were returned, and the right ones."""
    from tinynet.imaging import boxes as library

    actual, expected = answers
    overlap = library.box_iou(boxes, boxes)
    lines = [f"kept {actual}; right: {expected}"]
    for k in expected:
        if actual.count(k) > 1:
            lines.append(f"box {k} is listed {actual.count(k)} times")
        if k not in actual:
            lines.append(
                f"box {k} (score {scores[k]:g}) stays: no box kept before it has an IoU > {threshold:g} with it"
            )
    for k in dict.fromkeys(actual):
        if k not in expected:
            by = next(j for j in expected if overlap[j, k] > threshold)
            reason = (
                f"its IoU with box {by} (score {scores[by]:g}), which is kept, is {overlap[by, k]:.3g} > {threshold:g}"
            )
            lines.append(f"box {k} (score {scores[k]:g}) is dropped: {reason}")
    if len(lines) == 1:
        lines.append("the boxes are right, their order is not: the best score first; of equal scores, the first box")
    return "\n".join(lines)


def library():
    from tinynet.imaging.boxes import box_iou, nms

    return {"box_iou": box_iou, "nms": nms}
