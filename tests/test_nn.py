"""Modules, layers, initial values and the summary."""

import subprocess
import sys
from collections import deque

import numpy as np
import pytest
from op_folders import missing
from scipy import special

import tinynet as tn
from tinynet import nn, random
from tinynet.training.io import load_checkpoint, load_weights, save_checkpoint, save_weights


def tensor(rng, *shape, dtype=np.float32):
    return tn.Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


@pytest.fixture
def rng():
    tn.seed(7)
    return np.random.default_rng(7)


class Residual(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.scale = nn.Parameter(np.full(1, 0.5, dtype=np.float32))

    def forward(self, x):
        return x + self.scale * self.conv(x)


class Branches(nn.Module):
    """Parameters of its own, a list of modules, and a layer used twice."""

    buffer_names = ("count",)

    def __init__(self):
        self.blocks = [nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 4), nn.ELU())]
        self.again = self.blocks[0]
        self.count = np.zeros(2)

    def forward(self, x):
        return self.blocks[1](self.again(self.blocks[0](x)))


def test_importing_the_layers_is_light():
    heavy = ("numba", "scipy", "matplotlib", "skimage", "cupy")
    program = f"import sys, tinynet.nn, tinynet.training.io; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------------- Module
def test_parameters_are_found_by_name_in_lists_and_only_once():
    residual = Residual()
    residual.mean = tn.Tensor(np.zeros(3))  # a plain tensor is not a parameter
    assert [name for name, _ in residual.named_parameters()] == ["scale", "conv.weight", "conv.bias"]
    model = Branches()
    names = [name for name, _ in model.named_parameters()]
    assert names == ["blocks.0.weight", "blocks.0.bias", "blocks.1.0.weight", "blocks.1.0.bias"]
    assert len(model.parameters()) == 4
    assert [name for name, _ in model.named_modules()] == ["", "blocks.0", "blocks.1", "blocks.1.0", "blocks.1.1"]
    assert [name for name, _ in model.named_buffers()] == ["count"] and model.buffers()[0] is model.count


class Nested(nn.Module):
    """Modules and parameters in every kind of container, some of them twice."""

    def __init__(self):
        self.w = [nn.Parameter(np.ones(1, np.float32)), (nn.Parameter(np.ones(2, np.float32)),)]
        self.blocks = {"a": [nn.Linear(1, 1), [nn.BatchNorm2d(1)]], "b": {"c": (nn.Dropout(0.5),)}}
        self.list = nn.ModuleList([nn.Linear(1, 1, bias=False)])
        self.dict = nn.ModuleDict({"x": nn.Linear(1, 1, bias=False)})
        self.again = [self.blocks["a"][0], self.w[0], self]
        self.queue = deque([nn.Linear(1, 1, bias=False)])
        self.activation = lambda x: self.list[0](x)
        self.other = [1, "two", None, {3}, np.ones(3), tn.tensor([1.0])]


NESTED = [
    *("w.0", "w.1.0", "blocks.a.0.weight", "blocks.a.0.bias", "blocks.a.1.0.gamma", "blocks.a.1.0.beta"),
    *("list.0.weight", "dict.x.weight", "queue.0.weight"),
]


def test_everything_reaches_what_is_in_nested_containers():
    model = Nested()
    assert [name for name, _ in model.named_parameters()] == NESTED
    model.list.append(nn.Linear(1, 1, bias=False))
    model.dict["y"] = nn.Linear(1, 1, bias=False)
    model.blocks["b"]["d"] = [nn.Linear(1, 1, bias=False)]
    names = [*NESTED, "list.1.weight", "dict.y.weight", "blocks.b.d.0.weight"]
    assert sorted(name for name, _ in model.named_parameters()) == sorted(names)
    buffers = ["blocks.a.1.0.running_mean", "blocks.a.1.0.running_var", "blocks.b.c.0.random_state"]
    assert [name for name, _ in model.named_buffers()] == buffers
    assert set(model.state_dict()) == {*names, *buffers}
    assert not any(m.training for m in model.eval().modules()) and len(model.modules()) == 12
    assert {type(child).__name__ for child in model.children()} >= {"ModuleList", "ModuleDict", "Dropout"}
    model.astype(np.float64).freeze()
    assert all(p.dtype == np.float64 and not p.requires_grad for p in model.parameters())
    assert "dict: ModuleDict()\n    x: Linear" in repr(model) and "blocks.a.1.0: BatchNorm2d" in repr(model)
    other = Nested()
    with pytest.raises(ValueError, match=r"unknown to the model: blocks\.b\.d\.0\.weight, list\.1"):
        other.load_state_dict(model.state_dict())
    model.unfreeze()
    model.w[0].grad = tn.Tensor(np.ones(1))
    model.zero_grad()
    assert model.w[0].grad is None


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({nn.ReLU()}, TypeError, "x is a set of modules or parameters; use a list"),
        ([{nn.Parameter(np.ones(1))}], TypeError, "x.0 is a set of modules"),
        (np.array([nn.Tanh(), None]), TypeError, "x is a ndarray of modules"),
        (
            {1: nn.Linear(1, 1), "1": nn.Linear(1, 1)},
            ValueError,
            r"several arrays are named \['x.1.bias'",
        ),
    ],
)
def test_containers_without_clear_names_are_refused(value, error, message):
    model = nn.Module()
    model.x = value
    with pytest.raises(error, match=message):
        model.state_dict()


