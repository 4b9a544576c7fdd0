"""The basic operations: values against NumPy and SciPy, first and second derivatives against differences."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import tinynet as tn
from tinynet.engine import basic_ops
from tinynet.engine.tensor import Function, Tensor
from tinynet.learn.gradcheck import GradientError, gradcheck, gradgradcheck

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape)


def positive(*shape):
    return rng.uniform(0.5, 2.0, size=shape)


def distinct(*shape):
    """Values that are at least 0.1 apart from each other and from zero: no ties and no kinks nearby."""
    n = int(np.prod(shape))
    return 0.1 * (rng.permutation(n) - n // 2 + 0.5).reshape(shape)


def case(op, *inputs, numpy=None):
    """(operation, the same in NumPy or SciPy, inputs). Without `numpy`, NumPy's arrays know the same expression."""
    return op, numpy or op, inputs


CASES = {
    "add": case(lambda x, y: x + y, normal(2, 3), normal(2, 3)),
    "add, row and column": case(lambda x, y: x + y, normal(1, 3), normal(2, 1)),
    "add, number first": case(lambda x: 2 + x, normal(3)),
    "sub": case(lambda x, y: x - y, normal(2, 3), normal(3)),
    "sub from a number": case(lambda x: 1 - x, normal(2, 3)),
    "mul": case(lambda x, y: x * y, normal(2, 3, 2), normal(3, 1)),
    "mul with itself": case(lambda x: x * x, normal(2, 3)),
    "mul by no axes": case(lambda x, y: x * y, normal(2, 3), normal()),
    "div": case(lambda x, y: x / y, normal(2, 3), positive(2, 1)),
    "div a number": case(lambda x: 3 / x, positive(2, 3)),
    "neg": case(lambda x: -x, normal(2, 3)),
    "pow 3": case(lambda x: x**3, normal(2, 3)),
    "pow 2.5": case(lambda x: x**2.5, positive(2, 3)),
    "pow 0": case(lambda x: x**0, np.array([-1.0, 0.0, 2.0])),
    "pow 1 at 0": case(lambda x: x**1, np.array([-1.0, 0.0, 2.0])),
    "pow -1": case(lambda x: x**-1, positive(4)),
    "pow array": case(lambda x, y: x**y, positive(2, 3), normal(3)),
    "number pow array": case(lambda y: 2**y, normal(3)),
    "exp": case(tn.exp, normal(2, 3), numpy=np.exp),
    "log": case(tn.log, positive(2, 3), numpy=np.log),
    "sqrt": case(tn.sqrt, positive(2, 3), numpy=np.sqrt),
    "abs": case(tn.abs, distinct(2, 3), numpy=np.abs),
    "clip": case(lambda x: x.clip(-0.2, 0.2), distinct(3, 3)),
    "clip below": case(lambda x: x.clip(low=0.0), distinct(3, 3), numpy=lambda x: np.clip(x, 0.0, None)),
    "clip above": case(lambda x: x.clip(high=0.0), distinct(3, 3), numpy=lambda x: np.clip(x, None, 0.0)),
    "maximum": case(tn.maximum, distinct(2, 3), 0.93 * distinct(3), numpy=np.maximum),
    "minimum": case(tn.minimum, distinct(2, 3), 0.93 * distinct(2, 1), numpy=np.minimum),
    "maximum with a number": case(lambda x: tn.maximum(0.0, x), distinct(2, 3), numpy=lambda x: np.maximum(0.0, x)),
    "where": case(tn.where, np.array([[True], [False]]), normal(2, 3), normal(3), numpy=np.where),
    "where with a number": case(
        lambda c, x: tn.where(c, x, 1.5),
        np.array([True, False, True]),
        normal(2, 3),
        numpy=lambda c, x: np.where(c, x, 1.5),
    ),
    "matmul": case(lambda x, y: x @ y, normal(2, 3), normal(3, 4)),
    "matmul, batch": case(lambda x, y: x @ y, normal(2, 2, 3), normal(2, 3, 2)),
    "matmul, batch broadcast": case(lambda x, y: x @ y, normal(2, 1, 2, 3), normal(3, 3, 2)),
    "matmul, batch times matrix": case(lambda x, y: x @ y, normal(2, 2, 2, 3), normal(3, 2)),
    "matmul, matrix times batch": case(lambda x, y: x @ y, normal(2, 3), normal(2, 3, 2)),
    "matmul, matrix times vector": case(lambda x, y: x @ y, normal(2, 3), normal(3)),
    "matmul, batch times vector": case(lambda x, y: x @ y, normal(2, 2, 3), normal(3)),
    "matmul, vector times matrix": case(lambda x, y: x @ y, normal(3), normal(3, 2)),
    "matmul, vector times batch": case(lambda x, y: x @ y, normal(3), normal(2, 3, 2)),
    "dot product": case(lambda x, y: x @ y, normal(3), normal(3)),
    "sum": case(lambda x: x.sum(), normal(2, 3)),
    "sum, axis 1": case(lambda x: x.sum(axis=1), normal(2, 3, 2)),
    "sum, two axes": case(lambda x: x.sum(axis=(0, -1)), normal(2, 3, 2)),
    "sum, kept": case(lambda x: x.sum(-2, keepdims=True), normal(2, 3)),
    "sum, no axes at all": case(lambda x: x.sum(()), normal(2)),
    "mean": case(lambda x: x.mean(), normal(2, 3)),
    "mean, axes, kept": case(lambda x: x.mean((1, 2), keepdims=True), normal(2, 3, 2)),
    "var": case(lambda x: x.var(), normal(2, 3)),
    "var, axis, ddof": case(lambda x: x.var(0, ddof=1), normal(4, 2)),
    "max": case(lambda x: x.max(), distinct(2, 3)),
    "max, axis 0": case(lambda x: x.max(0), distinct(2, 3, 2)),
    "max, two axes": case(lambda x: x.max((2, 0)), distinct(2, 3, 2)),
    "max, kept": case(lambda x: x.max(1, keepdims=True), distinct(2, 3)),
    "min, axis -1": case(lambda x: x.min(-1), distinct(2, 3)),
    "reshape": case(lambda x: x.reshape(3, -1), normal(2, 6)),
    "flatten": case(tn.flatten, normal(2, 3), numpy=np.ravel),
    "transpose": case(lambda x: x.transpose(2, 0, 1), normal(2, 3, 4)),
    "T": case(lambda x: x.T, normal(2, 3)),
    "swapaxes": case(lambda x: x.swapaxes(0, -1), normal(2, 3, 4)),
    "squeeze": case(lambda x: x.squeeze(), normal(1, 3, 1)),
    "squeeze, axis": case(lambda x: x.squeeze(-1), normal(1, 3, 1)),
    "expand_dims": case(lambda x: x.expand_dims(-1), normal(2, 3), numpy=lambda x: np.expand_dims(x, -1)),
    "broadcast_to": case(
        lambda x: x.broadcast_to((2, 3, 2)), normal(3, 1), numpy=lambda x: np.broadcast_to(x, (2, 3, 2))
    ),
    "sum_to": case(lambda x: tn.sum_to(x, (3, 1)), normal(2, 3, 2), numpy=lambda x: x.sum((0, 2))[:, None]),
    "concat": case(
        lambda *a: tn.concat(a, axis=-1),
        normal(2, 1),
        normal(2, 3),
        normal(2, 2),
        numpy=lambda *a: np.concatenate(a, -1),
    ),
    "concat with itself": case(lambda x: tn.concat([x, x]), normal(2, 2), numpy=lambda x: np.concatenate([x, x])),
    "stack": case(lambda *a: tn.stack(a, axis=1), normal(2, 3), normal(2, 3), numpy=lambda *a: np.stack(a, 1)),
    "pad": case(
        lambda x: tn.pad(x, ((1, 0), (0, 2)), 5.0),
        normal(2, 3),
        numpy=lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=5.0),
    ),
    "astype": case(lambda x: x.astype(np.float64) * 1, normal(2)),
    "x[1]": case(lambda x: x[1], normal(2, 3)),
    "x[1, 2]": case(lambda x: x[1, 2], normal(2, 3)),
    "x[:, ::-2]": case(lambda x: x[:, ::-2], normal(2, 5)),
    "x[..., None, 0]": case(lambda x: x[..., None, 0], normal(2, 3)),
    "x[list] with repetition": case(lambda x: x[[1, 1, 0, 1]], normal(2, 3)),
    "x[array, :, array]": case(lambda x: x[np.array([[0], [1]]), :, np.array([2, 2])], normal(2, 2, 3)),
    "x[slice, list] with repetition": case(lambda x: x[1:, [1, 1, 0]], normal(3, 2)),
    "x[indices from an input]": case(lambda x, i: x[i, 0], normal(3, 2), np.array([2, 0, 2])),
    "x[mask]": case(lambda x: x[x > 0], distinct(2, 3)),
    "x[mask of rows]": case(lambda x: x[np.array([True, False, True]), 1:], normal(3, 3)),
    "x[mask, array]": case(lambda x: x[np.array([True, False, True]), np.array([1, 1])], normal(3, 2)),
    "scatter_add, repetition": case(
        lambda x, v: tn.scatter_add(x, [0, 2, 0], v),
        *(normal(3, 2), normal(3, 2)),
        numpy=lambda x, v: np.stack([x[0] + v[0] + v[2], x[1], x[2] + v[1]]),
    ),
    "scatter_add, two arrays, broadcast": case(
        lambda x, v: tn.scatter_add(x, (np.array([1, 1, 0]), np.array([2, 2, 0])), v),
        *(normal(2, 3), normal(1)),
        numpy=lambda x, v: x + np.array([[1, 0, 0], [0, 0, 2]]) * v,
    ),
    "scatter_add, mask": case(
        lambda x, v: tn.scatter_add(x, np.array([[True, False], [True, True]]), v),
        *(normal(2, 2), normal(3)),
        numpy=lambda x, v: x + np.array([[v[0], 0], [v[1], v[2]]]),
    ),
    "scatter_add, nothing": case(lambda x: tn.scatter_add(x, [], 1.0), normal(3), numpy=np.copy),
    "softmax": case(tn.softmax, normal(2, 3), numpy=lambda x: scipy.special.softmax(x, -1)),
    "softmax, axis 0": case(lambda x: tn.softmax(x, 0), normal(2, 3), numpy=lambda x: scipy.special.softmax(x, 0)),
    "log_softmax": case(
        lambda x: tn.log_softmax(x, 1), normal(2, 3, 2), numpy=lambda x: scipy.special.log_softmax(x, 1)
    ),
    "logsumexp": case(tn.logsumexp, normal(2, 3), numpy=scipy.special.logsumexp),
    "logsumexp, axes, kept": case(
        lambda x: tn.logsumexp(x, (0, 2), keepdims=True),
        normal(2, 3, 2),
        numpy=lambda x: scipy.special.logsumexp(x, (0, 2), keepdims=True),
    ),
    # Composed operations: tinynet/ops/_composed.
    "clone": case(lambda x: x.clone(), normal(2, 3), numpy=np.copy),
    "sin": case(tn.sin, normal(2, 3), numpy=np.sin),
    "cos": case(tn.cos, normal(2, 3), numpy=np.cos),
    "std": case(lambda x: x.std(), normal(2, 3)),
    "std, axes, ddof, kept": case(lambda x: x.std((0, 2), ddof=1, keepdims=True), normal(2, 3, 2)),
    "norm": case(lambda x: x.norm(), normal(2, 3), numpy=np.linalg.norm),
    "norm 1, axis": case(lambda x: x.norm(1, axis=0), distinct(2, 3), numpy=lambda x: np.linalg.norm(x, 1, 0)),
    "norm 3, kept": case(
        lambda x: x.norm(3, 1, keepdims=True), distinct(2, 3), numpy=lambda x: np.linalg.norm(x, 3, 1, keepdims=True)
    ),
    "norm inf": case(lambda x: x.norm(np.inf), distinct(2, 3), numpy=lambda x: np.abs(x).max()),
    "prod": case(lambda x: x.prod(), normal(1, 7)),
    "prod, axes, kept": case(lambda x: x.prod((0, 2), keepdims=True), normal(2, 2, 3)),
    "prod of one 0 and of two": case(lambda x: x.prod(1), np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 3.0]])),
    "cumsum": case(lambda x: x.cumsum(1), normal(2, 3, 2)),
    "cumsum, axis -1": case(lambda x: x.cumsum(-1), normal(2, 4)),
    "sort": case(lambda x: tn.sort(x, 0)[0], distinct(4, 3), numpy=lambda x: np.sort(x, 0)),
    "sort, descending": case(
        lambda x: tn.sort(x, descending=True)[0], distinct(2, 4), numpy=lambda x: -np.sort(-x, -1)
    ),
    "topk": case(lambda x: tn.topk(x, 2)[0], distinct(3, 4), numpy=lambda x: -np.sort(-x, -1)[:, :2]),
    "topk, smallest": case(
        lambda x: tn.topk(x, 2, axis=0, largest=False)[0], distinct(3, 4), numpy=lambda x: np.sort(x, 0)[:2]
    ),
    "cat": case(lambda *a: tn.cat(a, 1), normal(2, 1), normal(2, 3), numpy=lambda *a: np.concatenate(a, 1)),
    **{
        f"einsum {formula}": case(
            lambda *a, f=formula: tn.einsum(f, *a), *inputs, numpy=lambda *a, f=formula: np.einsum(f, *a)
        )
        for formula, *inputs in [
            ("ij,jk->ik", normal(2, 3), normal(3, 4)),
            ("bij, bkj -> bki", normal(2, 3, 4), normal(2, 2, 4)),
            ("ia,ib->", normal(2, 3), normal(2, 2)),
            ("i,j->ji", normal(2), normal(3)),
            ("abc->cb", normal(2, 3, 2)),
            ("bhqd,bhkd->bqhk", normal(1, 2, 2, 3), normal(1, 2, 3, 3)),
            ("ai,bi,ci->abc", normal(2, 3), normal(2, 3), normal(2, 3)),
            ("i,i->", normal(3), normal(3)),
            (",i->i", normal(), normal(2)),
        ]
    },
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name):
    op, in_numpy, inputs = CASES[name]
    expected = in_numpy(*inputs)
    for layout in (np.ascontiguousarray, np.asfortranarray):
        tensors = [Tensor(layout(x) if x.ndim else x) for x in inputs]
        y = op(*tensors)
        assert isinstance(y, Tensor) and y.dtype == np.float64 and y.shape == np.shape(expected)
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-14, atol=1e-14)
    gradcheck(op, inputs, keeps_dtype=name != "astype")
    gradgradcheck(op, inputs, keeps_dtype=name != "astype")


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"astype"}))
def test_float32_stays_float32(name):
    op, in_numpy, inputs = CASES[name]
    small = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in inputs]
    leaves = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in small]
    y = op(*leaves)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), in_numpy(*inputs), rtol=1e-4, atol=1e-5)
    y.backward(np.ones(y.shape))
    assert all(leaf.grad.dtype == np.float32 for leaf in leaves if leaf.requires_grad)


