"""The engine: gradients, the arrays that the graph keeps and frees, hooks, and errors."""

import gc
import weakref

import numpy as np
import pytest

import tinynet as tn
from tinynet.engine.tensor import Function, Tensor, grad
from tinynet.learn.gradcheck import gradcheck


def leaf(*values):
    return Tensor(np.array(values), requires_grad=True)


def gradient(t):
    return t.grad.numpy().tolist()


# ------------------------------------------------------------------------------------ graphs
def test_a_deep_graph_needs_no_recursion():
    def deep(x):
        for _ in range(50_000):
            x = -x
        return x

    x = leaf(1.0)
    deep(x).backward()
    assert gradient(x) == [1.0]
    deep(x)  # nor does deleting a graph without a backward pass


def test_a_stack_of_diamonds_costs_one_visit_each():
    """40 diamonds have 2^40 paths: only the topological order makes this end."""
    a = leaf(1.0)
    y = a
    for _ in range(40):
        y = y + y
    y.backward()
    assert gradient(a) == [2.0**40]


def test_a_gradient_is_complete_before_it_is_passed_on():
    """The long and the short way from loss to x meet again in h: h's function must run once, with the sum."""
    calls = []

    class Double(Function):
        def forward(self, x):
            return 2 * x

        def backward(self, gy):
            calls.append(gy.copy())
            return 2 * gy

    x = leaf(1.0)
    h = Double.apply(x)
    long_way = ((h * 3) * 5) * 7
    (h + long_way).backward()
    assert calls == [106.0] and gradient(x) == [212.0]


def test_two_backward_passes_add_up_and_none_starts_afresh():
    x = leaf(2.0)
    (x * x).backward()
    first = x.grad
    (x * 3).backward()
    assert gradient(x) == [7.0]
    assert first.numpy().tolist() == [4.0]  # a gradient that the user holds is not changed
    x.grad = None
    (x * 3).backward()
    assert gradient(x) == [3.0]


def test_no_axes():
    x = Tensor(np.float64(3.0), requires_grad=True)
    y = x * x
    assert y.shape == () and isinstance(y.data, np.ndarray) and y.item() == 9.0
    y.backward()
    assert x.grad.shape == () and float(x.grad) == 6.0 and int(y) == 9


def test_arrays_and_tensors_mix_in_either_order():
    x = Tensor(np.ones((2, 2)), requires_grad=True)
    for y in (np.eye(2) + x, np.eye(2) @ x, np.eye(2) - x, np.float64(2) * x, np.eye(2) / x):
        assert isinstance(y, Tensor) and y.requires_grad
    assert (np.eye(2) < x).numpy().tolist() == [[False, True], [True, False]]
    np.testing.assert_array_equal(np.asarray(x.detach() + 1), [[2, 2], [2, 2]])


# ------------------------------------------------------------------------------------ what is kept and freed
def test_the_graph_is_freed_and_a_second_backward_says_so():
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match=r"_Mul: the graph was freed by an earlier backward.*retain_graph=True"):
        y.backward()
    z = y + 1  # half of this graph is gone
    with pytest.raises(RuntimeError, match="the graph was freed"):
        z.backward()


def test_retain_graph():
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert gradient(x) == [8.0]
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_activations_and_gradients_are_freed_while_backward_goes_on():
    """When the gradient arrives at the first of three layers, the arrays of the other layers are freed.

    No function saved the output of the last layer, so it was freed before.
    """
    alive, activations, gradients = [], [], []

    def count(references):
        return sum(reference() is not None for reference in references)

    class Layer(Function):
        def forward(self, x):
            self.save(x)
            return x * 1.0

        def backward(self, gy):
            alive.append((count(activations), count(gradients)))
            gx = gy * 1.0
            gradients.append(weakref.ref(gx))
            return gx

    x = Tensor(np.ones(3), requires_grad=True)
    y = x
    for _ in range(3):
        y = Layer.apply(y)
        activations.append(weakref.ref(y))
    loss = y.sum()
    del y
    gc.disable()  # reference counting must free everything, without the garbage collector
    try:
        loss.backward()
    finally:
        gc.enable()
    assert alive == [(2, 0), (1, 1), (0, 1)]
    assert count(activations) == count(gradients) == 0


