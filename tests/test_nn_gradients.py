"""Every layer of nn, checked as a function of its input and of all its parameters."""

import numpy as np
import pytest

from tinynet import nn, random, use_backend, use_kernels
from tinynet.learn.gradcheck import gradcheck
from tinynet.ops._shared.case import away_from

# Layer -> the input's shape. N, H, W and C all differ; strides and paddings differ along the axes.
LAYERS = {
    "Conv2d": (lambda: nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 5, 6, 3)),
    "Conv2d, no bias, groups": (lambda: nn.Conv2d(4, 2, 2, dilation=(1, 2), groups=2, bias=False), (2, 3, 5, 4)),
    "Conv2d, same": (lambda: nn.Conv2d(2, 3, (2, 3), padding="same", dilation=(1, 2)), (1, 4, 5, 2)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 2, (2, 3), stride=(2, 1), padding=(0, 1)), (2, 3, 4, 3)),
    "Conv3d": (lambda: nn.Conv3d(2, 1, (2, 1, 2)), (1, 2, 3, 3, 2)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(1, 2, (2, 1, 2)), (1, 2, 2, 3, 1)),
    "MaxPool3d": (lambda: nn.MaxPool3d((2, 1, 2)), (1, 2, 3, 4, 1)),
    "AvgPool3d": (lambda: nn.AvgPool3d((2, 1, 2)), (1, 2, 3, 4, 1)),
    "Linear": (lambda: nn.Linear(5, 3), (2, 4, 5)),
    "Linear, no bias": (lambda: nn.Linear(3, 2, bias=False), (4, 3)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2, stride=(2, 1)), (2, 5, 4, 3)),
    "AvgPool2d": (lambda: nn.AvgPool2d((3, 2), stride=(2, 1), padding=(1, 0)), (2, 5, 4, 3)),
    "MaxPool2d, ceil mode": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 4, 6, 2)),
    "AvgPool2d, ceil mode": (lambda: nn.AvgPool2d(3, 2, 1, True, False), (2, 4, 6, 2)),
    "GlobalAvgPool2d": (lambda: nn.GlobalAvgPool2d(), (2, 3, 4, 2)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), (2, 2, 3, 3)),
    "BatchNorm2d, of samples, in evaluation mode": (lambda: nn.BatchNorm2d(4).astype(np.float64).eval(), (5, 4)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (2, 2, 3, 4)),
    "GroupNorm, of volumes, one group": (lambda: nn.GroupNorm(1, 2), (2, 2, 1, 3, 2)),
    "GroupNorm, without parameters": (lambda: nn.GroupNorm(2, 4, affine=False), (3, 4)),
    "InstanceNorm": (lambda: nn.InstanceNorm(3), (2, 2, 2, 3)),
    "InstanceNorm, of volumes, with parameters": (lambda: nn.InstanceNorm(2, affine=True), (2, 2, 1, 3, 2)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (3, 4)),
    "LayerNorm, of two axes": (lambda: nn.LayerNorm((3, 2)), (2, 3, 2)),
    "Softmax": (lambda: nn.Softmax(), (3, 4)),
    "LogSoftmax": (lambda: nn.LogSoftmax(1), (2, 3, 2)),
    "Identity": (lambda: nn.Identity(), (3, 4)),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3, 1.0, 0.5, 0.75), (2, 3, 2, 4)),
    "MaxUnpool2d": (lambda: _Unpooled(), (2, 2, 3, 4)),
    "Dropout": (lambda: nn.Dropout(0.4), (3, 4, 5)),
    "ELU": (lambda: nn.ELU(0.7), (3, 4)),
    "ReLU": (lambda: nn.ReLU(), (3, 4)),
    "ReLU6": (lambda: nn.ReLU6(), (3, 4)),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.2), (3, 4)),
    "PReLU": (lambda: nn.PReLU(4), (3, 4)),
    "PReLU, one slope": (lambda: nn.PReLU(), (2, 3, 4)),
    "Sigmoid": (lambda: nn.Sigmoid(), (3, 4)),
    "Tanh": (lambda: nn.Tanh(), (3, 4)),
    "Softplus": (lambda: nn.Softplus(), (3, 4)),
    "Maxout": (lambda: nn.Maxout(2), (3, 4, 6)),
    "Flatten": (lambda: nn.Flatten(), (2, 3, 4)),
    "Sequential": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ELU(), nn.Dropout(0.3), nn.MaxPool2d(), nn.Flatten()),
        (2, 4, 6, 2),
    ),
}