@pytest.mark.parametrize("value", [nn.Linear(1, 1), [nn.Linear(1, 1)], nn.Parameter(np.ones(1))])
def test_parameters_of_a_class_are_refused(value):
    with pytest.raises(TypeError, match=r"Net: part(\.0)? is an attribute of the class; set self.part in __init__"):
        type("Net", (nn.Module,), {"part": value})
    assert type("Net", (nn.Module,), {"activation": nn.ReLU()})().parameters() == []


def test_lists_and_dicts_of_modules():
    a, b, c = nn.ReLU(), nn.Tanh(), nn.ELU()
    for kind in (nn.ModuleList, lambda modules: nn.Sequential(*modules)):
        modules = kind([a, b])
        assert modules.append(c) is modules and list(modules) == [a, b, c] and len(modules) == 3
        assert type(modules[1:]) is type(modules) and list(modules[1:]) == [b, c]
        modules[-1] = a
        assert modules[2] is a
        with pytest.raises(TypeError, match="argument 3 is a function, a Module is needed"):
            modules.append(lambda x: x)
        with pytest.raises(TypeError, match="item 0 is a int"):
            modules[0] = 1
    named = nn.ModuleDict({"a": a})
    named.update(b=b)
    assert list(named.items()) == [("a", a), ("b", b)] and "b" in named and len(named) == 2
    assert named.pop("b") is b and named == named and named != nn.ModuleDict({"a": a}) and hash(named)
    for name in ("x.y", 1):
        with pytest.raises(ValueError, match="a text without dots"):
            named[name] = c
    with pytest.raises(TypeError, match="entry 'c' is a NoneType"):
        named["c"] = None


def test_a_sequential_with_parts_of_its_own_keeps_them():
    class Scaled(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(1, 1, bias=False))
            self.head = nn.Linear(1, 1, bias=False)

    assert [name for name, _ in Scaled().named_parameters()] == ["0.weight", "head.weight"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_parameter_without_axes_is_saved_and_loaded(dtype, tmp_path):
    model, other = nn.Module(), nn.Module()
    model.scale, other.scale = (nn.Parameter(np.array(value, dtype)) for value in (1 / 3, 0))
    save_weights(tmp_path / "scale.npz", model)
    load_weights(tmp_path / "scale.npz", other)
    assert other.scale.shape == () and other.scale.dtype == dtype and other.scale.item() == model.scale.item()
    average, resumed = (nn.optim.WeightAverage(m, 0.9) for m in (model, nn.Module()))
    resumed.model.scale = nn.Parameter(np.array(0, dtype))
    save_checkpoint(tmp_path / "average.npz", {"average": average.state_dict()})
    resumed.load_state_dict(load_checkpoint(tmp_path / "average.npz")[0]["average"])
    with resumed.applied():
        assert resumed.model.scale.shape == () and resumed.model.scale.item() == model.scale.item()


@pytest.mark.parametrize("value", [np.ones((2, 1)), [[1.0]], tn.tensor([[1.0]]), 1.0, nn.ReLU()])
def test_a_parameter_is_not_lost_by_an_assignment(value):
    layer = nn.Linear(2, 1)
    before = layer.weight
    with pytest.raises(
        TypeError, match=rf"Linear: weight is a Parameter, the new value is a {type(value).__name__}; w"
    ):
        layer.weight = value
    assert layer.weight is before
    layer.weight = nn.Parameter(np.ones((2, 1), np.float32))
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    with tn.no_grad():
        layer.weight[...] = np.array([[3], [4]])
    assert layer.weight.numpy().tolist() == [[3], [4]] and layer.weight.requires_grad


def test_tied_weights_are_one_parameter(rng):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert [name for name, _ in model.named_parameters()] == ["0.weight"]
    assert nn.summary(model, (1, 3)).parameters == 9


def test_train_and_eval_reach_every_module():
    model = Branches()
    assert model.eval() is model
    assert not any(m.training for _, m in model.named_modules())
    model.train()
    assert all(m.training for _, m in model.named_modules())


def test_frozen_parameters_get_no_gradient(rng):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    x = tensor(rng, 4, 3)
    model(x).sum().backward()
    model[0].freeze()
    assert model[0].weight.grad is None, "an optimizer would go on with an old gradient"
    model(x).sum().backward()
    assert model[0].weight.grad is None and model[1].weight.grad is not None
    model.unfreeze()
    model(x).sum().backward()
    assert model[0].weight.grad is not None


def test_state_dict_holds_copies_and_loads_into_a_new_model(rng):
    model, other = Branches(), Branches()
    model.count[:] = 5
    state = model.state_dict()
    assert not np.array_equal(model.again.weight.data, other.again.weight.data)
    other.load_state_dict(state)
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    before = state["blocks.0.weight"].copy()
    model.again.weight.data[...] = 0
    np.testing.assert_array_equal(state["blocks.0.weight"], before)


def test_a_state_that_does_not_fit_is_named_and_changes_nothing():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.1))
    state = model.state_dict()
    bad = {"0.weight": np.zeros((3, 3, 3, 8)), "0.bias": np.ones(4), "2.weight": np.ones(1)}
    with pytest.raises(ValueError) as error:
        model.load_state_dict(bad)
    message = str(error.value)
    assert "missing: 1.random_state" in message
    assert "unknown to the model: 2.weight" in message
    assert "0.weight has shape (3, 3, 3, 8), (3, 3, 3, 4) is needed" in message
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    with pytest.raises(ValueError, match="of another shape"):
        model.load_state_dict(bad, strict=False)
    with pytest.raises(ValueError, match="and 12 more"):
        nn.Sequential(*(nn.Linear(1, 1) for _ in range(10))).load_state_dict({})
    model.load_state_dict({"0.bias": np.ones(4), "other": np.ones(1)}, strict=False)
    np.testing.assert_array_equal(model[0].bias.data, np.ones(4))