@pytest.mark.parametrize(
    "op",
    [
        *(tn.exp, tn.softmax, tn.var),
        *(lambda x: tn.sum(x, 0), lambda x: tn.max(x, 1), lambda x: tn.sum_to(x, (3,))),
        *(lambda x: tn.concat([x, x]), lambda x: tn.where(x > 0, x, 0.0), lambda x: tn.matmul(x, x.T)),
        *(lambda x: tn.pad(x, ((1, 1), (1, 1))), lambda x: tn.getitem(x, [0, 0])),
    ],
)
def test_plain_arrays_in_plain_array_out(op):
    x = normal(2, 3)
    y = op(x)
    assert isinstance(y, (np.ndarray, np.generic))
    np.testing.assert_array_equal(y, op(Tensor(x)).numpy())


# ------------------------------------------------------------------------------------ dtypes
def test_two_floating_dtypes_are_refused():
    """For one operation and for an operator with the array first; `test_bad_input.py` tries all operations."""
    x, y = Tensor(np.ones((2, 3), np.float32)), Tensor(np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"add: x is float32, y is float64; convert one with \.astype"):
        x + y
    with pytest.raises(TypeError, match="mul: x is float64, y is float32"):
        y.numpy() * x
    assert (x + y.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("scalar", [2, 2.0, True, np.float64(2), np.float32(2), np.int64(2)])
def test_scalars_are_weak(scalar):
    for dtype in (np.float32, np.float64):
        x = Tensor(np.ones(2, dtype))
        for y in (x + scalar, scalar + x, scalar * x, x / scalar, scalar / x, x - scalar, x**scalar, scalar**x):
            assert isinstance(y, Tensor) and y.dtype == dtype
        assert tn.maximum(scalar, x).dtype == tn.where(x > 0, scalar, x).dtype == dtype


def test_integers_beside_floats_take_the_float_dtype():
    x = Tensor(np.ones(2, np.float32))
    for other in (np.array([1, 2]), np.array([True, False]), np.array([3, 4], np.uint8)):
        assert (x * other).dtype == (other * x).dtype == (other / x).dtype == np.float32
    assert (x.reshape(1, 2) @ np.array([[1, 2], [3, 4]])).dtype == np.float32


def test_integers_become_float32_where_a_float_is_needed():
    i = Tensor(np.array([1, 2, 4]))
    for y in (i / 2, i / i, 1 / i, i * 0.5, tn.exp(i), i.mean(), i.var(), tn.softmax(i), tn.log(i)):
        assert y.dtype == np.float32
    assert (i + 1).dtype == i.sum().dtype == (i * i).dtype == i.max().dtype == np.int64
    np.testing.assert_allclose((i == 2).mean().item(), 1 / 3, rtol=1e-6)
    assert tn.where(i > 1, 1.0, 0.0).dtype == np.float32
    assert not (i * 2).requires_grad


def test_astype_passes_the_gradient_back_in_the_old_dtype():
    x = Tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)
    assert x.astype("float32") is x
    (x.astype(np.float64) * np.array([2.0, 3.0])).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad.numpy(), [2, 3])
    assert not x.astype(np.int32).requires_grad


