"""The U-Net of the lectures: its structure, its values against other implementations, and its script end to end."""

import csv
import inspect
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinynet as tn
from tinynet import nn
from tinynet.backends.registry import use_backend, use_kernels
from tinynet.errors import CheckpointError
from tinynet.tools.bench.examples import load_example
from tinynet.tools.bench.peers.textbook import CONVOLUTIONS, POOLING, pool_forward
from tinynet.training.run_folder import RunFolder

script = load_example("segmentation/unet_nuclei.py")


def a_net(heads=1, dtype=np.float32):
    """The same random weights each time; random biases, because zeros would hide mistakes."""
    tn.seed(1)
    model = script.UNet(heads)
    rng = np.random.default_rng(2)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data = rng.normal(0, 0.1, parameter.shape)
        parameter.data = parameter.data.astype(dtype)
    return model


def a_problem(seed=3, n=2, height=32, width=48):
    """Images (N, H, W, 3) and masks of about a third of the pixels, float64."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.5, 1.5, (n, height, width, 3))
    return x, (rng.random((n, height, width, 1)) < 0.3).astype(np.float64)


def loss_and_gradients(dtype, seed=3, **size):
    """{"loss", parameter name: gradient} of `a_net` on `a_problem`, by the kernels in use around the call."""
    model = a_net(dtype=dtype).eval()
    x, target = (array.astype(dtype) for array in a_problem(seed, **size))
    loss = tn.dice_loss(model(tn.tensor(x)), target)
    loss.backward()
    return {"loss": loss.numpy()} | {name: p.grad.numpy() for name, p in model.named_parameters()}


def relative_error(actual, expected):
    """Largest error over largest value: the measure for whole nets."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