def test_a_result_that_is_kept_keeps_nothing_of_the_graph():
    """A script that keeps its losses must not keep every activation with them."""
    x = leaf(1.0, 2.0)
    h = x * 2
    array = weakref.ref(h.data)
    y = (h * h).sum()
    square = y.creator.inputs[0]
    del h
    assert array() is not None
    y.backward()
    assert array() is None and square.inputs is None


def test_the_graph_keeps_no_array_that_no_function_saved():
    x = leaf(1.0, 2.0)
    h = x + 1  # neither the sum nor exp, which saves its own output, needs the values of h
    array = weakref.ref(h.data)
    y = tn.exp(h)
    del h
    assert array() is None
    y.sum().backward()
    np.testing.assert_allclose(gradient(x), np.exp([2.0, 3.0]))


def test_an_output_tensor_that_was_deleted_is_still_differentiated_through():
    """exp saves its output array. The output Tensor is deleted before the second derivative is computed."""
    x = leaf(0.5)
    y = (tn.exp(2 * x) * 3).sum()  # only the two functions that saved it hold the output of exp
    first = tn.grad(y, x, create_graph=True)
    second = tn.grad(first, x, create_graph=True)
    np.testing.assert_allclose([first.item(), second.item()], [6 * np.exp(1.0), 12 * np.exp(1.0)])
    saved_and_changed = tn.exp(x)
    z = saved_and_changed + 1
    with tn.no_grad():
        saved_and_changed[...] = 0
    del saved_and_changed
    with pytest.raises(RuntimeError, match="changed in place"):
        tn.grad(z, x, create_graph=True)


def test_hooks_and_retain_grad_of_a_deleted_tensor():
    seen = []
    x = leaf(3.0)
    h = x * 2
    h.register_hook(lambda g: seen.append(g.item()))
    h.retain_grad()
    y = h * 5
    del h
    y.backward()
    assert seen == [5.0] and gradient(x) == [10.0]


def test_a_graph_that_is_dropped_is_freed_at_once():
    x = leaf(1.0)
    h = tn.exp(x)  # saves its own output, which must not make a reference cycle
    gone = weakref.ref(h)
    y = h * 2
    gc.disable()
    try:
        del h, y
        assert gone() is None
    finally:
        gc.enable()


def test_nothing_is_saved_when_no_gradient_is_asked_for():
    x = leaf(1.0)
    with tn.no_grad():
        y = tn.exp(x)
        assert not tn.is_grad_enabled()
    assert tn.is_grad_enabled() and not y.requires_grad and y.is_leaf
    with pytest.raises(RuntimeError, match="no history"):
        y.backward()

    kept = []

    class Save(Function):
        def forward(self, x):
            self.save(x)
            kept.append(self._saved)
            return x * 1

    Save.apply(Tensor(np.ones(1)))
    with tn.no_grad():
        Save.apply(x)
    assert kept == [(), ()]


def test_no_grad_ends_with_an_error_inside():
    with pytest.raises(ZeroDivisionError), tn.no_grad():
        raise ZeroDivisionError
    assert tn.is_grad_enabled()


def test_detach_stops_the_gradient_and_shares_the_memory():
    x = leaf(2.0)
    y = x * x.detach()
    y.backward()
    assert gradient(x) == [2.0]
    assert np.shares_memory(x.detach().numpy(), x.numpy()) and not x.detach().requires_grad


