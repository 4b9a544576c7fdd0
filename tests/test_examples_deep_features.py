"""The exact parts of examples/convnets/deep_features_svm.py."""

import importlib.util

import numpy as np
import pytest
from test_nn_gradients import as_function_of_a_vector

import tinynet as tn
from tinynet import nn
from tinynet.data import DataError
from tinynet.tools.bench.examples import load_example


@pytest.fixture
def script():
    return load_example("convnets/deep_features_svm.py")


def test_edges_of_a_ramp_have_the_direction_of_the_ramp(script):
    steps = np.arange(0.0, 28, 2, dtype=np.float32)  # two gray levels for each pixel
    for turns in range(4):
        ramp = np.rot90(np.tile(steps, (14, 1)), -turns)  # a quarter turn from columns towards rows
        strength = nn.predict(script.edge_layers(), np.ascontiguousarray(ramp)[None, :, :, None])[0]
        assert strength.shape == (3, 3, 8)
        expected = np.maximum(0, 2 * np.cos(np.pi / 4 * (np.arange(8) - 2 * turns)))
        np.testing.assert_allclose(strength, np.broadcast_to(expected, (3, 3, 8)), atol=1e-5)


def test_descriptors_ignore_contrast_and_flat_patches_are_short(script):
    image = np.random.default_rng(0).integers(0, 100, (1, 32, 32, 1)).astype(np.uint8)
    image[:, :, 12:] = 50
    x, brighter = (script.descriptors(i).astype(float) for i in (image, 2 * image + 30))
    assert x.shape == (1, 3, 3, 128) and x.max() <= 0.2
    np.testing.assert_allclose(x[:, :, 0], brighter[:, :, 0], atol=0.02)
    assert x[:, :, 2].max() < 1e-3, "a flat patch"


def test_bags_count_words_in_the_image_and_in_its_parts(script):
    words = np.random.default_rng(0).integers(0, 5, (2, 13, 13))

    class Nearest:
        n_clusters = 5

        def predict(self, rows):
            return rows[:, 0].astype(int)

    found = script.bags(np.repeat(words[..., None], 3, axis=3), Nearest()) ** 2
    assert found.shape == (2, 50)
    np.testing.assert_allclose(found.reshape(2, 10, 5).sum(axis=2), 1, rtol=1e-5)
    np.testing.assert_allclose(found[1, :5], np.bincount(words[1].ravel(), minlength=5) / 169, rtol=1e-5)
    np.testing.assert_allclose(found[1, 5:10], np.bincount(words[1, :5, :5].ravel(), minlength=5) / 25, rtol=1e-5)


def test_the_svm_keeps_patients_together(script, monkeypatch):
    selection = pytest.importorskip("sklearn.model_selection")
    rng = np.random.default_rng(0)
    labels, patients = np.arange(60) // 2 % 2, np.repeat([f"person{i}" for i in range(30)], 2)
    parts = []

    class Seen(selection.StratifiedGroupKFold):
        def split(self, x, y=None, groups=None):
            for training, held_out in super().split(x, y, groups):
                parts.append((set(patients[training]), set(patients[held_out])))
                yield training, held_out

    monkeypatch.setattr(selection, "StratifiedGroupKFold", Seen)
    data = script.Xrays(**dict.fromkeys(script.Xrays.__dataclass_fields__) | {"labels": labels, "patients": patients})
    score, validated = script.svm(rng.normal(size=(60, 3)) + labels[:, None], data, np.arange(60))
    assert len(parts) == 5 and all(not training & held_out for training, held_out in parts)
    assert tn.metrics.auc(labels, score) > 0.8 and 0.6 < validated <= 1


def test_gradient_of_lenet(script):
    tn.seed(0)
    rng = np.random.default_rng(0)
    net = script.lenet(16)
    values = rng.normal(size=sum(p.size for p in net.parameters())) / 5
    tn.gradcheck(as_function_of_a_vector(net), [rng.standard_normal((1, 16, 16, 1)), values], mode="directions")


def test_training_validation_and_test_have_no_patient_in_common(script):
    rng = np.random.default_rng(0)
    parts = {part: tn.data.synthetic_chest_xrays(count, rng, 16) for part, count in (("train", 40), ("test", 10))}
    parts["train"] = (parts["train"][0], np.repeat([f"person{i}" for i in range(20)], 2))
    found = script.joined(parts)
    pool, validation, test = (found[part] for part in ("pool", "validation", "test"))
    assert [len(pool), len(validation), len(test)] == [32, 8, 10]
    assert sorted([*pool, *validation, *test]) == list(range(50)) and len(found["images"]) == len(found["labels"]) == 50
    assert not set(found["patients"][pool]) & set(found["patients"][validation])
    assert (found["images"][test] == parts["test"][0].images).all()


def test_without_scikit_learn(script, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"k-means and the SVM are part of scikit-learn: `pip install"):
        script.main(["--quick", "--out", str(tmp_path)])
