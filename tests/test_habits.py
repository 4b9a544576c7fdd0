"""Habits from NumPy and PyTorch: each gives the right value or a sentence, never a silent loss of the gradient."""

from __future__ import annotations

import array
import contextlib
import copy
import multiprocessing
import os
import pickle
import warnings

import numpy as np
import pytest
from processes import python

import tinynet as tn
from tinynet import nn
from tinynet.backends import registry
from tinynet.errors import BackendError


def leaf(*values):
    return tn.tensor(np.array(values), requires_grad=True)


# ---------------------------------------------------------------------------------------- NumPy's functions
NUMPY = {
    "linalg.norm": np.linalg.norm,
    "concatenate": lambda x: np.concatenate([x, x]),
    "stack": lambda x: np.stack((x, x)),
    "where": lambda x: np.where(True, x, 0),
    "keyword": lambda x: np.clip(a=x, a_min=0, a_max=1),
    "mean": np.mean,
    "exp": np.exp,
    "array": lambda x: np.array([x]),
    "elements": lambda x: np.array(list(x)),
    "float32": np.float32,
    "assign": lambda x: np.zeros(2).__setitem__(slice(None), x),
    "out": lambda x: np.add(np.zeros(2), x),
    "save": lambda x: np.save("never_written.npy", x),
    "dot": lambda x: np.ones(2).dot(x),
    "tensor": lambda x: tn.tensor([x, x]),
}


@pytest.mark.parametrize("name", NUMPY)
def test_numpy_takes_no_values_that_need_a_gradient(name):
    with pytest.raises(RuntimeError, match=r"needs a gradient.*tn.exp for np.exp.*x.numpy\(\)"):
        NUMPY[name](leaf(3.0, 4.0))


def test_numpy_takes_values_where_no_gradient_is_needed():
    x = leaf(3.0, 4.0)
    assert np.linalg.norm(x.numpy()) == np.linalg.norm(x.detach()) == np.mean(x.detach() + 1.5) == 5
    with tn.no_grad():
        assert np.asarray(x).tolist() == [3, 4]
    assert (np.shape(x), np.ndim(x), np.size(x)) == ((2,), 1, 2)


# ---------------------------------------------------------------------------------------- updates by hand
UPDATES = {
    "+=": (lambda p: p.__iadd__(1), [2, 3]),
    "-=": (lambda p: p.__isub__(0.5 * p.grad), [0.5, 1.5]),
    "*=": (lambda p: p.__imul__(tn.tensor(np.array([2.0, 3.0]))), [2, 6]),
    "/=": (lambda p: p.__itruediv__(2), [0.5, 1]),
    "**=": (lambda p: p.__ipow__(2), [1, 4]),
    "@=": (lambda p: p.__imatmul__(np.array([[0.0, 1], [1, 0]])), [2, 1]),
}


@pytest.mark.parametrize("sign", UPDATES)
def test_an_update_without_grad_mode_overwrites_a_leaf(sign):
    update, expected = UPDATES[sign]
    for p in (leaf(1.0, 2.0), nn.Parameter(np.array([1.0, 2.0])), tn.tensor(np.array([1.0, 2.0]))):
        memory, p.grad = p.numpy(), np.ones(2)
        y = (p * p).sum()
        with tn.no_grad():
            assert update(p) is p
        assert memory.tolist() == expected
        if p.requires_grad:
            with pytest.raises(RuntimeError, match="changed in place"):
                y.backward()
            with pytest.raises(RuntimeError, match="in-place change"):
                update(p)


def test_gradient_descent_by_hand_trains_a_layer():
    layer = nn.Linear(2, 1)
    x = np.random.default_rng(0).standard_normal((20, 2), dtype=np.float32)
    losses = []
    for _ in range(30):
        layer.zero_grad()
        loss = ((layer(tn.tensor(x)) - x[:, :1]) ** 2).mean()
        loss.backward()
        with tn.no_grad():
            for p in layer.parameters():
                p -= 0.2 * p.grad
            layer.weight -= 0
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


