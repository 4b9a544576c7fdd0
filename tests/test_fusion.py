"""The fused conv, ELU and dropout gives the results of the three layers, and is not used if a user changed a layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_folders import assert_close, cast

import tinynet as tn
from tinynet import nn
from tinynet.backends.registry import implementation_kernel, implementations
from tinynet.ops._shared.epilogue import Epilogue
from tinynet.ops._shared.geometry import Geometry
from tinynet.ops.activations.entries import Elu
from tinynet.ops.conv2d import reference as conv_reference
from tinynet.ops.conv_elu_dropout import reference as fused_reference


def level(c_in=16, c_out=32, p=0.3):
    tn.seed(1)
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.ELU(alpha=0.8),
        nn.Dropout(p),
        nn.Conv2d(c_out, c_out, 3, padding=1),
        nn.ELU(),
    )


def images(shape=(2, 13, 18, 16)):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def one_by_one(model, x):
    for layer in model:
        x = layer(x)
    return x


def result_and_gradients(run, model, x):
    x = tn.tensor(x, requires_grad=True)
    y = run(model, x)
    y.backward(np.random.default_rng(4).standard_normal(y.shape).astype(x.dtype))
    return [y.numpy(), x.grad.numpy(), *(p.grad.numpy() for p in model.parameters())]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
def test_it_equals_the_layers_one_by_one(fused_calls, training, dtype):
    """Two steps, of which the second draws the next mask. Forward has the same bits; backward rounds otherwise."""
    tolerance = 8 * np.finfo(dtype).eps
    ours, theirs = (level().train(training).astype(dtype) for _ in range(2))
    for step in range(2):
        fused = result_and_gradients(nn.Module.__call__, ours, images().astype(dtype))
        plain = result_and_gradients(one_by_one, theirs, images().astype(dtype))
        assert len(fused_calls) == 2 * (step + 1)
        np.testing.assert_array_equal(fused[0], plain[0])
        for a, b in zip(fused, plain):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())
    np.testing.assert_array_equal(ours[2].random_state, theirs[2].random_state)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("fused", [False, True])
def test_groups_over_several_inputs(fused, backend):
    """A group has channels of two inputs, so the inputs have to be joined first."""
    parts = [tn.tensor(images((1, 5, 6, c)), requires_grad=True) for c in (3, 1)]
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ELU())
    with tn.use_backend(backend):
        results = []
        for x in (parts, tn.concat(parts, axis=3)):
            y = model(x) if fused else model[0](x)
            results.append([y, *tn.grad((y * y).sum(), [*parts, *model.parameters()])])
    for a, b in zip(*results):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"op": "elu", "forward": Elu.kernels.forward},
        {"op": "conv2d", "forward": implementation_kernel("conv2d", "forward", "reference")},
        {"op": "dropout", "forward": implementation_kernel("dropout", "forward", "reference")},
        {"op": "elu", "backward": Elu.kernels.backward},
    ],
)
def test_an_override_of_any_constituent_switches_it_off(fused_calls, change):
    change = dict(change)
    with tn.use_kernels(change.pop("op"), **change):
        level()(tn.tensor(images()))
    assert not fused_calls
    level()(tn.tensor(images()))
    assert len(fused_calls) == 2


def test_the_implementation_chosen_for_conv2d_is_the_one_that_runs():
    """Each version rounds differently, so the bits of the results show that three different versions ran."""
    x = tn.tensor(images((2, 16, 18, 16)))
    results = {}
    for name in ("winograd4", "winograd2", "blocked"):
        with tn.use_kernels("conv2d", name):
            results[name] = level()(x).numpy()
    assert len({y.tobytes() for y in results.values()}) == 3


def test_an_observer_sees_every_layer(fused_calls):
    seen = []
    with nn.observe(lambda module, inputs, output: seen.append(type(module).__name__)):
        level()(tn.tensor(images()))
    assert seen == ["Conv2d", "ELU", "Dropout", "Conv2d", "ELU", "Sequential"]
    assert not fused_calls


def test_a_subclass_is_left_alone(fused_calls):
    class Loud(nn.ELU):
        def forward(self, x):
            return 2 * super().forward(x)

    x = tn.tensor(images())
    model = level().eval()
    model.layers[4] = Loud()
    loud = model(x).numpy()
    assert len(fused_calls) == 1  # the first three layers
    np.testing.assert_allclose(loud, 2 * level().eval()(x).numpy(), rtol=1e-6)


def test_a_layer_whose_forward_was_replaced_is_left_alone(fused_calls):
    """A user traces a single layer by an attribute of that instance."""
    model, x, seen = level().eval(), tn.tensor(images()), []
    expected = model(x).numpy()
    elu = model[1]

    def traced(x):
        seen.append(x.shape)
        return type(elu).forward(elu, x)

    fused_calls.clear()
    elu.forward = traced
    np.testing.assert_array_equal(model(x).numpy(), expected)
    assert seen == [(2, 13, 18, 32)] and len(fused_calls) == 1, "the other two layers are still fused"


@pytest.mark.parametrize("op", ["elu", "dropout"])
def test_a_kernel_swapped_for_the_backward_pass_only_is_used(op):
    """Forward ran fused. The block surrounds backward() only, and the gradient must come from the student's kernel."""
    calls = []
    name = "backward" if op == "elu" else "forward"
    right = implementation_kernel(op, name, "reference")

    def doubled(*arrays, **parameters):
        calls.append(1)
        return 2 * right(*arrays, **parameters)

    gradients = []
    for swapped in ({}, {name: doubled}):
        tn.seed(1)
        model, x = nn.Sequential(*level()[:3]), tn.tensor(images(), requires_grad=True)
        y = model(x)
        with tn.use_kernels(op, **swapped):
            y.sum().backward()
        gradients.append(x.grad.numpy())
    assert len(calls) == 1
    np.testing.assert_allclose(gradients[1], 2 * gradients[0], rtol=0, atol=1e-5 * np.abs(gradients[0]).max())


