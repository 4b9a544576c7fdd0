"""Planted mistakes: each is caught, and the report says which mistake it is.

The table holds what students write: a backward that is wrong in one typical way, beside what the report must say of it.
The right version of every operation must pass, whatever the random numbers.
"""

import numpy as np
import pytest

import tinynet as tn
from tinynet import Function
from tinynet.backends.registry import implementation_kernel, use_kernels
from tinynet.learn.gradcheck import gradcheck

REFERENCE = {
    name: implementation_kernel("conv2d", name, "reference")
    for name in ("forward", "backward_input", "backward_weight", "backward_bias")
}


def op(forward, backward):
    """A differentiable operation from two lambdas: forward(*arrays), backward(gy, *arrays)."""

    class Op(Function):
        def forward(self, *arrays):
            self.save(*arrays)
            return forward(*arrays)

        def backward(self, gy):
            return backward(gy, *self.saved)

    return Op.apply


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


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


def without_last(a, axis=0):
    out = np.array(a)
    np.moveaxis(out, axis, 0)[-1] = 0
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
    "transpose": (lambda x: x.T.copy(), lambda g, x: g.T.copy(), [(3, 3)]),
    "sigmoid": (sigmoid, lambda g, x: g * sigmoid(x) * (1 - sigmoid(x)), [(3, 4)]),
    "tanh": (np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2), [(3, 4)]),
    "softmax": (softmax, lambda g, x: softmax(x) * (g - (g * softmax(x)).sum(-1, keepdims=True)), [(3, 4)]),
    "relu": (lambda x: np.maximum(x, 0), lambda g, x: g * (x > 0), [(3, 4)]),
    "leaky": (lambda x: np.where(x > 0, x, x / 10), lambda g, x: g * np.where(x > 0, 1, 0.1).astype(x.dtype), [(3, 4)]),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(x)), lambda g, x: g * np.where(x > 0, 1, np.exp(x)), [(3, 4)]),
    "mean": (lambda x: np.asarray(x.mean()), lambda g, x: np.full_like(x, g / x.size), [(3, 4)]),
    "row sums": (lambda x: x.sum(1), lambda g, x: np.broadcast_to(g[:, None], x.shape).copy(), [(3, 4)]),
    "centre": (lambda x: x - x.mean(1, keepdims=True), lambda g, x: g - g.mean(1, keepdims=True), [(3, 4)]),
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
    ("leaky", "slope forgotten"): (lambda g, x: g * (x > 0), "in the wrong entries it is 0"),
    ("leaky", "slope 1"): (lambda g, x: 1 * g, "it is exactly gy"),
    ("leaky", "slope twice"): (
        lambda g, x: g * np.where(x > 0, 1, 0.01).astype(x.dtype),
        "the derivative is squared",
    ),
    ("elu", "negative branch"): (lambda g, x: g * np.where(x > 0, 1, np.expm1(x)), "exactly where x < 0"),
    ("mean", "not divided"): (lambda g, x: np.full_like(x, g), "12 is the length of axis 0 and axis 1"),
    ("row sums", "averaged"): (lambda g, x: np.repeat(g[:, None] / 4, 4, 1), "4 is the length of axis 1: averaged"),
    ("centre", "mean taken as constant"): (lambda g, x: 1 * g, "it is exactly gy"),
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
    """Away from 0, where relu has its kink, and no two alike, so that no maximum is a tie."""
    size = int(np.prod(shape))
    values = (rng.permutation(size) + 1 + rng.uniform(0, 0.5, size)) / 4 * rng.choice([-1, 1], size)
    return (values / max(1, size // 10)).reshape(shape)


def named(function, count):
    """The function with arguments called x, y (w or b for the second of some), as in a student's lambda."""
    return {1: lambda x: function(x), 2: lambda x, y: function(x, y)}[count]


def function_of(name, backward):
    forward, _, shapes = OPS[name]
    function = op(forward, backward)
    if name in ("scale", "bias"):
        return lambda x, b: function(x, b)
    if name == "matmul":
        return lambda x, w: function(x, w)
    return named(function, len(shapes))


def check(name, backward, seed=0):
    rng = np.random.default_rng(seed)
    inputs = [numbers(shape, rng) for shape in OPS[name][2]]
    return gradcheck(function_of(name, backward), inputs, seed=seed, raise_error=False)


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


def transposed_convolution(gy, w, add=True, **geometry):
    """The input gradient by a loop over the taps, each spread over all pictures at once; the padding is cut off."""
    (sy, sx), (py, px) = geometry["stride"], geometry["padding"]
    n, oh, ow, _ = gy.shape
    kh, kw, c, _ = w.shape
    gx = np.zeros((n, sy * (oh - 1) + kh, sx * (ow - 1) + kw, c), gy.dtype)
    for i in range(kh):
        for j in range(kw):
            window = (slice(None), slice(i, i + sy * oh, sy), slice(j, j + sx * ow, sx))
            gx[window] = gy @ w[i, j].T + (gx[window] if add else 0)
    height, width = geometry["input_size"]
    whole = np.zeros((n, height + 2 * py, width + 2 * px, c), gy.dtype)
    whole[:, : gx.shape[1], : gx.shape[2]] = gx
    return whole[:, py : py + height, px : px + width].copy()


def backward_input(gy, w, **geometry):
    return REFERENCE["backward_input"](gy, w, **geometry)


def backward_weight(x, gy, **geometry):
    return REFERENCE["backward_weight"](x, gy, **geometry)


def shifted_pad(x, gy, **geometry):
    """Padding taken one too small: the pictures seem to lie one row further down."""
    return backward_weight(np.concatenate([x[:, 1:], 0 * x[:, :1]], 1), gy, **geometry)


# (kernel of conv2d, what is wrong): (wrong kernel, what the report must say)
WRONG_KERNELS = {
    ("backward_weight", "flipped"): (
        lambda x, gy, **p: backward_weight(x, gy, **p)[::-1, ::-1].copy(),
        "flipped along kh and kw (the kernel is flipped)",
    ),
    ("backward_weight", "first picture"): (
        lambda x, gy, **p: backward_weight(x[:1], gy[:1], **p),
        "only the first sample of gy is used",
    ),
    ("backward_weight", "last picture lost"): (
        lambda x, gy, **p: backward_weight(x, without_last(gy), **p),
        "only the first sample of gy is used",
    ),
    ("backward_weight", "averaged over pictures"): (
        lambda x, gy, **p: backward_weight(x, gy, **p) / len(gy),
        "2 is the length of n (samples) of gy: averaged",
    ),
    ("backward_weight", "= for += over pictures"): (
        lambda x, gy, **p: backward_weight(x[-1:], gy[-1:], **p),
        "only the last contribution over n (samples) of the output is kept: `=` where `+=`",
    ),
    ("backward_weight", "last row of gy"): (
        lambda x, gy, **p: backward_weight(x, without_last(gy, 1), **p),
        "the last row of gy is never used",
    ),
    ("backward_weight", "last column of gy"): (
        lambda x, gy, **p: backward_weight(x, without_last(gy, 2), **p),
        "the last column of gy is never used",
    ),
    ("backward_weight", "last tap"): (
        lambda x, gy, **p: without_last(backward_weight(x, gy, **p), 1),
        "only the first kernel column is computed",
    ),
    ("backward_weight", "sign"): (lambda x, gy, **p: -backward_weight(x, gy, **p), "the sign is wrong"),
    ("backward_weight", "gy of ones"): (
        lambda x, gy, **p: backward_weight(x, np.ones_like(gy), **p),
        "gy is ignored",
    ),
    ("backward_weight", "flipped and negative"): (
        lambda x, gy, **p: -2 * backward_weight(x, gy, **p)[::-1].copy(),
        "it is flipped along kh (kernel rows) (the kernel is flipped), times -2",
    ),
    ("backward_weight", "channels of gy turned round"): (
        lambda x, gy, **p: backward_weight(x, gy[..., ::-1].copy(), **p),
        "gy is flipped along c (channels)",
    ),
    ("backward_weight", "NaN in one tap"): (
        lambda x, gy, **p: backward_weight(x, gy, **p) * np.array([1, np.nan])[:, None, None].astype(x.dtype),
        "all at [:, 1, :, :], the last kernel column",
    ),
    ("backward_weight", "padding off by one"): (shifted_pad, "x is shifted by one along h (rows) towards the start"),
    ("backward_input", "kernel flipped"): (
        lambda gy, w, **p: backward_input(gy, w[::-1, ::-1].copy(), **p),
        "w is flipped along kh and kw (the kernel is flipped)",
    ),
    ("backward_input", "border row lost"): (
        lambda gy, w, **p: without_last(backward_input(gy, w, **p), 1),
        "the last row is lost",
    ),
    ("backward_input", "border column lost"): (
        lambda gy, w, **p: without_last(backward_input(gy, w, **p), 2),
        "the last column is lost",
    ),
    ("backward_input", "first picture"): (
        lambda gy, w, **p: keep_first(backward_input(gy, w, **p)),
        "only the first sample is computed",
    ),
    ("backward_input", "shifted"): (
        lambda gy, w, **p: np.roll(backward_input(gy, w, **p), 1, 1),
        "it is shifted by one along h (rows) towards the end (going round)",
    ),
    ("backward_input", "= for +="): (
        lambda gy, w, **p: transposed_convolution(gy, w, add=False, **p),
        "`=` where `+=` is needed",
    ),
    ("backward_input", "summed over pictures"): (
        lambda gy, w, **p: 0 * backward_input(gy, w, **p) + backward_input(gy, w, **p).sum(0),
        "summed over n (samples)",
    ),
    ("backward_input", "gy's border lost"): (
        lambda gy, w, **p: backward_input(without_last(gy, 1), w, **p),
        "the last row of gy is never used",
    ),
    ("backward_input", "first channel of w"): (
        lambda gy, w, **p: backward_input(gy, np.repeat(w[..., :1], w.shape[3], 3), **p),
        None,
    ),
    ("backward_bias", "averaged"): (lambda gy: gy.mean((0, 1, 2)), "averaged where it must be summed"),
    ("backward_bias", "first picture"): (lambda gy: gy[0].sum((0, 1)), "only the first sample of gy is used"),
    ("backward_bias", "first pixel"): (lambda gy: gy.sum(0)[-1, -1], "`=` where `+=` is needed"),
    ("backward_bias", "counted"): (
        lambda gy: np.full(gy.shape[3], gy[..., 0].size, gy.dtype),
        "gy is ignored",
    ),
}


def conv_inputs(rng):
    return [rng.normal(size=shape) for shape in CONV_SHAPES]


@pytest.mark.parametrize(("kernel", "mistake"), WRONG_KERNELS)
def test_wrong_kernels_of_conv2d_are_caught_and_named(kernel, mistake):
    wrong, sentence = WRONG_KERNELS[kernel, mistake]
    planted = {kernel: lambda *arrays, out=None, **parameters: wrong(*arrays, **parameters)}
    with tn.use_backend("reference"), use_kernels("conv2d", **planted):
        result = gradcheck(
            lambda x, w, b: tn.conv2d(x, w, b, **GEOMETRY), conv_inputs(np.random.default_rng(0)), raise_error=False
        )
    report = str(result)  # outside of the block: the search and the smallest case still see the wrong kernel
    number = {"backward_input": 0, "backward_weight": 1, "backward_bias": 2}[kernel]
    assert [check.wrong > 0 for check in result.inputs] == [i == number for i in range(3)]
    assert (sentence or "no mistake that is known here") in report, report
    assert "the smallest case that still fails" in report


def test_the_spread_taps_are_right_but_for_the_sum():
    taps = {"backward_input": lambda gy, w, out=None, **p: transposed_convolution(gy, w, **p)}
    with tn.use_backend("reference"), use_kernels("conv2d", **taps):
        gradcheck(lambda x, w, b: tn.conv2d(x, w, b, **GEOMETRY), conv_inputs(np.random.default_rng(0)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_no_false_alarm_for_conv2d_with_any_seed(seed):
    inputs = conv_inputs(np.random.default_rng(seed))
    for backend in ("reference", "cpu"):
        with tn.use_backend(backend):
            assert gradcheck(lambda x, w, b: tn.conv2d(x, w, b, **GEOMETRY), inputs, seed=seed)
