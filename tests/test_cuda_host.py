"""What tinynet does around its kernels with arrays on a GPU, run on machines that have none: see fake_cupy.py.

Only the numbers of a real GPU cannot be had here; its arrays' rules, transfers and errors can.
"""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from op_folders import cast, fetch, missing, place

import tinynet as tn
from tinynet import nn
from tinynet.backends.arrays import device_of
from tinynet.backends.cuda import detect, nvrtc
from tinynet.backends.cuda.source import Source
from tinynet.backends.launch import launch
from tinynet.backends.registry import implementation_kernel, implementations, ops
from tinynet.learn.gradcheck.tiers import cases_of
from tinynet.nn.optim import SGD, AdamW, WeightAverage, clip_grad_norm
from tinynet.training.io import load_weights, save_weights

pytestmark = [
    pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim"))),
    pytest.mark.usefixtures("fake_gpu"),
]


def on_gpu(*values):
    return tuple(tn.tensor(np.asarray(v, np.float32), requires_grad=True).to("cuda") for v in values)


# ------------------------------------------------------------------------------------- the stand-in
def test_the_stand_in_is_as_strict_as_cupy(fake_gpu):
    import cupy

    x = cupy.asarray(np.arange(6, dtype=np.float32))
    assert device_of(x) == "cuda" and not isinstance(x, np.ndarray)
    for mixed in (lambda: x + np.ones(6), lambda: np.ones(6) * x, lambda: x.__setitem__(0, np.ones(()))):
        with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy.ndarray'>"):
            mixed()
    for converted in (lambda: np.asarray(x), lambda: np.array(x), lambda: np.fft.fft(x)):
        with pytest.raises(TypeError):
            converted()
    total = (2 * x + np.float32(1)).sum()
    assert type(total) is type(x) and total.shape == () and total.dtype == np.float32
    assert fake_gpu.to_gpu == [24] and fake_gpu.to_cpu == []
    assert float(total) == 36 and x[1:3].get().tolist() == [1, 2]
    assert fake_gpu.to_cpu == [4, 8]


# ------------------------------------------------------------------------------------- operations
@pytest.mark.parametrize("op", ops())
def test_kernels_stay_on_the_gpu(op, fake_gpu):
    """They give what the emulator gives on arrays of NumPy, bit for bit, and transfer nothing."""
    for implementation in implementations(op, "cuda"):
        for case in cases_of(op, seed=3, large=False)[:3]:
            for name, (arrays, parameters) in case.calls.items():
                function = implementation_kernel(op, name, "cuda", implementation)
                given, on_the_gpu = cast(arrays, np.float32), place(cast(arrays, np.float32), "cuda")
                expected = function(*given, **parameters)
                fake_gpu.forget()
                actual = function(*on_the_gpu, **parameters)
                assert fake_gpu.to_cpu == [], f"{op}.{name} reads back"
                assert sum(fake_gpu.to_gpu) < 10_000, f"{op}.{name} uploads more than addresses"
                pairs = zip(flat((actual, on_the_gpu)), flat((expected, given)), strict=True)
                for a, b in pairs:
                    assert device_of(a) == "cuda", f"{op}.{name} returned an array on the CPU"
                    np.testing.assert_array_equal(fetch(a), b, err_msg=f"{op}.{name}, {case.label}")


def flat(value):
    """The arrays in nested tuples and lists."""
    if isinstance(value, (tuple, list)):
        return [array for v in value for array in flat(v)]
    return [value] if hasattr(value, "dtype") else []


BASIC = {
    "arithmetic": lambda x, y: (x + y) * x / (y * y + 1) - 3 + 2 * x,
    "powers": lambda x, y: (x * x + 1) ** 0.5 + tn.exp(-y) + tn.log(y * y + 1) + tn.sqrt(x * x + 2),
    "comparisons": lambda x, y: tn.where(x > y, x, y) + tn.maximum(x, 0.0) + tn.clip(y, -1, 1) + tn.abs(x),
    "reductions": lambda x, y: tn.sum(x, 0) + tn.mean(y, 0, keepdims=True) + tn.max(x, 1, keepdims=True) + tn.var(y, 0),
    "shapes": lambda x, y: tn.concat([tn.reshape(x, (2, 6)), tn.transpose(y)[:2, :3]], 1),
    "softmax": lambda x, y: tn.softmax(x) * tn.log_softmax(y) + tn.logsumexp(x, 1, keepdims=True),
    "products": lambda x, y: x @ y.T + tn.matmul(y, tn.transpose(x)),
    "slices": lambda x, y: tn.pad(x[1:, ::2], ((1, 0), (0, 2))) * y[..., :],
    "indices": lambda x, y: x[[0, 2, 2]] + y[:, 1:2][[1, 1, 0]],
}