def test_long_float32_sums_keep_their_digits():
    x = np.full((300_000, 2), 0.1, np.float32)
    np.testing.assert_allclose(tn.sum(x, 0), 300_000 * np.float64(np.float32(0.1)), rtol=1e-7)


# ------------------------------------------------------------------------------------ comparisons and logic
def test_comparisons_and_logic():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    x, y = Tensor(a, requires_grad=True), Tensor(b)
    for actual, expected in [
        (x < y, a < b),
        (x <= y, a <= b),
        (x > y, a > b),
        (x >= y, a >= b),
        (x == y, a == b),
        (x != y, a != b),
        (tn.less(2, x), a > 2),
        (b >= x, b >= a),
        (~(x < y), a >= b),
        ((x > 1) & (x < 3), (a > 1) & (a < 3)),
        ((x < 2) | (x > 2), a != 2),
    ]:
        assert actual.dtype == bool and not actual.requires_grad
        np.testing.assert_array_equal(actual.numpy(), expected)
    grid = Tensor(np.array([[True, False], [True, True]]))
    np.testing.assert_array_equal(grid.all(0).numpy(), [True, False])
    np.testing.assert_array_equal(grid.any(-1, keepdims=True).numpy(), [[True], [True]])
    assert not grid.all() and grid.any()
    with pytest.raises(TypeError, match="logical_not: x has dtype float64; booleans are needed"):
        tn.logical_not(x)
    with pytest.raises(TypeError, match="any: x has dtype float64; booleans are needed"):
        x.any()