def test_loading_between_forward_and_backward_is_noticed(rng):
    model = nn.Linear(3, 2)
    y = model(tensor(rng, 4, 3)).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_astype_converts_floats_only(rng):
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).astype(np.float64)
    assert model[0].weight.dtype == np.float64 and model[1].random_state.dtype == np.int64
    y = model(tensor(rng, 4, 3, dtype=np.float64))
    assert y.dtype == np.float64
    y.sum().backward()
    assert model.astype(np.float32)[0].weight.grad.dtype == np.float32


def test_to_the_same_device_and_to_no_device():
    model = nn.Linear(3, 2)
    weight = model.weight.data
    assert model.to("cpu") is model and model.weight.data is weight
    with pytest.raises(ValueError, match="'cpu' and 'cuda'"):
        model.to("tpu")


def test_observe_sees_every_call_in_order_and_then_no_more(rng):
    model, seen = nn.Sequential(nn.Linear(3, 2), nn.ELU()), []
    x = tensor(rng, 1, 3)
    with nn.observe(lambda module, inputs, output: seen.append((module, inputs, output))):
        y = model(x)
    model(x)
    assert [module for module, _, _ in seen] == [model[0], model[1], model]
    assert seen[0][1] == (x,) and seen[1][2] is y


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module needs a forward"):
        nn.Module()(1)


def test_repr_shows_settings_and_nesting():
    text = repr(nn.Sequential(nn.Conv2d(3, 4, (3, 1)), nn.Sequential(nn.ELU())))
    assert "0: Conv2d(in_channels=3, out_channels=4, kernel_size=(3, 1)" in text
    assert "\n    0: ELU(alpha=1.0)" in text


def test_sequential_is_a_sequence():
    layers = [nn.ELU(), nn.ReLU(), nn.Tanh()]
    model = nn.Sequential(*layers)
    assert len(model) == 3 and list(model) == layers and model[-1] is layers[2]
    assert isinstance(model[1:], nn.Sequential) and list(model[1:]) == layers[1:]
    with pytest.raises(TypeError, match="argument 1 is a function"):
        nn.Sequential(nn.ELU(), lambda x: x)


