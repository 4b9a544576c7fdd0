"""The exact parts of examples/detection."""

import numpy as np
import pytest
from test_nn_gradients import check_net

import tinynet as tn
from tinynet.tools.bench.examples import load_example


@pytest.fixture
def cells():
    return load_example("detection/rpn_blood_cells.py")


def test_anchors_stand_on_the_grid(cells):
    places = cells.anchors((16, 24))
    assert places.shape == (2 * 3 * len(cells.ANCHORS), 4)
    centers = (places[:, :2] + places[:, 2:]) / 2
    assert centers[:: len(cells.ANCHORS)].tolist() == [[4, 4], [4, 12], [4, 20], [12, 4], [12, 12], [12, 20]]
    np.testing.assert_array_equal(places[: len(cells.ANCHORS), 2] - places[: len(cells.ANCHORS), 0], cells.ANCHORS)


def test_matching(cells):
    candidates = np.array([[0, 0, 10, 10], [0, 0, 10, 6.5], [0, 0, 10, 4], [50, 50, 60, 60], [20, 20, 30, 30.0]])
    true = np.array([[0, 0, 10, 10], [20, 20, 30, 60.0]])  # the second box overlaps its best candidate by 0.25 only
    labels, partners = cells.match(candidates, true, 0.6, 0.3)
    assert labels.tolist() == [1, 1, -1, 0, 1] and partners[labels == 1].tolist() == [0, 0, 1]
    assert cells.match(candidates, np.zeros((0, 4)), 0.6, 0.3)[0].tolist() == [0] * 5


def test_sampling(cells):
    cell = np.array([[0, 0, 10, 10.0]])
    for near, far, expected in ((9, 9, (3, 3)), (1, 9, (1, 5)), (9, 2, (3, 2)), (0, 9, (1, 5))):
        inside, outside = np.tile(cell, (near, 1)), np.tile(cell + 40, (far, 1))
        if not near:
            outside[4] = (8, 8, 18, 18)  # overlaps by 0.02; the best of a bad lot
        candidates = np.concatenate([inside, outside])
        chosen = cells.sample(7, candidates, (cell, np.array([3])), (0.6, 0.3), 6, np.random.default_rng(0))
        assert np.bincount(chosen.kinds, minlength=4).tolist() == [expected[1], 0, 0, expected[0]]
        assert len(set(chosen.indices)) == sum(expected) and set(chosen.images) == {7}
        np.testing.assert_array_equal(chosen.boxes, candidates[chosen.indices])
        found = cells.bx.decode_boxes(chosen.offsets, chosen.boxes[chosen.kinds > 0])
        np.testing.assert_allclose(found, np.tile(cell, (expected[0], 1)), atol=1e-9)


def test_mirrored_boxes_stay_on_their_cells(cells):
    smear = tn.data.Smear(
        "a", np.full((24, 32, 3), 255, np.uint8), np.array([[3, 5, 9, 15]], np.float32), np.array([1])
    )
    smear.image[3:9, 5:15] = 0
    for seed in range(8):
        image, boxes, kinds, _ = cells.Training([smear], 1).item(0, np.random.default_rng(seed))
        y1, x1, y2, x2 = boxes[0].astype(int)
        assert (y2 - y1, x2 - x1) == (6, 10)
        assert (image[y1:y2, x1:x2] < -0.8).all() and (image < -0.8).sum() == 3 * 60 and kinds.tolist() == [2]


CELLS = np.array([[8, 10, 61, 64], [20, 50, 120, 148], [70, 5, 91, 24.0]])  # a red cell, a white one, a platelet
SIZE = (128, 160)


class Oracle:
    """A net that knows the cells. Its offsets are wrong by `error`, of every other anchor by -error."""

    def __init__(self, script, error):
        self.script, self.error = script, error

    def backbone(self, images):
        return images

    def propose(self, features):
        places = self.script.anchors(SIZE)
        labels, partners = self.script.match(places, CELLS, *self.script.FIRST_OVERLAPS)
        errors = np.resize([self.error, -self.error], (len(places), 1))
        offsets = self.script.bx.encode_boxes(CELLS[partners], places) + errors
        return tn.tensor(np.where(labels == 1, 30.0, -30.0)[None]), tn.tensor(offsets[None])

    def judge(self, features, boxes, images):
        labels, partners = self.script.match(boxes, CELLS, *self.script.SECOND_OVERLAPS)
        offsets = [10, 10, 5, 5] * self.script.bx.encode_boxes(CELLS[partners], boxes) + self.error
        return tn.tensor(30.0 * np.eye(4)[np.where(labels == 1, 1 + partners, 0)]), tn.tensor(offsets)


