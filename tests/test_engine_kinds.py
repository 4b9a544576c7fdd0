"""Small differences in the engine that larger tests do not see: each test is for one kind of mistake."""

import copy
import math
import pickle
import threading

import numpy as np
import pandas as pd
import pytest

import tinynet as tn
from tinynet.backends import registry
from tinynet.ops.conv2d import reference


def leaf(*values):
    return tn.tensor(np.array(values), requires_grad=True)


def test_every_change_in_place_counts():
    """A version that is set to 1, not counted, would miss the change of a tensor that was changed before."""
    x, w = tn.tensor(np.array([1.0, 2.0])), leaf(3.0)
    x[0] = 5
    y = (x * w).sum()
    x[0] = 6
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_a_slice_of_a_slice_is_a_view():
    """NumPy's `.base` is the owner of the memory, so it is not the array that was sliced."""
    x, w = tn.tensor(np.arange(6.0).reshape(2, 3)[:, 1:]), leaf(3.0)
    y = (x * w).sum()
    x[:1][0] = 7
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


@pytest.mark.parametrize("op", [tn.max, tn.min])
@pytest.mark.parametrize("axis", [(0, 1), (1, 0), None])
def test_the_first_of_equal_elements_in_row_major_order_gets_the_gradient(op, axis):
    x = leaf([0.0, 1.0], [1.0, 0.0]) if op is tn.max else leaf([1.0, 0.0], [0.0, 1.0])
    op(x, axis).backward()
    assert x.grad.numpy().tolist() == [[0, 1], [0, 0]]


def test_the_gradient_of_clip_passes_at_both_limits():
    x = leaf(-1.1, -1.0, 0.0, 2.0, 2.1)
    x.clip(-1, 2).sum().backward()
    assert x.grad.numpy().tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("ddof", [0, 1, 2, 3])
def test_var_divides_by_n_minus_ddof(ddof):
    x = np.array([1.0, 2.0, 4.0, 9.0, 3.0])
    np.testing.assert_allclose(tn.var(x, ddof=ddof), x.var(ddof=ddof))


@pytest.mark.parametrize("shape", [(1, 6), (3, 2), (6,), (2, 3, 1)])
@pytest.mark.parametrize("convert", [np.asarray, tn.tensor])
def test_an_upstream_gradient_of_another_shape_and_equal_size_is_refused(shape, convert):
    x = tn.tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(ValueError, match="gradient has shape"):
        (x * 2).backward(convert(np.ones(shape)))


@pytest.mark.parametrize(("create", "retain", "kept"), [(True, None, True), (True, False, False), (False, True, True)])
def test_retain_graph_overrules_create_graph(create, retain, kept):
    x = leaf(3.0)
    y = x * x
    y.backward(create_graph=create, retain_graph=retain)
    if kept:
        y.backward()
        assert x.grad.item() == 12
    else:
        with pytest.raises(RuntimeError, match="freed"):
            y.backward()


def test_use_backend_restores_backend_and_precision(monkeypatch):
    monkeypatch.setattr("tinynet.backends.cusim.compiler", lambda: None)  # nothing is compiled
    inside = []

    def state():
        return tn.backend(), registry._precision.get()

    with tn.use_backend("cuda-sim", precision="tf32"):
        with tn.use_backend("cpu"):
            inside.append(state())
        inside.append(state())
        with pytest.raises(ZeroDivisionError), tn.use_backend("reference"):
            raise ZeroDivisionError
        inside.append(state())
    assert inside == [("cpu", "float32"), ("cuda-sim", "tf32"), ("cuda-sim", "tf32")]
    assert state() == ("cpu", "float32")


@pytest.mark.parametrize("convert", [float, math.exp, np.float64, lambda x: [float(x)]])
def test_a_python_number_of_a_tensor_that_needs_a_gradient_warns(convert, recwarn):
    x = leaf(2.0)
    with pytest.warns(UserWarning, match=r"has no gradient.*x.item\(\).*tn.exp"):
        convert(x)
    recwarn.clear()
    x.item(), convert(x.detach()), f"{x.sum():.3f}", round(x, 2)
    with tn.no_grad():
        convert(x)
    assert not recwarn.list


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_tensor_with_history_is_not_copied_without_it(send):
    with pytest.raises(TypeError, match=r"would lose its graph; take x.detach\(\)"):
        send(leaf(2.0) * 2)
    send((leaf(2.0) * 2).detach())


def test_kernels_and_public_functions_are_pickled_by_name():
    for function in (reference.forward, tn.conv2d, tn.tensor, tn.equal, tn.elu):
        assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("make", [np.matrix, pd.DataFrame, lambda x: np.array(x).view(np.recarray)])
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_classes_with_operators_of_their_own_become_plain_arrays(make):
    """`*` of two np.matrix is a matrix product."""
    x = make([[1.0, 2.0], [3.0, 4.0]])
    assert type(tn.tensor(x).numpy()) is type(tn.exp(pd.Series([1.0]))) is np.ndarray
    assert (tn.tensor(x) * tn.tensor(x)).numpy().tolist() == [[1, 4], [9, 16]]


def test_new_data_is_noticed_by_a_graph_of_the_gradient():
    x = leaf(3.0)
    y = x * x
    x.data = np.array([9.0])
    with pytest.raises(RuntimeError, match="changed in place"):
        tn.grad(y, x, create_graph=True)


def test_masked_indices_and_formats_of_many_elements_are_refused():
    x = leaf(1.0, 2.0)
    with pytest.raises(TypeError, match="getitem: index is a masked array"):
        x[np.ma.array([0, 1], mask=[False, True])]
    with pytest.raises(TypeError, match=r"format: '.2f' is for one element, the tensor has shape \(2,\)"):
        f"{x:.2f}"


@pytest.mark.parametrize("foreign", [np.ma.array, lambda x: x.astype("U4"), lambda x: x.astype(object)])
@pytest.mark.parametrize(
    "use",
    [
        lambda v: tn.tensor(np.zeros(2)).__setitem__(slice(None), v),
        lambda v: (leaf(1.0, 2.0) * 2).backward(v),
        lambda v: tn.batch_norm(np.ones((3, 2)), np.ones(2), np.ones(2), v, np.ones(2)),
    ],
    ids=["x[...] = value", "backward", "batch_norm"],
)
def test_foreign_values_are_refused(use, foreign):
    use(np.ones(2))
    with pytest.raises(TypeError, match=r"needed|masked array"):
        use(foreign(np.ones(2)))


def test_a_new_thread_begins_with_the_defaults():
    seen = []
    with tn.no_grad(), tn.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append((tn.is_grad_enabled(), tn.backend())))
        thread.start()
        thread.join()
        seen.append((tn.is_grad_enabled(), tn.backend()))
    assert seen == [(True, "cpu"), (False, "reference")]
