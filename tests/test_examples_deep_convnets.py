"""AlexNet and transfer learning: that they learn, and what in them is exact."""

import numpy as np
import pytest
from example_runs import run_quickly

import tinynet as tn
from tinynet import nn
from tinynet.data import ImageSet
from tinynet.tools.bench.examples import load_example


@pytest.fixture
def without_data(tmp_path, monkeypatch):
    """Nothing at hand but what packages bring with them."""
    pytest.importorskip("sklearn", reason="the small digits are in scikit-learn, extra 'examples'")
    monkeypatch.setattr("tinynet.data.download.downloads", lambda: tmp_path / "cache")
    monkeypatch.delenv("TINYNET_DATA", raising=False)


# ---------------------------------------------------------------------------------------- AlexNet
@pytest.fixture(scope="module")
def published():
    """AlexNet itself, whose 60 million initial weights take a while to draw."""
    return load_example("convnets/alexnet.py").alexnet()


def test_alexnet(tmp_path, without_data, monkeypatch, published, capsys):
    monkeypatch.setattr(load_example("convnets/alexnet.py"), "alexnet", lambda: published)
    figures = run_quickly("convnets/alexnet.py", tmp_path)
    assert figures["parameters_as_published"] == 60_965_224
    assert figures["auc"] > 0.8 and 0 <= figures["sensitivity_at_95"] <= 1
    printed = capsys.readouterr().out
    assert "drawings, because chest_xray/chest_xray.zip was not found" in printed
    assert "sensitivity at 95% specificity: " in printed and "bootstrap interval" in printed
    assert {path.name for path in tmp_path.glob("*.png")} == {"roc.png", "xrays.png", "occlusion.png", "layers.png"}


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


# ---------------------------------------------------------------------------------------- transfer learning
def test_transfer_learning(tmp_path, without_data, capsys):
    figures = run_quickly("convnets/transfer_learning.py", tmp_path)
    assert set(figures) == {"digits_gain_of_10", "digits_gain_of_most", "digits_fine_tuned"}
    assert figures["digits_fine_tuned"] > 0.35  # from ten images; guessing gives 0.2
    printed = capsys.readouterr().out
    assert "without medicine: chest_xray/chest_xray.zip was not found" in printed
    assert "fine-tuning the last two" in printed


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
    features = script.outputs(frozen, images)
    np.testing.assert_allclose(script.outputs(trained, features), script.outputs(whole, images), rtol=1e-6)

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
