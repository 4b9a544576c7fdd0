"""The exact parts of examples/interpretability/adversarial.py and soft_tree.py."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from op_folders import missing
from test_nn_gradients import as_function_of_a_vector

import tinynet as tn
from tinynet import nn
from tinynet.errors import UsageError
from tinynet.tools.bench.examples import load_example

adversarial = load_example("interpretability/adversarial.py")
soft_tree = load_example("interpretability/soft_tree.py")
ATTACKS = {"noise": adversarial.noise, "FGSM": adversarial.fgsm, "PGD": partial(adversarial.pgd, steps=8)}


# ---------------------------------------------------------------------------------------- adversarial examples
def linear_net():
    """Five pixels, two classes."""
    tn.seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(5, 2)).eval().freeze()


def losses(model, x, labels):
    """The loss of each image (N,). labels: a class for each image, or one for all."""
    return -tn.log_softmax(model(tn.tensor(x))).numpy()[np.arange(len(x)), labels]


def test_fgsm_finds_the_worst_corner_for_a_linear_net():
    rng = np.random.default_rng(0)
    model, epsilon, label = linear_net(), 0.1, 1
    x = np.full((1, 1, 5, 1), 0.5, np.float32)
    corners = x + epsilon * np.array(list(product((-1, 1), repeat=5)), np.float32).reshape(-1, 1, 5, 1)
    for attack in (ATTACKS["FGSM"], ATTACKS["PGD"]):
        model[1].bias.data[:] = (-5, 5)  # the answer is right wherever PGD goes: it does not stop early
        worst = corners[losses(model, corners, label).argmax()]
        np.testing.assert_allclose(attack(model, x, np.array([label]), epsilon, rng)[0], worst, atol=1e-6)
    weights = model[1].weight.numpy()
    logits = [model(tn.tensor(images)).numpy()[0] for images in (x, worst[None])]
    lost = np.subtract(*(np.diff(both) for both in logits))  # of the margin of class 1 over class 0
    np.testing.assert_allclose(lost, epsilon * np.abs(weights[:, 1] - weights[:, 0]).sum(), rtol=1e-5)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_stays_in_its_cube_and_in_the_gray_levels(name):
    tn.seed(0)
    rng = np.random.default_rng(0)
    model = adversarial.lenet().eval().freeze()
    x = rng.choice([0, 0.02, 0.5, 0.97, 1], (3, 28, 28, 1)).astype(np.float32)
    labels = model(tn.tensor(x)).numpy().argmax(axis=1)
    moved = ATTACKS[name](model, x, labels, 0.1, rng)
    assert moved.dtype == np.float32 and moved.min() >= 0 and moved.max() <= 1
    assert np.abs(moved - x).mean() > 0.03 and np.abs(moved - x).max() <= 0.1 + 1e-6
    if name != "noise":
        before, after = (losses(model, images, labels) for images in (x, moved))
        assert (after > before).all()


def test_pgd_leaves_an_image_alone_once_it_is_misread():
    model = linear_net()
    x = np.full((2, 1, 5, 1), 0.5, np.float32)
    answer = int(model(tn.tensor(x)).numpy()[0].argmax())
    moved = adversarial.pgd(model, x, np.array([answer, 1 - answer]), 0.01, np.random.default_rng(3), steps=4)
    start = adversarial.random_start(x, 0.01, np.random.default_rng(3))
    assert np.array_equal(moved[1], start[1]) and not np.array_equal(moved[0], start[0])
    on = adversarial.pgd(model, x, np.array([answer, 1 - answer]), 0.01, np.random.default_rng(3), steps=4, stop=False)
    assert np.array_equal(on[0], moved[0]) and not np.array_equal(on[1], start[1])


def test_an_attack_while_training_leaves_the_weights_and_their_gradients_alone():
    tn.seed(0)
    model, rng = adversarial.lenet(), np.random.default_rng(0)
    before = model.state_dict()
    x = rng.random((2, 28, 28, 1), dtype=np.float32)
    moved = adversarial.attack_to_learn_from(model, x, np.array([3, 4]), 0.1, rng)
    assert moved.shape == x.shape and all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(np.array_equal(before[name], array) for name, array in model.state_dict().items())


def test_gradient_of_an_image():
    tn.seed(0)
    rng = np.random.default_rng(1)
    model = adversarial.lenet().astype(np.float64).freeze()
    tn.gradcheck(
        lambda x: tn.softmax_cross_entropy(model(x), np.array([3])), [rng.random((1, 28, 28, 1))], mode="directions"
    )


@pytest.mark.skipif(missing("cuda-sim") is not None, reason=str(missing("cuda-sim")))
@pytest.mark.parametrize("backend", ["cuda-sim", "cuda"])
def test_attacks_run_there(backend, fake_gpu):
    """Not the whole script: its net for knees takes minutes in the emulator."""
    tail = nn.Sequential(nn.GlobalAvgPool2d(), nn.Linear(3, 5))
    x, rng, labels = np.full((1, 28, 28, 1), 0.5, np.float32), np.random.default_rng(0), np.array([3])
    with tn.use_backend(backend):
        for model in (adversarial.lenet(), adversarial.Grader(nn.Identity(), tail)):
            model.to(tn.device())
            moved = adversarial.attack_to_learn_from(model, x, labels, 0.1, rng)
            moved = adversarial.pgd(model.eval().freeze(), moved, labels, 0.1, rng, steps=2, stop=False)
            assert isinstance(moved, np.ndarray) and 0 <= adversarial.accuracy(model, moved, labels) <= 1
    assert bool(fake_gpu.launches) == (backend == "cuda")


@pytest.mark.slow
def test_gradient_of_an_x_ray():
    """Through the scaling, three equal channels, the frozen front and the tail of EfficientNet-Lite0."""
    tn.seed(0)
    front, tail = adversarial.fine_tuning.split(5, 6)
    model = adversarial.Grader(front, tail).eval().freeze()
    x = np.random.default_rng(0).random((1, 32, 32, 1)).astype(np.float32)
    level = np.rint(255 * x).astype(np.uint8)
    wanted = tail(front(tn.tensor(adversarial.fine_tuning.efficientnet.prepare(level)))).numpy()
    np.testing.assert_allclose(model(tn.tensor(level / np.float32(255))).numpy(), wanted, rtol=1e-4, atol=1e-5)
    model.astype(np.float64)
    tn.gradcheck(lambda x: tn.softmax_cross_entropy(model(x), np.array([2])), [x.astype(np.float64)], mode="directions")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epsilon", "0"], "--epsilon is 0.0; it must be above 0 and at most 1"),
        (["--epsilon", "51"], "--epsilon is 51.0"),
        (["--steps", "0"], "--steps is 0; at least 1 is needed"),
        (["--test-knees", "0"], "--test-knees is 0; at least 1 is needed"),
    ],
)
def test_impossible_settings_of_an_attack_are_refused(flags, message):
    with pytest.raises(UsageError, match=message):
        adversarial.main(flags)


# ---------------------------------------------------------------------------------------- the soft tree
def small_tree(depth, pixels=5):
    tn.seed(1)
    tree = soft_tree.SoftTree(pixels, depth)
    return tree.astype(np.float64)


def test_the_probability_of_a_leaf_is_the_product_of_its_decisions():
    tree, x = small_tree(3), np.random.default_rng(0).normal(size=(4, 5))
    right = tn.sigmoid(tree.activations(tn.tensor(x))).numpy()
    reach = tree.reach(tn.tensor(x)).numpy()
    for leaf in range(8):
        chances, node = np.ones(4), 0
        for bit in f"{leaf:03b}":
            chances *= right[:, node] if bit == "1" else 1 - right[:, node]
            node = 2 * node + 1 + int(bit)
        np.testing.assert_allclose(reach[:, leaf], chances, rtol=1e-12)
    np.testing.assert_allclose(reach.sum(axis=1), 1, rtol=1e-12)
    leaves, classes = soft_tree.one_path(tree, x)
    np.testing.assert_array_equal(leaves, reach.argmax(axis=1))
    np.testing.assert_array_equal(classes, tree.leaves.numpy().argmax(axis=1)[leaves])
    np.testing.assert_allclose(tree(tn.tensor(x)).numpy(), reach @ tree.distributions().numpy(), rtol=1e-12)


def test_gradients_of_a_tree():
    tree, rng = small_tree(2), np.random.default_rng(2)
    targets = tn.tensor(rng.dirichlet(np.ones(10), 3))

    class Loss(nn.Module):
        def __init__(self):
            self.tree = tree

        def forward(self, x):
            return soft_tree.tree_loss(self.tree, x, targets, 0.3)

    values = rng.normal(size=sum(p.size for p in tree.parameters()))
    tn.gradcheck(as_function_of_a_vector(Loss()), [rng.normal(size=(3, 5)), values], mode="directions")


def test_the_penalty_is_least_if_half_of_the_images_go_each_way():
    tree, x = small_tree(2), tn.tensor(np.eye(5)[:4])
    targets = tn.tensor(np.eye(10)[:4])

    def penalty():
        return (soft_tree.tree_loss(tree, x, targets, 1.0) - soft_tree.tree_loss(tree, x, targets, 0.0)).item()

    tree.filters.weight.data[:] = 0
    tree.filters.bias.data[:] = 0
    assert penalty() == pytest.approx(np.log(2) * (1 + 0.5 * 2), rel=1e-5)  # one node, then two half as strong
    tree.filters.bias.data[:] = (2, 0, 0)
    assert penalty() > np.log(2) * 2.1
    tree.filters.bias.data[:] = (1e4, 0, 0)  # no image goes left: the node there is reached by none
    assert np.isfinite(penalty())


def test_a_tree_needs_a_decision():
    with pytest.raises(UsageError, match="--depth is 0; at least 1 is needed"):
        soft_tree.main(["--depth", "0"])