# ---------------------------------------------------------------------------------------- layers
@pytest.mark.parametrize(
    ("make", "function", "geometry", "weight_shape", "y_shape"),
    [
        (
            nn.Conv2d,
            tn.conv2d,
            {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2},
            (3, 2, 2, 6),
            (2, 4, 6, 6),
        ),
        (
            nn.ConvTranspose2d,
            tn.conv_transpose2d,
            {"stride": (2, 1), "padding": (1, 0), "output_padding": (1, 0), "dilation": (1, 2), "groups": 2},
            (3, 2, 3, 4),
            (2, 14, 10, 6),
        ),
    ],
)
def test_convolutions_pass_their_geometry_on(rng, make, function, geometry, weight_shape, y_shape):
    layer = make(4, 6, (3, 2), **geometry)
    assert layer.weight.shape == weight_shape and layer.bias.shape == (6,)
    layer.bias.data[...] = np.arange(6)
    x = tensor(rng, 2, 7, 8, 4)
    y = layer(x)
    assert y.shape == y_shape
    np.testing.assert_array_equal(y.data, function(x, layer.weight, layer.bias, **geometry).data)
    y.sum().backward()
    assert layer.weight.grad.shape == layer.weight.shape and layer.bias.grad.shape == (6,)
    assert make(1, 1, 1, bias=False)(tensor(rng, 1, 2, 2, 1)).shape == (1, 2, 2, 1)


def test_linear(rng):
    layer = nn.Linear(3, 2)
    layer.bias.data[...] = [1, 2]
    x = tensor(rng, 4, 5, 3)
    np.testing.assert_allclose(layer(x).data, x.data @ layer.weight.data + layer.bias.data, rtol=1e-6)
    assert [name for name, _ in nn.Linear(3, 2, bias=False).named_parameters()] == ["weight"]
    with pytest.raises(ValueError, match=r"weight \(3, 2\) expects 3 features .* \(4, 2\)"):
        layer(tensor(rng, 4, 2))


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 5, 3), (0, 3), (2, 0, 3)])
def test_a_linear_layer_is_a_product_and_a_sum(rng, shape):
    """With any number of axes before the features; also all gradients, and integers."""
    weight, bias = (tn.tensor(rng.standard_normal(s).astype("f"), requires_grad=True) for s in ((3, 4), (4,)))
    x = tensor(rng, *shape)
    together, apart = tn.linear(x, weight, bias), x @ weight + bias
    gy = rng.standard_normal(apart.shape).astype("f")
    for one, other in zip(tn.grad(together, [x, weight, bias], gy), tn.grad(apart, [x, weight, bias], gy)):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together.data, apart.data, rtol=1e-5, atol=1e-6)
    ones = np.ones(shape, np.int64)
    np.testing.assert_allclose(tn.linear(ones, weight, bias).data, (ones @ weight + bias).data, rtol=1e-6)