@pytest.mark.parametrize(
    ("assign", "message"),
    [
        (
            lambda: setattr(nn.Linear(2, 3), "weight", np.zeros((2, 3))),
            "Linear: weight is a Parameter, the new value is a ndarray",
        ),
        (lambda: setattr(nn.Linear(2, 3), "bias", leaf(1.0)), "Linear: bias is a Parameter, the new value is a Tensor"),
        (lambda: setattr(leaf(1.0), "data", leaf(1.0)), "data is set to a Tensor"),
        (lambda: setattr(leaf(1.0), "data", [1.0]), "data is set to a list"),
        (lambda: setattr(leaf(1.0), "data", np.zeros(3)), r"data is set to float64\(3,\); float64\(1,\) is needed"),
        (lambda: setattr(leaf(1.0), "data", np.zeros(1, int)), r"data is set to int64\(1,\)"),
        (lambda: setattr(leaf(1.0), "grad", np.zeros(3)), r"grad is set to float64\(3,\)"),
        (lambda: setattr(leaf(1.0), "grad", [0.0]), "grad is set to a list"),
        (lambda: setattr(tn.tensor(np.array([1])), "requires_grad", True), "requires_grad needs a floating-point"),
        (lambda: leaf(1.0).__class__.__setattr__(leaf(1.0) * 2, "requires_grad", False), "only a leaf"),
        (lambda: leaf(1.0, 2.0).assign(np.zeros((2, 2))), r"the result is float64\(2, 2\)"),
    ],
)
def test_an_assignment_that_would_do_nothing_is_refused(assign, message):
    with pytest.raises((TypeError, ValueError, RuntimeError), match=message):
        assign()


def test_an_assignment_that_fits_is_done():
    layer, p = nn.Linear(2, 3), leaf(1.0, 2.0)
    layer.weight = nn.Parameter(np.ones((2, 3), np.float32))
    layer.bias = None
    p.data, p.grad = np.array([5.0, 6.0]), np.ones(2)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert p.numpy().tolist() == [5, 6]
    assert isinstance(p.grad, tn.Tensor)


# ---------------------------------------------------------------------------------------- indices, formats, pickles
@pytest.mark.parametrize(
    "index",
    [
        ((0, 0), (1, 1)),
        (slice(None), (1, 1)),
        (slice(None), [0, 0]),
        ([0, 0], slice(None)),
        ((1, 1),),
        (0, (1, 1)),
        (..., (2, -1)),
        (np.int64(0), (1, 1)),
        (slice(None), None, [1, 1]),
        array.array("i", [0, 0]),
        memoryview(np.array([0, 0])),
        range(2),
        [[0, 0], [1, 1]],
        [True, False, True],
        ([], [0, 0][:0]),
    ],
    ids=lambda index: type(index).__name__,
)
def test_an_element_named_twice_gets_the_sum_of_its_gradients(index):
    x = tn.tensor(np.arange(9.0).reshape(3, 3), requires_grad=True)
    y = x[index]
    gy = np.arange(1.0, y.size + 1).reshape(y.shape)
    y.backward(gy)
    plain = np.asarray(index) if isinstance(index, (array.array, memoryview)) else index
    plain = (np.zeros(0, int),) * 2 if y.size == 0 else plain
    expected = np.zeros((3, 3))
    np.add.at(expected, plain, gy)
    np.testing.assert_array_equal(x.grad.numpy(), expected)
    np.testing.assert_array_equal(y.numpy(), np.arange(9.0).reshape(3, 3)[plain])


def test_argmax_over_several_axes_is_an_index_into_both():
    x = np.random.default_rng(0).permutation(24).reshape(2, 3, 4)
    assert tn.tensor(x).argmax((0, 2)).numpy().tolist() == x.transpose(1, 0, 2).reshape(3, 8).argmax(1).tolist()
    assert tn.tensor(x).argmin((1, 2)).numpy().tolist() == x.reshape(2, 12).argmin(1).tolist()


