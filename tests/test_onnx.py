"""ONNX: a model that was written as a file computes in onnxruntime what it computes here."""

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn
from tinynet.tools.bench.examples import load_example

onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")


def arrays_of(result):
    return [a for part in result for a in arrays_of(part)] if isinstance(result, (tuple, list)) else [result.numpy()]


def check(model, path, *shapes, dtype=np.float32):
    """Write the model, run the file on other values than the example's, and compare all outputs."""
    rng = np.random.default_rng(3)
    tn.io.export_onnx(path, model, *(np.zeros(shape, dtype) for shape in shapes))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    actual = session.run(None, {f"input_{i}": x for i, x in enumerate(inputs)})
    model.eval()
    with tn.no_grad():
        expected = arrays_of(model(*map(tn.tensor, inputs)))
    assert [entry.name for entry in session.get_outputs()] == [f"output_{i}" for i in range(len(expected))]
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5 * max(1, np.abs(e).max()))


LAYERS = {
    "conv2d": (lambda: nn.Conv2d(3, 8, 3, padding=(1, 0), stride=(2, 1), dilation=2), (2, 9, 8, 3)),
    "conv2d, groups, same": (lambda: nn.Conv2d(4, 8, (2, 3), groups=2, padding="same"), (2, 9, 8, 4)),
    "conv2d, no bias": (lambda: nn.Conv2d(2, 3, 1, bias=False), (1, 1, 5, 2)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=(1, 0), groups=2), (1, 5, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(2, 4, (3, 2, 1), padding=1, stride=2), (1, 6, 5, 4, 2)),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(2, 3, 2, stride=(2, 1, 2)), (1, 3, 2, 4, 2)),
    "linear": (lambda: nn.Linear(5, 3), (2, 7, 5)),
    "max_pool2d": (lambda: nn.MaxPool2d(3, 2, 1), (2, 7, 8, 3)),
    "avg_pool2d": (lambda: nn.AvgPool2d(3, 2, 1), (2, 7, 8, 3)),
    "global_avg_pool2d": (nn.GlobalAvgPool2d, (2, 7, 8, 3)),
    "max_pool3d": (lambda: nn.MaxPool3d(2), (1, 4, 4, 6, 2)),
    "avg_pool3d": (lambda: nn.AvgPool3d(2), (1, 4, 4, 6, 2)),
    "batch_norm": (lambda: nn.BatchNorm2d(3), (2, 4, 5, 3)),
    "group_norm": (lambda: nn.GroupNorm(2, 4), (2, 4, 5, 4)),
    "instance_norm": (lambda: nn.InstanceNorm(4, affine=True), (2, 4, 5, 4)),
    "layer_norm": (lambda: nn.LayerNorm(4), (2, 5, 4)),
    "local_response_norm": (lambda: nn.LocalResponseNorm(3, alpha=0.1), (2, 4, 5, 6)),
    "rnn": (lambda: nn.RNN(3, 5), (2, 4, 3)),
    "gru": (lambda: nn.GRU(3, 5), (2, 4, 3)),
    "lstm": (lambda: nn.LSTM(3, 5), (2, 4, 3)),
    "lstm, two layers, both directions": (lambda: nn.LSTM(3, 5, layers=2, bidirectional=True), (2, 4, 3)),
    **{
        type(layer).__name__: (lambda layer=layer: layer, (2, 3, 4))
        for layer in (
            *(nn.ELU(0.5), nn.LeakyReLU(), nn.Maxout(2), nn.PReLU(4), nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.Tanh()),
            *(nn.Softplus(), nn.Softmax(), nn.LogSoftmax(), nn.Flatten(), nn.Identity(), nn.Dropout(0.5)),
        )
    },
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, tmp_path):
    make, shape = LAYERS[name]
    tn.random.seed(0)
    model = make()
    for number, array in enumerate(model.state_dict().values()):  # biases and running means that are not 0 and 1
        if array.dtype == np.float32:
            array[...] = np.abs(np.random.default_rng(number).standard_normal(array.shape)) + 0.1
    check(model, tmp_path / "layer.onnx", shape)


def test_float64(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Flatten())  # onnxruntime has no convolution in float64
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64)
    check(model, tmp_path / "wide.onnx", (1, 5, 4, 2), dtype=np.float64)


class Unpooled(nn.Module):
    def __init__(self):
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d()

    def forward(self, x):
        y, indices = self.pool(x)
        return self.unpool(y * 2, indices, size=x.shape[1:3])