def test_pool_and_unpool_undo_each_other_at_the_maxima(rng):
    x = tensor(rng, 1, 6, 4, 2)
    y, indices = nn.MaxPool2d(2, return_indices=True)(x)
    back = nn.MaxUnpool2d(2)(y, indices)
    assert back.shape == x.shape
    kept = back.data != 0
    assert kept.sum() == y.size
    np.testing.assert_array_equal(back.data[kept], x.data[kept])
    np.testing.assert_array_equal(nn.MaxPool2d(2)(x).data, y.data)
    odd = tensor(rng, 1, 5, 5, 1)
    assert nn.MaxUnpool2d(2)(*nn.MaxPool2d(2, return_indices=True)(odd), size=(5, 5)).shape == odd.shape


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.ELU(2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
        (nn.ReLU(), lambda x: np.maximum(x, 0)),
        (nn.ReLU6(), lambda x: np.clip(x, 0, 6)),
        (nn.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
        (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
        (nn.Tanh(), np.tanh),
        (nn.Softplus(), lambda x: np.log1p(np.exp(x))),
        (nn.Flatten(), lambda x: x.reshape(len(x), -1)),
        (nn.Identity(), lambda x: x),
        (nn.Softmax(1), lambda x: special.softmax(x, axis=1)),
        (nn.LogSoftmax(), lambda x: special.log_softmax(x, axis=-1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_without_parameters(rng, layer, expected):
    x = tensor(rng, 2, 3, 4, 6)
    np.testing.assert_allclose(layer(x).data, expected(x.data), rtol=1e-5, atol=1e-6)
    assert layer.parameters() == []


@pytest.mark.parametrize("features", [6, (4, 6)])
def test_layer_norm(rng, features):
    layer, x = nn.LayerNorm(features, eps=0.1), tensor(rng, 2, 3, 4, 6)
    for p in layer.parameters():
        p.data[...] = rng.standard_normal(p.shape)
    axes = -1 if features == 6 else (-2, -1)
    mean, var = x.data.mean(axes, keepdims=True), x.data.var(axes, keepdims=True)
    expected = (x.data - mean) / np.sqrt(var + 0.1) * layer.gamma.data + layer.beta.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"x has shape \(2, 5\); its last axes must be"):
        layer(tensor(rng, 2, 5))


def test_embedding(rng):
    layer = nn.Embedding(5, 3)
    x = np.array([[0, 4], [4, 4]])
    y = layer(tn.tensor(x))
    np.testing.assert_array_equal(y.data, layer.weight.data[x])
    y.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.data, np.repeat([[1], [0], [0], [0], [3]], 3, axis=1))
    assert nn.summary(nn.Sequential(layer, nn.Linear(3, 2)), x).rows[1].shape == (2, 2, 2)
    for wrong, error, message in (
        (np.array([5]), ValueError, "x goes from 5 to 5; the table has rows 0 to 4"),
        (np.array([-1, 2]), ValueError, "x goes from -1 to 2"),
        (np.array([1.0]), TypeError, "x is float64; row numbers, integers"),
        (np.array([True]), TypeError, "x is bool"),
    ):
        with pytest.raises(error, match=message):
            layer(wrong)


def test_embedding_on_a_gpu(fake_gpu):
    layer = nn.Embedding(5, 3).to("cuda")
    x = tn.tensor(np.array([1, -1, 5])).to("cuda")
    fake_gpu.forget()
    y = layer(x)
    assert fake_gpu.to_cpu == []
    np.testing.assert_array_equal(y.numpy(), [layer.weight.numpy()[1], [np.nan] * 3, [np.nan] * 3])


ON_A_GPU = {
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (1, 6, 6, 2)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (1, 6, 6, 2)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 2, padding="same"), (1, 5, 4, 2)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (3, 4)),
    "Softmax": (lambda: nn.Softmax(), (3, 4)),
    **{
        kind.__name__: (lambda kind=kind: Last(kind(2, 3, bidirectional=True)), (2, 4, 2))
        for kind in (nn.RNN, nn.GRU, nn.LSTM)
    },
}


class Last(nn.Module):
    def __init__(self, layer):
        self.layer = layer

    def forward(self, x):
        return self.layer(x, lengths=[4, 2])[0]


@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
@pytest.mark.parametrize("name", ON_A_GPU)
def test_layers_on_a_gpu(rng, name, fake_gpu):
    make, shape = ON_A_GPU[name]
    layer, x = make(), tensor(rng, *shape)
    with tn.use_backend("cuda-sim"):
        expected = layer(x)
        expected.sum().backward()
    slopes = [p.grad.numpy() for p in layer.parameters()]
    layer.zero_grad()
    y = layer.to("cuda")(tn.Tensor(x.data, requires_grad=True).to("cuda"))
    y.sum().backward()
    assert y.device == "cuda" and all(p.grad.device == "cuda" for p in layer.parameters())
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
    for p, slope in zip(layer.parameters(), slopes):
        np.testing.assert_allclose(p.grad.numpy(), slope, rtol=1e-4, atol=1e-5)


def padded(x, kernel, dilation):
    """x with zeros around it, one more at the end if their number is odd."""
    reach = [d * (k - 1) for k, d in zip(kernel, dilation)]
    return np.pad(x, ((0, 0), *((r // 2, r - r // 2) for r in reach), (0, 0)))


@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.parametrize(
    ("kernel", "dilation"), [((3, 3), (1, 1)), ((2, 5), (1, 2)), ((4, 2), (3, 1)), ((1, 1), (1, 1))]
)
def test_padding_by_name(rng, kernel, dilation, stack):
    layer, x = nn.Conv2d(2, 3, kernel, padding="same", dilation=dilation), tensor(rng, 2, 12, 13, 2)
    expected = tn.conv2d(padded(x.data, kernel, dilation), layer.weight.data, dilation=dilation)
    run = nn.Sequential(layer, nn.ELU()) if stack else layer
    activated = np.where(expected > 0, expected, np.expm1(expected)) if stack else expected
    np.testing.assert_allclose(run(x).data, activated, atol=1e-6)
    assert expected.shape == (2, 12, 13, 3)
    parts = [x[..., :1], x[..., 1:]]
    np.testing.assert_allclose(
        tn.conv2d(parts, layer.weight, padding="same", dilation=dilation).data, expected, atol=1e-6
    )
    valid = tn.conv2d(x, layer.weight, padding="valid", dilation=dilation)
    np.testing.assert_array_equal(valid.data, tn.conv2d(x, layer.weight, dilation=dilation).data)
    assert nn.summary(layer, (1, 8, 8, 2)).rows[0].field[0].size == dilation[0] * (kernel[0] - 1) + 1


def test_maxout_takes_the_largest_piece(rng):
    x = tensor(rng, 2, 3, 4, 6)
    y = nn.Maxout(3)(x)
    assert y.shape == (2, 3, 4, 2)
    np.testing.assert_array_equal(y.data.sum(), x.data.reshape(2, 3, 4, 2, 3).max(-1).sum())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "positive multiples of groups"),
        (lambda: nn.Conv2d(0, 4, 3), "positive multiples of groups"),
        (lambda: nn.Conv2d(3, 4, 0), "kernel_size is 0"),
        (lambda: nn.Conv2d(3, 4, 3, padding=-1), "padding is -1"),
        (lambda: nn.ConvTranspose2d(3, 4, (3, 3, 3)), "kernel_size"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"), "padding is 'same'"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), "Conv2d: padding is 'full'"),
        (lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"), "padding is 'same', stride 2; a number"),
        (lambda: nn.MaxPool2d(2, stride=0), "stride is 0"),
        (lambda: nn.Linear(3, 0), "Linear: 3 channels in, 0 out"),
        (lambda: nn.Dropout(1.0), "p is 1.0"),
        (lambda: nn.Dropout(float("nan")), "p is nan"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------------------------------- Dropout
def test_dropout_does_nothing_in_use_and_at_p_zero(rng):
    x = tensor(rng, 3, 5)
    layer = nn.Dropout(0.5)
    assert layer.eval()(x) is x and layer.random_state[2] == 0
    assert nn.Dropout(0)(x) is x


def test_each_training_call_draws_a_new_mask(rng):
    layer, x = nn.Dropout(0.4), tn.Tensor(np.ones((50, 40), dtype=np.float32))
    first, second = layer(x).data, layer(x).data
    assert layer.random_state[2] == 2
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.6)}
    assert abs((first == 0).mean() - 0.4) < 0.05
    assert abs(((first == 0) & (second == 0)).mean() - 0.16) < 0.04, "the masks are not independent"
    assert not np.array_equal(first, nn.Dropout(0.4)(x).data), "two layers share a mask"


def test_frozen_randomness_repeats_the_mask(rng):
    layer, x = nn.Dropout(0.5), tensor(rng, 20, 20)
    with random.frozen():
        np.testing.assert_array_equal(layer(x).data, layer(x).data)
    assert layer.random_state[2] == 0


def test_the_seed_fixes_masks_and_weights(rng):
    x = tensor(rng, 20, 20)

    def run():
        tn.seed(3)
        model = nn.Sequential(nn.Linear(20, 20), nn.Dropout(0.5), nn.Dropout(0.5))
        return model(x).data

    np.testing.assert_array_equal(run(), run())


def test_no_two_seeds_share_a_stream():
    """With streams numbered seed + 1, seed + 2, ..., seed 4 would share all but one of the streams of seed 3."""
    keys, values = [], []
    for seed in range(4):
        tn.seed(seed)
        keys += [random.new_stream() for _ in range(20)]
        values += [random.generator().random() for _ in range(20)]
        assert nn.Dropout(0.5).random_state.tolist() == [seed, 41, 0]
    assert len(set(keys)) == len(set(values)) == len(keys)


def test_frozen_randomness_ends_with_its_block_and_seeds_have_a_range():
    with pytest.raises(ZeroDivisionError), random.frozen():
        assert random.is_frozen()
        raise ZeroDivisionError
    assert not random.is_frozen()
    for value in (-1, 2**32):
        with pytest.raises(ValueError, match=rf"seed: value is {value}; it must lie in 0 .. 2\*\*32 - 1"):
            tn.seed(value)


def test_a_resumed_model_draws_the_masks_of_the_interrupted_one(rng):
    x = tensor(rng, 20, 20)
    layer = nn.Dropout(0.5)
    layer(x)
    state = layer.state_dict()
    expected = [layer(x).data, layer(x).data]
    tn.seed(99)  # another seed and another stream than the first layer has
    resumed = nn.Dropout(0.5)
    resumed.load_state_dict(state)
    for mask in expected:
        np.testing.assert_array_equal(resumed(x).data, mask)


# ---------------------------------------------------------------------------------------- initial values
@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((3, 5), {}, (3, 5)),
        ((3, 2, 4, 10), {}, (24, 60)),
        ((3, 2, 4, 10), {"groups": 2}, (24, 30)),  # 8 channels in, of which each output sees 4
        ((3, 2, 4, 10), {"transposed": True}, (60, 24)),
        ((3, 2, 4, 10), {"transposed": True, "groups": 2}, (30, 24)),
    ],
)
def test_fans_count_the_connections(shape, options, expected):
    assert nn.init.fans(shape, **options) == expected
    with pytest.raises(ValueError, match=r"\(5,\)"):
        nn.init.fans((5,))


SHAPE = (3, 3, 20, 100)  # fan_in 180, fan_out 900
HE, GLOROT = 2 / 180, 2 / (180 + 900)


@pytest.mark.parametrize(
    ("name", "variance", "limit"),
    [
        ("he_normal", HE, 2 * np.sqrt(HE) / 0.8796),
        ("he_uniform", HE, np.sqrt(3 * HE)),
        ("glorot_normal", GLOROT, 2 * np.sqrt(GLOROT) / 0.8796),
        ("glorot_uniform", GLOROT, np.sqrt(3 * GLOROT)),
    ],
)
def test_initial_values_have_the_variance_of_the_paper(rng, name, variance, limit):
    draw = getattr(nn.init, name)
    w = draw(SHAPE)
    assert w.shape == SHAPE and w.dtype == np.float32
    # 18,000 draws: the variance is known to about 1 %, the mean to 1 / 134 standard deviations.
    assert abs(w.var() / variance - 1) < 0.04
    assert abs(w.mean()) < 4 * np.sqrt(variance / w.size)
    assert 0.98 * limit < np.abs(w).max() <= 1.001 * limit
    assert not np.array_equal(w, draw(SHAPE)), "every weight has a stream of its own"
    tn.seed(7)
    np.testing.assert_array_equal(w, draw(SHAPE))


def test_he_keeps_the_signal_through_many_relu_layers(rng):
    x = rng.standard_normal((200, 100)).astype(np.float32)
    start = np.mean(x**2)
    for _ in range(20):
        x = np.maximum(x @ nn.init.he_normal((100, 100)), 0)
    assert 0.2 < 2 * np.mean(x**2) / start < 5, "a factor of two in the variance would be 10^6 after 20 layers"


def test_grouped_and_transposed_layers_pass_their_fans_on(rng):
    layer = nn.Conv2d(64, 64, 3, groups=8)
    assert abs(layer.weight.data.var() / (2 / (9 * 8)) - 1) < 0.1
    layer = nn.ConvTranspose2d(64, 16, 3, init=nn.init.he_normal)
    assert abs(layer.weight.data.var() / (2 / (9 * 64)) - 1) < 0.1


# ---------------------------------------------------------------------------------------- summary
def test_summary_of_a_small_net_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),  # 9 * 3 * 8 + 8 = 224
        nn.ELU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(8, 4, 3, padding=1, dilation=2, groups=2),  # 9 * 4 * 4 + 4 = 148
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 5),  # 96 * 5 + 5 = 485
    )
    model[0].freeze()
    model[1].eval()
    s = nn.summary(model, (2, 16, 12, 3))
    conv, elu, pool, drop, dilated, flat, linear = s.rows
    assert [row.type for row in s.rows] == ["Conv2d", "ELU", "MaxPool2d", "Dropout", "Conv2d", "Flatten", "Linear"]
    assert [row.name for row in s.rows] == list("0123456")
    assert [row.parameters for row in s.rows] == [224, 0, 0, 0, 148, 0, 485]
    assert s.parameters == 224 + 148 + 485 and s.trainable == 148 + 485
    assert conv.shape == (2, 16, 12, 8) and pool.shape == (2, 8, 6, 8) and dilated.shape == (2, 6, 4, 4)
    assert conv.multiply_adds == 2 * 16 * 12 * 8 * 27
    assert dilated.multiply_adds == 2 * 6 * 4 * 4 * 36
    assert linear.multiply_adds == 2 * 96 * 5
    assert s.multiply_adds == conv.multiply_adds + dilated.multiply_adds + linear.multiply_adds
    assert conv.bytes == 2 * 16 * 12 * 8 * 4
    assert [row.field[0].size for row in (conv, elu, pool, drop, dilated)] == [3, 3, 4, 4, 12]
    assert [row.field[1].jump for row in (conv, elu, pool, drop, dilated)] == [1, 1, 2, 2, 2]
    assert flat.field[0].size == np.inf
    assert model[0].training and not model[1].training, "summary must leave the modes as they were"
    assert model[3].random_state[2] == 0, "summary must not use up a dropout mask"
    text = str(s)
    assert "857" in text and "all" in text and "224 of 857 parameters are frozen" in text