def test_the_losses_of_a_net_that_knows_the_cells(cells):
    oracle, kinds = Oracle(cells, 0.1), np.array([1, 2, 3])
    smooth_l1 = 4 * 0.1**2 / 2  # of four offsets
    first = cells.sample(0, cells.anchors(SIZE), (CELLS, kinds), cells.FIRST_OVERLAPS, 64, np.random.default_rng(0))
    expected = smooth_l1 * len(first.offsets) / 64
    assert cells.proposal_loss(*oracle.propose(None), first).item() == pytest.approx(expected)
    near = np.concatenate([CELLS + shift for shift in (-3, 1, 2, 100)])
    second = cells.sample(0, near, (CELLS, kinds), cells.SECOND_OVERLAPS, 8, np.random.default_rng(0))
    assert len(second.offsets) == 4
    assert cells.head_loss(oracle, None, second).item() == pytest.approx(smooth_l1 * 4 / len(second.kinds))
    images = tn.tensor(np.zeros((1, *SIZE, 3)))
    assert abs(cells.detection_loss(Oracle(cells, 0), images, CELLS[None], kinds[None], np.array([3])).item()) < 1e-9
    assert cells.box_loss(tn.tensor(np.zeros((0, 4))), np.zeros((0, 4)), 5) == 0


def test_detection_refines_proposals_and_keeps_one_box_of_each_cell(cells):
    oracle = Oracle(cells, 0.2)  # proposals are many pixels off, and several remain of each cell
    boxes, found, scores = cells.detect(oracle, np.zeros((*SIZE, 3), np.uint8))
    np.testing.assert_allclose(boxes, CELLS, atol=4)
    assert found.tolist() == [0, 1, 2] and scores.min() > 0.99


def test_the_head_sees_the_features_inside_of_a_box(cells):
    tn.seed(0)
    model = cells.Detector((2, 2, 2))
    model.hidden = model.kinds = model.refinement = lambda y: y
    features = np.moveaxis(np.indices((16, 20)), 0, -1) * 8.0 + 4  # each position holds its own center, in pixels
    seen, _ = model.judge(tn.tensor(features[None]), CELLS, np.zeros(3, int))
    centers = seen.numpy().reshape(3, -1, 2).mean(axis=1)
    np.testing.assert_allclose(centers, (CELLS[:, :2] + CELLS[:, 2:]) / 2, atol=1e-6)


def test_gradients_of_all_four_losses(cells):
    """The boxes to judge are given: which proposals a net makes is no smooth function of its weights."""
    rng = np.random.default_rng(0)
    model = cells.Detector((2, 2, 2))
    cell = np.array([[2.0, 3, 13, 12]]), np.array([1])
    first = cells.sample(0, cells.anchors((16, 16)), cell, (0.4, 0.2), 8, rng)
    boxes = np.array([[1.3, 2.2, 12.1, 13.4], [4.1, 0.3, 15.2, 7.7]])
    second = cells.sample(0, boxes, cell, (0.5, 0.5), 4, rng)
    assert (first.kinds > 0).any() and second.kinds.tolist() == [1, 0]

    class Losses(tn.nn.Module):
        def __init__(self):
            self.model = model

        def forward(self, x):
            features = model.backbone(x)
            return cells.proposal_loss(*model.propose(features), first) + cells.head_loss(model, features, second)

    whole = Losses()
    check_net(whole, rng.standard_normal((1, 16, 16, 3)), rng)


def test_an_image_without_cells_is_background(cells):
    tn.seed(0)
    model = cells.Detector((2, 2, 2))
    images = tn.tensor(np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype("f4"))
    loss = cells.detection_loss(model, images, np.zeros((1, 1, 4), "f4"), np.zeros((1, 1), int), np.zeros(1, int))
    loss.backward()
    assert np.isfinite(loss.item()) and model.kinds.weight.grad is not None


def test_rules_find_drawn_cells(cells):
    smears = [tn.data.synthetic_smear(np.random.default_rng(i), (120, 160)) for i in range(8)]
    precisions = cells.class_precisions(smears, [cells.by_rules(smear.image) for smear in smears])
    assert precisions["white"] > 0.6