# ------------------------------------------------------------------------------------ hooks, retain_grad, grad()
def test_a_hook_is_called_once_with_the_complete_gradient():
    seen = []
    x = leaf(1.0)
    h = x * 2
    h.register_hook(lambda g: seen.append((g * x).requires_grad))  # an ordinary backward pass builds no graph
    h.register_hook(lambda g: seen.append(g.item()))
    (h + h * 3).backward()
    assert seen == [False, 4.0] and gradient(x) == [8.0]


def test_hooks_replace_in_order_and_can_be_removed():
    x = leaf(1.0)
    h = x * 2
    remove = h.register_hook(lambda g: g + 1)
    h.register_hook(lambda g: g * 10)
    h.backward(retain_graph=True)
    assert gradient(x) == [40.0]  # (1 + 1) * 10 * 2
    remove()
    x.grad = None
    h.backward()
    assert gradient(x) == [20.0]


def test_a_hook_on_a_leaf_changes_what_is_stored():
    x = leaf(3.0)
    x.register_hook(lambda g: g.clip(-1, 1))
    (x * 5).backward()
    assert gradient(x) == [1.0]


def test_a_hook_may_be_differentiated_through():
    x = leaf(3.0)
    h = x * x
    remove = h.register_hook(lambda g: g * h)
    g = tn.grad(h, x, create_graph=True)  # h * 2x = 2x^3
    remove()
    g.backward()
    assert gradient(x) == [54.0]


def test_wrong_hooks_are_refused():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        x.detach().register_hook(print)
    for wrong, message in (
        (lambda g: g.sum(), r"hook returned a gradient float64\[\], the tensor is float64\[2\]"),
        (lambda g: g.astype("float32"), r"hook returned a gradient float32\[2\]"),
    ):
        remove = x.register_hook(wrong)
        with pytest.raises(ValueError, match=message):
            (x * 1).sum().backward()
        remove()


def test_the_gradient_of_a_weight_arrives_before_the_layers_below_it():
    """So that several processes can exchange it while the backward pass goes on."""
    a, b, c = leaf(2.0), leaf(3.0), leaf(5.0)
    h = a * 7
    seen = []
    for name, tensor in {"a": a, "b": b, "c": c, "h": h}.items():
        tensor.register_hook(lambda g, name=name: seen.append((name, g.item())))
    (b * (h * c)).backward()  # a leaf is the first argument of one product, the second of another
    assert seen == [("b", 70.0), ("c", 42.0), ("h", 15.0), ("a", 105.0)]


def test_the_gradient_of_a_weight_that_is_used_twice_arrives_once():
    a, c = leaf(2.0), leaf(5.0)
    seen = []
    c.register_hook(lambda g: seen.append(g.item()))
    (c * (a * c)).backward()
    assert seen == [20.0]


def test_retain_grad():
    x = leaf(2.0)
    h = (x * x).retain_grad()
    other = x * 1
    (h * other).backward()
    assert gradient(h) == [2.0] and other.grad is None


def test_grad_of_leaves_and_others_leaves_no_trace():
    x, y, unused = leaf(2.0), leaf(3.0), leaf(5.0)
    h = x * y
    z = h * h
    gx, gh, gu = tn.grad(z, [x, h, unused])
    assert (gx.item(), gh.item(), gu.item()) == (36.0, 12.0, 0.0)
    assert x.grad is None and h.grad is None
    assert isinstance(tn.grad(x * 1, x), Tensor)
    with pytest.raises(ValueError, match=r"grad: x\[1\] must be a Tensor that requires a gradient"):
        tn.grad(x * 1, [x, x.detach()])


def test_higher_derivatives():
    x = leaf(2.0, 3.0)
    first = tn.grad((x**4).sum(), x, create_graph=True)
    second = tn.grad(first.sum(), x, create_graph=True)
    third = tn.grad(second.sum(), x)
    np.testing.assert_allclose(first.numpy(), [32, 108])
    np.testing.assert_allclose(second.numpy(), [48, 108])
    np.testing.assert_allclose(third.numpy(), [48, 72])
    assert not third.requires_grad


