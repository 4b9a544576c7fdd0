"""The exact parts of examples/registration/affine_regression.py and learned_similarity.py."""

import numpy as np
from test_nn_gradients import as_function

import tinynet as tn
from tinynet.data import DataError
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