def test_equality_with_other_objects_and_hash():
    x = Tensor(np.ones(2))
    assert (x == None) is False and (x != "a") is True  # noqa: E711
    assert {x: 1}[x] == 1 and hash(x) != hash(Tensor(np.ones(2)))
    with pytest.raises(TypeError):
        x + "a"
    with pytest.raises(TypeError):
        x + None


def test_argmax_and_argmin():
    x = np.array([[1.0, 5.0, 5.0], [7.0, 0.0, 7.0]])
    t = Tensor(x, requires_grad=True)
    assert int(tn.argmin(t)) == 4 and t.argmin(1).numpy().tolist() == [0, 1] and not t.argmin().requires_grad
    assert int(t.argmax()) == 3 and not t.argmax(1).requires_grad
    np.testing.assert_array_equal(t.argmax(1).numpy(), [1, 0])
    np.testing.assert_array_equal(t.argmax(-2).numpy(), x.argmax(0))


# ------------------------------------------------------------------------------------ the corners of single ops
def gradient(fn, *arrays):
    leaves = [Tensor(np.asarray(a), requires_grad=True) for a in arrays]
    fn(*leaves).sum().backward()
    return [leaf.grad.numpy() for leaf in leaves]


@pytest.mark.parametrize("name", ["max", "min"])
def test_a_tie_goes_to_the_first_in_row_major_order(name):
    x = np.zeros((2, 2, 3))
    (g,) = gradient(lambda t: getattr(t, name)(axis=(2, 0)), x)
    expected = np.zeros_like(x)
    expected[0, :, 0] = 1  # the axes are given in reverse; "first" is still counted in the array
    np.testing.assert_array_equal(g, expected)
    (g,) = gradient(lambda t: getattr(t, name)(), x)
    assert g[0, 0, 0] == 1 and g.sum() == 1