def test_multiply_adds_of_a_transposed_convolution_are_counted_from_its_input():
    s = nn.summary(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 5, 7, 4))
    assert s.rows[0].name == "model" and s.rows[0].shape == (2, 11, 15, 6)
    assert s.multiply_adds == 2 * 5 * 7 * 4 * 9 * 3


def test_summary_counts_a_shared_layer_once_and_names_what_no_layer_owns(rng):
    s = nn.summary(Branches(), (1, 3))
    assert [row.parameters for row in s.rows] == [12, 0, 16, 0] and s.parameters == 28
    s = nn.summary(Residual(), tensor(rng, 1, 5, 5, 2))
    assert s.parameters == 39 and s.rows[0].parameters == 38
    assert "(not in these layers)" in str(s)


class Hourglass(nn.Module):
    """Strides, transposed convolutions of three kinds and a skip connection."""

    def __init__(self):
        self.stem = nn.Conv2d(1, 1, 3, padding=1)
        self.down = nn.Conv2d(1, 1, (4, 2), stride=(2, 2), padding=(1, 0))
        self.middle = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.Conv2d(1, 1, 3, padding=1))
        self.up = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1)
        self.last_up = nn.ConvTranspose2d(1, 1, (2, 3), stride=2, padding=(0, 1), output_padding=(0, 1))
        self.end = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x):
        skip = self.stem(x)
        x = self.last_up(self.up(self.middle(self.down(skip))))
        return self.end(tn.concat([x, skip], axis=-1))


