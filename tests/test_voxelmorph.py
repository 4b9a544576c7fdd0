"""Registration with a displacement field: examples/registration/voxelmorph.py, folds, deformed volumes."""

import math

import numpy as np
import pytest
from test_nn_gradients import as_function

import tinynet as tn
from tinynet import metrics
from tinynet.data import DataError, Volume, deformed_volumes, synthetic_volumes
from tinynet.errors import UsageError
from tinynet.tools.bench.examples import load_example

script = load_example("registration/voxelmorph.py")
CONFIG = script.Config(window=3)


# ---------------------------------------------------------------------------------------- folds
def linear_field(matrix, shape):
    """The displacement that makes p -> p + displacement[p] the linear map of the matrix."""
    places = np.moveaxis(np.indices(shape), 0, -1)
    return places @ (np.array(matrix) - np.eye(len(shape))).T


@pytest.mark.parametrize(
    ("matrix", "determinant"),
    [
        (np.eye(3), 1),
        (np.diag([2, 1, 1]), 2),
        (np.diag([0.5, 2, 3]), 3),
        (np.diag([1, -1, 1]), -1),
        ([[1, 0.7, 0], [0, 1, 0.3], [0, 0, 1]], 1),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 1]], -1),
        ([[1, 0.5], [0.25, 1]], 0.875),
        (np.diag([0, 1]), 0),
    ],
)
def test_the_determinant_of_linear_maps(matrix, determinant):
    field = linear_field(matrix, (4, 5, 3)[: len(matrix)])
    np.testing.assert_allclose(metrics.jacobian_determinant(field), determinant, atol=1e-12)
    assert metrics.folded_share(field) == (determinant <= 0)


def test_a_fold_in_one_place_is_counted_there():
    field = np.zeros((2, 10, 2, 3), np.float32)
    field[:, :, :, 1] = np.interp(np.arange(10), [0, 3, 6, 9], [0, 0, -6, -6])[:, None]  # p: 0 to 3, back to 0, 1 to 3
    determinants = metrics.jacobian_determinant(field)
    np.testing.assert_allclose(determinants[0, :, 0], [1, 1, 1, 0, -1, -1, 0, 1, 1, 1], atol=1e-6)
    assert metrics.folded_share(field) == 0.4


@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 4, 4, 2), (4, 1, 4, 3), (2, 4, 4, 4, 3), ()])
def test_another_shape_is_no_displacement(shape):
    with pytest.raises(ValueError, match=r"jacobian_determinant: displacement has shape .*\(D, H, W, 3\)"):
        metrics.jacobian_determinant(np.zeros(shape))


# ---------------------------------------------------------------------------------------- net, warp and loss
def problem(dtype=np.float64, shape=(4, 6, 5)):
    """(moving, fixed, inside): random volumes (1, D, H, W, 1); the last slice of the fixed one is padding."""
    rng = np.random.default_rng(0)
    moving, fixed = (rng.standard_normal((1, *shape, 1)).astype(dtype) for _ in range(2))
    inside = np.ones_like(fixed)
    inside[:, -1] = 0
    return moving, fixed, inside


