"""The exact parts of examples/volumes/patches_2_5d.py: patches, sampled voxels, gradients of the nets."""

from __future__ import annotations

import numpy as np
import pytest
from test_nn_gradients import as_function_of_a_vector

import tinynet as tn
from tinynet.data import Volume, synthetic_volumes
from tinynet.errors import UsageError
from tinynet.tools.bench.examples import load_example

script = load_example("volumes/patches_2_5d.py")
SIZE, HALF = 17, 8


def test_every_patch_has_its_voxel_in_the_middle_and_its_axes_in_order():
    inside = np.arange(20 * 22 * 24, dtype=np.float32).reshape(20, 22, 24) + 1
    padded = np.pad(inside, SIZE)
    place = np.array([10, 11, 12])
    value = inside[10, 11, 12]
    cube = script.patch_3d(padded, place, SIZE)
    assert cube.shape == (17, 17, 17) and cube[HALF, HALF, HALF] == value
    axial, coronal, sagittal = script.three_planes(padded, place, SIZE)
    np.testing.assert_array_equal(axial, inside[10, 3:20, 4:21])
    np.testing.assert_array_equal(coronal, inside[2:19, 11, 4:21])
    np.testing.assert_array_equal(sagittal, inside[2:19, 3:20, 12])
    np.testing.assert_array_equal(script.one_plane(padded, place, SIZE), sagittal[None])
    fine, coarse = script.two_scales(padded, place, SIZE)
    np.testing.assert_array_equal(fine, sagittal)
    assert coarse[HALF, HALF] == inside[9:11, 10:12, 12].mean()
    # The corner of the volume: the widest patch just fits into the margin, and what lies outside is 0.
    assert script.two_scales(padded, np.array([0, 0, 0]), SIZE)[1][0, 0] == 0
    assert script.two_scales(padded, np.array([19, 21, 23]), SIZE).shape == (2, 17, 17)


def test_voxels_near_the_surface_by_millimeters():
    labels = np.zeros((3, 21, 3), np.uint8)
    labels[:, 10:, :] = 1
    for reach, found in ((5.9, [8, 9, 10, 11]), (6.0, [7, 8, 9, 10, 11, 12])):
        near = script.near_surface(labels, reach, (1.0, 2.0, 1.0))  # voxels 2 mm long
        np.testing.assert_array_equal(np.flatnonzero(near[1, :, 1]), found)
    assert not script.near_surface(labels * 0, 4.0, (1.0, 1.0, 1.0)).any()


def test_classes_are_balanced_and_labels_those_of_the_places():
    volumes = synthetic_volumes(np.random.default_rng(0), 2)
    volumes[1].labels[volumes[1].labels == 2] = 0  # a volume without the posterior part
    voxels = script.sample_voxels(volumes, script.Config(each=7), np.random.default_rng(1))
    assert np.bincount(voxels.labels).tolist() == [14, 14, 7]
    for number, place, label in zip(voxels.number, voxels.place, voxels.labels):
        volume = volumes[number]
        assert volume.labels[tuple(place)] == label
        assert script.near_surface(volume.labels, 4.0, volume.spacing)[tuple(place)]
        middle = voxels.padded[number][tuple(place + SIZE)]
        assert middle == np.float32(tn.data.normalize_volume(volume.image)[tuple(place)])
    nothing = [Volume("empty", np.ones((5, 5, 5), np.float32), np.zeros((5, 5, 5), np.uint8), (1.0, 1.0, 1.0))]
    with pytest.raises(ValueError, match="no voxel near a surface in any of 1 volumes"):
        script.sample_voxels(nothing, script.Config(), np.random.default_rng(1))


def test_a_blank_volume_shows_only_where_it_ends():
    volume = synthetic_volumes(np.random.default_rng(0), 1)[0]
    (padded,) = script.padded_volumes([volume], script.Config(blank=True, size=5))
    np.testing.assert_array_equal(padded, np.pad(np.ones(volume.image.shape), 5))


def test_a_shared_stream_gives_each_plane_the_same_features():
    tn.seed(0)
    net = script.SharedStream(2, 17, 3).eval()
    own = script.OwnStreams(2, 17, 3).eval()
    assert 3 * sum(p.size for p in net.stream.parameters()) == sum(p.size for s in own.streams for p in s.parameters())
    x = np.random.default_rng(0).standard_normal((2, 3, 17, 17, 1)).astype(np.float32)
    for stream in own.streams:
        stream.load_state_dict(net.stream.state_dict())
    own.classifier.load_state_dict(net.classifier.state_dict())
    np.testing.assert_allclose(net(tn.tensor(x)).numpy(), own(tn.tensor(x)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", script.INPUTS)
def test_gradients_of_a_net(name):
    seen = script.INPUTS[name]
    net = seen.net(2, 9)
    rng = np.random.default_rng(2)
    x = seen.cut(rng.standard_normal((27, 27, 27)), np.array([4, 5, 6]), 9)[None, ..., None]
    values = rng.normal(size=sum(p.size for p in net.parameters())) / 2
    tn.gradcheck(as_function_of_a_vector(net), [x, values], mode="directions")


def test_impossible_settings_are_refused():
    with pytest.raises(UsageError, match="--size is 16; an odd number"):
        script.main(["--size", "16"])
    with pytest.raises(UsageError, match=r"--each is 0, --reach 4\.0; at least 1 and more than 0"):
        script.main(["--each", "0"])