def test_backward_with_create_graph_adds_up_too():
    x = leaf(3.0)
    (x * x).backward(create_graph=True)
    (x * x).backward(create_graph=True)
    x.grad.backward()  # grad = 4x; its own gradient lands in the same place
    assert gradient(x) == [16.0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_share_no_memory(create_graph):
    x, y = leaf(1.0), leaf(2.0)
    upstream = Tensor(np.array([3.0]))
    (x + y).backward(upstream, create_graph=create_graph)  # one array is the gradient of both
    with tn.no_grad():
        x.grad[0] = 0.0
    assert gradient(y) == [3.0] and upstream.item() == 3.0


def test_the_upstream_gradient():
    x = leaf(1.0, 2.0)
    y = x * x
    with pytest.raises(RuntimeError, match=r"shape \(2,\); only a single element has an obvious gradient"):
        y.backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\), the tensor has \(2,\)"):
        y.backward(np.ones(3))
    with pytest.raises(TypeError, match="gradient is float32, the tensor is float64"):
        y.backward(Tensor(np.ones(2, np.float32)))
    y.backward(np.array([1.0, 10.0]))
    assert gradient(x) == [2.0, 40.0]
    upstream = leaf(3.0, 5.0)  # with create_graph the result depends on it
    g = tn.grad(x * x, x, upstream, create_graph=True)
    assert tn.grad(g.sum(), upstream).numpy().tolist() == [2.0, 4.0]


# ------------------------------------------------------------------------------------ in-place changes
def changes():
    """Ways to change x in place through the Tensor API."""

    def element(x):
        with tn.no_grad():
            x[0] = 7

    def through_a_slice(x):
        with tn.no_grad():
            x[:1][0] = 7

    def through_a_reshaped_view(x):
        with tn.no_grad():
            x.reshape(2, 1)[0] = 7

    def through_detach(x):
        x.detach()[0] = 7

    def through_tensor_of_tensor(x):
        tn.tensor(x)[0] = 7

    def as_an_optimizer_does(x):
        with tn.no_grad():
            x.data -= 0.1
            x.changed_in_place()

    return [f for f in locals().values() if callable(f)]


@pytest.mark.parametrize("change", changes(), ids=lambda f: f.__name__)
def test_a_change_in_place_after_saving_is_refused(change):
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    change(x)
    with pytest.raises(RuntimeError, match=r"_Mul: a tensor of shape \(2,\).*was changed in place after the forward"):
        y.backward()


def test_a_changed_view_is_refused_when_its_base_changes():
    x = Tensor(np.array([1.0, 2.0]))
    w = leaf(3.0)
    y = (x[:1] * w).sum()
    x[0] = 5
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_a_changed_output_is_refused():
    x = leaf(1.0)
    y = tn.exp(x)
    with tn.no_grad():
        y[0] = 0
    with pytest.raises(RuntimeError, match=r"_Exp: .* changed in place"):
        y.backward()


def test_harmless_changes_in_place_are_allowed():
    x = leaf(1.0, 2.0)
    y = (x + 1).sum()  # a sum saves nothing
    with tn.no_grad():
        x[0] = 7
    y.backward()
    (x * x).sum().backward()  # a new graph sees the new values
    assert gradient(x) == [15.0, 5.0]
    copy = Tensor(x.numpy().copy())
    z = (x * x).sum()
    copy[0] = 0  # other memory
    z.backward()


def test_a_change_while_recording_is_refused_at_once():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="in-place change of a tensor that requires a gradient"):
        x.changed_in_place()


def test_raw_arrays_are_watched_in_debug_mode():
    with tn.check_saved_arrays():
        x = leaf(1.0, 2.0)
        y = (x * x).sum()
        x.data[0] = 7
        with pytest.raises(RuntimeError, match="_Mul: the memory of an array saved for the gradient was overwritten"):
            y.backward()
        array = np.array([1.0, 2.0])
        z = (x * array).sum()
        array[:] = 0
        with pytest.raises(RuntimeError, match="overwritten"):
            z.backward()
        (x * x).sum().backward()
        for shape in ((0, 3), (), (2, 3)):
            x = Tensor(np.ones(shape), requires_grad=True)
            (x.T * x.T).sum().backward()


