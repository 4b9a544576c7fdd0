"""Planted mistakes: each is caught, and the report says which mistake it is.

The table holds what students write: a backward that is wrong in one typical way, beside what the report must say of it.
The right version of every operation must pass, for any random numbers.
"""

import functools

import numpy as np
import pytest
from functions import op, softmax, without_last

import tinynet as tn
from tinynet.backends.registry import implementation_kernel, use_kernels
from tinynet.learn.gradcheck import gradcheck


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pool_backward(g, x):
    """2-wide windows of a vector: the gradient goes to the larger of each two."""
    pairs = x.reshape(-1, 2)
    gx = np.zeros_like(pairs)
    gx[np.arange(len(pairs)), pairs.argmax(1)] = g
    return gx.reshape(x.shape)


def column_of(x, weights):
    """sum over k of weights[k] * x shifted down by k: a small convolution along axis 0."""
    return sum(w * x[k : len(x) - len(weights) + 1 + k] for k, w in enumerate(weights))


WEIGHTS = (2.0, -1.0, 3.0)


def spread_column(g, x, weights=WEIGHTS, add=True):
    gx = np.zeros_like(x)
    for k, w in enumerate(weights):
        window = slice(k, len(x) - len(weights) + 1 + k)
        gx[window] = w * g + (gx[window] if add else 0)
    return gx


def keep_first(a):
    out = np.zeros_like(a)
    out[0] = a[0]
    return out


MASK = np.array([[1.0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1]])

# name: (forward, right backward, shapes of the inputs)
OPS = {
    "square": (lambda x: x * x, lambda g, x: 2 * x * g, [(3, 4)]),
    "product": (lambda x, y: x * y, lambda g, x, y: (g * y, g * x), [(3, 4), (3, 4)]),
    "quotient": (lambda x, y: x / y, lambda g, x, y: (g / y, -g * x / y**2), [(3, 4), (3, 4)]),
    "difference": (lambda x, y: x - y, lambda g, x, y: (1 * g, -g), [(3, 4), (3, 4)]),
    "scale": (lambda x, b: x * b, lambda g, x, b: (g * b, (g * x).sum(0)), [(3, 4), (4,)]),
    "bias": (lambda x, b: x + b, lambda g, x, b: (1 * g, g.sum(0)), [(3, 4), (4,)]),
    "matmul": (lambda x, w: x @ w, lambda g, x, w: (g @ w.T, x.T @ g), [(3, 4), (4, 4)]),
    "triple": (lambda x: 3 * x, lambda g, x: 3 * g, [(3, 3)]),
    "transpose": (lambda x: x.T.copy(), lambda g, x: g.T.copy(), [(3, 3)]),
    "sigmoid": (sigmoid, lambda g, x: g * sigmoid(x) * (1 - sigmoid(x)), [(3, 4)]),
    "tanh": (np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2), [(3, 4)]),
    "softmax": (softmax, lambda g, x: softmax(x) * (g - (g * softmax(x)).sum(-1, keepdims=True)), [(3, 4)]),
    "relu": (lambda x: np.maximum(x, 0), lambda g, x: g * (x > 0), [(3, 4)]),
    "leaky": (lambda x: np.where(x > 0, x, x / 10), lambda g, x: g * np.where(x > 0, 1, 0.1).astype(x.dtype), [(3, 4)]),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(x)), lambda g, x: g * np.where(x > 0, 1, np.exp(x)), [(3, 4)]),
    "mean": (lambda x: np.asarray(x.mean()), lambda g, x: np.full_like(x, g / x.size), [(3, 4)]),
    "row sums": (lambda x: x.sum(1), lambda g, x: np.broadcast_to(g[:, None], x.shape).copy(), [(3, 4)]),
    "center": (lambda x: x - x.mean(1, keepdims=True), lambda g, x: g - g.mean(1, keepdims=True), [(3, 4)]),
    "cumsum": (lambda x: x.cumsum(1), lambda g, x: g[:, ::-1].cumsum(1)[:, ::-1].copy(), [(3, 4)]),
    "roll": (lambda x: np.roll(x, 1, 0), lambda g, x: np.roll(g, -1, 0), [(4, 3)]),
    "take": (lambda x: x[[0, 0, 1]], lambda g, x: np.stack([g[0] + g[1], g[2]]), [(2, 4)]),
    "dropout": (lambda x: x * MASK.astype(x.dtype) / 0.6, lambda g, x: g * MASK.astype(x.dtype) / 0.6, [(3, 4)]),
    "pool": (lambda x: x.reshape(-1, 2).max(1), pool_backward, [(8,)]),
    "column": (lambda x: column_of(x, WEIGHTS), spread_column, [(7, 2)]),
    "upsample": (
        lambda x: x.repeat(2, 0).repeat(2, 1),
        lambda g, x: g.reshape(len(x), 2, -1, 2).sum((1, 3)),
        [(3, 5)],
    ),
}