def test_logsumexp_of_nothing_but_minus_infinity_has_the_gradient_0():
    x = leaf([-np.inf, -np.inf], [0.0, -np.inf])
    y = tn.logsumexp(x, 1)
    y.sum().backward()
    assert y.numpy().tolist() == [-np.inf, 0]
    assert x.grad.numpy().tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize("name", ["maximum", "minimum", "pow", "where", "clip"])
def test_numbers_of_numpy_are_numbers(name):
    """np.float64 is a Python float, too."""
    function = getattr(tn, name)
    one, two = np.float64(1), np.float64(2)
    arguments = {"where": (np.True_, one, two), "clip": (one, 0.5, two)}.get(name, (one, two))
    expected = {"maximum": 2, "minimum": 1, "pow": 1, "where": 1, "clip": 1}[name]
    assert function(*arguments) == expected
    x = tn.tensor(one, requires_grad=True)
    mixed = tuple(x if a is one else a for a in arguments)
    (g,) = tn.grad(function(*mixed), [x], create_graph=True)
    assert g.item() == {"maximum": 0, "pow": 2}.get(name, 1)
    assert function(*mixed).dtype == np.float64


def test_a_loss_can_be_formatted_and_rounded():
    loss = tn.tensor(np.float32(2.71828), requires_grad=True)
    assert f"{loss:.2f} {loss:8.3f} {loss}" == f"2.72    2.718 {loss!s}"
    assert (round(loss, 3), round(loss)) == (pytest.approx(2.718), 3)
    with pytest.raises(TypeError, match="values only"):
        _, _ = tn.tensor(np.eye(2)).max(1)


def test_the_package_tensors_and_modules_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(tn)) is tn
    net = nn.Sequential(nn.Linear(2, 3), nn.ELU())
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        for a, b in zip(net.parameters(), twin.parameters(), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
            assert a is not b
            assert isinstance(b, nn.Parameter)


# ---------------------------------------------------------------------------------------- foreign arrays
def unaligned(x):
    return np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)


def read_only(x):
    return np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape)