@pytest.mark.parametrize(
    ("layer", "attribute", "value", "message"),
    [
        (1, "alpha", 0.0, "elu: alpha is 0.0; it must be positive"),
        (1, "alpha", float("nan"), "elu: alpha is nan; it must be positive"),
        (2, "p", 1.5, "dropout: p is 1.5; the probability of dropping must satisfy 0 <= p < 1"),
        (2, "p", 1.0, "dropout: p is 1.0; the probability"),
    ],
)
def test_parameters_that_elu_and_dropout_refuse_are_refused(layer, attribute, value, message):
    """The constructor checks its arguments, so the attribute is set later."""
    model = level()
    setattr(model[layer], attribute, value)
    for run in (nn.Module.__call__, one_by_one):
        with pytest.raises(ValueError, match=message):
            run(model, tn.tensor(images()))


@pytest.mark.parametrize("c_out", [1, 2, 4, 5])
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_a_1x1_convolution_to_few_channels_has_the_same_bits(fused_calls, c_out, p):
    """Such a convolution has its own loops, with input channels in the lanes."""
    tn.seed(1)
    model = nn.Sequential(nn.Conv2d(16, c_out, 1), nn.ELU(0.6), nn.Dropout(p))
    x = tn.tensor(images())
    with tn.random.frozen():
        np.testing.assert_array_equal(model(x).numpy(), one_by_one(model, x).numpy())
    assert len(fused_calls) == 1


SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 19))  # images, height, width
PARTS = st.lists(st.sampled_from([1, 2, 7, 8, 15, 16, 17, 32]), min_size=1, max_size=3)  # channels


@settings(deadline=None, max_examples=25)
@given(
    size=SHAPES,
    channels=PARTS,
    c_out=st.sampled_from([1, 2, 4, 5, 16, 17, 33]),
    kernel=st.sampled_from([1, 3]),
    padding=st.integers(0, 1),
    p=st.sampled_from([0.0, 0.3]),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_kernels_agree_with_the_reference_in_odd_shapes(size, channels, c_out, kernel, padding, p, bias, seed):
    """All versions, x in one or more parts."""
    rng = np.random.default_rng(seed)
    if min(size[1:]) < kernel:
        padding = 1  # or there would be no result
    geometry, epilogue = Geometry(padding=(padding, padding)), Epilogue(0.7, p, seed, stream=3, step=5)
    parts = tuple(rng.standard_normal((*size, c)) for c in channels)
    x = parts if len(parts) > 1 else parts[0]
    w = rng.standard_normal((kernel, kernel, sum(channels), c_out))
    b = rng.standard_normal(c_out) if bias else None
    expected = conv_reference.forward.definition(x, w, b, geometry, epilogue)
    for name in implementations("conv2d", "cpu"):
        forward = implementation_kernel("conv2d", "forward", "cpu", name)
        actual = forward(*cast((x, w, b), np.float32), geometry, epilogue)
        assert_close(actual, expected, np.float32, kernel * kernel * sum(channels), f"forward by {name}")
    gy = rng.standard_normal(expected.shape)
    gz = fused_reference.backward.definition(gy, expected, epilogue)
    backward = implementation_kernel("conv_elu_dropout", "backward", "cpu")
    assert_close(backward(*cast((gy, expected), np.float32), epilogue), gz, np.float32, 1, "backward")


def test_second_derivatives_go_through_it():
    """The gradient of |gradient|^2, by the fused and by the plain operations."""

    def of_gradient(run):
        model, x = (
            level(2, 3).astype(np.float64),
            tn.tensor(images((1, 4, 5, 2)).astype(np.float64), requires_grad=True),
        )
        (gx,) = tn.grad(run(model, x).sum() ** 2, [x], create_graph=True)
        (gx * gx).sum().backward()
        return [x.grad.numpy(), *(p.grad.numpy() for p in model.parameters() if p.grad is not None)]

    for a, b in zip(of_gradient(nn.Module.__call__), of_gradient(one_by_one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * np.abs(b).max())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_pass_as_through_the_three_layers(bad):
    model, x = level().eval(), images()
    x[1, 12, 17, 4] = bad
    fused, plain = model[:2](tn.tensor(x)).numpy(), one_by_one(model[:2], tn.tensor(x)).numpy()
    np.testing.assert_array_equal(np.isfinite(fused), np.isfinite(plain))
    assert np.isfinite(fused[0]).all() and np.isfinite(fused[1, :11]).all()