def test_maximum_and_minimum_give_ties_to_x():
    for op in (tn.maximum, tn.minimum):
        gx, gy = gradient(op, [1.0, 2.0], [1.0, 2.0])
        assert gx.tolist() == [1, 1] and gy.tolist() == [0, 0]


def test_extremes_pass_nan_on():
    x = Tensor(np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 3.0]]))
    for y in (x.max(1), x.min(1)):
        assert np.isnan(y.numpy()).tolist() == [True, False]


def test_pow_at_zero():
    np.testing.assert_array_equal(gradient(lambda x: x**2, [0.0])[0], [0])
    gx, gy = gradient(lambda x, y: x**y, [0.0, 0.0, 0.0], [2.0, 1.0, 0.0])
    np.testing.assert_array_equal(gx, [0, 1, 0])
    np.testing.assert_array_equal(gy, [0, 0, 0])


def test_where_keeps_the_branch_not_taken_out_of_the_gradient():
    with np.errstate(divide="ignore"):
        (g,) = gradient(lambda x: tn.where(x > 0, tn.log(tn.where(x > 0, x, 1.0)), 0.0), [0.0, 2.0])
    np.testing.assert_array_equal(g, [0, 0.5])
    x, y = (Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    tn.where(np.array([True, False]), x, y).backward(np.array([1.0, np.inf]))
    np.testing.assert_array_equal(x.grad.numpy(), [1, 0])


def test_softmax_and_relatives_do_not_overflow():
    x = Tensor(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32), requires_grad=True)
    np.testing.assert_array_equal(tn.softmax(x).numpy(), [[1, 0], [0.5, 0.5]])
    np.testing.assert_allclose(tn.log_softmax(x).numpy(), [[0, -1e4], [-np.log(2)] * 2], rtol=1e-6)
    np.testing.assert_allclose(tn.logsumexp(x, -1).numpy(), [1e4, -1e4 + np.log(2)])
    with np.errstate(divide="ignore"):
        assert tn.logsumexp(np.full(3, -np.inf)) == -np.inf
    assert tn.logsumexp(np.array([np.inf, 0.0])) == np.inf


def test_logsumexp_of_one_number_and_of_no_axes():
    x = np.float64(3.0)
    np.testing.assert_allclose(tn.logsumexp(x), 3.0)
    gradcheck(tn.logsumexp, (np.array(3.0),))