KINDS = {
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "unaligned": unaligned,
    "read-only": read_only,
    "subclass": lambda x: x.view(np.recarray),
}
IMAGE, LABELS = np.random.default_rng(1).random((2, 4, 4, 16)), np.array([1, 0])
ENTRANCES = {
    "conv2d": lambda x, t: tn.conv2d(x, x[:1, :3, :3].reshape(3, 3, 16, 1)),
    "elu": lambda x, t: tn.elu(x),
    "exp": lambda x, t: tn.exp(x),
    "max_pool2d": lambda x, t: tn.max_pool2d(x),
    "matmul": lambda x, t: tn.matmul(x, x.swapaxes(2, 3)),
    "dice_loss": lambda x, t: tn.dice_loss(x, x),
    "bce": lambda x, t: tn.bce_with_logits(x, x),
    "cross entropy": lambda x, t: tn.softmax_cross_entropy(x[:, 0, 0], t),
    "batch_norm": lambda x, t: tn.batch_norm(x, x[0, 0, 0], x[0, 0, 0]),
    "warp": lambda x, t: tn.warp(x, x[..., :2]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_foreign_memory_gives_the_same_values_or_a_sentence(entrance, kind):
    x, function = IMAGE.astype(np.float32), ENTRANCES[entrance]
    expected = np.asarray(function(x, LABELS))
    actual = function(tn.tensor(KINDS[kind](x)), KINDS[kind](LABELS))
    np.testing.assert_array_equal(np.asarray(actual), expected)
    with contextlib.suppress(TypeError):  # two arrays of different byte orders: "convert one with .astype"
        np.testing.assert_array_equal(np.asarray(function(KINDS[kind](x), KINDS[kind](LABELS))), expected)


@pytest.mark.parametrize("kind", ["float16", "longdouble", "complex64", "U3", "datetime64[s]", "object", "masked"])
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_foreign_numbers_are_refused(entrance, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # complex to real
        x = (
            np.ma.array(IMAGE, mask=IMAGE > 2)
            if kind == "masked"
            else IMAGE.astype("int64" if "date" in kind else float)
        )
        x = x if kind == "masked" else x.astype(kind)
    for as_tensor in (tn.tensor, lambda a: a):
        with pytest.raises(TypeError, match=r"needed|masked array"):
            ENTRANCES[entrance](as_tensor(x), LABELS)


# ---------------------------------------------------------------------------------------- processes and threads
def loss_of(seed):
    x = tn.tensor(np.full((8, 8, 8), seed, np.float32), requires_grad=True)
    tn.relu(x).sum().backward()
    return float(x.grad.numpy().sum())


def test_a_spawned_process_runs_kernels():
    loss_of(1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(loss_of, [1, 2]) == [512, 512]


FORK = """
import multiprocessing, numpy as np, tinynet as tn
def work(i):
    return tn.relu(tn.tensor(np.full((64, 64), i, np.float32))).sum().item()
work(1)
with multiprocessing.get_context("fork").Pool(1) as pool:
    try:
        print(pool.map(work, [2]))
    except Exception as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_says_what_to_do_instead():
    said = python("import warnings; warnings.simplefilter('ignore')\n" + FORK).strip()
    assert said == "[8192.0]" or 'get_context("spawn")' in said  # some threading layers survive a fork


THREADS = """
import threading, numpy as np, tinynet as tn
x, w = tn.tensor(np.ones((4, 32, 32, 3), np.float32)), tn.tensor(np.ones((3, 3, 3, 16), np.float32))
sums = []
def work():
    for _ in range(20):
        y = tn.conv2d(x, w, padding=1)
    sums.append(float(y.sum().item()))
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(set(sums)), len(sums))
"""


def test_threads_take_turns_under_workqueue():
    assert python(THREADS, NUMBA_THREADING_LAYER="workqueue").strip() == "1 4"


# ---------------------------------------------------------------------------------------- corners of the engine
def test_a_second_change_after_a_saved_first_one_is_noticed():
    x = leaf(1.0, 2.0)
    with tn.no_grad():
        x += 1
    y = (x * x).sum()
    with tn.no_grad():
        x += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_a_change_of_a_view_of_a_view_is_noticed():
    memory = np.arange(6.0)
    x = tn.tensor(memory[1:].reshape(5, 1), requires_grad=True)  # its array is itself a view
    y = (x * x).sum()
    with tn.no_grad():
        x[1:].reshape(2, 2)[0] = 7
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_a_tensor_that_needs_no_gradient_is_not_changed_in_grad_mode():
    x = first = tn.tensor(np.ones(2))
    x += 1
    assert (first.numpy().tolist(), x.numpy().tolist()) == ([1, 1], [2, 2])


def test_an_upstream_gradient_of_another_shape_and_the_same_size_is_refused():
    with pytest.raises(ValueError, match=r"gradient has shape \(3, 2\), the tensor has \(2, 3\)"):
        (leaf(*np.eye(2, 3)) * 2).backward(np.ones((3, 2)))


def test_an_explicit_retain_graph_has_the_last_word():
    y = leaf(2.0).sum() ** 2
    y.backward(create_graph=True, retain_graph=False)
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_clip_passes_the_gradient_at_its_limits():
    x = leaf(-1.0, 0.0, 0.5, 1.0, 2.0)
    tn.clip(x, 0.0, 1.0).sum().backward()
    assert x.grad.numpy().tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("ddof", [0, 1, 2])
def test_var_divides_by_n_minus_ddof(ddof):
    x = np.random.default_rng(0).standard_normal((5, 4))
    np.testing.assert_allclose(tn.var(tn.tensor(x), (0, 1), ddof).item(), x.var(ddof=ddof))


def test_unaligned_memory_is_copied_once_at_the_door():
    assert tn.tensor(unaligned(IMAGE)).numpy().flags.aligned


def test_the_precision_holds_inside_the_block_only():
    with tn.use_backend("reference"):
        before = registry._precision.get()
        with contextlib.suppress(BackendError), tn.use_backend("cuda-sim", "tf32"):  # without a C++ compiler
            assert registry._precision.get() == "tf32"
        assert registry._precision.get() == before == "float32"