# (operation, what is wrong): (wrong backward, what the report must say)
WRONG = {
    ("square", "2 forgotten"): (lambda g, x: x * g, "exactly 1/2 times the right gradient"),
    ("square", "2 twice"): (lambda g, x: 4 * x * g, "exactly 2 times the right gradient"),
    ("square", "a factor with digits"): (lambda g, x: 2.002 * x * g, "exactly 1.001 times"),
    ("square", "sign"): (lambda g, x: -2 * x * g, "the sign is wrong"),
    ("square", "gy ignored"): (lambda g, x: 2 * x, "gy is ignored"),
    ("square", "gy squared"): (lambda g, x: 2 * x * g * g, "gy is squared"),
    ("square", "factor x forgotten"): (lambda g, x: 2 * g, "the factor x is missing"),
    ("square", "passed on"): (lambda g, x: 1 * g, "it is exactly gy"),
    ("square", "zeros"): (lambda g, x: 0 * x, "it is 0"),
    ("square", "NaN"): (lambda g, x: g * np.nan, "all entries are NaN"),
    ("square", "float32 inside"): (lambda g, x: (2 * x * g).astype("f4").astype(g.dtype), "computed in float32"),
    ("square", "first sample"): (lambda g, x: keep_first(2 * x * g), "only the first index of axis 0 is computed"),
    ("square", "last column"): (lambda g, x: without_last(2 * x * g, 1), "the last index of axis 1 is lost"),
    ("square", "batch summed"): (lambda g, x: 0 * x + (2 * x * g).sum(0), "it is summed over axis 0"),
    ("square", "batch averaged"): (lambda g, x: 0 * x + (2 * x * g).mean(0), "it is averaged over axis 0"),
    ("square", "divided by the batch"): (lambda g, x: 2 * x * g / 3, "3 is the length of axis 0 of gy: averaged where"),
    ("square", "gy reversed"): (lambda g, x: 2 * x * g[::-1], "gy is flipped along axis 0"),
    ("product", "swapped"): (lambda g, x, y: (g * x, g * y), "it is the gradient of y"),
    ("product", "the other taken as 1"): (lambda g, x, y: (1 * g, g * x), "y is taken as 1"),
    ("quotient", "square forgotten"): (lambda g, x, y: (g / y, -g * x / y), "a factor y too many"),
    ("quotient", "sign"): (lambda g, x, y: (g / y, g * x / y**2), "the sign is wrong"),
    ("difference", "sign"): (lambda g, x, y: (1 * g, 1 * g), "the sign is wrong"),
    ("scale", "not summed back"): (
        lambda g, x, b: (g * b, g * x),
        "a broadcast is not summed back: sum it over axis 0",
    ),
    ("scale", "first sample"): (lambda g, x, b: (g * b, (g * x)[0]), "only the first index of axis 0 of gy is used"),
    ("scale", "averaged"): (lambda g, x, b: (g * b, (g * x).mean(0)), "3 is the length of axis 0 of gy: averaged"),
    ("bias", "last sample never used"): (
        lambda g, x, b: (1 * g, g[:-1].sum(0)),
        "the last index of axis 0 of gy is never",
    ),
    ("bias", "= for +="): (lambda g, x, b: (1 * g, g[-1].copy()), "`=` where `+=` is needed"),
    ("matmul", "w not transposed"): (lambda g, x, w: (g @ w, x.T @ g), "the axes of w: axis 0 and axis 1 are swapped"),
    ("matmul", "result transposed"): (lambda g, x, w: (g @ w.T, (x.T @ g).T.copy()), "axis 0 and axis 1 are swapped"),
    ("triple", "gy transposed"): (lambda g, x: 3 * g.T, "of gy the axes axis 0 and axis 1 are swapped"),
    ("transpose", "not undone"): (lambda g, x: 1 * g, "it is exactly gy"),
    ("sigmoid", "1 - y forgotten"): (lambda g, x: g * sigmoid(x), "it is exactly gy times the output"),
    ("sigmoid", "taken at the output"): (
        lambda g, x: g * sigmoid(sigmoid(x)) * (1 - sigmoid(sigmoid(x))),
        "taken at the output instead of at x",
    ),
    ("tanh", "taken at the output"): (lambda g, x: g * (1 - np.tanh(np.tanh(x)) ** 2), "taken at the output"),
    ("softmax", "diagonal only"): (lambda g, x: softmax(x) * (1 - softmax(x)) * g, "only the diagonal"),
    ("softmax", "zeros"): (lambda g, x: 0 * x, "it is 0"),
    ("softmax", "the gradient of exp"): (lambda g, x: softmax(x) * g, "it is exactly gy times the output"),
    ("relu", "everything passes"): (lambda g, x: 1 * g, "it is exactly gy"),
    ("leaky", "derivative forgotten"): (lambda g, x: g * (x > 0), "in the wrong entries it is 0"),
    ("leaky", "derivative 1"): (lambda g, x: 1 * g, "it is exactly gy"),
    ("leaky", "derivative twice"): (
        lambda g, x: g * np.where(x > 0, 1, 0.01).astype(x.dtype),
        "the derivative is squared",
    ),
    ("elu", "negative branch"): (lambda g, x: g * np.where(x > 0, 1, np.expm1(x)), "exactly where x < 0"),
    ("mean", "not divided"): (lambda g, x: np.full_like(x, g), "12 is the length of axis 0 and axis 1"),
    ("row sums", "averaged"): (lambda g, x: np.repeat(g[:, None] / 4, 4, 1), "4 is the length of axis 1: averaged"),
    ("center", "mean taken as constant"): (lambda g, x: 1 * g, "it is exactly gy"),
    ("cumsum", "not reversed"): (lambda g, x: g.cumsum(1), "the Jacobian is not transposed"),
    ("roll", "same direction"): (lambda g, x: np.roll(g, 1, 0), "the Jacobian is not transposed"),
    ("take", "= for +="): (lambda g, x: np.stack([g[1], g[2]]), "`=` where `+=` is needed"),
    ("dropout", "not scaled"): (lambda g, x: g * MASK.astype(x.dtype), "exactly 3/5 times"),
    ("dropout", "no mask"): (lambda g, x: g / 0.6, "exactly where the output == 0"),
    ("pool", "to the first"): (
        lambda g, x: np.stack([g, 0 * g], 1).reshape(-1),
        "the numbers are right, but some stand in the wrong places",
    ),
    ("column", "= for +="): (lambda g, x: spread_column(g, x, add=False), "`=` where `+=` is needed"),
    ("column", "first tap lost"): (lambda g, x: spread_column(g, x, (0.0, -1.0, 3.0)), None),
    ("column", "gy's last row lost"): (lambda g, x: spread_column(without_last(g), x), "of gy is never used"),
    ("column", "border lost"): (lambda g, x: without_last(spread_column(g, x)), "the last index of axis 0 is lost"),
    ("upsample", "averaged"): (lambda g, x: g.reshape(len(x), 2, -1, 2).mean((1, 3)), "exactly 1/4 times"),
    ("upsample", "first only"): (lambda g, x: g[::2, ::2].copy(), "`=` where `+=` is needed"),
}