def test_receptive_field_is_the_one_that_gradients_show(rng):
    """With positive weights, every pixel that can matter has a gradient that is not zero."""
    model = Hourglass().astype(np.float64)
    for p in model.parameters():
        p.data[...] = rng.uniform(0.5, 1, p.shape)
    x = tensor(rng, 1, 64, 64, 1, dtype=np.float64)
    field_y, field_x = nn.summary(model, x).rows[-1].field
    y = model(x)
    assert y.shape == x.shape and field_y.jump == field_x.jump == 1
    for o in range(28, 28 + field_y.cycle):
        x.grad = None
        y[0, o, o, 0].backward(retain_graph=True)
        seen = x.grad.data[0, :, :, 0] != 0
        for field, axis in ((field_y, 1), (field_x, 0)):
            pixels = np.flatnonzero(seen.any(axis=axis))
            moved = o // len(field.first) * field.cycle
            assert pixels[0] == field.first[o % len(field.first)] + moved
            assert pixels[-1] == field.last[o % len(field.last)] + moved
            assert field.reach[0] >= o - pixels[0] and field.reach[1] >= pixels[-1] - o


def test_receptive_field_where_it_cannot_be_known(rng):
    class Resize(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.b(self.a(x) + x[:, 1::2, 1::2])

    s = nn.summary(Resize(), (1, 9, 9, 1))
    assert s.rows[1].field is None and "?" in str(s)


@pytest.mark.parametrize("layer", [nn.MaxPool2d, nn.AvgPool2d])
def test_receptive_field_of_a_pooling(layer):
    model = nn.Sequential(layer(3, stride=2), nn.Conv2d(1, 1, 3))
    rows = nn.summary(model, (1, 16, 16, 1)).rows
    assert [row.field[0].size for row in rows] == [3, 7] and rows[1].field[1].jump == 2


def test_unpool_returns_to_the_jump_before(rng):
    class Segnet(nn.Module):
        def __init__(self):
            self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            y, indices = self.pool(x)
            return self.conv(self.unpool(y, indices))

    rows = nn.summary(Segnet(), (1, 8, 8, 1)).rows
    assert [row.field[0].jump for row in rows] == [2, 1, 1]
    assert [row.field[0].size for row in rows] == [2, 2, 4]  # three outputs overlap two windows of two


def test_predict_runs_a_model_in_parts_without_gradients():
    tn.seed(0)
    model, x = nn.Linear(3, 2), np.random.default_rng(0).random((7, 3), dtype=np.float32)
    grad_modes = []
    y = nn.predict(lambda part: grad_modes.append((part.shape[0], tn.is_grad_enabled())) or model(part), x, batch=3)
    np.testing.assert_allclose(y, model(tn.tensor(x)).numpy(), rtol=1e-6)
    assert grad_modes == [(3, False), (3, False), (1, False)]


def test_a_parameter_is_made_of_an_array_or_a_tensor():
    x = tn.ones(3, requires_grad=True)
    p, frozen = nn.Parameter(2 * x), nn.Parameter(np.ones(3, np.float32), requires_grad=False)
    assert p.is_leaf and p.requires_grad and p.tolist() == [2, 2, 2] and not frozen.requires_grad
    with pytest.raises(TypeError, match="requires_grad needs a floating-point dtype"):
        nn.Parameter(np.ones(3, int))


@pytest.mark.parametrize(
    "values",
    [
        np.ma.array(np.ones((2, 1)), mask=[[0], [1]]),
        np.full((2, 1), None),
        np.array([["1"], ["2"]]),
        1j * np.ones((2, 1)),
    ],
)
def test_a_state_that_is_no_array_of_numbers_is_refused(values):
    layer = nn.Linear(2, 1)
    before = layer.state_dict()
    with pytest.raises(ValueError, match="no numbers, or masked: weight"):
        layer.load_state_dict({**before, "weight": values})
    assert (layer.weight.numpy() == before["weight"]).all()