def test_a_slice_of_everything_passes_the_gradient_on_without_a_copy():
    x = Tensor(np.ones((2, 3, 4)), requires_grad=True)
    g = np.arange(24.0).reshape(2, 3, 4)
    for index in (np.s_[:, :3, :4], np.s_[...], np.s_[:], np.s_[0:2, ..., -4:9], np.s_[::1]):
        assert x[index].creator.backward(g) is g
    # The same shape (for equal values even the same strides), but other places.
    equal = np.broadcast_to(np.float64(3), (2, 3, 4))
    for index in (np.s_[::-1], np.s_[:, ::-1], np.s_[..., [3, 2, 1, 0]], np.s_[[1, 0]], np.s_[..., np.arange(4) < 4]):
        for array in (x.data, equal):
            gx = Tensor(array, requires_grad=True)[index].creator.backward(g)
            expected = np.zeros((2, 3, 4))
            expected[index] = g
            np.testing.assert_array_equal(gx, expected)


def test_no_padding_is_no_operation():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    assert tn.pad(x, ((0, 0), (0, 0))) is x
    assert tn.pad(x, ((0, 0), (0, 1)), 5.0).numpy().tolist() == [[1, 1, 1, 5]] * 2
    number = Tensor(np.array(1.0))
    assert tn.pad(number, ()) is number


def test_an_index_array_changed_after_the_forward_pass_does_no_harm():
    x = Tensor(np.arange(3.0), requires_grad=True)
    index = np.array([0, 0])
    y = x[index]
    index[:] = 2
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 0, 0])


def test_indexing_by_tensors_and_iteration():
    x = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    np.testing.assert_array_equal(x[x.argmax(0), Tensor(np.arange(3))].numpy(), [3, 4, 5])
    first, second = x
    assert first.shape == (3,) and second.requires_grad
    with pytest.raises(TypeError):
        list(Tensor(np.float64(1.0)))


def test_writing_in_place():
    x = Tensor(np.zeros(3))
    x[1:] = Tensor(np.array([2.0, 3.0]))
    x[x > 2] = 7
    assert x.numpy().tolist() == [0, 2, 7]
    p = Tensor(np.zeros(3), requires_grad=True)
    with pytest.raises(RuntimeError, match="in-place change"):
        p[0] = 1
    with tn.no_grad():
        p[0] = 1
    assert p.numpy()[0] == 1
    with pytest.raises(RuntimeError, match="value requires a gradient"):
        x[0] = p[0]


def test_augmented_assignment_of_a_result_makes_a_new_tensor():
    x = Tensor(np.ones(2), requires_grad=True)
    y = z = x + 0
    y += 1
    y *= 3
    assert z.numpy().tolist() == [1, 1] and y.numpy().tolist() == [6, 6]
    y.sum().backward()
    assert x.grad.numpy().tolist() == [3, 3]


def test_views_and_operations_that_return_x_itself():
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    for view in (x.reshape(3, 2), x.T, x[0], x.flatten(), x.expand_dims(0), x.broadcast_to((4, 2, 3))):
        assert np.shares_memory(view.numpy(), x.numpy())
    for same in (
        *(x.reshape(2, 3), tn.sum_to(x, (2, 3)), x.broadcast_to((2, 3)), x.transpose((0, 1))),
        *(x.squeeze(), x.swapaxes(1, 1)),
    ):
        assert same is x


def test_mul_by_a_constant_keeps_nothing_of_the_variable():
    x = Tensor(np.ones(3), requires_grad=True)
    y = x * 2
    with tn.no_grad():
        x[0] = 5  # allowed: the gradient of 2x does not need x
    y.sum().backward()
    assert x.grad.numpy().tolist() == [2, 2, 2]


# ------------------------------------------------------------------------------------ any shapes
@settings(deadline=None, max_examples=30)
@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=3), st.data())
def test_broadcasting_any_shapes(shapes, data):
    """Sizes 0 and 1, no axes, reversed strides: the gradient is the sum over the copies."""
    a, b = (np.random.default_rng(i).normal(size=s) for i, s in enumerate(shapes.input_shapes))
    if data.draw(st.booleans(), label="reversed"):
        a = a[..., ::-1] if a.ndim else a
        b = b.T.copy().T
    x, y = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    z = x * y
    assert z.shape == shapes.result_shape
    np.testing.assert_array_equal(z.numpy(), a * b)
    gz = np.random.default_rng(2).normal(size=z.shape)
    z.backward(gz)
    for leaf, other in ((x, b), (y, a)):
        full = gz * np.broadcast_to(other, gz.shape)
        front = full.ndim - leaf.ndim
        stretched = tuple(i + front for i, n in enumerate(leaf.shape) if n == 1 != full.shape[i + front])
        expected = full.sum(axis=(*range(front), *stretched)).reshape(leaf.shape)
        np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=0, max_size=4), st.data())
