"""The scripts of examples/convnets: that they learn, and what in them is exact."""

import numpy as np
import pytest
from example_runs import run_quickly
from scipy import ndimage, signal

import tinynet as tn
from tinynet.data import ImageSet, data_path, synthetic_nuclei
from tinynet.tools.bench.examples import load_example


@pytest.fixture
def without_data(tmp_path, monkeypatch):
    """Nothing at hand but what packages bring with them."""
    pytest.importorskip("sklearn", reason="the small digits are in scikit-learn, extra 'examples'")
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    monkeypatch.delenv("TINYNET_DATA", raising=False)


# ---------------------------------------------------------------------------------------- convolution by hand
def test_convolution_by_hand(tmp_path):
    figures = run_quickly("convnets/convolution_by_hand.py", tmp_path)
    assert figures["moving_average_error"] < 1e-12 and figures["pool_difference"] == 0
    assert max(figures["conv_difference"], figures["transposed_difference"]) < 1e-5
    assert figures["adjoint_difference"] < 1e-10


def test_the_loops_are_what_scipy_computes():
    script = load_example("convnets/convolution_by_hand.py")
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((7, 6)), rng.standard_normal((3, 3))
    np.testing.assert_allclose(script.convolve_2d(x, w), signal.correlate2d(x, w, "valid"), rtol=1e-12)
    whole = signal.correlate2d(x, w, "same")
    np.testing.assert_allclose(script.convolve_2d(x, w, padding=1, stride=2), whole[::2, ::2], rtol=1e-12, atol=1e-14)
    # With stride 1 the transposed convolution is the full convolution of mathematics.
    np.testing.assert_allclose(script.transposed_convolve_2d(x, w), signal.convolve2d(x, w), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(script.convolve_1d(x[0], w[0]), np.correlate(x[0], w[0], "same"), rtol=1e-12)
    np.testing.assert_allclose(script.matrix_of(w[0], 6) @ x[0], script.convolve_1d(x[0], w[0]), rtol=1e-12)


def test_pooling_remembers_where():
    script = load_example("convnets/convolution_by_hand.py")
    x = np.array([[1, 3, 2, 0], [5, 2, 1, 1], [0, 1, 8, 2], [4, 0, 3, 6]])
    y, place = script.max_pool(x)
    assert y.tolist() == [[5, 2], [4, 8]] and place.tolist() == [[4, 2], [12, 10]]
    back = script.max_unpool(y, place, x.shape)
    assert back.sum() == y.sum() and (back[back > 0] == x[back > 0]).all()


# ---------------------------------------------------------------------------------------- LeNet
def test_lenet(tmp_path, without_data, capsys):
    figures = run_quickly("convnets/lenet_mnist.py", tmp_path)
    assert figures == {"accuracy": pytest.approx(figures["accuracy"]), "parameters": 61_706}
    assert figures["accuracy"] > 0.8
    assert {path.name for path in tmp_path.glob("*.png")} == {"feature_maps.png", "confusion.png", "mistakes.png"}
    assert "scikit-learn's small digits" in capsys.readouterr().out
    run_quickly("convnets/lenet_mnist.py", tmp_path, "--resume")
    assert "3 epochs are done already" in capsys.readouterr().out


def test_shifted_digits_and_digits_held_out():
    script = load_example("convnets/lenet_mnist.py")
    images = np.zeros((24, 28, 28, 1), np.uint8)
    images[:, 14, 10] = 255
    digits = ImageSet(images, np.arange(24), tuple("abcdefghijklmnopqrstuvwx"))
    places = set()
    for seed in range(60):
        image, label = script.ShiftedDigits(digits, 2).item(3, np.random.default_rng(seed))
        assert image.shape == (28, 28, 1) and image.dtype == np.float32 and image.sum() == 1 and label == 3
        places.add(tuple(int(i) for i in np.argwhere(image)[0][:2]))
    assert {row for row, _ in places} == set(range(12, 17)) and {column for _, column in places} == set(range(8, 13))
    training, validation = script.hold_out(digits, seed=0, images=None)
    assert len(validation) == 2 and sorted([*training.labels, *validation.labels]) == list(range(24))


# ---------------------------------------------------------------------------------------- augmentation
def test_data_augmentation(tmp_path, without_data, capsys):
    figures = run_quickly("convnets/data_augmentation.py", tmp_path)
    assert figures["accuracy_none"] > 0.5
    assert figures["gain_of_flip"] == figures["accuracy_flip"] - figures["accuracy_none"]
    assert "a synthetic one, because dsb2018/stage1_train.zip was not found" in capsys.readouterr().out
    assert (tmp_path / "ablation.png").exists()


def test_image_and_mask_move_by_the_same_map():
    script = load_example("convnets/data_augmentation.py")
    labels = synthetic_nuclei(np.random.default_rng(0), size=64).labels
    image = np.repeat((labels > 0)[:, :, None], 3, axis=2).astype(np.float32)
    for how in ({"shift": (5, -9)}, {"shear": 0.4}, {"zoom": (1.6, 1.2)}, {"angle": 0.5}, {"flip": True}):
        picture, mask = script.moved(image, labels, **how)
        assert np.mean((picture[:, :, 0] > 0.5) == (mask > 0)) > 0.97, how
        assert set(np.unique(mask)) <= set(np.unique(labels))
    np.testing.assert_array_equal(script.moved(image, labels, flip=True)[1], labels[:, ::-1])
    np.testing.assert_array_equal(script.moved(image, labels, flip=True, angle=np.pi)[1], labels[::-1])


def test_each_augmentation_of_the_ablation_is_alone():
    script = load_example("convnets/data_augmentation.py")
    image = np.random.default_rng(0).random((28, 28, 1), dtype=np.float32)
    changed = {}
    for name, augmentation in script.ABLATION.items():
        changed[name], _ = augmentation(image, None, np.random.default_rng(1))
        assert changed[name].dtype == np.float32 and changed[name].shape == image.shape
    np.testing.assert_array_equal(changed["none"], image)
    for name in (*script.MOVES, "flip"):
        at_work = {part for part, rest in script.STILL.items() if getattr(script.ABLATION[name], part) != rest}
        assert at_work == {name}
    mirrored = [script.ABLATION["flip"](image, None, np.random.default_rng(seed))[0] for seed in range(8)]
    either = [np.allclose(picture, image[:, ::-1]) or np.allclose(picture, image) for picture in mirrored]
    assert all(either) and not all(np.allclose(picture, image) for picture in mirrored)
    digits = ImageSet(np.zeros((200, 28, 28, 1), np.uint8), np.arange(200) % 10, tuple("0123456789"))
    few = script.few_of_each(digits, 3, np.random.default_rng(0))
    assert np.bincount(few.labels).tolist() == [3] * 10


# ---------------------------------------------------------------------------------------- features made by hand
def test_handcrafted_features(tmp_path, without_data, capsys):
    figures = run_quickly("convnets/handcrafted_features.py", tmp_path)
    assert "without the ultrasound images: medmnist/breastmnist.npz was not found" in capsys.readouterr().out
    assert not any(name.startswith("breast") for name in figures)
    assert figures["nuclei_hog_auc"] > 0.8


def test_handcrafted_features_of_the_ultrasound_images():
    if data_path("medmnist/breastmnist.npz") is None:
        pytest.skip("medmnist/breastmnist.npz is neither in TINYNET_DATA nor in the cache")
    script = load_example("convnets/handcrafted_features.py")
    task = script.breast_task(None)
    assert tn.metrics.auc(task.test_labels, script.linear_scores(task, "hog")) > 0.7


def test_hog_does_not_see_contrast_nor_lbp_a_turn():
    script = load_example("convnets/handcrafted_features.py")
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((32, 32)), 2)
    image = (image - image.min()) / np.ptp(image)
    assert script.hog(image).shape == (324,) == script.hog(image[:28, :28]).shape
    np.testing.assert_allclose(script.hog(0.5 * image + 0.2), script.hog(image), atol=1e-4)
    codes = script.lbp_codes(image)
    assert codes.min() >= 0 and codes.max() <= 9
    np.testing.assert_array_equal(script.lbp_codes(np.rot90(image))[1:-1, 1:-1], np.rot90(codes)[1:-1, 1:-1])
    shares = script.lbp(image).reshape(9, 10)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_patches_have_what_their_label_says_in_the_middle():
    script = load_example("convnets/handcrafted_features.py")
    sample = synthetic_nuclei(np.random.default_rng(3), size=160)
    sample.image = np.repeat(((sample.labels > 0) * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    images, labels = script.patches([sample], 20, np.random.default_rng(0))
    assert images.shape[1:] == (32, 32, 1) and images.dtype == np.float32 and 0 <= images.min() <= images.max() <= 1
    assert np.bincount(labels).tolist() == [len(labels) // 2] * 2
    assert (images[labels == 0, 16, 16] == 0).all() and (images[labels == 1, 16, 16] > 0.5).mean() > 0.9
    assert (images[labels == 0].max(axis=(1, 2, 3)) == 1).all(), "a nucleus is never far away"