@pytest.mark.parametrize("name", BASIC)
def test_basic_operations_and_their_gradients(name, fake_gpu):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)

    def run(device):
        leaves = [tn.tensor(v, requires_grad=True) for v in values]
        z = BASIC[name](*(leaf.to(device) for leaf in leaves))
        assert z.device == device
        tn.sum(z * z).backward()
        return [z.numpy(), *(leaf.grad.numpy() for leaf in leaves)]

    with tn.use_backend("cuda-sim"):
        expected = run("cpu")
    for a, b in zip(run("cuda"), expected):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y: x + y,
        lambda x, y: x @ y,
        lambda x, y: tn.where(x > 0, x, y),
        lambda x, y: tn.maximum(y, x),
        lambda x, y: tn.concat([x, y], 0),
        lambda x, y: tn.conv2d(tn.reshape(x, (1, 4, 4, 1)), tn.reshape(y, (2, 2, 1, 4))),
    ],
)
def test_arrays_in_two_places_are_refused_with_their_names(call):
    (x,) = on_gpu(np.ones((4, 4)))
    y = tn.tensor(np.ones((4, 4), np.float32))
    with pytest.raises(ValueError, match=r"is on the CPU|is on the GPU") as caught:
        call(x, y)
    assert "on the CPU" in str(caught.value) and "on the GPU" in str(caught.value) and ".to(" in str(caught.value)


def test_numpy_arrays_are_refused_by_the_backend_cuda():
    with tn.use_backend("cuda"), pytest.raises(ValueError, match=r"move model and data with \.to\('cuda'\)"):
        tn.elu(tn.tensor(np.ones(3, np.float32)))


# ------------------------------------------------------------------------------------- training
class SmallUNet(nn.Module):
    """Two levels of the U-Net, with all that it is made of."""

    def __init__(self):
        self.down, self.bottom, self.merge = self.level(3, 8), self.level(8, 16), self.level(16, 8)
        self.pool, self.up = nn.MaxPool2d(2), nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.head = nn.Conv2d(8, 1, 1)

    @staticmethod
    def level(c_in, c_out):
        first, second = nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 3, padding=1)
        return nn.Sequential(first, nn.ELU(), nn.Dropout(0.1), second, nn.ELU())

    def forward(self, x):
        d = self.down(x)
        u = self.up(self.bottom(self.pool(d)))
        return tn.sigmoid(self.head(self.merge(tn.concat([u, d], axis=-1))))


def batches(count):
    rng = np.random.default_rng(5)
    images = rng.random((count, 2, 16, 16, 3), np.float32)
    return list(zip(images, (images[..., :1] > 0.6).astype(np.float32)))


