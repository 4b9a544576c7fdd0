"""Training on a user's own few images: which are held out, where training starts, and every kind of bad folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tinynet as tn
from tinynet.data import DataError, Sample
from tinynet.tools.bench.examples import load_example

script = load_example("segmentation/unet_nuclei.py")
TINY = ["--epochs", "2", "--crops", "2", "--batch-size", "2", "--size", "16"]


def a_sample(name, marked=True, content=None):
    """A tiny image with one nucleus, or none. content: equal contents make copies."""
    image = np.full((4, 4, 3), 0, np.uint8)
    image[0, 0] = sum(map(ord, name)) if content is None else content
    labels = np.zeros((4, 4), np.int32)
    labels[1, 1] = marked
    return Sample(name, image, labels, "fluorescence", name)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_some_are_held_out_and_nuclei_stay_to_train_on(marked):
    samples = [a_sample(f"{i:02d}", m, content=i) for i, m in enumerate(marked)]
    training, held_out = tn.data.hold_out(samples)
    assert sorted(s.id for s in training + held_out) == [s.id for s in samples] and training
    assert len(held_out) <= 1 + len(samples) // 5
    if sum(marked) >= 2:
        assert any(s.labels.any() for s in training) and any(s.labels.any() for s in held_out)


@pytest.mark.parametrize(("count", "held_out"), [(1, []), (2, [1]), (4, [1]), (5, [4]), (8, [4]), (10, [4, 9])])
def test_which_images_are_held_out(count, held_out):
    samples = [a_sample(str(i), content=i) for i in range(count)]
    assert [s.id for s in tn.data.hold_out(samples)[1]] == [str(i) for i in held_out]


def test_a_copy_of_a_training_image_is_never_measured_on():
    samples = [a_sample(name, content=7) for name in "abc"] + [a_sample("d", content=1), a_sample("e", content=2)]
    assert [s.id for s in tn.data.hold_out(samples)[1]] == ["e"]
    assert tn.data.hold_out(samples[:3])[1] == []


# ---------------------------------------------------------------------------------------- the script
def write_images(folder, count, labels=True):
    for i in range(count):
        sample = tn.data.synthetic_nuclei(np.random.default_rng(i), size=64)
        for kind, pixels in (("images", sample.image), ("labels", sample.labels.astype(np.uint16) * labels)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{i}.png")
    return folder


def train(folder, *flags):
    return script.main(["train", "--data", str(folder), *TINY, "--out", str(folder / "out"), *flags])


def settings_of(folder):
    return json.loads((folder / "out" / "config.json").read_text())["settings"]


def test_training_starts_from_the_shipped_weights_with_steps_for_few_images(tmp_path, monkeypatch, capsys):
    started = []
    fit = tn.train.Trainer.fit

    def spy(self, *args, **options):
        started.append({name: p.numpy().copy() for name, p in self.model.named_parameters()})
        return fit(self, *args, **options)

    monkeypatch.setattr(tn.train.Trainer, "fit", spy)
    metrics = train(write_images(tmp_path, 3), "--weights", "shipped", "--crops", "2")
    shipped = dict(tn.nuclei.load_net().model.named_parameters())
    for name, array in started[0].items():
        np.testing.assert_array_equal(array, shipped[name].numpy(), name)
    assert "val_mean_ap" in metrics and (tmp_path / "out" / "predictions.png").exists()
    settings = settings_of(tmp_path)
    assert settings["heads"] == 3 and settings["lr"] == script.FINE_TUNING["lr"] < script.FROM_SCRATCH["lr"]
    assert re.search(r"training images +2\nheld out images +1\n", capsys.readouterr().out)
    # the result is a starting point, too
    train(tmp_path, "--weights", str(tmp_path / "out" / "best.npz"), "--lr", "1e-5")
    assert settings_of(tmp_path)["lr"] == 1e-5
    assert not np.array_equal(started[1]["head.bias"], started[0]["head.bias"])


def test_one_image_trains_and_is_not_measured_on(tmp_path, capsys):
    metrics = train(write_images(tmp_path, 1), "--weights", "shipped")
    assert "val_loss" not in metrics and (tmp_path / "out" / "best.npz").exists()
    assert "no image is held out" in capsys.readouterr().out
    line = ["evaluate", "--data", str(tmp_path), "--out", str(tmp_path / "scores"), "--no-flips"]
    with pytest.raises(DataError, match="none is held out; --split all"):
        script.main(line)
    assert script.main([*line, "--split", "all"])["mean_ap"] >= 0


def test_a_net_may_train_on_all_images_and_evaluate_says_so(tmp_path, capsys):
    assert "val_loss" not in train(write_images(tmp_path, 5), "--weights", "shipped", "--all")
    printed = capsys.readouterr().out
    assert re.search(r"training images +5\nheld out images +0\n", printed)
    assert "the same command without --all measures it" in printed
    weights = str(tmp_path / "out" / "best.npz")
    script.main(["evaluate", "--data", str(tmp_path), "--out", str(tmp_path / "s"), "--no-flips", "--weights", weights])
    assert "trained on all images" in capsys.readouterr().out


def test_of_images_with_channels_the_named_one_is_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tn.train.Trainer, "fit", lambda *_, **__: {})
    write_images(tmp_path, 2)
    for path in (tmp_path / "images").iterdir():
        nuclei = np.asarray(Image.open(path))[:, :, 0]
        channels = np.stack([0 * nuclei, nuclei])
        tifffile.imwrite(path.with_suffix(".tif"), channels, imagej=True, metadata={"axes": "CYX"})
        path.unlink()
    with pytest.raises(DataError, match=r"2 channels: 1, 2; which one shows the nuclei.* --channel"):
        train(tmp_path)
    train(tmp_path, "--channel", "2")
    assert f"evaluate --weights {tmp_path}/out/best.npz --data {tmp_path} --channel 2\n" in capsys.readouterr().out
    training, held_out, _ = script.load_data(str(tmp_path), 0, False, "2")
    assert all(sample.image.any() for sample in training + held_out)


@pytest.mark.parametrize(("flags", "highest"), [((), 0.3), (("--no-dropout",), 0.0)])
def test_a_net_may_train_without_dropout(tmp_path, monkeypatch, flags, highest):
    given = []
    monkeypatch.setattr(tn.train.Trainer, "fit", lambda self, *_, **__: given.append(self.model) or {})
    train(write_images(tmp_path, 2), "--weights", "shipped", *flags)
    layers = [module for module in given[0].modules() if isinstance(module, tn.nn.Dropout)]
    assert len(layers) == 9 and max(layer.p for layer in layers) == highest


def test_a_native_net_stays_native(tmp_path, monkeypatch):
    monkeypatch.setattr(tn.train.Trainer, "fit", lambda self, *args, **options: {"native": self.settings["native"]})
    tn.io.save_weights(tmp_path / "w.npz", script.UNet(1), {"settings": {"native": True}})
    assert train(write_images(tmp_path, 2), "--weights", str(tmp_path / "w.npz"))["native"] is True
    assert train(tmp_path)["native"] is False


# ---------------------------------------------------------------------------------------- damaged twins
def missing_label(folder: Path):
    (folder / "labels/1.png").unlink()


def other_size(folder: Path):
    Image.fromarray(np.ones((64, 32), np.uint8)).save(folder / "labels/1.png")


def colored_labels(folder: Path):
    Image.fromarray(np.full((64, 64, 3), (255, 0, 0), np.uint8)).save(folder / "labels/1.png")


def jpeg_labels(folder: Path):
    Image.open(folder / "labels/1.png").convert("L").save(folder / "labels/1.jpg")
    (folder / "labels/1.png").unlink()


def broken_label(folder: Path):
    (folder / "labels/1.png").write_bytes((folder / "labels/1.png").read_bytes()[:60])


def empty_labels(folder: Path):
    write_images(folder, 2, labels=False)


DAMAGES = {
    missing_label: r"1\.png: need exactly one label image of the same name in labels/.*1 of 2 images have none",
    other_size: r"1\.png: label image of shape \(64, 32\); its image has \(64, 64\)",
    colored_labels: r"1\.png: label image of shape \(64, 64, 3\); .*one number for each pixel, not a color",
    jpeg_labels: r"1\.jpg: a label image compressed by JPEG",
    broken_label: r"1\.png: not a readable image",
    empty_labels: "no nucleus is marked in any of the 2 training images",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_folder_is_named_and_nothing_is_written(tmp_path, damage):
    damage(write_images(tmp_path, 2))
    with pytest.raises(DataError, match=DAMAGES[damage]):
        train(tmp_path, "--weights", "shipped")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights", "shipped", "--heads", "1"], "--heads is 1, but .* has 3 outputs: leave out --heads"),
        (["--weights", "nowhere.npz"], r"there is no checkpoint nowhere\.npz"),
    ],
)
def test_weights_that_cannot_be_a_start(tmp_path, flags, message):
    with pytest.raises((ValueError, OSError), match=message):
        train(write_images(tmp_path, 2), *flags)


# ---------------------------------------------------------------------------------------- labels of other programs
@pytest.mark.parametrize("program", ["ImageJ 16 bits", "ImageJ 32 bits", "napari", "QuPath PNG", "QuPath OME-TIFF"])
def test_label_images_of_other_programs(tmp_path, program):
    """As these programs save them: ImageJ in the byte order of Java, napari 64 bits, QuPath with a palette."""
    from tifffile import imwrite

    write_images(tmp_path, 2)
    (before, _) = tn.data.read_nuclei(tmp_path)
    labels, path = before.labels * 3, tmp_path / "labels/0.tif"
    (tmp_path / "labels/0.png").unlink()
    if program == "ImageJ 16 bits":
        imwrite(path, labels.astype(">u2"), imagej=True, metadata={"min": 0.0, "max": 9.0})
    elif program == "ImageJ 32 bits":
        imwrite(path, labels.astype(">f4"), imagej=True)
    elif program == "napari":
        imwrite(path, labels.astype(np.int64), compression="zlib")
    elif program == "QuPath PNG":
        image = Image.fromarray(labels.astype(np.uint8), "P")
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768).astype(np.uint8).tobytes())
        image.save(path.with_suffix(".png"))
    else:
        imwrite(path, labels.astype(np.uint16), ome=True, tile=(32, 32), compression="zlib", resolution=(2, 2))
    np.testing.assert_array_equal(tn.data.read_nuclei(tmp_path)[0].labels, before.labels)
