"""Small differences in the engine that larger tests do not see: each test is for one kind of mistake."""

import numpy as np
import pytest

import tinynet as tn
from tinynet.backends import registry


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