def train(device, optimizer_of, steps=3, after_step=lambda: None):
    tn.seed(1)
    model = SmallUNet().to(device)
    optimizer = optimizer_of(model)
    losses = []
    for images, masks in batches(steps):
        optimizer.zero_grad()
        loss = tn.dice_loss(model(tn.tensor(images).to(device)), tn.tensor(masks).to(device))
        loss.backward()
        clip_grad_norm(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
        after_step()
    return losses, model


OPTIMIZERS = {
    "AdamW": lambda model: AdamW(model.parameters(), 1e-3, decay_biases=False),
    "SGD": lambda model: SGD(model.parameters(), 1e-2, momentum=0.9, nesterov=True, weight_decay=1e-4),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_unet_trains_with_one_batch_in_and_one_loss_out(optimizer, fake_gpu):
    steps = []

    def count():
        steps.append((list(fake_gpu.to_gpu), list(fake_gpu.to_cpu), len(fake_gpu.launches)))
        fake_gpu.forget()

    losses, model = train("cuda", OPTIMIZERS[optimizer], after_step=count)
    with tn.use_backend("cuda-sim"):
        expected, same = train("cpu", OPTIMIZERS[optimizer])
    assert losses == expected
    for (name, p), q in zip(model.named_parameters(), same.parameters()):
        np.testing.assert_array_equal(p.numpy(), q.numpy(), err_msg=name)

    images, masks = batches(1)[0]
    for to_gpu, to_cpu, launches in steps[1:]:
        assert to_gpu[:2] == [images.nbytes, masks.nbytes], "the batch goes in"
        assert sum(to_gpu[2:]) < 10_000, "and beside it only addresses of arrays"
        assert len(to_cpu) <= 2 and sum(to_cpu) <= 16, "the loss comes out, and the norm of the gradient"
        assert launches < 80


def test_a_model_moves_and_a_checkpoint_knows_no_device(tmp_path, fake_gpu):
    _, model = train("cuda", OPTIMIZERS["AdamW"], steps=1)
    average = WeightAverage(model, 0.5)
    average.update()
    save_weights(tmp_path / "gpu.npz", model)
    on_the_cpu = SmallUNet()
    load_weights(tmp_path / "gpu.npz", on_the_cpu)
    back = SmallUNet().to("cuda")
    load_weights(tmp_path / "gpu.npz", back)
    model.to("cpu")
    for p, q, r in zip(model.parameters(), on_the_cpu.parameters(), back.parameters()):
        assert (p.device, q.device, r.device) == ("cpu", "cpu", "cuda")
        np.testing.assert_array_equal(p.numpy(), q.numpy())
        np.testing.assert_array_equal(p.numpy(), r.numpy())


@pytest.mark.parametrize("first, second", [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_goes_on_in_another_place(first, second, tmp_path, fake_gpu):
    """The optimizer's state moves too; with the kernels of the emulator on both sides the bits are the same."""
    from tinynet.data.loader import DataLoader
    from tinynet.training.train import Trainer

    class Points:
        def __len__(self):
            return 8

        def item(self, index, rng):
            x = np.random.default_rng(index).normal(size=4).astype(np.float32)
            return x, np.abs(x[:1])

    def run(out, device, epochs, resume=False):
        tn.seed(2)
        model = nn.Sequential(nn.Linear(4, 8), nn.ELU(), nn.Dropout(0.2), nn.Linear(8, 1)).to(device)
        optimizer = OPTIMIZERS["AdamW"](model)
        average = WeightAverage(model, 0.9)
        trainer = Trainer(
            model, optimizer, lambda x, y: tn.mean((model(x) - y) ** 2), out, average=average, max_norm=0.5
        )
        trainer.fit(DataLoader(Points(), 4, seed=1), epochs, resume=resume)
        return [p.numpy() for p in model.parameters()]

    with tn.use_backend("cuda-sim"):
        whole = run(tmp_path / "whole", "cpu", 2)
        run(tmp_path / "parts", first, 1)
        moved = run(tmp_path / "parts", second, 2, resume=True)
    for a, b in zip(moved, whole):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


# ------------------------------------------------------------------------------------- what goes wrong
KERNEL = """
KERNEL fill(real* y, OPTIONAL const real* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x ? x[i] : 7;
}
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "student.cu"
    path.write_text(KERNEL)
    return Source(path)


def test_a_null_pointer_arrives_as_one(source):
    from tinynet.backends.cuda import gpu

    y = gpu.empty((5,), np.float32)
    launch(source, "fill", 1, 32, y, None, 5)
    np.testing.assert_array_equal(gpu.to_cpu(y), 7)


def test_a_full_gpu_names_the_operation_and_the_bytes(fake_gpu):
    (x,) = on_gpu(np.ones((8, 8)))
    fake_gpu.free = 100
    with pytest.raises(MemoryError) as caught:
        tn.elu(x)
    message = str(caught.value)
    assert message.startswith("elu: no GPU memory for a result of shape (8, 8) float32: 256 bytes asked, 100 of")
    assert "3,000 held by tinynet's pool" in message


@pytest.mark.parametrize("read", [lambda x: x.numpy(), lambda x: tn.sum(x).item(), lambda x: x.to("cpu"), repr])
def test_a_kernel_that_failed_is_looked_for_among_those_that_ran(read, fake_gpu):
    (x,) = on_gpu(np.ones(4))
    tn.sigmoid(x).numpy()
    y = tn.elu(tn.elu(x))
    fake_gpu.error = sys.modules["cupy"].cuda.runtime.CUDARuntimeError(
        "cudaErrorIllegalAddress: an illegal memory access"
    )
    with pytest.raises(RuntimeError, match="the GPU stopped: cudaErrorIllegalAddress") as caught:
        read(y)
    assert "since a result was last read: elu_forward\n" in str(caught.value)
    assert "cusim.checked()" in str(caught.value)


def test_a_block_with_too_many_threads_for_its_registers(source, monkeypatch):
    from tinynet.backends.cuda import gpu

    monkeypatch.setattr(gpu._function, "max_threads_per_block", 256)
    with pytest.raises(RuntimeError, match=r"fill: a block of 512 threads is too large: with the 32 registers .* 256"):
        launch(source, "fill", 1, 512, gpu.empty((5,), np.float32), None, 5)


def test_more_shared_memory_than_usual_is_asked_for(source):
    from tinynet.backends.cuda import gpu

    function = gpu._function(source, "fill", (("real", "float"),))
    gpu._allow_shared_memory(function, "fill", 60_000)
    assert function.max_dynamic_shared_size_bytes == 60_000
    with pytest.raises(RuntimeError, match=r"fill needs 200,000 bytes of shared memory .* this GPU has 100,000"):
        gpu._allow_shared_memory(function, "fill", 200_000)


# ------------------------------------------------------------------------------------- compiling
class Compiler:
    """Stands for NVRTC: its machine code is the code itself."""

    version = (12, 9)

    def __init__(self):
        self.compiled = []

    def compile(self, code, name, architecture, macros):
        self.compiled.append((name, architecture, dict(macros)))
        return nvrtc.Compiled(code.encode(), False, "")


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    stand_in = Compiler()
    monkeypatch.setattr(nvrtc, "load", lambda newest=None: stand_in)
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path / "cache"))
    return stand_in


def test_a_file_is_compiled_once_until_it_is_edited(source, compiler, capsys):
    from tinynet.backends.cuda import gpu

    first = gpu._compiled(source, {"real": "float"}, 80)
    assert re.fullmatch(r"tinynet: compiling .*student\.cu for sm_80 \.\.\.\n", capsys.readouterr().err)
    assert first.read_text() == source.code
    again = gpu._compiled(Source(source.path), {"real": "float"}, 80)
    assert again == first and capsys.readouterr().err == "" and len(compiler.compiled) == 1

    first.write_text(source.code.replace("7", "8"))  # a damaged file
    assert gpu._compiled(source, {"real": "float"}, 80).read_text() == source.code and len(compiler.compiled) == 2
    assert gpu._compiled(source, {"real": "float"}, 80) == first and len(compiler.compiled) == 2

    source.path.write_text(KERNEL.replace("7", "8"))
    others = {gpu._compiled(Source(source.path), {"real": "float"}, 80)}
    others |= {gpu._compiled(source, {"real": "double"}, 80), gpu._compiled(source, {"real": "float"}, 90)}
    compiler.version = (13, 0)
    others.add(gpu._compiled(source, {"real": "float"}, 80))
    assert len(others - {first}) == 4 and len(compiler.compiled) == 6
    assert not list(first.parent.glob("*.part*"))


def test_one_module_for_each_file_and_its_macros(source, compiler, fake_gpu):
    from tinynet.backends.cuda import gpu

    for macros in ({"real": "float"}, {"real": "float"}, {"real": "double"}):
        gpu._module(source, tuple(macros.items()))
    assert len(fake_gpu.modules) == 2


def test_a_cache_that_cannot_be_written_costs_only_time(source, compiler, tmp_path, monkeypatch):
    from tinynet.backends.cuda import gpu

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path / "file"))
    assert gpu._compiled(source, {"real": "float"}, 80).read_text() == source.code


def test_tensor_cores_are_refused_where_there_are_none(source, compiler, monkeypatch):
    from tinynet.backends.cuda import gpu

    monkeypatch.setattr(detect, "require_gpu", lambda: detect.Gpu("Example 2000", (7, 5), (12, 4)))
    with pytest.raises(RuntimeError, match=r"'tf32' needs a GPU of compute capability 8.0 .* Example 2000 is of 7.5"):
        gpu._module(source, (("TF32", 1), ("real", "float")))