class Functions(nn.Module):
    """What nets are made of beside layers."""

    def forward(self, x, z):
        y = tn.resize2d(x, size=(7, 4))
        part = x[:, ::-1, 1:, ..., None][..., 0] - x[:, :, :-1]
        chosen = tn.concat([part[0], part[-1][:, [1, 0, 1]]], axis=1)
        sums = x.sum((1, 2), keepdims=True) + tn.logsumexp(x, -1, keepdims=True) + x.max(axis=(1, 2), keepdims=True)
        powers = (abs(x) + 1) ** 0.5 + tn.exp(-abs(x)) / (2 + tn.sqrt(abs(x))) + tn.clip(x, -1, 1)
        product = tn.matmul(x, z) - tn.maximum(x @ z, 0.1) + tn.minimum(x @ z, 0.2)
        return y, chosen, sums, powers, product, tn.cumsum(x, 1), tn.pad(z, ((1, 0), (0, 2)), 3.0), x.mean() * z


def test_functions(tmp_path):
    check(Functions(), tmp_path / "functions.onnx", (2, 5, 4, 3), (3, 6))


def test_unpooling(tmp_path):
    check(Unpooled(), tmp_path / "unpooled.onnx", (2, 6, 4, 3))


@pytest.mark.parametrize(
    ("script", "make", "shape"),
    [
        ("segmentation/unet_nuclei.py", "UNet", (1, 40, 56, 3)),
        ("convnets/lenet_mnist.py", "lenet", (3, 28, 28, 1)),
        ("convnets/alexnet.py", "small_alexnet", (2, None, None, 1)),
    ],
)
def test_the_nets_of_the_lectures(script, make, shape, tmp_path):
    module = load_example(script)
    side = getattr(module, "SIZE", 112)
    check(getattr(module, make)(), tmp_path / "net.onnx", tuple(side if n is None else n for n in shape))


def test_parameters_keep_their_names_and_the_model_its_mode(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm2d(2), nn.Dropout(0.5))
    model[2].eval()
    tn.io.export_onnx(tmp_path / "a.onnx", model, np.zeros((4, 3), np.float32))
    graph = onnx.load(tmp_path / "a.onnx").graph
    assert {"0.weight", "0.bias"} <= {array.name for array in graph.initializer}
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert tn.Function.apply is not None and len(list(tmp_path.iterdir())) == 1


class DependsOnValues(nn.Module):
    def forward(self, x):
        return x * 2 if float(x.numpy().sum()) > 0 else x + 1


class HiddenComparison(nn.Module):
    def forward(self, x):
        return tn.where(x > 0, x, 0.0)


class Returns(nn.Module):
    def forward(self, x):
        return x.numpy()


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (DependsOnValues(), ValueError, "depends on the values"),
        (HiddenComparison(), ValueError, "where computes depends on the values"),
        (Returns(), TypeError, "returned a ndarray"),
        (lambda x: x, TypeError, "model is a function"),
    ],
)
def test_what_cannot_be_exported(model, error, words, tmp_path):
    with pytest.raises(error, match=words):
        tn.io.export_onnx(tmp_path / "a.onnx", model, np.zeros((2, 3), np.float32))
    assert not list(tmp_path.iterdir())


class Warped(nn.Module):
    def forward(self, x, displacement):
        return tn.warp(x, displacement)


def test_an_operation_without_counterpart_is_named(tmp_path):
    with pytest.raises(ValueError, match="sample has no counterpart"):
        tn.io.export_onnx(tmp_path / "a.onnx", Warped(), *np.zeros((2, 1, 4, 4, 2), np.float32))


def test_an_example_is_needed(tmp_path):
    with pytest.raises(ValueError, match="an example"):
        tn.io.export_onnx(tmp_path / "a.onnx", nn.Linear(2, 2))


class Rows(nn.Module):
    def __init__(self):
        self.table = nn.Embedding(7, 3)

    def forward(self, x):
        return self.table((x.numpy() > 0).astype(int))


class Mixed(nn.Module):
    def forward(self, x):
        return x[0, :, [1, 0]]


@pytest.mark.parametrize(("model", "words"), [(Rows(), "getitem computes depends"), (Mixed(), "two axes")])
def test_indices_that_cannot_be_exported(model, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        tn.io.export_onnx(tmp_path / "a.onnx", model, np.zeros((2, 3, 4), np.float32))
