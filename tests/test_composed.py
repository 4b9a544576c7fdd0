"""Composed operations and new tensors: what the tables of test_basic_ops.py and test_bad_input.py do not ask."""

import re

import numpy as np
import pytest

import tinynet as tn
from tinynet.engine.tensor import Tensor


@pytest.mark.parametrize("op", [tn.norm, lambda x: tn.norm(x, 3), tn.std], ids=["norm", "norm 3", "std"])
def test_a_root_of_zero_has_the_gradient_zero(op):
    x = tn.zeros(4, requires_grad=True)
    op(x).backward()
    assert op(x).item() == 0 and x.grad.tolist() == [0, 0, 0, 0]


def test_norm_of_large_float32_does_not_overflow():
    y = tn.norm(np.full(4, 1e30, np.float32))
    assert y.dtype == np.float32 and y == np.float32(2e30)


def test_cumsum_of_float32_is_summed_in_float64():
    x = np.full(300_000, 0.1, np.float32)
    np.testing.assert_allclose(tn.cumsum(x, 0)[-1], 300_000 * np.float64(np.float32(0.1)), rtol=1e-7)


def test_rounding():
    x = tn.tensor([-1.5, 0.5, 2.5], requires_grad=True)
    assert (
        tn.floor(x).tolist() == [-2, 0, 2] and tn.ceil(x).tolist() == [-1, 1, 3] and tn.round(x).tolist() == [-2, 0, 2]
    )
    assert not tn.floor(x).requires_grad and tn.floor(tn.tensor([7])).dtype == np.int64


def test_integers():
    i = tn.tensor([[3, 1], [2, 4]])
    assert i.prod().item() == 24 and tn.prod(np.full(2, 200, np.uint8)) == 40_000
    assert i.cumsum(0).tolist() == [[3, 1], [5, 5]] and i.norm().dtype == i.std().dtype == np.float32
    assert tn.prod(tn.zeros(0)).item() == 1 and tn.tensor(3).tolist() == 3


def test_order_of_ties_and_nan():
    x = tn.tensor([2.0, np.nan, 1.0, 2.0])
    assert tn.sort(x)[1].tolist() == [2, 0, 3, 1] and tn.sort(x, descending=True)[1].tolist() == [1, 0, 3, 2]
    values, indices = tn.topk(tn.tensor([[1.0, 5.0, 3.0]], requires_grad=True), 2)
    assert values.tolist() == [[5, 3]] and indices.tolist() == [[1, 2]]
    assert values.requires_grad and not indices.requires_grad
    with pytest.raises(ValueError, match=r"topk: k is 4; axis 1 of x \(1, 3\) has 3 elements"):
        tn.topk(np.ones((1, 3)), 4)


def test_clone_has_memory_of_its_own_and_cat_is_concat():
    x = tn.ones(2, requires_grad=True)
    y = x.clone()
    y.sum().backward()
    assert not np.shares_memory(x.data, y.data) and x.grad.tolist() == [1, 1]
    assert tn.cat([x, y], axis=0).shape == (4,)


@pytest.mark.parametrize(
    ("formula", "shapes"),
    [
        ("ij,jk->ik", [(2, 3)]),
        ("ij->i", [(2, 3, 4)]),
        ("ij,jk->ik", [(2, 3), (4, 2)]),
        ("ii->i", [(2, 2)]),
        ("...i->i", [(2, 2, 2, 2)]),
        ("ij->k", [(2, 2)]),
        ("ij->ii", [(2, 2)]),
        ("ij,jk", [(2, 2), (2, 2)]),
    ],
)
def test_formulas_that_do_not_fit(formula, shapes):
    with pytest.raises(ValueError, match=re.escape(f"einsum: {formula!r} does not fit arrays of the shapes {shapes}")):
        tn.einsum(formula, *(np.ones(shape) for shape in shapes))


# ---------------------------------------------------------------------------------------- new tensors
@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (lambda: tn.zeros(2, 3), np.zeros((2, 3), np.float32)),
        (lambda: tn.ones((2, 3), dtype=int), np.ones((2, 3), int)),
        (lambda: tn.zeros(3), np.zeros(3, np.float32)),
        (lambda: tn.full((2,), 7.0), np.full(2, 7, np.float32)),
        (lambda: tn.full(2, 7), np.full(2, 7)),
        (lambda: tn.zeros_like(tn.tensor([[1, 2]])), np.zeros((1, 2), int)),
        (lambda: tn.ones_like(np.zeros(2)), np.ones(2)),
        (lambda: tn.eye(2, 3), np.eye(2, 3, dtype=np.float32)),
        (lambda: tn.arange(3), np.arange(3)),
        (lambda: tn.arange(1, 2, 0.25), np.arange(1, 2, 0.25, np.float32)),
        (lambda: tn.arange(2.0), np.arange(2, dtype=np.float32)),
        (lambda: tn.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=np.float32)),
    ],
)
def test_new_tensors(actual, expected):
    x = actual()
    assert isinstance(x, Tensor) and x.dtype == expected.dtype and not x.requires_grad
    np.testing.assert_array_equal(x.numpy(), expected)


def test_random_tensors_follow_the_seed():
    def drawn():
        tn.seed(3)
        return [tn.rand(500), tn.randn(20, 25), tn.randint(-2, 3, (500,)), tn.randn(500)]

    first, again = drawn(), drawn()
    assert all((x == y).all() for x, y in zip(first, again)) and not (first[1].flatten() == first[3]).any()
    uniform, normal, integers, _ = (x.numpy() for x in first)
    assert uniform.dtype == normal.dtype == np.float32 and integers.dtype == np.int64
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.05
    assert abs(normal.mean()) < 0.15 and abs(normal.std() - 1) < 0.1 and set(integers) == {-2, -1, 0, 1, 2}
    assert tn.randn(2, requires_grad=True).is_leaf and tn.zeros(2, requires_grad=True).requires_grad