def test_gradcheck_of_net_warp_and_loss():
    tn.seed(0)
    model = script.RegistrationNet(1).astype(np.float64)
    # Interpolation has kinks at whole voxels and LeakyReLU at 0: displacements of about 0.4, and biases, avoid them.
    rng = np.random.default_rng(1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data = np.full(parameter.shape, 0.4) if "head" in name else rng.uniform(1, 2, parameter.shape)
    moving, fixed, inside = problem()

    shapes = [parameter.shape for parameter in model.parameters()]
    ends = np.cumsum([parameter.size for parameter in model.parameters()])
    function = as_function(Registration(model, inside))

    def loss(pair, weights):  # the weights as one vector: few directions check all of them
        return function(pair, *(weights[e - math.prod(s) : e].reshape(s) for s, e in zip(shapes, ends)))

    weights = np.concatenate([parameter.numpy().ravel() for parameter in model.parameters()])
    tn.gradcheck(loss, [np.concatenate([moving, fixed]), weights], mode="directions", keeps_dtype=False)


class Registration(tn.nn.Module):
    """The loss of a pair, moving and fixed volume in one array (2, D, H, W, 1)."""

    def __init__(self, net, inside):
        self.net, self.inside = net, inside

    def forward(self, pair):
        displacement = self.net(pair[:1], pair[1:])
        assert displacement.numpy().min() > 0.05 and displacement.numpy().max() < 0.95, "away from the kinks"
        return script.registration_loss(pair[:1], pair[1:], tn.tensor(self.inside), displacement, CONFIG)


@pytest.mark.parametrize("shape", [(4, 6, 5), (7, 9, 3), (16, 16, 16)])
def test_the_displacement_has_the_shape_of_the_volumes_and_starts_small(shape):
    tn.seed(0)
    moving, fixed, _ = problem(np.float32, shape)
    displacement = script.RegistrationNet(2)(tn.tensor(moving), tn.tensor(fixed))
    assert displacement.shape == (1, *shape, 3) and displacement.dtype == np.float32
    assert 0 < np.abs(displacement.numpy()).max() < 0.5


def test_volumes_of_different_shapes_are_refused_with_both_shapes():
    moving, fixed, _ = problem(np.float32)
    with pytest.raises(ValueError, match=r"RegistrationNet: moving has shape \(1, 4, 6, 4, 1\), fixed .* \(1, 4, 6, 5"):
        script.RegistrationNet(1)(tn.tensor(moving[:, :, :, 1:]), tn.tensor(fixed))


def test_scans_of_different_shapes_are_brought_to_one():
    small, large = (Volume(str(n), np.full((n, n, n), n, np.float32), None, (1, 1, 1)) for n in (4, 10))
    scans = script.Scans.of([small, large], (6, 8, 6))
    assert scans.images.shape == scans.inside.shape == (2, 6, 8, 6, 1) and not scans.labels.any()
    assert scans.inside[0].sum() == 4**3 and scans.inside[1].all()
    assert scans.neighbors() == [(0, 1), (1, 0)]


# ---------------------------------------------------------------------------------------- the loss
def test_the_loss_of_a_displacement_out_of_the_volume_is_finite():
    """There the moving volume goes on with its outermost voxels, which no gradient can move."""
    moving, fixed, inside = (tn.tensor(array) for array in problem())
    displacement = tn.tensor(np.full((1, 4, 6, 5, 3), 100.0), requires_grad=True)
    warped = tn.warp(moving, displacement).numpy()
    assert (warped == moving.numpy()[0, -1, -1, -1, 0]).all()
    script.registration_loss(moving, fixed, inside, displacement, CONFIG).backward()
    assert not displacement.grad.numpy().any()


@pytest.mark.parametrize("constant", ["moving", "fixed", "both"])
def test_a_volume_of_constant_intensity_has_no_similarity_and_no_gradient(constant):
    moving, fixed, inside = problem(np.float32)
    moving *= constant == "fixed"
    fixed *= constant == "moving"
    displacement = tn.tensor(np.full((1, 4, 6, 5, 3), 0.3, np.float32), requires_grad=True)
    loss = script.registration_loss(*map(tn.tensor, (moving, fixed, inside)), displacement, CONFIG)
    loss.backward()
    assert loss.item() == pytest.approx(1, abs=1e-6) and np.abs(displacement.grad.numpy()).max() < 1e-6


def test_roughness_is_the_mean_squared_difference_of_neighbors():
    ramp = linear_field(np.diag([1, 1.5, 1]), (4, 5, 3))[None]
    assert script.roughness(tn.tensor(ramp)).item() == pytest.approx(0.25 / 3)  # one of three components
    assert script.roughness(tn.tensor(ramp * 0 + 7)).item() == 0


def test_gradient_descent_finds_a_shift():
    volume = synthetic_volumes(np.random.default_rng(0), 1)[0]
    moving = Volume("shifted", np.roll(volume.image, 2, axis=1), np.roll(volume.labels, 2, axis=1), volume.spacing)
    scans = script.Scans.of([moving, volume], (20, 24, 20))
    displacement = script.optimize(scans.pair(0, 1), script.Config(direct_steps=40))
    middle = displacement[6:-6, 6:-6, 6:-6]
    np.testing.assert_allclose(np.median(middle, axis=(0, 1, 2)), [0, 2, 0], atol=0.3)
    before, after = (script.measure(scans, [(0, 1)], [d])[0] for d in (0 * displacement, displacement))
    assert after[:2].min() > 0.95 > before[:2].max() and before[2] == 0


# ---------------------------------------------------------------------------------------- data
def test_deformed_volumes_fit_their_labels():
    drawing = synthetic_volumes(np.random.default_rng(0), 1)[0]
    original = Volume("drawing", (drawing.labels > 0).astype(np.float32), drawing.labels, drawing.spacing)
    first, second = deformed_volumes(original, np.random.default_rng(1), 2)
    again = deformed_volumes(original, np.random.default_rng(1), 1)[0]
    assert (first.image == again.image).all() and (first.id, second.id) == ("drawing copy 000", "drawing copy 001")
    for copy in (first, second):
        assert copy.image.dtype == np.float32 and copy.labels.dtype == np.uint8
        assert copy.image.shape == copy.labels.shape == original.image.shape
        assert metrics.dice(copy.image > 0.5, copy.labels > 0) > 0.96
        assert 0.3 < metrics.class_dice(original.labels, copy.labels, 3).min() < 0.95
    assert deformed_volumes(Volume("x", original.image, None, (1, 1, 1)), np.random.default_rng(1), 1)[0].labels is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--window", "4"], "--window is 4; an odd number from 3 on"),
        (["--shape", "1", "8", "8"], r"--shape is \(1, 8, 8\); at least 2 voxels"),
        (["--direct", "0"], "--direct is 0; at least 1 is needed"),
        (["--data", "nowhere"], "nowhere: no such file"),
    ],
)
def test_settings_that_cannot_work_are_refused(flags, message, tmp_path):
    with pytest.raises((UsageError, DataError), match=message):
        script.main(["--quick", "--out", str(tmp_path), *flags])


def test_too_few_volumes_to_make_pairs_of(monkeypatch):
    few = synthetic_volumes(np.random.default_rng(0), 4)
    monkeypatch.setattr(script, "hippocampus_or_synthetic", lambda *_: (few, few[:1], "hippocampus"))
    with pytest.raises(DataError, match=r"4 volumes to train on and 1 held out .* at least 4 and 2 are needed"):
        script.load(script.Config(data="some.tar"))
