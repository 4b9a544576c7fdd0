"""Wrong arguments: every public function answers with a sentence that names itself, the argument, and what is needed.

A table lists a right call of every operation. Each argument in turn is replaced by what it must not be, so a new
operation is covered by one row, and one that has no row fails a test. The sentences that are peculiar to one operation
are tested beside it; here stands what they have in common, and how bad data travels through layers, nets and images.
"""

import re
from types import ModuleType

import numpy as np
import pytest
from op_folders import DIFFERENTIABLE

import tinynet as tn
from tinynet import instances, metrics, nn, segment, viz
from tinynet.tools.bench.examples import load_example

script = load_example("segmentation/unet_nuclei.py")


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


# ---------------------------------------------------------------------------------------- operations
# Operation: (parameters, {argument: a right value}); arrays are given by position, in this order.
OPS = {
    "conv2d": ({}, {"x": ones(2, 8, 8, 3), "weight": ones(3, 3, 3, 4), "bias": ones(4)}),
    "conv_transpose2d": ({}, {"x": ones(2, 8, 8, 3), "weight": ones(3, 3, 4, 3), "bias": ones(4)}),
    "max_pool2d": ({}, {"x": ones(2, 8, 8, 3)}),
    "avg_pool2d": ({}, {"x": ones(2, 8, 8, 3)}),
    "conv3d": ({}, {"x": ones(1, 4, 4, 4, 2), "weight": ones(3, 3, 3, 2, 4), "bias": ones(4)}),
    "conv_transpose3d": ({}, {"x": ones(1, 4, 4, 4, 2), "weight": ones(3, 3, 3, 4, 2), "bias": ones(4)}),
    "max_pool3d": ({}, {"x": ones(1, 4, 4, 4, 2)}),
    "avg_pool3d": ({}, {"x": ones(1, 4, 4, 4, 2)}),
    "resize2d": ({"size": 3}, {"x": ones(1, 4, 4, 2)}),
    "resize3d": ({"size": 3}, {"x": ones(1, 4, 4, 4, 2)}),
    "grid_sample2d": ({}, {"x": ones(1, 4, 4, 2), "grid": ones(1, 3, 3, 2)}),
    "grid_sample3d": ({}, {"x": ones(1, 4, 4, 4, 2), "grid": ones(1, 3, 3, 3, 3)}),
    "warp": ({}, {"x": ones(1, 4, 4, 2), "displacement": ones(1, 4, 4, 2)}),
    "affine_grid": ({"size": (4, 4)}, {"matrices": ones(1, 2, 3)}),
    "batch_norm": ({}, {"x": ones(2, 8, 8, 3), "gamma": ones(3), "beta": ones(3)}),
    "local_response_norm": ({}, {"x": ones(2, 8, 8, 3)}),
    "lstm": ({}, {"a": ones(5, 2, 12), "weight": ones(3, 12), "h": ones(2, 3), "c": ones(2, 3)}),
    "max_unpool2d": ({"size": (4, 4)}, {"y": ones(1, 2, 2, 1), "indices": ones(1, 2, 2, 1, dtype=np.int32)}),
    "dropout": ({"p": 0.5, "seed": 0, "stream": 0, "step": 0}, {"x": ones(2, 4)}),
    "elu": ({}, {"x": ones(2, 3)}),
    "relu": ({}, {"x": ones(2, 3)}),
    "relu6": ({}, {"x": ones(2, 3)}),
    "leaky_relu": ({}, {"x": ones(2, 3)}),
    "sigmoid": ({}, {"x": ones(2, 3)}),
    "tanh": ({}, {"x": ones(2, 3)}),
    "softplus": ({}, {"x": ones(2, 3)}),
    "prelu": ({}, {"x": ones(2, 3), "slope": ones(3)}),
    "group_norm": ({"groups": 2}, {"x": ones(2, 3, 4), "gamma": ones(4), "beta": ones(4)}),
    "maxout": ({"pieces": 2}, {"x": ones(2, 4)}),
    "softmax_dice_loss": ({}, {"x": ones(2, 5, 4), "target": ones(2, 5, dtype=np.int64)}),
    "smooth_l1_loss": ({}, {"x": ones(2, 3), "target": ones(2, 3)}),
    "focal_loss": ({}, {"x": ones(2, 3), "target": ones(2, 3)}),
    "hinge_loss": ({}, {"x": ones(2, 3), "target": ones(2, 3)}),
    "hardest_mean": ({"k": 2}, {"losses": ones(2, 3)}),
    "ncc_loss": ({}, {"x": ones(1, 3, 4, 1), "target": ones(1, 3, 4, 1)}),
    "dice_loss": ({}, {"p": ones(2, 4), "target": ones(2, 4)}),
    "bce_with_logits": ({}, {"x": ones(2, 4), "target": ones(2, 4), "weight": ones(2, 4)}),
    "softmax_cross_entropy": ({}, {"x": ones(2, 4), "target": ones(2, dtype=np.int64), "weight": ones(4)}),
}
UNARY = (
    *("neg", "exp", "log", "sqrt", "abs", "sign", "logical_not", "any", "all"),
    *("sum", "mean", "var", "max", "min", "argmax", "softmax", "log_softmax", "logsumexp"),
    *("flatten", "transpose", "squeeze"),
    *("clone", "sin", "cos", "floor", "ceil", "round", "std", "norm", "prod", "sort", "argmin"),
)
BINARY = (
    *("add", "sub", "mul", "div", "maximum", "minimum", "matmul", "logical_and", "logical_or"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
)
LOGICAL = ("logical_not", "logical_and", "logical_or", "any", "all")
BASIC = {
    **{name: ({}, {"x": ones(3, 3, dtype=bool if name in LOGICAL else np.float32)}) for name in UNARY},
    **{name: ({}, {n: ones(3, 3, dtype=bool if name in LOGICAL else np.float32) for n in "xy"}) for name in BINARY},
    "pow": ({}, {"x": ones(3, 3), "exponent": ones(3, 3)}),
    "where": ({}, {"condition": ones(3, 3, dtype=bool), "x": ones(3, 3), "y": ones(3, 3)}),
    "clip": ({"low": 0.0}, {"x": ones(2, 3)}),
    "cumsum": ({"axis": 0}, {"x": ones(2, 3)}),
    "topk": ({"k": 1}, {"x": ones(2, 3)}),
    "astype": ({"dtype": np.float64}, {"x": ones(2, 3)}),
    "reshape": ({"shape": (6,)}, {"x": ones(2, 3)}),
    "swapaxes": ({"first": 0, "second": 1}, {"x": ones(2, 3)}),
    "expand_dims": ({"axis": 0}, {"x": ones(2, 3)}),
    "broadcast_to": ({"shape": (4, 2, 3)}, {"x": ones(2, 3)}),
    "sum_to": ({"shape": (3,)}, {"x": ones(2, 3)}),
    "pad": ({"widths": ((0, 1), (1, 0))}, {"x": ones(2, 3)}),
    "concat": ({}, {"arrays": [ones(2, 3), ones(2, 3)]}),
    "stack": ({}, {"arrays": [ones(2, 3), ones(2, 3)]}),
    "scatter_add": ({"index": [0, 0]}, {"x": ones(2, 3), "values": ones(3)}),
    "getitem": ({"index": 0}, {"x": ones(2, 3)}),
    "linear": ({}, {"x": ones(2, 3), "weight": ones(3, 4), "bias": ones(4)}),
}
NOT_OPERATIONS = {
    *("Tensor", "Function", "grad", "no_grad", "is_grad_enabled", "check_saved_arrays", "seed"),
    *("use_kernels", "use_backend", "backend", "device", "gradcheck", "gradgradcheck", "tensor"),
    "draw_graph",
    *("zeros", "ones", "full", "zeros_like", "ones_like", "eye", "arange", "linspace", "rand", "randn", "randint"),
    *("cat", "einsum"),  # `cat` is `concat`; `einsum` takes a formula first: both are tested in test_composed.py
}


ROWS = {**OPS, **BASIC}
ARGUMENTS = [(name, argument) for name, (_, arguments) in ROWS.items() for argument in arguments]
OPTIONAL = [
    *((op, "bias") for op in ("conv2d", "conv_transpose2d", "conv3d", "conv_transpose3d", "linear")),
    *(("bce_with_logits", "weight"), ("softmax_cross_entropy", "weight")),
    *(("group_norm", "gamma"), ("group_norm", "beta")),
]


def call(name, arguments):
    parameters = ROWS[name][0]
    if name == "reshape":  # its shape is many arguments, not one
        return tn.reshape(*arguments.values(), parameters["shape"])
    if name == "scatter_add":  # its index stands between the two arrays
        return tn.scatter_add(**arguments, **parameters)
    return getattr(tn, name)(*arguments.values(), **parameters)


def refused(name, argument, wrong):
    """The message of the error for `wrong` in the place of `argument`."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call(name, {**ROWS[name][1], argument: wrong})
    return str(caught.value)


def test_every_operation_has_a_row():
    names = {name for name in tn.__all__ if not isinstance(getattr(tn, name), ModuleType)}
    assert set(ROWS) == names - NOT_OPERATIONS
    # concat and matmul take integers too, so their rows are among the basic operations. The fused operation of
    # nn.Sequential has no public name.
    composed = {"conv_transpose3d", "max_pool3d", "avg_pool3d", "affine_grid"}
    composed |= {"group_norm", "softmax_dice_loss", "smooth_l1_loss", "focal_loss", "hinge_loss"}
    composed |= {"hardest_mean", "ncc_loss"}
    kernels = {"resize2d": "resize", "resize3d": "resize", "warp": "sample"}
    kernels |= {"grid_sample2d": "sample", "grid_sample3d": "sample"}
    with_folder = {kernels.get(op, op) for op in {*OPS, "concat", "matmul", "conv_elu_dropout"} - composed}
    assert {"dice" if name == "dice_loss" else name for name in with_folder} == set(DIFFERENTIABLE)


@pytest.mark.parametrize("name", ROWS)
def test_the_rows_are_right_calls(name):
    call(name, ROWS[name][1])


@pytest.mark.parametrize("wrong", ["a text", object(), {"a": 1}], ids=["text", "object", "dict"])
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_what_is_no_array_is_refused(name, argument, wrong):
    message = refused(name, argument, wrong)
    assert message.startswith(f"{name}: ")
    assert re.search(rf"\b{argument}\b", message), message


@pytest.mark.parametrize(("name", "argument"), [a for a in ARGUMENTS if a not in OPTIONAL])
def test_none_is_refused_where_an_array_is_needed(name, argument):
    message = refused(name, argument, None)
    assert message.startswith(f"{name}: ")
    assert re.search(rf"\b{argument}\b", message), message


@pytest.mark.parametrize("dtype", [np.complex64, "datetime64[s]", object, "U3"])
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_dtypes_that_are_no_numbers_are_refused(name, argument, dtype):
    """NumPy would drop the imaginary part of a complex number, or read a date as a number of seconds."""
    right = ROWS[name][1][argument]
    wrong = [array.astype(dtype) for array in right] if isinstance(right, list) else right.astype(dtype)
    assert refused(name, argument, wrong).startswith(f"{name}: ")


ANY_SHAPE = {"elu", "relu", "relu6", "leaky_relu", "sigmoid", "softplus", "tanh", "dropout", "local_response_norm"}
ANY_SHAPE |= {*UNARY, "clip", "cumsum", "topk", "astype", "swapaxes", "expand_dims", "getitem", "hardest_mean"}


@pytest.mark.parametrize(("name", "argument"), [a for a in ARGUMENTS if a[0] not in ANY_SHAPE])
def test_shapes_that_do_not_fit_are_named(name, argument):
    """Sizes that match nothing and divide nothing: the message holds them."""
    right = ROWS[name][1][argument]
    wrong = [right[0], ones(7, 5, 11)] if isinstance(right, list) else ones(7, 5, 11, dtype=right.dtype)
    message = refused(name, argument, wrong)
    assert message.startswith(f"{name}: ")
    assert "(7, 5, 11)" in message, message


@pytest.mark.parametrize("name", OPS)
def test_integers_are_no_floats(name):
    first = next(iter(OPS[name][1]))
    message = refused(name, first, OPS[name][1][first].astype(np.int64))
    assert message.startswith(f"{name}: {first} has dtype int64")


def floats(name):
    """The names of an operation's float arguments."""
    return [n for n, array in ROWS[name][1].items() if getattr(array, "dtype", None) == np.float32]


@pytest.mark.parametrize(("name", "argument"), [(n, a) for n in ROWS if len(floats(n)) > 1 for a in floats(n)])
def test_float32_and_float64_do_not_mix_in_silence(name, argument):
    message = refused(name, argument, ROWS[name][1][argument].astype(np.float64))
    assert message.startswith(f"{name}: ")
    assert "float32" in message
    assert "float64" in message


# ---------------------------------------------------------------------------------------- layers
@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.Conv2d(3, 16, 3), (2, 9, 9, 4), r"conv2d: weight \(3, 3, 3, 16\) expects 3 .*x \(2, 9, 9, 4\) has 4"),
        (nn.Conv2d(3, 16, 3), (9, 9, 3), r"conv2d: x has shape \(9, 9, 3\); 4 axes \(N, H, W, C\) are needed"),
        (nn.Conv2d(3, 16, 5), (2, 4, 9, 3), r"conv2d: the kernel \(5, 5\).*is larger than x \(2, 4, 9, 3\)"),
        (nn.ConvTranspose2d(4, 2, 2), (1, 5, 5, 3), r"conv_transpose2d: weight \(2, 2, 2, 4\).*x \(1, 5, 5, 3\) has 3"),
        (nn.MaxPool2d(2), (2, 1, 8, 3), r"max_pool2d: size \(2, 2\) is larger than x \(2, 1, 8, 3\)"),
        (nn.MaxPool2d(2), (8, 8), r"max_pool2d: x has shape \(8, 8\); 4 axes"),
        (nn.Linear(5, 2), (3, 4), r"linear: weight \(5, 2\) expects 5 features.*x has shape \(3, 4\)"),
        (nn.Maxout(2), (3, 5), r"maxout: x \(3, 5\) needs channels .* a multiple of pieces = 2"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_name_both_shapes(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(tn.tensor(ones(*shape)))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (ones(1, 32, 32, 1), ValueError, r"weight \(3, 3, 3, 16\) expects 3 input channels, x \(1, 32, 32, 1\) has 1"),
        (ones(1, 32, 32, 3, dtype=np.uint8), TypeError, "uint8"),
        (ones(1, 32, 32, 3, dtype=np.float64), TypeError, "x is float64, weight is float32"),
        (ones(32, 32, 3), ValueError, r"\(32, 32, 3\)"),
    ],
    ids=["gray", "uint8", "float64", "no batch axis"],
)
def test_the_unet_says_what_it_needs(x, error, message):
    with pytest.raises(error, match=message):
        script.UNet()(tn.tensor(x))


