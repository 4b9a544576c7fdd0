"""The exact parts of examples/registration/affine_regression.py and learned_similarity.py."""

import numpy as np
import pytest
from test_nn_gradients import as_function

import tinynet as tn
from tinynet.data import DataError
from tinynet.tools.bench.examples import load_example

AFFINE, LEARNED = "registration/affine_regression.py", "registration/learned_similarity.py"


# ---------------------------------------------------------------------------------------- affine regression
def random_transforms(rng, count=5):
    return rng.uniform(-1, 1, (count, 3)) * [30, 8, 8]


def test_transforms_compose_as_their_matrices_do():
    script = load_example(AFFINE)
    rng = np.random.default_rng(0)
    first, then = random_transforms(rng), random_transforms(rng)

    def matrices(p):
        rows = script.rigid_matrices(tn.tensor(p)).numpy()
        return np.concatenate([rows, np.tile([[[0.0, 0, 1]]], (len(p), 1, 1))], axis=1)

    np.testing.assert_allclose(matrices(script.composed(first, then)), matrices(first) @ matrices(then), atol=1e-12)
    np.testing.assert_allclose(script.composed(first, script.inverse(first)), 0, atol=1e-12)
    np.testing.assert_allclose(matrices(np.zeros((1, 3))), np.eye(3)[None])


def test_a_shift_and_a_rotation_move_the_image_as_they_say():
    script = load_example(AFFINE)
    image = np.zeros((1, 96, 96, 1), np.float32)
    image[0, 60, 40] = 1
    shifted = script.move(image, np.array([[0, 7.0, -4]]))  # y[point] = image[point + (7, -4)]
    assert shifted[0, 53, 44, 0] > 0.999
    quarter = script.move(image, np.array([[np.pi / 2 * script.RADIUS, 0, 0]]))[0, :, :, 0]
    np.testing.assert_allclose(quarter, np.rot90(image[0, :, :, 0]), atol=1e-4)


def test_the_error_is_the_distance_of_the_points():
    script = load_example(AFFINE)
    rng = np.random.default_rng(1)
    true, found = random_transforms(rng, 3), random_transforms(rng, 3)
    found[0] = true[0] + [0, 3, 4]
    head = np.zeros((3, 96, 96), bool)
    head[:, 30:60, 20:70] = True
    head[2] = False
    head[2, 10, 20] = True
    error = script.errors(found, true, head)
    assert error[0] == pytest.approx(5)
    x, y = (20 + 0.5) / 48 - 1, (10 + 0.5) / 48 - 1
    places = [script.rigid_matrices(tn.tensor(p[2:3])).numpy()[0] @ [x, y, 1] for p in (true, found)]
    assert error[2] == pytest.approx(np.linalg.norm(places[0] - places[1]) * 48)


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


def test_gradients_of_the_transform_and_of_its_net():
    script = load_example(AFFINE)
    rng = np.random.default_rng(3)
    images = rng.normal(size=(2, 7, 6, 2))
    tn.gradcheck(script.transformed, (images, random_transforms(rng, 2)))
    net = script.transform_net(size=16, channels=2)
    values = [rng.normal(size=p.shape) / 2 for p in net.parameters()]
    tn.gradcheck(as_function(net), (rng.normal(size=(1, 16, 16, 2)), *values), mode="directions")