# ------------------------------------------------------------------------------------ Functions written by users
class Square(Function):
    def forward(self, x):
        self.save(x)
        return x * x

    def backward(self, gy):
        (x,) = self.saved
        return 2 * x * gy


def test_a_function_in_five_lines():
    x = leaf(3.0)
    y = Square.apply(x)
    first = tn.grad(y, x, create_graph=True)
    assert (y.item(), first.item(), tn.grad(first, x).item()) == (9.0, 6.0, 2.0)
    assert Square.apply(np.array([3.0])).tolist() == [9.0]
    gradcheck(Square.apply, (np.array([1.0, -2.0]),))


@pytest.mark.parametrize(
    "returned, message",
    [
        (lambda gy: gy, r"Odd.backward returned 1 gradients, forward has 2 arguments"),
        (lambda gy: (gy, gy, gy), r"Odd.backward returned 3 gradients"),
        (lambda gy: (gy, gy), r"Odd.backward returned a gradient float64\[2\] where input 1 is float64\[1\]"),
        (lambda gy: (gy.astype("float32"), None), r"a gradient float32\[2\] where input 0 is float64\[2\]"),
        (lambda gy: None, r"Odd.backward returned None: does it, or a kernel"),
    ],
)
def test_gradients_that_cannot_be_right_are_named(returned, message):
    class Odd(Function):
        def forward(self, x, y):
            return x + y

        def backward(self, gy):
            return returned(gy)

    with pytest.raises(RuntimeError, match=message):
        Odd.apply(leaf(1.0, 2.0), leaf(1.0)).sum().backward()


def test_a_forgotten_return_is_no_missing_gradient():
    """A missing `return` gives None, which means "no gradient": training would silently never change that weight."""

    class Forgetful(Function):
        def forward(self, x):
            x * 2

    for x in (leaf(1.0), np.ones(1)):
        with pytest.raises(TypeError, match=r"Forgetful\.forward returned None"):
            Forgetful.apply(x)
    x, w = (Tensor(np.ones(shape), requires_grad=True) for shape in ((1, 3, 3, 2), (3, 3, 2, 1)))
    with (
        tn.use_kernels("conv2d", backward_weight=lambda x, gy, kernel_size, geometry: None),
        pytest.raises(TypeError, match=r"BackwardWeight\.forward returned None: does it, or a kernel"),
    ):
        tn.conv2d(x, w).sum().backward()


def test_none_is_no_gradient_and_needs_grad_says_what_is_wanted():
    wanted = []

    class First(Function):
        def forward(self, x, y, factor, *, shift):
            wanted.append(self.needs_grad)
            return x * factor + shift

        def backward(self, gy):
            return gy * 2.0, None, None

    x, y = leaf(1.0), leaf(1.0)
    z = First.apply(x, y, 2.0, shift=5.0)
    z.backward()
    assert z.item() == 7.0 and gradient(x) == [2.0] and y.grad is None
    First.apply(x, y.detach(), 2.0, shift=0.0)
    First.apply(np.ones(1), np.ones(1), 2.0, shift=0.0)
    assert wanted == [(True, True, False), (True, False, False), (False, False, False)]


def test_missing_methods_are_named():
    class Nothing(Function):
        pass

    class NoBackward(Function):
        def forward(self, x):
            return x * 1

    with pytest.raises(NotImplementedError, match="Nothing needs a forward"):
        Nothing.apply(leaf(1.0))
    with pytest.raises(NotImplementedError, match="NoBackward has no backward"):
        NoBackward.apply(leaf(1.0)).backward()