# ---------------------------------------------------------------------------------------- structure
def test_layers_are_those_of_the_lecture():
    model = script.UNet()
    rates = [m.p for _, m in model.named_modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.1, 0.1, 0.2, 0.2, 0.3, 0.2, 0.2, 0.1, 0.1]
    names = ("down1", "down2", "down3", "down4", "bottom", "merge4", "merge3", "merge2", "merge1")
    levels = [getattr(model, name) for name in names]
    c_ins, c_outs = (3, 16, 32, 64, 128, 256, 128, 64, 32), (16, 32, 64, 128, 256, 128, 64, 32, 16)
    for level, c_in, c_out in zip(levels, c_ins, c_outs, strict=True):
        assert [type(layer) for layer in level] == [nn.Conv2d, nn.ELU, nn.Dropout, nn.Conv2d, nn.ELU]
        assert (level[0].weight.shape, level[3].weight.shape) == ((3, 3, c_in, c_out), (3, 3, c_out, c_out))
        assert level[0].padding == level[3].padding == (1, 1)
    for layer, c_in in ((model.up4, 256), (model.up3, 128), (model.up2, 64), (model.up1, 32)):
        assert isinstance(layer, nn.ConvTranspose2d)
        assert (layer.weight.shape, layer.stride) == ((2, 2, c_in // 2, c_in), (2, 2))
    assert model.head.weight.shape == (1, 1, 16, 1)


def test_initial_weights_are_he_normal_and_biases_zero():
    tn.seed(0)
    for name, parameter in script.UNet().named_parameters():
        if name.endswith("bias"):
            assert not parameter.numpy().any(), name
        elif name.startswith(("down", "bottom", "merge")):
            expected = np.sqrt(2 / np.prod(parameter.shape[:3]))  # He: variance 2 / fan_in
            assert parameter.numpy().std() == pytest.approx(expected, rel=4 / np.sqrt(parameter.size)), name
            cut = 2 * expected / 0.8796  # a normal distribution cut off at two standard deviations, as in Keras
            assert np.abs(parameter.numpy()).max() <= cut * 1.001, name


@pytest.mark.parametrize("shape", [(1, 64, 48, 3), (2, 33, 21, 3), (1, 5, 17, 3), (1, 1, 1, 3)])
def test_any_size_goes_in_and_the_same_size_comes_out(shape):
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    model = a_net(heads=3).eval()
    y = nn.predict(model, x)
    assert y.shape == (*shape[:3], 3) and y.dtype == np.float32 and 0 < y.min() <= y.max() < 1
    height, width = shape[1:3]
    padded = np.pad(x, ((0, 0), (0, -height % 16), (0, -width % 16), (0, 0)))  # at the bottom and on the right
    np.testing.assert_array_equal(y, nn.predict(model, padded)[:, :height, :width])


def test_summary():
    found = nn.summary(script.UNet(), (1, 256, 256, 3))
    assert found.parameters == found.trainable == 1_941_105
    assert sum(p.size for p in script.UNet(heads=3).parameters()) == 1_941_105 + 2 * (16 + 1)
    assert found.multiply_adds == 3_032_481_792
    shapes = {row.name: row.shape for row in found.rows}
    assert shapes["bottom.4"] == (1, 16, 16, 256)
    assert shapes["merge1.4"] == (1, 256, 256, 16)
    assert "1,941,105" in str(found)


def test_the_losses_are_the_sums_of_their_parts():
    """Written out by the definitions: cross-entropy from the logarithms of probabilities, Dice from sums."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 8, 8, 3))
    target = (rng.random((2, 8, 8, 3)) < 0.4).astype(np.float64)
    p = 1 / (1 + np.exp(-logits))

    def cross_entropy(head, positives=1):
        t, q = target[..., head], p[..., head]
        return -(positives * t * np.log(q) + (1 - t) * np.log(1 - q)).mean()

    def dice(head):
        t, q = target[..., head], p[..., head]
        return 1 - (2 * (q * t).sum() + 1) / (q.sum() + t.sum() + 1)

    mask, border, distance = range(3)
    of_mask = {"dice": dice(mask), "bce+dice": cross_entropy(mask) + dice(mask)}
    for kind, expected in of_mask.items():
        actual = script.mask_loss(tn.tensor(logits[..., :1]), target[..., :1], kind).item()
        assert actual == pytest.approx(expected, rel=1e-12)
    expected = of_mask["bce+dice"] + cross_entropy(border, 3) + 0.5 * dice(border) + cross_entropy(distance)
    assert script.three_head_loss(tn.tensor(logits), target).item() == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------------------------------- the values of the whole net
@pytest.fixture(scope="module")
def truth():
    """Loss and gradients by the definitions, in float64."""
    with use_backend("reference"):
        return loss_and_gradients(np.float64)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-12), (np.float32, 1.5e-5)])
def test_agrees_with_the_definitions(dtype, limit, truth):
    """float32 rounds at 6e-8; through the twenty layers of the net that grows by about a hundred."""
    for name, actual in loss_and_gradients(dtype).items():
        assert actual.dtype == dtype and relative_error(actual, truth[name]) < limit, name


def test_textbook_convolution_and_pooling_give_the_same(truth):
    """im2col, written apart from the op folders, inside the real net. It must be seen to be used, too."""
    calls = []

    def counted(x, *windows):
        calls.append(x.shape)
        return pool_forward(x, *windows)

    with (
        use_backend("reference"),
        use_kernels("conv2d", **CONVOLUTIONS["conv2d"]),
        use_kernels("conv_transpose2d", **CONVOLUTIONS["conv_transpose2d"]),
        use_kernels("max_pool2d", **POOLING["max_pool2d"] | {"forward": counted}),
    ):
        found = loss_and_gradients(np.float64)
    assert len(calls) == 4
    for name, actual in found.items():
        assert relative_error(actual, truth[name]) < 1e-12, name


def test_a_wrong_kernel_is_seen_in_the_whole_net(truth):
    """The comparison above can fail: an ELU with another alpha, a weight gradient that is flipped."""

    def flipped(x, gy, *place):
        return CONVOLUTIONS["conv2d"]["backward_weight"](x, gy, *place)[::-1]

    with use_kernels("conv2d", backward_weight=flipped):
        found = loss_and_gradients(np.float64)
    assert relative_error(found["loss"], truth["loss"]) < 1e-12
    assert relative_error(found["merge2.0.weight"], truth["merge2.0.weight"]) > 0.1
    with use_kernels("elu", forward=lambda x, *, alpha: np.where(x > 0, x, 0.9 * np.expm1(np.minimum(x, 0)))):
        assert relative_error(loss_and_gradients(np.float64)["loss"], truth["loss"]) > 1e-6


@pytest.mark.bench
def test_agrees_with_pytorch(tmp_path):
    """Per tensor, float32 errs at most three times as much as PyTorch's float32 on the same inputs, against float64.

    What counts is the largest error in four problems: in a single one, either side can be lucky by a factor of five.
    The images are small. In large ones two values of a pooling window may be so close that float32 swaps them; the
    gradient then takes another way, which says nothing about accuracy. They are large enough for every version of
    conv2d that a U-Net runs.
    """
    pytest.importorskip("torch")
    seeds, size = range(4), {"height": 64, "width": 96}
    xs, targets = zip(*(a_problem(seed, **size) for seed in seeds))
    weights = {name: p.numpy() for name, p in a_net(dtype=np.float64).named_parameters()}
    np.savez(tmp_path / "problems.npz", x=xs, target=targets, **weights)
    program = Path(__file__).with_name("torch_unet.py")
    subprocess.run([sys.executable, program, tmp_path / "problems.npz", tmp_path / "answers.npz"], check=True)
    answers = np.load(tmp_path / "answers.npz")

    ours, theirs = {}, {}
    for seed in seeds:
        exact = loss_and_gradients(np.float64, seed, **size)
        for name, actual in loss_and_gradients(np.float32, seed, **size).items():
            expected = answers[f"float64/{seed}/{name}"]
            assert relative_error(exact[name], expected) < 1e-12, f"{name}: our float64 and PyTorch's differ"
            ours[name] = max(ours.get(name, 0), relative_error(actual, expected))
            their_error = relative_error(answers[f"float32/{seed}/{name}"], expected)
            theirs[name] = max(theirs.get(name, np.finfo(np.float32).eps), their_error)
    ratio, name = max((ours[name] / theirs[name], name) for name in ours)
    print(f"worst: {name}, {ours[name]:.2e} here, {theirs[name]:.2e} in PyTorch; ratio {ratio:.2f}")
    assert ratio <= 3, name


# ---------------------------------------------------------------------------------------- the script: train
TINY = ["--epochs", "4", "--crops", "4", "--batch-size", "2", "--size", "32", "--average", "0.5"]


@pytest.fixture
def tiny_data(monkeypatch):
    """Three small synthetic images and a look at a small part of the held-out one: epochs in a fraction of a second."""
    from tinynet.data import synthetic_nuclei

    samples = [synthetic_nuclei(np.random.default_rng(i), size=96) for i in range(3)]
    monkeypatch.setattr(script, "load_data", lambda *args, **kwargs: (samples[:2], samples[2:], "three small images"))
    monkeypatch.setattr(script.ValidationCrops, "SIZE", 64)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    """The folder and the metrics of `train --quick`; the look at held-out images is kept small."""
    out = tmp_path_factory.mktemp("quick")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script.ValidationCrops, "SIZE", 64)
        metrics = script.main(["train", "--quick", "--data", "synthetic", "--out", str(out)])
    return out, metrics


def test_train_quick_writes_its_files_and_learns(quick_run):
    out, metrics = quick_run
    for name in ("config.json", "metrics.csv", "curve.png", "predictions.png", "last.npz", "best.npz"):
        assert (out / name).stat().st_size > 0, name
    rows = rows_of(out / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert float(rows[1]["val_loss"]) < float(rows[0]["val_loss"])
    assert metrics["val_loss"] == float(rows[1]["val_loss"])
    assert float(rows[1]["lr"]) == pytest.approx(1e-5)  # a cosine from 1e-3 down to a hundredth
    with np.load(out / "last.npz") as last:
        assert "average/averages/head.weight" in last.files
    assert json.loads((out / "config.json").read_text())["settings"]["heads"] == 1


@pytest.mark.parametrize("flags", [["--heads", "3"], ["--loss", "bce+dice", "--native"]])
def test_train_with_other_flags(flags, tiny_data, tmp_path):
    metrics = script.main(["train", *TINY, "--epochs", "1", "--out", str(tmp_path), *flags])
    assert np.isfinite(metrics["train_loss"])
    model = script.load_net(str(tmp_path / "best.npz")).model
    assert model.head.out_channels == (3 if "--heads" in flags else 1)


def test_one_epoch_and_a_resumed_one_equal_two(tiny_data, monkeypatch, tmp_path, capsys):
    """Bit for bit: weights, optimizer, schedule, average, random streams and metrics."""
    two_epochs = [*TINY, "--epochs", "2"]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    script.main(["train", *two_epochs, "--out", whole])

    draw = script.ValidationCrops.draw

    def draw_and_interrupt(self, path, epoch):
        draw(self, path, epoch)
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(script.ValidationCrops, "draw", draw_and_interrupt)
        with pytest.raises(SystemExit) as stopped:
            script.main(["train", *two_epochs, "--out", parts])
    assert stopped.value.code == 130
    assert "--resume" in capsys.readouterr().out
    assert len(rows_of(Path(parts, "metrics.csv"))) == 1
    tn.seed(99)  # the resumed run must not lean on what this process remembers
    script.main(["train", *two_epochs, "--out", parts, "--resume"])

    for name in ("last.npz", "best.npz"):
        with np.load(Path(whole, name)) as a, np.load(Path(parts, name)) as b:
            assert sorted(a.files) == sorted(b.files)
            for key in a.files:
                if key not in ("metadata", "progress/seconds"):  # these hold times
                    np.testing.assert_array_equal(a[key], b[key], err_msg=f"{name}: {key}")
    for a, b in zip(rows_of(Path(whole, "metrics.csv")), rows_of(Path(parts, "metrics.csv")), strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}


# ---------------------------------------------------------------------------------------- the script: predict
def copying_net():
    """A U-Net whose weights are set by hand: it passes the red channel on and asks whether it exceeds 0.4.

    It is trained on nothing and yet finds bright discs on black, so that what `predict` must write is known.
    """
    model = script.UNet()
    for parameter in model.parameters():
        parameter.data = np.zeros_like(parameter.data)
    for level in (model.down1, model.merge1):
        for layer in (level[0], level[3]):
            layer.weight.data[1, 1, 0, 0] = 1
    model.merge1[0].weight.data[1, 1, 0, 0] = 0
    model.merge1[0].weight.data[1, 1, 16, 0] = 1  # the skip comes behind the 16 channels from below
    model.head.weight.data[0, 0, 0, 0] = 50
    model.head.bias.data[0] = -20
    return model


def discs(height, width, centers, radius=12, level=180):
    """A gray image (H, W) of discs."""
    y, x = np.ogrid[:height, :width]
    picture = np.zeros((height, width), np.uint8)
    for cy, cx in centers:
        picture[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = level
    return picture


IMAGES = {  # name: (height, width, centers of its discs, how it is stored)
    "gray": (61, 83, [(16, 16), (40, 60)], lambda p: p),
    "rgb": (75, 50, [(30, 25)], lambda p: np.repeat(p[..., None], 3, axis=2)),
    "rgba": (48, 97, [(20, 20), (22, 70)], lambda p: np.dstack([p, p, p, np.full_like(p, 255)])),
    "sixteen_bit": (57, 57, [(28, 28)], lambda p: p.astype(np.uint16) * 257),
    "empty": (40, 64, [], lambda p: p),
    "speck": (1, 1, [], lambda p: p),
}


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """The folder that `predict` wrote for IMAGES, and its metrics."""
    from tinynet.training.io import save_weights

    folder = tmp_path_factory.mktemp("predict")
    (folder / "images").mkdir()
    for name, (height, width, centers, stored) in IMAGES.items():
        Image.fromarray(stored(discs(height, width, centers))).save(folder / "images" / f"{name}.png")
    save_weights(folder / "weights.npz", copying_net())
    flags = ["--weights", str(folder / "weights.npz"), "--images", str(folder / "images"), "--no-flips"]
    flags += ["--submission"]
    return folder / "out", script.main(["predict", *flags, "--out", str(folder / "out")])


def label_image(out, name):
    from tifffile import imread

    return imread(out / "labels" / f"{name}.tif")


@pytest.mark.parametrize("name", IMAGES)
def test_predict_finds_the_discs_of_every_kind_of_file(predicted, name):
    out, _ = predicted
    height, width, centers, _ = IMAGES[name]
    labels = label_image(out, name)
    assert (labels.dtype, labels.shape) == (np.uint16, (height, width))
    assert labels.max() == len(centers)
    found = {int(labels[center]) for center in centers}
    assert found == set(range(1, len(centers) + 1)), "each disc has a number of its own"
    truth = discs(height, width, centers) > 0
    overlap = (truth & (labels > 0)).sum() / max(1, (truth | (labels > 0)).sum())
    assert overlap > 0.85 or not centers
    with Image.open(out / "overlays" / f"{name}.png") as overlay:
        assert overlay.size == (width, height)


def test_predict_writes_measurements(predicted):
    out, metrics = predicted
    rows = rows_of(out / "measurements.csv")
    expected = {(name, i + 1) for name, (_, _, centers, _) in IMAGES.items() for i in range(len(centers))}
    assert {(row["image"], int(row["id"])) for row in rows} == expected
    assert metrics == {"images": len(IMAGES), "nuclei": len(expected), "skipped": 0}
    for row in rows:
        labels = label_image(out, row["image"])
        assert int(row["area"]) == (labels == int(row["id"])).sum()
        center = np.array([float(row["centroid_y"]), float(row["centroid_x"])])
        distances = [np.hypot(*(center - c)) for c in IMAGES[row["image"]][2]]
        assert min(distances) < 1
        assert float(row["circularity"]) > 0.85
        assert float(row["mean_gray"]) > 150


def test_predict_writes_kaggles_submission(predicted):
    """Decoded here by the definition: 1-indexed runs down the columns; every image is there, the empty ones too."""
    out, _ = predicted
    rows = rows_of(out / "submission.csv")
    assert {row["ImageId"] for row in rows} == set(IMAGES)
    for name, (height, width, centers, _) in IMAGES.items():
        runs = [row["EncodedPixels"] for row in rows if row["ImageId"] == name]
        assert len(runs) == max(1, len(centers))
        pixels = np.zeros(height * width, bool)
        for run in runs:
            numbers = [int(word) for word in run.split()]
            for start, length in zip(numbers[::2], numbers[1::2]):
                assert not pixels[start - 1 : start - 1 + length].any(), "nuclei must not overlap"
                pixels[start - 1 : start - 1 + length] = True
        np.testing.assert_array_equal(pixels.reshape(width, height).T, label_image(out, name) > 0)


def test_predict_with_the_shipped_weights(tmp_path):
    """Without --weights, on images with a truth: well above what is found by chance."""
    from tinynet.data import synthetic_nuclei
    from tinynet.imaging.metrics import dice

    sample = synthetic_nuclei(np.random.default_rng(5), size=128)
    (tmp_path / "images").mkdir()
    Image.fromarray(sample.image).save(tmp_path / "images" / "a.png")
    script.main(["predict", "--images", str(tmp_path / "images"), "--no-flips", "--out", str(tmp_path / "out")])
    assert dice(sample.labels > 0, label_image(tmp_path / "out", "a") > 0) > 0.8


def test_a_net_trained_at_native_resolution_sees_images_as_they_are(tmp_path):
    from tinynet.training.io import save_weights

    for native, scale in ((True, 1.0), (False, None)):
        save_weights(tmp_path / "w.npz", script.UNet(), {"settings": {"native": native}})
        assert script.load_net(str(tmp_path / "w.npz")).scale == scale


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "no head.weight"),
        ({"head.weight": np.zeros((1, 1, 16, 1), np.float32)}, "down1.0.weight"),
        ({"head.weight": np.zeros((1, 1, 16, 2), np.float32)}, r"head.weight has shape \(1, 1, 16, 2\)"),
        ({"head.weight": 3.0}, r"head.weight has shape \(\)"),
    ],
)
def test_weights_of_another_model_are_refused(weights, message, tmp_path):
    from tinynet.errors import CheckpointError
    from tinynet.training.io import save_checkpoint

    save_checkpoint(tmp_path / "other.npz", {"model": weights})
    with pytest.raises(CheckpointError, match=message):
        script.main(["predict", "--weights", str(tmp_path / "other.npz"), "--images", str(tmp_path)])


# ---------------------------------------------------------------------------------------- the script: evaluate
# ---------------------------------------------------------------------------------------- the script: what goes where
def test_synthetic_images_differ_between_training_and_held_out_ones_and_between_seeds(monkeypatch):
    def no_data(*_):
        raise AssertionError("a quick run looks for no data")

    monkeypatch.setattr("tinynet.data.data_path", no_data)
    images = []
    for seed in (0, 1):
        training, held_out, source = script.load_data(None, seed, quick=True)
        assert source == "synthetic nuclei"
        assert [sample.kind for sample in training[:4]] == 3 * ["fluorescence"] + ["histology"]
        assert len({sample.group for sample in training}) == len(training)
        images += [sample.image.tobytes() for sample in training + held_out]
    assert len(set(images)) == len(images)
    again = script.load_data("synthetic", 0, quick=True)
    assert [sample.image.tobytes() for sample in again[0] + again[1]] == images[: len(images) // 2]


def a_sample(centers=((50, 50), (50, 150), (150, 60)), shape=(200, 240), radius=24):
    """An image of bright discs and its labels."""
    from tinynet.data import Sample

    labels = sum(
        (i * (discs(*shape, [center], radius) > 0).astype(np.int32) for i, center in enumerate(centers, start=1)),
        np.zeros(shape, np.int32),
    )
    return Sample("discs", discs(*shape, centers, radius)[:, :, None].repeat(3, axis=2), labels, "fluorescence", "g")


def test_a_validation_view_is_the_middle_at_the_training_scale():
    sample = a_sample()
    image, labels = script.middle_view(sample, 256, 24.0)
    assert image.shape == (*labels.shape, 3) and labels.shape == pytest.approx((100, 120), rel=0.02)
    assert tn.instances.median_diameter(labels) == pytest.approx(24, rel=0.05)
    assert ((image[:, :, 0] > 0.5) == (labels > 0)).mean() > 0.97  # normalized; and both show the same place
    image, labels = script.middle_view(sample, 64, None)
    np.testing.assert_array_equal(labels, sample.labels[68:132, 88:152])
    np.testing.assert_array_equal(image, tn.data.normalize(sample.image)[68:132, 88:152])


def test_validation_scores_are_means_over_all_views():
    """A net that is right on the first view and blind on the second."""
    samples = [a_sample(), a_sample(((100, 100), (100, 180)))]
    views = script.ValidationCrops(samples, heads=1, diameter=24.0, count=9)
    answers = iter([views.targets[0], 0 * views.targets[1]])
    scores = views.score(lambda x: tn.tensor(next(answers)[None]), lambda x, target: tn.tensor(target).sum())
    expected = {"val_loss": np.mean([t.sum() for t in views.targets]), "val_dice": 0.5, "val_mean_ap": 0.5}
    assert scores == pytest.approx(expected, rel=1e-6)
    assert [found.max() for found in views.found] == [3, 0]


def test_views_are_spread_over_the_held_out_images_and_drawn_with_what_was_found(monkeypatch, tmp_path):
    samples = [a_sample(((20 + 10 * i, 50), (150, 150))) for i in range(5)]
    views = script.ValidationCrops(samples, heads=1, diameter=None, count=3)
    for (_, labels), i in zip(views.views, (0, 2, 4), strict=True):
        np.testing.assert_array_equal(labels, samples[i].labels)
    views.found = [np.full_like(labels, 7) for _, labels in views.views]
    drawn = []
    overlay = tn.viz.comparison_overlay
    monkeypatch.setattr(tn.viz, "comparison_overlay", lambda *arrays: drawn.append(arrays) or overlay(*arrays))
    views.draw(tmp_path / "a.png", epoch=1)
    for (_, truth, found), i in zip(drawn, (0, 2, 4), strict=True):
        assert np.all(found == 7) and np.array_equal(truth, samples[i].labels)


def test_every_setting_of_train_arrives(tiny_data, monkeypatch, tmp_path):
    import tinynet.data
    import tinynet.nn.optim
    import tinynet.training.train

    given, backends = {}, []

    def spy(module, name):
        original = getattr(module, name)

        def call(*args, **options):
            given[name] = inspect.signature(original).bind(*args, **options).arguments
            return original(*args, **options)

        monkeypatch.setattr(module, name, call)

    def fit(self, *args, **options):
        given["fit"] = options
        backends.append(tn.backend())

    monkeypatch.setattr(tinynet.training.train.Trainer, "fit", fit)
    for module, names in {
        tinynet.data: "NucleiCrops DataLoader",
        tinynet.nn.optim: "AdamW CosineDecay WeightAverage",
        tinynet.training.train: "Trainer",
    }.items():
        for name in names.split():
            spy(module, name)
    flags = ["--native", "--heads", "3", "--size", "48", "--crops", "40", "--batch-size", "4", "--epochs", "2"]
    flags += ["--lr", "0.5", "--weight-decay", "0.25", "--average", "0.75", "--seed", "9", "--backend", "reference"]
    script.main(["train", *flags, "--out", str(tmp_path)])
    for name, expected in {
        "NucleiCrops": {"size": 48, "crops_per_epoch": 40, "heads": 3, "target_diameter": None},
        "DataLoader": {"batch_size": 4, "seed": 9},
        "AdamW": {"lr": 0.5, "weight_decay": 0.25},
        "CosineDecay": {"total": 20, "warmup": 2},
        "WeightAverage": {"decay": 0.75},
        "Trainer": {"max_norm": 2},
        "fit": {"best": ("val_loss", "min")},
    }.items():
        assert expected.items() <= given[name].items()
    trainer = given["Trainer"]
    assert trainer["average"] is not None and trainer["schedule"] is not None and backends == ["reference"]
    first = trainer["model"].down1[0].weight.numpy()
    tn.seed(9)
    np.testing.assert_array_equal(first, script.UNet(3).down1[0].weight.numpy())
    script.main(["train", "--out", str(tmp_path)])
    assert given["NucleiCrops"]["target_diameter"] == tn.segment.DIAMETER


def test_a_loaded_net_is_in_evaluation_mode_without_gradients(predicted, monkeypatch):
    grad_modes = []
    forward = script.UNet.forward
    monkeypatch.setattr(script.UNet, "forward", lambda *args: grad_modes.append(tn.is_grad_enabled()) or forward(*args))
    net = script.load_net(str(predicted[0].parent / "weights.npz"))
    net(np.zeros((1, 16, 16, 3), np.float32))
    assert grad_modes == [False]
    assert not any(module.training for _, module in net.model.named_modules())


def test_flags_of_predict_arrive_and_many_nuclei_get_32_bits(predicted, monkeypatch, tmp_path):
    folder, seen = predicted[0].parent, []
    labels = np.ones((61, 83), np.int32)

    def segment_many(net, images, diameter, flips, min_area, exclude_border, progress):
        seen.append((diameter, flips, min_area, exclude_border, tn.backend()))
        return [tn.nuclei.Nuclei(labels, 24.0, "")] * len(images)

    monkeypatch.setattr(tn.nuclei, "segment_many", segment_many)
    line = ["predict", "--weights", str(folder / "weights.npz"), "--images", str(folder / "images" / "gray.png")]
    script.main([*line, "--out", str(tmp_path / "a")])
    flags = ["--diameter", "30", "--no-flips", "--min-area", "9", "--exclude-border", "--backend", "reference"]
    script.main([*line, *flags, "--out", str(tmp_path / "b")])
    assert seen == [(None, True, None, False, "cpu"), (30.0, False, 9.0, True, "reference")]
    labels[0, 0] = 2**16
    script.main([*line, "--force", "--out", str(tmp_path / "a")])
    assert label_image(tmp_path / "a", "gray").max() == 2**16


def test_evaluate_scores_the_right_images_and_tells_the_methods_apart(
    tiny_data, predicted, monkeypatch, tmp_path, capsys
):
    """Instead of the net: the truth. It scores 1, Otsu does not."""
    training, validation, _ = script.load_data()
    truth = {sample.image.tobytes(): sample.labels for sample in training + validation}
    seen, shown = [], []
    overlay = tn.viz.comparison_overlay

    def segment_many(net, images, flips):
        seen.extend([(flips, tn.backend())] * len(images))
        return [tn.nuclei.Nuclei(truth[image.tobytes()], 24.0, "") for image in images]

    monkeypatch.setattr(tn.nuclei, "segment_many", segment_many)
    monkeypatch.setattr(tn.viz, "comparison_overlay", lambda *arrays: shown.append(arrays) or overlay(*arrays))
    line = ["evaluate", "--weights", str(predicted[0].parent / "weights.npz"), "--out", str(tmp_path)]
    metrics = script.main(line)
    assert set(metrics) == {"mean_ap", "otsu_mean_ap"} and metrics["mean_ap"] == 1 > metrics["otsu_mean_ap"] > 0
    assert {row["method"] for row in rows_of(tmp_path / "scores.csv")} == {"Otsu + watershed", "U-Net"}
    assert (tmp_path / "comparison.png").stat().st_size > 0 and "Otsu + watershed" in capsys.readouterr().out
    (otsu, found) = (arrays[2][::5, ::5] for arrays in shown)  # an image of 96 pixels is drawn five times as large
    assert np.array_equal(found, validation[0].labels) and np.array_equal(
        otsu, tn.instances.otsu_watershed(validation[0].image)
    )
    for split, count in (("validation", 1), ("train", 2), ("all", 3)):
        script.main([*line, "--split", split, "--no-flips", "--backend", "reference"])
        assert len(rows_of(tmp_path / "images.csv")) == 2 * count
    assert seen == [(True, "cpu")] + 6 * [(False, "reference")]


# ---------------------------------------------------------------------------------------- the script: bad input
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["predict"], "no images are given"),
        (["predict", "--images", "nowhere", "--weights", "nowhere.npz"], "there is no checkpoint nowhere.npz"),
        (["train", "--heads", "2"], "--heads"),
        (["train", "--data", "nowhere", "--epochs", "1"], "nowhere"),
        (["evaluate", "--split", "test"], "--split"),
    ],
)
def test_a_senseless_command_is_answered_with_a_sentence(line, message, tmp_path):
    with pytest.raises((ValueError, OSError), match=message):
        script.main([*line, "--out", str(tmp_path)])


def test_predict_skips_broken_images_and_writes_the_others(predicted, tmp_path, capsys):
    from tifffile import imwrite

    folder, out = predicted[0].parent, tmp_path / "out"
    (tmp_path / "broken.png").write_bytes((folder / "images" / "rgb.png").read_bytes()[:60])
    imwrite(tmp_path / "nan.tif", np.full((20, 20), np.nan, np.float32))
    paths = [tmp_path / "broken.png", tmp_path / "none.zip", tmp_path / "nan.tif"]
    line = ["predict", "--weights", str(folder / "weights.npz"), "--no-flips", "--submission", "--out", str(out)]
    line += ["--images", *map(str, paths)]
    with pytest.raises(tn.data.DataError, match=r"none of 3 images could be read; the first: .*none\.zip"):
        script.main(line)
    capsys.readouterr()
    assert script.main([*line, *(str(folder / "images" / f"{n}.png") for n in ("gray", "empty"))])["skipped"] == 3
    printed = capsys.readouterr()
    assert printed.err.count("skipped: ") == 3 and all(path.stem in printed.err for path in paths)
    assert "warning: empty: no nucleus was found" in printed.err
    assert "gray: 2 nuclei, diameter 24 pixels" in printed.out
    assert {row["image"] for row in rows_of(out / "measurements.csv")} == {"gray"}
    assert {row["ImageId"] for row in rows_of(out / "submission.csv")} == {"gray", "empty"}


def test_images_in_which_nobody_marked_a_nucleus_are_not_trained_on(tmp_path):
    for name, dtype in (("images", np.uint8), ("labels", np.uint16)):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(np.zeros((40, 30), dtype)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(ValueError, match="no nucleus is marked in any of the 3 training images"):
        script.main(["train", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_two_predictions_into_one_folder_do_not_mix(predicted, tmp_path):
    with RunFolder(tmp_path / "out").claimed(), pytest.raises(CheckpointError, match="in use by another run"):
        script.main(["predict", str(tn.data.nuclei.EXAMPLE / "images"), "--out", str(tmp_path / "out")])
