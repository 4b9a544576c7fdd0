"""The losses: by hand, against SciPy and outside frameworks, in extreme cases and with wrong arguments.

That every tier agrees with the reference and with differences is in test_ops.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_folders import missing, on, place
from scipy import special

import tinynet as tn
from tinynet import cusim, nn
from tinynet.backends.devices import to_device
from tinynet.backends.registry import implementation_kernel, use_backend, use_kernels
from tinynet.learn.gradcheck import GradientError, check_reference, gradcheck

ON_EMULATOR = on("cuda-sim", "cuda-sim")
ON_MACHINES_WITH_AN_EMULATOR = pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
TIERS = ["reference", "cpu", ON_EMULATOR]


def rng():
    return np.random.default_rng(0)


def gradient(loss_of, x):
    leaf = tn.tensor(x, requires_grad=True)
    return tn.grad(loss_of(leaf), leaf).numpy()


# ------------------------------------------------------------------------------------------------ Dice
def test_dice_by_hand():
    p, t = np.array([[0.5, 1.0], [0.0, 0.25]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    # Batch: I = 1.5, S = 1.75 + 2. Images: (1.5, 3.5) and (0, 0.25).
    assert tn.dice_loss(tn.tensor(p), t).item() == pytest.approx(1 - (3 + 1) / (3.75 + 1))
    assert tn.dice_loss(tn.tensor(p), t, smooth=0.1).item() == pytest.approx(1 - 3.1 / 3.85)
    per_image = tn.dice_loss(tn.tensor(p), t, per_image=True).item()
    assert per_image == pytest.approx((1 - 4 / 4.5 + 1 - 1 / 1.25) / 2)


def test_dice_extremes():
    mask = (rng().random((2, 8, 8, 1)) < 0.3).astype(np.float32)
    assert tn.dice_loss(tn.tensor(mask), mask).item() == 0
    assert tn.dice_loss(tn.tensor(1 - mask), mask).item() == pytest.approx(1, abs=0.01)
    nothing = np.zeros_like(mask)
    assert tn.dice_loss(tn.tensor(nothing), nothing, per_image=True).item() == 0


def test_dice_accepts_masks_of_booleans_and_integers():
    p, mask = rng().random((2, 5)), rng().random((2, 5)) < 0.5
    expected = tn.dice_loss(tn.tensor(p), mask.astype(float)).item()
    assert tn.dice_loss(tn.tensor(p), mask).item() == expected
    assert tn.dice_loss(tn.tensor(p), tn.tensor(mask.astype(np.uint8))).item() == expected


@pytest.mark.parametrize("tier", TIERS)
def test_dice_sums_are_float64(tier):
    # Added up one by one in float32, this sum would stop growing at 2**24.
    p = np.ones((1, 2**24 + 2**20), np.float32)
    _, sums = implementation_kernel("dice", "forward", tier)(p, p, smooth=1.0)
    np.testing.assert_array_equal(sums, [[p.size, 2 * p.size]])


@pytest.mark.parametrize("per_image", [False, True])
def test_dice_reference_by_complex_step(per_image):
    reference = {name: implementation_kernel("dice", name, "reference") for name in ("forward", "backward")}
    t = (rng().random((3, 5)) < 0.5).astype(float)

    def backward(gy, p, images=3 if per_image else 1):
        sums = np.stack([(p * t).reshape(images, -1).sum(1), (p + t).reshape(images, -1).sum(1)], axis=1)
        return reference["backward"](gy, t, sums, smooth=0.7)

    def forward(p):
        return reference["forward"](p, t, smooth=0.7, per_image=per_image)[0]

    check_reference(forward, backward, [rng().random((3, 5))])
    with pytest.raises(GradientError):  # 1/G forgotten, or G = 1 taken for G = N
        check_reference(forward, lambda gy, p: backward(gy, p, 1 if per_image else 3), [rng().random((3, 5))])


# ------------------------------------------------------------------------------------------------ BCE
def bce_by_scipy(x, t, weight=1.0, pos_weight=1.0):
    # SciPy's log_expit is stable by itself: an implementation independent of ours.
    return np.mean(-weight * (pos_weight * t * special.log_expit(x) + (1 - t) * special.log_expit(-x)))


@pytest.mark.parametrize("tier", TIERS)
def test_bce_agrees_with_scipy(tier):
    x, t, w = 5 * rng().normal(size=(4, 6, 3)), rng().random((4, 6, 3)), rng().uniform(size=(4, 6, 1))
    with use_backend(tier):
        loss = tn.bce_with_logits(tn.tensor(x), t, w, pos_weight=2.5).item()
        assert loss == pytest.approx(bce_by_scipy(x, t, w, 2.5), rel=1e-14)
        slope = gradient(lambda x: tn.bce_with_logits(x, t), x)
    np.testing.assert_allclose(slope, (special.expit(x) - t) / x.size, rtol=1e-10, atol=1e-17)


@pytest.mark.parametrize("tier", TIERS)
def test_bce_keeps_the_digits_of_confident_predictions(tier):
    """In float32 sigmoid(20) is 1: log(1 - 1) would be infinite, and sigmoid(20) - 1 zero."""
    with use_backend(tier):
        for x, t in [(20.0, 1.0), (-20.0, 0.0), (20.0, 0.0), (-20.0, 1.0), (1e4, 0.0), (-1e4, 0.0)]:
            logit, target = np.full(3, x, np.float32), np.full(3, t, np.float32)
            assert tn.bce_with_logits(tn.tensor(logit), target).item() == pytest.approx(bce_by_scipy(x, t), rel=1e-6)
            slope = gradient(lambda x, t=target: tn.bce_with_logits(x, t), logit)
            expected = special.expit(x) if t == 0 else -special.expit(-x)
            np.testing.assert_allclose(slope * 3, expected, rtol=1e-6, atol=0)


def test_bce_weights_divide_by_the_number_of_elements():
    x, t = rng().normal(size=(2, 3)), np.ones((2, 3))
    plain = tn.bce_with_logits(tn.tensor(x), t).item()
    assert tn.bce_with_logits(tn.tensor(x), t, np.full((2, 3), 2.0)).item() == pytest.approx(2 * plain)
    assert tn.bce_with_logits(tn.tensor(x), t, np.full((1,), 2.0)).item() == pytest.approx(2 * plain)
    assert tn.bce_with_logits(tn.tensor(x), t, pos_weight=2).item() == pytest.approx(2 * plain)


# ------------------------------------------------------------------------------------------------ softmax
@pytest.mark.parametrize("tier", TIERS)
def test_cross_entropy_agrees_with_scipy(tier):
    x, t, w = 5 * rng().normal(size=(4, 6, 3)), rng().integers(0, 3, (4, 6)), np.array([0.5, 1.0, 3.0])
    log_p = np.take_along_axis(special.log_softmax(x, axis=-1), t[..., None], -1)[..., 0]
    with use_backend(tier):
        plain = tn.softmax_cross_entropy(tn.tensor(x), t).item()
        weighted = tn.softmax_cross_entropy(tn.tensor(x), t, w).item()
        slope = gradient(lambda x: tn.softmax_cross_entropy(x, t), x)
    assert plain == pytest.approx(-log_p.mean(), rel=1e-14)
    assert weighted == pytest.approx(-np.average(log_p, weights=w[t]), rel=1e-14)
    np.testing.assert_allclose(slope, (special.softmax(x, axis=-1) - np.eye(3)[t]) / t.size, rtol=0, atol=1e-15)


def test_two_classes_are_binary_cross_entropy():
    x, t = rng().normal(size=(3, 4)), rng().integers(0, 2, (3, 4))
    two = tn.stack([tn.tensor(np.zeros_like(x)), tn.tensor(x)], axis=-1)
    assert tn.softmax_cross_entropy(two, t).item() == pytest.approx(tn.bce_with_logits(tn.tensor(x), t).item())


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(1, 5), st.floats(-1e3, 1e3), st.integers(0, 1000))
def test_a_constant_added_to_the_logits_changes_nothing(rows, classes, constant, seed):
    r = np.random.default_rng(seed)
    x, t = r.normal(size=(rows, classes)), r.integers(0, classes, rows)
    expected = tn.softmax_cross_entropy(tn.tensor(x), t).item()
    assert tn.softmax_cross_entropy(tn.tensor(x + constant), t).item() == pytest.approx(expected, abs=1e-12)
    slope = gradient(lambda x: tn.softmax_cross_entropy(x, t), x)
    np.testing.assert_allclose(slope.sum(axis=-1), 0, atol=1e-15)


@pytest.mark.parametrize("tier", TIERS)
def test_cross_entropy_reference_and_extreme_logits(tier):
    x = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    with use_backend(tier):
        assert tn.softmax_cross_entropy(tn.tensor(x), np.array([0, 1])).item() == 0
        assert tn.softmax_cross_entropy(tn.tensor(x), np.array([1, 1])).item() == 1e4
        masked = np.array([[0.0, 0.0, -np.inf]], np.float32)  # a class ruled out beforehand
        assert tn.softmax_cross_entropy(tn.tensor(masked), np.array([0])).item() == pytest.approx(np.log(2))


def test_cross_entropy_reference_by_complex_step():
    reference = {
        name: implementation_kernel("softmax_cross_entropy", name, "reference") for name in ("forward", "backward")
    }
    t, w = rng().integers(0, 4, (2, 3)), rng().uniform(0.2, 3, 4)
    x = rng().normal(size=(2, 3, 4))
    check_reference(lambda x: reference["forward"](x, t, w), lambda gy, x: reference["backward"](gy, x, t, w), [x])
    with pytest.raises(GradientError):  # the weights left out of the gradient
        check_reference(lambda x: reference["forward"](x, t, w), lambda gy, x: reference["backward"](gy, x, t), [x])


def by_hand(x, t, weight, ignore_index, smoothing, reduction):
    losses, weights = [], []
    for row, k in zip(x, t):
        if k == ignore_index:
            losses.append(0)
            continue
        log_p = row - special.logsumexp(row)
        losses.append((1 - smoothing) * -weight[k] * log_p[k] - smoothing * (weight * log_p).mean())
        weights.append(weight[k])
    return {"none": losses, "sum": sum(losses), "mean": sum(losses) / sum(weights)}[reduction]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0, 0.2])
@pytest.mark.parametrize("ignore_index", [None, 255, -1])
@pytest.mark.parametrize("weighted", [False, True])
def test_options_of_cross_entropy(weighted, ignore_index, smoothing, reduction):
    x, t = 3 * rng().normal(size=(6, 4)), np.array([0, 3, 1, 1, 2, 0])
    weight = rng().uniform(0.2, 3, 4) if weighted else None
    if ignore_index is not None:
        t[[1, 4]] = ignore_index
        x[1, 2] = np.nan  # what is ignored may hold anything
    loss = nn.CrossEntropyLoss(weight, ignore_index, smoothing, reduction)
    expected = by_hand(x, t, np.ones(4) if weight is None else weight, ignore_index, smoothing, reduction)
    np.testing.assert_allclose(loss(tn.tensor(x), t).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(loss(tn.tensor(x.reshape(2, 3, 4)), t.reshape(2, 3)).numpy().ravel(), np.ravel(expected))
    slope = gradient(lambda x: loss(x, t).sum(), x)
    if ignore_index is not None:
        assert (slope[[1, 4]] == 0).all() and np.isfinite(slope).all()
    gradcheck(lambda x: loss(x, t), [np.nan_to_num(x)])


@pytest.mark.parametrize(
    ("make", "each"),
    [
        (nn.MSELoss, lambda x, t: (x - t) ** 2),
        (nn.L1Loss, lambda x, t: np.abs(x - t)),
        (nn.BCELoss, lambda x, t: -t * np.log(x) - (1 - t) * np.log(1 - x)),
        (lambda r: nn.BCEWithLogitsLoss(np.array([[2.0], [1.0]]), 3.0, r), lambda x, t: None),
    ],
    ids=["mse", "l1", "bce", "bce with logits"],
)
def test_losses_of_each_element(make, each):
    x, t = rng().uniform(0.05, 0.95, (2, 3)), np.array([[0, 1, 1], [1, 0, 0]])
    expected = each(x, t)
    if expected is None:
        p = special.expit(x)
        expected = [[2], [1]] * (-3 * t * np.log(p) - (1 - t) * np.log(1 - p))
    for target in (t, t == 1, tn.tensor(t.astype(float))):
        np.testing.assert_allclose(make("none")(tn.tensor(x), target).numpy(), expected, rtol=1e-12)
    assert make("sum")(tn.tensor(x), t).item() == pytest.approx(expected.sum(), rel=1e-12)
    assert make("mean")(tn.tensor(x), t).item() == pytest.approx(expected.mean(), rel=1e-12)
    for reduction in ("none", "sum", "mean"):
        loss = make(reduction)
        gradcheck(lambda x, loss=loss: loss(x, t), [x])


def test_bce_of_probabilities_that_are_exactly_0_or_1_is_finite():
    for dtype in (np.float32, np.float64):
        x = tn.tensor(np.array([0, 1, 0, 1], dtype), requires_grad=True)
        loss = nn.BCELoss("none")(x, T[[0, 1, 1, 0]])
        np.testing.assert_allclose(loss.numpy(), [0, 0, 100, 100], rtol=1e-3)
        loss.sum().backward()
        assert np.isfinite(x.grad.numpy()).all()


def test_the_target_of_a_squared_error_may_have_a_gradient():
    gradcheck(nn.MSELoss(), [rng().normal(size=(2, 3)), rng().normal(size=(2, 3))])
    assert nn.DiceLoss(True, 2.0)(x44(), ONES).item() == tn.dice_loss(x44(), ONES, per_image=True, smooth=2.0).item()


# ------------------------------------------------------------------------------------------------ all three
T = np.array([0, 1, 1, 0])
LOSSES = {
    "dice": lambda x: tn.dice_loss(x, T[:, None] + 0 * T),
    "dice per image": lambda x: tn.dice_loss(x, T[:, None] + 0 * T, per_image=True),
    "bce": lambda x: tn.bce_with_logits(x, T[:, None] + 0 * T),
    "bce weighted": lambda x: tn.bce_with_logits(x, T[:, None] + 0 * T, np.zeros(1, x.dtype)),
    "cross-entropy": lambda x: tn.softmax_cross_entropy(x, T),
    "cross-entropy weighted": lambda x: tn.softmax_cross_entropy(x, T, np.array([1, 1, 1, 0], x.dtype)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", LOSSES)
def test_nan_is_never_hidden(name, tier, dtype):
    for position in np.ndindex(4, 4):
        x = np.full((4, 4), 0.3, dtype)
        x[position] = np.nan
        with use_backend(tier):
            assert np.isnan(LOSSES[name](tn.tensor(x)).item()), position


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("loss", ["bce", "cross-entropy"])
def test_nan_reaches_the_gradient(loss, tier):
    x = np.full((4, 4), 0.3, np.float32)
    x[2, 1] = np.nan
    with use_backend(tier):
        slope = gradient(LOSSES[loss], x)
    rows = np.isnan(slope).any(axis=1)
    assert rows.tolist() == [False, False, True, False]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_a_number_of_the_dtype(name, dtype):
    x = np.full((4, 4), 0.3, dtype)
    loss = LOSSES[name](tn.tensor(x, requires_grad=True))
    assert loss.shape == ()
    assert loss.dtype == dtype
    (2 * loss).backward()  # an upstream gradient that is not 1


@pytest.mark.parametrize("name", ["dice", "bce", "cross-entropy"])
def test_upstream_gradient_and_wrong_kernels(name):
    x = rng().uniform(0.1, 0.9, (4, 4))
    gradcheck(lambda x: LOSSES[name](x) * 3, [x])
    op = {"dice": "dice", "bce": "bce_with_logits", "cross-entropy": "softmax_cross_entropy"}[name]
    right = implementation_kernel(op, "backward", "cpu")

    def ignores_gy(gy, *arrays, **parameters):
        return right(np.ones_like(gy), *arrays, **parameters)

    def sum_for_mean(gy, *arrays, **parameters):
        return 4 * right(gy, *arrays, **parameters)

    for wrong in (ignores_gy, sum_for_mean):
        with use_kernels(op, backward=wrong), pytest.raises(GradientError):
            gradcheck(LOSSES[name], [x])


def test_the_number_of_threads_does_not_change_a_bit():
    import numba

    x = rng().normal(size=(2, 150, 170, 2)).astype(np.float32)
    t = (rng().random(x.shape) < 0.3).astype(np.float32)
    classes = rng().integers(0, 2, x.shape[:-1])

    def losses():
        return [
            tn.dice_loss(tn.sigmoid(tn.tensor(x)), t, per_image=True).item(),
            tn.bce_with_logits(tn.tensor(x), t, t).item(),
            tn.softmax_cross_entropy(tn.tensor(x), classes).item(),
        ]

    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = losses()
    finally:
        numba.set_num_threads(threads)
    assert losses() == alone


@pytest.mark.parametrize("tier", [ON_EMULATOR])
@pytest.mark.parametrize("dtype", ["int64", "uint64", "uint8", "int16"])
def test_cuda_reads_nothing_for_a_target_that_is_no_class(tier, dtype):
    """On a GPU nobody looks at the targets before. Converted to fewer bits, 2**32 would be class 0."""
    forward = implementation_kernel("softmax_cross_entropy", "forward", tier)
    backward = implementation_kernel("softmax_cross_entropy", "backward", tier)
    x, gy = rng().normal(size=(70, 4)).astype(np.float32), np.ones((), np.float32)
    for wrong in {"int64": (-1, 4, 2**32, -(2**63)), "uint64": (2**64 - 1, 2**32), "uint8": (255,), "int16": (-1,)}[
        dtype
    ]:
        t = np.zeros(70, dtype)
        t[37] = wrong
        for w in (None, np.ones(4, np.float32)):
            with cusim.checked():
                assert np.isnan(forward(x, t, w))
                gx = backward(gy, x, t, w)
            assert np.isnan(gx[37]).all()
            if w is None:  # with weights, their sum is NaN, and so is all
                assert np.isfinite(np.delete(gx, 37, axis=0)).all()


@pytest.mark.parametrize("tier", [ON_EMULATOR])
def test_the_order_of_blocks_and_threads_does_not_change_a_bit(tier):
    """On a GPU they run in whatever order. Large enough for chunks of more than one round."""
    x = rng().normal(size=270_000).astype(np.float32)
    p, t = special.expit(x), (rng().random(x.shape) < 0.3).astype(np.float32)
    logits, classes = x[:268_000].reshape(-1, 4), rng().integers(0, 4, 67_000)
    w = np.array([1, 0.1, 2, 1], np.float32)

    def losses():
        loss, sums = implementation_kernel("dice", "forward", tier)(p, t)
        bce = implementation_kernel("bce_with_logits", "forward", tier)(x, t, t)
        cross_entropy = implementation_kernel("softmax_cross_entropy", "forward", tier)(logits, classes, w)
        gy = np.ones((), np.float32)
        gradient = implementation_kernel("softmax_cross_entropy", "backward", tier)(gy, logits, classes, w)
        return [a.tobytes() for a in (loss, sums, bce, cross_entropy, gradient)]

    with cusim.ordered("forward"):
        straight = losses()
    with cusim.ordered("shuffled", seed=3):
        assert losses() == straight


def x44(dtype="float32"):
    return tn.tensor(np.full((4, 4), 0.5, dtype), requires_grad=True)


ONES = np.ones((4, 4), np.float32)
BAD = [
    (lambda: tn.dice_loss(x44(), ONES[:3]), ValueError, r"target has shape \(3, 4\), p has \(4, 4\)"),
    (lambda: tn.dice_loss(x44(), ONES * 255), ValueError, r"values from 255.0 to 255.0; 0..1 is needed"),
    (lambda: tn.dice_loss(x44(), ONES.astype(np.float64)), TypeError, "target is float64, p is float32"),
    (lambda: tn.dice_loss(x44(), x44()), TypeError, r"target requires a gradient.*target.detach\(\)"),
    (lambda: tn.dice_loss(x44(), [[1.0]]), TypeError, "target is a list"),
    (lambda: tn.dice_loss(x44(), ONES, smooth=0), ValueError, "smooth is 0; it must be positive"),
    (lambda: tn.dice_loss(tn.tensor(np.zeros((0, 3))), ONES), ValueError, r"p has shape \(0, 3\)"),
    (lambda: tn.dice_loss(tn.tensor(0.5), np.array(1.0, np.float32), per_image=True), ValueError, "p has no axes"),
    (lambda: tn.dice_loss(tn.tensor(np.arange(3)), ONES), TypeError, "p has dtype int64"),
    (lambda: tn.bce_with_logits(x44(), ONES[:, :1]), ValueError, r"target has shape \(4, 1\), x has \(4, 4\)"),
    (lambda: tn.bce_with_logits(x44(), -ONES), ValueError, "values from -1.0 to -1.0"),
    (lambda: tn.bce_with_logits(x44(), ONES, ONES[:3]), ValueError, r"weight has shape \(3, 4\), which does not"),
    (lambda: tn.bce_with_logits(x44(), ONES, np.ones(4)), TypeError, "x is float32, weight is float64"),
    (lambda: tn.bce_with_logits(x44(), ONES, pos_weight=-1), ValueError, "pos_weight is -1"),
    (lambda: tn.softmax_cross_entropy(x44(), T + 3), ValueError, "target holds class 4; x has 4 classes, 0 to 3"),
    (lambda: tn.softmax_cross_entropy(x44(), T - 1), ValueError, "target holds class -1"),
    (lambda: tn.softmax_cross_entropy(x44(), ONES[0]), TypeError, r"target is float32; class indices.*astype\('int64'"),
    (lambda: tn.softmax_cross_entropy(x44(), T == 1), TypeError, "target is bool; class indices"),
    (lambda: tn.softmax_cross_entropy(x44(), np.eye(4, dtype=int)), ValueError, r"one-hot: target.argmax\(-1\)"),
    (lambda: tn.softmax_cross_entropy(x44(), T[:, None]), ValueError, r"target has shape \(4, 1\).*of shape \(4,\)"),
    (lambda: tn.softmax_cross_entropy(x44(), T - 1), ValueError, "ignore_index=-1 would leave it out"),
    (lambda: tn.softmax_cross_entropy(x44(), 0 * T, ignore_index=0), ValueError, "every target is ignore_index 0"),
    (lambda: tn.softmax_cross_entropy(x44(), T, label_smoothing=2), ValueError, "label_smoothing is 2"),
    (lambda: tn.softmax_cross_entropy(x44(), T, reduction="all"), ValueError, "reduction is 'all'"),
    (lambda: tn.bce_with_logits(x44(), ONES, reduction=None), ValueError, "reduction is None"),
    (lambda: tn.bce_with_logits(x44(), ONES, pos_weight=ONES), ValueError, "it must be a positive number"),
    (lambda: tn.dice_loss(x44() * 9, ONES), ValueError, "p has values from 4.5 to 4.5.*apply tn.sigmoid first"),
    (lambda: nn.BCELoss()(x44() * 9, ONES), ValueError, "BCELoss: x has values from 4.5 .*use BCEWithLogitsLoss"),
    (lambda: nn.BCELoss()(x44(), ONES * 2), ValueError, "BCELoss: target has values from 2"),
    (lambda: nn.MSELoss()(x44(), ONES[:, :1]), ValueError, r"target is of shape \(4, 1\); .*\(4, 4\), is needed"),
    (lambda: nn.L1Loss()(x44(), [1.0]), ValueError, "L1Loss: target is a list"),
    (lambda: nn.MSELoss("none")(tn.tensor(T), T), TypeError, "MSELoss: x has dtype int64"),
    (lambda: nn.MSELoss("average"), ValueError, "MSELoss: reduction is 'average'"),
    (lambda: tn.softmax_cross_entropy(x44(), T[:3]), ValueError, r"target has shape \(3,\).*of shape \(4,\)"),
    (
        lambda: tn.softmax_cross_entropy(x44(), T, ONES[0, :3]),
        ValueError,
        r"weight has shape \(3,\); one for each of 4",
    ),
    (lambda: tn.softmax_cross_entropy(tn.tensor(1.0), T), ValueError, "x has no axes"),
]


@pytest.mark.parametrize("i", range(len(BAD)))
def test_wrong_arguments_are_named(i):
    call, error, message = BAD[i]
    with pytest.raises(error, match=message):
        call()


GPU_LOSSES = {
    "dice": (lambda x, t, w: tn.dice_loss(x, t, per_image=True), ONES.astype(np.uint8), 1),
    "bce": (lambda x, t, w: tn.bce_with_logits(x, t, w), ONES == 1, 2),
    "cross-entropy": (lambda x, t, w: tn.softmax_cross_entropy(x, t, w), T, 2),
    "cross-entropy, smoothed": (lambda x, t, w: tn.softmax_cross_entropy(x, t, w, label_smoothing=0.1), T, 2),
}


def x44_on_gpu():
    return tn.Tensor(to_device(x44().numpy(), "cuda"), requires_grad=True)


@ON_MACHINES_WITH_AN_EMULATOR
@pytest.mark.parametrize("name", GPU_LOSSES)
def test_a_target_in_numpy_is_checked_and_moved_to_the_gpu(name, fake_gpu):
    loss, target, constants = GPU_LOSSES[name]
    x, w = x44_on_gpu(), np.array([1, 2, 3, 4], np.float32)
    with pytest.raises(ValueError, match="target h"):
        loss(x, 255 + target.astype(np.int64), w)
    fake_gpu.forget()
    y = loss(x, target, w)
    y.backward()
    assert y.device == "cuda" and fake_gpu.to_cpu == []
    assert fake_gpu.to_gpu[:constants] == [target.nbytes, w.nbytes][:constants], "bytes travel, not floats"
    with tn.use_backend("cuda-sim"):
        assert y.item() == loss(x44(), target, w).item()


@ON_MACHINES_WITH_AN_EMULATOR
@pytest.mark.parametrize("name", GPU_LOSSES)
def test_a_target_on_the_gpu_is_not_looked_at(name, fake_gpu):
    loss, target, _ = GPU_LOSSES[name]
    x, w = x44_on_gpu(), to_device(np.ones(4, np.float32), "cuda")
    wrong = to_device(255 + target.astype(np.int64), "cuda")
    fake_gpu.forget()
    y = loss(x, wrong, w)
    y.backward()
    assert fake_gpu.to_cpu == []
    assert np.isnan(y.item()) == name.startswith("cross-entropy")
    with pytest.raises(ValueError, match="target has shape"):
        loss(x, wrong[:3], w)
    with pytest.raises(ValueError, match="target is on the GPU, the prediction on the CPU"):
        loss(x44(), wrong, None)


# ------------------------------------------------------------------------------------------------ outside frameworks
def nn_loss(loss, target):
    return lambda x: loss(x.reshape(-1, 3), target) if target.ndim == 1 else loss(x, target)


def sigmoid_bce(torch):
    return lambda reduction: lambda x, t: torch.nn.BCELoss(reduction=reduction)(torch.sigmoid(x), t)


@pytest.mark.bench
def test_agree_with_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    r = rng()
    x, t = 3 * r.normal(size=(4, 6, 3)), (r.random((4, 6, 3)) < 0.5).astype(float)
    w, classes, class_weight = r.uniform(size=(4, 6, 3)), r.integers(0, 3, (4, 6)), r.uniform(0.2, 3, 3)
    flat_classes = classes.reshape(-1)
    tensors = [torch.tensor(a) for a in (t, w, classes, class_weight)]
    t_, w_, classes_, class_weight_ = tensors
    pairs = [
        (
            lambda x: tn.bce_with_logits(x, t, w, pos_weight=2.5),
            lambda x: functional.binary_cross_entropy_with_logits(x, t_, w_, pos_weight=torch.tensor(2.5)),
        ),
        (
            lambda x: tn.softmax_cross_entropy(x, classes, class_weight),
            lambda x: functional.cross_entropy(x.reshape(-1, 3), classes_.reshape(-1), class_weight_),
        ),
        *(
            (
                nn_loss(ours(reduction=reduction, **options), flat_classes),
                nn_loss(theirs(reduction=reduction, **torch_options), torch.tensor(flat_classes)),
            )
            for reduction in ("mean", "sum")
            for ours, theirs, options, torch_options in (
                (
                    nn.CrossEntropyLoss,
                    torch.nn.CrossEntropyLoss,
                    {"weight": class_weight, "ignore_index": 1, "label_smoothing": 0.3},
                    {"weight": class_weight_, "ignore_index": 1, "label_smoothing": 0.3},
                ),
            )
        ),
        *(
            (nn_loss(ours(reduction), t), nn_loss(theirs(reduction=reduction), t_))
            for reduction in ("mean", "sum")
            for ours, theirs in (
                (nn.MSELoss, torch.nn.MSELoss),
                (nn.L1Loss, torch.nn.L1Loss),
                (lambda r: lambda x, t: nn.BCELoss(r)(tn.sigmoid(x), t), sigmoid_bce(torch)),
            )
        ),
    ]
    for ours, theirs in pairs:
        leaf = torch.tensor(x, requires_grad=True)
        loss = theirs(leaf)
        loss.backward()
        assert ours(tn.tensor(x)).item() == pytest.approx(loss.item(), rel=1e-12)
        np.testing.assert_allclose(gradient(ours, x), leaf.grad.numpy(), rtol=1e-10, atol=1e-16)


@pytest.mark.bench
def test_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    x, t, w = 3 * rng().normal(size=(50, 3)), rng().integers(0, 3, 50), np.array([0.5, 1.0, 3.0])
    expected = metrics.log_loss(t, special.softmax(x, axis=1), sample_weight=w[t])
    assert tn.softmax_cross_entropy(tn.tensor(x), t, w).item() == pytest.approx(expected, rel=1e-12)
    binary = metrics.log_loss(t == 1, special.expit(x[:, 0]))
    assert tn.bce_with_logits(tn.tensor(x[:, 0]), t == 1).item() == pytest.approx(binary, rel=1e-12)


@pytest.mark.parametrize("tier", [on(tier, tier) for tier in ("reference", "cpu", "cuda-sim", "cuda")])
@pytest.mark.parametrize("loss", [tn.dice_loss, tn.bce_with_logits], ids=["dice", "bce"])
def test_a_loss_may_be_weighted(loss, tier):
    """The gradient of a weighted loss has no axes, and NumPy turns a product of such arrays into a scalar."""
    rng = np.random.default_rng(0)
    values, target = rng.random((2, 3, 4, 1), dtype=np.float32), (rng.random((2, 3, 4, 1)) < 0.5).astype(np.float32)
    with use_backend(tier):
        x, weighted = (tn.tensor(place(values, tier), requires_grad=True) for _ in range(2))
        loss(x, target).backward()
        (0.5 * loss(weighted, target) + 0.25 * loss(weighted, target)).backward()
    np.testing.assert_allclose(weighted.grad.numpy(), 0.75 * x.grad.numpy(), rtol=1e-6)