# ------------------------------------------------------------------------------------ Tensor
def test_making_tensors():
    assert tn.tensor([1.0, 2.0]).dtype == np.float32 and tn.tensor([1, 2]).dtype == np.int64
    assert tn.tensor(3.0).dtype == np.float32 and tn.tensor([1, 2], dtype="float64").dtype == np.float64
    array = np.ones(2)
    assert tn.tensor(array).data is array
    assert tn.tensor(array, requires_grad=True).requires_grad
    with pytest.raises(TypeError, match="already a Tensor"):
        Tensor(Tensor(array))
    with pytest.raises(TypeError, match="objects"):
        tn.tensor([None, 1])


def test_only_floats_can_require_a_gradient():
    with pytest.raises(TypeError, match="requires_grad needs a floating-point dtype, the tensor has int64"):
        Tensor(np.arange(3), requires_grad=True)
    with pytest.raises(TypeError, match="the tensor has bool"):
        Tensor(np.array([True])).requires_grad_()


def test_freezing():
    x = leaf(1.0)
    x.requires_grad_(False)
    assert not (x * 2).requires_grad
    assert x.requires_grad_() is x and (x * 2).requires_grad
    with pytest.raises(RuntimeError, match="only a leaf can be switched"):
        (x * 2).requires_grad_(False)


def test_attributes_and_repr():
    x = Tensor(np.zeros((2, 3), np.float32), requires_grad=True)
    assert (x.shape, x.ndim, x.size, x.dtype, x.device, len(x)) == ((2, 3), 2, 6, np.float32, "cpu", 2)
    assert repr(x).startswith("tensor([[0., 0., 0.]") and "float32" in repr(x) and "requires_grad=True" in repr(x)
    assert x.to("cpu") is x
    with pytest.raises(ValueError, match="no device 'tpu'"):
        x.to("tpu")
    with pytest.raises(ValueError, match=r"truth value of a tensor of shape \(2, 3\) is ambiguous"):
        bool(x)
    with pytest.raises(ValueError, match=r"item: the tensor has shape \(2, 3\)"):
        x.item()
    with pytest.raises(TypeError, match="no axes"):
        len(x[0, 0])


# ------------------------------------------------------------------------------------- extra outputs, backward_graph
class LargestOfRow(Function):
    """The largest element of each row; where it was found is an extra output."""

    def forward(self, x):
        self.save(x.argmax(axis=1))
        self.shape = x.shape
        return x.max(axis=1), x.argmax(axis=1)

    def backward(self, gy):
        gx = np.zeros(self.shape, gy.dtype)
        gx[np.arange(len(gx)), self.saved[0]] = gy
        return gx


def test_a_function_may_return_extra_outputs_without_a_gradient():
    data = np.array([[1.0, 5.0, 2.0], [7.0, 0.0, 3.0]])
    x = Tensor(data, requires_grad=True)
    y, where = LargestOfRow.apply(x)
    assert isinstance(where, Tensor) and not where.requires_grad
    np.testing.assert_array_equal(where.data, [1, 0])
    y.backward(np.array([10.0, 20.0]))
    np.testing.assert_array_equal(x.grad.data, [[0, 10, 0], [20, 0, 0]])
    y, where = LargestOfRow.apply(data)
    assert type(y) is type(where) is np.ndarray, "arrays in, arrays out"


def test_backward_graph_runs_where_the_gradient_is_differentiated_again():
    ran = []

    class Cube(Function):
        def forward(self, x):
            self.save(x)
            return x**3

        def backward(self, gy):
            ran.append("backward")
            return 3 * self.saved[0] ** 2 * gy

        def backward_graph(self, gy):
            ran.append("graph")
            return 3 * self.saved[0] ** 2 * gy

    x = Tensor(np.array([2.0]), requires_grad=True)
    first = grad(Cube.apply(x), x, create_graph=True)
    assert first.item() == 12 and ran == ["graph"]
    assert grad(first, x).item() == 12
    assert grad(Cube.apply(x), x).item() == 12 and ran == ["graph", "backward"]