def test_reductions_over_any_axes(shape, data):
    x = np.random.default_rng(0).normal(size=shape)
    axis = data.draw(
        st.none() | st.sets(st.integers(0, len(shape) - 1)).map(tuple) if shape else st.none(), label="axis"
    )
    keepdims = data.draw(st.booleans(), label="keepdims")
    t = Tensor(x, requires_grad=True)
    y = t.sum(axis, keepdims)
    np.testing.assert_allclose(y.numpy(), x.sum(axis=axis, keepdims=keepdims), rtol=1e-12)
    y.backward(np.ones(y.shape))
    np.testing.assert_array_equal(t.grad.numpy(), np.ones(shape))
    nothing = np.prod([shape[a] for a in (range(len(shape)) if axis is None else axis)]) == 0
    for name in ("mean", "max", "min", "var"):
        if nothing:
            with pytest.raises(ValueError, match=f"{name}: x .* has no elements along axis"):
                getattr(t, name)(axis, keepdims=keepdims)
        else:
            expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
            np.testing.assert_allclose(getattr(t, name)(axis, keepdims=keepdims).numpy(), expected, atol=1e-14)


# ------------------------------------------------------------------------------------ errors
x23 = Tensor(np.zeros((2, 3)))
ERRORS = {
    "broadcast": (lambda: x23 + np.zeros((2, 4)), ValueError, r"add: x \(2, 3\) and y \(2, 4\).*axis -1 has 3 and 4"),
    "where shapes": (
        lambda: tn.where(np.ones(4, bool), x23, 0.0),
        ValueError,
        r"where: condition \(4,\) and x \(2, 3\)",
    ),
    "where condition": (
        lambda: tn.where(np.ones(3), x23, 0.0),
        TypeError,
        "where: condition has dtype float64; booleans",
    ),
    "matmul": (lambda: x23 @ x23, ValueError, r"matmul: x \(2, 3\) has 3 columns, y \(2, 3\) has 2 rows"),
    "matmul vector": (lambda: x23 @ np.zeros(2), ValueError, r"x \(2, 3\) has 3 columns, y \(2,\) has 2 rows"),
    "matmul batch": (
        lambda: tn.matmul(np.zeros((2, 1, 3)), np.zeros((3, 3, 1))),
        ValueError,
        "matmul: .* axis -3 has 2",
    ),
    "matmul number": (lambda: x23 @ 2.0, ValueError, "both operands need at least one axis"),
    "sum axis": (lambda: x23.sum(2), ValueError, r"sum: axis 2 does not exist, x \(2, 3\) has 2 axes"),
    "mean axis": (lambda: x23.mean((0, -3)), ValueError, "mean: axis -3 does not exist"),
    "twice": (lambda: x23.max((1, -1)), ValueError, "max: axis .* names an axis .* twice"),
    "empty mean": (lambda: tn.mean(np.zeros((0, 3)), 0), ValueError, r"mean: x \(0, 3\) has no elements along axis"),
    "empty argmax": (lambda: tn.argmax(np.zeros(0)), ValueError, "argmax: x .* has no elements"),
    "var": (lambda: x23[:1].var(0, ddof=1), ValueError, "var: n - ddof = 1 - 1 must be positive"),
    "reshape": (lambda: x23.reshape(4, -1), ValueError, r"reshape: x \(2, 3\) has 6 elements.*shape \(4, -1\)"),
    "reshape two": (lambda: x23.reshape(-1, -1), ValueError, "reshape: .* at most one may be -1"),
    "reshape -2": (lambda: x23.reshape(-2, -3), ValueError, "reshape"),
    "transpose": (
        lambda: x23.transpose(0, 0),
        ValueError,
        r"transpose: axes \(0, 0\) is not a permutation of the 2 axes",
    ),
    "transpose few": (lambda: x23.transpose(()), ValueError, "transpose"),
    "swapaxes": (lambda: x23.swapaxes(0, 2), ValueError, "swapaxes: axis 2 does not exist"),
    "squeeze": (lambda: x23.squeeze(0), ValueError, "squeeze: axis 0 of x .* has 2 elements"),
    "expand_dims": (lambda: x23.expand_dims(4), ValueError, "expand_dims: axis 4"),
    "broadcast_to": (lambda: x23.broadcast_to((2, 4)), ValueError, r"broadcast_to: x \(2, 3\) does not broadcast"),
    "sum_to": (lambda: tn.sum_to(x23, (4,)), ValueError, r"sum_to: shape \(4,\) does not broadcast to x \(2, 3\)"),
    "concat": (lambda: tn.concat([x23, x23.T]), ValueError, r"concat: arrays\[0\] \(2, 3\) and arrays\[1\] \(3, 2\)"),
    "concat nothing": (lambda: tn.concat([]), ValueError, "concat: no arrays given"),
    "stack": (lambda: tn.stack([x23, x23[0]]), ValueError, r"stack: arrays\[0\] \(2, 3\) and arrays\[1\] \(3,\)"),
    "pad": (lambda: tn.pad(x23, ((1, 1),)), ValueError, r"pad: widths .* for x \(2, 3\)"),
    "pad negative": (lambda: tn.pad(x23, ((1, 1), (0, -1))), ValueError, "pad: widths"),
    "index": (lambda: x23[2], IndexError, r"getitem: x \(2, 3\): index 2 is out of bounds"),
    "many indices": (lambda: x23[0, 0, 0], IndexError, r"getitem: x \(2, 3\): too many indices"),
    "scatter_add": (lambda: tn.scatter_add(x23, [2], 1.0), IndexError, r"scatter_add: x \(2, 3\): index 2 is out of"),
    "scatter_add, values": (
        lambda: tn.scatter_add(x23, [0, 1, 0], np.ones((2, 3))),
        ValueError,
        r"scatter_add: values \(2, 3\) do not broadcast to x\[index\] \(3, 3\) of x \(2, 3\)",
    ),
    "clip": (lambda: x23.clip(2, 1), ValueError, "clip: low 2 is above high 1"),
    "clip nothing": (lambda: x23.clip(), ValueError, "clip: low and high are both None"),
    "clip array": (lambda: x23.clip(np.zeros(3)), TypeError, "clip: low must be a number"),
    "softmax": (lambda: tn.softmax(x23, 5), ValueError, "softmax: axis 5 does not exist"),
    "no number": (lambda: tn.exp("a"), TypeError, "exp: x is a str; a Tensor, an array or a number"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_argument(name):
    wrong, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        wrong()


def test_saving_a_computed_array_loses_its_second_derivative():
    class Square(Function):
        def forward(self, x):
            self.save(2 * x)  # a constant for the second derivative: save x itself
            return x * x

        def backward(self, gy):
            return gy * self.saved[0]

    gradcheck(Square.apply, (normal(2),))
    with pytest.raises(GradientError):
        gradgradcheck(Square.apply, (normal(2),))


# ------------------------------------------------------------------------------------ imports
@pytest.mark.parametrize(
    "program",
    [
        "from tinynet.engine.tensor import Tensor; assert (Tensor([1, 1]) + 1).sum().item() == 4",
        "import tinynet.engine.basic_ops, tinynet as tn; assert (tn.tensor([1.0]) * 2).dtype == 'float32'",
        "import tinynet as tn; tn.Tensor; assert tn.tensor([1, 2]).sum().item() == 3",
        "import tinynet as tn, sys; tn.exp(1.0); assert not {'numba', 'scipy', 'matplotlib'} & set(sys.modules)",
        "import tinynet as tn; [getattr(tn, name) for name in tn.__all__]",
    ],
)
def test_tensors_have_operators_however_they_are_imported(program):
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_stub_of_tensor_lists_every_operator_and_method():
    """Editors and type checkers read operators.pyi. It lists what `basic_ops` and the ops attach, and nothing else."""

    def names(file: str, name: str) -> set[str]:
        tree = ast.parse(Path(basic_ops.__file__).with_name(file).read_text())
        (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        assigned = {target.id for s in body if isinstance(s, ast.Assign) for target in s.targets}
        return assigned | {s.name for s in body if isinstance(s, ast.FunctionDef)}

    of_a_class = {*Tensor.__slots__, "__module__", "__doc__", "__static_attributes__", "__firstlineno__"}
    of_a_class.add("__slotnames__")  # copy and pickle leave it there
    attached = set(vars(Tensor)) - names("tensor.py", "Tensor") - of_a_class
    assert names("operators.pyi", "Operators") == attached


# Elementwise operation: (its value in NumPy, its derivative).
ELEMENTWISE = {
    "neg": (np.negative, lambda x: -np.ones_like(x)),
    "abs": (np.abs, np.sign),
    "sign": (np.sign, np.zeros_like),
    "exp": (np.exp, np.exp),
    "log": (np.log, lambda x: 1 / x),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "floor": (np.floor, np.zeros_like),
    "ceil": (np.ceil, np.zeros_like),
    "round": (np.round, np.zeros_like),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's: log(-1000), exp(1000), sin(inf)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_extreme_values(name, dtype):
    """Overflow, poles, NaN, infinities and 0-d arrays give what NumPy gives; the gradient is that of the formula."""
    value, derivative = ELEMENTWISE[name]
    array = np.array([-1000, -1.5, -0.0, 0, 0.5, 1000, np.inf, -np.inf, np.nan], dtype)
    for x in (array, *(np.array(number, dtype) for number in array)):
        leaf = Tensor(x, requires_grad=True)
        y = getattr(tn, name)(leaf)
        np.testing.assert_array_equal(y.numpy(), value(x))
        assert (y.shape, y.dtype) == (x.shape, dtype)
        if y.requires_grad:
            (g,) = tn.grad(y, [leaf], np.ones_like(x))
            np.testing.assert_allclose(g.numpy(), derivative(x), rtol=1e-6)
            assert (g.shape, g.dtype) == (x.shape, dtype)