class _Unpooled(nn.Module):
    """MaxUnpool2d as a function of one Tensor: each value goes to the last corner of its window."""

    def __init__(self):
        self.layer = nn.MaxUnpool2d(2)

    def forward(self, y):
        n, h, w, c = y.shape
        rows, columns = np.meshgrid(2 * np.arange(h) + 1, 2 * np.arange(w) + 1, indexing="ij")
        places = np.broadcast_to((rows * 2 * w + columns)[None, :, :, None], (n, h, w, c)).astype(np.int32)
        return self.layer(y, places)


def as_function(layer):
    """The layer as a function of Tensors: of its input, and of values that replace its parameters."""
    modules, names = dict(layer.named_modules()), [name for name, _ in layer.named_parameters()]

    def function(x, *values):
        for name, value in zip(names, values, strict=True):
            owner, _, last = name.rpartition(".")
            vars(modules[owner])[last] = value  # a module would refuse to lose its Parameter
        return layer(x)

    return function


def as_function_of_a_vector(net):
    """The net as a function of its input and of one vector of all parameters: few checks for a net of many layers."""
    function, shapes = as_function(net), [p.shape for p in net.parameters()]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])

    def of_vector(x, vector):
        parts = zip(np.r_[0, ends[:-1]], ends, shapes)
        return function(x, *(vector[start:end].reshape(shape) for start, end, shape in parts))

    return of_vector


def parameter_values(layer, rng):
    return [rng.normal(size=p.shape) / 2 for p in layer.parameters()]


def check_net(net, x, rng):
    """Gradients of a net of many layers, for x and for the vector of all parameters, in random directions."""
    vector = np.concatenate([value.ravel() for value in parameter_values(net, rng)])
    result = gradcheck(as_function_of_a_vector(net), [x, vector], mode="directions")
    assert all(check.wrong == 0 for check in result.inputs)


# Other tests check the tiers of each op, so the reference tier is enough for every run.
@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_a_layer(name, backend):
    make, shape = LAYERS[name]
    rng = np.random.default_rng(3)
    random.seed(5)
    layer = make()
    size = int(np.prod(shape))
    # No two values alike, so that no maximum is a tie, and none at 0, where ReLU has its kink.
    x = away_from(rng.permutation(size).reshape(shape) / size * 4 - 2 + rng.uniform(0, 0.3 / size, shape), 0.0)
    values = parameter_values(layer, rng)
    with use_backend(backend):
        result = gradcheck(as_function(layer), [x, *values])
    assert len(result.inputs) == 1 + len(values)
    assert all(check.inconclusive == 0 for check in result.inputs)


def test_every_layer_is_in_the_table():
    kinds = {name for name, kind in vars(nn).items() if isinstance(kind, type) and issubclass(kind, nn.Module)}
    elsewhere = {"Module", "ModuleDict", "ModuleList", "RNN", "GRU", "LSTM", "Embedding"}
    elsewhere |= {name for name in kinds if name.endswith("Loss")}
    assert kinds - elsewhere == {name.partition(",")[0] for name in LAYERS}


def test_a_layer_with_a_wrong_kernel_fails():
    """A wrong kernel of the bias shows in the bias alone, so the check really uses the parameters."""
    layer = nn.Conv2d(2, 3, 2)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(2, 4, 3, 2)), *parameter_values(layer, rng)]
    with use_backend("reference"), use_kernels("conv2d", backward_bias=lambda gy, out=None: gy.mean((0, 1, 2))):
        result = gradcheck(as_function(layer), inputs, raise_error=False)
    assert [check.wrong > 0 for check in result.inputs] == [False, False, True]
    assert "averaged where it must be summed" in str(result)
