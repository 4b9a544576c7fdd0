"""The exact parts of examples/registration/affine_regression.py and learned_similarity.py."""

import numpy as np
import pytest
from test_nn_gradients import as_function

import tinynet as tn
from tinynet.data import DataError, StainedSlice, StainPair, synthetic_stained_slices
from tinynet.tools.bench.examples import load_example

AFFINE, LEARNED = "registration/affine_regression.py", "registration/learned_similarity.py"


# ---------------------------------------------------------------------------------------- affine regression
def test_a_shift_and_a_rotation_move_the_image_as_they_say():
    script = load_example(AFFINE)
    image = np.zeros((1, 96, 96, 1), np.float32)
    image[0, 60, 40] = 1
    shifted = script.move(image, np.array([[0, 7.0, -4]]))  # y[place] = image[place + (7, -4)]
    assert shifted[0, 53, 44, 0] > 0.999
    quarter = script.move(image, np.array([[np.pi / 2, 0, 0]]))[0, :, :, 0]
    np.testing.assert_allclose(quarter, np.rot90(image[0, :, :, 0], -1), atol=1e-4)


def test_the_error_is_the_distance_over_the_head():
    script = load_example(AFFINE)
    true = np.array([[0.3, 1, 2.0], [-0.5, 3, 3]])
    found = true + np.array([[0, 3, 4.0], [np.pi, 0, 0]])
    head = np.zeros((2, 96, 96), bool)
    head[0, 30:60, 20:70] = head[1, 47, 17] = True  # 30 columns left of the center, half a row above
    np.testing.assert_allclose(script.errors(found, true, head), [5, 2 * np.hypot(0.5, 30.5)])


def test_fixed_and_moving_image_fit_by_the_true_transform():
    script = load_example(AFFINE)
    slices = script.slices_of(script.synthetic_template(np.random.default_rng(0))["t1"])
    assert slices.shape == (script.LAST - script.FIRST, 96, 96, 1) and 0 <= slices.min() < slices.max() <= 1
    pairs = script.random_pairs(slices, slices, 8, np.random.default_rng(2), near=0.0)
    back = script.move(pairs.moving, pairs.true)
    inside = pairs.head[..., None]
    assert np.abs(back - pairs.fixed)[inside].mean() < 0.3 * np.abs(pairs.moving - pairs.fixed)[inside].mean()
    refined = script.descend(pairs, pairs.true, script.FINE, 20)
    assert script.errors(refined, pairs.true, pairs.head).max() < 0.5


def test_no_slice_to_train_on_is_near_a_held_out_one():
    part = load_example(AFFINE).parts()
    held_out = np.concatenate([part["test"], part["validation"]])
    assert len(set(held_out)) == len(held_out)
    assert np.abs(part["training"][:, None] - held_out).min() > 3


def test_without_the_templates_a_synthetic_head_takes_their_place(monkeypatch):
    script = load_example(AFFINE)

    def missing(contrast):
        raise DataError("no nilearn")

    monkeypatch.setattr(script, "mni_template", missing)
    slices, source = script.load_slices()
    assert source == "a synthetic head, because no nilearn" and list(slices) == ["t1", "gm"]


def test_gradients_of_the_net_that_regresses():
    net = load_example(AFFINE).transform_net(size=16, channels=2)
    rng = np.random.default_rng(3)
    values = [rng.normal(size=p.shape) / 2 for p in net.parameters()]
    tn.gradcheck(as_function(net), (rng.normal(size=(1, 16, 16, 2)), *values), mode="directions")


# ---------------------------------------------------------------------------------------- learned similarity
def small_pair():
    """Two reduced images of 24 pixels and a frame, the moving one without the kinks of interpolation: it is linear."""
    rng = np.random.default_rng(4)
    height, width, factor = 58, 56, 8
    image = np.zeros((height * factor, width * factor, 3), np.uint8)
    places = rng.uniform(100, 300, (5, 2))
    slices = tuple(StainedSlice(name, name, image, np.arange(5), places) for name in "ab")
    ramp = tn.registration.pixel_centers(height, width) @ [[0.05], [-0.03]]
    return StainPair(slices, rng.normal(size=(height, width, 1)), ramp, factor, (places, places))


def test_a_patch_gives_one_score():
    net = load_example(LEARNED).similarity_net()
    scores = [net(tn.tensor(np.zeros((2, size, 40, 2), np.float32))).shape for size in (30, 34, 46)]
    assert scores == [(2, 1, 3, 1), (2, 2, 3, 1), (2, 5, 3, 1)]


def test_gradients_of_the_learned_similarity_to_net_and_transform():
    script = load_example(LEARNED)
    rng = np.random.default_rng(5)
    net = script.similarity_net(channels=1)
    values, bound = [rng.normal(size=p.shape) / 2 for p in net.parameters()], as_function(net)
    tn.gradcheck(bound, (rng.normal(size=(1, 30, 30, 2)), *values), mode="directions")
    pair, constants = small_pair(), [tn.tensor(value) for value in values]

    def similarity(p):
        return script.similarity(script.learned(lambda x: bound(x, *constants)), pair, p)

    tn.gradcheck(similarity, (np.array([[0.02, 5.0, -3], [-0.01, 1, 2]]),))


def test_correlation_finds_a_pair_of_one_image():
    script = load_example(LEARNED)
    slices = synthetic_stained_slices(np.random.default_rng(3), 384)
    pair = script.pyramid(slices[0], slices[3])
    starts = script.random_starts(pair, 3, np.random.default_rng(0))
    assert not starts[0].any() and starts.shape == (3, 3)
    start = pair[0].best + np.array([[0.03, 8, -12]])
    found = script.register([tn.registration.correlation] * 2, pair, start, 40)
    assert pair[0].errors(found)[0] < 3 < 10 < pair[0].errors(start)[0]


@pytest.mark.parametrize("fold", ["test", "validation"])
def test_no_stain_of_the_test_pair_is_learned_from(fold):
    folds = load_example(LEARNED).FOLDS
    learned, held_out = folds[fold]
    assert not set(held_out) <= set(learned) and not set(learned) & set(folds["test"][1])


def test_other_stains_are_named(monkeypatch, tmp_path):
    script = load_example(LEARNED)
    slices = synthetic_stained_slices(np.random.default_rng(0), 64)
    monkeypatch.setattr(script, "read_stained_slices", lambda given: slices)
    with pytest.raises(
        DataError, match="the stains blue, purple, pale, brown; CD31, Cc10, He, Ki67, proSPC are needed"
    ):
        script.main(["--quick", "--data", str(tmp_path)])
