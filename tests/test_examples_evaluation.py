"""The exact parts of examples/evaluation."""

import numpy as np
import pytest
from test_nn_gradients import as_function_of_a_vector

import tinynet as tn
from tinynet.data import Ontology, synthetic_knees, synthetic_ontology
from tinynet.tools.bench.examples import load_example

TREE = Ontology(
    "disease",
    {
        **{"disease": (), "a": ("disease",), "b": ("disease",)},
        **{"a1": ("a",), "a2": ("a",), "a21": ("a2",), "a22": ("a2",), "b1": ("b",), "both": ("b", "a2")},
    },
    {},
)
IMAGES = {"disease": 0, "a": 3, "b": 20, "a1": 50, "a2": 1, "a21": 30, "a22": 40, "b1": 5, "both": 2}


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1000, {"disease": set(IMAGES)}),
        (100, {"disease, no kind named": {"disease"}, "b": {"b", "b1"}, "a, no kind named": {"a"}, "a1": {"a1"}}
         | {"a2": {"a2", "a21", "a22", "both"}}),
        (74, {"a2": {"a2", "a21", "a22", "both"}}),  # 73 images
        (73, {"a2, no kind named": {"a2"}, "a21": {"a21"}, "a22": {"a22"}, "both": {"both"}, "b": {"b", "b1"}}),
        (1, {name if not TREE.children[name] else f"{name}, no kind named": {name} for name in IMAGES}),
    ],
)  # fmt: skip
def test_a_class_has_fewer_than_n_images_or_one_disease(most, expected):
    script = load_example("evaluation/taxonomy.py")
    classes = script.partition(TREE, "disease", IMAGES, most, set())
    assert expected.items() <= {name: set(members) for name, members in classes.items()}.items()
    diseases = [disease for members in classes.values() for disease in members]
    assert sorted(diseases) == sorted(IMAGES), "each disease once, also the one with two parents"
    assert sum(script.class_sizes(classes, IMAGES)) == sum(IMAGES.values())


def test_images_that_are_dealt_out():
    script = load_example("evaluation/taxonomy.py")
    images, again, others = (script.drawn_images(synthetic_ontology(), 10_000, seed) for seed in (1, 1, 2))
    assert images == again != others
    counts = sorted(images.values(), reverse=True)
    assert len(counts) == 34 and abs(sum(counts) - 10_000) < 34 and abs(counts[0] / counts[4] - 5) < 0.05


def test_the_answer_is_the_sum_over_the_classes_below_it():
    script = load_example("evaluation/taxonomy.py")
    logits = np.log([[0.1, 0.2, 0.3, 0.15, 0.25], [0.6, 0.1, 0.1, 0.1, 0.1]])
    np.testing.assert_allclose(script.KNEES.probability(logits, fine=True), [0.7, 0.3])
    np.testing.assert_allclose(script.KNEES.probability(logits[:, :2], fine=False), [2 / 3, 1 / 7])


def test_shuffled_labels_keep_the_coarse_answer_only():
    script = load_example("evaluation/taxonomy.py")
    labels = np.random.default_rng(0).integers(0, 5, 500)
    coarse, fine, shuffled = (script.KNEES.targets(labels, way, np.random.default_rng(1)) for way in script.WAYS)
    assert (coarse == (labels >= 2)).all() and (fine == labels).all()
    assert ((shuffled >= 2) == (labels >= 2)).all() and (np.bincount(shuffled) == np.bincount(labels)).all()
    assert np.mean(shuffled == labels) < 0.6


def test_gradients_of_the_small_net():
    net = load_example("evaluation/taxonomy.py").small_net(3).eval()
    rng = np.random.default_rng(0)
    values = rng.normal(size=sum(p.size for p in net.parameters())) / 2
    tn.gradcheck(as_function_of_a_vector(net), [rng.standard_normal((1, 28, 28, 1)), values], mode="directions")


@pytest.mark.parametrize("way", ["cross-entropy", "regression", "cumulative"])
def test_each_way_learns_the_expected_grade(way):
    """Plain gradient descent on the outputs themselves: the loss has its minimum where score and grades agree."""
    way = load_example("evaluation/ordinal_grading.py").WAYS[way]
    grades = np.arange(5)
    y = tn.tensor(np.random.default_rng(0).standard_normal((5, way.outputs)), requires_grad=True)
    tn.gradcheck(lambda y: way.loss(y, grades), (y,))
    outputs = y.numpy().copy()
    for _ in range(300):
        y = tn.tensor(outputs, requires_grad=True)
        way.loss(y, grades).backward()
        outputs = outputs - (1 if way.outputs == 1 else 4) * y.grad.numpy()
    np.testing.assert_allclose(way.score(outputs), grades, atol=0.15)
    assert way.usual(outputs).tolist() == grades.tolist() and way.usual(outputs).dtype == np.int64


def test_thresholds_give_each_grade_as_often_as_it_occurs():
    script = load_example("evaluation/ordinal_grading.py")
    rng = np.random.default_rng(0)
    grades = rng.choice(5, 400, p=(0.4, 0.2, 0.2, 0.15, 0.05))
    score = rng.standard_normal(400)
    said = script.graded(score, script.thresholds(score, grades))
    assert np.abs(np.bincount(said, minlength=5) - np.bincount(grades)).max() <= 1
    assert script.graded(np.array([-9.0, 9.0]), np.arange(4.0)).tolist() == [0, 4]


def test_intervals_draw_whole_patients():
    """If every knee is there ten times, drawing patients gives the interval of the knees drawn once."""
    script = load_example("evaluation/ordinal_grading.py")
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 5, 60)
    score = grades + rng.normal(0, 1, 60)
    said = np.clip(np.rint(score), 0, 4).astype(int)
    patients = np.array([f"{i:03}" for i in range(60)])
    once = script.intervals(patients, 200, grades, said, score)
    ten_times = script.intervals(*(np.repeat(patients, 10), 200), *(np.repeat(a, 10) for a in (grades, said, score)))
    np.testing.assert_allclose(once, ten_times)
    values = script.measures(grades, said, score)
    assert (once[0] < values).all() and (values < once[1]).all()


def test_joints_have_one_contrast():
    script = load_example("evaluation/ordinal_grading.py")
    images = synthetic_knees(5, np.random.default_rng(0), size=112)[0].images
    darker = (images // 3 + 20).astype(np.uint8)
    bright, dark = (script.joints(x, 48, 80) for x in (images, darker))
    assert bright.shape == (5, 48, 80, 1) and bright.dtype == np.uint8
    assert np.abs(bright.astype(int) - dark).max() < 12 and bright.min() == 0 and bright.max() == 255
    assert script.joints(np.full((1, 112, 112, 1), 7, np.uint8), 48, 80).max() == 0, "an empty image"


def test_ridge_is_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is in the extra 'examples'")
    script = load_example("evaluation/ordinal_grading.py")
    rng = np.random.default_rng(0)
    x = {part: rng.standard_normal((200, 5)) for part in ("train", "val", "test")}
    grades = {part: np.clip(np.rint(values[:, 0] + 2), 0, 4).astype(int) for part, values in x.items()}
    scores = script.ridge(x, grades)["test"]
    z = (x["train"] - x["train"].mean(0)) / x["train"].std(0)
    z_test = (x["test"] - x["train"].mean(0)) / x["train"].std(0)
    candidates = [linear.Ridge(10.0**p).fit(z, grades["train"]).predict(z_test) for p in range(7)]
    assert min(np.abs(scores - candidate).max() for candidate in candidates) < 1e-4
