"""Losses composed of other operations: beside definitions in NumPy and SciPy, derivatives, special cases, bad input."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from op_folders import missing
from scipy import special

import tinynet as tn
from tinynet import nn
from tinynet.backends.devices import to_device
from tinynet.learn.gradcheck import gradcheck, gradgradcheck


def rng(seed=0):
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------- definitions
def dice_by_loops(x, target, classes, squared, per_image, smooth):
    p = special.softmax(x, axis=-1)
    losses = []
    for image in range(len(x)) if per_image else [slice(None)]:
        for c in classes:
            predicted, true = p[image][..., c], target[image] == c
            sizes = (predicted**2 if squared else predicted).sum() + true.sum()
            losses.append(1 - (2 * predicted[true].sum() + smooth) / (sizes + smooth))
    return np.mean(losses)


def smooth_l1(x, t, beta=1.0):
    d = np.abs(x - t)
    return np.where(d < beta, d * d / (2 * beta), d - beta / 2)


def focal(x, t, alpha=0.25, gamma=2.0):
    log_p = np.where(t == 1, special.log_expit(x), special.log_expit(-x))
    weight = 1 if alpha is None else np.where(t == 1, alpha, 1 - alpha)
    return -weight * (1 - np.exp(log_p)) ** gamma * log_p


def ncc_by_loops(x, t, window, eps):
    half, scores = window // 2, []
    for n, c in product(range(len(x)), range(x.shape[-1])):
        for place in np.ndindex(x.shape[1:-1]):
            inside = tuple(slice(max(i - half, 0), i + half + 1) for i in place)
            a, b = x[n][..., c][inside], t[n][..., c][inside]
            a, b = a - a.mean(), b - b.mean()
            scores.append((a * b).sum() ** 2 / ((a * a).sum() * (b * b).sum() + eps))
    return 1 - np.mean(scores)


SCORES = rng().permutation(24).reshape(2, 3, 4) / 4 - 2.9  # no two alike, and none at a kink
BITS = rng(1).integers(0, 2, (2, 3, 4))
CLASSES = rng(2).integers(0, 4, (2, 3))
IMAGES = rng(3).random((2, 2, 4, 3, 2))  # two images with two channels, twice
VOLUMES = rng(4).random((2, 1, 2, 3, 2, 1))
TABLE = {
    **{
        f"dice {options}": (
            lambda x, o=options: tn.softmax_dice_loss(x, CLASSES, **o),
            lambda x, o=options: dice_by_loops(
                *(x, CLASSES, o.get("classes", range(4))), o.get("squared"), o.get("per_image"), o.get("smooth", 1.0)
            ),
            [SCORES],
        )
        for options in (
            *({}, {"squared": True}, {"per_image": True, "smooth": 0.1}, {"classes": (2, 0)}),
            {"squared": True, "per_image": True, "classes": [3]},
        )
    },
    "smooth l1": (tn.smooth_l1_loss, lambda x, t: smooth_l1(x, t).mean(), [SCORES, SCORES[::-1].copy()]),
    "smooth l1, beta, none": (
        lambda x, t: tn.smooth_l1_loss(x, t, beta=0.4, reduction="none"),
        lambda x, t: smooth_l1(x, t, 0.4),
        [SCORES, 0 * SCORES],
    ),
    "focal": (lambda x: tn.focal_loss(x, BITS), lambda x: focal(x, BITS).mean(), [SCORES]),
    "focal, sum": (
        lambda x: tn.focal_loss(x, BITS == 1, alpha=None, gamma=0.5, reduction="sum"),
        lambda x: focal(x, BITS, None, 0.5).sum(),
        [SCORES],
    ),
    "focal without positives": (
        lambda x: tn.focal_loss(x, 0 * BITS, alpha=0.1, gamma=0),
        lambda x: focal(x, 0 * BITS, 0.1, 0).mean(),
        [SCORES],
    ),
    "hinge": (
        lambda x: tn.hinge_loss(x, 2 * BITS - 1),
        lambda x: np.maximum(0, 1 - (2 * BITS - 1) * x).mean(),
        [SCORES],
    ),
    "hinge, margin, none": (
        lambda x: tn.hinge_loss(x, (2 * BITS - 1).astype(x.dtype), margin=0.3, reduction="none"),
        lambda x: np.maximum(0, 0.3 - (2 * BITS - 1) * x),
        [SCORES],
    ),
    **{
        f"hardest {k}": (
            lambda x, k=k: tn.hardest_mean(x, k),
            lambda x, k=k: np.sort(x, axis=None)[-k:].mean(),
            [SCORES],
        )
        for k in (1, 7, 24, 100)
    },
    **{
        f"ncc {window}, {len(images[0].shape) - 2} axes": (
            lambda x, t, w=window: tn.ncc_loss(x, t, window=w, eps=1e-3),
            lambda x, t, w=window: ncc_by_loops(x, t, w, 1e-3),
            [*images],
        )
        for window, images in ((3, IMAGES), (9, IMAGES), (3, VOLUMES), (1, VOLUMES))
    },
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TABLE)
def test_values_are_those_of_the_definition(name, dtype):
    loss, definition, inputs = TABLE[name]
    y = loss(*(tn.tensor(a.astype(dtype)) for a in inputs))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), definition(*inputs), rtol=1e-12 if dtype == np.float64 else 1e-5, atol=1e-6)
    np.testing.assert_array_equal(loss(*(a.astype(dtype) for a in inputs)), y.numpy())


@pytest.mark.parametrize("name", [name for name in TABLE if name != "ncc 1, 3 axes"])
def test_derivatives(name):
    loss, _, inputs = TABLE[name]
    gradcheck(loss, inputs)
    if name in ("dice {'squared': True}", "smooth l1", "focal", "hardest 24"):
        gradgradcheck(loss, inputs)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ("hardest 1", "hardest 7")])
def test_nan_is_never_hidden(name):
    loss, _, inputs = TABLE[name]
    for position in (0, inputs[0].size - 1):
        x = inputs[0].astype(np.float32)
        x.flat[position] = np.nan
        assert np.isnan(loss(x, *(a.astype(np.float32) for a in inputs[1:]))).any(), position


@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
@pytest.mark.parametrize("name", TABLE)
def test_nothing_leaves_the_gpu(name, fake_gpu):
    loss, definition, inputs = TABLE[name]
    leaves = [tn.Tensor(to_device(a.astype(np.float32), "cuda"), requires_grad=True) for a in inputs]
    fake_gpu.forget()
    y = loss(*leaves)
    y.backward(to_device(np.ones(y.shape, np.float32), "cuda"))
    assert y.device == leaves[0].grad.device == "cuda" and fake_gpu.to_cpu == []
    np.testing.assert_allclose(y.to("cpu").numpy(), definition(*inputs), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------- special cases
def test_dice_extremes():
    target = rng().integers(0, 3, (2, 6, 5, 4))
    for options in ({}, {"squared": True}, {"per_image": True}):
        sure = 100 * np.eye(3)[target]
        assert tn.softmax_dice_loss(tn.tensor(sure), target, **options).item() == pytest.approx(0, abs=1e-12)
        assert tn.softmax_dice_loss(tn.tensor(-sure), target, **options).item() > 0.4
    absent = np.zeros((1, 4, 4), int)  # class 1 is nowhere, and not predicted: no loss
    assert tn.softmax_dice_loss(tn.tensor(100 * np.eye(2)[absent]), absent, classes=[1]).item() == pytest.approx(0)


def test_dice_of_two_classes_is_dice_of_the_sigmoid():
    x, mask = rng().normal(size=(2, 5, 5, 1)), rng(1).integers(0, 2, (2, 5, 5, 1))
    both = tn.concat([tn.tensor(0 * x), tn.tensor(x)], axis=-1)
    for per_image in (False, True):
        actual = tn.softmax_dice_loss(both, mask[..., 0], classes=[1], per_image=per_image)
        expected = tn.dice_loss(tn.sigmoid(tn.tensor(x)), mask, per_image=per_image)
        assert actual.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
def test_focal_loss_of_extreme_logits(gamma):
    """In float32 sigmoid(-200) is 0, and so is 1 - sigmoid(200)."""
    x, t = np.float32([200, -200, 200, -200, 0]), np.array([1, 0, 0, 1, 1])
    leaf = tn.tensor(x, requires_grad=True)
    losses = tn.focal_loss(leaf, t, alpha=None, gamma=gamma, reduction="none")
    np.testing.assert_allclose(losses.numpy(), [0, 0, 200, 200, 0.5**gamma * np.log(2)], rtol=1e-6, atol=1e-30)
    losses.sum().backward()
    slope = -(0.5**gamma) * (0.5 + gamma * 0.5 * np.log(2))
    np.testing.assert_allclose(leaf.grad.numpy(), [0, 0, 1, -1, slope], rtol=1e-5, atol=1e-30)


def test_focal_loss_without_focus_is_cross_entropy():
    t = BITS.astype(float)
    actual = tn.focal_loss(SCORES, t, alpha=None, gamma=0)
    assert actual == pytest.approx(tn.bce_with_logits(SCORES, t), rel=1e-12)


def test_only_the_hardest_get_a_gradient():
    x = tn.tensor([[3.0, -1.0, 5.0], [4.0, 2.0, 2.0]], requires_grad=True)
    tn.hardest_mean(x, 2).backward()
    assert x.grad.tolist() == [[0, 0, 0.5], [0.5, 0, 0]]
    same = tn.tensor(np.ones(9), requires_grad=True)
    tn.hardest_mean(same, 4).backward()
    assert sorted(same.grad.tolist()) == [0] * 5 + [0.25] * 4
    assert np.isnan(tn.hardest_mean(np.array([1, np.nan, 2.0]), 1))


def test_ncc_ignores_brightness_and_contrast():
    x = rng().random((1, 12, 13, 11, 1)).astype(np.float32)
    noise = rng(1).random(x.shape).astype(np.float32)
    for other in (x, 3 - 2 * x, 1000 + 100 * x):
        assert tn.ncc_loss(x, other) == pytest.approx(0, abs=1e-3)
    assert 0.95 < tn.ncc_loss(x, noise) < 1
    flat = np.full_like(x, 0.7)  # a constant image has no correlation, and rounding makes no variance of it
    leaf, constant = tn.tensor(x, requires_grad=True), tn.tensor(flat, requires_grad=True)
    loss = tn.ncc_loss(leaf, constant)
    loss.backward()
    assert loss.item() == 1 and np.abs(leaf.grad.numpy()).max() < 1e-20 and np.isfinite(constant.grad.numpy()).all()


def test_a_flat_part_of_an_image_is_harmless():
    x, other = rng().random((2, 1, 24, 24, 1)).astype(np.float32)
    x[:, :, :12] = -0.7
    leaf = tn.tensor(x, requires_grad=True)
    loss = tn.ncc_loss(leaf, other, window=5)
    loss.backward()
    exact = tn.tensor(x.astype(float), requires_grad=True)
    tn.ncc_loss(exact, other.astype(float), window=np.int64(5)).backward()  # as an element of an array
    np.testing.assert_allclose(leaf.grad.numpy(), exact.grad.numpy(), atol=1e-5 * np.abs(exact.grad.numpy()).max())


def test_smooth_l1_as_a_module():
    x, t = tn.tensor(SCORES), 0 * SCORES
    assert nn.SmoothL1Loss("sum", 0.5)(x, t).item() == tn.smooth_l1_loss(x, t, beta=0.5, reduction="sum").item()
    assert nn.SmoothL1Loss()(x, t).item() == tn.smooth_l1_loss(x, t).item()


# ------------------------------------------------------------------------------------- bad input
X = np.ones((2, 3, 4), np.float32)
T = np.zeros((2, 3), int)
IMAGE = np.ones((1, 4, 4, 1), np.float32)
BAD = [
    (lambda: tn.softmax_dice_loss(X, T + 4), "softmax_dice_loss: target holds class 4; x has 4 classes, 0 to 3"),
    (lambda: tn.softmax_dice_loss(X, T[0]), "target has shape (3,); x (2, 3, 4) needs class indices of shape (2, 3)"),
    (lambda: tn.softmax_dice_loss(X, 0 * X), "one-hot: target.argmax(-1)"),
    (lambda: tn.softmax_dice_loss(X, T, classes=[4]), "classes is [4]; different numbers of the 4 classes, 0 to 3"),
    (lambda: tn.softmax_dice_loss(X, T, classes=[1, 1]), "classes is [1, 1]"),
    (lambda: tn.softmax_dice_loss(X, T, classes=[]), "classes is []"),
    (lambda: tn.softmax_dice_loss(X, T, classes=1), "classes is 1"),
    (lambda: tn.softmax_dice_loss(X, T, smooth=0), "smooth is 0; it must be positive"),
    (lambda: tn.softmax_dice_loss(X[0, 0], np.array(1), per_image=True), "per_image needs a first axis of images"),
    (lambda: tn.softmax_dice_loss(X[:0], T[:0]), "x has shape (0, 3, 4); a loss needs at least one element"),
    (lambda: tn.smooth_l1_loss(X, X[..., :1]), "target has shape (2, 3, 1), x has (2, 3, 4); they must agree"),
    (lambda: tn.smooth_l1_loss(X, X, beta=0), "beta is 0; it must be positive (for 0 there is nn.L1Loss)"),
    (lambda: tn.smooth_l1_loss(X[:0], X[:0]), "smooth_l1_loss: x has shape (0, 3, 4)"),
    (lambda: nn.SmoothL1Loss("all"), "SmoothL1Loss: reduction is 'all'"),
    (lambda: tn.focal_loss(X, 0.5 * X), "focal_loss: target holds 0.5; 0 and 1 are needed"),
    (lambda: tn.focal_loss(X, X, alpha=2), "alpha is 2; it must lie in 0 <= alpha <= 1, or be None"),
    (lambda: tn.focal_loss(X, X, gamma=-1), "gamma is -1; it must be at least 0"),
    (lambda: tn.focal_loss(X, X[0]), "focal_loss: target has shape (3, 4)"),
    (lambda: tn.hinge_loss(X, 0 * X), "hinge_loss: target holds 0.0; -1 and 1 are needed (zeros and ones: 2 * target"),
    (lambda: tn.hinge_loss(X, X[0]), "hinge_loss: target has shape (3, 4)"),
    (lambda: tn.hinge_loss(X, X, margin=0), "margin is 0"),
    (lambda: tn.hardest_mean(X, 0), "hardest_mean: k is 0; an integer from 1 on is needed"),
    (lambda: tn.hardest_mean(X, 0.5), "k is 0.5"),
    (lambda: tn.hardest_mean(X[:0], 1), "losses has shape (0, 3, 4)"),
    (lambda: tn.ncc_loss(IMAGE, IMAGE[:, :3]), "x has shape (1, 4, 4, 1), target has (1, 3, 4, 1); one shape"),
    (lambda: tn.ncc_loss(X, X), "x has shape (2, 3, 4)"),
    (lambda: tn.ncc_loss(IMAGE, IMAGE, window=4), "window is 4; an odd integer from 1 on is needed"),
    (lambda: tn.ncc_loss(IMAGE, IMAGE, eps=0), "eps is 0"),
    (lambda: tn.ncc_loss(IMAGE[:0], IMAGE[:0]), "x has shape (0, 4, 4, 1)"),
]


@pytest.mark.parametrize("i", range(len(BAD)))
def test_wrong_arguments_are_named(i):
    call, sentence = BAD[i]
    with pytest.raises(ValueError) as caught:
        call()
    assert sentence in str(caught.value)


def test_targets_are_constants():
    target = tn.tensor(X, requires_grad=True)
    for loss in (tn.focal_loss, tn.hinge_loss):
        with pytest.raises(TypeError, match=r"target requires a gradient, .*target.detach\(\)"):
            loss(X, target)