def numbers(shape, rng):
    """Values away from 0, where relu has its kink; all differ, so that no maximum is a tie."""
    size = int(np.prod(shape))
    values = (rng.permutation(size) + 1 + rng.uniform(0, 0.5, size)) / 4 * rng.choice([-1, 1], size)
    return (values / max(1, size // 10)).reshape(shape)


def check(name, backward, seed=0):
    """gradcheck of an operation whose arguments have names, as in a student's lambda."""
    forward, _, shapes = OPS[name]
    f, rng = op(forward, backward), np.random.default_rng(seed)
    second = {"scale": "b", "bias": "b", "matmul": "w"}.get(name, "y")
    named = {"y": lambda x, y: f(x, y), "b": lambda x, b: f(x, b), "w": lambda x, w: f(x, w)}[second]
    inputs = [numbers(shape, rng) for shape in shapes]
    return gradcheck(named if len(shapes) == 2 else lambda x: f(x), inputs, seed=seed, raise_error=False)


@pytest.mark.parametrize("name", OPS)
def test_right_backwards_pass(name):
    result = check(name, OPS[name][1])
    assert result, str(result)
    assert result.accuracy < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", OPS)
def test_no_false_alarm_for_any_seed(name, seed):
    result = check(name, OPS[name][1], seed)
    assert result, str(result)


@pytest.mark.parametrize(("name", "mistake"), WRONG)
def test_wrong_backwards_are_caught_and_named(name, mistake):
    backward, sentence = WRONG[name, mistake]
    result = check(name, backward)
    assert not result
    report = str(result)
    assert sentence is None or sentence in report, report
    assert ("the mistake: " in report) == (sentence is not None), report


# ---------------------------------------------------------------------------------------- kernels of the real ops
# N, H, W and the channels all differ, and so do stride and padding along the two axes.
GEOMETRY = {"stride": (2, 1), "padding": (1, 0)}
CONV_SHAPES = [(2, 6, 5, 3), (3, 2, 3, 4), (4,)]


def same(*arrays):
    return arrays


# (kernel of conv2d, what is wrong): (its arrays changed before, its result changed after, what the report must say)
WRONG_KERNELS = {
    ("backward_weight", "flipped"): (
        same,
        lambda g: g[::-1, ::-1].copy(),
        "flipped along kh and kw (the kernel is flipped)",
    ),
    ("backward_weight", "first image"): (lambda x, gy: (x[:1], gy[:1]), None, "only the first sample of gy is used"),
    ("backward_weight", "last image lost"): (lambda x, gy: (x, without_last(gy)), None, "only the first sample of gy"),
    ("backward_weight", "averaged over images"): (
        same,
        lambda g: g / 2,
        "2 is the length of n (samples) of gy: averaged",
    ),
    ("backward_weight", "= for += over images"): (
        lambda x, gy: (x[-1:], gy[-1:]),
        None,
        "only the last contribution over n (samples) of the output is kept: `=` where `+=`",
    ),
    ("backward_weight", "last row of gy"): (
        lambda x, gy: (x, without_last(gy, 1)),
        None,
        "the last row of gy is never",
    ),
    ("backward_weight", "last column"): (
        lambda x, gy: (x, without_last(gy, 2)),
        None,
        "the last column of gy is never",
    ),
    ("backward_weight", "last tap"): (same, lambda g: without_last(g, 1), "only the first kernel column is computed"),
    ("backward_weight", "sign"): (same, lambda g: -g, "the sign is wrong"),
    ("backward_weight", "gy of ones"): (lambda x, gy: (x, np.ones_like(gy)), None, "gy is ignored"),
    ("backward_weight", "flipped and negative"): (
        same,
        lambda g: -2 * g[::-1].copy(),
        "it is flipped along kh (kernel rows) (the kernel is flipped), times -2",
    ),
    ("backward_weight", "channels reversed"): (lambda x, gy: (x, gy[..., ::-1].copy()), None, "gy is flipped along c"),
    ("backward_weight", "NaN in one tap"): (
        same,
        lambda g: g * np.array([1, np.nan])[:, None, None].astype(g.dtype),
        "all at [:, 1, :, :], the last kernel column",
    ),
    ("backward_weight", "padding off by one"): (  # the images seem to lie one row further down
        lambda x, gy: (np.concatenate([x[:, 1:], 0 * x[:, :1]], 1), gy),
        None,
        "x is shifted by one along h (rows) towards the start",
    ),
    ("backward_input", "kernel flipped"): (
        lambda gy, w: (gy, w[::-1, ::-1].copy()),
        None,
        "w is flipped along kh and kw (the kernel is flipped)",
    ),
    ("backward_input", "border row lost"): (same, lambda g: without_last(g, 1), "the last row is lost"),
    ("backward_input", "border column lost"): (same, lambda g: without_last(g, 2), "the last column is lost"),
    ("backward_input", "first image"): (same, keep_first, "only the first sample is computed"),
    ("backward_input", "shifted"): (
        same,
        lambda g: np.roll(g, 1, 1),
        "it is shifted by one along h (rows) towards the end (going round)",
    ),
    ("backward_input", "summed over images"): (same, lambda g: 0 * g + g.sum(0), "summed over n (samples)"),
    ("backward_input", "gy's border lost"): (
        lambda gy, w: (without_last(gy, 1), w),
        None,
        "the last row of gy is never",
    ),
    ("backward_input", "first channel of w"): (lambda gy, w: (gy, np.repeat(w[..., :1], w.shape[3], 3)), None, None),
}
WRONG_BIAS = {
    "averaged": (lambda gy: gy.mean((0, 1, 2)), "averaged where it must be summed"),
    "first image": (lambda gy: gy[0].sum((0, 1)), "only the first sample of gy is used"),
    "first pixel": (lambda gy: gy.sum(0)[-1, -1], "`=` where `+=` is needed"),
    "counted": (lambda gy: np.full(gy.shape[3], gy[..., 0].size, gy.dtype), "gy is ignored"),
}


def check_conv2d(kernel, function):
    """The report of gradcheck with a wrong kernel in conv2d; only the gradient of this kernel must be wrong."""
    inputs = [np.random.default_rng(0).normal(size=shape) for shape in CONV_SHAPES]
    with tn.use_backend("reference"), use_kernels("conv2d", **{kernel: function}):
        result = gradcheck(lambda x, w, b: tn.conv2d(x, w, b, **GEOMETRY), inputs, raise_error=False)
    number = {"backward_input": 0, "backward_weight": 1, "backward_bias": 2}[kernel]
    assert [check.wrong > 0 for check in result.inputs] == [i == number for i in range(3)]
    report = str(result)  # outside of the block: the search and the smallest case still see the wrong kernel
    assert "the smallest case that still fails" in report
    return report


@pytest.mark.parametrize(("kernel", "mistake"), WRONG_KERNELS)
def test_wrong_kernels_of_conv2d_are_caught_and_named(kernel, mistake):
    before, after, sentence = WRONG_KERNELS[kernel, mistake]
    right = implementation_kernel("conv2d", kernel, "reference")

    def wrong(a, b, *rest):
        found = right(*before(a, b), *rest)
        return found if after is None else after(found)

    report = check_conv2d(kernel, wrong)
    assert (sentence or "no mistake that is known here") in report, report


@pytest.mark.parametrize("mistake", WRONG_BIAS)
def test_wrong_bias_gradients_are_caught_and_named(mistake):
    wrong, sentence = WRONG_BIAS[mistake]
    report = check_conv2d("backward_bias", wrong)
    assert sentence in report, report


def scattered(gy, w, input_size, geometry, add):
    """The input gradient by a loop over the taps, each added to all images at once; the padding is cut off."""
    (sy, sx), (py, px), (height, width) = geometry.stride, geometry.padding, input_size
    n, oh, ow, _ = gy.shape
    kh, kw, c, _ = w.shape
    gx = np.zeros((n, max(sy * oh + kh, height + 2 * py), max(sx * ow + kw, width + 2 * px), c), gy.dtype)
    for i in range(kh):
        for j in range(kw):
            window = (slice(None), slice(i, i + sy * oh, sy), slice(j, j + sx * ow, sx))
            gx[window] = gy @ w[i, j].T + (gx[window] if add else 0)
    return gx[:, py : py + height, px : px + width].copy()


def test_a_scatter_that_overwrites_is_named():
    report = check_conv2d("backward_input", functools.partial(scattered, add=False))
    assert "`=` where `+=` is needed" in report, report
    inputs = [np.random.default_rng(0).normal(size=shape) for shape in CONV_SHAPES]
    with use_kernels("conv2d", backward_input=functools.partial(scattered, add=True)):
        gradcheck(lambda x, w, b: tn.conv2d(x, w, b, **GEOMETRY), inputs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_no_false_alarm_for_conv2d_with_any_seed(seed):
    inputs = [np.random.default_rng(seed).normal(size=shape) for shape in CONV_SHAPES]
    for backend in ("reference", "cpu"):
        with tn.use_backend(backend):
            assert gradcheck(lambda x, w, b: tn.conv2d(x, w, b, **GEOMETRY), inputs, seed=seed)
