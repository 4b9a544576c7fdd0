"""The soft Dice loss, forward and backward.

How well do the predicted probabilities p match the mask t? Twice the overlap over the sum of the sizes:

    I = sum of p t          S = sum of p + sum of t          L = 1 - (2 I + s) / (S + s)

s (`smooth`) makes L = 0 if the mask is empty and nothing is predicted. The sums run over the whole batch. With
per_image=True, they run over each image g of the first axis, and L is the mean of the G losses:

    L = (1/G) sum over g of  1 - (2 I_g + s) / (S_g + s)

For the derivative, dI/dp = t and dS/dp = 1, and the quotient rule:

    dL/dp = (1/G) [ (2 I_g + s) / (S_g + s)^2  -  2 t / (S_g + s) ]

It needs t and the sums, but not p: forward returns the sums, and backward gets them.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, kernels_of

TEACHES = "the quotient rule; a mean of ratios is not a ratio of means; keep only what backward needs"
HINTS = (
    "Treat both cases alike: p.reshape(groups, -1) with groups = len(p) or 1, and every sum over axis 1.",
    "sums has the shape (groups, 2). In backward give I and S the shape (groups, 1) so that they fit "
    "t.reshape(groups, -1).",
    """
    I, S = sums[:, :1], sums[:, 1:]
    derivative = (2 * I + smooth) / (S + smooth) ** 2 - 2 * t.reshape(len(sums), -1) / (S + smooth)
    return (gy / len(sums) * derivative).reshape(t.shape)
    """,
)
OP = "dice"


# ---- your file
def forward(p, t, *, smooth, per_image):
    """(loss, sums): one number, and I and S of each group as an array (G, 2). p, t: arrays of one shape (N, ...)."""
    # ---- solution
    groups = len(p) if per_image else 1
    p, t = p.reshape(groups, -1), t.reshape(groups, -1)
    overlap = np.sum(p * t, axis=1)
    total = np.sum(p, axis=1) + np.sum(t, axis=1)
    loss = np.mean(1 - (2 * overlap + smooth) / (total + smooth))
    return loss, np.stack([overlap, total], axis=1)
    # ---- end of solution


def backward(gy, t, sums, *, smooth):
    """gp, of the shape of t. gy: dL/d(loss), one number. sums: as forward gave them; their length is G."""
    # ---- solution
    groups = len(sums)
    overlap, total = sums[:, :1], sums[:, 1:]
    derivative = (2 * overlap + smooth) / (total + smooth) ** 2 - 2 * t.reshape(groups, -1) / (total + smooth)
    return (gy / groups * derivative).reshape(t.shape)
    # ---- end of solution


# ---- end of your file


WRONG = (
    Wrong(
        "1/G forgotten",
        "The mean over the images divides by G, and so must the gradient: yours is G times too large with per_image.",
        ("gy / groups * derivative", "gy * derivative"),
    ),
    Wrong(
        "mean of the parts",
        "You take the ratio of the mean overlap and the mean size: that is the loss of the whole batch. "
        "Each image has its own ratio, and the ratios are averaged.",
        (
            "loss = np.mean(1 - (2 * overlap + smooth) / (total + smooth))",
            "loss = 1 - (2 * np.mean(overlap) + smooth) / (np.mean(total) + smooth)",
        ),
    ),
    Wrong(
        "smooth below only",
        "smooth is added in the denominator only: for an empty mask and no prediction, the loss is then 1 instead of "
        "0.",
        ("1 - (2 * overlap + smooth) / (total", "1 - 2 * overlap / (total"),
    ),
    Wrong(
        "2 forgotten",
        "The overlap counts twice. Without the 2 the loss of a perfect prediction is 1/2.",
        ("1 - (2 * overlap + smooth)", "1 - (overlap + smooth)"),
    ),
    Wrong(
        "IoU",
        "That is the overlap over the union (IoU, Jaccard index), whose denominator is S - I. The Dice coefficient is "
        "twice the overlap over the sum of the sizes.",
        ("(2 * overlap + smooth) / (total + smooth))\n", "(overlap + smooth) / (total - overlap + smooth))\n"),
    ),
    Wrong(
        "numerator only",
        "You differentiate the overlap and treat the size S as a constant: the first term of the quotient rule is "
        "missing.",
        ("(2 * overlap + smooth) / (total + smooth) ** 2 - 2 * t", "-2 * t"),
    ),
    Wrong(
        "square forgotten",
        "In the first term of the quotient rule the denominator is squared.",
        ("(total + smooth) ** 2", "(total + smooth)"),
    ),
    Wrong(
        "sign",
        "This is the gradient of the Dice coefficient, which should increase. The loss is 1 minus it: change the sign.",
        ("gy / groups * derivative", "-gy / groups * derivative"),
    ),
    Wrong(
        "gy ignored",
        "gy is not used. It is 1 in most programs, but not if this loss is a part of another one.",
        ("gy / groups * derivative", "derivative / groups"),
    ),
)
RIGHT = (
    Right(
        "a loop over groups",
        (
            "    overlap = np.sum(p * t, axis=1)\n    total = np.sum(p, axis=1) + np.sum(t, axis=1)\n",
            "    overlap = np.array([np.vdot(p[g], t[g]) for g in range(groups)])\n"
            "    total = np.array([p[g].sum() + t[g].sum() for g in range(groups)])\n",
        ),
    ),
    Right(
        "by the common denominator",
        (
            "(2 * overlap + smooth) / (total + smooth) ** 2 - 2 * t.reshape(groups, -1) / (total + smooth)",
            "(2 * overlap + smooth - 2 * t.reshape(groups, -1) * (total + smooth)) / (total + smooth) ** 2",
        ),
    ),
)


def probes(rng):
    forward = {"gives": {"loss": "", "sums": "group sum"}}
    for label, shape, axes, smooth, per_image in (
        ("four pixels", (1, 4), "n i", 1.0, False),
        ("a batch of 3 as one", (3, 4), "n i", 1.0, False),
        ("each of 3 images on its own", (3, 4), "n i", 1.0, True),
        ("images with two axes, another smooth", (2, 3, 4, 1), "n y x c", 0.5, True),
    ):
        p, t = rng.integers(0, 9, shape) / 8, rng.integers(0, 2, shape).astype(float)
        yield call(label, "forward", p, t, smooth=smooth, per_image=per_image, **forward)
        groups = len(p) if per_image else 1
        overlap, total = (v.reshape(groups, -1).sum(axis=1) for v in (p * t, p + t))
        sums = np.stack([overlap, total], axis=1)
        yield call(label, "backward", np.array(-3.0), t, sums, smooth=smooth, gives={"gp": axes}, gy="")
    nothing = np.zeros((2, 3))
    yield call("empty mask, nothing predicted", "forward", nothing, nothing, smooth=1.0, per_image=True, **forward)


def library():
    return kernels_of("dice", "forward", "backward")