def test_a_mask_without_channel_axis_is_no_target():
    """(N, H, W) against (N, H, W, 1) would broadcast every image with every mask."""
    logits = tn.tensor(ones(4, 8, 8, 1))
    for loss in ("dice", "bce+dice"):
        with pytest.raises(ValueError, match=r"target has shape \(4, 8, 8\), p has \(4, 8, 8, 1\)"):
            script.mask_loss(logits, ones(4, 8, 8), loss)
    with pytest.raises(ValueError, match="a mask of 0 and 255: divide"):
        script.mask_loss(logits, 255 * ones(4, 8, 8, 1), "dice")


# ---------------------------------------------------------------------------------------- images and label images
IMAGE, LABELS = np.zeros((20, 24, 3), np.uint8), np.zeros((20, 24), np.int32)
IMAGE_FUNCTIONS = {
    "otsu_foreground": instances.otsu_foreground,
    "estimate_scale": lambda image: segment.estimate_scale(lambda x: x[..., :1], image),
    "overlay": lambda image: viz.overlay(image, LABELS),
    "comparison_overlay": lambda image: viz.comparison_overlay(image, LABELS, LABELS),
}
LABEL_FUNCTIONS = {
    "median_diameter": instances.median_diameter,
    "measure": lambda labels: instances.measure(labels, IMAGE),
    "encode_runs": instances.encode_runs,
    "overlay": lambda labels: viz.overlay(IMAGE, labels),
    "comparison_overlay": lambda labels: viz.comparison_overlay(IMAGE, LABELS, labels),
    "iou_matrix": lambda labels: metrics.iou_matrix(LABELS, labels),
}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (IMAGE[:, :, 0], r"\(20, 24\)"),
        (np.zeros((20, 24, 4), np.uint8), r"\(20, 24, 4\)"),
        (IMAGE.astype(np.float32), "float32"),
        (IMAGE[:0], r"\(0, 24, 3\)"),
    ],
    ids=["gray", "four channels", "float", "no pixels"],
)
@pytest.mark.parametrize("name", IMAGE_FUNCTIONS)
def test_images_are_rgb8(name, wrong, words):
    with pytest.raises((TypeError, ValueError), match=rf"^\w*{name}: image.*{words}"):
        IMAGE_FUNCTIONS[name](wrong)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (LABELS[..., None], r"\(20, 24, 1\)"),
        (LABELS.astype(np.float32), "float32"),
        (LABELS > 0, "bool"),
        (LABELS - 1, "-1"),
        (LABELS[:0], r"\(0, 24\)"),
    ],
    ids=["three axes", "float", "mask", "negative", "no pixels"],
)
@pytest.mark.parametrize("name", LABEL_FUNCTIONS)
def test_labels_are_integers_of_two_axes(name, wrong, words):
    with pytest.raises((TypeError, ValueError), match=rf"^\w*{name}: .*{words}"):
        LABEL_FUNCTIONS[name](wrong)


@pytest.mark.parametrize("name", ["measure", "overlay", "comparison_overlay", "iou_matrix"])
def test_labels_of_another_image_are_refused(name):
    with pytest.raises(ValueError, match=r"\(20, 25\)"):
        LABEL_FUNCTIONS[name](np.zeros((20, 25), np.int32))
